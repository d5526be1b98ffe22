from __future__ import annotations

import sys
from pathlib import Path

import gymnasium
import numpy as np
import probes  # noqa: F401  registers its environments
import pytest
from gymnasium.vector import AutoresetMode

from prefrl.environments import FixedHorizon, resolve_environment
from prefrl.errors import UserError
from prefrl.simulation import MujocoVectorEnv
from prefrl.tasks import TASKS


@pytest.mark.parametrize(
    ("name", "horizon", "actions"),
    [("Pendulum-v1", 200, np.zeros((2, 1), np.float32)), ("MountainCar-v0", 200, np.ones(2, np.int64))],
)
def test_any_gymnasium_id_works_with_continuous_and_discrete_actions(
    name: str, horizon: int, actions: np.ndarray
) -> None:
    spec = resolve_environment(name)
    assert (spec.horizon, spec.task) == (horizon, None)
    env = spec.make(2)
    assert env.metadata["autoreset_mode"] == AutoresetMode.SAME_STEP
    single = gymnasium.make(name)
    observations, _ = env.reset(seed=4)
    np.testing.assert_array_equal(observations[0], single.reset(seed=4)[0])
    for _ in range(3):
        observations, rewards, *_ = env.step(actions)
        observation, reward, *_ = single.step(actions[0])
        np.testing.assert_array_equal(observations[0], observation)
        assert rewards[0] == reward
    env.close()


def test_tasks_run_on_the_fast_simulation_by_name_and_by_id() -> None:
    for name in ("reacher", "prefrl/Reacher-v0"):
        spec = resolve_environment(name)
        assert (spec.name, spec.task, spec.horizon) == ("reacher", TASKS["reacher"], 50)
        env = spec.make(2)
        assert isinstance(env.unwrapped, MujocoVectorEnv)
        env.close()


def test_gymnasiums_own_mujoco_environments_work_where_they_do_not_end_early() -> None:
    env = resolve_environment("HalfCheetah-v5").make(1)
    assert env.reset(seed=0)[0].shape == (1, 17)
    env.close()


def test_a_module_is_imported_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_robots.py").write_text(
        "import gymnasium\ngymnasium.register('Mine-v0', entry_point='probes:Action', max_episode_steps=9)\n"
    )
    spec = resolve_environment("my_robots:Mine-v0")
    assert spec.horizon == 9
    assert spec.make(2).reset(seed=0)[0].shape == (2, 1)


# The horizon.


def episode_lengths(name: str, horizon: int | None, steps: int) -> list[int]:
    env = resolve_environment(name, horizon).make(1)
    env.reset(seed=0)
    lengths, length = [], 0
    for _ in range(steps):
        _, _, terminations, truncations, _ = env.step(np.zeros((1, 1), np.float32))
        length += 1
        assert not terminations[0], "a fixed length is a time limit and no end"
        if truncations[0]:
            lengths.append(length)
            length = 0
    return lengths


def test_episodes_last_as_long_as_the_environment_says_or_as_the_user_says() -> None:
    assert episode_lengths("probes/AlwaysOne-v0", None, 50) == [16] * 3
    assert episode_lengths("probes/AlwaysOne-v0", 7, 50) == [7] * 7
    assert episode_lengths("probes/AlwaysOne-v0", 24, 50) == [24] * 2, "longer than its own limit"
    assert episode_lengths("probes/Endless-v0", 10, 50) == [10] * 5
    assert resolve_environment("hopper", 300).make(1).unwrapped.max_episode_steps == 300  # type: ignore[attr-defined]


def test_without_a_known_horizon_one_is_asked_for() -> None:
    with pytest.raises(UserError, match=r"Endless-v0 has no time limit.*--horizon N"):
        resolve_environment("probes/Endless-v0")


@pytest.mark.parametrize("horizon", [0, 1])
def test_a_horizon_needs_two_steps(horizon: int) -> None:
    with pytest.raises(UserError, match=f"horizon of {horizon} steps"):
        resolve_environment("hopper", horizon)


def test_an_early_end_is_refused_with_the_reason_and_the_way_out() -> None:
    env = resolve_environment("probes/EndsEarly-v0").make(1)
    env.reset(seed=0)
    for _ in range(4):
        env.step(np.zeros((1, 1), np.float32))
    with pytest.raises(UserError, match=r"EndsEarly-v0 ended an episode after 5 of 16 steps.*--horizon 16") as refusal:
        env.step(np.zeros((1, 1), np.float32))
    assert "tells the reward" in str(refusal.value)


def test_with_a_horizon_an_early_end_is_filled_up_by_staying_there_for_nothing() -> None:
    env = resolve_environment("probes/EndsEarly-v0", 8).make(1)
    env.reset(seed=0)
    seen = [env.step(np.zeros((1, 1), np.float32)) for _ in range(8)]
    assert [float(observations[0, 0]) for observations, *_ in seen[:7]] == [1, 2, 3, 4, 5, 5, 5]
    assert [float(rewards[0]) for _, rewards, *_ in seen] == [0, 1, 2, 3, 4, 0, 0, 0]
    assert [bool(truncations[0]) for *_, truncations, _ in seen] == [False] * 7 + [True]
    assert float(seen[-1][4]["final_obs"][0][0]) == 5, "the last observation of the episode"
    assert float(seen[-1][0][0, 0]) == 0, "the first of the next"


def test_an_end_at_the_horizon_itself_is_no_early_end() -> None:
    env = FixedHorizon(gymnasium.make("probes/EndsEarly-v0", max_episode_steps=-1), horizon=5, absorb=False)
    env.reset(seed=0)
    *_, last = [env.step(np.zeros(1, np.float32)) for _ in range(5)]
    assert last[2:4] == (False, True)


# Refusals.


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("hoper", "unknown task 'hoper'"),
        ("Pendulum-v7", "unknown task 'Pendulum-v7'"),
        ("no such thing", "unknown task 'no such thing'"),
        ("no_such_module:X-v0", "No module named 'no_such_module'"),
        ("probes:probes/Nope-v0", "unknown task 'probes:probes/Nope-v0'"),
        (":X-v0", "unknown task ':X-v0'"),
    ],
)
def test_unknown_environments_are_refused(name: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as refusal:
        resolve_environment(name)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("probe", "message"),
    [
        ("Image", "image observations are not supported"),
        ("Dictionary", "FlattenObservation"),
        ("TwoActions", "only flat Box and Discrete actions"),
        ("Unbounded", "unbounded actions"),
        ("CountsFromOne", "counts its actions from 1"),
    ],
)
def test_spaces_that_are_not_supported_are_refused(probe: str, message: str) -> None:
    with pytest.raises(UserError, match=f"{probe}-v0 .*{message}"):
        resolve_environment(f"probes/{probe}-v0").make(2)


def test_what_gymnasium_cannot_make_is_refused() -> None:
    gymnasium.register("probes/Uninstalled-v0", entry_point="no_such_module:Env", max_episode_steps=5)
    with pytest.raises(UserError, match=r"cannot make probes/Uninstalled-v0: No module named 'no_such_module'"):
        resolve_environment("probes/Uninstalled-v0").make(2)
