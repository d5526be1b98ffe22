"""The reward predictor: an ensemble of small networks over (observation, action), section 2.2.3 and A.1.

Trained by reward_training.py; used by reward_wrapper.py and, for disagreement, queries.py.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import pydantic
import safetensors
import safetensors.torch
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from prefrl.errors import UserError
from prefrl.queries import Query
from prefrl.segments import Segment, When

LEAST_DEVIATION = 0.25  # of recent rewards, beside that of the segments compared
LEAKY_SLOPE = 0.01


def preference_probability(returns: Tensor, error_rate: float = 0.1) -> Tensor:
    """Probability that each segment is the preferred one (equation 1, section 2.2.3).

    Args:
        returns: (..., k) predicted returns, undiscounted, of the k segments of a query.
        error_rate: chance that a person answers uniformly at random.

    Returns:
        (..., k); each within [error_rate / k, 1 - error_rate + error_rate / k].
    """
    return (1 - error_rate) * torch.softmax(returns, dim=-1) + error_rate / returns.shape[-1]


def preference_loss(returns: Tensor, mu: Tensor, error_rate: float = 0.1) -> Tensor:
    """Cross-entropy of the modelled preference against the answer: (..., k), (..., k) -> (...)."""
    if error_rate == 0:  # the softmax of a confident prediction is 0 in single precision, and its log minus infinity
        return -(mu * torch.log_softmax(returns, dim=-1)).sum(dim=-1)
    return -(mu * preference_probability(returns, error_rate).log()).sum(dim=-1)


def _seen(observation_dim: int, observation: When) -> int:
    """How many numbers of observations a predictor is given at each step."""
    return observation_dim * (2 if observation == "both" else 1)


class _Shape(pydantic.BaseModel):
    """What RewardEnsemble.save notes beside the weights."""

    model_config = pydantic.ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)

    observation_dim: pydantic.PositiveInt
    action_dim: pydantic.PositiveInt
    members: pydantic.PositiveInt
    hidden: tuple[pydantic.PositiveInt, ...]
    dropout: Annotated[float, pydantic.Field(ge=0, lt=1)]
    reward_deviation: pydantic.PositiveFloat
    observation: When = "before"  # the only one that earlier versions knew
    risk_aversion: Annotated[float, pydantic.Field(ge=0, le=1)] = 0.0  # they had none

    def weights(self) -> list[list[int]]:
        """Shape of each layer's weights."""
        sizes = [_seen(self.observation_dim, self.observation) + self.action_dim, *self.hidden, 1]
        return [[self.members, fan_in, fan_out] for fan_in, fan_out in itertools.pairwise(sizes)]


