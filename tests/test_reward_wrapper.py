from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import probes  # noqa: F401  registers its environments
import pytest
import torch
from stable_baselines3 import A2C, SAC

from prefrl.environments import resolve_environment
from prefrl.errors import UserError
from prefrl.reward_model import RewardEnsemble
from prefrl.reward_wrapper import PredictedReward, VectorPredictedReward
from prefrl.rollouts import encode_actions
from prefrl.segments import When

REACHER = (10, 2)  # observations and actions


def make_predictor(
    observations: int = REACHER[0], actions: int = REACHER[1], observation: When = "before"
) -> RewardEnsemble:
    """A predictor whose statistics all matter."""
    ensemble = RewardEnsemble(observations, actions, members=3, seed=3, observation=observation)
    ensemble.set_observation_statistics(np.linspace(-1, 1, observations), np.linspace(0.5, 2, observations))
    ensemble.normalise_rewards_over(torch.tensor([[0.0, 1.0], [2.0, 6.0], [-1.0, 1.0]]))
    return ensemble


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "predictor.safetensors"
    make_predictor().save(path)
    return path


@pytest.mark.parametrize("when", ["before", "after", "both"])
def test_one_environments_reward_is_that_of_an_observation_and_the_action(when: When, tmp_path: Path) -> None:
    predictor = make_predictor(observation=when)
    predictor.save(saved := tmp_path / "predictor.safetensors")
    plain, wrapped = gymnasium.make("prefrl/Reacher-v0"), PredictedReward(gymnasium.make("prefrl/Reacher-v0"), saved)
    before, _ = plain.reset(seed=0)
    np.testing.assert_array_equal(wrapped.reset(seed=0)[0], before)
    plain.action_space.seed(0)
    for _ in range(60):
        action = plain.action_space.sample()
        observation, true_reward, _, truncated, _ = plain.step(action)
        seen, reward, _, ended, info = wrapped.step(action)
        np.testing.assert_array_equal(seen, observation)
        seen_by = {"before": before, "after": observation, "both": np.concatenate([before, observation])}[when]
        assert reward == pytest.approx(float(predictor.predict(seen_by[None], action[None])[0]), abs=1e-6)
        assert info["true_reward"] == true_reward
        assert ended == truncated
        before = observation
        if truncated:
            before, _ = plain.reset()
            wrapped.reset()


@pytest.mark.parametrize("when", ["before", "after", "both"])
def test_many_environments_are_paid_as_each_alone_also_across_resets(when: When) -> None:
    horizon = 6
    predictor = make_predictor(observation=when)
    many = VectorPredictedReward(resolve_environment("reacher", horizon).make(2), predictor)
    ones = [PredictedReward(gymnasium.make("prefrl/Reacher-v0", max_episode_steps=horizon), predictor) for _ in "ab"]
    many.reset(seed=5)
    for i, one in enumerate(ones):
        one.reset(seed=5 + i)
    for step in range(20):
        many.action_space.seed(step)
        actions = many.action_space.sample()
        _, rewards, _, truncations, info = many.step(actions)
        assert rewards.dtype == np.float32
        for i, one in enumerate(ones):
            _, reward, _, truncated, single_info = one.step(actions[i])
            assert rewards[i] == pytest.approx(reward, abs=1e-6)
            assert info["true_reward"][i] == single_info["true_reward"]
            if truncated:
                one.reset()
        assert truncations.all() == ((step + 1) % horizon == 0)


def test_predicted_reward_array_is_not_aliased() -> None:
    """Stable-Baselines3 adds γ·V(terminal) into the array that it gets."""
    runs = []
    for meddle in (False, True):
        env = VectorPredictedReward(resolve_environment("reacher").make(3), make_predictor())
        env.reset(seed=0)
        seen = []
        arrays: list[Any] = []
        for step in range(4):
            env.action_space.seed(step)
            observations, rewards, _, _, info = env.step(env.action_space.sample())
            seen += [rewards.copy(), info["true_reward"].copy(), observations.copy()]
            assert not any(np.shares_memory(rewards, array) for array in arrays), "fresh at each step"
            assert not np.shares_memory(rewards, info["true_reward"])
            arrays.append(rewards)
            if meddle:
                rewards += 1000
        runs.append(seen)
    for calm, meddled in zip(*runs, strict=True):
        np.testing.assert_array_equal(calm, meddled)


def test_discrete_actions_reach_the_predictor_one_hot() -> None:
    predictor = make_predictor(1, 3)
    env = PredictedReward(gymnasium.make("probes/DiscreteAction-v0"), predictor)
    observation, _ = env.reset(seed=0)
    for action in range(3):
        one_hot = np.eye(3, dtype=np.float32)[[action]]
        assert encode_actions(env.action_space, np.array([action])).tolist() == one_hot.tolist()
        assert env.step(action)[1] == pytest.approx(float(predictor.predict(observation[None], one_hot)[0]))


def test_a_predictor_of_another_environment_is_refused(saved: Path) -> None:
    with pytest.raises(UserError, match=r"10 observations and 2 actions.*has 11 and 3"):
        PredictedReward(gymnasium.make("prefrl/Hopper-v0"), saved)
    with pytest.raises(UserError, match=r"10 observations and 2 actions.*has 11 and 3"):
        VectorPredictedReward(resolve_environment("hopper").make(2), saved)


def test_the_wrapped_environment_can_be_made_again_from_its_spec(saved: Path) -> None:
    env = PredictedReward(gymnasium.make("prefrl/Reacher-v0"), saved)
    assert env.spec is not None
    again = gymnasium.make(env.spec)
    action = np.ones(2, np.float32)
    rewards = []
    for one in (env, again):
        one.reset(seed=0)
        rewards.append(one.step(action)[1])
    assert rewards[0] == rewards[1]


# As in the README: any Stable-Baselines3 algorithm on an environment wrapped with a saved predictor.


def test_a2c_trains_on_the_predicted_reward(saved: Path) -> None:
    env = PredictedReward(gymnasium.make("prefrl/Reacher-v0", max_episode_steps=1000), saved)
    agent = A2C("MlpPolicy", env, n_steps=40, seed=0, device="cpu").learn(200)
    buffer = agent.rollout_buffer
    actions = np.clip(buffer.actions.reshape(40, 2), -1, 1)
    expected = make_predictor().predict(buffer.observations.reshape(40, 10), actions)
    np.testing.assert_allclose(buffer.rewards[:, 0], expected, atol=1e-5)


def test_sac_trains_on_the_predicted_reward(saved: Path) -> None:
    env = PredictedReward(gymnasium.make("prefrl/Reacher-v0"), saved)
    agent = SAC("MlpPolicy", env, learning_starts=150, buffer_size=200, policy_kwargs={"net_arch": [32]}, seed=0)
    agent.learn(200)
    buffer = agent.replay_buffer
    assert buffer is not None
    expected = make_predictor().predict(buffer.observations[:200, 0], buffer.actions[:200, 0])
    np.testing.assert_allclose(buffer.rewards[:200, 0], expected, atol=1e-5)
    assert agent._n_updates > 0
