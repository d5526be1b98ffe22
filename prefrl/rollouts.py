"""Record what the policy did, so that segments can be cut from it.

Wraps any vector environment below the reward wrapper: it sees raw observations, the actions that reach the simulator,
the true rewards and, with MuJoCo, exact states.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from gymnasium import spaces
from gymnasium.vector import SyncVectorEnv, VectorEnv, VectorWrapper
from numpy.typing import NDArray

from prefrl.candidate_films import CandidateFilms, Film
from prefrl.errors import NumericalError
from prefrl.segments import Segment, When, observed
from prefrl.simulation import MujocoVectorEnv

States = tuple[NDArray[np.float64], NDArray[np.float64]]


@dataclass(frozen=True, eq=False)
class Rollout:
    """S consecutive steps of n environments."""

    observations: NDArray[np.float32]  # (S, n, obs_dim), raw, before each action
    next_observations: NDArray[np.float32]  # (S, n, obs_dim), raw, after it: an episode's last one too
    actions: NDArray[np.float32]  # (S, n, action_dim), as sent to the simulator; one-hot when discrete
    rewards: NDArray[np.float32]  # (S, n), true rewards
    episode_starts: NDArray[np.bool_]  # (S, n), the step is the first of its episode
    qpos: NDArray[np.float64] | None  # (S, n, nq), exact state before each action; None without MuJoCo
    qvel: NDArray[np.float64] | None  # (S, n, nv)
    env_steps: int  # environment steps of the run when it ended
    episode_returns: tuple[float, ...] = ()  # true returns of the episodes that ended in it
    films: dict[tuple[int, int], Film] | None = None  # by first step and environment; None where nothing is filmed

    def observed(self, when: When) -> NDArray[np.float32]:
        """(S, n, obs_dim): the observation before or after each action; (S, n, 2 obs_dim): both."""
        return observed(self.observations, self.next_observations, when)

    def segment(self, start: int, env: int, length: int) -> Segment:
        """Copy `length` steps of one environment out of the rollout."""
        steps = slice(start, start + length)
        return Segment(
            self.observations[steps, env].copy(),
            self.actions[steps, env].copy(),
            self.rewards[steps, env].copy(),
            None if self.qpos is None else self.qpos[steps, env].copy(),
            None if self.qvel is None else self.qvel[steps, env].copy(),
            self.env_steps,
            (self.films or {}).get((start, env), ()),
            self.next_observations[steps, env].copy(),
        )


def join(rollouts: Sequence[Rollout]) -> Rollout:
    """Consecutive rollouts of the same environments as one, so that segments may span them."""

    def together(arrays: Sequence[NDArray[Any] | None]) -> Any:
        return None if arrays[0] is None else np.concatenate([a for a in arrays if a is not None])

    return Rollout(
        together([r.observations for r in rollouts]),
        together([r.next_observations for r in rollouts]),
        together([r.actions for r in rollouts]),
        together([r.rewards for r in rollouts]),
        together([r.episode_starts for r in rollouts]),
        together([r.qpos for r in rollouts]),
        together([r.qvel for r in rollouts]),
        rollouts[-1].env_steps,
        tuple(value for r in rollouts for value in r.episode_returns),
        _films(rollouts),
    )


def _films(rollouts: Sequence[Rollout]) -> dict[tuple[int, int], Film] | None:
    if all(rollout.films is None for rollout in rollouts):
        return None
    before = np.cumsum([0, *(len(rollout.rewards) for rollout in rollouts)]).tolist()
    return {
        (first + start, env): film
        for first, rollout in zip(before, rollouts, strict=False)
        for (start, env), film in (rollout.films or {}).items()
    }


def state_reader(env: VectorEnv) -> Callable[[], States] | None:
    """A function that returns the environments' (n, nq) and (n, nv) exact states now; None without MuJoCo."""
    base = env.unwrapped
    if isinstance(base, MujocoVectorEnv):
        return lambda: (base.qpos, base.qvel)
    if isinstance(base, SyncVectorEnv) and all(hasattr(e.unwrapped, "data") for e in base.envs):
        data = [getattr(e.unwrapped, "data") for e in base.envs]  # noqa: B009  not every environment has it
        if all(hasattr(d, "qpos") and hasattr(d, "qvel") for d in data):
            return lambda: (np.array([d.qpos for d in data]), np.array([d.qvel for d in data]))
    return None


def encode_actions(space: spaces.Space, actions: NDArray[Any]) -> NDArray[np.float32]:
    """Actions as the predictor sees them: (n, action_dim) float32, one-hot for Discrete spaces."""
    if isinstance(space, spaces.Discrete):
        return np.eye(int(space.n), dtype=np.float32)[np.asarray(actions).reshape(-1) - int(space.start)]
    return np.array(actions, dtype=np.float32).reshape(len(actions), -1)


