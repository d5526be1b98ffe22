"""What the predictor says of a rollout, beside the truth, which no stage of training sees."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from prefrl.reward_model import RewardEnsemble
from prefrl.rollouts import Rollout
from prefrl.threads import one_torch_thread

DIAGNOSED_ENVIRONMENTS = 16  # whose steps the metrics are taken over
COMPARED_STEPS = 1024  # of the segments that were compared, beside which the spread is told


@one_torch_thread()
def reward_metrics(
    ensemble: RewardEnsemble,
    rollout: Rollout,
    reference: tuple[NDArray[np.floating], NDArray[np.floating]],
    compared: tuple[Tensor, Tensor],
    segment_steps: int,
    horizon: int,
) -> dict[str, float]:
    """The predicted reward's mean, spread and correlation with the true one, and the predicted return.

    Args:
        ensemble: normalised over recent data.
        rollout: of the current policy.
        reference: observations and actions of the random policy, beside whose mean and deviation the predicted return
            is told: the reward itself is kept at mean 0, so its return could neither climb nor fall.
        compared: observations and actions of the segments that the ensemble was fitted to, beside which the members'
            spread is told: well above 1, the policy is where nobody was asked.
        segment_steps: of the segments that are compared.
        horizon: steps per episode.

    Returns:
        by the column names of metrics.csv; NaN where there is nothing to measure.
    """
    environments = rollout.rewards.shape[1]
    shown = np.s_[:, :: max(1, environments // DIAGNOSED_ENVIRONMENTS)]
    raw = ensemble.member_rewards(rollout.observed(ensemble.observation)[shown], rollout.actions[shown])
    predicted, true_rewards = ensemble.combine(raw).numpy(), rollout.rewards[shown]
    spread = _spread(ensemble, raw)
    fitted_spread = _spread(ensemble, ensemble.member_rewards(*compared)) if len(compared[0]) else float("nan")
    random = ensemble.member_rewards(*reference)
    above_random = (raw.flatten(1).mean(dim=1) - random.mean(dim=1)) / random.std(dim=1).clamp_min(1e-6)
    return {
        "reward/mean": float(predicted.mean()),
        "reward/std": float(predicted.std()),
        "reward/spread": spread,
        "reward/spread_ratio": spread / fitted_spread if fitted_spread > 0 else float("nan"),
        "reward/correlation": correlation(predicted, true_rewards),
        "reward/segment_correlation": correlation(
            _window_sums(predicted, segment_steps), _window_sums(true_rewards, segment_steps)
        ),
        "predicted_return": float(above_random.mean()) * horizon,
    }


def _spread(ensemble: RewardEnsemble, raw: Tensor) -> float:
    """Mean deviation between the members' normalised rewards, (members, ...) before; NaN if there is one member."""
    return float(ensemble.normalise(raw).std(dim=0, correction=0).mean()) if ensemble.members > 1 else float("nan")


def _window_sums(rewards: NDArray[np.floating], length: int) -> NDArray[np.floating]:
    """(S, n) -> (S // length, n) sums over windows side by side, which may hold a reset."""
    windows = len(rewards) // length
    return rewards[: windows * length].reshape(windows, length, rewards.shape[1]).sum(axis=1)


def correlation(a: NDArray[np.floating], b: NDArray[np.floating]) -> float:
    """Pearson's r of two arrays of one shape; NaN if either is constant or empty."""
    if not a.size:
        return float("nan")
    x, y = a.ravel() - a.mean(), b.ravel() - b.mean()
    spread = float(np.sqrt((x**2).sum() * (y**2).sum()))
    return float((x * y).sum()) / spread if spread > 0 else float("nan")
