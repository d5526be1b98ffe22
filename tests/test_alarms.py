"""Alarms on curves that were made to be healthy or hacked, and on tiny runs that are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import probes  # noqa: F401  registers its environments
import pytest
from numpy.typing import NDArray
from test_loop import QUICK_PPO, WELL_FITTED, make_config
from tiny_runs import tiny

from prefrl.alarms import Alarm, reward_alarms
from prefrl.cli import _print_result
from prefrl.label_schedule import labels_wanted
from prefrl.loop import PreferenceLoop
from prefrl.metrics import MONITORED_PAIRS, Metrics, read_metrics
from prefrl.oracles.synthetic import SyntheticOracle
from prefrl.preferences import PreferenceStore
from prefrl.run import train
from prefrl.segments import Segment

pytestmark = pytest.mark.usefixtures("empty_figures")

STEPS = 4096
Curve = NDArray[np.float64]


def metrics_of(true: Curve | None, predicted: Curve, agreement: Curve | None = None, answers: float = 700.0) -> Metrics:
    metrics: Metrics = {"env_steps": STEPS * np.arange(1.0, len(predicted) + 1), "predicted_return": predicted}
    if true is not None:
        metrics["true_return"] = true
    if agreement is not None:
        metrics["fit/accuracy"] = agreement
        metrics["labels/answered"] = np.full(len(agreement), answers)
    return metrics


def learning(rows: int) -> Curve:
    """From 0 to 1, fast at first, as returns do."""
    return 1 - np.exp(-4 * np.linspace(0, 1, rows))


def wandering(rng: np.random.Generator, rows: int, scale: float) -> Curve:
    """Slow ups and downs, as a policy's return has beside its noise."""
    return scale * np.convolve(rng.normal(size=rows + 9), np.ones(10) / np.sqrt(10), mode="valid")


def kinds(alarms: list[Alarm]) -> set[str]:
    return {alarm.kind for alarm in alarms}


# Curves.


@pytest.mark.parametrize("rows", [30, 120, 500])
@pytest.mark.parametrize("noise", [0.02, 0.1, 0.3])
def test_healthy_runs_raise_none_however_noisy(rows: int, noise: float) -> None:
    """The predicted return follows the true one, both with noise of their own, and both wander together."""
    for seed in range(20):
        rng = np.random.default_rng(seed)
        sound = learning(rows) + wandering(rng, rows, noise / 2)
        true = 3000 * (sound + noise * rng.normal(size=rows))
        predicted = 900 * (sound + 0.3 * noise * rng.normal(size=rows))
        agreement = 0.85 - 0.1 * learning(rows) + 0.05 * rng.normal(size=rows)
        assert reward_alarms(metrics_of(true, predicted, agreement)) == []


@pytest.mark.parametrize("rows", [30, 120, 500])
def test_runs_that_go_nowhere_raise_none(rows: int) -> None:
    """Their ranges are nothing but noise."""
    for seed in range(50):
        rng = np.random.default_rng(seed)
        true, predicted = rng.normal(size=(2, rows))
        assert reward_alarms(metrics_of(true, predicted, 0.5 + 0.05 * rng.normal(size=rows))) == []


@pytest.mark.parametrize(("fall", "raised"), [(1.5, False), (2.5, True)])
def test_a_fall_that_nobody_would_notice_raises_none(fall: float, raised: bool) -> None:
    """A pole that lies from beginning to end: its return's range is next to nothing."""
    ramp = np.linspace(0, 1, 96) ** 4
    found = reward_alarms(metrics_of(-100 - fall * ramp / 0.68, 500 * ramp))  # the last quarter has 0.68 of the ramp
    assert bool(found) == raised


@pytest.mark.parametrize("rows", [40, 120, 500])
@pytest.mark.parametrize("noise", [0.02, 0.05])
def test_a_policy_that_is_taken_in_raises_one_where_it_is(rows: int, noise: float) -> None:
    """Both climb for the first half; then the true return falls back while the predicted one goes on."""
    for seed in range(20):
        rng = np.random.default_rng(seed)
        x = np.linspace(0, 1, rows)
        true = 3000 * (np.where(x < 0.5, x, 1 - x) + noise * rng.normal(size=rows))
        true[:2] = np.nan
        found = reward_alarms(metrics_of(true, 900 * (x + 0.3 * noise * rng.normal(size=rows))))
        assert kinds(found) == {"true return"}
        assert min(alarm.from_steps for alarm in found) > 0.4 * rows * STEPS
        assert all(alarm.from_steps < alarm.to_steps <= rows * STEPS for alarm in found)


def test_without_a_true_return_the_held_out_agreement_raises_it() -> None:
    x = np.linspace(0, 1, 200)
    rng = np.random.default_rng(0)
    agreement = np.where(x < 0.6, 0.85, np.maximum(0.55, 0.85 - 2 * (x - 0.6))) + 0.05 * rng.normal(size=200)
    for true in (None, np.zeros(200), np.full(200, np.nan)):
        assert kinds(reward_alarms(metrics_of(true, x, agreement))) == {"held-out agreement"}
        assert reward_alarms(metrics_of(true, 1 - x, agreement)) == [], "nothing climbs"
        assert reward_alarms(metrics_of(true, x, np.full(200, 0.85))) == []


