"""The page server as the trainer has it: a process of its own, started again if it ends. serve.py is what it does."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import asdict, fields, replace
from pathlib import Path
from urllib.parse import urlsplit

from prefrl.errors import UserError
from prefrl.labelling.child import Child
from prefrl.labelling.options import LabellingOptions, PeopleOptions
from prefrl.labelling.serve import token_file

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
        self._log = run / "labelling.log"
        self._arguments = {
            **{"store": store, "clips": str(clips), "run": str(run), "token": str(token_file(clips))},
            "trust": True,  # the user has typed the task, or said --trust
            "options": asdict(options),
        }
        self._child = Child("server", self._arguments, self._log)
        self._tried = time.monotonic()
        address = str(self._child.said["address"])
        # Started again, it is found where it was.
        self._arguments["options"] = asdict(replace(options, port=urlsplit(address).port or options.port))
        on_page(address)

    def look_after(self) -> None:
        """Start it again if it has ended; answers are in the store, and open pages find it by themselves."""
        if not self._child.ended() or time.monotonic() - self._tried < RESTART_SECONDS:
            return
        self._tried = time.monotonic()
        log.warning("the labelling page's server ended (see %s); it is started again", self._log)
        self._child.close()
        try:
            self._child = Child("server", self._arguments, self._log)
        except UserError as error:
            log.warning("the labelling page is not served: %s", error)

    def say_goodbye(self) -> None:
        """Close it once open pages have heard that the run has ended."""
        time.sleep(GOODBYE_SECONDS)
        self.close()

    def close(self) -> None:
        """End it."""
        self._child.close()
