from __future__ import annotations

import io
import json
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import probes  # noqa: F401  registers its environments
import pytest
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv, VectorRewardWrapper
from probes import HORIZON
from stable_baselines3 import PPO
from stable_baselines3.common.policies import ActorCriticPolicy

from prefrl.agent import Agent, CentredRewards, SB3VecEnv
from prefrl.environments import resolve_environment
from prefrl.errors import UserError
from prefrl.options import PPOOptions
from prefrl.policy import NormalisedPolicy, SavedPolicy

SMALL = PPOOptions(num_envs=4, num_steps=32, batch_size=64, epochs=2, hidden=(16, 16))


def make_agent(name: str, options: PPOOptions = SMALL, total_steps: int = 1024, seed: int = 0) -> Agent:
    return Agent(resolve_environment(name).make(options.num_envs), options, total_steps, seed)


def trained_agent(name: str, **changes: Any) -> Agent:
    """Two iterations, with observation statistics that are far from 0 and 1."""
    agent = make_agent(name, replace(SMALL, **changes))
    size = agent._env.observation_space.shape[0]  # type: ignore[index]
    for k in range(2):
        agent.set_observation_statistics(np.linspace(-2, 3, size) + k, np.linspace(0.2, 4, size))
        agent.collect()
        agent.learn()
    return agent


def raw_observations(name: str, count: int = 50) -> np.ndarray:
    env = resolve_environment(name).make(count)
    env.reset(seed=9)
    env.action_space.seed(0)
    observations = env.step(env.action_space.sample())[0]
    env.close()
    return np.asarray(observations, np.float32)


# The exported policy.


@pytest.mark.parametrize("name", ["hopper", "MountainCar-v0", "probes/DiscreteAction-v0"])
def test_the_exported_zip_acts_as_the_agent_on_raw_observations(tmp_path: Path, name: str) -> None:
    agent = trained_agent(name)
    agent.save(tmp_path / "policy.zip")
    plain, observations = PPO.load(tmp_path / "policy.zip", device="cpu"), raw_observations(name)
    actions, expected = plain.predict(observations, deterministic=True)[0], agent.act(observations)
    np.testing.assert_allclose(actions, expected, atol=2e-5)
    saved = SavedPolicy(tmp_path / "policy.zip", plain.observation_space, plain.action_space, agent.options.hidden)
    np.testing.assert_allclose(saved.act(observations), expected, atol=2e-5)
    # All of it: the actions' spread and the values too.
    both = [policy.policy for policy in (plain, agent._ppo)]
    with torch.no_grad():
        values, probabilities = zip(
            *(
                (
                    policy.predict_values(torch.from_numpy(observations)),
                    policy.get_distribution(torch.from_numpy(observations)),
                )
                for policy in both
            ),
            strict=True,
        )
        torch.testing.assert_close(values[0], values[1], rtol=1e-3, atol=1e-4)
        chosen = torch.as_tensor(expected)
        torch.testing.assert_close(*(p.log_prob(chosen) for p in probabilities), rtol=1e-3, atol=1e-3)
    assert plain.num_timesteps == agent.env_steps == 256