def agreement_of_a_run(
    rng: np.random.Generator, rows: int, answers: int, right: Curve, decided: float = 1.0, folds: bool = False
) -> tuple[Curve, Curve]:
    """fit/accuracy and labels/answered of three members that are right about each answer or not, by the chance `right`.

    An answer's luck is kept, so that `right` may change by row and all else stays as it is. Each row looks at 64 pairs.
    """
    if folds:
        held_out = rng.integers(3, size=answers) == np.arange(3)[:, None]
    else:
        held_out = rng.random((3, answers)) < np.exp(-1)
    held_out &= rng.random(answers) < decided
    luck = np.where(rng.random((3, answers)) < 0.5, rng.random(answers), rng.random((3, answers)))  # partly shared
    answered = np.array([labels_wanted(row, rows, answers) for row in range(rows)])
    agreement = np.full(rows, np.nan)
    for row, (count, chance) in enumerate(zip(answered, right, strict=True)):
        chosen = rng.permutation(count)[:MONITORED_PAIRS]
        measured = held_out[:, chosen]
        if measured.any():
            agreement[row] = (luck[:, chosen] < chance)[measured].mean()
    return agreement, answered.astype(np.float64)


@pytest.mark.parametrize("answers", [20, 100, 700])
@pytest.mark.parametrize(("right", "decided"), [(0.7, 1.0), (0.85, 0.2)])
@pytest.mark.parametrize(("rows", "folds"), [(30, False), (120, True), (480, False)])
def test_as_good_a_predictor_raises_none_however_few_answers_tell(
    answers: int, right: float, decided: float, rows: int, folds: bool
) -> None:
    """Few answers, or few that are decided, look better or worse than the predictor is: row after row the same ones."""
    false = 0
    for seed in range(100):
        agreement, answered = agreement_of_a_run(
            np.random.default_rng(seed), rows, answers, np.full(rows, right), decided, folds
        )
        metrics = metrics_of(None, np.linspace(0, 1, rows), agreement) | {"labels/answered": answered}
        false += bool(reward_alarms(metrics))
    assert false < 5


@pytest.mark.parametrize("answers", [300, 700, 1400])
@pytest.mark.parametrize(("rows", "folds"), [(120, False), (120, True), (480, False)])
def test_a_predictor_that_comes_down_to_guessing_raises_one(answers: int, rows: int, folds: bool) -> None:
    x = np.linspace(0, 1, rows)
    right = np.interp(x, [0.6, 0.7], [0.9, 0.5])
    missed = 0
    for seed in range(20):
        agreement, answered = agreement_of_a_run(np.random.default_rng(seed), rows, answers, right, folds=folds)
        found = reward_alarms(metrics_of(None, x, agreement) | {"labels/answered": answered})
        missed += not found
        assert kinds(found) <= {"held-out agreement"}
        assert all(alarm.from_steps < 0.7 * rows * STEPS and alarm.to_steps > 0.6 * rows * STEPS for alarm in found)
    assert missed <= (answers == 300)  # of which 1 run in 60 or so is missed


@pytest.mark.parametrize(
    ("before", "after", "answers", "raised"),
    [
        (0.66, 0.5, 20_000, True),
        (0.64, 0.5, 20_000, False),  # it never was much better than a coin
        (0.9, 0.69, 20_000, True),
        (0.9, 0.71, 20_000, False),  # half of what it had above a coin is left
        (0.9, 0.5, 200, True),
        (0.9, 0.5, 100, False),
        (0.9, 0.5, 64, False),
        (0.9, 0.5, np.nan, False),
    ],
)
def test_the_limits_of_the_agreement(before: float, after: float, answers: float, raised: bool) -> None:
    x = np.linspace(0, 1, 480)
    agreement = np.where(x < 0.6, before, after)
    assert bool(reward_alarms(metrics_of(None, x, agreement, answers))) == raised
    without = {name: values for name, values in metrics_of(None, x, agreement).items() if name != "labels/answered"}
    assert reward_alarms(without) == []


def test_an_alarm_tells_its_numbers() -> None:
    stretches = np.repeat(np.arange(24.0), 5)  # 120 rows without noise
    true = np.where(stretches < 20, 100 * stretches, 2000.0)
    true[stretches == 21] = 1234
    (found,) = reward_alarms(metrics_of(true, -1200 + 50 * stretches))
    # The fall from stretch 19 is larger, but from there the predicted return climbs by less than a tenth of its range.
    assert found == Alarm(
        from_steps=93 * STEPS,  # the middle of stretch 18, of rows 91 to 95
        to_steps=108 * STEPS,
        kind="true return",
        sentence="From 381k to 442k steps the predicted return climbed from −300 to −150 "
        "while the true return fell from 1,800 to 1,234",
    )


