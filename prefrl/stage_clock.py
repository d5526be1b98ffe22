"""Where the time of a run goes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

STAGES = ("simulate", "policy", "predict", "label", "fit", "ppo", "checkpoint")


class StageClock:
    """Seconds spent in each stage since `shares` was last called."""

    def __init__(self) -> None:
        self._seconds = dict.fromkeys(STAGES, 0.0)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Count the time of a block to a stage."""
        began = time.perf_counter()
        yield
        self.add(name, time.perf_counter() - began)

    def add(self, name: str, seconds: float) -> None:
        """Count seconds to a stage."""
        self._seconds[name] += seconds

    def shares(self) -> dict[str, float]:
        """Each stage's share of the time counted; starts again from zero."""
        total = sum(self._seconds.values()) or 1.0
        shares = {f"share/{name}": seconds / total for name, seconds in self._seconds.items()}
        self._seconds = dict.fromkeys(STAGES, 0.0)
        return shares