def test_the_exported_zip_opens_without_this_package(tmp_path: Path) -> None:
    agent = trained_agent("hopper")
    agent.save(tmp_path / "policy.zip")
    observations = raw_observations("hopper", 3)
    np.save(tmp_path / "observations.npy", observations)
    code = (
        "import sys; sys.modules['prefrl'] = None\n"
        "import json, numpy as np; from stable_baselines3 import PPO\n"
        "policy = PPO.load('policy.zip', device='cpu')\n"
        "print(json.dumps(policy.predict(np.load('observations.npy'), deterministic=True)[0].tolist()))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    np.testing.assert_allclose(json.loads(done.stdout), agent.act(observations), atol=2e-5)


def test_the_exported_zip_says_how_it_was_trained(tmp_path: Path) -> None:
    agent = trained_agent("hopper", gamma=0.97, gae_lambda=0.9, clip_range=0.3, learning_rate=1e-3)
    agent.save(tmp_path / "policy.zip")
    plain = PPO.load(tmp_path / "policy.zip", device="cpu")
    assert (plain.gamma, plain.gae_lambda, plain.lr_schedule(1.0)) == (0.97, 0.9, 1e-3)
    assert callable(plain.clip_range)
    assert plain.clip_range(1.0) == 0.3
    assert (plain.n_steps, plain.batch_size, plain.n_epochs) == (32, 64, 2)


def test_saving_changes_nothing(tmp_path: Path) -> None:
    actions = []
    for save in (False, True):
        agent = trained_agent("hopper")
        if save:
            agent.save(tmp_path / "policy.zip")
        agent.collect()
        agent.learn()
        actions.append(agent.act(raw_observations("hopper")))
    np.testing.assert_array_equal(actions[0], actions[1])


def test_a_target_kl_ends_the_passes_early() -> None:
    """Gradient steps taken in two iterations, by the optimiser's own count."""

    def taken(target_kl: float | None) -> int:
        optimiser = trained_agent("hopper", target_kl=target_kl)._ppo.policy.optimizer
        return int(next(iter(optimiser.state.values()))["step"])

    every = 2 * SMALL.epochs * SMALL.num_envs * SMALL.num_steps // SMALL.batch_size
    assert taken(None) == taken(1.0) == every
    assert 0 < taken(1e-6) < every


@pytest.mark.parametrize("bonus", [0.0, 0.01])
def test_the_policy_computes_what_stable_baselines3_does_bit_for_bit(bonus: float) -> None:
    agent = trained_agent("hopper", entropy_bonus=bonus)
    policy, observations = agent._ppo.policy, torch.from_numpy(raw_observations("hopper"))
    assert isinstance(policy, NormalisedPolicy)
    results = []
    for kind in (NormalisedPolicy, ActorCriticPolicy):
        torch.manual_seed(3)
        actions, values, log_probabilities = kind.forward(policy, observations)
        again = kind.evaluate_actions(policy, observations, actions.detach() + 0.1)
        entropy = again[2]
        assert entropy is not None
        policy.zero_grad()
        (again[0].square().mean() + again[1].mean() + bonus * entropy.mean()).backward()
        gradients = [weights.grad.clone() for weights in kind.parameters(policy) if weights.grad is not None]
        results.append(([actions, values, log_probabilities, *again[:2], *gradients], entropy.mean()))
    (ours, entropy), (theirs, expected) = results
    assert len(ours) == len(theirs) == 5 + 13
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-6 if bonus else 0)
    torch.testing.assert_close(entropy, expected)


# Time-outs.


def test_a_time_out_is_bootstrapped_by_the_value_of_the_final_observation() -> None:
    """Every reward is the step's number, and the final observation, 16, tells it from the 0 of the next episode."""
    agent = make_agent("probes/Age-v0", replace(SMALL, gamma=0.9, centre_rewards=False, normalise_returns=False))
    agent.set_observation_statistics(np.array([8.0]), np.array([5.0]))
    agent.collect()
    buffer = agent._ppo.rollout_buffer
    age = buffer.observations[:, :, 0]
    with torch.no_grad():
        value = agent._ppo.policy.predict_values(torch.tensor([[float(HORIZON)]])).item()
    expected = age + np.where(age == HORIZON - 1, 0.9 * value, 0.0)
    np.testing.assert_allclose(buffer.rewards, expected, atol=1e-5)
    assert abs(value) > 1e-4, "so that the bootstrap shows"


def test_what_always_pays_one_is_worth_one_over_one_minus_gamma_beyond_the_horizon() -> None:
    """16 steps of 1 are worth 8.1 at γ 0.9; the time-out's bootstrap makes it 10, from the first to the last step."""
    options = replace(
        SMALL,
        gamma=0.9,
        centre_rewards=False,
        normalise_returns=False,
        learning_rate=1e-2,
        final_learning_rate=1e-2,
        epochs=10,
    )
    agent = make_agent("probes/AlwaysOne-v0", options)
    for _ in range(20):
        agent.collect()
        agent.learn()
    with torch.no_grad():
        value = agent._ppo.policy.predict_values(torch.zeros(1, 1)).item()
    assert value == pytest.approx(10, abs=0.7)


# The adapter.


