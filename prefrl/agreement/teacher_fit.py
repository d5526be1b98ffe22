"""Which of B-Pref's teachers answers most like this labeller? Maximum likelihood of oracles.synthetic.Teacher.

A teacher skips, else calls equal, else prefers; each stage has parameters of its own, so that the likelihood is a
product and its joint maximum is that of each stage. In deviations as in scores.py:

    skip   with probability sigmoid((skip_below - better) / width)
    equal  with probability sigmoid((equal_within - distance) / width)
    left   with probability error_rate / 2 + (1 - error_rate) sigmoid(rationality (left - right)), both discounted

A scripted teacher's thresholds are hard: width 0. A person's are soft, so their width is fitted too.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy  # scipy.special takes a quarter of a second to load: when it is first used
from numpy.typing import NDArray

from prefrl.agreement.intervals import Interval
from prefrl.agreement.labellers import CANT_TELL, EQUAL, LEFT, SKIP, Labeller, Survey
from prefrl.agreement.profile import JUMPING_DROP, REGULAR_DROP, Axes, Profile, profiles
from prefrl.agreement.scores import Scores, ShownSegments
from prefrl.oracles.synthetic import Teacher

TYPICAL_RATIONALITY = 3.0  # per deviation, in the middle of the search
TYPICAL_WIDTH = 0.3  # deviations
BEYOND = 1.0  # deviations past the scores that were shown, up to which thresholds are sought
TINY = 1e-300  # in place of 0: a probability whose logarithm is taken, a width that is divided by


@dataclass(frozen=True)
class FittedTeacher:
    """Parameters of a Teacher with 95 % intervals; None where the answers say nothing about one.

    An end of ±inf says that the answers set no bound there; rationality inf is a teacher who always prefers the better.
    """

    score: str  # true return or judge
    answers: int  # first answers of a kind that teachers give, exact ties left out
    rationality: Interval | None
    discount: Interval | None  # of the true return alone
    error_rate: Interval | None
    skip_below: Interval | None
    skip_width: float | None  # deviations over which skipping sets in; 0 is a hard threshold
    equal_within: Interval | None
    equal_width: float | None

    def as_teacher(self) -> Teacher:
        """The scripted teacher with these parameters, and a perfect one's where the answers say nothing.

        Its thresholds are hard, whatever width was fitted; of one without an upper bound the lower one is taken.
        """
        beta, gamma, errors = self.rationality, self.discount, self.error_rate
        return Teacher(
            rationality=None if beta is None or math.isinf(beta.value) else beta.value,
            discount=1.0 if gamma is None else gamma.value,
            error_rate=0.0 if errors is None else errors.value,
            skip_below=_hard(self.skip_below),
            equal_within=_hard(self.equal_within) or 0.0,
        )


def fit_teacher(labeller: Labeller, survey: Survey, scores: Scores) -> FittedTeacher:
    """Fit the five teachers' parameters to a labeller's first answers.

    "Can't tell", which no teacher says, and exact ties, which teachers call equal whatever their parameters, are left
    out.

    Args:
        labeller: whose answers.
        survey: that the labeller took part in.
        scores: what the labeller is supposed to compare, one of survey.scores.
    """
    kept = labeller.first & (labeller.choices != CANT_TELL) & (scores.differences[labeller.pairs] != 0)
    pairs, choices = labeller.pairs[kept], labeller.choices[kept]
    answered = choices != SKIP
    decided = answered & (choices != EQUAL)
    skip_below, skip_width = _threshold(scores.best[pairs], ~answered, -math.inf)
    equal_within, equal_width = _threshold(scores.distances[pairs[answered]], choices[answered] == EQUAL, 0.0)
    rationality, discount, error_rate = _preferences(
        pairs[decided], choices[decided] == LEFT, survey.shown if scores is survey.true_return else None, scores
    )
    return FittedTeacher(
        *(scores.name, len(pairs), rationality, discount, error_rate),
        *(skip_below, skip_width, equal_within, equal_width),
    )


def _threshold(
    values: NDArray[np.float64], below: NDArray[np.bool_], least: float
) -> tuple[Interval | None, float | None]:
    """A soft threshold and its width, from values and whether each was taken to lie below it.

    Args:
        values: (N,) deviations.
        below: (N,).
        least: the smallest threshold there is.
    """
    if not below.any():
        return None, None  # anything below all values would do as well
    low, high = max(least, float(values.min()) - BEYOND), float(values.max()) + BEYOND
    signs = np.where(below, 1.0, -1.0)

    def log_likelihood(axes: Axes) -> NDArray[np.float64]:
        thresholds, slopes = low + axes[0] * (high - low), 1 / np.maximum(_stretched(axes[1], TYPICAL_WIDTH), TINY)
        margins = signs * (thresholds[:, None] - values)
        table = [np.log(np.maximum(scipy.special.expit(slope * margins), TINY)).sum(axis=1) for slope in slopes]
        return np.stack(table, axis=1)

    threshold, width = profiles(log_likelihood, 2)
    found = _interval(threshold, REGULAR_DROP, lambda unit: low + unit * (high - low), least, math.inf)
    return found, None if found is None else float(_stretched(np.float64(width.best), TYPICAL_WIDTH))


def _preferences(
    pairs: NDArray[np.int64], left: NDArray[np.bool_], shown: ShownSegments | None, scores: Scores
) -> tuple[Interval | None, Interval | None, Interval | None]:
    """β, γ and the error rate from the decided answers; γ only where there are rewards to discount."""
    if not len(pairs):
        return None, None, None
    signs = np.where(left, 1.0, -1.0)
    # The discount's axis: even in the weight of what lies a tenth of a segment back, as 0.9 and 0.99 differ as much
    # as 0.2 and 0.9 do.
    exponent = min(1.0, 10 / shown.longest) if shown else 1.0

    def log_likelihood(axes: Axes) -> NDArray[np.float64]:
        rationalities = _stretched(axes[0], TYPICAL_RATIONALITY)
        if shown is None:
            return _choice_likelihoods(signs * scores.differences[pairs], rationalities, axes[1])
        perceived = (shown.discounted_differences(float(unit**exponent))[pairs] for unit in axes[2])
        return np.stack([_choice_likelihoods(signs * each, rationalities, axes[1]) for each in perceived], axis=2)

    rationality, error_rate, *discount = profiles(log_likelihood, 3 if shown else 2)
    beta = _interval(rationality, REGULAR_DROP, lambda unit: _stretched(unit, TYPICAL_RATIONALITY), 0.0, math.inf)
    # Of a teacher who may always prefer the better, an answer turns from certain to a mistake at one value of γ.
    jumps = beta is None or math.isinf(beta.high)
    gamma = [
        _interval(each, JUMPING_DROP if jumps else REGULAR_DROP, lambda unit: unit**exponent, 0.0, 1.0)
        for each in discount
    ]
    return beta, gamma[0] if gamma else None, _interval(error_rate, REGULAR_DROP, lambda unit: unit, 0.0, 1.0)


def _hard(threshold: Interval | None) -> float | None:
    """A threshold that a scripted teacher can have."""
    if threshold is None:
        return None
    return threshold.low if math.isinf(threshold.value) else threshold.value


def _choice_likelihoods(
    margins: NDArray[np.float64], rationalities: NDArray[np.float64], error_rates: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Log likelihood of the answers, (B, E).

    Args:
        margins: (N,), how far the perceived difference speaks for the answer that was given.
        rationalities: (B,).
        error_rates: (E,).
    """
    with np.errstate(invalid="ignore"):
        chances = scipy.special.expit(margins[:, None] * rationalities)
    chances[:, np.isinf(rationalities)] = np.heaviside(margins, 0.5)[:, None]
    return np.stack([np.log(np.maximum(e / 2 + (1 - e) * chances, TINY)).sum(axis=0) for e in error_rates], axis=1)


def _stretched(unit: Any, typical: float) -> Any:
    """From the unit interval to [0, ∞], with `typical` in the middle."""
    with np.errstate(divide="ignore"):
        return typical * np.asarray(unit) / (1 - np.asarray(unit))


def _interval(
    profile: Profile, drop: float, value_of: Callable[[float], Any], least: float, greatest: float
) -> Interval | None:
    """In the parameter's own unit; None where the answers exclude no value of it."""
    low, high = profile.ends(drop)
    if (low, high) == (0.0, 1.0):
        return None
    ends = least if low == 0 else float(value_of(low)), greatest if high == 1 else float(value_of(high))
    # Where the very end is as good as any other, it is the simplest: always rational, all steps alike.
    at_end = bool(profile.at[-1] == 1 and profile.log_likelihood[-1] > -1e-6)
    return Interval(greatest if at_end else float(value_of(profile.best)), *ends)
