"""The answers a predictor trains on, kept in memory as they come.

Filled from preferences.PreferenceStore; read by reward_training.py.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from prefrl.errors import UserError
from prefrl.options import RewardOptions
from prefrl.preferences import Answer
from prefrl.queries import Query
from prefrl.segments import When

FEWEST_FOLDS = 3  # so that no member holds out more than a third


class Comparisons:
    """The last `capacity` pairs of segments with an opinion μ about them.

    "Can't tell" gives none; a ranking of k segments gives k(k-1)/2 (section 2.2.3). Each pair also carries
    how often it is in each member's bootstrap sample.

    Attributes, the first `len(self)` rows of which are filled:
        observations: (capacity, 2, T, obs_dim) float32, before or after each action, as `observation` says.
        actions: (capacity, 2, T, action_dim) float32.
        mu: (capacity, 2) float32.
        true_returns: (capacity, 2) float32, for diagnostics and the "target" ablation.
        copies: (members, capacity) int, draws of each pair in each member's sample; 0 means held out.
    """

    def __init__(
        self,
        members: int,
        rng: np.random.Generator,
        bootstrap: bool = True,
        hold_out: bool = True,
        capacity: int = RewardOptions.label_buffer,
        observation: When = "before",
    ) -> None:
        self.members, self.capacity, self.observation = members, capacity, observation
        self._rng, self._bootstrap, self._hold_out = rng, bootstrap, hold_out
        self._added = 0
        self._rows_of: dict[int | None, list[int]] = {}  # answer id -> the pairs it gave, counted from the first
        self.copies = np.zeros((members, capacity), dtype=np.int64)
        self.mu = torch.zeros(capacity, 2)
        self.true_returns = torch.zeros(capacity, 2)
        self.observations = torch.zeros(0)
        self.actions = torch.zeros(0)

    def __len__(self) -> int:
        return min(self._added, self.capacity)

    def extend(self, answered: Iterable[tuple[Query, Answer]]) -> None:
        """Add answers, forgetting the oldest beyond the capacity.

        Raises:
            UserError: a segment's shape differs from those before.
        """
        for query, answer in answered:
            if answer.supersedes is not None:
                self._forget(answer.supersedes)
            pairs = answer.pairs()
            if pairs:
                copies = self._draw_copies()  # one draw per answer: all pairs of a ranking are held out together
            for i, j, mu in pairs:
                self._rows_of.setdefault(answer.id, []).append(self._added)
                self._add(query, i, j, mu, copies)

    def restore_copies(self, copies: NDArray[np.int64]) -> None:
        """Set how often each pair is in each member's sample, as it was drawn when the pair first came."""
        if copies.shape != (self.members, len(self)):
            raise UserError(f"a checkpoint's bootstrap is of {copies.shape[1]} pairs, the answers give {len(self)}")
        self.copies[:, : len(self)] = copies

    def steps(self, count: int) -> tuple[Tensor, Tensor]:
        """Observations and actions of about `count` steps of the segments, spread evenly: (count, dim) each."""
        if not len(self):  # of shapes that are not known yet
            return self.observations, self.actions
        observations, actions = (each[: len(self)].flatten(0, -2) for each in (self.observations, self.actions))
        chosen = torch.linspace(0, len(observations) - 1, min(count, len(observations))).long()
        return observations[chosen], actions[chosen]

    def _forget(self, answer_id: int) -> None:
        """Take back an answer: without an opinion μ its pairs weigh nothing."""
        for added in self._rows_of.pop(answer_id, []):
            if added >= self._added - self.capacity:
                self.mu[added % self.capacity] = 0

    def _add(self, query: Query, i: int, j: int, mu: tuple[float, float], copies: NDArray[np.int64]) -> None:
        pair = (query.segments[i], query.segments[j])
        observations = np.stack([s.observed(self.observation) for s in pair])
        actions = np.stack([s.actions for s in pair])
        if not len(self):
            self.observations = torch.zeros(self.capacity, *observations.shape)
            self.actions = torch.zeros(self.capacity, *actions.shape)
        if observations.shape != self.observations.shape[1:]:
            raise UserError(
                f"segments of shape {observations.shape[1:]} among segments of {tuple(self.observations.shape[2:])}; "
                "one run compares segments of one length"
            )
        row = self._added % self.capacity
        self.observations[row] = torch.from_numpy(observations)
        self.actions[row] = torch.from_numpy(actions)
        self.mu[row] = torch.tensor(mu)
        self.true_returns[row] = torch.tensor([s.true_return for s in pair])
        self.copies[:, row] = copies
        self._added += 1

    def _draw_copies(self) -> NDArray[np.int64]:
        """How often a new pair enters each member's sample.

        Poisson(1) is drawing |D| pairs with replacement while D still grows; a pair that a member never drew, 1/e of
        them, is what the paper holds out for that member. Without bootstrap every pair is held out by one member, as
        in cross-validation, and once in each of the others' samples; of one or two members each holds out a third.
        """
        if self._bootstrap:
            copies = self._rng.poisson(1.0, self.members)
            return copies if self._hold_out else np.maximum(copies, 1)
        copies = np.ones(self.members, dtype=np.int64)
        if self._hold_out:
            fold = self._rng.integers(max(self.members, FEWEST_FOLDS))
            copies[np.arange(self.members) == fold] = 0  # of no member, where there are fewer than folds
        return copies

    def minibatch(self, size: int, latest: int = 0, share: float = 0.0) -> Tensor:
        """Draw (members, size) row indices, each member from its own sample.

        Args:
            size: rows per member.
            latest: how many pairs are the latest.
            share: of the rows that are drawn from those alone, rounded down.
        """
        oldest = self._added % self.capacity if self._added > self.capacity else 0
        copies = np.roll(self.copies[:, : len(self)], -oldest, axis=1)
        # A member that holds out everything, as can happen with a handful of answers, draws from all of them.
        copies = np.where(copies.any(axis=1, keepdims=True), copies, 1)
        upto = copies.cumsum(axis=1)  # (members, rows); row r owns the draws in [upto[r-1], upto[r])
        least = np.zeros((self.members, size), dtype=np.int64)
        if 0 < latest < len(self):
            before = upto[:, -latest - 1, None]
            least[:, : int(share * size)] = np.where(before < upto[:, -1:], before, 0)  # 0: it holds out all of those
        draws = least + (self._rng.random((self.members, size)) * (upto[:, -1:] - least)).astype(np.int64)
        # Members side by side on one increasing axis turn their searches into a single one.
        offset = np.concatenate([[0], upto[:-1, -1].cumsum()])[:, None]
        rows = np.searchsorted((upto + offset).ravel(), (draws + offset).ravel(), side="right")
        ages = rows.reshape(draws.shape) - np.arange(self.members)[:, None] * len(self)
        return torch.from_numpy((ages + oldest) % len(self))
