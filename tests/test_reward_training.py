from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from prefrl.errors import UserError
from prefrl.options import RewardOptions
from prefrl.preferences import Answer
from prefrl.queries import Query
from prefrl.reward_model import RewardEnsemble, preference_probability
from prefrl.reward_training import L2_RANGE, RewardTrainer, adapt_l2, answer_entropy
from prefrl.segments import Segment

OBSERVATIONS, ACTIONS, STEPS = 3, 1, 5
TRUE_WEIGHTS = np.array([1.0, -2.0, 0.5])

Oracle = Callable[[Segment, Segment], str]


def prefers_true_return(left: Segment, right: Segment) -> str:
    return "left" if left.true_return > right.true_return else "right"


def make_queries(count: int, seed: int = 0) -> list[Query]:
    """Pairs of random segments whose true reward is linear in the observation."""
    rng = np.random.default_rng(seed)
    observations = rng.normal(size=(count, 2, STEPS, OBSERVATIONS)).astype(np.float32)
    actions = rng.normal(size=(count, 2, STEPS, ACTIONS)).astype(np.float32)
    rewards = (observations @ TRUE_WEIGHTS).astype(np.float32)
    return [
        Query(tuple(Segment(*both) for both in zip(*parts, strict=True)), id=i + 1)
        for i, parts in enumerate(zip(observations, actions, rewards, strict=True))
    ]


def make_trainer(
    answers: int = 0, oracle: Oracle = prefers_true_return, seed: int = 0, **options: object
) -> RewardTrainer:
    chosen = RewardOptions(**{"members": 3, **options})  # type: ignore[arg-type]
    ensemble = RewardEnsemble(OBSERVATIONS, ACTIONS, chosen.members, (32, 32), chosen.dropout, seed=seed)
    trainer = RewardTrainer(ensemble, chosen, np.random.default_rng(seed))
    trainer.comparisons.extend((query, answer(query, oracle(*query.segments))) for query in make_queries(answers))
    return trainer


def answer(query: Query, choice: str) -> Answer:
    assert query.id is not None
    return Answer.from_choice(query.id, choice, labeller="test", shown_at=0.0, answered_at=0.0)


def fresh_steps(count: int = 2000) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.floating]]:
    """Observations, actions and true rewards that no trainer has seen."""
    rng = np.random.default_rng(99)
    observations = rng.normal(size=(count, OBSERVATIONS)).astype(np.float32)
    return observations, rng.normal(size=(count, ACTIONS)).astype(np.float32), observations @ TRUE_WEIGHTS


def correlation_with_truth(trainer: RewardTrainer) -> float:
    observations, actions, truth = fresh_steps()
    return float(np.corrcoef(trainer.ensemble.predict(observations, actions), truth)[0, 1])


# Adaptive ℓ2.


@pytest.mark.parametrize(
    ("train", "validation", "factor"),
    [
        (1.0, 1.6, 1.1),  # overfits: more ℓ2
        (1.0, 1.05, 1 / 1.1),  # too stiff: less
        (1.0, 1.3, 1.0),  # within 1.1 to 1.5: as it is
        (0.5, 0.76, 1.1),
        (math.nan, 1.0, 1.0),  # nothing measured yet
        (1.0, math.nan, 1.0),
        (0.0, 0.0, 1.0),  # nothing left to learn, so nothing to compare
        (2e-9, 8e-9, 1.0),
    ],
)
def test_l2_by_hand(train: float, validation: float, factor: float) -> None:
    moved = adapt_l2(np.array([1e-4]), np.array([train]), np.array([validation]))
    assert moved[0] == pytest.approx(1e-4 * factor)


def test_l2_moves_member_by_member_and_stays_in_its_range() -> None:
    moved = adapt_l2(np.array([1e-3, 1e-3, 1e-3]), np.ones(3), np.array([2.0, 1.0, 1.2]))
    np.testing.assert_allclose(moved, [1.1e-3, 1e-3 / 1.1, 1e-3])
    extremes = adapt_l2(np.array(L2_RANGE), np.ones(2), np.array([1.0, 2.0]))
    np.testing.assert_array_equal(extremes, L2_RANGE)


def test_overfitting_raises_l2_and_the_switch_keeps_it() -> None:
    def random_answers(left: Segment, right: Segment) -> str:
        return ("left", "right")[int(abs(left.true_return) * 1e4) % 2]

    adaptive = make_trainer(60, random_answers, l2=1e-4, adaptive_l2=True)
    fixed = make_trainer(60, random_answers, l2=1e-4)
    for trainer in (adaptive, fixed):
        trainer.fit(150)
        for _ in range(12):
            report = trainer.fit(8)
        assert report.validation_loss > 1.5 * report.train_loss, "nothing can be learnt, only kept by heart"
    assert (adaptive.l2 > 1.5e-4).all()
    assert (fixed.l2 == 1e-4).all()
    assert adaptive.fit(0).l2 == pytest.approx(adaptive.l2.mean())


