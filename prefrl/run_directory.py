"""The folder a run leaves: configuration, metrics, status; the whole truth of a run."""

from __future__ import annotations

import csv
import dataclasses
import importlib.metadata
import json
import math
import os
import platform
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from torch.utils.tensorboard import SummaryWriter

from prefrl.config import TrainConfig
from prefrl.errors import UserError

VERSIONED = ("prefrl", "gymnasium", "mujoco", "numpy", "stable-baselines3", "torch")


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write by atomic rename, so that a reader never sees half a file."""
    unfinished = path.with_name(path.name + ".unfinished")
    unfinished.write_text(json.dumps(content, indent=2, default=str) + "\n")
    unfinished.replace(path)


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        UserError: the file is missing or holds something else.
    """
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read {path}: {error}; is {path.parent} a run?") from error
    if not isinstance(content, dict):
        raise UserError(f"{path} does not hold a JSON object; is {path.parent} a run?")
    return content


class RunDirectory:
    """Creates and writes `runs/NAME/`.

    Args:
        config: a resolved configuration.

    Raises:
        UserError: the folder exists already or cannot be written.
    """

    def __init__(self, config: TrainConfig) -> None:
        assert config.run_dir is not None
        self.path, self._config = config.run_dir, config
        try:
            self.path.mkdir(parents=True)
            (self.path / "videos").mkdir()
        except FileExistsError as error:
            raise UserError(f"{error.filename} exists already; give another --run-dir, or remove it first") from error
        except OSError as error:
            raise UserError(f"cannot create {self.path}: {error.strerror}; give another --run-dir") from error
        write_json(self.path / "config.json", describe(config))
        self.set_status("running", 0)

    def set_status(self, state: str, env_steps: int, message: str = "") -> None:
        """State is running, done, failed or stopped."""
        status = {
            "state": state,
            "env_steps": env_steps,
            "steps": self._config.steps,
            "message": message,
            "updated_at": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        write_json(self.path / "status.json", status)


def describe(config: TrainConfig) -> dict[str, Any]:
    """Everything that made a run: resolved options, versions, revision and machine."""
    return {
        "task": config.task,
        "seed": config.seed,
        "steps": config.steps,
        "labels": config.labels if config.feedback != "none" else 0,
        "feedback": config.feedback,
        "started_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": {"python": platform.python_version()} | {name: _version(name) for name in VERSIONED},
        "git_revision": _git_revision(),
        "machine": {"system": platform.system(), "machine": platform.machine(), "cores": os.cpu_count()},
        "options": dataclasses.asdict(config),
    }


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _git_revision() -> str:
    """Of the source the package runs from; empty for an installed one."""
    try:
        done = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=12"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return ""
    return done.stdout.strip()


class MetricsWriter:
    """One row per iteration to metrics.csv and TensorBoard; x = environment steps.

    The columns are those of the first row. NaN becomes an empty cell.
    """

    def __init__(self, path: Path) -> None:
        self._file = (path / "metrics.csv").open("w", newline="")
        self._tensorboard = SummaryWriter(str(path))
        self._columns: list[str] = []

    def write(self, env_steps: int, row: Mapping[str, float]) -> None:
        """Append and flush."""
        if not self._columns:
            self._columns = ["env_steps", *row]
            csv.writer(self._file).writerow(self._columns)
        if list(row) != self._columns[1:]:
            raise ValueError(f"columns {list(row)} differ from the first row's {self._columns[1:]}")
        cells = ["" if math.isnan(value) else f"{value:.6g}" for value in row.values()]
        csv.writer(self._file).writerow([env_steps, *cells])
        self._file.flush()
        for name, value in row.items():
            if not math.isnan(value):
                self._tensorboard.add_scalar(name, value, env_steps)

    def close(self) -> None:
        """Flush and close both."""
        self._file.close()
        self._tensorboard.close()
