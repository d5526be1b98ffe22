"""Reward hacking: the predicted return climbs while the true return, or the agreement with held-out answers, falls.

Reads the columns of metrics.csv alone, so that it can be asked of any run, finished or not. Used by run.py while it
trains, by the command line when it has, and by the report.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from prefrl.plots.metrics import Metrics

STRETCHES = 24  # that a run is cut into; each curve is smoothed to its mean over the rows of a stretch
ROWS = 3  # to a stretch at least, in short runs
FEWEST = 8  # stretches of which anything is said
SHORTEST = FEWEST * ROWS  # rows of metrics.csv
WINDOW = 4  # two stretches are compared that lie no further apart than this part of the run
CLIMB = 0.1  # of the predicted return, at least, in its ranges over the run so far
FALL = 0.2  # of the true return, at least, in its ranges
LOST = 0.5  # of what the held-out agreement had above a coin's 0.5, at least
SURE = 4.0  # standard errors that each change must come to: some 140 pairs of stretches are compared, again and again

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
    beside the curve's range as well as sure beside its noise from row to row. Of several that overlap, the one with the
    largest fall is told.

    The predicted return is the current predictor's, in deviations of its reward on the random policy's steps: it can
    also climb because the predictor changed and not the policy. That is no false alarm: a predictor that says more and
    more of a policy that earns less and less misleads it, however the two came apart. And a change of the predictor's
    scale alone seldom looks like it, as a sound predictor's return falls with the true one.

    The held-out agreement also falls in sound runs, as later questions are about segments that are more alike: only the
    loss of half of what it had above chance counts. Where the true return is constant or empty, as in an environment
    whose reward only people know, it decides alone. Where the environment's reward is not what was asked for, a fall of
    the true return says no more than that.

    Args:
        metrics: columns `predicted_return`, and `true_return` or `fit/accuracy`, by row; others are not looked at.

    Returns:
        by their steps; none where fewer than 24 rows were written, or a column is missing.
    """
    steps = metrics.get("env_steps", np.empty(0))
    count = min(STRETCHES, len(steps) // ROWS)
    if len(steps) < SHORTEST or not np.isfinite(steps).all():
        return []
    rows = np.array_split(np.arange(len(steps)), count)
    at = np.array([steps[each].mean() for each in rows])
    predicted, error = _smoothed(metrics, "predicted_return", rows)
    apart = np.arange(count)[None, :] - np.arange(count)[:, None]
    near = (apart > 0) & (apart <= count // WINDOW)
    climbs = near & _sure(predicted[None, :] - predicted[:, None], error, CLIMB * _range(predicted))

    alarms: list[Alarm] = []
    kinds: tuple[tuple[Kind, str], ...] = (("true return", "true_return"), ("held-out agreement", "fit/accuracy"))
    for kind, column in kinds:
        values, error = _smoothed(metrics, column, rows)
        least = FALL * _range(values) if kind == "true return" else LOST * (values[:, None] - 0.5)
        falls = values[:, None] - values[None, :]
        for first, last in _largest(np.where(climbs & _sure(falls, error, least), falls, 0.0)):
            sentence = (
                f"From {_steps(at[first])} to {_steps(at[last])} steps the predicted return climbed from "
                f"{_number(predicted[first])} to {_number(predicted[last])} while the {kind} fell from "
                f"{_told(kind, values[first])} to {_told(kind, values[last])}"
            )
            alarms.append(Alarm(round(at[first]), round(at[last]), kind, sentence))
    return sorted(alarms, key=lambda alarm: (alarm.from_steps, alarm.to_steps))


def _smoothed(
    metrics: Metrics, column: str, rows: Sequence[NDArray[np.intp]]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean over each stretch, NaN where nothing was measured, and its standard error by the noise from row to row."""
    values = metrics.get(column, np.full(sum(map(len, rows)), np.nan))
    known = [values[each][np.isfinite(values[each])] for each in rows]
    means = np.array([each.mean() if len(each) else np.nan for each in known])
    steps_between = np.abs(np.diff(np.concatenate(known)))
    # By the median, which a few jumps leave as it is; neighbours differ by √2 times what one row errs.
    noise = 1.4826 * float(np.median(steps_between)) / np.sqrt(2) if len(steps_between) else 0.0
    return means, noise / np.sqrt([max(1, len(each)) for each in known])


def _sure(
    changes: NDArray[np.float64], error: NDArray[np.float64], least: float | NDArray[np.float64]
) -> NDArray[np.bool_]:
    """Which changes between two stretches, (count, count), are at least so large, and not noise."""
    return (changes > 0) & (changes >= least) & (changes >= SURE * np.hypot(error[:, None], error[None, :]))


def _largest(falls: NDArray[np.float64]) -> list[tuple[int, int]]:
    """The pairs of stretches with the largest falls, (count, count) and 0 where there is none, that do not overlap."""
    found: list[tuple[int, int]] = []
    falls = falls.copy()
    while (falls > 0).any():
        first, last = (int(i) for i in np.unravel_index(falls.argmax(), falls.shape))
        found.append((first, last))
        falls[: last + 1, first:] = 0  # those that begin before its end and end after its beginning
    return found


def _range(values: NDArray[np.float64]) -> float:
    known = values[np.isfinite(values)]
    return float(np.ptp(known)) if len(known) else 0.0


def _told(kind: Kind, value: float) -> str:
    return _number(value) if kind == "true return" else f"{value:.0%}"


def _number(value: float) -> str:
    text = f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return text.replace("-", "−")


def _steps(value: float) -> str:
    return f"{value / 1e6:.2f}M" if value >= 1e6 else f"{value / 1e3:.0f}k" if value >= 1e4 else f"{value:.0f}"
