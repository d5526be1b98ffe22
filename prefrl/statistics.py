"""What a few runs on several tasks say together, and how surely (Agarwal et al., 2021, "Statistical precipice").

Reads final returns; the report of a sweep shows what comes of them.

    scores = normalised_scores(returns, random, [task.mean() for task in baseline])
    stratified_bootstrap(interquartile_mean, scores, rng=np.random.default_rng(0))

Everywhere, samples are an array per task, (..., runs): tasks may differ in their number of runs, and leading axes hold
resamples, over which every statistic works at once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import scipy  # scipy.stats takes half a second to load: when it is first used
from numpy.typing import ArrayLike, NDArray

Samples = Sequence[NDArray[np.float64]]  # per task, (..., runs)
RESAMPLES = 10_000
LEVEL = 0.95


@dataclass(frozen=True)
class Bootstrapped:
    """A statistic with the ends of its interval, each of the statistic's own shape; NaN where it is undefined."""

    value: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]


def normalised_scores(
    returns: Samples, random: Sequence[float], baseline: Sequence[ArrayLike]
) -> list[NDArray[np.float64]]:
    """Returns on a scale on which the random policy has 0 and the baseline 1.

    Args:
        returns: per task, (..., runs).
        random: per task, the random policy's return.
        baseline: per task, the baseline's, (...): a number, or one for each resample.

    Returns:
        per task, (..., runs); NaN where the baseline is no better than random, for then there is no such scale.

    Raises:
        ValueError: the arguments are not about the same number of tasks.
    """
    scores = []
    for own, zero, one in zip(returns, random, baseline, strict=True):
        span = np.asarray(one, dtype=np.float64)[..., None] - zero
        scores.append((own - zero) / np.where(span > 0, span, np.nan))
    return scores


def interquartile_mean(scores: Samples) -> NDArray[np.float64]:
    """Mean of the middle half of all runs: the lowest and the highest quarter, rounded down, are left out.

    Args:
        scores: per task, (..., runs); all runs weigh alike, and so do tasks with equally many.

    Returns:
        (...,).
    """
    pooled = np.sort(_pooled(scores), axis=-1)  # NaN comes last, where it would be cut away
    cut = pooled.shape[-1] // 4
    middle = pooled[..., cut : pooled.shape[-1] - cut].mean(axis=-1)
    return np.where(np.isnan(pooled[..., -1]), np.nan, middle)


def optimality_gap(scores: Samples, threshold: float = 1.0) -> NDArray[np.float64]:
    """By how much runs fall short of the threshold, on average; what goes beyond it does not count.

    Args:
        scores: per task, (..., runs).

    Returns:
        (...,); 0 is best.
    """
    return threshold - np.minimum(_pooled(scores), threshold).mean(axis=-1)


def performance_profile(scores: Samples, thresholds: NDArray[np.float64]) -> NDArray[np.float64]:
    """The share of runs that score above each threshold.

    Args:
        scores: per task, (..., runs).
        thresholds: (K,).

    Returns:
        (..., K).
    """
    pooled = _pooled(scores)
    shares = np.stack([(pooled > threshold).mean(axis=-1) for threshold in thresholds], axis=-1)
    return np.where(np.isnan(pooled).any(axis=-1, keepdims=True), np.nan, shares)


def probability_of_improvement(ours: Samples, theirs: Samples) -> NDArray[np.float64]:
    """The chance that a run of ours beats one of theirs, ties counting half, on average over tasks.

    Within a task it is Mann and Whitney's U over the number of pairs, so no scale of returns matters.

    Args:
        ours, theirs: per task, (..., runs); numbers of runs may differ.

    Returns:
        (...,).

    Raises:
        ValueError: the two are not about the same number of tasks.
    """
    chances = []
    for a, b in zip(ours, theirs, strict=True):
        differences = a[..., :, None] - b[..., None, :]
        chances.append(((np.sign(differences) + 1) / 2).mean(axis=(-2, -1)))
    return np.mean(chances, axis=0)


def stratified_bootstrap(
    statistic: Callable[..., NDArray[np.float64]],
    *samples: Samples,
    rng: np.random.Generator,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
) -> Bootstrapped:
    """A statistic with its percentile interval: each resample draws runs, with replacement, within each task.

    The interval is about other seeds of the same tasks, not about other tasks. Of few runs it is too narrow: three
    seeds of one task, for instance, never leave the range that they span.

    Args:
        statistic: of the samples, over leading axes.
        samples: each drawn from by itself; per task, (runs,).
        rng: fixes the draws.
        level: share of the resamples within the interval.

    Returns:
        resamples for which the statistic is NaN are left out of the interval.

    Raises:
        ValueError: a task has no run.
    """
    drawn = [[_resampled(runs, rng, resamples) for runs in sample] for sample in samples]
    values = np.asarray(statistic(*drawn), dtype=np.float64)
    tails = (1 - level) / 2
    known = values[~np.isnan(values.reshape(resamples, -1)).any(axis=1)]
    shape = values.shape[1:]
    low, high = np.quantile(known, (tails, 1 - tails), axis=0) if len(known) else np.full((2, *shape), np.nan)
    return Bootstrapped(np.asarray(statistic(*samples)), np.asarray(low), np.asarray(high))


def mean_interval(values: ArrayLike, level: float = LEVEL) -> tuple[float, float, float]:
    """(mean, low, high) of a few runs of one task, by Student's t; NaN ends for one run, all NaN for none.

    A bootstrap of three values would be no wider than they lie apart, and miss the mean one time in four; t holds if
    runs are normally distributed, and is wide: 2.5 standard deviations to either side of three runs' mean.
    """
    runs = np.asarray(values, dtype=np.float64)
    if len(runs) < 2:
        return (float(runs[0]) if len(runs) else float("nan")), float("nan"), float("nan")
    half = scipy.stats.t.ppf((1 + level) / 2, len(runs) - 1) * runs.std(ddof=1) / np.sqrt(len(runs))
    return float(runs.mean()), float(runs.mean() - half), float(runs.mean() + half)


def _pooled(scores: Samples) -> NDArray[np.float64]:
    return np.concatenate([np.asarray(each, dtype=np.float64) for each in scores], axis=-1)


def _resampled(runs: NDArray[np.float64], rng: np.random.Generator, resamples: int) -> NDArray[np.float64]:
    """(runs,) -> (resamples, runs)."""
    if not len(runs):
        raise ValueError("a task without a run can't be resampled; leave it out")
    return np.asarray(runs, dtype=np.float64)[rng.integers(len(runs), size=(resamples, len(runs)))]
