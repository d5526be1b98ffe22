from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector import VectorEnv
from probes import HORIZON

from prefrl.environments import resolve_environment
from prefrl.errors import UserError
from prefrl.rollouts import Rollout, RolloutRecorder, action_dim, encode_actions, join, state_reader


def recorder_of(name: str, num_envs: int = 2, horizon: int | None = None, **options: Any) -> RolloutRecorder:
    env = RolloutRecorder(resolve_environment(name, horizon).make(num_envs, **options))
    env.reset(seed=0)
    return env


def sample(env: VectorEnv, seed: int = 0) -> Any:
    env.action_space.seed(seed)
    return env.action_space.sample()


def test_steps_hold_what_was_seen_before_each_action_and_what_it_earned() -> None:
    env, plain = recorder_of("reacher"), resolve_environment("reacher").make(2)
    seen, _ = plain.reset(seed=0)
    expected = []
    for k in range(70):
        actions = sample(env, k)
        state = plain.unwrapped.qpos, plain.unwrapped.qvel  # type: ignore[attr-defined]
        after, rewards, *_ = plain.step(actions)
        expected.append((seen, actions, rewards, *state))
        env.step(actions)
        seen = after
    rollout = env.take()
    for name, values in zip(
        ("observations", "actions", "rewards", "qpos", "qvel"), zip(*expected, strict=True), strict=True
    ):
        found = getattr(rollout, name)
        np.testing.assert_array_equal(found, np.stack(values).astype(found.dtype), err_msg=name)
    assert rollout.qpos is not None
    assert rollout.observations.dtype == np.float32
    assert rollout.qpos.dtype == np.float64
    assert rollout.env_steps == 140
    # Horizon 50: the first step of the second episode is the fifty-first.
    assert np.flatnonzero(rollout.episode_starts[:, 0]).tolist() == [0, 50]


def test_what_an_action_led_to_is_kept_at_the_end_of_an_episode_too() -> None:
    env = recorder_of("probes/Age-v0", num_envs=3)
    for _ in range(HORIZON + 2):
        env.step(sample(env))
    rollout = env.take()
    for e in range(3):
        assert rollout.observed("before")[:, e, 0].tolist() == [*range(HORIZON), 0, 1]
        assert rollout.observed("after")[:, e, 0].tolist() == [*range(1, HORIZON + 1), 1, 2]
    segment = join([rollout, rollout]).segment(HORIZON - 2, 1, 2)
    assert segment.observed("after").ravel().tolist() == [HORIZON - 1, HORIZON]


def test_rollouts_follow_each_other_without_a_gap() -> None:
    parts_of, whole_of = recorder_of("reacher"), recorder_of("reacher")
    parts = []
    for k in range(60):
        parts_of.step(sample(parts_of, k))
        whole_of.step(sample(whole_of, k))
        if k % 25 == 24:
            parts.append(parts_of.take())
    parts.append(parts_of.take())
    together, whole = join(parts), whole_of.take()
    assert [len(part.rewards) for part in parts] == [25, 25, 10]
    for name in ("observations", "next_observations", "actions", "rewards", "episode_starts", "qpos", "qvel"):
        np.testing.assert_array_equal(getattr(together, name), getattr(whole, name))
    assert together.episode_returns == whole.episode_returns
    assert together.env_steps == whole.env_steps


def test_returns_are_the_sums_of_whole_episodes() -> None:
    env = recorder_of("probes/Age-v0", num_envs=3)
    for _ in range(2 * HORIZON + 5):
        env.step(sample(env))
    rollout = env.take()
    assert rollout.episode_returns == (sum(range(HORIZON)),) * 6
    for _ in range(HORIZON):
        env.step(sample(env))
    assert env.take().episode_returns == (sum(range(HORIZON)),) * 3, "an episode across two rollouts counts once"


def test_a_staggered_start_spreads_the_ends_and_its_short_episodes_are_not_counted() -> None:
    env = RolloutRecorder(resolve_environment("reacher", 20).make(4, stagger=True), horizon=20)
    env.reset(seed=0)
    for k in range(44):
        env.step(sample(env, k))
    rollout = env.take()
    starts = [np.flatnonzero(rollout.episode_starts[:, e]).tolist() for e in range(4)]
    assert starts == [[0, 5, 25], [0, 10, 30], [0, 15, 35], [0, 20, 40]]
    whole = [
        rollout.rewards[a:b, e].sum() for e, a, b in [(3, 0, 20), (0, 5, 25), (1, 10, 30), (2, 15, 35), (3, 20, 40)]
    ]
    np.testing.assert_allclose(rollout.episode_returns, whole, rtol=1e-5)


