"""Gymnasium wrappers that replace an environment's reward by the predictor's.

Useful on their own: wrap an environment with a saved predictor and train any Stable-Baselines3 algorithm on it.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, SupportsFloat

import gymnasium
import numpy as np
from gymnasium.utils import RecordConstructorArgs
from gymnasium.vector import VectorEnv, VectorWrapper
from numpy.typing import NDArray

from prefrl.errors import NumericalError, UserError
from prefrl.reward_model import RewardEnsemble
from prefrl.rollouts import action_dim, encode_actions, observations_after
from prefrl.segments import observed


def _load(predictor: RewardEnsemble | Path | str, env: Any) -> RewardEnsemble:
    """The predictor, checked against the environment's spaces."""
    ensemble = predictor if isinstance(predictor, RewardEnsemble) else RewardEnsemble.load(predictor)
    vector = isinstance(env, VectorEnv)
    observation_space = env.single_observation_space if vector else env.observation_space
    action_space = env.single_action_space if vector else env.action_space
    found = (int(np.prod(observation_space.shape)), action_dim(action_space))
    if found != (ensemble.observation_dim, ensemble.action_dim):
        raise UserError(
            f"the predictor was trained on {ensemble.observation_dim} observations and {ensemble.action_dim} actions, "
            f"the environment has {found[0]} and {found[1]}; wrap the environment it was trained on"
        )
    return ensemble


class PredictedReward(gymnasium.Wrapper, RecordConstructorArgs):
    """Replace one environment's reward; the true one is kept in `info["true_reward"]`.

    Args:
        env: the environment.
        predictor: an ensemble, or the path of a saved one (RUN/predictor.safetensors).

    Raises:
        UserError: the predictor's input sizes are not the environment's.
    """

    def __init__(self, env: gymnasium.Env, predictor: RewardEnsemble | Path | str) -> None:
        RecordConstructorArgs.__init__(self, predictor=predictor, _disable_deepcopy=True)  # for env.spec
        gymnasium.Wrapper.__init__(self, env)
        self.predictor = _load(predictor, env)

    def reset(self, **kwargs: Any) -> tuple[Any, dict[str, Any]]:
        """Start an episode."""
        self._observation, info = self.env.reset(**kwargs)
        return self._observation, info

    def step(self, action: Any) -> tuple[Any, SupportsFloat, bool, bool, dict[str, Any]]:
        """Step the environment; the reward is what `predictor.predict` pays, with whichever observation it is given."""
        encoded = encode_actions(self.action_space, np.asarray(action)[None])
        before = np.array(self._observation, dtype=np.float32)  # a copy: the environment may write into its own
        self._observation, reward, terminated, truncated, info = self.env.step(action)
        seen = observed(before, np.asarray(self._observation, dtype=np.float32), self.predictor.observation)
        predicted = float(self.predictor.predict(seen[None], encoded)[0])
        return self._observation, predicted, terminated, truncated, {**info, "true_reward": reward}


class VectorPredictedReward(VectorWrapper):
    """Replace the rewards of many environments; see PredictedReward.

    The array of rewards is fresh at each step: Stable-Baselines3 adds γ·V(terminal) into it in place.
    """

    def __init__(self, env: VectorEnv, predictor: RewardEnsemble | Path | str) -> None:
        super().__init__(env)
        self.predictor = _load(predictor, env)
        self.observations: NDArray[Any] = np.empty(0)  # (n, obs_dim), of now
        self.seconds = 0.0  # spent predicting
        self.env_steps = 0

    def reset(self, **kwargs: Any) -> tuple[NDArray[Any], dict[str, Any]]:
        """Start all episodes."""
        self.observations, info = self.env.reset(**kwargs)
        return self.observations, info

    def step(self, actions: NDArray[Any]) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Step the environments; rewards are what `predictor.predict` pays, (n,) float32.

        Raises:
            NumericalError: a predicted reward is not finite.
        """
        before = np.array(self.observations, dtype=np.float32)  # a copy: the environments may write into their own
        self.observations, rewards, terminations, truncations, info = self.env.step(actions)
        after = observations_after(self.observations, info)
        predicted = self._predict(observed(before, after, self.predictor.observation), actions)
        self.env_steps += self.num_envs
        return self.observations, predicted, terminations, truncations, {**info, "true_reward": rewards}

    def _predict(self, observations: NDArray[Any], actions: NDArray[Any]) -> NDArray[np.float32]:
        began = time.perf_counter()
        predicted = self.predictor.predict(observations, encode_actions(self.single_action_space, actions))
        if not np.isfinite(predicted).all():
            bad = int(np.argmin(np.isfinite(predicted)))
            raise NumericalError(
                f"predicted reward of environment {bad} is {predicted[bad]} after {self.env_steps} steps; "
                "lower --reward.learning-rate or --reward.risk-aversion"
            )
        self.seconds += time.perf_counter() - began
        return predicted
