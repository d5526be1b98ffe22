from __future__ import annotations

import subprocess
import sys
from typing import Any

import gymnasium
import mujoco
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env as check_by_gymnasium
from numpy.typing import NDArray
from stable_baselines3.common.env_checker import check_env as check_by_stable_baselines3

from prefrl.errors import UserError
from prefrl.kinematics import planar_kinematics
from prefrl.robots import CHEETAH
from prefrl.simulation import MujocoVectorEnv
from prefrl.tasks import TASKS, Task, get_task, load_model
from prefrl.true_rewards import Transition

EVERY_TASK = pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)


def test_the_table_has_the_papers_eight_tasks_and_two_behaviours() -> None:
    paper = "hopper walker swimmer cheetah ant reacher double-pendulum pendulum hopper-backflip cheetah-one-leg"
    assert sorted(TASKS) == sorted(paper.split())


def test_segments_last_the_papers_steps() -> None:
    steps = {name: task.segment_steps for name, task in TASKS.items()}
    assert steps == {
        **dict.fromkeys(["reacher", "pendulum", "double-pendulum"], 15),
        **dict.fromkeys(["cheetah", "ant", "cheetah-one-leg"], 30),
        "walker": 45,
        **dict.fromkeys(["hopper", "swimmer"], 60),
        "hopper-backflip": 120,  # twice the paper's: long enough for a whole flip
    }


def test_tasks_are_found_by_name_and_by_id_and_others_are_not() -> None:
    assert get_task("hopper") is get_task("prefrl/Hopper-v0") is TASKS["hopper"]
    with pytest.raises(UserError, match="unknown task 'hoper'"):
        get_task("hoper")


@EVERY_TASK
def test_both_environment_checkers_pass(task: Task) -> None:
    env = gymnasium.make(task.gymnasium_id)
    check_by_gymnasium(env.unwrapped, skip_render_check=True)
    check_by_stable_baselines3(env)
    env.close()


@EVERY_TASK
def test_the_vector_environment_is_the_fast_one_with_the_same_spaces(task: Task) -> None:
    vector, single = gymnasium.make_vec(task.gymnasium_id, num_envs=2), gymnasium.make(task.gymnasium_id)
    assert isinstance(vector.unwrapped, MujocoVectorEnv)
    assert vector.unwrapped.max_episode_steps == task.horizon
    assert vector.single_observation_space == single.observation_space
    assert vector.single_action_space == single.action_space
    observations, _ = vector.reset(seed=0)
    assert vector.observation_space.contains(observations)
    vector.close()


@EVERY_TASK
def test_no_episode_ends_before_its_horizon(task: Task) -> None:
    env = gymnasium.make(task.gymnasium_id)
    env.reset(seed=0)
    env.action_space.seed(0)
    ends = []
    for _ in range(task.horizon):
        *_, terminated, truncated, _ = env.step(env.action_space.sample())
        ends.append((terminated, truncated))
    assert ends == [(False, False)] * (task.horizon - 1) + [(False, True)]
    env.close()


@EVERY_TASK
def test_the_success_measure_is_among_the_measures_and_finite(task: Task) -> None:
    model = load_model(task)
    qpos = np.repeat(np.asarray(model.qpos0)[None], 20, axis=0)
    measured = task.measure(qpos, 0.01)
    assert task.success in measured
    assert all(np.isfinite(value) for value in measured.values())
    assert task.instruction.endswith(".")


def test_ids_are_known_in_a_fresh_process_by_naming_the_module() -> None:
    code = "import gymnasium; print(gymnasium.make('prefrl:prefrl/Reacher-v0').reset(seed=0)[0].shape)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "(10,)"


# True rewards, from gymnasium's own figures and MuJoCo's own kinematics.


