"""How far apart the two segments of each query are, in deviations, as SyntheticOracle measures it.

A teacher counts differences in deviations of the scores of the latest 200 segments that were shown, or in a twentieth
of the deviation of all scores where that is more. Here the same is worked out from a store, in the order of its
queries, for whoever answered them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from prefrl.oracles.synthetic import LEAST_SPREAD, RECENT_SEGMENTS
from prefrl.segments import Segment

SMALLEST_SPREAD = 1e-12  # as of SyntheticOracle: no division by zero where all scores are alike


@dataclass(frozen=True, eq=False)
class Scores:
    """One score of the two segments of each pair; higher is better."""

    name: str  # true return or judge
    differences: NDArray[np.float64]  # (Q,), left less right, in deviations
    best: NDArray[np.float64]  # (Q,), the better one's score less the mean, in deviations

    @property
    def distances(self) -> NDArray[np.float64]:
        """(Q,), how far apart the two are, in deviations."""
        return np.abs(self.differences)


class ShownSegments:
    """The segments of all queries, in the order in which these were asked.

    Args:
        queries: the segments of each query, two or more.
    """

    def __init__(self, queries: Sequence[Sequence[Segment]]) -> None:
        self.segments = [segment for query in queries for segment in query]
        sizes = np.array([len(query) for query in queries], dtype=np.int64)
        self._ends = np.cumsum(sizes)
        self._pairs = np.flatnonzero(sizes == 2)
        self._rewards = _backwards(self.segments)

    @property
    def pairs(self) -> NDArray[np.int64]:
        """(Q,), which of the queries have two segments; everything else here is of those alone."""
        return self._pairs

    @property
    def longest(self) -> int:
        """Steps of the longest segment."""
        return self._rewards.shape[1]

    def score(self, name: str, values: NDArray[np.float64]) -> Scores:
        """Each pair's scores in deviations, from the score of each segment.

        Args:
            name: of the score.
            values: (S,), one per segment, in the order of `segments`.
        """
        left, right, spreads, means, latest = self._of_pairs(values)
        return Scores(name, (left - right) / spreads, (np.maximum(left, right) - means) / latest)

    def discounted_differences(self, discount: float) -> NDArray[np.float64]:
        """(Q,), left less right as a myopic teacher perceives them, in deviations of what it perceives."""
        values = self._rewards @ discount ** np.arange(self.longest, dtype=np.float64)
        left, right, spreads, *_ = self._of_pairs(values)
        return (left - right) / spreads

    def _of_pairs(self, values: NDArray[np.float64]) -> tuple[NDArray[np.float64], ...]:
        """Left and right scores, the oracle's deviation, and mean and deviation of the latest: (pairs,) each."""
        means, latest, spreads = (scale[self._pairs] for scale in running_scale(values, self._ends))
        spreads, latest = np.maximum(spreads, SMALLEST_SPREAD), np.maximum(latest, SMALLEST_SPREAD)
        ends = self._ends[self._pairs]
        return values[ends - 2], values[ends - 1], spreads, means, latest


def running_scale(
    values: NDArray[np.float64], ends: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Mean and deviation of the latest 200 scores, and the deviation by which the oracle measures differences
    (`oracles.synthetic.ShownScores`), when each query was asked, its own included.

    Args:
        values: (S,), scores of all segments in the order in which they were shown.
        ends: (Q,), how many of them had been shown after each query.

    Returns:
        means, deviations and the oracle's deviations, (Q,) each.
    """
    padded = np.concatenate([np.zeros(RECENT_SEGMENTS), values])
    windows = np.lib.stride_tricks.sliding_window_view(padded, RECENT_SEGMENTS)[ends]
    counts = np.minimum(ends, RECENT_SEGMENTS)
    means = windows.sum(axis=1) / counts
    shown = np.arange(RECENT_SEGMENTS) >= RECENT_SEGMENTS - counts[:, None]
    latest = np.sqrt((np.square(windows - means[:, None]) * shown).sum(axis=1) / counts)
    # Else the squares of large scores that hardly differ would cancel each other out.
    centred = values - values[:1].sum()
    sums, squares = np.cumsum(centred)[ends - 1], np.cumsum(centred**2)[ends - 1]
    of_all = np.sqrt(np.maximum(squares / ends - (sums / ends) ** 2, 0.0))
    return means, latest, np.maximum(latest, LEAST_SPREAD * of_all)


def _backwards(segments: Sequence[Segment]) -> NDArray[np.float64]:
    """(S, T) true rewards from the last step to the first, then zeros up to the longest segment's length."""
    rewards = np.zeros((len(segments), max((segment.length for segment in segments), default=1)))
    for row, segment in zip(rewards, segments, strict=True):
        row[: segment.length] = segment.true_rewards[::-1]
    return rewards
