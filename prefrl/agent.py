"""The agent: Stable-Baselines3's PPO, which only this file and policy.py name.

Takes any gymnasium vector environment with same-step autoreset; the loop calls `collect` and `learn` in turn.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv
from numpy.typing import NDArray
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.running_mean_std import RunningMeanStd
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper, VecNormalize
from stable_baselines3.common.vec_env.base_vec_env import VecEnvObs, VecEnvStepReturn
from torch import Tensor, nn

from prefrl.checkpoint import State
from prefrl.errors import NumericalError, UserError
from prefrl.options import PPOOptions
from prefrl.policy import NormalisedObservations, NormalisedPolicy
from prefrl.threads import one_torch_thread
from prefrl.torch_state import arrays_to_tensors, load_optimiser_state, optimiser_state, tensors_to_arrays

CENTRING_STEPS = 100_000  # over which the reward's mean is taken


def _linear(first: float, last: float | None) -> Callable[[float], float]:
    """Of the share of the run that remains; below 0 in an iteration that ends after it."""
    end = first if last is None else last
    return lambda remaining: end + (first - end) * max(remaining, 0.0)


class SB3VecEnv(VecEnv):
    """The one adapter between gymnasium's vector environments and Stable-Baselines3's."""

    def __init__(self, env: VectorEnv, seed: int | None = None) -> None:
        mode = env.metadata.get("autoreset_mode")
        if mode != AutoresetMode.SAME_STEP:
            # Next-step autoreset feeds PPO one bogus transition per episode (cleanrl 475).
            raise UserError(
                f"autoreset mode {mode}; make the environment with vector_kwargs={{'autoreset_mode': 'SameStep'}}"
            )
        self.env, self._first_seed = env, seed
        super().__init__(env.num_envs, env.single_observation_space, env.single_action_space)

    def reset(self) -> NDArray[np.float32]:
        """Start all episodes, the first time from the seed."""
        # Seeds 0 and 1 would share all environments but one if environment i were seeded with seed + i.
        seeds = (
            None if self._first_seed is None else np.random.SeedSequence(self._first_seed).generate_state(self.num_envs)
        )
        observations, _ = self.env.reset(seed=None if seeds is None else seeds.tolist())
        self._first_seed = None
        return np.asarray(observations, dtype=np.float32)

    def seed_next_reset(self, seed: int) -> None:
        """Seed the environments at the next reset."""
        self._first_seed = seed

    def step_async(self, actions: NDArray[Any]) -> None:
        """Keep the actions for step_wait."""
        self._actions = actions

    def step_wait(self) -> Any:
        """Step; ended episodes carry their last observation, as Stable-Baselines3 expects."""
        observations, rewards, terminations, truncations, info = self.env.step(self._actions)
        infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        dones = np.logical_or(terminations, truncations)
        for i in np.flatnonzero(dones):
            infos[i]["terminal_observation"] = np.asarray(info["final_obs"][i], dtype=np.float32)
            infos[i]["TimeLimit.truncated"] = bool(truncations[i] and not terminations[i])
        # Copy: Stable-Baselines3 adds γ·V(terminal) into this array in place.
        return np.asarray(observations, dtype=np.float32), np.array(rewards, dtype=np.float32), dones, infos

    def close(self) -> None:
        """Close the environments."""
        self.env.close()

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        """One attribute of the whole batch, repeated for each environment."""
        return [getattr(self.env, attr_name, None)] * len(list(self._get_indices(indices)))

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        """Not supported: the environments live in one batch."""
        raise UserError(f"cannot set {attr_name!r} on single environments of a batch")

    def env_method(self, method_name: str, *args: Any, indices: Any = None, **kwargs: Any) -> list[Any]:
        """Not supported: the environments live in one batch."""
        raise UserError(f"cannot call {method_name!r} on single environments of a batch")

    def env_is_wrapped(self, wrapper_class: type, indices: Any = None) -> list[bool]:
        """Whether each environment has that Stable-Baselines3 wrapper: none has."""
        return [False] * len(list(self._get_indices(indices)))


class CentredRewards(VecEnvWrapper):
    """Subtract the reward's mean over recent steps (reward centring, Naik et al. 2024).

    A value function that bootstraps at the time limit has to learn the mean reward 1 / (1 - γ) times over before it
    tells one state from another: on reacher, paid -0.2 per step, PPO learnt next to nothing.
    """

    def __init__(self, venv: VecEnv) -> None:
        super().__init__(venv)
        self.mean, self.count = 0.0, 0

    def reset(self) -> VecEnvObs:
        """Start all episodes."""
        return self.venv.reset()

    def step_wait(self) -> VecEnvStepReturn:
        """Step; the rewards, (n,), are a fresh array."""
        observations, rewards, dones, infos = self.venv.step_wait()
        self.count = min(self.count + len(rewards), CENTRING_STEPS)
        self.mean += (float(rewards.mean()) - self.mean) * len(rewards) / self.count
        return observations, rewards - np.float32(self.mean), dones, infos


class _Continue(BaseCallback):
    """Stable-Baselines3 wants a callback; the loop decides when to stop."""

    def _on_step(self) -> bool:
        return True


class Agent:
    """PPO on a vector environment, one iteration at a time.

    Args:
        env: same-step autoreset; its reward is what the policy is trained on.
        options: PPO's settings.
        total_steps: environment steps of the whole run, for the schedules of learning rate and entropy bonus.
        seed: of the policy's weights, its action noise and the environments.

    Attributes:
        env_steps: steps taken so far.
    """

    def __init__(self, env: VectorEnv, options: PPOOptions, total_steps: int, seed: int) -> None:
        self.options, self._total_steps = options, total_steps
        self._env = SB3VecEnv(env, seed)
        self._entropy_bonus = _linear(options.entropy_bonus, options.final_entropy_bonus)
        self._arguments: dict[str, Any] = {
            "learning_rate": _linear(options.learning_rate, options.final_learning_rate),
            "n_steps": options.num_steps,
            "batch_size": options.batch_size,
            "n_epochs": options.epochs,
            "gamma": options.gamma,
            "gae_lambda": options.gae_lambda,
            "clip_range": options.clip_range,
            "target_kl": options.target_kl,
            "ent_coef": options.entropy_bonus,
            "max_grad_norm": options.max_grad_norm,
            "device": "cpu",
        }
        self._policy_arguments = {
            "net_arch": list(options.hidden),
            "log_std_init": options.initial_log_deviation,
            # Fused: one pass over all weights, where the default takes a hundred small steps for each update.
            "optimizer_kwargs": {"eps": 1e-5, "fused": True},
        }
        trained_on: VecEnv = self._env
        self._centred = CentredRewards(self._env) if options.centre_rewards else None
        if self._centred is not None:
            trained_on = self._centred
        if options.normalise_returns:
            # The value function's target scale decides whether it learns; see experiments/.
            trained_on = VecNormalize(trained_on, norm_obs=False, norm_reward=True, gamma=options.gamma)
        self._ppo = PPO(
            NormalisedPolicy,
            trained_on,
            policy_kwargs=self._policy_arguments,
            seed=seed,
            **self._arguments,
        )
        self._scale_noise(env.single_action_space)
        self._ppo.set_logger(Logger(folder=None, output_formats=[]))
        # Once for the whole run: a second set-up would restart step count and schedules (imitation PR 336).
        _, self._callback = self._ppo._setup_learn(total_steps, _Continue())

    def _scale_noise(self, actions: spaces.Space) -> None:
        """Noise that explores a range of 1 would hardly be felt in one of 100."""
        if isinstance(actions, spaces.Box) and actions.is_bounded():
            half_range = (actions.high.astype(np.float64) - actions.low).ravel() / 2
            log_deviation = self._ppo.policy.log_std
            assert isinstance(log_deviation, Tensor)
            with torch.no_grad():
                log_deviation.add_(torch.as_tensor(np.log(np.where(half_range > 0, half_range, 1.0))))

    @property
    def env_steps(self) -> int:
        """Environment steps taken so far."""
        return self._ppo.num_timesteps

    @one_torch_thread()
    def collect(self) -> None:
        """Act for one iteration: `num_envs` x `num_steps` environment steps."""
        ppo = self._ppo
        assert ppo.env is not None
        ppo.collect_rollouts(ppo.env, self._callback, ppo.rollout_buffer, ppo.n_steps)

    def _check_weights(self) -> None:
        for name, weights in self._ppo.policy.named_parameters():
            if not torch.isfinite(weights).all():
                raise NumericalError(
                    f"the policy's {name} holds NaN or infinity after {self.env_steps} steps; lower --ppo.learning-rate"
                )

    @one_torch_thread()
    def learn(self) -> dict[str, float]:
        """Update policy and value function on what `collect` brought; returns PPO's own diagnostics.

        Raises:
            NumericalError: a weight is not finite any more.
        """
        ppo = self._ppo
        ppo._update_current_progress_remaining(ppo.num_timesteps, self._total_steps)
        ppo.ent_coef = self._entropy_bonus(ppo._current_progress_remaining)
        try:
            ppo.train()
        except ValueError:  # torch refuses a distribution with NaN in it, and shows all of it
            self._check_weights()
            raise
        self._check_weights()
        logged = {name.removeprefix("train/"): value for name, value in ppo.logger.name_to_value.items()}
        ppo.logger.dump(ppo.num_timesteps)
        return {
            "approx_kl": float(logged["approx_kl"]),
            "clip_fraction": float(logged["clip_fraction"]),
            "entropy": -float(logged["entropy_loss"]),
            "explained_variance": float(logged["explained_variance"]),
            "value_loss": float(logged["value_loss"]),
            **({"std": float(logged["std"])} if "std" in logged else {}),
        }

    def restart_return_statistics(self) -> None:
        """Forget mean and spread of rewards so far, as when what they are made of has changed altogether."""
        env = self._ppo.env
        if self._centred is not None:
            self._centred.mean, self._centred.count = 0.0, 0
        if isinstance(env, VecNormalize):
            env.ret_rms = RunningMeanStd(shape=())
            env.returns = np.zeros(self._env.num_envs)

    def set_observation_statistics(self, mean: NDArray[np.floating], deviation: NDArray[np.floating]) -> None:
        """Normalise the policy's inputs by these, (obs_dim,) each; call between `learn` and the next `collect`."""
        extractor = self._ppo.policy.features_extractor
        assert isinstance(extractor, NormalisedObservations)
        extractor.mean.copy_(torch.as_tensor(mean))
        extractor.deviation.copy_(torch.as_tensor(np.where(deviation < 1e-6, 1.0, deviation)))

    def state(self) -> State:
        """Policy, value function, their optimiser, return statistics, and where the episodes are."""
        ppo = self._ppo
        state: State = {
            "policy": tensors_to_arrays(ppo.policy.state_dict()),
            "optimiser": optimiser_state(ppo.policy.optimizer),
            "env_steps": ppo.num_timesteps,
            "updates": ppo._n_updates,
            "observations": ppo._last_obs,
            "episode_starts": ppo._last_episode_starts,
        }
        if isinstance(ppo.env, VecNormalize):
            statistics = ppo.env.ret_rms
            state["returns"] = {
                **{"mean": np.array(statistics.mean), "var": np.array(statistics.var), "count": statistics.count},
                "running": ppo.env.returns.copy(),
            }
        if self._centred is not None:
            state["centre"] = {"mean": self._centred.mean, "count": self._centred.count}
        return state

    def load_state(self, state: State) -> None:
        """Undo `state`."""
        ppo = self._ppo
        ppo.policy.load_state_dict(arrays_to_tensors(state["policy"]))
        load_optimiser_state(ppo.policy.optimizer, state["optimiser"])
        ppo.num_timesteps, ppo._n_updates = state["env_steps"], state["updates"]
        ppo._last_obs, ppo._last_episode_starts = state["observations"].copy(), state["episode_starts"].copy()
        if isinstance(ppo.env, VecNormalize):
            returns, statistics = state["returns"], ppo.env.ret_rms
            statistics.mean, statistics.var, statistics.count = returns["mean"], returns["var"], returns["count"]
            ppo.env.returns = returns["running"].copy()
        if self._centred is not None:
            self._centred.mean, self._centred.count = state["centre"]["mean"], state["centre"]["count"]

    def restart_episodes(self, seed: int) -> None:
        """Reset all environments, where their state cannot be restored."""
        ppo = self._ppo
        assert ppo.env is not None
        self._env.seed_next_reset(seed)
        ppo._last_obs = ppo.env.reset()  # type: ignore[assignment]
        ppo._last_episode_starts = np.ones(self._env.num_envs, dtype=np.bool_)

    def act(self, observations: NDArray[np.floating], deterministic: bool = True) -> NDArray[Any]:
        """(n, obs_dim) -> (n, ...) actions, clipped to the action space."""
        return self._ppo.predict(np.asarray(observations, dtype=np.float32), deterministic=deterministic)[0]

    def save(self, path: Path) -> None:
        """Write an ordinary Stable-Baselines3 zip: `PPO.load(path).predict(raw_observation)` works without prefrl.

        The observation statistics are folded into the first layers, so a plain "MlpPolicy" says the same.
        """
        # A schedule is a Python function, which the zip would carry as pickled code.
        arguments = self._arguments | {"learning_rate": self.options.learning_rate}
        with torch.random.fork_rng(devices=[]):  # its initial weights must not change the run's randomness
            plain = PPO("MlpPolicy", self._env, policy_kwargs=self._policy_arguments, **arguments)
        policy, extractor = self._ppo.policy, self._ppo.policy.features_extractor
        assert isinstance(extractor, NormalisedObservations)
        kept = {name: value for name, value in policy.state_dict().items() if "features_extractor" not in name}
        plain.policy.load_state_dict(kept)
        for layer in (plain.policy.mlp_extractor.policy_net[0], plain.policy.mlp_extractor.value_net[0]):
            assert isinstance(layer, nn.Linear)
            with torch.no_grad():
                layer.weight /= extractor.deviation
                layer.bias.sub_(layer.weight @ extractor.mean)
        plain.num_timesteps = self._ppo.num_timesteps
        plain.save(path)


def default_ppo(env_id: str, seed: int, num_steps: int = 2048) -> PPO:
    """PPO as most people start it, to compare speeds with: 8 environments in `DummyVecEnv` and every default."""
    return PPO("MlpPolicy", make_vec_env(env_id, n_envs=8, seed=seed), n_steps=num_steps, seed=seed, device="cpu")
