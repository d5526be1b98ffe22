"""Probabilities beside held-out answers, and the same computed one by one."""

from __future__ import annotations

import copy
import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_reward_training import answer, make_queries, make_trainer

from prefrl.calibration import BINS, Calibration, calibrate, calibration_metrics
from prefrl.errors import UserError
from prefrl.reward_training import RewardTrainer


def measured(left: Any, preferred: Any, answers: Any = None) -> Calibration:
    found = calibrate(
        np.asarray(left), np.asarray(preferred), np.arange(len(left)) if answers is None else np.asarray(answers)
    )
    assert found is not None
    return found


def test_bins_by_hand() -> None:
    found = measured([0.02, 0.08, 0.55, 0.58, 0.51, 1.0], [0.0, 1.0, 1.0, 0.0, 0.5, 1.0], [7, 7, 8, 9, 9, 7])
    counts = [(each.low, each.predictions, each.answers) for each in found.bins]
    assert counts == [(0.0, 2, 1), (0.5, 3, 2), (0.9, 1, 1)]
    np.testing.assert_allclose([each.predicted for each in found.bins], [0.05, 0.54666667, 1.0])
    np.testing.assert_allclose([each.preferred for each in found.bins], [0.5, 0.5, 1.0])
    assert found.error == pytest.approx((2 * 0.45 + 3 * 0.04666667 + 0) / 6)
    assert found.accuracy == pytest.approx(3 / 5), "the equal one is not decided"
    assert found.confidence == pytest.approx((0.98 + 0.92 + 0.55 + 0.58 + 1.0) / 5)
    assert found.predictions == 6


def test_the_calibration_error_equals_that_of_a_loop() -> None:
    rng = np.random.default_rng(0)
    left, preferred = rng.random(500), rng.choice([0.0, 0.5, 1.0], 500)
    total = 0.0
    for i in range(BINS):
        inside = [k for k in range(500) if i / BINS <= left[k] < (i + 1) / BINS]
        total += abs(sum(left[k] - preferred[k] for k in inside))
    assert measured(left, preferred).error == pytest.approx(total / 500)


@pytest.mark.parametrize("count", [100, 1000])
def test_an_honest_predictor_errs_as_much_as_chance_says_and_a_boastful_one_more(count: int) -> None:
    rng = np.random.default_rng(0)
    honest, by_chance, boastful = [], [], []
    for _ in range(200):
        left = rng.random(count)
        preferred = (rng.random(count) < left).astype(float)
        found = measured(left, preferred)
        honest.append(found.error)
        by_chance.append(found.error_by_chance)
        assert abs(found.confidence - found.accuracy) < 5 * 0.5 / math.sqrt(count)
        boastful.append(measured((left > 0.5) * 0.98 + 0.01, preferred).error)
    assert np.mean(honest) == pytest.approx(np.mean(by_chance), rel=0.15)
    assert min(boastful) > 0.1


def test_nothing_held_out_is_no_measurement() -> None:
    assert calibrate(np.empty(0), np.empty(0), np.empty(0, dtype=int)) is None
    assert np.isnan(list(calibration_metrics(None).values())).all()
    assert make_trainer(0).calibrate() is None
    assert make_trainer(40, hold_out=False).calibrate() is None
    assert make_trainer(40, target="returns").calibrate() is None, "returns are no logarithms of odds"
    ties = measured([0.4, 0.7], [0.5, 0.5])
    assert math.isnan(ties.accuracy)
    assert ties.error == pytest.approx((0.1 + 0.2) / 2)


# What a trainer measures.


def one_by_one(trainer: RewardTrainer, answered: list[Any], error_rate: float) -> Calibration:
    """From each query's own prediction, a member at a time."""
    left, preferred, which = [], [], []
    for row, (query, given) in enumerate(answered):
        probabilities = trainer.ensemble.predict_preferences([query])
        for member in range(trainer.options.members):
            if trainer.comparisons.copies[member, row] == 0 and given.choice in ("left", "right", "equal"):
                left.append((1 - error_rate) * float(probabilities[member, 0, 0]) + error_rate / 2)
                preferred.append({"left": 1.0, "right": 0.0, "equal": 0.5}[given.choice])
                which.append(row)
    return measured(left, preferred, which)