def observations_after(observations: NDArray[Any], info: dict[str, Any]) -> NDArray[np.float32]:
    """What a step of many environments led to, (n, obs_dim): of an episode that ended its last observation.

    Args:
        observations: that the step returned, of an episode that ended the next one's first.
        info: that it returned with them.
    """
    if "_final_obs" not in info:
        return np.asarray(observations, dtype=np.float32)
    after = np.array(observations, dtype=np.float32)
    after[info["_final_obs"]] = np.stack(info["final_obs"][info["_final_obs"]])
    return after


def action_dim(space: spaces.Space) -> int:
    """Length of an encoded action."""
    return int(space.n) if isinstance(space, spaces.Discrete) else int(np.prod(space.shape or (1,)))


class RolloutRecorder(VectorWrapper):
    """Passes everything through and remembers it until `take` is called.

    Args:
        env: the environments.
        horizon: steps of a whole episode; the returns of shorter ones, as at a staggered start, are not kept.
        films: takes pictures of what `plan` was called for, where there are no states to draw later.
    """

    def __init__(self, env: VectorEnv, horizon: int = 1, films: CandidateFilms | None = None) -> None:
        super().__init__(env)
        self.films = films
        self._horizon = horizon
        self.env_steps = 0
        self.seconds = 0.0  # spent in the environment's step
        self._states = state_reader(env)
        self._running_returns = np.zeros(env.num_envs)
        self._lengths = np.zeros(env.num_envs, dtype=np.int64)
        self._clear()

    def _clear(self) -> None:
        self._steps: list[tuple[Any, ...]] = []
        self._finished: list[float] = []

    def reset(self, **kwargs: Any) -> tuple[NDArray[Any], dict[str, Any]]:
        """Start new episodes; steps recorded so far are kept."""
        observations, info = self.env.reset(**kwargs)
        self._check_finite("observation", observations)
        self._observations = np.asarray(observations, dtype=np.float32)
        self._starts = np.ones(self.num_envs, dtype=np.bool_)
        self._running_returns[:] = 0
        self._lengths[:] = 0
        return observations, info

    def step(self, actions: NDArray[Any]) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Step the environments and remember what they did.

        Raises:
            NumericalError: an observation or reward is not finite.
        """
        state = self._states() if self._states else (None, None)
        if self.films is not None:
            self.films.look(len(self._steps))
        began = time.perf_counter()
        observations, rewards, terminations, truncations, info = self.env.step(actions)
        self.seconds += time.perf_counter() - began
        self.env_steps += self.num_envs
        self._check_finite("observation", observations)
        self._check_finite("reward", rewards)
        if "_final_obs" in info:
            self._check_finite("last observation", np.stack(info["final_obs"][info["_final_obs"]]), info["_final_obs"])

        encoded = encode_actions(self.single_action_space, actions)
        true_rewards = np.array(rewards, dtype=np.float32)
        after = observations_after(observations, info)
        self._steps.append((self._observations, after, encoded, true_rewards, self._starts, *state))
        self._running_returns += rewards
        self._lengths += 1
        self._starts = np.logical_or(terminations, truncations)
        if self._starts.any():
            whole = self._starts & (self._lengths >= self._horizon)
            self._finished.extend(self._running_returns[whole].tolist())
            self._running_returns[self._starts] = 0
            self._lengths[self._starts] = 0
        self._observations = np.asarray(observations, dtype=np.float32)
        return observations, rewards, terminations, truncations, info

    def _check_finite(self, name: str, values: NDArray[Any], which: NDArray[np.bool_] | None = None) -> None:
        """Refuse NaN, infinity and what becomes infinite in single precision; `which` environments the rows are of."""
        values = np.asarray(values).reshape(len(values), -1)
        finite = np.abs(values) <= np.finfo(np.float32).max
        if not finite.all():
            row, entry = np.argwhere(~finite)[0]
            bad, value = row if which is None else np.flatnonzero(which)[row], values[row, entry]
            raise NumericalError(
                f"{name} of environment {bad} is {value} (entry {entry}) after {self.env_steps} steps; "
                "mend the environment, the run stops here"
            )

    def state(self) -> dict[str, Any]:
        """Where the episodes are, between two rollouts."""
        assert not self._steps, "a checkpoint is taken between rollouts"
        return {
            "observations": self._observations,
            "starts": self._starts,
            "running_returns": self._running_returns.copy(),
            "lengths": self._lengths.copy(),
            "env_steps": self.env_steps,
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Undo `state`."""
        self._observations, self._starts = state["observations"], state["starts"]
        self._running_returns, self._lengths = state["running_returns"].copy(), state["lengths"].copy()
        self.env_steps = state["env_steps"]

    def take(self) -> Rollout:
        """All steps since the last call."""
        observations, after, actions, rewards, starts, qpos, qvel = zip(*self._steps, strict=True)
        rollout = Rollout(
            np.stack(observations),
            np.stack(after),
            np.stack(actions),
            np.stack(rewards),
            np.stack(starts),
            np.stack(qpos) if self._states else None,
            np.stack(qvel) if self._states else None,
            self.env_steps,
            tuple(self._finished),
            self.films.take(np.stack(starts)) if self.films is not None else None,
        )
        self._clear()
        return rollout
