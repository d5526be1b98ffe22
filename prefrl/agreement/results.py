"""What `prefrl compare` works out of a survey, for terminal.py and page.py to show."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from prefrl.agreement.intervals import Interval
from prefrl.agreement.krippendorff import alpha_interval, value_counts
from prefrl.agreement.labellers import EQUAL, LEFT, RIGHT, Labeller, Survey
from prefrl.agreement.shares import Habits, agreement, drift, habits
from prefrl.agreement.teacher_fit import FittedTeacher, fit_teacher

LONGEST_NAME = 24  # of a labeller, in figures and in the terminal


@dataclass(frozen=True)
class Result:
    """One labeller; what depends on a score is in the order of Survey.scores."""

    labeller: Labeller
    name: str  # as it is shown where there is room
    short: str  # as figures and the terminal show it
    habits: Habits
    agreement: tuple[Interval, ...]
    drift: tuple[Interval, ...]
    fits: tuple[FittedTeacher, ...]


@dataclass(frozen=True)
class Between:
    """Krippendorff's α of a group of labellers."""

    group: str
    labellers: int
    queries: int  # that two or more of them answered left, right or equal
    nominal: Interval
    ordinal: Interval  # left < equal < right


@dataclass(frozen=True)
class Results:
    """A survey, worked out."""

    survey: Survey
    labellers: tuple[Result, ...]
    between: tuple[Between, ...]  # all labellers, then people alone, then oracles alone; whom there are two of
    pairs: dict[tuple[int, int], Between]  # by the labellers' indices, the smaller first


def work_out(survey: Survey, seed: int) -> Results:
    """Everything that is shown of a survey.

    Args:
        survey: of a store.
        seed: of the resampling behind the intervals of α.
    """
    oracles = [each for each in survey.labellers if each.is_oracle]
    groups = [("all labellers", survey.labellers)]
    if oracles and survey.people:
        groups += [("people", survey.people), ("oracles", tuple(oracles))]
    pairs = itertools.combinations(range(len(survey.labellers)), 2)
    return Results(
        survey,
        tuple(_result(each, survey) for each in survey.labellers),
        tuple(_between(name, group, survey, seed) for name, group in groups if len(group) > 1),
        {(i, j): _between("two", (survey.labellers[i], survey.labellers[j]), survey, seed) for i, j in pairs},
    )


def _result(labeller: Labeller, survey: Survey) -> Result:
    return Result(
        labeller,
        plain_name(labeller.name),
        short_name(labeller.name),
        habits(labeller),
        tuple(agreement(labeller, scores) for scores in survey.scores),
        tuple(drift(labeller, scores) for scores in survey.scores),
        tuple(fit_teacher(labeller, survey, scores) for scores in survey.scores),
    )


def _between(group: str, labellers: Sequence[Labeller], survey: Survey, seed: int) -> Between:
    counts = value_counts(survey.ratings(labellers), np.array([LEFT, EQUAL, RIGHT], dtype=np.float64))
    shared = int((counts.sum(axis=1) >= 2).sum())
    nominal, ordinal = (alpha_interval(counts, level, seed) for level in ("nominal", "ordinal"))
    return Between(group, len(labellers), shared, nominal, ordinal)


def plain_name(name: str) -> str:
    """A labeller's name without what moves a terminal's cursor or turns a line around."""
    plain = "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in name)
    return plain if plain.strip() else "(no name)"


def short_name(name: str) -> str:
    """The plain name, and not endlessly long."""
    plain = plain_name(name)
    return plain if len(plain) <= LONGEST_NAME else plain[: LONGEST_NAME - 1] + "…"