def test_the_adapter_hands_over_final_observations_and_time_outs() -> None:
    env = SB3VecEnv(resolve_environment("probes/Age-v0").make(2), seed=0)
    assert env.reset().tolist() == [[0], [0]]
    for _ in range(HORIZON - 1):
        env.step_async(np.zeros((2, 1)))
        observations, rewards, dones, infos = env.step_wait()
        assert not dones.any()
        assert infos == [{}, {}]
    env.step_async(np.zeros((2, 1)))
    observations, rewards, dones, infos = env.step_wait()
    assert observations.tolist() == [[0], [0]], "of the new episode"
    assert rewards.tolist() == [HORIZON - 1] * 2
    assert dones.tolist() == [True, True]
    assert [info["terminal_observation"].tolist() for info in infos] == [[HORIZON]] * 2
    assert [info["TimeLimit.truncated"] for info in infos] == [True, True]


def test_the_final_observation_of_a_task_is_the_last_state_and_not_the_next_start() -> None:
    spec = resolve_environment("reacher", 3)
    env, plain = SB3VecEnv(spec.make(2), seed=0), spec.make(2)
    env.reset()
    plain.reset(seed=np.random.SeedSequence(0).generate_state(2).tolist())
    for step in range(3):
        plain.action_space.seed(step)
        actions = plain.action_space.sample()
        env.step_async(actions)
        observations, _, _, infos = env.step_wait()
        after, _, _, _, info = plain.step(actions)
    for i in range(2):
        np.testing.assert_array_equal(infos[i]["terminal_observation"], info["final_obs"][i].astype(np.float32))
        assert not np.allclose(infos[i]["terminal_observation"], observations[i])
    np.testing.assert_array_equal(observations, after.astype(np.float32))


def test_an_end_that_is_no_time_out_is_not_bootstrapped() -> None:
    plain = gymnasium.make_vec(
        "probes/EndsEarly-v0",
        num_envs=1,
        vectorization_mode="sync",
        vector_kwargs={"autoreset_mode": gymnasium.vector.AutoresetMode.SAME_STEP},
    )
    env = SB3VecEnv(plain, seed=0)
    env.reset()
    for _ in range(5):
        env.step_async(np.zeros((1, 1)))
        _, _, dones, infos = env.step_wait()
    assert dones.all()
    assert infos[0]["TimeLimit.truncated"] is False


def test_the_rewards_that_stable_baselines3_writes_into_are_its_own() -> None:
    class KeepsRewards(gymnasium.vector.VectorWrapper):
        def step(self, actions: Any) -> Any:
            observations, rewards, *rest = self.env.step(actions)
            self.rewards = np.asarray(rewards, np.float32)  # as predicted ones are
            return observations, self.rewards, *rest

    inner = KeepsRewards(resolve_environment("probes/Age-v0").make(2))
    env = SB3VecEnv(inner, seed=0)
    env.reset()
    env.step_async(np.zeros((2, 1)))
    _, rewards, _, _ = env.step_wait()
    rewards += 100
    assert inner.rewards.tolist() == [0, 0]


def test_next_step_autoreset_is_refused() -> None:
    with pytest.raises(UserError, match="SameStep"):
        SB3VecEnv(SyncVectorEnv([lambda: gymnasium.make("Pendulum-v1")]))


def test_the_seed_starts_the_first_episodes_and_no_later_ones() -> None:
    env = SB3VecEnv(resolve_environment("reacher").make(2), seed=3)
    first, second = env.reset(), env.reset()
    seeds = np.random.SeedSequence(3).generate_state(2).tolist()
    np.testing.assert_array_equal(first, resolve_environment("reacher").make(2).reset(seed=seeds)[0].astype(np.float32))
    assert not np.array_equal(first, second)


# Training.


def test_step_count_and_schedules_run_on_through_all_iterations() -> None:
    options = replace(
        SMALL, learning_rate=1e-3, final_learning_rate=2e-4, entropy_bonus=0.01, final_entropy_bonus=0.002
    )
    agent = make_agent("hopper", options, total_steps=4 * 128)
    rates, bonuses, steps = [], [], []
    for _ in range(4):
        agent.collect()
        steps.append(agent.env_steps)
        agent.learn()
        rates.append(agent._ppo.policy.optimizer.param_groups[0]["lr"])
        bonuses.append(agent._ppo.ent_coef)
    assert steps == [128, 256, 384, 512]
    np.testing.assert_allclose(rates, [8e-4, 6e-4, 4e-4, 2e-4])
    np.testing.assert_allclose(bonuses, [8e-3, 6e-3, 4e-3, 2e-3])
    agent.collect()
    agent.learn()
    assert agent._ppo.ent_coef == 2e-3, "an iteration that ends after the run has the last one's"


