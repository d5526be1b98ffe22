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
    """The furthest backward turn in the clip, in revolutions, less for the part of it that was done lying down.

    The furthest turn is the largest between any two moments, so that an attempt that falls back counts as far as it
    got. Turning in the air is worth all of it, over the foot alone (a take-off or a landing) seven tenths, with the
    body on the floor three tenths; the turn is multiplied by the mean worth of whatever turned backwards in it. A clip
    that turns further forwards than that, all in all, is worth minus its forward turn.
    """
    qpos = _states(segment)
    turned = backward_revolutions(qpos)
    climbed = turned - np.minimum.accumulate(turned)
    end = int(climbed.argmax())
    start = int(turned[: end + 1].argmin())
    forwards = turned[0] - turned[-1]
    if end == start or forwards > climbed[end]:
        return float(-forwards)
    steps = np.maximum(np.diff(turned[start : end + 1]), 0.0)
    qpos = qpos[start + 1 : end + 1]
    body_down = touches_floor(HOPPER, qpos, HOPPER_BODY).any(axis=-1)
    airborne = (planar_kinematics(HOPPER).lowest_points(qpos) > 0.01).all(axis=-1)
    worth = np.where(body_down, 0.3, np.where(airborne, 1.0, 0.7))
    return float(climbed[end] * (worth * steps).sum() / steps.sum())


def judge_one_leg(segment: Segment) -> float:
    """Metres moved forward if the front foot and shin stay off the floor throughout; otherwise a tenth of them."""
    qpos = _states(segment)
    moved = float(qpos[-1, 0] - qpos[0, 0])
    down = touches_floor(CHEETAH, qpos, ONE_LEG_GEOMS).any()
    return moved if not down or moved < 0 else 0.1 * moved