def test_overfitting_raises_l2_also_where_most_answers_are_equal() -> None:
    def mostly_equal(left: Segment, right: Segment) -> str:
        number = int(abs(left.true_return) * 1e4)
        return ("left", "right")[number % 2] if number % 5 == 0 else "equal"

    trainer = make_trainer(60, mostly_equal, l2=1e-4, adaptive_l2=True)
    assert (trainer.comparisons.mu[:60, 0] == 0.5).float().mean() > 0.7
    trainer.fit(400)
    for _ in range(12):
        report = trainer.fit(8)
    assert report.validation_loss > 1.5 * report.train_loss
    assert (trainer.l2 > 1.5e-4).all()


@pytest.mark.parametrize("mu", [(1.0, 0.0), (0.5, 0.5), (0.25, 0.75), (0.5, 0.5, 0.0), (1 / 3, 1 / 3, 1 / 3)])
def test_the_entropy_of_an_answer_is_the_least_loss_of_any_prediction(mu: tuple[float, ...]) -> None:
    rng = np.random.default_rng(0)
    others = rng.dirichlet(np.ones(len(mu)), 2000)
    cross_entropies = -(np.array(mu) * np.log(others)).sum(axis=1)
    least = answer_entropy(np.array(mu))
    assert (cross_entropies >= least).all()
    best = np.where(np.array(mu) > 0, mu, 1.0)
    assert -(np.array(mu) * np.log(best)).sum() == pytest.approx(float(least))


@pytest.mark.parametrize("error_rate", [0.0, 0.1, 0.5])
def test_the_loss_is_the_cross_entropy_with_the_error_rate_that_was_asked_for(error_rate: float) -> None:
    trainer = make_trainer(30, hold_out=False, bootstrap=False, error_rate=error_rate)
    returns = trainer.predicted_returns(torch.arange(30).expand(3, -1)).detach().numpy().astype(np.float64)
    mu = trainer.comparisons.mu[:30].numpy()
    left = 1 / (1 + np.exp(returns[..., 1] - returns[..., 0]))
    modelled = (1 - error_rate) * np.stack([left, 1 - left], axis=-1) + error_rate / 2
    expected = -(mu * np.log(modelled)).sum(axis=-1).mean()
    assert trainer.fit(0).train_loss == pytest.approx(expected, rel=1e-4)


def test_l2_shrinks_the_weights() -> None:
    norms = []
    for l2 in (0.0, 1e-1):
        trainer = make_trainer(50, l2=l2)
        trainer.fit(150)
        norms.append(sum(float(weight.detach().square().sum()) for weight in trainer.ensemble.weights))
    assert norms[1] < 0.5 * norms[0]


# What is learnt.


@pytest.mark.parametrize("seed", range(3))
def test_a_linear_reward_is_recovered_from_perfect_answers(seed: int) -> None:
    trainer = make_trainer(300, seed=seed)
    before = correlation_with_truth(trainer)
    report = trainer.fit(250)
    assert abs(before) < 0.7
    assert correlation_with_truth(trainer) > 0.93
    assert report.accuracy > 0.8


@pytest.mark.parametrize("seed", range(3))
def test_regression_on_true_returns_is_the_target_ablation(seed: int) -> None:
    trainer = make_trainer(300, lambda left, right: "left", seed=seed, target="returns")
    trainer.fit(250)
    assert correlation_with_truth(trainer) > 0.9, "the answers themselves are not looked at"


def test_equal_pulls_returns_together() -> None:
    trainer = make_trainer(40, lambda left, right: "equal", hold_out=False, l2=0.0)
    every = torch.arange(40).expand(3, -1)

    def gaps() -> float:
        returns = trainer.predicted_returns(every).detach()
        return float((returns[..., 0] - returns[..., 1]).abs().mean())

    with torch.no_grad():
        trainer.ensemble.weights[-1] *= 10
    before = gaps()
    trainer.fit(200)
    assert gaps() < 0.1 * before


def test_cant_tell_changes_nothing() -> None:
    with_them, without = make_trainer(20), make_trainer(20)
    with_them.comparisons.extend((query, answer(query, "cant_tell")) for query in make_queries(20, seed=1))
    assert len(with_them.comparisons) == 20
    assert with_them.fit(5) == without.fit(5)
    for one, other in zip(with_them.ensemble.parameters(), without.ensemble.parameters(), strict=True):
        assert torch.equal(one, other)


def test_one_wrong_answer_in_ten_is_forgiven() -> None:
    def mistaken(left: Segment, right: Segment) -> str:
        right_answer = prefers_true_return(left, right)
        wrong = int(abs(left.true_return) * 1e4) % 10 == 0
        return {"left": "right", "right": "left"}[right_answer] if wrong else right_answer

    trainer = make_trainer(400, mistaken)
    trainer.fit(250)
    assert correlation_with_truth(trainer) > 0.9


# Members.


def test_the_gradients_of_the_members_are_independent() -> None:
    """The first of three members ends where it does when the others are trained on something else entirely."""
    results = []
    for others in (0.0, 5.0):
        trainer = make_trainer(30, bootstrap=False, hold_out=False)
        with torch.no_grad():
            for weight in trainer.ensemble.weights:
                weight[1:] += others
        trainer.fit(10)
        results.append([parameter[0].detach().clone() for parameter in trainer.ensemble.parameters()])
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other)


