"""Krippendorff's α: do several labellers say the same of the same queries, beyond chance?

1 is perfect agreement, 0 what labels dealt out at random would come to, below 0 is systematic disagreement. Labellers
may have answered different queries; only those that two or more have answered count.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from prefrl.agreement.intervals import Interval

Level = Literal["nominal", "ordinal", "interval"]
RESAMPLES = 2000


def value_counts(ratings: NDArray[np.floating], values: NDArray[np.floating]) -> NDArray[np.float64]:
    """How many labellers gave each value to each query.

    Args:
        ratings: (labellers, queries), NaN where a labeller gave none.
        values: (V,), those that count, in their order.

    Returns:
        (queries, V).
    """
    return (ratings.T[:, :, None] == values).sum(axis=1).astype(np.float64)


def alpha(counts: NDArray[np.float64], level: Level = "nominal") -> float:
    """Krippendorff's α, 1 - observed / expected disagreement (Content Analysis, 3rd edition, chapter 12).

    Args:
        counts: (queries, V), how many labellers gave each value; see value_counts.
        level: any two values differ alike (nominal), by what lies between them in frequency (ordinal), or by the square
            of their places' distance (interval).

    Returns:
        NaN where no query has two ratings, or where all ratings are the same: then nothing could have differed.
    """
    return float(_alphas(_coincidences(counts).sum(axis=0)[None], level)[0])


def alpha_interval(counts: NDArray[np.float64], level: Level, seed: int) -> Interval:
    """α with a 95 % interval from resampling the queries that two or more labellers have answered.

    Args:
        counts: as of alpha.
        level: as of alpha.
        seed: of the resampling.

    Returns:
        value NaN as of alpha; ends NaN where fewer than two queries were shared.
    """
    each = _coincidences(counts)
    value = float(_alphas(each.sum(axis=0)[None], level)[0])
    if len(each) < 2 or np.isnan(value):
        return Interval(value, np.nan, np.nan)
    drawn = np.random.default_rng(seed).multinomial(len(each), np.full(len(each), 1 / len(each)), size=RESAMPLES)
    alphas = _alphas(np.tensordot(drawn, each, axes=1), level)
    low, high = np.nanquantile(alphas, (0.025, 0.975))
    return Interval(value, float(low), float(high))


def _coincidences(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """(queries with two ratings or more, V, V): ordered pairs of ratings within a query, each query worth its ratings.

    A query of m ratings holds m (m - 1) such pairs, which weigh 1 / (m - 1).
    """
    counts = counts[counts.sum(axis=1) >= 2]
    pairs = counts[:, :, None] * counts[:, None, :] - counts[:, :, None] * np.eye(counts.shape[1])
    return pairs / (counts.sum(axis=1) - 1)[:, None, None]


def _alphas(coincidences: NDArray[np.float64], level: Level) -> NDArray[np.float64]:
    """(R, V, V) -> (R,)."""
    frequency = coincidences.sum(axis=2)
    total = frequency.sum(axis=1)
    differences = _squared_differences(frequency, level)
    observed = (coincidences * differences).sum(axis=(1, 2))
    expected = (frequency[:, :, None] * frequency[:, None, :] * differences).sum(axis=(1, 2))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(expected > 0, 1 - (total - 1) * observed / expected, np.nan)


def _squared_differences(frequency: NDArray[np.float64], level: Level) -> NDArray[np.float64]:
    """(R, V) -> (R, V, V), how badly two values disagree."""
    values = frequency.shape[1]
    if level == "nominal":
        return np.broadcast_to(1 - np.eye(values), (len(frequency), values, values))
    places = np.broadcast_to(np.arange(values, dtype=np.float64), frequency.shape)
    if level == "ordinal":
        places = np.cumsum(frequency, axis=1) - frequency / 2  # the middle rank of those who gave the value
    return np.square(places[:, :, None] - places[:, None, :])
