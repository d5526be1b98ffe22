"""Fit the reward predictor to the answers (section 2.2.3).

Reads comparisons.Comparisons; changes reward_model.RewardEnsemble.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from prefrl.calibration import Calibration, calibrate
from prefrl.checkpoint import State
from prefrl.comparisons import Comparisons
from prefrl.errors import NumericalError, UserError
from prefrl.metrics import MONITORED_PAIRS
from prefrl.options import RewardOptions
from prefrl.reward_model import RewardEnsemble, preference_loss, preference_probability
from prefrl.threads import one_torch_thread
from prefrl.torch_state import arrays_to_tensors, load_optimiser_state, optimiser_state, tensors_to_arrays

RATIO_RANGE = (1.1, 1.5)  # of validation to training loss (section 2.2.3)
LEAST_LOSS = 1e-4  # below which a ratio would compare rounding errors
L2_RANGE = (1e-6, 1e-1)
CALIBRATED_AT_ONCE = 256  # pairs per member that are predicted together


@dataclass(frozen=True)
class FitReport:
    """How well the ensemble fits; NaN where there is nothing to measure on."""

    train_loss: float  # mean cross-entropy over members on pairs in their samples, less the answers' own entropy
    validation_loss: float  # on held-out pairs
    accuracy: float  # share of decided held-out pairs that a member predicts right
    l2: float  # mean coefficient over members


def adapt_l2(
    l2: NDArray[np.float64],
    train_loss: NDArray[np.float64],
    validation_loss: NDArray[np.float64],
    factor: float = 1.1,
) -> NDArray[np.float64]:
    """Move each member's ℓ2 coefficient so that validation loss stays 1.1 to 1.5 times training loss.

    Args:
        l2, train_loss, validation_loss: (members,).
        factor: of one move, up when the ratio is above the range, down when below.

    Returns:
        (members,), within L2_RANGE; unchanged where a loss is NaN or next to nothing.
    """
    telling = (train_loss > LEAST_LOSS) & (validation_loss > LEAST_LOSS)
    ratio = np.divide(validation_loss, train_loss, out=np.full_like(train_loss, RATIO_RANGE[0]), where=telling)
    move = np.where(ratio > RATIO_RANGE[1], factor, np.where(ratio < RATIO_RANGE[0], 1 / factor, 1.0))
    return np.clip(l2 * move, *L2_RANGE)


class RewardTrainer:
    """Gradient steps on an ensemble, with its optimiser and ℓ2 state between calls."""

    def __init__(self, ensemble: RewardEnsemble, options: RewardOptions, rng: np.random.Generator) -> None:
        if ensemble.members != options.members:
            raise UserError(f"an ensemble of {ensemble.members} members, options for {options.members}; match them")
        if ensemble.observation != options.observation:
            raise UserError(
                f"an ensemble that is given the observation {ensemble.observation} the action, options for the one "
                f"{options.observation} it; match them"
            )
        self.ensemble, self.options, self._rng = ensemble, options, rng
        self.comparisons = Comparisons(
            options.members, rng, options.bootstrap, options.hold_out, options.label_buffer, options.observation
        )
        self.optimiser = torch.optim.Adam(ensemble.parameters(), lr=options.learning_rate, fused=True)
        self.l2 = np.full(options.members, options.l2)
        self._train_loss = np.full(options.members, np.nan)
        self._validation_loss = np.full(options.members, np.nan)

    @one_torch_thread()
    def fit(self, gradient_steps: int) -> FitReport:
        """Take gradient steps on all members at once, then measure and adapt ℓ2.

        Raises:
            NumericalError: a loss is not finite.
        """
        if len(self.comparisons) == 0:
            return FitReport(float("nan"), float("nan"), float("nan"), float(self.l2.mean()))
        self.ensemble.train()
        for _ in range(gradient_steps):
            rows = self.comparisons.minibatch(self.options.batch_size, self.options.latest, self.options.latest_share)
            loss = self._losses(rows, self.predicted_returns(rows)).mean(dim=1) + self._weight_penalty()
            if not torch.isfinite(loss).all():
                raise NumericalError(
                    f"the predictor's loss is {loss.tolist()} (of each member) with {len(self.comparisons)} answers; "
                    "lower --reward.learning-rate"
                )
            self.optimiser.zero_grad()
            # Summed, so that each member's gradient is its own, whatever the number of members.
            loss.sum().backward()
            self.optimiser.step()
        return self._measure()

    @one_torch_thread()
    @torch.no_grad()
    def calibrate(self) -> Calibration | None:
        """Lay the probabilities that each member gives to the answers it never drew beside those answers.

        Draws nothing at random and changes nothing. None where nothing is held out, and where the fit is to returns:
        their difference is then not the logarithm of any odds.
        """
        data, total = self.comparisons, len(self.comparisons)
        standing = data.mu[:total].sum(dim=1).numpy() > 0  # what was taken back has no opinion
        held_out = (data.copies[:, :total] == 0) & standing
        if self.options.target == "returns" or not held_out.any():
            return None
        self.ensemble.eval()
        # Members hold out unlike numbers of pairs: each one's own come first, and what fills up is left out again.
        rows = np.argsort(~held_out, axis=1, kind="stable")[:, : held_out.sum(axis=1).max()]
        own = np.take_along_axis(held_out, rows, axis=1)
        parts = torch.from_numpy(rows).split(CALIBRATED_AT_ONCE, dim=1)
        returns = torch.cat([self.predicted_returns(part) for part in parts], dim=1)
        left = preference_probability(returns, self.options.error_rate)[..., 0].numpy()
        return calibrate(left[own], data.mu[rows[own], 0].numpy(), rows[own])

    def state(self) -> State:
        """The fit between two calls, without the answers themselves, which the preference store has."""
        return {
            "ensemble": tensors_to_arrays(self.ensemble.state_dict()),
            "optimiser": optimiser_state(self.optimiser),
            "l2": self.l2.copy(),
            "train_loss": self._train_loss.copy(),
            "validation_loss": self._validation_loss.copy(),
            "copies": self.comparisons.copies[:, : len(self.comparisons)].copy(),
            "rng": self._rng.bit_generator.state,
        }

    def load_state(self, state: State) -> None:
        """Undo `state`; `comparisons` must hold the same answers already."""
        self.ensemble.load_state_dict(arrays_to_tensors(state["ensemble"]))
        load_optimiser_state(self.optimiser, state["optimiser"])
        self.l2, self._train_loss = state["l2"].copy(), state["train_loss"].copy()
        self._validation_loss = state["validation_loss"].copy()
        self.comparisons.restore_copies(state["copies"])
        self._rng.bit_generator.state = state["rng"]

    def predicted_returns(self, rows: Tensor) -> Tensor:
        """Raw predicted returns of both segments of each member's own pairs: (members, B) rows -> (members, B, 2)."""
        data, model = self.comparisons, self.ensemble
        inputs = model.inputs(data.observations[rows], data.actions[rows])  # (members, B, 2, T, input_dim)
        return model(inputs.flatten(1, 3)).unflatten(1, inputs.shape[1:4]).sum(dim=-1)

    def _returns_of_the_same(self, rows: Tensor) -> Tensor:
        """What `predicted_returns` says where all members have the same pairs: (B,) rows -> (members, B, 2)."""
        data, model = self.comparisons, self.ensemble
        inputs = model.inputs(data.observations[rows], data.actions[rows])  # (B, 2, T, input_dim)
        return model(inputs.flatten(0, 2)).unflatten(1, inputs.shape[:3]).sum(dim=-1)

    def _losses(self, rows: Tensor, returns: Tensor) -> Tensor:
        """(members, B) rows and their (members, B, 2) predicted returns -> (members, B)."""
        if self.options.target == "returns":
            known = self.comparisons.true_returns[: len(self.comparisons)]
            scale = known.std().clamp_min(1e-6)
            return ((returns - (self.comparisons.true_returns[rows] - known.mean()) / scale) ** 2).mean(dim=-1)
        return preference_loss(returns, self.comparisons.mu[rows], self.options.error_rate)

    def _weight_penalty(self) -> Tensor:
        """ℓ2 of each member's weights, (members,)."""
        squares = torch.stack([weight.square().sum(dim=(1, 2)) for weight in self.ensemble.weights]).sum(dim=0)
        return squares * torch.as_tensor(self.l2, dtype=torch.float32)

    @torch.no_grad()
    def _measure(self) -> FitReport:
        self.ensemble.eval()
        total = len(self.comparisons)
        chosen = self._rng.choice(total, size=min(MONITORED_PAIRS, total), replace=False)
        returns = self._returns_of_the_same(torch.from_numpy(chosen))
        rows = torch.from_numpy(chosen).expand(self.options.members, -1)
        losses = self._losses(rows, returns).numpy().astype(np.float64)  # (members, B)
        if self.options.target == "comparisons":
            # Else many answers "equal" would hide that the others are learnt by heart, and ℓ2 would fall.
            losses -= answer_entropy(self.comparisons.mu[rows].numpy())
        copies = self.comparisons.copies[:, chosen]
        train = _weighted_mean(losses, copies)
        held_out = (copies == 0).astype(np.float64)
        validation = _weighted_mean(losses, held_out)
        # Losses on a few dozen pairs are noisy; ℓ2 follows their running means.
        self._train_loss = _running_mean(self._train_loss, train)
        self._validation_loss = _running_mean(self._validation_loss, validation)
        if self.options.adaptive_l2:
            self.l2 = adapt_l2(self.l2, self._train_loss, self._validation_loss)

        predicted, mu = returns.numpy(), self.comparisons.mu[rows].numpy()
        decided = (mu[..., 0] != mu[..., 1]) * held_out
        right = (predicted[..., 0] > predicted[..., 1]) == (mu[..., 0] > mu[..., 1])
        accuracy = float((right * decided).sum() / decided.sum()) if decided.any() else float("nan")
        return FitReport(_mean(train), _mean(validation), accuracy, float(self.l2.mean()))


def answer_entropy(mu: NDArray[np.floating]) -> NDArray[np.float64]:
    """Cross-entropy of a prediction that says the same as the answer: (..., k) -> (...), 0 where one is preferred.

    With an error rate no prediction says quite the same of a preference.
    """
    probabilities = mu.astype(np.float64)
    return -(probabilities * np.log(np.where(probabilities > 0, probabilities, 1.0))).sum(axis=-1)


def _weighted_mean(values: NDArray[np.float64], weights: NDArray[np.number]) -> NDArray[np.float64]:
    """Along the last axis; NaN where all weights are zero."""
    total = weights.sum(axis=-1)
    return np.where(total > 0, (values * weights).sum(axis=-1) / np.maximum(total, 1e-12), np.nan)


def _running_mean(old: NDArray[np.float64], new: NDArray[np.float64], memory: float = 0.9) -> NDArray[np.float64]:
    """Exponential mean that starts at the first number."""
    mixed = np.where(np.isnan(old), new, memory * old + (1 - memory) * new)
    return np.where(np.isnan(new), old, mixed)


def _mean(values: NDArray[np.float64]) -> float:
    """Mean of the numbers that are there; NaN if none is."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else float("nan")
