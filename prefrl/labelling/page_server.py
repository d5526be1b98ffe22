"""The page server as the trainer has it: a process of its own, started again if it ends. serve.py is what it does."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from prefrl.errors import UserError
from prefrl.labelling.access import token_file
from prefrl.labelling.child import Child
from prefrl.labelling.options import PORT, LabellingOptions, PeopleOptions

log = logging.getLogger("prefrl")

RESTART_SECONDS = 5.0  # from one attempt to the next
GOODBYE_SECONDS = 5.0  # that an open page takes at most to ask how training is going


class PageServer:
    """Serves a run's labelling page until it is closed.

    Args:
        run: the run's folder.
        store: its store, by path or URL.
        people: where the page is served, and how queries are shared out.
        on_page: called with the address.

    Raises:
        UserError: it cannot be served: no port, or no clips can be rendered here.
    """

    def __init__(self, run: Path, store: str, people: PeopleOptions, on_page: Callable[[str], None]) -> None:
        options = LabellingOptions(**{field.name: getattr(people, field.name) for field in fields(LabellingOptions)})
        clips = run / "clips"
        self._log, self._on_page, self._port = run / "labelling.log", on_page, run / "labelling-port"
        if options.port == PORT:
            options = replace(options, port=self._port_before())  # of the run that is resumed
        self._arguments: dict[str, Any] = {
            **{"store": store, "clips": str(clips), "run": str(run), "token": str(token_file(clips))},
            "trust": True,  # the user has typed the task, or said --trust
        }
        self._options, self._address = options, ""
        self._start()

    def _start(self) -> None:
        self._tried = time.monotonic()
        self._arguments["options"] = asdict(self._options)
        self._child = Child("server", self._arguments, self._log)
        address = str(self._child.said["address"])
        if address != self._address:
            self._address = address
            # Started again, it is found where it was, if the port is free.
            self._options = replace(self._options, port=urlsplit(address).port or PORT)
            self._port.write_text(f"{self._options.port}\n")
            self._on_page(address)

    def _port_before(self) -> int:
        written = self._port.read_text() if self._port.is_file() else ""
        return int(written) if re.fullmatch("[1-9][0-9]{0,4}\n", written) and int(written) < 2**16 else PORT

    def look_after(self) -> None:
        """Start it again if it has ended; answers are in the store, and open pages find it by themselves."""
        if not self._child.ended() or time.monotonic() - self._tried < RESTART_SECONDS:
            return
        log.warning("the labelling page's server ended (see %s); it is started again", self._log)
        self._child.close()
        try:
            self._start()
        except UserError as error:
            log.warning("the labelling page is not served: %s", error)

    def say_goodbye(self) -> None:
        """Close it once open pages have heard that the run has ended."""
        time.sleep(GOODBYE_SECONDS)
        self.close()

    def close(self) -> None:
        """End it."""
        self._child.close()
