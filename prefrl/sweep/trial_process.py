"""One trial in a process of its own, started by an engine: `python -m prefrl.sweep.trial_process ROOT/ID`.

The process reads its Job from standard input and works until the trial is done, or until standard input ends: then
whoever started it is gone, however that came, and the next command must find the run directory free. Only this process
decides whether to begin, resume or leave a trial, and only while it holds the lock on ROOT/ID.log.
"""

from __future__ import annotations

import fcntl
import itertools
import json
import logging
import os
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from prefrl.checkpoint import checkpoints
from prefrl.config import config_from_json
from prefrl.errors import UserError
from prefrl.progress import PlainProgress
from prefrl.run_directory import RunInUse
from prefrl.stopping import Stopped
from prefrl.sweep.definition import Trial, in_a_sweep, learnt_from
from prefrl.sweep.trial_state import is_done, refuse_other_options

DONE, FAILED, BUSY, STOPPED = 0, 1, 75, 130  # exit codes; BUSY: another process is running it
LOCK_SECONDS = 5.0  # to wait for the lock, which another command may hold for a moment to look whether it is free
LOG_SECONDS = 60.0  # between the lines of a log


@dataclass(frozen=True)
class Job:
    """What such a process is told: plain JSON, so that it can be handed to another machine."""

    id: str
    root: str  # absolute; on a cluster, on a file system that all machines share
    options: dict[str, Any]  # of the resolved run, as config.json has them
    threads: int
    folder: str  # to work in: an environment's module may lie there
    modules: tuple[str, ...] = ()  # folders to import from, such as that of the sweep's file

    @classmethod
    def of(cls, trial: Trial, root: Path, threads: int) -> Job:
        """The trial, to be run below `root` on so many cores."""
        options = json.loads(json.dumps(asdict(trial.config), default=str))
        return cls(trial.id, str(root.absolute()), options, threads, os.getcwd(), tuple(filter(None, sys.path)))

    @property
    def directory(self) -> Path:
        """The run directory."""
        return Path(self.root) / self.id

    @property
    def log(self) -> Path:
        """What the process prints; whoever has locked it runs the trial."""
        return log_of(Path(self.root), self.id)


class TrialProcess:
    """A running trial, seen from the engine."""

    def __init__(self, job: Job) -> None:
        job.log.parent.mkdir(parents=True, exist_ok=True)
        with job.log.open("a") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "prefrl.sweep.trial_process", str(job.directory)],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=os.environ | {"OMP_NUM_THREADS": str(job.threads)},
                cwd=job.folder if Path(job.folder).is_dir() else None,
                process_group=0,  # Ctrl-C at the terminal is for the sweep, which asks each trial to stop once
            )
        assert self._process.stdin is not None
        self._lifeline = self._process.stdin  # stays open as long as this process lives
        with suppress(BrokenPipeError):  # it has ended already, and its exit code says how
            self._lifeline.write(json.dumps(asdict(job)).encode() + b"\n")
            self._lifeline.flush()

    def exit_code(self, seconds: float = 0) -> int | None:
        """Wait so long for its end; None while it runs, -9 if it was ended by signal 9."""
        try:
            code = self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None
        with suppress(BrokenPipeError):
            self._lifeline.close()
        return code

    def stop(self) -> None:
        """Ask it to save a checkpoint and end."""
        if self._process.poll() is None:
            self._process.terminate()

    def kill(self) -> None:
        """End it at once."""
        if self._process.poll() is None:
            self._process.kill()


def log_of(root: Path, trial_id: str) -> Path:
    """ROOT/ID.log."""
    return root / f"{trial_id}.log"


def is_running(log: Path) -> bool:
    """Whether some process, on this machine or another, runs the trial of that log just now."""
    if not log.exists():
        return False
    with log.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


# In the process.


def main() -> None:
    """Read the job, and do it."""
    job = Job(**json.loads(sys.stdin.readline()))
    sys.path += [folder for folder in job.modules if folder not in sys.path]
    threading.Thread(target=_end_with_starter, daemon=True).start()
    logging.basicConfig(format="%(message)s", level=logging.WARNING, stream=sys.stdout)
    try:
        code = carry_out(job)
    except Stopped as stopped:
        _say(str(stopped))
        code = STOPPED
    except RunInUse as error:
        _say(str(error))
        code = BUSY
    except KeyboardInterrupt:
        _say("stopped before there was anything to save")
        code = STOPPED
    except UserError as error:
        _say(f"failed: {in_a_sweep(error)}")
        code = FAILED
    except Exception as error:
        traceback.print_exc(file=sys.stdout)
        _say(f"failed: {type(error).__name__}: {error}")
        code = FAILED
    sys.exit(code)


def carry_out(job: Job) -> int:
    """Begin the trial, or go on with it; returns DONE, or BUSY if somebody else has it.

    Raises:
        UserError: it can't work, or its directory was made with other options.
        Stopped: it was asked to stop.
    """
    with _locked(job.log) as ours:
        if not ours:
            _say("another process is running this trial")
            return BUSY
        if job.directory.is_dir():
            refuse_other_options(job.directory, learnt_from(job.options))
        if is_done(job.directory):
            return DONE
        from prefrl import run  # loads torch: for the trial's own process, not for the sweep's

        config = replace(config_from_json(job.options, job.directory), run_dir=job.directory, threads=job.threads)
        kept = checkpoints(job.directory / "checkpoint")
        if kept:
            reached = int(kept[-1].name)
            _say(f"goes on at {reached:,} of {config.steps:,} steps")
            shown = PlainProgress(config, reached, LOG_SECONDS)
            run.resume(job.directory, on_progress=shown.update, trust=True)  # what a sweep names, its author trusts
        else:
            if job.directory.exists():
                _say(f"left nothing to go on from: moved to {_move_aside(job.directory).name}")
            _say(f"begins {config.task}, {config.steps:,} steps, process {os.getpid()} on {os.uname().nodename}")
            run.train(config, PlainProgress(config, 0, LOG_SECONDS).update)
        _say("done")
    return DONE


def _end_with_starter() -> None:
    # The descriptor and not sys.stdin, whose lock would be held by this thread when the interpreter shuts down.
    while os.read(0, 1024):
        pass
    os._exit(FAILED)


@contextmanager
def _locked(log: Path) -> Iterator[bool]:
    """Hold the log's lock; False if another process keeps it."""
    with log.open("a+") as file:  # not the one that is standard output: programs that are started here inherit that
        until = time.monotonic() + LOCK_SECONDS
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() < until:
                    time.sleep(0.05)
                    continue
                yield False
                return
            yield True
            return


def _move_aside(directory: Path) -> Path:
    names = (directory.with_name(f"{directory.name}.failed-{i}") for i in itertools.count(1))
    aside = next(path for path in names if not path.exists())
    return directory.rename(aside)


def _say(line: str) -> None:
    print(f"{time.strftime('%Y-%m-%d %H:%M:%S')}  {' '.join(line.split())}", flush=True)


if __name__ == "__main__":
    main()
