"""What a training command shows of its progress: a bar on a terminal, now and then a line elsewhere."""

from __future__ import annotations

import math
import sys
import time
from dataclasses import dataclass

from rich.progress import BarColumn, TextColumn
from rich.progress import Progress as Bar

from prefrl.config import TrainConfig

PLAIN_LINE_SECONDS = 10.0  # between lines where the output is not a terminal


@dataclass(frozen=True)
class Progress:
    """What a progress bar shows."""

    env_steps: int
    labels: int
    true_return: float  # of the last episodes that ended; NaN before
    steps_per_second: float
    unanswered: int = 0  # queries whose answers are waited for


def shown_progress(config: TrainConfig, begun_at: int) -> LiveProgress | PlainProgress:
    """Of a run that begins, or goes on, at that many environment steps."""
    return LiveProgress(config, begun_at) if sys.stdout.isatty() else PlainProgress(config, begun_at)


class LiveProgress:
    """A progress bar with steps, labels, true return, steps per second and time left."""

    def __init__(self, config: TrainConfig, begun_at: int) -> None:
        self._config, self._begun_at = config, begun_at
        self._bar = Bar(BarColumn(bar_width=None), TextColumn("{task.fields[text]}"), expand=True)
        self._task = self._bar.add_task(config.task, total=config.steps, text="starting")
        self._began = time.monotonic()

    def __enter__(self) -> LiveProgress:
        self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.stop()

    def update(self, progress: Progress) -> None:
        """Show the newest iteration."""
        text = progress_line(self._config, progress, time.monotonic() - self._began, self._begun_at)
        self._bar.update(self._task, completed=min(progress.env_steps, self._config.steps), text=text)

    def page(self, address: str) -> None:
        """Show where people label."""
        self._bar.console.print(invitation(address), soft_wrap=True, markup=False, highlight=False)


class PlainProgress:
    """A line every `seconds`, for logs."""

    def __init__(self, config: TrainConfig, begun_at: int, seconds: float = PLAIN_LINE_SECONDS) -> None:
        self._config, self._begun_at, self._seconds = config, begun_at, seconds
        self._began = time.monotonic()
        self._last = -math.inf

    def __enter__(self) -> PlainProgress:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def update(self, progress: Progress) -> None:
        """Print the newest iteration, if it is time."""
        now = time.monotonic()
        if now - self._last >= self._seconds or progress.env_steps >= self._config.steps:
            self._last = now
            print(progress_line(self._config, progress, now - self._began, self._begun_at), flush=True)

    def page(self, address: str) -> None:
        """Print where people label."""
        print(invitation(address), flush=True)


def invitation(address: str) -> str:
    """Where people label."""
    return f"label at {address}"


def progress_line(config: TrainConfig, progress: Progress, seconds: float, begun_at: int) -> str:
    """One line on `seconds` of work that began at that many environment steps."""
    if config.feedback == "people":  # how long they take to answer says nothing of the rest
        seconds_per_step = 1 / max(progress.steps_per_second, 1)
    else:
        seconds_per_step = seconds / max(progress.env_steps - begun_at, 1)
    left = seconds_per_step * max(config.steps - progress.env_steps, 0)
    true_return = "-" if math.isnan(progress.true_return) else f"{progress.true_return:.0f}"
    labels = f"{progress.labels}/{config.labels} labels  " if config.feedback != "none" else ""
    steps = f"{progress.env_steps / 1e6:.2f}/{config.steps / 1e6:g}M"
    if progress.unanswered:
        return f"{steps}  {labels}waits for {progress.unanswered} answer{'s' * (progress.unanswered > 1)}"
    return (
        f"{steps}  {labels}return {true_return}  "
        f"{progress.steps_per_second:,.0f}/s  {int(left) // 60}:{int(left) % 60:02d} left"
    )
