"""Step many MuJoCo simulations at once, on all cores.

Takes a robots.Robot and a true reward; produces batches for rollouts.py. `mj_step` releases Python's lock, so plain
threads over one `MjData` each reach the simulator's own speed, and the arithmetic stays gymnasium's to the bit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import mujoco
import numpy as np
from gymnasium import spaces
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from prefrl.errors import UserError
from prefrl.robots import Robot
from prefrl.threads import available_cores
from prefrl.true_rewards import Transition


class MujocoVectorEnv(VectorEnv):
    """n copies of a robot with a fixed horizon, stepped by threads.

    Every episode is truncated after `horizon` steps and restarts in the same step; `info["final_obs"]` (n, obs_dim)
    then holds the episodes' last observations, valid where `info["_final_obs"]` (n,) is true, and
    `info["final_qpos"]`, `info["final_qvel"]` their last exact states.

    Args:
        robot: body, start noise and observation.
        true_reward: pays each step from exact states.
        num_envs: copies.
        max_episode_steps: the horizon.
        threads: cores to use; all by default.
        stagger: end the first episode of environment i early, after (i + 1) / num_envs of the horizon. Otherwise all
            environments are in the same phase of their episodes for ever, and so is every batch cut from them.

    Attributes:
        qpos, qvel: (n, nq) and (n, nv) exact states now. New arrays every step, so they can be kept without a copy.
    """

    def __init__(
        self,
        robot: Robot,
        true_reward: Callable[[Transition], NDArray[np.float64]],
        num_envs: int,
        max_episode_steps: int,
        threads: int | None = None,
        stagger: bool = False,
    ) -> None:
        self._pool: ThreadPoolExecutor | None = None
        if num_envs < 1 or max_episode_steps < 1:
            raise UserError(f"{num_envs} environments of {max_episode_steps} steps; both must be at least 1")
        reference = robot.make()
        self.robot, self.true_reward = robot, true_reward
        self.model: mujoco.MjModel = reference.model
        self.frame_skip: int = reference.frame_skip
        self.dt: float = reference.dt
        self._start_qpos, self._start_qvel = reference.init_qpos.copy(), reference.init_qvel.copy()
        self.num_envs, self.max_episode_steps, self.stagger = num_envs, max_episode_steps, stagger
        self.single_observation_space: spaces.Box = reference.observation_space
        self.single_action_space: spaces.Box = reference.action_space
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.metadata = {**reference.metadata, "autoreset_mode": AutoresetMode.SAME_STEP}
        reference.close()

        self._data = [mujoco.MjData(self.model) for _ in range(num_envs)]
        self._ctrl = [data.ctrl for data in self._data]
        # Each simulation's qpos, qvel and extras, as views into MuJoCo's own memory, gathered once per step.
        self._views = [
            [data.qpos for data in self._data],
            [data.qvel for data in self._data],
            *(
                zip(*(robot.extra_views(self.model, data) for data in self._data), strict=True)
                if robot.extra_views
                else ()
            ),
        ]
        self._rngs = [np.random.default_rng() for _ in range(num_envs)]
        self._age = np.zeros(num_envs, dtype=np.int64)
        self._started = False
        threads = min(threads or available_cores(), num_envs)
        self._chunks = [range(num_envs)[i::threads] for i in range(threads)]
        if threads > 1:
            self._pool = ThreadPoolExecutor(threads - 1)

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float64], dict[str, Any]]:
        """Start all episodes; environment i is seeded with seed + i, as gymnasium's vector environments are."""
        if seed is not None or not self._started:
            seeds = (
                [None if seed is None else seed + i for i in range(self.num_envs)]
                if seed is None or isinstance(seed, int | np.integer)
                else list(seed)
            )
            self._rngs = [seeding.np_random(None if s is None else int(s))[0] for s in seeds]
        self._started = True
        for i in range(self.num_envs):
            self._restart(i)
        if self.stagger:
            self._age = (
                self.max_episode_steps - self.max_episode_steps * np.arange(1, self.num_envs + 1) // self.num_envs
            )
        self._gather()
        return self._observe(), {}

    def step(
        self, actions: NDArray[np.floating]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]]:
        """Advance every simulation by `frame_skip` substeps; see gymnasium.vector.VectorEnv.step."""
        before = self.qpos
        actions = np.asarray(actions)
        others = [self._pool.submit(self._advance, chunk, actions) for chunk in self._chunks[1:]] if self._pool else []
        self._advance(self._chunks[0], actions)
        for other in others:
            other.result()
        self._gather()
        observations = self._observe()
        rewards = self.true_reward(Transition(before, self.qpos, self.qvel, observations, actions, self.dt))

        self._age += 1
        truncations = self._age >= self.max_episode_steps
        info: dict[str, Any] = {}
        if truncations.any():
            info = {"final_obs": observations, "_final_obs": truncations}
            info |= {"final_qpos": self.qpos, "final_qvel": self.qvel}
            for i in np.flatnonzero(truncations).tolist():
                self._restart(i)
            self._gather()
            observations = self._observe()
        return observations, rewards, np.zeros(self.num_envs, dtype=np.bool_), truncations, info

    def state(self) -> dict[str, Any]:
        """Everything that the next steps depend on: physics with the solver's warm start, ages, random generators."""
        size = mujoco.mj_stateSize(self.model, mujoco.mjtState.mjSTATE_INTEGRATION)
        physics = np.empty((self.num_envs, size))
        for row, data in zip(physics, self._data, strict=True):
            mujoco.mj_getState(self.model, data, row, mujoco.mjtState.mjSTATE_INTEGRATION)
        return {"physics": physics, "age": self._age.copy(), "rngs": [rng.bit_generator.state for rng in self._rngs]}

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from what `state` returned: the same actions then lead to the same states, bit for bit."""
        for i, (row, data) in enumerate(zip(state["physics"], self._data, strict=True)):
            mujoco.mj_setState(self.model, data, row, mujoco.mjtState.mjSTATE_INTEGRATION)
            self._rngs[i].bit_generator.state = state["rngs"][i]
        self._age = state["age"].copy()
        self._started = True
        self._gather()

    def _advance(self, chunk: range, actions: NDArray[np.floating]) -> None:
        model, frame_skip, step = self.model, self.frame_skip, mujoco.mj_step
        for i in chunk:
            self._ctrl[i][:] = actions[i]
            step(model, self._data[i], frame_skip)

    def _restart(self, i: int) -> None:
        data = self._data[i]
        mujoco.mj_resetData(self.model, data)
        data.qpos[:], data.qvel[:] = self.robot.start_state(self._rngs[i], self._start_qpos, self._start_qvel)
        mujoco.mj_forward(self.model, data)
        self._age[i] = 0

    def _gather(self) -> None:
        self.qpos, self.qvel, *extras = (np.array(views) for views in self._views)
        self._extra = np.concatenate(extras, axis=1) if extras else self.qpos

    def _observe(self) -> NDArray[np.float64]:
        return self.robot.observe(self.qpos, self.qvel, self._extra)

    def close_extras(self, **kwargs: Any) -> None:
        """Stop the threads."""
        if self._pool:
            self._pool.shutdown()


def make_task_vector_env(
    task: str,
    num_envs: int,
    max_episode_steps: int,
    threads: int | None = None,
    stagger: bool = False,
    render_mode: str | None = None,
) -> MujocoVectorEnv:
    """What `gymnasium.make_vec("prefrl/Hopper-v0", num_envs)` calls."""
    from prefrl.tasks import get_task

    if render_mode is not None:
        raise UserError(f"render_mode={render_mode!r}: the vector environment does not render; see prefrl.clips")
    row = get_task(task)
    return MujocoVectorEnv(row.robot, row.true_reward, num_envs, max_episode_steps, threads, stagger)
