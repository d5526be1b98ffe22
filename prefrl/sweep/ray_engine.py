"""The engine of a cluster: each trial is a task of Ray Core, in the same run directories, on a shared file system.

A Ray worker does what the pool does: it starts the trial in a process of its own and holds its lifeline, so that the
trial ends with the worker. Ray's own retries are off: a lost task comes back to running.py, which counts, says so, and
starts it again where there is room, once nobody holds the lock on its log any more.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Sequence
from typing import Any

from prefrl.errors import UserError
from prefrl.sweep.engines import LOST, Ended
from prefrl.sweep.trial_process import FAILED, STOPPED, Job, TrialProcess

try:
    import ray
except ImportError as missing:
    raise UserError("--engine ray needs Ray, which is not installed: pip install 'prefrl[ray]'") from missing

POLL_SECONDS = 0.2
ASK_SECONDS = 10.0  # between two requests to stop


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
        # Not retried by Ray: see the top of this file.
        self._task = ray.remote(num_cpus=threads, resources=needed, max_retries=0)(run_job)
        self._running: dict[Any, str] = {}  # reference of the task -> id of its trial
        self._asked_to_stop: float | None = None  # when, last

    @property
    def slots(self) -> int:
        """Trials that the cluster has room for; 1 at least, which waits for a node."""
        there = ray.cluster_resources()
        room = [there.get("CPU", 0) // self._threads]
        room += [there.get(name, 0) // amount for name, amount in self._resources.items()]
        return int(max(1, min([*room, self._workers or room[0]])))

    def start(self, job: Job) -> None:
        """Hand a job to the cluster."""
        self._running[self._task.remote(job)] = job.id

    def wait(self, seconds: float) -> list[Ended]:
        """Jobs that have ended; waits so long for a first one."""
        if not self._running:
            time.sleep(seconds)
            return []
        if self._asked_to_stop is not None and time.monotonic() - self._asked_to_stop > ASK_SECONDS:
            self.stop()
        first, _ = ray.wait(list(self._running), num_returns=1, timeout=seconds)
        return [_outcome(reference, self._running.pop(reference)) for reference in first]

    def stop(self) -> None:
        """Ask every running trial to save and end; `wait` asks again, as Ray's interrupts can get lost."""
        self._asked_to_stop = time.monotonic()
        for reference in self._running:
            ray.cancel(reference, force=False)

    def kill(self) -> None:
        """End every running trial at once."""
        for reference in self._running:
            ray.cancel(reference, force=True)


def run_job(job: Job) -> int:
    """On a node: run the trial in a process of its own; returns its exit code. KeyboardInterrupt asks it to stop."""
    process, asked = TrialProcess(job), False
    while True:
        try:
            # Ray's interrupt is noticed between two waits.
            while (code := process.exit_code(POLL_SECONDS)) is None:
                pass
            return code
        except KeyboardInterrupt:
            if not asked:  # a second signal would end the trial without saving
                asked = True
                process.stop()


def _outcome(reference: Any, id_: str) -> Ended:
    try:
        return Ended(id_, ray.get(reference))
    except ray.exceptions.TaskCancelledError:
        return Ended(id_, STOPPED)
    except ray.exceptions.RayTaskError as error:  # run_job itself failed
        return Ended(id_, FAILED, f"cannot be run there: {str(error.cause) or type(error.cause).__name__}")
    except ray.exceptions.RayError as error:  # the node is gone, the worker died, or its memory ran out
        return Ended(id_, LOST, f"lost with its node or worker ({type(error).__name__})")


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
    return amounts
