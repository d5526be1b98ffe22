"""Choose which segments to ask about (section 2.2.4).

Reads segments.Segment; produces Query for the oracles.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from prefrl.segments import Segment


@dataclass(frozen=True, eq=False)
class Query:
    """Which of these segments is best? A pair in the paper; more make a ranking."""

    segments: tuple[Segment, ...]  # two or more, in on-screen order
    id: int | None = None  # given by the PreferenceStore

    def __post_init__(self) -> None:
        if len(self.segments) < 2:
            raise ValueError(f"a query compares at least 2 segments, not {len(self.segments)}")

    @property
    def shown(self) -> frozenset[bytes]:
        """What is seen, whatever the sides: equal for queries about the same behaviour."""
        return frozenset(segment.observations.tobytes() for segment in self.segments)

    def with_id(self, query_id: int) -> Query:
        """The same query under the store's id."""
        return replace(self, id=query_id)


# (Q, k segments) -> (members, Q, k): each ensemble member's probability that each segment is the preferred one.
PreferencePredictor = Callable[[Sequence[Query]], NDArray[np.floating]]


def pair_up(segments: Sequence[Segment], size: int = 2) -> list[Query]:
    """Consecutive segments as queries of `size`; the segments come in random order already."""
    return [Query(tuple(segments[i : i + size])) for i in range(0, len(segments) - size + 1, size)]


def disagreement(probabilities: NDArray[np.floating]) -> NDArray[np.floating]:
    """Variance across the ensemble of the predicted preference, summed over a query's segments.

    Args:
        probabilities: (members, Q, k).

    Returns:
        (Q,); for pairs twice the variance of P[left], so the order is the paper's.
    """
    return probabilities.var(axis=0).sum(axis=-1)


def most_disputed(candidates: Sequence[Query], count: int, predict: PreferencePredictor) -> list[Query]:
    """Keep the `count` candidates on whose answer the ensemble disagrees most (section 2.2.4)."""
    scores = disagreement(predict(candidates))
    keep = np.argsort(-scores, kind="stable")[:count]
    return [candidates[i] for i in keep]


def elite_pairs(
    segments: Sequence[Segment], returns: NDArray[np.floating], size: int, rng: np.random.Generator
) -> list[Query]:
    """Every pair of the `size` best segments, in random order and with random sides.

    What a policy ends up doing is decided among the best behaviour it shows, which random pairs seldom hold twice.

    Args:
        segments: N of them.
        returns: (N,) predicted returns.
        size: how many are the best.
    """
    _, distinct = np.unique(returns, return_index=True)  # the same stretch may have been drawn twice
    candidates = distinct if len(distinct) > 1 else np.arange(len(returns))
    best = candidates[np.argsort(-returns[candidates], kind="stable")][:size]
    pairs = rng.permutation(list(itertools.combinations(best, 2)))
    return [Query((segments[i], segments[j])) for i, j in rng.permuted(pairs, axis=1)]
