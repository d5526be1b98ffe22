"""Reward hacking: the predicted return climbs while the true return, or the agreement with held-out answers, falls.

Reads the columns of metrics.csv alone, so that it can be asked of any run, finished or not. Used by run_in_progress.py
while it trains, by the command line when it has, and by the report.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from prefrl.metrics import MONITORED_PAIRS, Metrics

STRETCHES = 24  # that a run is cut into; each curve is smoothed to its mean over the rows of a stretch
ROWS = 3  # to a stretch at least, in short runs
FEWEST = 8  # stretches of which anything is said
SHORTEST = FEWEST * ROWS  # rows of metrics.csv
WINDOW = 4  # two stretches are compared that lie no further apart than this part of the run
CLIMB = 0.1  # of the predicted return, at least, in its ranges over the run so far
FALL = 0.2  # of the true return, at least, in its ranges
NOTICED = 0.02  # of the true return's own size, at least: that of a run that learns nothing has next to no range
AGREED = 0.65  # held-out agreement that can be lost, at least: of what hardly beats a coin, half is next to nothing
LOST = 0.5  # of what the held-out agreement had above a coin's 0.5, at least
SURE = 4.0  # standard errors that each change must come to: some 120 pairs of stretches are compared, again and again

Kind = Literal["true return", "held-out agreement"]


@dataclass(frozen=True)
class Alarm:
    """Predicted return and truth have parted."""

    from_steps: int
    to_steps: int
    kind: Kind  # what falls
    sentence: str  # with the numbers, beginning with a capital and without a full stop


def reward_alarms(metrics: Metrics) -> list[Alarm]:
    """Where the predicted return climbs while the true return or the held-out agreement falls.

    Both changes are between the same two stretches of the run, no more than a quarter of it apart, and each is large
    beside the curve's range as well as sure beside its noise from row to row, for the agreement also beside what so few
    answers can tell; the true return has to lose a fiftieth of its size too. Of several that overlap, the one with the
    largest fall is told.

    The predicted return is the current predictor's, in deviations of its reward on the random policy's steps: it can
    also climb because the predictor changed and not the policy. That is no false alarm: a predictor that says more and
    more of a policy that earns less and less misleads it, however the two came apart. And a change of the predictor's
    scale alone seldom looks like it, as a sound predictor's return falls with the true one.

    The held-out agreement also falls in sound runs, as later questions are about segments that are more alike: only the
    loss of half of what it had above chance counts, where it had been 65 % or more. Nothing is said of it in runs of up
    to 64 answers; that a good predictor has come to guess shows from about 200 on, that half is lost from about 700.
    Where the true return is constant or empty, as where only people know the reward, the agreement decides alone.
    Where the environment's reward is not what was asked for, a fall of the true return says no more than that.

    Args:
        metrics: columns `predicted_return`, and `true_return`, or `fit/accuracy` and `labels/answered`, by row; others
            are not looked at.

    Returns:
        by their steps; none where fewer than 24 rows were written, or a column is missing.
    """
    steps = metrics.get("env_steps", np.empty(0))
    count = min(STRETCHES, len(steps) // ROWS)
    if len(steps) < SHORTEST or not np.isfinite(steps).all():
        return []
    rows = np.array_split(np.arange(len(steps)), count)
    at = np.array([steps[each].mean() for each in rows])
    predicted = _Curve.smoothed(metrics, "predicted_return", rows)
    apart = np.arange(count)[None, :] - np.arange(count)[:, None]
    near = (apart > 0) & (apart <= count // WINDOW)
    climbs = near & _sure(-predicted.falls, predicted.variances, CLIMB * predicted.range)

    alarms: list[Alarm] = []
    kinds: tuple[tuple[Kind, str], ...] = (("true return", "true_return"), ("held-out agreement", "fit/accuracy"))
    for kind, column in kinds:
        curve = _Curve.smoothed(metrics, column, rows)
        if kind == "true return":
            sure = _sure(curve.falls, curve.variances, max(FALL * curve.range, NOTICED * curve.size))
        else:
            before = curve.means[:, None]
            sure = _sure(curve.falls, _agreement_variances(curve, metrics, rows), LOST * (before - 0.5))
            sure &= before >= AGREED
        for first, last in _largest(np.where(climbs & sure, curve.falls, 0.0)):
            sentence = (
                f"From {_steps(at[first])} to {_steps(at[last])} steps the predicted return climbed from "
                f"{_number(predicted.means[first])} to {_number(predicted.means[last])} while the {kind} fell from "
                f"{_told(kind, curve.means[first])} to {_told(kind, curve.means[last])}"
            )
            alarms.append(Alarm(round(at[first]), round(at[last]), kind, sentence))
    return sorted(alarms, key=lambda alarm: (alarm.from_steps, alarm.to_steps))


@dataclass(frozen=True)
class _Curve:
    """A column of metrics.csv, smoothed to one number for each stretch."""

    means: NDArray[np.float64]  # (count,), NaN where nothing was measured
    noise: float  # standard deviation of a row, by the differences of neighbours
    known: NDArray[np.int64]  # (count,) rows behind each mean, at least 1

    @classmethod
    def smoothed(cls, metrics: Metrics, column: str, rows: Sequence[NDArray[np.intp]]) -> _Curve:
        values = metrics.get(column, np.full(sum(map(len, rows)), np.nan))
        known = [values[each][np.isfinite(values[each])] for each in rows]
        means = np.array([each.mean() if len(each) else np.nan for each in known])
        steps_between = np.abs(np.diff(np.concatenate(known)))
        # By the median, which a few jumps leave as it is; neighbours differ by √2 times what one row errs.
        noise = 1.4826 * float(np.median(steps_between)) / np.sqrt(2) if len(steps_between) else 0.0
        return cls(means, noise, np.array([max(1, len(each)) for each in known]))

    @property
    def falls(self) -> NDArray[np.float64]:
        """From each stretch, by row, to each other one: (count, count)."""
        return self.means[:, None] - self.means[None, :]

    @property
    def variances(self) -> NDArray[np.float64]:
        """Of the falls, by the noise from row to row: (count, count)."""
        return self.noise**2 * _sums(1 / self.known)

    @property
    def range(self) -> float:
        known = self.means[np.isfinite(self.means)]
        return float(np.ptp(known)) if len(known) else 0.0

    @property
    def size(self) -> float:
        """How far from 0 it is, by the median."""
        known = self.means[np.isfinite(self.means)]
        return float(np.median(np.abs(known))) if len(known) else 0.0


def _agreement_variances(agreement: _Curve, metrics: Metrics, rows: Sequence[NDArray[np.intp]]) -> NDArray[np.float64]:
    """Of the agreement's falls, (count, count): by the number of answers, and by the pairs of them that rows look at.

    Of N answers so far, n = N/e are held out (in folds all N are, so that this errs on the quiet side): the square of
    √(p(1 − p)/n), with p between the two stretches' agreements as if nothing had changed, however many rows measure it
    on the same ones. It is more where few answers are decided, which is learnt from how much rows differ. Two stretches
    share most of their answers, and differ less than they would with answers of their own, as is assumed.

    The median noise from row to row comes on top, or, where it is less, what 64 pairs a row leave unseen: rows that are
    mostly 100 % have a median of 0.

    Returns:
        NaN without `labels/answered`, and infinite where it never exceeds 64: all rows are then of the same pairs.
    """
    unknown = np.full(sum(map(len, rows)), np.nan)
    answered = metrics.get("labels/answered", unknown)
    answers = np.maximum(1, [np.fmin.reduce(answered[each]) for each in rows])
    p = (agreement.means[:, None] + agreement.means[None, :]) / 2
    one_answer = np.maximum(
        math.e * p * (1 - p), _variance_of_an_answer(metrics.get("fit/accuracy", unknown), answered)
    )
    drawn = one_answer * _sums(1 / (MONITORED_PAIRS * agreement.known))
    return one_answer * _sums(1 / answers) + np.maximum(agreement.variances, drawn)


def _variance_of_an_answer(accuracy: NDArray[np.float64], answered: NDArray[np.float64]) -> float:
    """N times the square of the error of an agreement by N answers, held out and decided or not; infinite if unknown.

    Two rows of different 64 of the same N pairs differ by twice the variance of a sample without replacement. A
    predictor that changes from row to row makes it larger.

    Args:
        accuracy, answered: by row.
    """
    squares = np.diff(accuracy) ** 2 / 2
    shares = 1 / MONITORED_PAIRS - 1 / np.maximum(answered[1:], 1)
    known = np.isfinite(squares) & (shares > 0)
    return float(squares[known].sum() / shares[known].sum()) if known.any() else math.inf


def _sums(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of each two, (count,) -> (count, count)."""
    return values[:, None] + values[None, :]


def _sure(
    changes: NDArray[np.float64], variances: NDArray[np.float64], least: float | NDArray[np.float64]
) -> NDArray[np.bool_]:
    """Which changes between two stretches, (count, count), are at least so large, and not noise."""
    return (changes > 0) & (changes >= least) & (changes >= SURE * np.sqrt(variances))


def _largest(falls: NDArray[np.float64]) -> list[tuple[int, int]]:
    """The pairs of stretches with the largest falls, (count, count) and 0 where there is none, that do not overlap."""
    found: list[tuple[int, int]] = []
    falls = falls.copy()
    while (falls > 0).any():
        first, last = (int(i) for i in np.unravel_index(falls.argmax(), falls.shape))
        found.append((first, last))
        falls[: last + 1, first:] = 0  # those that begin before its end and end after its beginning
    return found


def _told(kind: Kind, value: float) -> str:
    return _number(value) if kind == "true return" else f"{value:.0%}"


def _number(value: float) -> str:
    text = f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return text.replace("-", "−")


def _steps(value: float) -> str:
    return f"{value / 1e6:.2f}M" if value >= 1e6 else f"{value / 1e3:.0f}k" if value >= 1e4 else f"{value:.0f}"