@pytest.mark.parametrize("at_once", [1, 7, 1000])
@pytest.mark.parametrize(("error_rate", "members"), [(0.1, 3), (0.0, 1)])
def test_a_trainer_measures_what_its_members_hold_out(
    monkeypatch: pytest.MonkeyPatch, at_once: int, error_rate: float, members: int
) -> None:
    monkeypatch.setattr("prefrl.reward_training.CALIBRATED_AT_ONCE", at_once)
    trainer = make_trainer(error_rate=error_rate, members=members, dropout=0.3)
    choices = ("left", "right", "equal", "left", "right")
    answered = [(query, answer(query, choices[i % 5])) for i, query in enumerate(make_queries(60))]
    trainer.comparisons.extend(answered)
    trainer.fit(20)
    found, expected = trainer.calibrate(), one_by_one(trainer, answered, error_rate)
    assert found is not None
    assert [(a.low, a.predictions, a.answers) for a in found.bins] == [
        (b.low, b.predictions, b.answers) for b in expected.bins
    ]
    assert found.error == pytest.approx(expected.error, abs=1e-5)
    assert (found.accuracy, found.confidence) == pytest.approx((expected.accuracy, expected.confidence), abs=1e-5)
    assert found.predictions == (trainer.comparisons.copies[:, :60] == 0).sum()


def test_answers_that_were_taken_back_do_not_count() -> None:
    trainer = make_trainer()
    queries = make_queries(40)
    trainer.comparisons.extend([(query, dataclasses.replace(answer(query, "left"), id=query.id)) for query in queries])
    before = trainer.calibrate()
    for query in queries[:20]:
        assert query.id is not None
        trainer.comparisons.extend([(query, dataclasses.replace(answer(query, "skip"), supersedes=query.id))])
    after = trainer.calibrate()
    assert before is not None
    assert after is not None
    assert before.predictions == (trainer.comparisons.copies[:, :40] == 0).sum()
    assert after.predictions == (trainer.comparisons.copies[:, 20:40] == 0).sum()


def test_measuring_changes_nothing_that_the_fit_depends_on() -> None:
    trainer = make_trainer(50, dropout=0.2)
    trainer.fit(5)
    before, torchs = copy.deepcopy(trainer.state()), torch.get_rng_state()
    trainer.calibrate()
    trainer.comparisons.steps(10)
    after = trainer.state()
    assert torch.equal(torch.get_rng_state(), torchs)
    assert after["rng"] == before["rng"]
    for part in ("ensemble", "l2", "train_loss", "validation_loss", "copies"):
        np.testing.assert_equal(after[part], before[part])


def test_a_fit_to_an_oracle_that_errs_is_as_sure_as_it_is_right() -> None:
    """From 800 answers that obey the preference model; a fit without ℓ2 that goes on for long keeps them by heart."""
    rng = np.random.default_rng(0)
    queries = make_queries(800)

    def errs(left: Any, right: Any) -> str:
        return "left" if rng.random() < 1 / (1 + math.exp((right.true_return - left.true_return) / 4)) else "right"

    answered = [(query, answer(query, errs(*query.segments))) for query in queries]
    found = []
    fitted_well = make_trainer(error_rate=0.0, latest_share=0.0)
    kept_by_heart = make_trainer(error_rate=0.0, latest_share=0.0, l2=0.0)
    for trainer, steps in ((fitted_well, 150), (kept_by_heart, 1500)):
        trainer.comparisons.extend(answered)
        trainer.fit(steps)
        found.append(trainer.calibrate())
    fitted, by_heart = found
    assert fitted is not None
    assert by_heart is not None
    assert fitted.error < 0.08
    assert by_heart.error > fitted.error + 0.05
    assert by_heart.confidence > by_heart.accuracy + 0.05


# The file.


def test_a_calibration_is_read_as_it_was_written() -> None:
    rng = np.random.default_rng(0)
    found = measured(rng.random(30), rng.choice([0.0, 1.0], 30))
    assert Calibration.from_json(json.loads(json.dumps({"env_steps": 5, **found.as_json()}))) == found


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ({"bins": None}, r"x/calibration.json: bins: "),
        ({"bins": []}, "a bin without predictions"),
        ({"accuracy": "high"}, "accuracy: "),
        ({"bins": [{"low": 0, "high": 1, "predicted": 2, "preferred": 0, "predictions": 1, "answers": 1}]}, "outside"),
        ({"bins": [{"low": 0, "high": 1, "predicted": 0, "preferred": 0, "predictions": 1, "answers": 0}]}, "without"),
        ({"bins": [{"low": 0, "high": 1, "predicted": float("nan"), "preferred": 0, "predictions": 1}]}, "answers"),
    ],
)
def test_what_is_no_calibration_is_refused(damage: dict[str, Any], message: str) -> None:
    content = {**measured([0.5], [1.0]).as_json(), **damage}
    with pytest.raises(UserError, match=message):
        Calibration.from_json(content, Path("x/calibration.json"))