@pytest.mark.parametrize(
    ("change", "raised"),
    [
        ({}, True),
        ({"fall": 0.19}, False),
        ({"fall": 0.21}, True),
        ({"climb": 0.09}, False),
        ({"climb": 0.11}, True),
        ({"fall": 0.35, "over": 6}, True),
        ({"fall": 0.35, "over": 12}, False),  # half of the run: too slow for a window of a quarter
        ({"noise": 0.5}, False),
    ],
)
def test_the_limits_by_curves_on_either_side(change: dict[str, float], raised: bool) -> None:
    """The true return falls by a share of its range while the predicted one climbs by a share of its own."""
    fall, climb, over, noise = (
        change.get(name, default) for name, default in {"fall": 0.5, "climb": 0.5, "over": 4, "noise": 0.0}.items()
    )
    rng = np.random.default_rng(0)
    ramp = np.clip((np.repeat(np.arange(24.0), 4) - 10) / over, 0, 1)
    # The ranges are 1 each: the first three stretches span them, where both curves fall.
    begin = np.repeat([1.0, 0.5, 0.0] + [0.0] * 21, 4)
    late = np.repeat([0.0] * 3 + [1.0] * 21, 4)
    true = begin + late * (0.9 - fall * ramp) + noise * rng.normal(size=96)
    predicted = begin + late * climb * ramp
    true[:4], predicted[:4] = 1.0, 1.0
    found = [a for a in reward_alarms(metrics_of(true, predicted)) if a.from_steps > 6 * 4 * STEPS]
    assert bool(found) == raised


@pytest.mark.parametrize("missing", ["env_steps", "predicted_return", "true_return"])
def test_what_lacks_a_column_or_rows_raises_none(missing: str) -> None:
    x = np.linspace(0, 1, 23)
    whole = metrics_of(1 - x, x)
    assert reward_alarms(whole) == [], "too short"
    assert reward_alarms({}) == []
    longer = {name: np.interp(np.linspace(0, 22, 24), np.arange(23), values) for name, values in whole.items()}
    assert reward_alarms(longer)
    assert reward_alarms(longer | {"env_steps": np.where(np.arange(24) == 5, np.nan, 1.0)}) == []
    del longer[missing]
    assert reward_alarms(longer) == []
    assert reward_alarms({name: np.full(60, np.nan) for name in whole} | {"env_steps": np.arange(60.0)}) == []


# Runs.


def metrics_of_a_run(tmp_path: Path, task: str, oracle: Any, seed: int) -> Metrics:
    config = make_config(task, 30, labels=160, seed=seed, threads=1, **WELL_FITTED | {"reward__gradient_steps": 5})
    with PreferenceStore(tmp_path / f"{seed}.db") as store:
        loop = PreferenceLoop(config, store, oracle)
        reports = list(loop.iterations())
        loop.close()
    names = reports[0].metrics
    columns = {name: np.array([report.metrics[name] for report in reports]) for name in names}
    return {"env_steps": np.array([float(report.env_steps) for report in reports]), **columns}


def opposite(segment: Segment) -> float:
    return -segment.true_return


def the_larger_the_better(segment: Segment) -> float:
    """On Action, where ½ pays most: right at first, and wrong once ½ is reached."""
    return float(segment.actions.sum())


@pytest.mark.parametrize(
    ("task", "score", "seed", "raised"),
    [
        ("Action", None, 0, False),
        ("Action", the_larger_the_better, 1, True),
    ],
)
def test_a_predictor_that_is_misled_raises_an_alarm_and_an_honest_one_none(
    tmp_path: Path, task: str, score: Callable[[Segment], float] | None, seed: int, raised: bool
) -> None:
    oracle = SyntheticOracle(score, seed=seed) if score is not None else None
    found = reward_alarms(metrics_of_a_run(tmp_path, f"probes/{task}-v0", oracle, seed))
    assert kinds(found) == ({"true return"} if raised else set())


def test_a_run_that_is_hacked_warns_once_while_it_trains_and_says_so_in_the_end(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("prefrl.loop.make_oracle", lambda config, seed: SyntheticOracle(opposite, seed=seed))
    run = train(tiny(tmp_path / "run", "probes/Observation-v0", steps=34 * 256, labels=120, ppo=QUICK_PPO))
    assert len([record for record in caplog.records if "exploiting the predictor? From" in record.message]) == 1
    found = reward_alarms(read_metrics(run / "metrics.csv"))
    assert found
    _print_result(run)
    printed = capsys.readouterr().out.splitlines()
    assert [line for line in printed if line.startswith("alarm: ")] == [f"alarm: {alarm.sentence}" for alarm in found]
    assert found[0].sentence in (run / "report.html").read_text()

    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "80")
    _print_result(run)
    begun = next(lines := iter(capsys.readouterr().out.splitlines()[1:]))
    assert begun.startswith("alarm: From ")
    assert len(begun) <= 80
    assert (went_on := next(lines)).startswith("       ")
    assert f"{begun} {went_on.strip()}" == printed[1], "between words"
