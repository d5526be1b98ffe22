"""Sweeps of tiny trials, and an engine that plays what it is told."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from tiny_runs import LABELS, STEPS

from prefrl.run import train
from prefrl.sweep import Sweep, Trial
from prefrl.sweep.engines import Ended
from prefrl.sweep.trial_process import DONE, Job

OPTIONS: dict[str, Any] = {  # as tiny_runs.tiny has them
    "labels": LABELS,
    "steps": STEPS,
    "evaluation_episodes": 2,
    "video": False,
    "checkpoint_minutes": 0,
    "queries.segment_steps": 5,
    "queries.initial_rollouts": 2,
    "oracle.error_rate": 0.2,
    "reward.initial_gradient_steps": 10,
    "ppo.num_envs": 8,
    "ppo.num_steps": 32,
    "ppo.batch_size": 128,
    "ppo.epochs": 2,
}
LONG = 48 * 256  # steps that leave some seconds to kill something in
PATIENCE = 120.0  # seconds to wait for another process, where the machine is busy
CONDITIONS: dict[str, dict[str, Any]] = {"40 answers": {}, "true reward": {"feedback": "none"}}


def tiny_sweep(**changed: Any) -> Sweep:
    """Two trials: reacher from answers and on the true reward, one seed."""
    parts: dict[str, Any] = {"tasks": ("reacher",), "conditions": CONDITIONS, "seeds": (0,), "options": OPTIONS}
    parts["baseline"] = "true reward"
    return Sweep(title="Tiny", **{**parts, **changed})


def tiny_trial(seed: int = 0, **options: Any) -> Trial:
    """From answers, unless the options say otherwise."""
    return Trial("reacher", "40 answers", seed, {**OPTIONS, **options})


def write_sweep(folder: Path, seeds: Sequence[int] = (0,), **options: Any) -> Path:
    """folder/experiments/tiny.py: a sweep of reacher from answers; returns the folder."""
    (folder / "experiments").mkdir(parents=True)
    (folder / "experiments" / "tiny.py").write_text(
        f"""from prefrl.sweep import Sweep

SWEEP = Sweep("Tiny", ("reacher",), {{"40 answers": {{}}}}, {tuple(seeds)!r}, {dict(OPTIONS, **options)!r})
"""
    )
    return folder


def wait_for(happens: Callable[[], Any], what: str) -> None:
    """Look again and again until it is true."""
    until = time.monotonic() + PATIENCE
    while not happens():
        assert time.monotonic() < until, f"{what} did not happen within {PATIENCE:.0f} s"
        time.sleep(0.02)


def uninterrupted(trial: Trial, folder: Path) -> Path:
    """The same run without any sweep."""
    return train(replace(trial.config, run_dir=folder / trial.id, threads=1))


def pretend(trial: Trial, root: Path, state: str = "done") -> Path:
    """A run directory that says so, with nothing in it."""
    directory = root / trial.id
    directory.mkdir(parents=True, exist_ok=True)
    options = json.loads(json.dumps(asdict(trial.config), default=str))
    about = {"task": trial.config.task, "feedback": trial.config.feedback, "options": options}
    (directory / "config.json").write_text(json.dumps(about))
    (directory / "status.json").write_text(json.dumps({"state": state}))
    return directory


class Scripted:
    """An engine whose jobs end at once, with the exit codes it was given, then with DONE."""

    lock_seconds = 0.3

    def __init__(self, codes: dict[str, list[int]] | None = None, slots: int = 2) -> None:
        self.codes, self.slots = codes or {}, slots
        self.started: list[str] = []
        self.stopped = self.killed = False
        self._running: list[Job] = []

    def start(self, job: Job) -> None:
        self.started.append(job.id)
        self._running.append(job)

    def wait(self, seconds: float) -> list[Ended]:
        ended = []
        for job in self._running:
            code = self.codes[job.id].pop(0) if self.codes.get(job.id) else DONE
            if code == DONE:
                job.directory.mkdir(parents=True, exist_ok=True)
                (job.directory / "status.json").write_text('{"state": "done"}')
            ended.append(Ended(job.id, code))
        self._running = []
        return ended

    def stop(self) -> None:
        self.stopped = True

    def kill(self) -> None:
        self.killed = True
