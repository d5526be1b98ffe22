"""Where a planar robot's limbs are, for whole batches of exact states.

Reads qpos from simulation.py or a stored Segment; used by true_rewards.py, measures.py and oracles/judges.py.
The hopper, walker and cheetah move in the x-z plane on hinges about y, so NumPy can do in one pass over a
batch what `mj_kinematics` does state by state.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import mujoco
import numpy as np
from numpy.typing import NDArray

from prefrl.robots import Robot

# Metres; nearer counts as touching. MuJoCo makes contacts from 2 mm for the hopper (the geoms' margins, summed) and
# from 0 for walker and cheetah; a limb that bears weight is pressed below either.
FLOOR_MARGIN = 0.001


def _angle_about_y(quaternion: NDArray[np.float64]) -> float:
    """Rotation angle of a quaternion (w, 0, y, 0)."""
    w, x, y, z = quaternion
    if abs(x) > 1e-9 or abs(z) > 1e-9:
        raise ValueError(f"not a planar model: quaternion {quaternion} turns about more than the y axis")
    return 2.0 * float(np.arctan2(y, w))


class PlanarKinematics:
    """Heights of a planar robot's capsules above the floor."""

    def __init__(self, model: mujoco.MjModel) -> None:
        self.model = model
        self.geoms = [
            mujoco.mj_id2name(model, mujoco.mjtObj.mjOBJ_GEOM, g)
            for g in range(model.ngeom)
            if model.geom_type[g] == mujoco.mjtGeom.mjGEOM_CAPSULE
        ]

    def lowest_points(self, qpos: NDArray[np.float64], geoms: Sequence[str] | None = None) -> NDArray[np.float64]:
        """Height of the lowest point of each capsule.

        Args:
            qpos: (..., nq) exact positions.
            geoms: capsule names; all of them by default (`self.geoms` gives the order).

        Returns:
            (..., len(geoms)) metres above the floor; below FLOOR_MARGIN means touching.
        """
        model = self.model
        heights, angles = self._body_frames(np.asarray(qpos))
        lowest = []
        for name in self.geoms if geoms is None else geoms:
            g = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_GEOM, name)
            if g < 0:
                raise ValueError(f"no geom {name!r} in the model; it has {', '.join(self.geoms)}")
            body = model.geom_bodyid[g]
            angle = angles[body]
            x, _, z = model.geom_pos[g]
            centre = heights[body] - x * np.sin(angle) + z * np.cos(angle)
            tilt = angle + _angle_about_y(model.geom_quat[g])
            radius, half_length = model.geom_size[g][:2]
            lowest.append(centre - half_length * np.abs(np.cos(tilt)) - radius)
        return np.stack(lowest, axis=-1)

    def _body_frames(self, qpos: NDArray[np.float64]) -> tuple[list[NDArray], list[NDArray]]:
        """Height (m) and pitch (rad) of every body's frame, each (...,)."""
        model = self.model
        zero = np.zeros(qpos.shape[:-1])
        heights: list[NDArray] = [zero]
        angles: list[NDArray] = [zero]
        for body in range(1, model.nbody):
            parent = model.body_parentid[body]
            x, _, z = model.body_pos[body]
            height = heights[parent] - x * np.sin(angles[parent]) + z * np.cos(angles[parent])
            angle = angles[parent] + _angle_about_y(model.body_quat[body])
            first = model.body_jntadr[body]
            for joint in range(first, first + model.body_jntnum[body]):
                axis_x, axis_y, axis_z = model.jnt_axis[joint]
                address = model.jnt_qposadr[joint]
                moved = qpos[..., address] - model.qpos0[address]
                if model.jnt_type[joint] == mujoco.mjtJoint.mjJNT_SLIDE:
                    height = height + moved * (axis_z * np.cos(angle) - axis_x * np.sin(angle))
                else:
                    anchor_x, _, anchor_z = model.jnt_pos[joint]
                    anchor = height - anchor_x * np.sin(angle) + anchor_z * np.cos(angle)
                    angle = angle + axis_y * moved
                    height = anchor + anchor_x * np.sin(angle) - anchor_z * np.cos(angle)
            heights.append(height)
            angles.append(angle)
        return heights, angles


@lru_cache
def planar_kinematics(robot: Robot) -> PlanarKinematics:
    """The kinematics of a planar robot."""
    return PlanarKinematics(robot.make().model)


def touches_floor(robot: Robot, qpos: NDArray[np.float64], geoms: Sequence[str]) -> NDArray[np.bool_]:
    """Whether each named capsule touches the floor: (..., nq) -> (..., len(geoms))."""
    return planar_kinematics(robot).lowest_points(qpos, geoms) < FLOOR_MARGIN
