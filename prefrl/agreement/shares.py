"""Counted off a labeller's answers: agreement, side bias, time, drift, and how often each choice was made."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy  # scipy.stats takes half a second to load: when it is first used
from numpy.typing import NDArray

from prefrl.agreement.intervals import UNKNOWN, Interval, wilson
from prefrl.agreement.labellers import CHOICES, LEFT, RIGHT, Labeller
from prefrl.agreement.scores import Scores

FEWEST_PER_BIN = 20  # answers, below which a share says little
MOST_BINS = 6
PARTS = 5  # of a session
FEWEST_PER_PART = 5


@dataclass(frozen=True)
class Point:
    """A share among some of the answers."""

    at: float  # median of what they were sorted by
    share: Interval
    count: int


@dataclass(frozen=True)
class Habits:
    """How a labeller answers, whatever the scores are."""

    answers: int  # repeats included
    repeats: int  # of queries that came back with the sides swapped, and were told both times
    same: Interval  # share of those that were answered alike
    on_left: Interval  # share of the decided answers that went to what was on the left of the screen
    on_left_p: float  # probability of so many on one side, or more, where side does not matter; NaN without any
    seconds: tuple[float, float, float]  # quartiles per answer; NaN of an oracle
    choices: dict[str, Interval]  # share of each choice


def habits(labeller: Labeller) -> Habits:
    """Counts of one labeller's answers; all of them, repeats included."""
    told = labeller.choices <= RIGHT
    again = np.flatnonzero(~labeller.first)
    again = again[(labeller.swapped[again] != labeller.swapped[labeller.earlier[again]])]
    again = again[told[again] & told[labeller.earlier[again]]]
    alike = labeller.choices[again] == labeller.choices[labeller.earlier[again]]
    on_left = ((labeller.choices == LEFT) != labeller.swapped)[labeller.decided]
    sides = scipy.stats.binomtest(int(on_left.sum()), len(on_left)).pvalue if len(on_left) else math.nan
    timed = labeller.seconds[np.isfinite(labeller.seconds)]
    lower, median, upper = np.quantile(timed, (0.25, 0.5, 0.75)).tolist() if len(timed) else (math.nan,) * 3
    return Habits(
        answers=len(labeller),
        repeats=len(again),
        same=wilson(alike.sum(), len(again)),
        on_left=wilson(on_left.sum(), len(on_left)),
        on_left_p=float(sides),
        seconds=(lower, median, upper),
        choices={name: wilson((labeller.choices == i).sum(), len(labeller)) for i, name in enumerate(CHOICES)},
    )


def judgements(labeller: Labeller, scores: Scores) -> tuple[NDArray[np.bool_], NDArray[np.float64], NDArray[np.int64]]:
    """The first answers that decide between segments whose scores differ.

    Returns:
        whether each prefers the higher score, how far apart the two are in deviations, and which of the labeller's
        answers it is; (M,) each.
    """
    differences = scores.differences[labeller.pairs]
    kept = np.flatnonzero(labeller.first & labeller.decided & (differences != 0))
    right = (labeller.choices[kept] == LEFT) == (differences[kept] > 0)
    return right, np.abs(differences[kept]), kept


def agreement(labeller: Labeller, scores: Scores) -> Interval:
    """Share of the decided first answers that prefer the higher score; ties are left out."""
    right, _, _ = judgements(labeller, scores)
    return wilson(right.sum(), len(right))


def agreement_by_distance(labeller: Labeller, scores: Scores) -> list[Point]:
    """Agreement in bins of equally many answers, from segments that are all but alike to those far apart."""
    right, distances, _ = judgements(labeller, scores)
    if not len(right):
        return []
    order = np.argsort(distances, kind="stable")
    bins = max(1, min(MOST_BINS, len(right) // FEWEST_PER_BIN))
    return [_point(right[part], distances[part]) for part in np.array_split(order, bins)]


def agreement_by_part(labeller: Labeller, scores: Scores) -> list[Point]:
    """Agreement in consecutive fifths of the labeller's first answers; `at` is in answers. Empty for very few."""
    right, _, at = judgements(labeller, scores)
    if len(right) < PARTS * FEWEST_PER_PART:
        return []
    return [_point(right[part], at[part] + 1.0) for part in np.array_split(np.arange(len(right)), PARTS)]


def seconds_by_part(labeller: Labeller) -> list[tuple[float, float]]:
    """Median answer, and median seconds per answer, of consecutive fifths of all answers. Empty for very few."""
    known = np.flatnonzero(np.isfinite(labeller.seconds))
    if len(known) < PARTS * FEWEST_PER_PART:
        return []
    parts: Sequence[NDArray[np.int64]] = np.array_split(known, PARTS)
    return [(float(np.median(part)) + 1, float(np.median(labeller.seconds[part]))) for part in parts]


def drift(labeller: Labeller, scores: Scores) -> Interval:
    """Change in the log odds of agreeing from the first to the last answer, at equal distance of the segments.

    By logistic regression on an answer's place in the session, the distance and its logarithm: queries get closer as a
    run goes on, and one of these alone leaves some of that to the place. NaN where there are few answers, or so few of
    one kind that the change has no estimate.
    """
    right, distances, at = judgements(labeller, scores)
    if len(right) < PARTS * FEWEST_PER_PART or min(right.sum(), (~right).sum()) < FEWEST_PER_PART:
        return UNKNOWN
    place = at / max(len(labeller) - 1, 1)
    design = np.stack([np.ones(len(right)), place, distances, np.log(distances)], axis=1)
    weights = np.zeros(design.shape[1])
    for _ in range(50):
        chance = 1 / (1 + np.exp(-np.clip(design @ weights, -30, 30)))
        information = design.T @ (design * (chance * (1 - chance))[:, None])
        if np.linalg.cond(information) > 1e10:
            return UNKNOWN  # some line through place and distance parts them all but wholly
        step = np.linalg.solve(information, design.T @ (right - chance))
        weights += np.clip(step, -5, 5)
        if np.abs(step).max() < 1e-8:
            half = scipy.stats.norm.ppf(0.975) * math.sqrt(np.linalg.inv(information)[1, 1])
            return Interval(float(weights[1]), float(weights[1] - half), float(weights[1] + half))
    return UNKNOWN


def _point(right: NDArray[np.bool_], sorted_by: NDArray[np.floating]) -> Point:
    return Point(float(np.median(sorted_by)), wilson(right.sum(), len(right)), len(right))
