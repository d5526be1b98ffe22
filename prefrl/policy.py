"""The policy: Stable-Baselines3's network over normalised observations, and the way back from its zip."""

from __future__ import annotations

import io
import math
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3 import PPO
from stable_baselines3.common.distributions import DiagGaussianDistribution
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import Tensor, nn
from torch.nn import functional

from prefrl.errors import UserError

MAX_BYTES = 1 << 28  # of weights; ours take 50 kB, and a few bytes may unpack to what no memory holds
_LOG_SQRT_TWO_PI = math.log(math.sqrt(2 * math.pi))
_GAUSSIAN_ENTROPY = 0.5 + 0.5 * math.log(2 * math.pi)  # at deviation 1


class NormalisedObservations(BaseFeaturesExtractor):
    """(o - mean) / deviation by statistics of everything seen, as the policy's first layer."""

    def __init__(self, observation_space: spaces.Box) -> None:
        size = int(np.prod(observation_space.shape))
        super().__init__(observation_space, size)
        self.mean: Tensor
        self.deviation: Tensor
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("deviation", torch.ones(size))

    def forward(self, observations: Tensor) -> Tensor:
        """(B, obs_dim) -> (B, obs_dim)."""
        return (observations - self.mean) / self.deviation


class NormalisedPolicy(ActorCriticPolicy):
    """Actor and critic over normalised observations; what its parent computes, in fewer calls, and to the same bits.

    But for the entropy's last ones, which are learnt from only where there is an entropy bonus.

    On networks this small the parent spends half of its time between the kernels: in module hooks, in distributions
    that validate themselves, in walks over the module tree. With discrete actions it is left to do its own work.
    """

    _weights: tuple[nn.Parameter, ...] | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs | {"features_extractor_class": NormalisedObservations})
        self._weights = tuple(super().parameters())
        self._gaussian = isinstance(self.action_dist, DiagGaussianDistribution)
        self._actor = [*self.mlp_extractor.policy_net, self.action_net]
        self._critic = [*self.mlp_extractor.value_net, self.value_net]

    def parameters(self, recurse: bool = True) -> Iterator[nn.Parameter]:
        """All weights: they are the same objects at every one of an iteration's gradient steps."""
        return super().parameters(recurse) if self._weights is None else iter(self._weights)

    def forward(self, obs: Tensor, deterministic: bool = False) -> tuple[Tensor, Tensor, Tensor]:
        """(B, obs_dim) -> actions (B, act_dim), values (B, 1), log-probabilities (B,)."""
        if not self._gaussian:
            return super().forward(obs, deterministic)
        features = self.features_extractor.forward(obs.float())
        values = _through(self._critic, features)
        mean = _through(self._actor, features)
        deviation = self._deviation(mean)
        actions = mean if deterministic else mean + torch.empty_like(mean).normal_() * deviation
        return actions.reshape(-1, *(self.action_space.shape or ())), values, _log_probability(actions, mean, deviation)

    def evaluate_actions(self, obs: Any, actions: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """(B, obs_dim), (B, act_dim) -> values (B, 1), log-probabilities (B,), entropy of the policy (one number)."""
        if not self._gaussian:
            return super().evaluate_actions(obs, actions)
        features = self.features_extractor.forward(obs.float())
        mean = _through(self._actor, features)
        log_probability = _log_probability(actions, mean, self._deviation(mean))
        return _through(self._critic, features), log_probability, (self.log_std + _GAUSSIAN_ENTROPY).sum()

    def _deviation(self, mean: Tensor) -> Tensor:
        return torch.ones_like(mean) * self.log_std.exp()


class SavedPolicy:
    """The policy of a zip that `Agent.save` wrote, read without executing anything from it.

    `PPO.load` unpickles parts of the zip; here only the weights are read, into a policy of the run's own shape.

    Args:
        path: the zip.
        observation_space, action_space: of one environment.
        hidden: PPOOptions.hidden of the run.

    Raises:
        UserError: the file is no such zip, or its weights have other shapes.
    """

    def __init__(
        self, path: Path, observation_space: spaces.Space, action_space: spaces.Space, hidden: Sequence[int]
    ) -> None:
        self._policy = ActorCriticPolicy(observation_space, action_space, lambda _: 0.0, net_arch=list(hidden))
        try:
            with zipfile.ZipFile(path) as archive:
                if archive.getinfo("policy.pth").file_size > MAX_BYTES:
                    raise ValueError(f"policy.pth has more than {MAX_BYTES} bytes")
                weights = torch.load(io.BytesIO(archive.read("policy.pth")), map_location="cpu", weights_only=True)
            self._policy.load_state_dict(weights)
        except Exception as error:  # zipfile and torch raise a dozen kinds on what is damaged
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise UserError(
                f"{path} does not hold this run's policy: {reason}; if it is of another tool that you trust, --trust "
                "opens it with Stable-Baselines3, which executes code that stands in the file"
            ) from error
        for name, weight in self._policy.named_parameters():
            if not torch.isfinite(weight).all():
                raise UserError(f"{path} holds NaN or infinity in {name}; get it again from where it came from")

    def act(self, observations: NDArray[np.floating], deterministic: bool = True) -> NDArray[Any]:
        """(n, obs_dim) -> (n, ...) actions, clipped to the action space."""
        return self._policy.predict(np.asarray(observations, dtype=np.float32), deterministic=deterministic)[0]


class TrustedPolicy:
    """The policy of any zip that Stable-Baselines3's PPO wrote. Opening it unpickles what its author put there.

    Args:
        path: the zip.
        observation_space, action_space: of one environment.
        hidden: not needed, as the zip says what it is.

    Raises:
        UserError: the file is no such zip, or of a policy for other spaces.
    """

    def __init__(
        self, path: Path, observation_space: spaces.Space, action_space: spaces.Space, hidden: Sequence[int] = ()
    ) -> None:
        try:
            self._ppo = PPO.load(path, device="cpu")
        except Exception as error:  # whatever unpickling a stranger's objects may raise
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise UserError(f"{path} is no policy that Stable-Baselines3's PPO can open: {reason}") from error
        for here, there in ((observation_space, self._ppo.observation_space), (action_space, self._ppo.action_space)):
            if here.shape != there.shape or type(here) is not type(there):
                raise UserError(f"{path} is of a policy for {there}, the run's environment has {here}")

    def act(self, observations: NDArray[np.floating], deterministic: bool = True) -> NDArray[Any]:
        """(n, obs_dim) -> (n, ...) actions, clipped to the action space."""
        return self._ppo.predict(np.asarray(observations, dtype=np.float32), deterministic=deterministic)[0]


def _through(layers: Sequence[nn.Module], x: Tensor) -> Tensor:
    for layer in layers:
        x = functional.linear(x, layer.weight, layer.bias) if isinstance(layer, nn.Linear) else torch.tanh(x)
    return x


def _log_probability(actions: Tensor, mean: Tensor, deviation: Tensor) -> Tensor:
    """Of independent Gaussians, summed over the last axis."""
    return (-((actions - mean) ** 2) / (2 * deviation**2) - deviation.log() - _LOG_SQRT_TWO_PI).sum(dim=1)
