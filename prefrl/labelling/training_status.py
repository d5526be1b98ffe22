"""What the trainer behind the page is doing, from the files that it leaves in the run's folder."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

TAIL = 20_000  # bytes at the end of metrics.csv that hold its last row


def training_status(run: Path | None) -> dict[str, Any] | None:
    """State, steps and labels of a run; None where there is no run, or none that has begun.

    Returns:
        state (running, waiting, done, stopped or failed), steps, env_steps, labels, steps_per_second, and of the newest
        video the step count or None.
    """
    if run is None:
        return None
    try:
        status = json.loads((run / "status.json").read_text())
        config = json.loads((run / "config.json").read_text())
    except (OSError, ValueError):
        return None
    last = _last_row(run / "metrics.csv")
    video = latest_video(run)
    return {
        "state": status.get("state"),
        "message": status.get("message"),
        "steps": status.get("steps"),
        "labels": config.get("labels"),
        "env_steps": int(last.get("env_steps") or status.get("env_steps") or 0),
        "steps_per_second": float(last.get("steps_per_second") or 0),
        "video": None if video is None else f"{video.stem}-{int(video.stat().st_mtime)}",
    }


def latest_video(run: Path | None) -> Path | None:
    """The newest video of the policy; None while there is none."""
    videos = [] if run is None else [path for path in run.glob("videos/*.mp4") if not path.is_symlink()]
    return max(videos, key=lambda path: path.stat().st_mtime, default=None)


def _last_row(path: Path) -> dict[str, str]:
    """Of a CSV file; empty while it has none."""
    try:
        with path.open("rb") as file:
            columns = file.readline().decode().strip()
            start = file.tell()
            file.seek(max(start, file.seek(0, 2) - TAIL))
            lines = file.read().decode(errors="replace").split("\n")[:-1]
    except OSError:
        return {}
    if not lines:
        return {}
    (names,), (values,) = csv.reader([columns]), csv.reader([lines[-1]])
    return dict(zip(names, values, strict=True)) if len(names) == len(values) else {}
