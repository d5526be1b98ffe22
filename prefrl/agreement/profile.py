"""Maximum likelihood on a grid that closes in on it, with profile-likelihood intervals.

No derivatives and no starting point: a teacher's likelihood has corners (β = ∞, ε = 0) and steps (hard thresholds).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

Axes = Sequence[NDArray[np.float64]]
LogLikelihood = Callable[[Axes], NDArray[np.float64]]

REGULAR_DROP = NormalDist().inv_cdf(0.975) ** 2 / 2  # 1.92: below the maximum, a 95 % interval's ends (Wilks)
# Where the likelihood jumps, the best point gains on the true one by a two-sided random walk, which ever gains c with
# probability 2 exp(-c).
JUMPING_DROP = float(np.log(2 / 0.05))
KEPT_DROP = 6.0  # what the grid keeps of the likelihood while it closes in
COARSE, FINE, CLIMBING = 15, 31, 11  # points per axis
ROUNDS = 6  # in which the grid closes in
CLOSER_LOOKS = 8
SAME = 1e-9  # of two log likelihoods


@dataclass(frozen=True, eq=False)
class Profile:
    """The likelihood along one parameter, the others being at their best for each of its values."""

    at: NDArray[np.float64]  # (P,), in the parameter's own unit interval, ascending
    log_likelihood: NDArray[np.float64]  # (P,), less the maximum's
    best: float  # where it is highest

    def ends(self, drop: float) -> tuple[float, float]:
        """The outermost values whose log likelihood is at most `drop` below the maximum; 0 and 1 are the very ends."""
        inside = np.flatnonzero(self.log_likelihood >= -drop)
        first, last = inside[0], inside[-1]
        low = self.at[first] if first == 0 else self._crossing(first - 1, first, drop)
        high = self.at[last] if last == len(self.at) - 1 else self._crossing(last + 1, last, drop)
        return float(low), float(high)

    def _crossing(self, outside: int, inside: int, drop: float) -> float:
        below, above = self.log_likelihood[outside], self.log_likelihood[inside]
        share = (above + drop) / (above - below)  # towards the one outside
        return float(self.at[inside] + share * (self.at[outside] - self.at[inside]))


def profiles(log_likelihood: LogLikelihood, parameters: int) -> list[Profile]:
    """Maximise over the unit cube, and follow the likelihood from the maximum to where it is negligible.

    Args:
        log_likelihood: of every combination of the values on each axis: k arrays of (P,) -> (P, ..., P), finite.
        parameters: how many, k.

    Returns:
        one per parameter, over the part of [0, 1] in which the likelihood is not negligible.
    """
    boxes = [(0.0, 1.0)] * parameters
    best = _climb(log_likelihood, boxes)
    for points in (*[COARSE] * ROUNDS, FINE):
        axes, along, peak = _look(log_likelihood, boxes, best.at, points)
        if peak.log_likelihood > best.log_likelihood + SAME:
            cells = [(high - low) / (points - 1) for low, high in boxes]
            near = _climb(log_likelihood, [_around(x, cell) for x, cell in zip(peak.at, cells, strict=True)])
            best = max(peak, near, key=lambda each: each.log_likelihood)
            axes, along, _ = _look(log_likelihood, boxes, best.at, points)
        along = [each - best.log_likelihood for each in along]
        boxes = [_hull(axis, each) for axis, each in zip(axes, along, strict=True)]
    return [Profile(axis, each, x) for axis, each, x in zip(axes, along, best.at, strict=True)]


@dataclass(frozen=True)
class _Peak:
    at: list[float]  # in the unit cube
    log_likelihood: float


def _look(
    log_likelihood: LogLikelihood, boxes: Sequence[tuple[float, float]], best: Sequence[float], points: int
) -> tuple[Axes, list[NDArray[np.float64]], _Peak]:
    """A grid with lines through the best so far, as a peak may lie between all others: the maximum along each axis."""
    axes = [np.union1d(np.linspace(*box, points), [x]) for box, x in zip(boxes, best, strict=True)]
    table = log_likelihood(axes)
    others = [tuple(other for other in range(table.ndim) if other != axis) for axis in range(table.ndim)]
    top = np.unravel_index(table.argmax(), table.shape)
    peak = _Peak([float(axis[i]) for axis, i in zip(axes, top, strict=True)], float(table.max()))
    return axes, [table.max(axis=each) for each in others], peak


def _climb(log_likelihood: LogLikelihood, boxes: Sequence[tuple[float, float]]) -> _Peak:
    """The highest point that is found by looking ever closer at the highest so far."""
    best = _Peak([], -np.inf)
    for _ in range(CLOSER_LOOKS):
        axes = [np.linspace(*box, CLIMBING) for box in boxes]
        table = log_likelihood(axes)
        highest = np.argwhere(table >= table.max() - SAME)
        # The middle of a plateau, such as a hard threshold has between two scores; its first point, should it be bent.
        for index in (highest.mean(axis=0), highest[0]):
            at = [float(np.interp(i, np.arange(CLIMBING), axis)) for i, axis in zip(index, axes, strict=True)]
            found = _Peak(at, float(log_likelihood([np.array([x]) for x in at]).item()))
            if found.log_likelihood >= max(table.max(), best.log_likelihood) - SAME:
                best = found
                break
        cells = [(high - low) / (CLIMBING - 1) for low, high in boxes]
        boxes = [_around(x, 1.5 * cell) for x, cell in zip(best.at, cells, strict=True)]
    return best


def _around(x: float, reach: float) -> tuple[float, float]:
    return max(x - reach, 0.0), min(x + reach, 1.0)


def _hull(axis: NDArray[np.float64], profile: NDArray[np.float64]) -> tuple[float, float]:
    """Where the profile is not negligible, and a cell more on either side."""
    kept = np.flatnonzero(profile >= -KEPT_DROP)
    return float(axis[max(kept[0] - 1, 0)]), float(axis[min(kept[-1] + 1, len(axis) - 1)])
