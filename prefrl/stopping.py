"""Stop in order: a signal asks, run.py's loop saves and raises Stopped, cli.py and sweep/trial_process.py say so."""

from __future__ import annotations

import logging
import signal
import threading
from typing import Any

log = logging.getLogger("prefrl")

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stopped(Exception):
    """The user pressed Ctrl-C, or the machine wants to stop; what was learnt so far is saved."""


class StopSignals:
    """SIGINT and SIGTERM ask the run to stop after the iteration; a second one stops it at once."""

    def __init__(self) -> None:
        self.requested = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> StopSignals:
        if threading.current_thread() is threading.main_thread():  # elsewhere Python allows no handlers
            self._before = {number: signal.signal(number, self._on_signal) for number in STOP_SIGNALS}
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _on_signal(self, number: int, frame: object) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True
        log.warning("stopping as soon as all is saved; once more stops at once")
