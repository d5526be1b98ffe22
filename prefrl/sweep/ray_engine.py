"""The engine of a cluster: each trial has an actor of Ray Core, in the same run directories, on a shared file system.

The actor does what the pool does: it starts the trial in a process of its own and holds its lifeline, so that the trial
ends with the actor. An actor and not a task: a task can be asked to stop only by Ray's interrupt, which can get lost
for good. Ray's own restarts are off, as they are by default: a lost trial comes back to running.py, which counts, says
so, and starts it again where there is room, once nobody holds the lock on its log any more.
"""

from __future__ import annotations

import logging
import math
import os
import threading
import time
from collections.abc import Sequence
from typing import Any

from prefrl.errors import UserError
from prefrl.sweep.engines import LOST, Ended
from prefrl.sweep.trial_process import FAILED, STOPPED, Job, TrialProcess

try:
    import ray
except ImportError as missing:
    raise UserError("--engine ray needs Ray, which is not installed: pip install 'ray>=2.49'") from missing

POLL_SECONDS = 0.2
SMALLEST_AMOUNT = 0.0001  # that Ray tells from none
ANSWER_SECONDS = 10.0  # for an actor to take a request to stop; one that runs does so at once


class RayEngine:
    """Trials side by side on a Ray cluster.

    Args:
        address: of the cluster; None starts one on this machine alone.
        workers: trials at a time; as many as the cluster's cores allow by default, counted again as nodes come and go.
        threads: cores for each trial.
        resources: "NAME=AMOUNT" each, custom resources for each trial.

    Raises:
        UserError: there is no such cluster, or a resource is not understood.
    """

    lock_seconds = 120.0  # an NFS server frees the locks of a machine that is gone after 90 s

    def __init__(
        self, address: str | None, workers: int | None = None, threads: int = 1, resources: Sequence[str] = ()
    ) -> None:
        needed = _amounts(resources)
        if not ray.is_initialized():
            _connect(address)
        self._workers, self._threads, self._resources = workers, threads, needed
        actor = ray.remote(TrialActor)
        # Two threads: one waits for the trial's end, the other can ask it to stop.
        self._actor = actor.options(num_cpus=threads, resources=needed, max_concurrency=2)
        self._running: dict[Any, tuple[str, Any]] = {}  # reference of the exit code -> id of the trial, its actor

    @property
    def slots(self) -> int:
        """Trials that the cluster has room for; 1 at least, which waits for a node."""
        there = ray.cluster_resources()
        room = [there.get("CPU", 0) // self._threads]
        room += [there.get(name, 0) // amount for name, amount in self._resources.items()]
        return int(max(1, min([*room, self._workers or room[0]])))

    def start(self, job: Job) -> None:
        """Hand a job to the cluster."""
        actor: Any = self._actor.remote()
        self._running[actor.run.remote(job)] = job.id, actor

    def wait(self, seconds: float) -> list[Ended]:
        """Jobs that have ended; waits so long for a first one."""
        if not self._running:
            time.sleep(seconds)
            return []
        first, _ = ray.wait(list(self._running), num_returns=1, timeout=seconds)
        return [_outcome(reference, self._running.pop(reference)[0]) for reference in first]

    def stop(self) -> None:
        """Ask every running trial to save and end."""
        if not self._running:
            return
        asked = {actor.stop.remote(): actor for _, actor in self._running.values()}
        _, silent = ray.wait(list(asked), num_returns=len(asked), timeout=ANSWER_SECONDS)
        # They wait for room in the cluster, and have nothing to save; or are cut off, and keep their last checkpoint.
        for reference in silent:
            ray.kill(asked[reference])

    def kill(self) -> None:
        """End every running trial at once."""
        for _, actor in self._running.values():
            ray.kill(actor)


class TrialActor:
    """On a node: runs a trial in a process of its own."""

    def __init__(self) -> None:
        self._process: TrialProcess | None = None
        self._asked_to_stop = False
        self._turn = threading.Lock()

    def run(self, job: Job) -> int:
        """Returns the exit code of its process."""
        with self._turn:
            if self._asked_to_stop:
                return STOPPED
            self._process = TrialProcess(job)
        while (code := self._process.exit_code(POLL_SECONDS)) is None:
            pass
        return code

    def stop(self) -> None:
        """Ask it to save a checkpoint and end."""
        with self._turn:
            self._asked_to_stop = True
            if self._process is not None:
                self._process.stop()


def _outcome(reference: Any, id_: str) -> Ended:
    try:
        return Ended(id_, ray.get(reference))
    except ray.exceptions.RayTaskError as error:  # TrialActor.run itself failed
        return Ended(id_, FAILED, f"cannot be run there: {type(error.cause).__name__}: {_lines(error.cause)[0]}")
    except ray.exceptions.RayError as error:  # the node is gone, the actor died, or its memory ran out
        if getattr(error, "actor_init_failed", False):  # as where prefrl cannot be imported
            return Ended(id_, FAILED, f"cannot be run there: {_lines(error)[-1]}")  # the end of a traceback
        return Ended(id_, LOST, f"lost with its node or actor ({type(error).__name__}: {_lines(error)[0]})")


def _lines(error: BaseException) -> list[str]:
    return str(error).strip().splitlines() or [""]


def _connect(address: str | None) -> None:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    address = address or os.environ.get("RAY_ADDRESS")
    alone: dict[str, Any] = {} if address else {"include_dashboard": False}
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **alone)
    except (ConnectionError, RuntimeError, ValueError, TimeoutError) as error:
        where = f"at {address}" if address else "on this machine"
        raise UserError(f"no Ray cluster {where}: {str(error).splitlines()[0]}") from error


def _amounts(resources: Sequence[str]) -> dict[str, float]:
    amounts: dict[str, float] = {}
    for each in resources:
        name, _, amount = each.partition("=")
        try:
            amounts[name] = float(amount)
        except ValueError as error:
            raise UserError(f"--resources {each}; give NAME=AMOUNT, such as bigmem=1") from error
        if name in ("", "CPU", "GPU", "memory"):
            raise UserError(f"--resources {each}; {name!r} is no custom resource; --threads gives cores")
        if not SMALLEST_AMOUNT <= amounts[name] < math.inf:
            raise UserError(f"--resources {each}; give a finite amount of {SMALLEST_AMOUNT} or more")
    return amounts