def test_what_is_recorded_does_not_change_with_the_arrays_of_others() -> None:
    env = recorder_of("reacher")
    actions = sample(env)
    kept = actions.copy()
    _, rewards, *_ = env.step(actions)
    paid = rewards.copy()
    actions[:], rewards[:] = 9, 9
    rollout = env.take()
    np.testing.assert_array_equal(rollout.actions[0], kept)
    np.testing.assert_allclose(rollout.rewards[0], paid.astype(np.float32))


def test_exact_states_come_from_gymnasiums_own_mujoco_environments_too() -> None:
    env = recorder_of("HalfCheetah-v5", 2)
    for k in range(3):
        env.step(sample(env, k))
    rollout = env.take()
    assert rollout.qpos is not None
    assert rollout.qvel is not None
    np.testing.assert_array_equal(rollout.qpos[..., 1:].astype(np.float32), rollout.observations[..., :8])
    np.testing.assert_array_equal(rollout.qvel.astype(np.float32), rollout.observations[..., 8:])


def test_without_mujoco_there_are_no_states() -> None:
    env = recorder_of("Pendulum-v1")
    env.step(sample(env))
    rollout = env.take()
    assert rollout.qpos is rollout.qvel is None
    assert rollout.segment(0, 0, 1).qpos is None
    assert join([rollout, rollout]).qpos is None
    assert state_reader(env) is None


def test_discrete_actions_are_one_hot() -> None:
    space = spaces.Discrete(3)
    assert action_dim(space) == 3
    assert encode_actions(space, np.array([2, 0])).tolist() == [[0, 0, 1], [1, 0, 0]]
    env = recorder_of("probes/DiscreteAction-v0")
    env.step(np.array([2, 1]))
    assert env.take().actions[0].tolist() == [[0, 0, 1], [0, 1, 0]]


def test_continuous_actions_are_kept_as_sent() -> None:
    space = spaces.Box(-2, 2, (3,), np.float32)
    actions = np.array([[1.5, -2, 0]], np.float32)
    assert action_dim(space) == 3
    assert encode_actions(space, actions).tolist() == actions.tolist()


@pytest.mark.parametrize(
    ("probe", "message"),
    [
        ("NanObservation", r"observation of environment 0 is nan \(entry 0\) after 20 steps"),
        ("InfiniteReward", r"reward of environment 0 is inf \(entry 0\) after 20 steps"),
        ("Huge", r"observation of environment 0 is 1e\+300 \(entry 0\) after 20 steps"),
        ("NanAtTheEnd", r"last observation of environment 0 is nan \(entry 0\) after 32 steps"),
    ],
)
def test_numbers_that_are_not_finite_stop_the_run(probe: str, message: str) -> None:
    env = recorder_of(f"probes/{probe}-v0")
    steps = int(message.split()[-2]) // 2
    for _ in range(steps - 1):
        env.step(np.zeros((2, 1), np.float32))
    with pytest.raises(UserError, match=message):
        env.step(np.zeros((2, 1), np.float32))


def test_a_first_observation_that_is_not_finite_stops_the_run() -> None:
    class StartsBadly(gymnasium.Env[Any, Any]):
        observation_space = action_space = spaces.Box(-1, 1, (1,), np.float32)

        def reset(self, **_: Any) -> Any:
            return np.full(1, np.nan, np.float32), {}

    env = RolloutRecorder(gymnasium.vector.SyncVectorEnv([StartsBadly]))
    with pytest.raises(UserError, match=r"is nan \(entry 0\) after 0 steps"):
        env.reset()


def test_a_segment_is_the_asked_stretch_of_the_asked_environment() -> None:
    env = recorder_of("probes/Age-v0")
    for _ in range(10):
        env.step(sample(env))
    rollout: Rollout = env.take()
    segment = rollout.segment(3, 1, 4)
    assert segment.observations[:, 0].tolist() == segment.true_rewards.tolist() == [3, 4, 5, 6]
    assert segment.env_steps == 20
