"""Environment steps per second of trials, from what has run in a folder, or from trying for some seconds."""

from __future__ import annotations

import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

from prefrl.errors import UserError
from prefrl.progress import Progress
from prefrl.run_directory import read_json
from prefrl.stopping import Stopped
from prefrl.sweep.definition import Trial
from prefrl.sweep.trial_state import progress_of

MEASURED_SECONDS = 3.0  # after the first iteration, which pays for the random policy and the first fit

Speeds = dict[tuple[str, str], float]  # (task, feedback) -> steps per second of a whole run


def speeds_in(root: Path) -> Speeds:
    """Medians over the runs in a folder, finished or not, that have done an iteration."""
    found: dict[tuple[str, str], list[float]] = defaultdict(list)
    for path in sorted(root.glob("*/metrics.csv")):
        progress = progress_of(path.parent)
        try:
            config = read_json(path.parent / "config.json")
        except UserError:
            continue
        if progress is not None and progress.seconds > 0 and {"task", "feedback"} <= config.keys():
            found[config["task"], config["feedback"]].append(progress.env_steps / progress.seconds)
    return {key: median(each) for key, each in found.items()}


def measured_speeds(trials: Sequence[Trial], threads: int) -> Speeds:
    """Try each task and feedback for a few seconds, one after the other."""
    first = {(trial.config.task, trial.config.feedback): trial for trial in reversed(trials)}
    speeds: Speeds = {}
    for key, trial in first.items():
        what = "on the true reward" if trial.config.feedback == "none" else "from answers"
        tried = f"trying {trial.config.task} {what} for some seconds, as no such run is here yet"
        print(tried, file=sys.stderr, flush=True)
        speeds[key] = _measure(trial, threads)
    return speeds


class _Enough(Exception):
    pass


def _measure(trial: Trial, threads: int) -> float:
    from prefrl.run import train  # loads torch: only where no such run is here yet

    reports: list[tuple[float, int]] = []

    def note(progress: Progress) -> None:
        reports.append((time.monotonic(), progress.env_steps))
        if len(reports) > 1 and reports[-1][0] - reports[0][0] >= MEASURED_SECONDS:
            raise _Enough

    with tempfile.TemporaryDirectory() as folder:
        changes: dict[str, Any] = {"run_dir": Path(folder) / "run", "store": None, "threads": threads, "video": False}
        try:
            train(replace(trial.config, **changes), note)
        except _Enough:
            pass
        except Stopped as stopped:
            raise KeyboardInterrupt from stopped
    (began, begun_at), (ended, ended_at) = reports[0], reports[-1]
    return (ended_at - begun_at) / (ended - began) if ended > began else float("nan")