def steps_of(task: Task, count: int = 200) -> list[tuple[Any, NDArray[np.float64], float, dict[str, Any]]]:
    """(MuJoCo data, observation and our reward after the step, info of gymnasium's own step), under random actions."""
    theirs = task.robot.make()
    theirs.reset(seed=0)
    theirs.action_space.seed(0)
    steps = []
    for _ in range(count):
        before, action = theirs.data.qpos.copy(), theirs.action_space.sample()
        observation, _, _, _, info = theirs.step(action)
        qpos, qvel = theirs.data.qpos.copy(), theirs.data.qvel.copy()
        after = Transition(before[None], qpos[None], qvel[None], observation[None], action[None], theirs.dt)
        # The step leaves positions of bodies at the substep before; kinematics brings them up to date.
        fresh = mujoco.MjData(theirs.model)
        fresh.qpos[:], fresh.qvel[:] = theirs.data.qpos, theirs.data.qvel
        mujoco.mj_forward(theirs.model, fresh)
        steps.append((fresh, observation, float(task.true_reward(after)[0]), {**info, "action": action}))
    theirs.close()
    return steps


@pytest.mark.parametrize(("name", "height", "offset"), [("hopper", 1, 0.0), ("walker", 1, -1.0), ("ant", 2, -1.2)])
def test_walkers_are_paid_velocity_and_height(name: str, height: int, offset: float) -> None:
    # Gymnasium takes the ant's velocity from body positions, which lag by a substep.
    tolerance = 0.2 if name == "ant" else 1e-12
    for data, _, reward, info in steps_of(TASKS[name]):
        assert reward == pytest.approx(info["x_velocity"] + data.qpos[height] + offset, abs=tolerance)


@pytest.mark.parametrize("name", ["cheetah", "swimmer"])
def test_cheetah_and_swimmer_are_paid_gymnasiums_forward_reward(name: str) -> None:
    for _, _, reward, info in steps_of(TASKS[name]):
        assert reward == info["reward_forward"]


def test_the_reacher_is_paid_gymnasiums_distance_reward() -> None:
    for _, _, reward, info in steps_of(TASKS["reacher"]):
        assert reward == pytest.approx(info["reward_dist"], abs=1e-12)


def test_the_pendulum_is_paid_one_minus_angle_squared() -> None:
    for data, _, reward, _ in steps_of(TASKS["pendulum"]):
        assert reward == pytest.approx(1 - data.qpos[1] ** 2)


def test_the_double_pendulum_is_paid_gymnasiums_terms_at_the_tips_place_and_its_height() -> None:
    for data, _, reward, info in steps_of(TASKS["double-pendulum"]):
        x, _, height = data.site("tip").xpos
        expected = 10 - 0.01 * x**2 - (height - 2) ** 2 + info["velocity_penalty"] + 10 * (height - 1)
        assert reward == pytest.approx(expected, abs=1e-9)


def test_the_backflip_is_paid_the_blogs_reward() -> None:
    for _, ob, reward, info in steps_of(TASKS["hopper-backflip"]):
        backroll, height, backslide = -ob[7], ob[0], -ob[5]
        power = sum(info["action"][i] * ob[8 + i] for i in range(3))
        assert reward == pytest.approx(backroll * (1.0 + 0.3 * height + 0.1 * power + 0.05 * backslide))


def test_one_leg_earns_nothing_in_steps_that_end_with_the_front_leg_in_contact() -> None:
    seen = {True: 0, False: 0}
    for data, _, reward, info in steps_of(TASKS["cheetah-one-leg"], 400):
        names = {data.geom(int(geom)).name for contact in data.contact for geom in (contact.geom1, contact.geom2)}
        down = bool(names & {"ffoot", "fshin"})
        velocity = info["x_velocity"]
        if np.abs(planar_kinematics(CHEETAH).lowest_points(data.qpos, ["ffoot", "fshin"])).min() < 0.003:
            continue  # so near the floor it depends on the contact margin
        seen[down] += 1
        assert reward == (min(velocity, 0.0) if down else velocity)
    assert min(seen.values()) > 20
