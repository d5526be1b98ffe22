"""Serve the labelling page, with a clip maker beside it: for `prefrl label`, and beside `train --feedback people`."""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import uvicorn

from prefrl.errors import UserError
from prefrl.labelling.access import Access
from prefrl.labelling.child import Child
from prefrl.labelling.clip_maker import Shelf, clips_of
from prefrl.labelling.leases import Leases
from prefrl.labelling.options import PORTS, LabellingOptions, LeaseOptions, Serving
from prefrl.labelling.prompt import PromptProtocol
from prefrl.labelling.server import Site, make_app
from prefrl.labelling.subject import subject_of
from prefrl.preferences import open_existing

log = logging.getLogger("prefrl.labelling")

RESTART_SECONDS = 2.0
GOODBYE_SECONDS = 3  # that requests which are under way have to end


def serve(what: Serving, options: LabellingOptions, on_ready: Callable[[str], None]) -> None:
    """Serve the page, with a clip maker beside it, until the process is asked to end.

    Args:
        what: is served.
        options: of the page.
        on_ready: called with the address, token included, once it can be opened.

    Raises:
        UserError: the store cannot be read or shown, no port is free, or clips cannot be rendered here.
    """
    with open_existing(what.store) as store:
        subject = subject_of(store, options.instruction)
        if ":" in subject.name and not what.trust:
            raise UserError(
                f"{store.location} wants to import {subject.name.partition(':')[0]}, which runs the code in it; "
                "if you trust that, give --trust"
            )
        access = _access(what.token, store.created)
        lease_options = {field.name: getattr(options, field.name) for field in fields(LeaseOptions)}
        leases = Leases(store, LeaseOptions(**lease_options))
        app = make_app(Site(subject, leases, Shelf(store, clips_of(store, what.clips)), access, options.host, what.run))
        with _listen(options.host, options.port) as listening, _Clips(what, lease_options):
            port = listening.getsockname()[1]
            name = socket.gethostname() if options.host in ("0.0.0.0", "::") else options.host
            on_ready(f"http://{f'[{name}]' if ':' in name else name}:{port}/?token={access.token}")
            # The address, in what uvicorn would log, holds the token.
            config = uvicorn.Config(
                app,
                http=PromptProtocol,
                log_config=None,
                access_log=False,
                server_header=False,
                lifespan="off",
                timeout_graceful_shutdown=GOODBYE_SECONDS,
            )
            uvicorn.Server(config).run(sockets=[listening])


def _access(path: Path, store: str) -> Access:
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        return Access(path, store)
    except OSError as error:
        raise UserError(
            f"{path} can't hold the page's token ({error.strerror}); set XDG_STATE_HOME to a folder of yours"
        ) from error


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for each in range(port, min(port + (PORTS if port else 1), 2**16)):
        # Named, as asyncio lets connections send at once only then: else each answer takes 40 ms longer.
        listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((host, each))
            listening.listen(128)
            return listening
        except (OSError, UnicodeError) as error:
            listening.close()
            reason = error
            if not isinstance(error, OSError) or error.errno != 98:  # in use
                break
    raise UserError(f"port {port} of {host} can't be listened on ({reason}); give another --port or --host")


class _Clips:
    """The clip maker, started again when it ends, as long as this is open."""

    def __init__(self, what: Serving, options: dict[str, object]) -> None:
        self._arguments = {"store": what.store, "clips": str(what.clips), "options": options}
        self._child = Child("clips", self._arguments)
        self._closed = threading.Event()
        self._watching = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> _Clips:
        self._watching.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._closed.set()
        self._watching.join()
        self._child.close()

    def _watch(self) -> None:
        while not self._closed.wait(RESTART_SECONDS):
            if not self._child.ended():
                continue
            log.error("the clip maker ended; it is started again")
            self._child.close()
            try:
                self._child = Child("clips", self._arguments)
            except UserError as error:
                log.error("no clips are made: %s", error)
