"""What the trainer behind the page is doing, from the files that it leaves in the run's folder."""

from __future__ import annotations

import csv
import math
from contextlib import suppress
from pathlib import Path
from typing import Any

from prefrl.errors import UserError
from prefrl.run_directory import read_json

STATES = ("running", "waiting", "done", "stopped", "failed")
TAIL = 20_000  # bytes at the end of metrics.csv that hold its last row


def training_status(run: Path | None) -> dict[str, Any] | None:
    """State, steps and labels of a run; None where there is no run, or none that has begun.

    Returns:
        state (one of STATES or None), steps, env_steps, labels, steps_per_second, and what tells the newest video from
        the one before, or None.
    """
    if run is None:
        return None
    try:
        status, config = read_json(run / "status.json"), read_json(run / "config.json")
    except UserError:
        return None
    last, video = _last_row(run / "metrics.csv"), _latest_video(run)
    return {
        "state": status["state"] if status.get("state") in STATES else None,
        "steps": _number(status.get("steps")),
        "labels": _number(config.get("labels")),
        "env_steps": _number(last.get("env_steps") or status.get("env_steps")),
        "steps_per_second": _number(last.get("steps_per_second")),
        "video": None if video is None else f"{video[0]:.3f}",
    }


def latest_video(run: Path | None) -> Path | None:
    """The newest video of the policy; None while there is none."""
    newest = None if run is None else _latest_video(run)
    return None if newest is None else newest[1]


def _latest_video(run: Path) -> tuple[float, Path] | None:
    """The newest video, after the time of its making."""
    videos = []
    for path in run.glob("videos/*.mp4"):
        with suppress(FileNotFoundError):  # removed since
            if not path.is_symlink():
                videos.append((path.stat().st_mtime, path))
    return max(videos, default=None)


def _number(value: object) -> float:
    """What a file of the run says, which may come from anywhere; 0 for what is no finite number."""
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return 0
    return number if math.isfinite(number) else 0


def _last_row(path: Path) -> dict[str, str]:
    """Of a CSV file; empty while it has none."""
    try:
        with path.open("rb") as file:
            columns = file.readline().decode(errors="replace").strip()
            start = file.tell()
            file.seek(max(start, file.seek(0, 2) - TAIL))
            lines = file.read().decode(errors="replace").split("\n")[:-1]
    except OSError:
        return {}
    if not lines:
        return {}
    try:
        (names,), (values,) = csv.reader([columns]), csv.reader([lines[-1]])
    except csv.Error:
        return {}
    return dict(zip(names, values, strict=True)) if len(names) == len(values) else {}
