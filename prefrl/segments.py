"""Cut short stretches of behaviour out of rollouts (section 2.2.4).

Reads rollouts.Rollout; produces Segment for queries.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from prefrl.candidate_films import Film
from prefrl.errors import UserError

if TYPE_CHECKING:
    from prefrl.rollouts import Rollout

When = Literal["before", "after", "both"]  # the action of a step


def observed(before: NDArray[np.float32], after: NDArray[np.float32], when: When) -> NDArray[np.float32]:
    """What is seen of steps: one of (..., obs_dim) each, or (..., 2 obs_dim) for both, one behind the other."""
    if when == "both":
        return np.concatenate([before, after], axis=-1)
    return before if when == "before" else after


@dataclass(frozen=True, eq=False)
class Segment:
    """T consecutive steps of one episode; what a person sees as a clip."""

    observations: NDArray[np.float32]  # (T, obs_dim), raw, before each action
    actions: NDArray[np.float32]  # (T, action_dim), as sent to the simulator; one-hot when discrete
    true_rewards: NDArray[np.float32]  # (T,), the environment's own; the predictor never sees them
    qpos: NDArray[np.float64] | None = None  # (T, nq), exact state before each action; None without MuJoCo
    qvel: NDArray[np.float64] | None = None  # (T, nv)
    env_steps: int = 0  # environment steps of the run when it was recorded
    film: Film = ()  # pictures, where there are no states to draw and people are asked; not stored
    next_observations: NDArray[np.float32] | None = None  # (T, obs_dim), raw, after each action; older ones lack them

    @property
    def length(self) -> int:
        """Number of steps T."""
        return len(self.observations)

    def observed(self, when: When) -> NDArray[np.float32]:
        """(T, obs_dim): the observation before or after each action; (T, 2 obs_dim): both.

        Raises:
            UserError: it was recorded by a version that did not keep those after.
        """
        if when == "before":
            return self.observations
        if self.next_observations is None:
            raise UserError(
                f"a segment recorded at {self.env_steps} environment steps holds no observations after its actions, "
                "as older versions kept none; train on it with --reward.observation before"
            )
        return observed(self.observations, self.next_observations, when)

    @property
    def true_return(self) -> float:
        """Undiscounted sum of true rewards, as the synthetic oracle of the paper compares it (section 2.2.3)."""
        return float(self.true_rewards.sum(dtype=np.float64))


def valid_starts(episode_starts: NDArray[np.bool_], length: int) -> NDArray[np.bool_]:
    """Which windows of `length` steps lie within one episode.

    Args:
        episode_starts: (S, n), True where a step is the first of its episode.
        length: steps per window.

    Returns:
        (S - length + 1, n), True where the window that starts there holds no reset; empty if S < length.
    """
    steps, envs = episode_starts.shape
    if steps < length:
        return np.zeros((0, envs), dtype=np.bool_)
    resets_before = np.zeros((steps + 1, envs), dtype=np.int64)
    np.cumsum(episode_starts, axis=0, out=resets_before[1:])
    # A window [s, s + length) crosses a reset if any of its steps but the first starts an episode.
    return resets_before[length:] - resets_before[1 : steps - length + 2] == 0


def cut_segments(rollout: Rollout, length: int, count: int, rng: np.random.Generator) -> list[Segment]:
    """Draw `count` segments uniformly, with replacement, over all windows that cross no reset.

    Where stretches were filmed, it is those that are drawn, without replacement while there are enough.

    Raises:
        UserError: no window of that length exists in the rollout.
    """
    if rollout.films:
        filmed = sorted(rollout.films)
        order = [filmed[i] for _ in range(-(-count // len(filmed))) for i in rng.permutation(len(filmed))]
        return [rollout.segment(start, env, length) for start, env in order[:count]]
    starts, envs = np.nonzero(valid_starts(rollout.episode_starts, length))
    if len(starts) == 0:
        raise UserError(
            f"segment of {length} steps fits in no episode of the last {len(rollout.rewards)} steps; "
            "shorten --queries.segment-steps or raise the horizon"
        )
    drawn = rng.integers(len(starts), size=count)
    return [rollout.segment(starts[i], envs[i], length) for i in drawn]
