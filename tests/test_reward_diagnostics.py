"""What metrics.csv says of the predictor, beside the same computed by loops."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from test_reward_training import ACTIONS, OBSERVATIONS, make_trainer

from prefrl.reward_diagnostics import correlation, reward_metrics
from prefrl.reward_model import RewardEnsemble
from prefrl.rollouts import Rollout

STEPS, ENVIRONMENTS = 10, 5


def make_rollout(rng: np.random.Generator) -> Rollout:
    return Rollout(
        observations=rng.normal(size=(STEPS, ENVIRONMENTS, 3)).astype(np.float32),
        next_observations=np.full((STEPS, ENVIRONMENTS, 3), np.nan, np.float32),
        actions=rng.normal(size=(STEPS, ENVIRONMENTS, 2)).astype(np.float32),
        rewards=rng.normal(size=(STEPS, ENVIRONMENTS)).astype(np.float32),
        episode_starts=np.zeros((STEPS, ENVIRONMENTS), dtype=bool),
        qpos=None,
        qvel=None,
        env_steps=0,
        episode_returns=(),
    )


@pytest.mark.parametrize("segment_steps", [3, 5])
def test_metrics_equal_those_computed_step_by_step(segment_steps: int) -> None:
    rng = np.random.default_rng(0)
    rollout, reference = make_rollout(rng), (rng.normal(size=(40, 3)), rng.normal(size=(40, 2)))
    ensemble = RewardEnsemble(3, 2, members=2, hidden=(8,))
    ensemble.normalise_rewards_over(ensemble.member_rewards(rng.normal(size=(50, 3)), rng.normal(size=(50, 2))))
    compared = torch.from_numpy(rng.normal(size=(30, 3))), torch.from_numpy(rng.normal(size=(30, 2)))
    found = reward_metrics(ensemble, rollout, reference, compared, segment_steps, horizon=100)

    raw = ensemble.member_rewards(rollout.observations, rollout.actions).numpy().astype(np.float64)
    mean, scale = ensemble.reward_mean.numpy(), ensemble.reward_scale.numpy()
    each = [(raw[member] - mean[member]) / scale[member] for member in range(2)]
    predicted = (each[0] + each[1]) / 2
    assert found["reward/mean"] == pytest.approx(predicted.mean(), abs=1e-5)
    assert found["reward/std"] == pytest.approx(predicted.std(), rel=1e-4)
    assert found["reward/spread"] == pytest.approx(np.abs(each[0] - each[1]).mean() / 2, rel=1e-4)
    apart = np.array([(ensemble.member_rewards(*compared)[i].numpy() - mean[i]) / scale[i] for i in range(2)])
    assert found["reward/spread_ratio"] == pytest.approx(
        np.abs(each[0] - each[1]).mean() / np.abs(apart[0] - apart[1]).mean(), rel=1e-4
    )
    assert found["reward/correlation"] == pytest.approx(
        np.corrcoef(predicted.flat, rollout.rewards.flat)[0, 1], rel=1e-4
    )

    sums = [
        (predicted[start : start + segment_steps, env].sum(), rollout.rewards[start : start + segment_steps, env].sum())
        for start in range(0, STEPS - segment_steps + 1, segment_steps)
        for env in range(ENVIRONMENTS)
    ]
    assert found["reward/segment_correlation"] == pytest.approx(np.corrcoef(np.array(sums).T)[0, 1], rel=1e-4)

    random = ensemble.member_rewards(*reference).numpy().astype(np.float64)
    above = [(raw[member].mean() - random[member].mean()) / random[member].std(ddof=1) for member in range(2)]
    assert found["predicted_return"] == pytest.approx(100 * sum(above) / 2, rel=1e-3)


@pytest.mark.filterwarnings("error")
def test_what_cannot_be_measured_is_nan() -> None:
    rng = np.random.default_rng(0)
    reference = (rng.normal(size=(40, 3)), rng.normal(size=(40, 2)))
    nobody = torch.zeros(0, 3), torch.zeros(0, 2)
    for members, compared in ((1, (torch.zeros(4, 3), torch.zeros(4, 2))), (3, nobody)):
        ensemble = RewardEnsemble(3, 2, members=members)
        found = reward_metrics(ensemble, make_rollout(rng), reference, compared, STEPS + 1, horizon=100)
        assert np.isnan(found["reward/spread_ratio"])
        assert np.isnan(found["reward/spread"]) == (members == 1), "one member agrees with itself"
    assert np.isnan(found["reward/segment_correlation"]), "a segment is longer than an iteration"
    assert np.isfinite(found["reward/correlation"])


@pytest.mark.parametrize("seed", range(3))
def test_members_lie_further_apart_where_nobody_was_asked(seed: int) -> None:
    trainer = make_trainer(120, seed=seed)
    trainer.fit(300)
    rng = np.random.default_rng(seed)
    reference = (rng.normal(size=(40, OBSERVATIONS)), rng.normal(size=(40, ACTIONS)))
    ratios = []
    for distance in (1.0, 6.0):
        rollout = replace(
            make_rollout(rng),
            observations=(distance * rng.normal(size=(STEPS, ENVIRONMENTS, OBSERVATIONS))).astype(np.float32),
            actions=rng.normal(size=(STEPS, ENVIRONMENTS, ACTIONS)).astype(np.float32),
        )
        compared = trainer.comparisons.steps(500)
        ratios.append(reward_metrics(trainer.ensemble, rollout, reference, compared, 1, 1)["reward/spread_ratio"])
    assert 0.6 < ratios[0] < 1.6
    assert ratios[1] > 2


def test_correlation_equals_numpys_and_is_nan_for_a_constant() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 5, 7))
    assert correlation(a, b) == pytest.approx(np.corrcoef(a.ravel(), b.ravel())[0, 1])
    assert np.isnan(correlation(a, np.ones_like(a)))