def test_an_entropy_bonus_keeps_more_action_noise() -> None:
    def deviation(bonus: float, last: float | None) -> float:
        options = replace(SMALL, learning_rate=1e-2, entropy_bonus=bonus, final_entropy_bonus=last)
        agent = make_agent("probes/AlwaysOne-v0", options, total_steps=5 * 128)
        for _ in range(5):
            agent.collect()
            diagnostics = agent.learn()
        return diagnostics["std"]

    assert deviation(0.1, 0.0) > 1.1 * deviation(0.0, None)
    assert deviation(0.0, 0.1) > 1.1 * deviation(0.0, None)


def test_collecting_goes_on_with_the_episodes_where_it_stopped() -> None:
    agent = make_agent("probes/Age-v0", replace(SMALL, num_steps=10, batch_size=40))
    agent.collect()
    agent.collect()
    ages = agent._ppo.rollout_buffer.observations[:, 0, 0]
    assert ages.tolist() == [10, 11, 12, 13, 14, 15, 0, 1, 2, 3]


def test_the_same_seed_trains_the_same_policy_and_another_does_not() -> None:
    observations = raw_observations("hopper")
    actions = []
    for seed in (0, 0, 1):
        agent = make_agent("hopper", seed=seed)
        for _ in range(2):
            agent.collect()
            agent.learn()
        actions.append(agent.act(observations).tobytes())
    assert actions[0] == actions[1] != actions[2]


def test_diagnostics_are_there_for_continuous_and_discrete_actions() -> None:
    expected = {"approx_kl", "clip_fraction", "entropy", "explained_variance", "value_loss"}
    for name, names in (("hopper", expected | {"std"}), ("probes/DiscreteAction-v0", expected)):
        agent = make_agent(name)
        agent.collect()
        learnt = agent.learn()
        assert set(learnt) == names
        assert np.isfinite(list(learnt.values())).all()


@pytest.mark.parametrize(("name", "half_range"), [("hopper", 1.0), ("pendulum", 3.0), ("Pendulum-v1", 2.0)])
def test_action_noise_starts_in_units_of_half_the_range(name: str, half_range: float) -> None:
    agent = make_agent(name, replace(SMALL, initial_log_deviation=-1.0))
    drawn = np.exp(agent._ppo.policy.log_std.detach().numpy())
    np.testing.assert_allclose(drawn, half_range * np.exp(-1), rtol=1e-5)


def test_actions_are_within_the_space() -> None:
    agent = make_agent("hopper", replace(SMALL, initial_log_deviation=2.0))
    observations = raw_observations("hopper")
    assert np.abs(agent.act(observations, deterministic=False)).max() == 1.0
    assert agent.act(observations).shape == (50, 3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_envs": 0}, "at least 1"),
        ({"num_steps": 0}, "at least 1"),
        ({"epochs": 0}, "at least 1"),
        ({"batch_size": 1}, "PPO batch of 1"),
        ({"num_envs": 8, "num_steps": 8, "batch_size": 65}, "PPO batch of 65 exceeds the 64 steps"),
        ({"gamma": 1.01}, r"gamma 1\.01"),
        ({"entropy_bonus": -0.01}, "entropy bonus"),
        ({"final_entropy_bonus": float("nan")}, "entropy bonus of nan"),
        ({"gae_lambda": -0.1}, r"gae-lambda -0\.1"),
        ({"hidden": ()}, "hidden"),
        ({"learning_rate": 0.0}, "learning rate"),
        ({"clip_range": 0.0}, "clip range"),
        ({"target_kl": 0.0}, r"target KL 0\.0 is not a number above 0"),
    ],
)
def test_impossible_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        PPOOptions(**options)


