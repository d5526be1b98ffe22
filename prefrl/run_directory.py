"""The folder a run leaves: configuration, metrics, status; the whole truth of a run."""

from __future__ import annotations

import dataclasses
import fcntl
import importlib.metadata
import json
import logging
import os
import platform
import socket
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO

from prefrl.config import TrainConfig, config_from_json
from prefrl.errors import UserError
from prefrl.preferences import without_password

log = logging.getLogger("prefrl")

VERSIONED = ("prefrl", "gymnasium", "mujoco", "numpy", "stable-baselines3", "torch")


class RunInUse(UserError):
    """Another process is running it."""


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write by atomic rename, so that a reader never sees half a file."""
    unfinished = path.with_name(path.name + ".unfinished")
    with unfinished.open("w") as file:
        file.write(json.dumps(content, indent=2, default=str) + "\n")
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(path)


def refuse_links(run_dir: Path) -> None:
    """Refuse a run whose files are links: what is written to them would go where they lead.

    Raises:
        UserError: one is.
    """
    for path in sorted(run_dir.iterdir()) if run_dir.is_dir() else []:
        if path.is_symlink():
            raise UserError(f"{path} is a link, and may lead to a file that is none of the run's; put it there itself")


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        UserError: the file is missing or holds something else.
    """
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"cannot read {path}: {error}; is {path.parent} a run?") from error
    if not isinstance(content, dict):
        raise UserError(f"{path} does not hold a JSON object; is {path.parent} a run?")
    return content


def written_configuration(run_dir: Path) -> TrainConfig:
    """RUN/config.json as it stands there; nothing of it is looked up, imported or connected to."""
    return config_from_json(read_json(run_dir / "config.json").get("options", {}), run_dir / "config.json")


class RunDirectory:
    """Creates and writes `runs/NAME/`, which belongs to one process at a time.

    Args:
        config: a resolved configuration.
        resume: the folder exists already, and the run goes on in it.

    Raises:
        UserError: the folder exists already or cannot be written; with `resume`, another process is running it.
    """

    def __init__(self, config: TrainConfig, resume: bool = False) -> None:
        assert config.run_dir is not None
        self.path, self._config = config.run_dir, config
        if resume:
            refuse_links(self.path)
        try:
            if not resume:
                self.path.mkdir(parents=True)
                (self.path / "videos").mkdir()
            self._lock = _take_lock(self.path)
        except FileExistsError as error:
            if (self.path / "lock").is_file() and not (self.path / "lock").is_symlink():
                _take_lock(self.path).close()  # says so if somebody has it
            raise UserError(_exists(self.path, str(error.filename))) from error
        except OSError as error:
            verb = "go on in" if resume else "create"
            raise UserError(f"cannot {verb} {self.path}: {error.strerror}; give another --run-dir") from error
        self._about = {**read_json(self.path / "config.json"), **_options(config)} if resume else describe(config)
        self._resumes = resume

    def begin(self, env_steps: int) -> None:
        """Write the configuration, and that the run is running; if by other code than before, also by which."""
        revision = git_revision()
        resumed = self._about.get("resumed", [])
        if self._resumes and revision != [self._about.get("git_revision"), *(e["git_revision"] for e in resumed)][-1]:
            log.warning(
                "%s was begun by other code (revision %s, now %s), so it may not end as it would have",
                *(self.path, self._about.get("git_revision") or "unknown", revision or "unknown"),
            )
            self._about["resumed"] = [*resumed, {"env_steps": env_steps, "git_revision": revision}]
        write_json(self.path / "config.json", self._about)
        self.set_status("running", env_steps)

    def release(self) -> None:
        """Let another process have the folder."""
        self._lock.close()

    def set_status(self, state: str, env_steps: int, message: str = "") -> None:
        """State is running, waiting (for answers), done, failed or stopped."""
        status = {
            "state": state,
            "env_steps": env_steps,
            "steps": self._config.steps,
            "message": message,
            "updated_at": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        write_json(self.path / "status.json", status)


def _take_lock(path: Path) -> TextIO:
    """The folder's lock, held until the file is closed or this process ends, however it ends.

    Raises:
        RunInUse: another process has it.
    """
    file = os.fdopen(os.open(path / "lock", os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW, 0o644), "a+")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        file.seek(0)
        owner = file.read().strip() or "another process"
        file.close()
        raise RunInUse(f"{path} is being run by {owner}; stop that one first") from error
    file.truncate(0)
    file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
    file.flush()
    return file


def _exists(path: Path, name: str) -> str:
    if (path / "checkpoint").is_dir():
        return f"{name} exists already; go on with prefrl resume {path}, or give another --run-dir"
    if (path / "preferences.db").exists():
        return f"{name} exists already, with answers in it; give another --run-dir"
    return f"{name} exists already; give another --run-dir, or remove it first"


def _options(config: TrainConfig) -> dict[str, Any]:
    public = dataclasses.replace(
        config,
        store=config.store and without_password(config.store),
        replay=config.replay and without_password(config.replay),
    )
    return {
        "task": config.task,
        "seed": config.seed,
        "steps": config.steps,
        "labels": config.labels if config.feedback != "none" else 0,
        "feedback": config.feedback,
        "options": dataclasses.asdict(public),
    }


def describe(config: TrainConfig) -> dict[str, Any]:
    """Everything that made a run: resolved options, versions, revision and machine."""
    return {**_options(config), **describe_here()}


def describe_here() -> dict[str, Any]:
    """Time, versions, revision and machine."""
    return {
        "started_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": {"python": platform.python_version()} | {name: _version(name) for name in VERSIONED},
        "git_revision": git_revision(),
        "machine": {"system": platform.system(), "machine": platform.machine(), "cores": os.cpu_count()},
    }


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def git_revision() -> str:
    """Of the source the package runs from; empty for an installed one, even inside a repository of its user's."""
    here = Path(__file__)

    def git(*arguments: str) -> str:
        command = ["git", *arguments]
        return subprocess.run(command, cwd=here.parent, capture_output=True, text=True, check=True).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", here.name)
        return git("describe", "--always", "--dirty", "--abbrev=12")
    except (OSError, subprocess.CalledProcessError):
        return ""
