"""Whether the predictor's probabilities mean what they say, by answers that it was not fitted to.

Measured by reward_training.RewardTrainer.calibrate on what its members hold out; kept in RUN/calibration.json, of which
the report draws the reliability diagram, and in metrics.csv, from which alarms.py reads.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pydantic
from numpy.typing import NDArray

from prefrl.errors import UserError

BINS = 10  # of equal width over probabilities from 0 to 1


@dataclass(frozen=True)
class Bin:
    """Predictions of about one probability, and what was answered.

    An answer that several members hold out counts once for each of them, as their predictions of it differ.
    """

    low: float
    high: float
    predicted: float  # mean probability that the left segment is preferred
    preferred: float  # share of the answers that prefer it; equal counts half
    predictions: int  # of one member about one answer each
    answers: int  # different ones among them

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's 95 % interval of the share, by the number of different answers."""
        n, z = self.answers, 1.96
        middle = (self.preferred + z**2 / (2 * n)) / (1 + z**2 / n)
        half = z / (1 + z**2 / n) * math.sqrt(self.preferred * (1 - self.preferred) / n + z**2 / (4 * n**2))
        return middle - half, middle + half


@dataclass(frozen=True)
class Calibration:
    """Probabilities beside answers; the preference model's, so with its error rate in them, and each member's own.

    A labeller who errs less often than `--reward.error-rate` assumes, as an oracle that never does, makes a good
    predictor look too cautious, by up to half that rate.
    """

    bins: tuple[Bin, ...]  # those that hold a prediction, lowest first
    accuracy: float  # share of decided answers predicted right; NaN if none is decided
    confidence: float  # mean probability of the segment expected to be preferred, over the same answers

    @property
    def predictions(self) -> int:
        """How many there are."""
        return sum(each.predictions for each in self.bins)

    @property
    def error(self) -> float:
        """Expected calibration error: the bins' mean distance between probability and share."""
        distances = [each.predictions * abs(each.predicted - each.preferred) for each in self.bins]
        return sum(distances) / self.predictions

    @property
    def error_by_chance(self) -> float:
        """About the calibration error that the most honest predictor would show, from the number of answers alone."""
        deviations = [
            each.predictions * math.sqrt(each.predicted * (1 - each.predicted) / each.answers) for each in self.bins
        ]
        return math.sqrt(2 / math.pi) * sum(deviations) / self.predictions

    def as_json(self) -> dict[str, Any]:
        """What goes into calibration.json."""
        return {"calibration_error": self.error, **dataclasses.asdict(self)}

    @classmethod
    def from_json(cls, content: Mapping[str, Any], name: object = "calibration.json") -> Calibration:
        """Undo `as_json`.

        Args:
            content: may hold more.
            name: of the file, for the error's message.

        Raises:
            UserError: it holds something else.
        """
        try:
            found = pydantic.TypeAdapter(cls).validate_python(content)
        except pydantic.ValidationError as error:
            first = error.errors()[0]
            raise UserError(f"{name}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from error
        if not all(0 <= p <= 1 for each in found.bins for p in (each.low, each.high, each.predicted, each.preferred)):
            raise UserError(f"{name}: a probability is outside [0, 1]")
        if not found.bins or min(min(each.predictions, each.answers) for each in found.bins) < 1:
            raise UserError(f"{name}: a bin without predictions")
        return found


def calibrate(
    left: NDArray[np.floating], preferred: NDArray[np.floating], answers: NDArray[np.integer]
) -> Calibration | None:
    """Lay predictions beside answers.

    Args:
        left: (N,) probability that the left segment is preferred.
        preferred: (N,) 1 where it was, 0 where the right one was, ½ where they were equally good.
        answers: (N,) which answer each prediction is about.

    Returns:
        None where N is 0.
    """
    if not len(left):
        return None
    left, preferred = left.astype(np.float64), preferred.astype(np.float64)
    place = np.minimum((left * BINS).astype(int), BINS - 1)
    bins = []
    for i in np.unique(place):
        inside = place == i
        bins.append(
            Bin(
                low=int(i) / BINS,
                high=(int(i) + 1) / BINS,
                predicted=float(left[inside].mean()),
                preferred=float(preferred[inside].mean()),
                predictions=int(inside.sum()),
                answers=len(np.unique(answers[inside])),
            )
        )
    decided = preferred != 0.5
    if not decided.any():
        return Calibration(tuple(bins), math.nan, math.nan)
    right = (left > 0.5) == (preferred > 0.5)
    confidence = np.maximum(left, 1 - left)
    return Calibration(tuple(bins), float(right[decided].mean()), float(confidence[decided].mean()))


def calibration_metrics(calibration: Calibration | None) -> dict[str, float]:
    """By the column names of metrics.csv; NaN where it was not measured."""
    if calibration is None:
        return dict.fromkeys(
            ("held_out/accuracy", "held_out/confidence", "held_out/calibration_error", "held_out/predictions"), math.nan
        )
    return {
        "held_out/accuracy": calibration.accuracy,
        "held_out/confidence": calibration.confidence,
        "held_out/calibration_error": calibration.error,
        "held_out/predictions": float(calibration.predictions),
    }
