"""A number with its 95 % interval, as shares.py, krippendorff.py and teacher_fit.py give it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import scipy  # scipy.stats takes half a second to load: when it is first used

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Interval:
    """A value and the ends of its 95 % interval; NaN where there was nothing to measure."""

    value: float
    low: float
    high: float

    def __contains__(self, truth: float) -> bool:
        return self.low <= truth <= self.high

    @property
    def half(self) -> float:
        """Half the interval's width."""
        return (self.high - self.low) / 2


UNKNOWN = Interval(math.nan, math.nan, math.nan)


def wilson(successes: int, trials: int) -> Interval:
    """A share with Wilson's interval, which holds for few trials and for shares near 0 and 1 too."""
    if trials == 0:
        return UNKNOWN
    ends = scipy.stats.binomtest(int(successes), int(trials)).proportion_ci(CONFIDENCE, method="wilson")
    return Interval(successes / trials, float(ends.low), float(ends.high))
