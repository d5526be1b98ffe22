"""Judges: score a whole segment as a person would see it, not as a sum of per-step rewards.

tasks.py names one per task that has it; oracles.synthetic compares the scores.
"""

from __future__ import annotations

import numpy as np

from prefrl.errors import UserError
from prefrl.kinematics import planar_kinematics, touches_floor
from prefrl.measures import HOPPER_BODY, backward_revolutions
from prefrl.robots import CHEETAH, HOPPER
from prefrl.segments import Segment
from prefrl.true_rewards import ONE_LEG_GEOMS


def _states(segment: Segment) -> np.ndarray:
    """(T, nq) exact states of a segment, without which no judge can see anything."""
    if segment.qpos is None:
        raise UserError("a judge looks at exact states and this segment has none; use --oracle.score reward")
    return segment.qpos


def judge_backflip(segment: Segment) -> float:
    """Backward revolutions, each part of them weighed by what touches the floor meanwhile.

    In the air a turn counts in full, on the foot alone half (a take-off or a landing), with the body on the floor a
    fifth: a roll beats lying still, so that there is something to start from, and a flip beats a roll. Turning
    forwards counts against, in full.
    """
    qpos = _states(segment)
    turned = np.diff(backward_revolutions(qpos))
    body_down = touches_floor(HOPPER, qpos[1:], HOPPER_BODY).any(axis=-1)
    airborne = (planar_kinematics(HOPPER).lowest_points(qpos[1:]) > 0.01).all(axis=-1)
    credit = np.where(body_down, 0.2, np.where(airborne, 1.0, 0.5))
    return float(np.where(turned > 0, credit * turned, turned).sum())


def judge_one_leg(segment: Segment) -> float:
    """Metres moved forward if the front foot and shin stay off the floor throughout; otherwise a tenth of them."""
    qpos = _states(segment)
    moved = float(qpos[-1, 0] - qpos[0, 0])
    down = touches_floor(CHEETAH, qpos, ONE_LEG_GEOMS).any()
    return moved if not down or moved < 0 else 0.1 * moved
