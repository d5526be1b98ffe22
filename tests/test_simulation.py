from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, VectorEnv
from numpy.typing import NDArray

from prefrl.errors import UserError
from prefrl.simulation import MujocoVectorEnv
from prefrl.tasks import TASKS, Task

TASK_NAMES = list(TASKS)


def make(task: str, num_envs: int = 3, horizon: int = 5, **options: Any) -> MujocoVectorEnv:
    env = gymnasium.make_vec(
        TASKS[task].gymnasium_id, num_envs=num_envs, max_episode_steps=horizon, **options
    ).unwrapped
    assert isinstance(env, MujocoVectorEnv)
    return env


def actions_for(env: VectorEnv, steps: int, seed: int = 0) -> NDArray[np.float32]:
    """(steps, n, action_dim), uniform over the space."""
    rng = np.random.default_rng(seed)
    space = env.action_space
    assert isinstance(space, gymnasium.spaces.Box)
    return rng.uniform(space.low, space.high, (steps, *space.low.shape)).astype(np.float32)


@pytest.fixture
def reacher() -> Iterator[MujocoVectorEnv]:
    env = make("reacher")
    yield env
    env.close()


def gymnasiums_own(task: Task) -> Any:
    """Gymnasium's v5 environment itself, in the task's settings."""
    return gymnasium.make(task.robot.base_id, disable_env_checker=True, **task.robot.options).unwrapped


@pytest.mark.parametrize("name", TASK_NAMES)
def test_a_thousand_steps_equal_gymnasiums_v5_to_the_bit(name: str) -> None:
    task, num_envs, steps, horizon = TASKS[name], 2, 1000, 400
    ours = make(name, num_envs, horizon)
    theirs = [gymnasiums_own(task) for _ in range(num_envs)]
    observations, _ = ours.reset(seed=7)
    for i, env in enumerate(theirs):
        assert env.reset(seed=7 + i)[0].tobytes() == observations[i].tobytes()

    for step, actions in enumerate(actions_for(ours, steps), start=1):
        observations, _, _, truncations, info = ours.step(actions)
        due = step % horizon == 0
        assert truncations.tolist() == [due] * num_envs
        last = info["final_obs"] if due else observations
        last_qpos, last_qvel = (info["final_qpos"], info["final_qvel"]) if due else (ours.qpos, ours.qvel)
        for i, env in enumerate(theirs):
            assert env.step(actions[i])[0].tobytes() == last[i].tobytes(), (step, i)
            assert env.data.qpos.tobytes() == last_qpos[i].tobytes()
            assert env.data.qvel.tobytes() == last_qvel[i].tobytes()
            if due:
                assert env.reset()[0].tobytes() == observations[i].tobytes(), "the start of the next episode"
                assert env.data.qpos.tobytes() == ours.qpos[i].tobytes()
    ours.close()


@pytest.mark.parametrize("name", TASK_NAMES)
def test_the_batch_pays_what_the_single_environment_pays(name: str) -> None:
    ours, single = make(name, 2, horizon=30), gymnasium.make(TASKS[name].gymnasium_id, max_episode_steps=30)
    ours.reset(seed=3)
    single.reset(seed=3)
    for actions in actions_for(ours, 60):
        _, rewards, terminations, truncations, _ = ours.step(actions)
        _, reward, terminated, truncated, _ = single.step(actions[0])
        assert rewards[0] == reward
        assert (terminations[0], truncations[0]) == (terminated, truncated)
        if truncated:
            single.reset()
    ours.close()


def test_the_number_of_threads_changes_nothing() -> None:
    trajectories = []
    for threads in (1, 3):
        env = make("walker", 5, threads=threads)
        first, _ = env.reset(seed=1)
        trajectories.append([first, *(a for actions in actions_for(env, 12) for a in env.step(actions)[:2])])
        env.close()
    for one, other in zip(*trajectories, strict=True):
        assert one.tobytes() == other.tobytes()


def test_an_episode_restarts_in_the_step_that_ends_it(reacher: MujocoVectorEnv) -> None:
    assert reacher.metadata["autoreset_mode"] == AutoresetMode.SAME_STEP
    reacher.reset(seed=0)
    *before, last = actions_for(reacher, 5)
    for actions in before:
        *_, info = reacher.step(actions)
        assert "final_obs" not in info
    observations, _, terminations, truncations, info = reacher.step(last)
    assert truncations.all()
    assert not terminations.any()
    assert info["_final_obs"].all()
    assert (np.abs(info["final_obs"] - observations).max(axis=1) > 0.01).all(), "last and first observation differ"
    # The first observation of the new episode belongs to the state that is stored for it.
    np.testing.assert_array_equal(observations[:, :2], np.cos(reacher.qpos[:, :2]))
    np.testing.assert_array_equal(info["final_obs"][:, :2], np.cos(info["final_qpos"][:, :2]))


def test_nothing_that_was_handed_out_changes_later(reacher: MujocoVectorEnv) -> None:
    reacher.reset(seed=0)
    kept = []
    for actions in actions_for(reacher, 7):
        observations, rewards, _, _, info = reacher.step(actions)
        arrays = [observations, rewards, reacher.qpos, reacher.qvel, *(v for v in info.values())]
        kept += [(array, array.copy()) for array in arrays]
    for array, copy in kept:
        np.testing.assert_array_equal(array, copy)


def test_a_seed_fixes_the_starts_and_each_environment_has_its_own(reacher: MujocoVectorEnv) -> None:
    one, _ = reacher.reset(seed=5)
    later, _ = reacher.reset()
    again, _ = reacher.reset(seed=5)
    shifted, _ = reacher.reset(seed=6)
    listed, _ = reacher.reset(seed=[5, 6, 7])
    np.testing.assert_array_equal(one, again)
    np.testing.assert_array_equal(one, listed)
    np.testing.assert_array_equal(one[1:], shifted[:-1])
    assert len(np.unique(np.concatenate([one, later]), axis=0)) == 6


def test_exact_states_are_those_that_observations_come_from() -> None:
    env = make("hopper")
    observations, _ = env.reset(seed=0)
    for actions in actions_for(env, 8):
        np.testing.assert_array_equal(observations[:, :5], env.qpos[:, 1:])
        np.testing.assert_array_equal(observations[:, 5:], np.clip(env.qvel, -10, 10))
        observations, *_ = env.step(actions)
    env.close()


def test_impossible_batches_are_refused() -> None:
    with pytest.raises(UserError, match="0 environments of 5 steps"):
        make("hopper", num_envs=0)
    with pytest.raises(UserError, match="3 environments of 0 steps"):
        make("hopper", horizon=0)
    with pytest.raises(UserError, match="does not render"):
        make("hopper", render_mode="rgb_array")
