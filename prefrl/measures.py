"""Did it work? Success measures counted from exact states, never from reward.

tasks.py names one per task; evaluation.py applies it to whole episodes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from prefrl.kinematics import planar_kinematics, touches_floor
from prefrl.robots import CHEETAH, HOPPER
from prefrl.true_rewards import ONE_LEG_GEOMS, double_pendulum_tip

Array = NDArray[np.float64]

HOPPER_FOOT = "foot_geom"
HOPPER_BODY = ("torso_geom", "thigh_geom", "leg_geom")
START_TILT = 0.02  # revolutions


def distance(qpos: Array, dt: float) -> dict[str, float]:
    """Mean forward speed.

    Args:
        qpos: (T, nq), exact states of one episode.
        dt: seconds per step.

    Returns:
        speed: metres per second along x.
    """
    return {"speed": float(qpos[-1, 0] - qpos[0, 0]) / ((len(qpos) - 1) * dt)}


def reach(qpos: Array, dt: float) -> dict[str, float]:
    """final_distance: mean metres between fingertip and target over the last half of the episode."""
    first, second = qpos[:, 0], qpos[:, 0] + qpos[:, 1]
    tip = np.stack([0.1 * np.cos(first) + 0.11 * np.cos(second), 0.1 * np.sin(first) + 0.11 * np.sin(second)], axis=1)
    away = np.linalg.norm(tip - qpos[:, 2:4], axis=1)
    return {"final_distance": float(away[len(away) // 2 :].mean())}


def upright(qpos: Array, dt: float) -> dict[str, float]:
    """upright: share of steps with the pole within 0.2 rad of upright."""
    return {"upright": float(np.mean(np.abs(qpos[:, 1]) <= 0.2))}


def tip_up(qpos: Array, dt: float) -> dict[str, float]:
    """upright: share of steps with the upper tip more than 1 m above the cart (1.2 m is straight up)."""
    return {"upright": float(np.mean(double_pendulum_tip(qpos)[1] > 1.0))}


def one_leg(qpos: Array, dt: float) -> dict[str, float]:
    """speed, front_leg_down (share of steps with the front foot or shin on the floor), and one_leg_speed.

    one_leg_speed is the true reward's rule: metres forward count only in steps that end with the front foot and shin
    off the floor, metres backward always. What else touches the floor, or touched it within the step, is not looked at.
    """
    down = touches_floor(CHEETAH, qpos[1:], ONE_LEG_GEOMS).any(axis=-1)
    moved = np.diff(qpos[:, 0])
    return {
        **distance(qpos, dt),
        "one_leg_speed": float(np.where(down, np.minimum(moved, 0.0), moved).sum()) / (len(moved) * dt),
        "front_leg_down": float(down.mean()),
    }


def backward_revolutions(qpos: Array) -> Array:
    """(T, 6) hopper states -> (T,) backward revolutions of the torso since upright; positive pitch is forward."""
    return -qpos[:, 2] / (2 * np.pi)


def backflip(qpos: Array, dt: float) -> dict[str, float]:
    """Turns and clean flips per 8 s, and the share of steps with more than the foot on the floor.

    A turn is one more full revolution of the torso backwards than ever before in the episode. A clean flip is a
    revolution from upright to upright in which nothing but the foot touches the floor and, in part of it, not
    even the foot.
    """
    eights = (len(qpos) - 1) * dt / 8.0
    body_down = np.any(touches_floor(HOPPER, qpos, HOPPER_BODY), axis=-1)
    airborne = np.all(planar_kinematics(HOPPER).lowest_points(qpos) > 0.01, axis=-1)
    turned = backward_revolutions(qpos)
    record = np.maximum.accumulate(turned - turned[0])
    spans = [slice(start, end + 1) for start, end in _upright_to_upright(turned)]
    clean = sum(1 for span in spans if airborne[span].any() and not body_down[span].any())
    return {
        "turns": float(np.floor(record[-1])) / eights,
        "clean_flips": clean / eights,
        "body_down": float(body_down.mean()),
    }


def _upright_to_upright(turned: Array) -> list[tuple[int, int]]:
    """Spans of steps in which the torso goes from upright through one backward revolution to upright again.

    Each starts at the last step at or before whole number m and ends at the first step at or after m + 1. An episode
    that starts within START_TILT past m starts upright too: the start noise alone is 0.001.
    """
    spans = []
    for m in range(int(np.ceil(turned.min() - START_TILT)), int(np.floor(turned.max()))):
        end = int(np.argmax(turned >= m + 1))
        before = np.flatnonzero(turned[:end] <= m)
        if len(before) or turned[0] - m <= START_TILT:
            spans.append((int(before[-1]) if len(before) else 0, end))
    return spans