def test_the_number_of_members_does_not_change_a_members_gradient() -> None:
    alike: dict[str, Any] = {"bootstrap": False, "hold_out": False}
    one, three = (make_trainer(1, members=m, **alike) for m in (1, 3))  # one pair to draw
    with torch.no_grad():
        for few, many in zip(one.ensemble.parameters(), three.ensemble.parameters(), strict=True):
            few.copy_(many[:1])
    for trainer in (one, three):
        trainer.fit(1)
    for few, many in zip(one.ensemble.parameters(), three.ensemble.parameters(), strict=True):
        assert few.grad is not None
        assert many.grad is not None
        torch.testing.assert_close(few.grad[0], many.grad[0])


def test_members_that_saw_other_samples_come_to_differ() -> None:
    trainer = make_trainer(60)
    with torch.no_grad():
        for parameter in trainer.ensemble.parameters():
            parameter[1:] = parameter[:1]
    trainer.fit(50)
    observations, actions, _ = fresh_steps(100)
    assert float(trainer.ensemble.member_rewards(observations, actions).std(dim=0).mean()) > 0.01


# What is reported.


def test_losses_and_accuracy_are_those_of_a_loop_over_pairs_and_members() -> None:
    trainer = make_trainer(60)
    trainer.fit(30)
    report, ensemble, data = trainer.fit(0), trainer.ensemble, trainer.comparisons
    train, validation, right = [], [], []
    for member in range(3):
        kept, held_out = [], []
        for row in range(60):
            rewards = ensemble.member_rewards(data.observations[row].numpy(), data.actions[row].numpy())[member]
            probability = preference_probability(rewards.sum(dim=-1), 0.1)
            loss = -float(probability[int(data.mu[row, 1])].log())
            copies = int(data.copies[member, row])
            kept += [loss] * copies
            if copies == 0:
                held_out.append(loss)
                right.append(float(probability[int(data.mu[row, 1])]) > 0.5)
        train.append(np.mean(kept))
        validation.append(np.mean(held_out))
    assert report.train_loss == pytest.approx(np.mean(train), rel=1e-4)
    assert report.validation_loss == pytest.approx(np.mean(validation), rel=1e-4)
    assert report.accuracy == pytest.approx(np.mean(right))


def test_without_answers_there_is_nothing_to_report_and_nothing_changes() -> None:
    trainer = make_trainer(0)
    before = [parameter.detach().clone() for parameter in trainer.ensemble.parameters()]
    report = trainer.fit(10)
    assert np.isnan([report.train_loss, report.validation_loss, report.accuracy]).all()
    assert all(torch.equal(a, b) for a, b in zip(before, trainer.ensemble.parameters(), strict=True))


def test_without_a_held_out_set_validation_is_not_measured() -> None:
    report = make_trainer(30, hold_out=False).fit(5)
    assert np.isnan([report.validation_loss, report.accuracy]).all()
    assert report.train_loss > 0


def test_the_same_seed_fits_the_same_and_another_does_not() -> None:
    weights = []
    for seed in (3, 3, 4):
        trainer = make_trainer(30, seed=seed, dropout=0.0)
        trainer.fit(10)
        weights.append(trainer.ensemble.weights[0].detach().numpy().tobytes())
    assert weights[0] == weights[1] != weights[2]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"members": 0}, "members"),
        ({"batch_size": 0}, "batch size"),
        ({"label_buffer": 0}, "label buffer"),
        ({"latest_share": 1.5}, r"1\.5"),
        ({"latest": 0}, "0 latest answers"),
        ({"error_rate": 1.0}, r"error rate 1\.0"),
        ({"error_rate": -0.1}, r"error rate -0\.1"),
        ({"dropout": 1.0}, r"dropout 1\.0"),
        ({"learning_rate": 0.0}, r"learning rate 0\.0"),
        ({"l2": -1.0}, r"-1\.0"),
        ({"hidden": (0,)}, "hidden"),
        ({"gradient_steps": -1}, "gradient steps"),
        ({"adaptive_l2": True, "hold_out": False}, "drop --reward.adaptive-l2"),
    ],
)
def test_impossible_options_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        RewardOptions(**options)  # type: ignore[arg-type]


def test_an_ensemble_of_another_size_than_the_options_is_refused() -> None:
    ensemble = RewardEnsemble(OBSERVATIONS, ACTIONS, members=2)
    with pytest.raises(UserError, match="2 members, options for 7"):
        RewardTrainer(ensemble, RewardOptions(), np.random.default_rng(0))


def test_an_ensemble_that_is_given_another_observation_than_the_options_say_is_refused() -> None:
    ensemble = RewardEnsemble(OBSERVATIONS, ACTIONS)
    with pytest.raises(UserError, match="the observation before the action, options for the one after it"):
        RewardTrainer(ensemble, RewardOptions(observation="after"), np.random.default_rng(0))
