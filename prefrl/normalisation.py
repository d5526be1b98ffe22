"""Running mean and deviation of raw observations, for the predictor's and the policy's inputs."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


class RunningMoments:
    """Mean and deviation of all vectors seen so far (Chan's parallel update).

    Args:
        size: length of one vector.
    """

    def __init__(self, size: int) -> None:
        self.count = 0
        self.mean = np.zeros(size)
        self._squares = np.zeros(size)  # sum of squared differences from the mean

    @property
    def deviation(self) -> NDArray[np.float64]:
        """(size,); ones before anything was seen."""
        return np.sqrt(self._squares / self.count) if self.count else np.ones_like(self.mean)

    def update(self, batch: NDArray[np.floating]) -> None:
        """Take in (..., size) vectors."""
        rows = batch.reshape(-1, len(self.mean)).astype(np.float64)
        mean = rows.mean(axis=0)
        difference = mean - self.mean
        total = self.count + len(rows)
        self._squares += ((rows - mean) ** 2).sum(axis=0) + difference**2 * self.count * len(rows) / total
        self.mean += difference * len(rows) / total
        self.count = total

    def state(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {"count": self.count, "mean": self.mean.copy(), "squares": self._squares.copy()}

    def load_state(self, state: dict[str, Any]) -> None:
        """Undo `state`."""
        self.count, self.mean, self._squares = state["count"], state["mean"].copy(), state["squares"].copy()
