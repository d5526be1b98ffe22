"""HTTP from clients that ask promptly: uvicorn alone waits for ever for the rest of a request's header.

serve.py uses it; guard.py sees to it that a body comes in as promptly.
"""

from __future__ import annotations

import asyncio
import logging

from uvicorn.protocols.http.h11_impl import H11Protocol

log = logging.getLogger("prefrl.labelling")

REQUEST_SECONDS = 10.0  # from a connection's begin, or its last answer, to the end of the next request's header


class PromptProtocol(H11Protocol):
    """One connection, closed if its next request takes too long to come in."""

    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Somebody connects."""
        super().connection_made(transport)
        self._wait()

    def on_response_complete(self) -> None:
        """They may ask again."""
        super().on_response_complete()
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """They are gone."""
        super().connection_lost(exc)
        self._stop_waiting()

    def _wait(self) -> None:
        self._stop_waiting()
        self._deadline = self.loop.call_later(REQUEST_SECONDS, self._too_late)

    def _stop_waiting(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()

    def _too_late(self) -> None:
        # A request that is being answered is the guard's; a browser also opens connections before it needs them.
        if self.transport.is_closing() or not (self.cycle is None or self.cycle.response_complete):
            return
        if self.conn.trailing_data[0]:
            log.warning("refused a client: its request took longer than %g s to come in", REQUEST_SECONDS)
        self.transport.close()