class RewardEnsemble(nn.Module):
    """r̂(o, a): members with the same architecture, computed together as stacked weights.

    Observations are normalised inside by statistics of everything seen; each member's output is normalised by itself
    over recent data to mean 0 and deviation `reward_deviation`, or less where the policy has come to rest
    (`normalise_rewards_over`), and the members are then averaged.

    Args:
        observation_dim, action_dim: lengths of one observation and one (encoded) action.
        members: networks in the ensemble.
        hidden: units per hidden layer.
        dropout: share of hidden units dropped in training. Each member drops the same ones in a whole minibatch, so
            that both segments of a pair are scored by one network.
        reward_deviation: of the normalised reward (1 on MuJoCo, section A).
        seed: of the initial weights.
        observation: which one of a step it is given, before the action or after, or both, one behind the other.
        risk_aversion: of the agent, see `utility`.
    """

    def __init__(
        self,
        observation_dim: int,
        action_dim: int,
        members: int = 7,
        hidden: Sequence[int] = (64, 64),
        dropout: float = 0.0,
        reward_deviation: float = 1.0,
        seed: int = 0,
        observation: When = "before",
        risk_aversion: float = 0.0,
    ) -> None:
        super().__init__()
        self.observation: When = observation
        self.risk_aversion = risk_aversion
        self.observation_dim, self.action_dim, self.members = observation_dim, action_dim, members
        self.hidden, self.dropout, self.reward_deviation = tuple(hidden), dropout, reward_deviation
        generator = torch.Generator().manual_seed(seed)
        seen = _seen(observation_dim, observation)
        sizes = [seen + action_dim, *hidden, 1]
        self.weights = nn.ParameterList()
        self.biases = nn.ParameterList()
        for fan_in, fan_out in itertools.pairwise(sizes):
            bound = 1 / math.sqrt(fan_in)  # torch.nn.Linear's own initialisation
            weight = torch.empty(members, fan_in, fan_out).uniform_(-bound, bound, generator=generator)
            bias = torch.empty(members, 1, fan_out).uniform_(-bound, bound, generator=generator)
            self.weights.append(nn.Parameter(weight))
            self.biases.append(nn.Parameter(bias))
        # Looking a ParameterList up takes longer than the products of one step of the environments.
        self._layers = tuple(zip(self.weights, self.biases, strict=True))
        self.observation_mean: Tensor
        self.observation_deviation: Tensor
        self.reward_mean: Tensor
        self.reward_scale: Tensor
        self.register_buffer("observation_mean", torch.zeros(seen))
        self.register_buffer("observation_deviation", torch.ones(seen))
        self.register_buffer("reward_mean", torch.zeros(members))
        self.register_buffer("reward_scale", torch.ones(members))

    def inputs(self, observations: Tensor, actions: Tensor) -> Tensor:
        """(..., observation_dim), (..., action_dim) -> (..., their sum), observations normalised.

        As everywhere here, of both observations of a step there are 2 observation_dim.
        """
        normalised = (observations - self.observation_mean) / self.observation_deviation
        return torch.cat([normalised, actions], dim=-1)

    def forward(self, inputs: Tensor) -> Tensor:
        """Every member's raw reward.

        Args:
            inputs: (B, input_dim), the same for all members, or (members, B, input_dim); from `inputs`.

        Returns:
            (members, B), not normalised.
        """
        x = inputs.expand(self.members, -1, -1) if inputs.ndim == 2 else inputs
        *hidden, (last_weight, last_bias) = self._layers
        for weight, bias in hidden:
            x = F.leaky_relu(torch.baddbmm(bias, x, weight), LEAKY_SLOPE, inplace=True)
            if self.dropout and self.training:
                x = x * F.dropout(torch.ones(self.members, 1, x.shape[-1]), self.dropout)
        return torch.baddbmm(last_bias, x, last_weight).squeeze(-1)

    @torch.inference_mode()
    def member_rewards(
        self, observations: NDArray[np.floating] | Tensor, actions: NDArray[np.floating] | Tensor
    ) -> Tensor:
        """(..., observation_dim), (..., action_dim) -> (members, ...) raw rewards."""
        return self._member_rewards(observations, actions)

    def _member_rewards(
        self, observations: NDArray[np.floating] | Tensor, actions: NDArray[np.floating] | Tensor
    ) -> Tensor:
        o = torch.as_tensor(observations, dtype=torch.float32)
        a = torch.as_tensor(actions, dtype=torch.float32)
        if self.training:
            self.eval()
        return self(self.inputs(o, a).flatten(0, -2)).reshape(self.members, *o.shape[:-1])

    def normalise(self, member_rewards: Tensor) -> Tensor:
        """Each member's raw rewards, (members, ...), to mean 0 and deviation 1 at most over recent data."""
        shape = (-1,) + (1,) * (member_rewards.ndim - 1)
        return (member_rewards - self.reward_mean.view(shape)) / self.reward_scale.view(shape)

    def combine(self, member_rewards: Tensor) -> Tensor:
        """Normalise each member's raw rewards by itself, then average: (members, ...) -> (...)."""
        return self.normalise(member_rewards).mean(dim=0) * self.reward_deviation

    def utility(self, rewards: Tensor) -> Tensor:
        """What the agent is paid for a predicted reward, (...): (1 - exp(-a r)) / a, with a the risk aversion.

        It rises with r, by 1 at the mean, more below and less above: a fall costs more than as much of a gain earns.
        """
        return -torch.expm1(-self.risk_aversion * rewards) / self.risk_aversion if self.risk_aversion else rewards

    @torch.inference_mode()
    def predict(self, observations: NDArray[np.floating], actions: NDArray[np.floating]) -> NDArray[np.float32]:
        """The reward the agent is trained on: (..., observation_dim), (..., action_dim) -> (...), a fresh array."""
        return self.utility(self.combine(self._member_rewards(observations, actions))).numpy()

    @torch.inference_mode()
    def predict_returns(self, segments: Sequence[Segment]) -> NDArray[np.float32]:
        """The predicted reward, which answers are about, summed over each of N segments of one length: (N,)."""
        observations = np.stack([segment.observed(self.observation) for segment in segments])
        actions = np.stack([segment.actions for segment in segments])
        return self.combine(self._member_rewards(observations, actions)).numpy().sum(axis=-1)

    def predict_preferences(self, queries: Sequence[Query]) -> NDArray[np.float32]:
        """Each member's probability that each segment is preferred: k segments -> (members, Q, k)."""
        distinct = {id(s): s for query in queries for s in query.segments}  # one segment may be in many queries
        rows = {key: row for row, key in enumerate(distinct)}
        observations = np.stack([s.observed(self.observation) for s in distinct.values()])  # (N, T, obs_dim)
        actions = np.stack([s.actions for s in distinct.values()])
        asked = torch.tensor([[rows[id(s)] for s in query.segments] for query in queries])  # (Q, k)
        returns = self.member_rewards(observations, actions).sum(dim=-1)[:, asked]
        return torch.softmax(returns, dim=-1).numpy()

    def set_observation_statistics(self, mean: NDArray[np.floating], deviation: NDArray[np.floating]) -> None:
        """Set the input normalisation, (observation_dim,) each; constant observations stay as they are."""
        times = len(self.observation_mean) // self.observation_dim
        self.observation_mean.copy_(torch.as_tensor(np.tile(mean, times)))
        self.observation_deviation.copy_(torch.as_tensor(np.tile(np.where(deviation < 1e-6, 1.0, deviation), times)))

    def normalise_rewards_over(self, member_rewards: Tensor, compared: Tensor | None = None) -> None:
        """Normalise each member's output so that these raw rewards, (members, B), get mean 0 and deviation 1 at most.

        Of a policy that has come to rest, as a pole that stands, they are all but the same, and what little they differ
        by is the predictor's error; blown up to deviation 1, a step aside would then cost so much that PPO falls over.
        So they count as no closer together than LEAST_DEVIATION of the deviation of `compared`, raw rewards of the
        segments that were compared, (members, C).
        """
        deviation = member_rewards.std(dim=1)
        if compared is not None:
            deviation = torch.maximum(deviation, LEAST_DEVIATION * compared.std(dim=1))
        self.reward_mean.copy_(member_rewards.mean(dim=1))
        self.reward_scale.copy_(deviation.clamp_min(1e-6))

    def save(self, path: Path) -> None:
        """Write weights, statistics and shape to one safetensors file."""
        shape = {
            "observation_dim": self.observation_dim,
            "action_dim": self.action_dim,
            "members": self.members,
            "hidden": self.hidden,
            "dropout": self.dropout,
            "reward_deviation": self.reward_deviation,
            "observation": self.observation,
            "risk_aversion": self.risk_aversion,
        }
        tensors = {name: tensor.contiguous() for name, tensor in self.state_dict().items()}
        # Through bytes: save_file makes the file readable by its owner only.
        path.write_bytes(safetensors.torch.save(tensors, metadata={"prefrl": json.dumps(shape)}))

    @classmethod
    def load(cls, path: Path | str) -> RewardEnsemble:
        """Read what `save` wrote; executes nothing from the file.

        Raises:
            UserError: the file is not a predictor of this project.
        """
        try:
            with safetensors.safe_open(path, framework="pt") as file:
                shape = _Shape.model_validate_json(file.metadata()["prefrl"])
                # Before anything of that size is made: the file may declare what no memory holds.
                for i, dimensions in enumerate(shape.weights()):
                    found = file.get_slice(f"weights.{i}").get_shape()
                    if found != dimensions:
                        raise ValueError(f"weights.{i} have shape {found} where {dimensions} is declared")
                ensemble = cls(**shape.model_dump())
                ensemble.load_state_dict({name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118
                for name, tensor in ensemble.state_dict().items():
                    if not torch.isfinite(tensor).all():
                        raise ValueError(f"{name} holds NaN or infinity")
        except pydantic.ValidationError as error:
            first = error.errors()[0]
            name = " ".join(map(str, first["loc"])) or "its shape"
            raise UserError(f"{path} is not a saved reward predictor: {name}: {first['msg']}") from error
        except (OSError, KeyError, TypeError, ValueError, RuntimeError, safetensors.SafetensorError) as error:
            reason = str(error).splitlines()[0]
            raise UserError(f"{path} is not a saved reward predictor: {reason}") from error
        return ensemble
