"""The default engine: so many processes on this machine."""

from __future__ import annotations

import time

from prefrl.sweep.engines import Ended
from prefrl.sweep.trial_process import Job, TrialProcess

POLL_SECONDS = 0.1


class Pool:
    """Trials side by side, each in a process of its own.

    Args:
        workers: trials at a time.
    """

    lock_seconds = 10.0  # processes of a killed sweep end by themselves within moments

    def __init__(self, workers: int) -> None:
        self._workers = workers
        self._running: dict[str, TrialProcess] = {}

    @property
    def slots(self) -> int:
        """Trials that can run side by side."""
        return self._workers

    def start(self, job: Job) -> None:
        """Run a job in a new process."""
        self._running[job.id] = TrialProcess(job)

    def wait(self, seconds: float) -> list[Ended]:
        """Jobs that have ended; waits so long for a first one."""
        until = time.monotonic() + seconds
        while True:
            codes = {id_: process.exit_code() for id_, process in self._running.items()}
            ended = [Ended(id_, code) for id_, code in codes.items() if code is not None]
            for each in ended:
                del self._running[each.id]
            if ended or time.monotonic() >= until:
                return ended
            time.sleep(POLL_SECONDS)

    def stop(self) -> None:
        """Ask every running trial to save and end."""
        for process in self._running.values():
            process.stop()

    def kill(self) -> None:
        """End every running trial at once."""
        for process in self._running.values():
            process.kill()
