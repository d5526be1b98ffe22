"""The bodies behind the tasks: gymnasium's MuJoCo v5 robots, written for batches.

tasks.py names a Robot; simulation.py steps many of them. Model, frame skip and initial state are taken from
gymnasium's own environment; what is repeated here (start noise, observation) is tested to equal it to the bit.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import gymnasium
import mujoco
import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
# (generator, initial qpos, initial qvel) -> a starting qpos and qvel; draws in gymnasium's order
StartState = Callable[[np.random.Generator, Array, Array], tuple[Array, Array]]
# (n, nq), (n, nv), (n, extra) -> (n, obs_dim)
Observe = Callable[[Array, Array, Array], Array]
# Views into one simulation's memory that the observation needs beside qpos and qvel.
ExtraViews = Callable[[mujoco.MjModel, mujoco.MjData], tuple[Array, ...]]


@contextmanager
def quiet_about_model_files() -> Iterator[None]:
    """MuJoCo 4 warns that gymnasium's half-cheetah file uses a deprecated attribute; nobody here can mend that."""
    handler = mujoco.get_mju_user_warning()
    mujoco.set_mju_user_warning(lambda message: None if "deprecated" in message else print(message, file=sys.stderr))
    try:
        yield
    finally:
        mujoco.set_mju_user_warning(handler)


@dataclass(frozen=True, eq=False)
class Robot:
    """One gymnasium MuJoCo environment without its reward and ending."""

    base_id: str
    start_state: StartState
    observe: Observe
    extra_views: ExtraViews | None = None
    options: dict[str, Any] = field(default_factory=dict)  # keyword arguments of gymnasium.make

    def make(self, **kwargs: Any) -> Any:
        """Gymnasium's own environment, without its time limit and checkers."""
        with quiet_about_model_files():
            return gymnasium.make(self.base_id, disable_env_checker=True, **self.options, **kwargs).unwrapped


def uniform_start(scale: float) -> StartState:
    """Uniform noise of ± scale on positions and velocities."""

    def start(rng: np.random.Generator, qpos: Array, qvel: Array) -> tuple[Array, Array]:
        noisy_qpos = qpos + rng.uniform(low=-scale, high=scale, size=len(qpos))
        return noisy_qpos, qvel + rng.uniform(low=-scale, high=scale, size=len(qvel))

    return start


def gaussian_start(scale: float) -> StartState:
    """Uniform noise of ± scale on positions, Gaussian of that deviation on velocities."""

    def start(rng: np.random.Generator, qpos: Array, qvel: Array) -> tuple[Array, Array]:
        noisy_qpos = qpos + rng.uniform(low=-scale, high=scale, size=len(qpos))
        return noisy_qpos, qvel + scale * rng.standard_normal(len(qvel))

    return start


def reacher_start(rng: np.random.Generator, qpos: Array, qvel: Array) -> tuple[Array, Array]:
    """A slightly moved arm, and a target uniform in the disc of 0.2 m."""
    noisy_qpos = rng.uniform(low=-0.1, high=0.1, size=len(qpos)) + qpos
    while True:
        target = rng.uniform(low=-0.2, high=0.2, size=2)
        if np.linalg.norm(target) < 0.2:
            break
    noisy_qpos[-2:] = target
    noisy_qvel = qvel + rng.uniform(low=-0.005, high=0.005, size=len(qvel))
    noisy_qvel[-2:] = 0
    return noisy_qpos, noisy_qvel


def state_after(skip: int, clip: float | None = None) -> Observe:
    """Positions but the first `skip` (where the robot is), then velocities, clipped if asked."""

    def observe(qpos: Array, qvel: Array, extra: Array) -> Array:
        velocity = qvel if clip is None else np.clip(qvel, -clip, clip)
        return np.concatenate([qpos[:, skip:], velocity], axis=1)

    return observe


def observe_reacher(qpos: Array, qvel: Array, extra: Array) -> Array:
    """Joint cosines and sines, target, joint velocities, fingertip minus target."""
    joints = qpos[:, :2]
    tip_to_target = extra[:, :2] - extra[:, 3:5]
    return np.concatenate([np.cos(joints), np.sin(joints), qpos[:, 2:], qvel[:, :2], tip_to_target], axis=1)


def observe_double_pendulum(qpos: Array, qvel: Array, extra: Array) -> Array:
    """Cart position, pole sines and cosines, clipped velocities, force of the cart's constraint."""
    poles = qpos[:, 1:]
    return np.concatenate(
        [qpos[:, :1], np.sin(poles), np.cos(poles), np.clip(qvel, -10, 10), np.clip(extra, -10, 10)[:, :1]], axis=1
    )


HOPPER = Robot("Hopper-v5", uniform_start(5e-3), state_after(1, clip=10))
WALKER = Robot("Walker2d-v5", uniform_start(5e-3), state_after(1, clip=10))
CHEETAH = Robot("HalfCheetah-v5", gaussian_start(0.1), state_after(1))
SWIMMER = Robot("Swimmer-v5", uniform_start(0.1), state_after(2))
# Contact forces are 78 of v5's 105 numbers, cost a second pass over the dynamics and are zero most of the time.
ANT = Robot("Ant-v5", gaussian_start(0.1), state_after(2), options={"include_cfrc_ext_in_observation": False})
REACHER = Robot(
    "Reacher-v5",
    reacher_start,
    observe_reacher,
    extra_views=lambda model, data: (data.body("fingertip").xpos, data.body("target").xpos),
)
DOUBLE_PENDULUM = Robot(
    "InvertedDoublePendulum-v5",
    gaussian_start(0.1),
    observe_double_pendulum,
    extra_views=lambda model, data: (data.qfrc_constraint,),
)
PENDULUM = Robot("InvertedPendulum-v5", uniform_start(0.01), state_after(0))