def test_a_saved_policy_executes_nothing_and_refuses_what_is_no_policy(tmp_path: Path) -> None:
    space = spaces.Box(-1, 1, (3,), np.float32)
    fired = tmp_path / "fired"

    class Bomb:
        def __reduce__(self) -> tuple[Any, tuple[str]]:
            return exec, (f"open({str(fired)!r}, 'w').close()",)

    weights = io.BytesIO()
    torch.save({"bomb": Bomb()}, weights)
    with zipfile.ZipFile(tmp_path / "hostile.zip", "w") as archive:
        archive.writestr("policy.pth", weights.getvalue())
    (tmp_path / "text.zip").write_text("no zip")
    for name in ("hostile.zip", "text.zip", "missing.zip"):
        with pytest.raises(UserError, match="does not hold this run's policy"):
            SavedPolicy(tmp_path / name, space, space, (8,))
    assert not fired.exists()


def test_environments_of_neighbouring_seeds_start_differently() -> None:
    first, second = (SB3VecEnv(resolve_environment("hopper").make(4), seed).reset() for seed in (0, 1))
    assert not any((row == other).all() for row in first for other in second)


# Reward centring.


class Pays(VectorEnv[Any, Any, Any]):
    """Two environments that pay these rewards, (T, 2)."""

    metadata = {"autoreset_mode": AutoresetMode.SAME_STEP}
    num_envs = 2
    single_observation_space = single_action_space = spaces.Box(-1, 1, (1,))

    def __init__(self, rewards: np.ndarray) -> None:
        self.payments = iter(rewards)

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        return np.zeros((2, 1)), next(self.payments), np.zeros(2, np.bool_), np.zeros(2, np.bool_), {}


def centred(rewards: np.ndarray) -> tuple[CentredRewards, np.ndarray]:
    """What is made of these rewards, (T, 2)."""
    env = CentredRewards(SB3VecEnv(Pays(rewards)))
    return env, np.stack([env.step(np.zeros((2, 1)))[1] for _ in rewards])


def test_the_mean_of_all_rewards_so_far_is_subtracted() -> None:
    rewards = np.random.default_rng(0).normal(-3.0, 2.0, (50, 2)).astype(np.float32)
    _, seen = centred(rewards)
    for t in range(50):
        np.testing.assert_allclose(seen[t], rewards[t] - rewards[: t + 1].mean(), atol=1e-5)


def test_old_rewards_fade_from_the_mean(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("prefrl.agent.CENTRING_STEPS", 20)
    rewards = np.concatenate([np.full((100, 2), -9.0), np.full((100, 2), 1.0)]).astype(np.float32)
    env, seen = centred(rewards)
    # Of 20 steps each pair of new ones is a tenth: what is left of the old mean falls by a tenth a time.
    np.testing.assert_allclose(env.mean, 1.0 - 10.0 * 0.9**100, atol=1e-5)
    np.testing.assert_allclose(seen[100], [9.0, 9.0], atol=1e-4)


def test_the_environments_own_rewards_stay_as_they_are() -> None:
    rewards = np.ones((3, 2), np.float32)
    centred(rewards)
    np.testing.assert_array_equal(rewards, np.ones((3, 2)))


def test_a_constant_added_to_every_reward_changes_nothing_that_is_learnt() -> None:
    class Shifted(VectorRewardWrapper):
        def rewards(self, reward: Any) -> Any:
            return reward - 40.0

    def after(shifted: bool, centre: bool) -> np.ndarray:
        env: Any = resolve_environment("probes/Observation-v0").make(4)
        agent = Agent(Shifted(env) if shifted else env, replace(SMALL, centre_rewards=centre), 1024, 0)
        for _ in range(3):
            agent.collect()
            agent.learn()
        return agent.act(np.linspace(-1, 1, 9, dtype=np.float32)[:, None])

    moved, moved_uncentred = (np.abs(after(True, centre) - after(False, centre)).max() for centre in (True, False))
    assert moved < moved_uncentred / 50


def test_a_changed_reward_is_centred_anew() -> None:
    agent = trained_agent("hopper")
    assert agent._centred is not None
    assert agent._centred.count == 256
    agent.restart_return_statistics()
    assert (agent._centred.mean, agent._centred.count) == (0.0, 0)
