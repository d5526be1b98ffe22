"""What each task truly pays per step, as functions of exact states.

Used by simulation.py for every step and by tasks.py's single environments. The predictor never sees these: they
are the synthetic oracle's yardstick and the baseline's reward.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from prefrl.kinematics import touches_floor
from prefrl.robots import CHEETAH

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Transition:
    """One step of n simulations."""

    qpos_before: Array  # (n, nq)
    qpos: Array  # (n, nq), after the step
    qvel: Array  # (n, nv), after the step
    observations: Array  # (n, obs_dim), after the step
    actions: NDArray[np.floating]  # (n, nu)
    dt: float  # seconds

    @property
    def x_velocity(self) -> Array:
        """(n,) metres per second of the root along x."""
        return (self.qpos[:, 0] - self.qpos_before[:, 0]) / self.dt


def forward(t: Transition) -> Array:
    """Cheetah and swimmer: x-velocity."""
    return t.x_velocity


def hopper(t: Transition) -> Array:
    """x-velocity + height."""
    return t.x_velocity + t.qpos[:, 1]


def walker(t: Transition) -> Array:
    """x-velocity + height - 1."""
    return t.x_velocity + t.qpos[:, 1] - 1.0


def ant(t: Transition) -> Array:
    """x-velocity + (height - 1.2)."""
    return t.x_velocity + (t.qpos[:, 2] - 1.2)


def reacher(t: Transition) -> Array:
    """Minus the distance from fingertip to target, in metres."""
    return -np.linalg.norm(t.observations[:, 8:10], axis=1)


def pendulum(t: Transition) -> Array:
    """1 - angle²: gymnasium's reward, paid whether or not the pole has fallen, and a penalty instead of the end."""
    return 1.0 - t.qpos[:, 1] ** 2


def double_pendulum_tip(qpos: Array) -> tuple[Array, Array]:
    """(..., 3) -> x and z of the upper pole's tip, in metres; each pole is 0.6 m long."""
    first, second = qpos[..., 1], qpos[..., 1] + qpos[..., 2]
    x = qpos[..., 0] + 0.6 * (np.sin(first) + np.sin(second))
    return x, 0.6 * (np.cos(first) + np.cos(second))


def double_pendulum(t: Transition) -> Array:
    """Gymnasium's reward, alive throughout, + 10·(tip height - 1)."""
    x, height = double_pendulum_tip(t.qpos)
    off_centre = 0.01 * x**2 + (height - 2.0) ** 2
    shaking = 1e-3 * t.qvel[:, 1] ** 2 + 5e-3 * t.qvel[:, 2] ** 2
    return 10.0 - off_centre - shaking + 10.0 * (height - 1.0)


def hopper_backflip(t: Transition) -> Array:
    """The blog's hand-coded reward: backroll · (1 + 0.3·height + 0.1·power + 0.05·backslide)."""
    ob = t.observations
    power = np.einsum("ij,ij->i", t.actions, ob[:, 8:11])
    return -ob[:, 7] * (1.0 + 0.3 * ob[:, 0] + 0.1 * power - 0.05 * ob[:, 5])


ONE_LEG_GEOMS = ("fshin", "ffoot")  # the front leg below the knee


def cheetah_one_leg(t: Transition) -> Array:
    """x-velocity, but nothing is earned in a step that ends with the front foot or shin on the floor."""
    down = touches_floor(CHEETAH, t.qpos, ONE_LEG_GEOMS).any(axis=-1)
    return np.where(down, np.minimum(t.x_velocity, 0.0), t.x_velocity)
