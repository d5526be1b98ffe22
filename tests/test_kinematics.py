from __future__ import annotations

from typing import Any

import mujoco
import numpy as np
import pytest
from numpy.typing import NDArray

from prefrl.kinematics import PlanarKinematics, planar_kinematics, touches_floor
from prefrl.robots import CHEETAH, HOPPER, WALKER, Robot
from prefrl.tasks import TASKS, load_model

EVERY_PLANAR = pytest.mark.parametrize("robot", [HOPPER, WALKER, CHEETAH], ids=lambda robot: robot.base_id)


def random_poses(model: mujoco.MjModel, count: int) -> NDArray[np.float64]:
    """(count, nq), turned any way, some partly below the floor."""
    rng = np.random.default_rng(0)
    qpos = model.qpos0 + rng.uniform(-1.5, 1.5, (count, model.nq))
    qpos[:, 1] = model.qpos0[1] + rng.uniform(-0.8, 0.6, count)
    qpos[:, 2] = rng.uniform(-7, 7, count)
    return np.asarray(qpos)


def placed(model: mujoco.MjModel, qpos: NDArray[np.float64]) -> Any:
    """MuJoCo's own kinematics and contacts for one pose."""
    data = mujoco.MjData(model)
    data.qpos[:] = qpos
    mujoco.mj_forward(model, data)
    return data


@EVERY_PLANAR
def test_lowest_points_equal_those_of_mujocos_kinematics(robot: Robot) -> None:
    kinematics = planar_kinematics(robot)
    model = kinematics.model
    poses = random_poses(model, 300)
    ours = kinematics.lowest_points(poses)
    for qpos, lowest in zip(poses, ours, strict=True):
        data = placed(model, qpos)
        for name, height in zip(kinematics.geoms, lowest, strict=True):
            geom = data.geom(name)
            radius, half_length = model.geom(name).size[:2]
            assert height == pytest.approx(geom.xpos[2] - abs(geom.xmat[8]) * half_length - radius, abs=1e-12)


@EVERY_PLANAR
def test_a_limb_touches_the_floor_when_mujoco_makes_a_contact(robot: Robot) -> None:
    kinematics = planar_kinematics(robot)
    model, geoms = kinematics.model, kinematics.geoms
    floor = model.geom("floor").id
    poses = random_poses(model, 300)
    ours, heights = touches_floor(robot, poses, geoms), kinematics.lowest_points(poses)
    assert 0.05 < ours.mean() < 0.95
    for qpos, touching, lowest in zip(poses, ours, heights, strict=True):
        pairs = [{int(contact.geom1), int(contact.geom2)} for contact in placed(model, qpos).contact]
        down = [{floor, model.geom(name).id} in pairs for name in geoms]
        # Within 3 mm of the floor it depends on the model's contact margins.
        clear = np.abs(lowest) > 0.003
        assert (touching == down)[clear].all()


def test_poses_come_in_any_batch_shape_and_limbs_in_the_order_asked() -> None:
    kinematics = planar_kinematics(HOPPER)
    poses = random_poses(kinematics.model, 6)
    every = kinematics.lowest_points(poses)
    assert kinematics.lowest_points(poses.reshape(2, 3, -1)).tobytes() == every.tobytes()
    assert kinematics.lowest_points(poses[0]).shape == (4,)
    swapped = kinematics.lowest_points(poses, ["foot_geom", "torso_geom"])
    columns = [kinematics.geoms.index("foot_geom"), kinematics.geoms.index("torso_geom")]
    np.testing.assert_array_equal(swapped, every[:, columns])


def test_what_is_not_planar_or_not_there_is_refused() -> None:
    with pytest.raises(ValueError, match="no geom 'tail'"):
        planar_kinematics(HOPPER).lowest_points(np.zeros(6), ["tail"])
    ant = PlanarKinematics(load_model(TASKS["ant"]))
    with pytest.raises(ValueError, match="not a planar model"):
        ant.lowest_points(ant.model.qpos0)
