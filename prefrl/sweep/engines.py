"""What runs trials: a pool of processes on this machine, or the machines of a Ray cluster."""

from __future__ import annotations

import signal
from dataclasses import dataclass
from typing import Protocol

from prefrl.sweep.trial_process import Job

LOST = -999  # with the machine it was on


@dataclass(frozen=True)
class Ended:
    """How an attempt at a trial came to its end."""

    id: str
    code: int  # of its process: DONE, FAILED, BUSY, STOPPED; -9 if signal 9 ended it; LOST
    reason: str = ""  # where the code does not tell

    @property
    def killed(self) -> bool:
        """By something that the next attempt need not meet: a signal, a machine that is gone."""
        return self.code < 0


class Engine(Protocol):
    """Runs jobs side by side. `stop` and `kill` are of what runs; `wait` then tells how it ended."""

    lock_seconds: float  # for which a process that is gone may be found to hold its trial's lock

    @property
    def slots(self) -> int:
        """Trials that can run side by side just now."""
        ...

    def start(self, job: Job) -> None:
        """Run a job."""
        ...

    def wait(self, seconds: float) -> list[Ended]:
        """Jobs that have ended; waits so long for a first one."""
        ...

    def stop(self) -> None:
        """Ask every running trial to save and end."""
        ...

    def kill(self) -> None:
        """End every running trial at once."""
        ...


def signal_name(code: int) -> str:
    """SIGKILL of -9."""
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"
