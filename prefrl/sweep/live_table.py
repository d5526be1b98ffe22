"""What `prefrl sweep` shows while it runs: a table that lives on a terminal, plain lines elsewhere."""

from __future__ import annotations

import heapq
import math
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from rich import box
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from prefrl.sweep.definition import Trial
from prefrl.sweep.speeds import Speeds, speeds_in
from prefrl.sweep.trial_state import TrialProgress, progress_of

SPEEDS_SECONDS = 30.0  # between looks at how fast all trials are
PLAIN_LINE_SECONDS = 60.0  # between lines on what runs, where the output is no terminal


@dataclass(frozen=True)
class Snapshot:
    """A sweep at one moment."""

    root: Path
    running: Sequence[tuple[Trial, float]]  # and time.monotonic() of its start
    waiting: Sequence[Trial]
    done: int
    failed: int
    slots: int

    def counts(self) -> str:
        """In words."""
        named = {"done": self.done, "running": len(self.running), "waiting": len(self.waiting), "failed": self.failed}
        return ", ".join(f"{count} {name}" for name, count in named.items() if count or name != "failed")


class View(Protocol):
    """Shows what happens."""

    def __enter__(self) -> View: ...

    def __exit__(self, *error: object) -> None: ...

    def say(self, event: str, trial: Trial, text: str) -> None:
        """Something has happened to a trial."""
        ...

    def show(self, snapshot: Snapshot) -> None:
        """How things stand; called twice a second or so."""
        ...


def view_for_output() -> View:
    """The table where standard output is a terminal, else lines."""
    return LiveTable() if sys.stdout.isatty() else PlainLines()


class LiveTable:
    """A row per running trial, counts and the time left; fits 80 columns."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(highlight=False)
        self._live = Live(console=self._console, auto_refresh=False, transient=True)
        self._left = TimeLeft()

    def __enter__(self) -> LiveTable:
        self._live.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._live.stop()

    def say(self, event: str, trial: Trial, text: str) -> None:
        """Print above the table what is worth keeping."""
        if event != "started":
            self._console.print(Text(_event(event, trial, text)), soft_wrap=True)

    def show(self, snapshot: Snapshot) -> None:
        """Draw again."""
        progress = {trial.id: progress_of(snapshot.root / trial.id) for trial, _ in snapshot.running}
        left = clock(self._left.of(snapshot, progress))
        table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), expand=False)
        table.add_column("task", no_wrap=True, max_width=16)
        table.add_column("condition", no_wrap=True, max_width=16)
        for name in ("seed", "done", "steps/s", "return", "left"):
            table.add_column(name, justify="right", no_wrap=True)
        for trial, began in snapshot.running:
            table.add_row(
                Text(trial.task), Text(trial.condition), str(trial.seed), *_cells(trial, progress[trial.id], began)
            )
        self._live.update(Group(Text(f"{snapshot.counts()}; {left} left"), table), refresh=True)


class PlainLines:
    """A line per event, and one a minute on what runs."""

    def __init__(self, seconds: float = PLAIN_LINE_SECONDS) -> None:
        self._seconds, self._last = seconds, time.monotonic()
        self._left = TimeLeft()

    def __enter__(self) -> PlainLines:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def say(self, event: str, trial: Trial, text: str) -> None:
        """Print it."""
        print(_event(event, trial, text), flush=True)

    def show(self, snapshot: Snapshot) -> None:
        """Print how things stand, if it is time."""
        if time.monotonic() - self._last < self._seconds:
            return
        self._last = time.monotonic()
        progress = {trial.id: progress_of(snapshot.root / trial.id) for trial, _ in snapshot.running}
        left = clock(self._left.of(snapshot, progress))
        print(f"{time.strftime('%H:%M:%S')}  {snapshot.counts()}; {left} left", flush=True)
        for trial, began in snapshot.running:
            done, speed, true_return, its_left = _cells(trial, progress[trial.id], began)
            print(f"          {name_of(trial)}: {done}, {speed} steps/s, return {true_return}, {its_left} left")
        sys.stdout.flush()


class TimeLeft:
    """Estimates when all is done, from how fast trials of the same task and feedback were."""

    def __init__(self) -> None:
        self._speeds: Speeds = {}
        self._looked = -math.inf

    def of(self, snapshot: Snapshot, progress: dict[str, TrialProgress | None]) -> float:
        """Seconds; NaN while nothing is known."""
        if time.monotonic() - self._looked > SPEEDS_SECONDS or not self._speeds:
            self._speeds, self._looked = speeds_in(snapshot.root), time.monotonic()
        running = [_seconds_left(trial, progress[trial.id], self._speeds) for trial, _ in snapshot.running]
        waiting = [trial.config.steps / speed_of(trial, self._speeds) for trial in snapshot.waiting]
        return makespan([*running, *waiting], snapshot.slots)


def makespan(seconds: Sequence[float], workers: int) -> float:
    """Time for jobs that are taken up in this order, whenever a worker is free."""
    free = [0.0] * max(1, workers)
    for each in seconds:
        heapq.heapreplace(free, free[0] + each)
    return math.nan if any(math.isnan(each) for each in seconds) else max(free)


def speed_of(trial: Trial, speeds: Speeds) -> float:
    """Of its task and feedback, else the mean of all others, else NaN; steps per second."""
    mean = sum(speeds.values()) / len(speeds) if speeds else math.nan
    return speeds.get((trial.config.task, trial.config.feedback), mean)


def clock(seconds: float) -> str:
    """2:05:00, or 5:00; "?" for NaN."""
    if math.isnan(seconds):
        return "?"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def counted(trials: int) -> str:
    """1 trial, 2 trials."""
    return f"{trials} trial{'s' * (trials != 1)}"


def name_of(trial: Trial) -> str:
    """As SweepResults.missing names it."""
    return f"{trial.task}, {trial.condition}, seed {trial.seed}"


def _seconds_left(trial: Trial, progress: TrialProgress | None, speeds: Speeds) -> float:
    if progress is None:
        return trial.config.steps / speed_of(trial, speeds)
    return max(0, trial.config.steps - progress.env_steps) * progress.seconds / max(1, progress.env_steps)


def _cells(trial: Trial, progress: TrialProgress | None, began: float) -> list[str]:
    """Share done, steps/s, return, time left."""
    if progress is None:
        return [f"0 %, {clock(time.monotonic() - began)}", "-", "-", "?"]
    share = f"{min(1.0, progress.env_steps / trial.config.steps):.0%}".replace("%", " %")
    true_return = "-" if math.isnan(progress.true_return) else f"{progress.true_return:,.4g}"
    return [share, f"{progress.steps_per_second:,.0f}", true_return, clock(_seconds_left(trial, progress, {}))]


def _event(event: str, trial: Trial, text: str) -> str:
    return f"{time.strftime('%H:%M:%S')}  {event:9}  {name_of(trial)}{'  ' * bool(text)}{text}"
