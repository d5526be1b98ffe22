"""Processes beside the trainer: the page server, and the clip maker beside that.

What a child is to do goes through its standard input, where `ps` does not show it, and which it then listens to: when
that closes, the parent is gone, however it ended. The child says one line once it is ready, or why it can't be.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from prefrl.errors import UserError


class Child:
    """A process of `python -m prefrl.labelling`, which ends with this one.

    Args:
        role: what it is to be; see __main__.py.
        arguments: of the role, as JSON has them.
        log: file for what it complains about; this process's standard error by default.

    Attributes:
        said: what it told when it was ready.

    Raises:
        UserError: it could not do it, and this is why.
    """

    def __init__(self, role: str, arguments: dict[str, Any], log: Path | None = None) -> None:
        self.role = role
        complaints: IO[bytes] | None = None if log is None else log.open("ab")
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "prefrl.labelling", role],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=complaints,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            start_new_session=True,  # Ctrl-C is for the parent, who ends it when it is time
            text=True,
        )
        if complaints is not None:
            complaints.close()
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with suppress(BrokenPipeError):  # it has ended already, as the next line finds
            self._process.stdin.write(json.dumps(arguments) + "\n")
            self._process.stdin.flush()
        line = self._process.stdout.readline()
        see = "" if log is None else f"; see {log}"
        self.said: dict[str, Any] = json.loads(line) if line else {"error": f"the {role} ended without a word{see}"}
        if "error" in self.said:
            self.close()
            raise UserError(self.said["error"])

    @property
    def pid(self) -> int:
        """The process."""
        return self._process.pid

    def ended(self) -> bool:
        """Whether it has ended by itself."""
        return self._process.poll() is not None

    def close(self) -> None:
        """End it, and wait until it has."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()


def told() -> dict[str, Any]:
    """In the child: what the parent wants."""
    arguments: dict[str, Any] = json.loads(sys.stdin.readline())
    return arguments


def tell(**what: object) -> None:
    """In the child: it is ready, or why it can't be."""
    print(json.dumps(what), flush=True)


def when_parent_ends(stop: Callable[[], None]) -> None:
    """In the child: call this from another thread when the parent closes the pipe or is gone."""

    def listen() -> None:
        sys.stdin.read()
        stop()

    threading.Thread(target=listen, daemon=True).start()
