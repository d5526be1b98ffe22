"""Who may talk to the page server, as Jupyter settles it: whoever was shown the printed address, and no other site.

The address holds a random token, which is exchanged for a cookie that scripts and other sites cannot use. Who has
joined under a name has a second cookie; whoever has the token can join under any. guard.py asks here.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import os
import re
import secrets
import socket
import stat
import time
from collections import OrderedDict
from pathlib import Path

from prefrl.errors import UserError


def token_file(clips: Path) -> Path:
    """Where the secret of a page is kept: apart from the run, which is there to be published.

    Args:
        clips: folder of the page's clips, which tells it from other pages.
    """
    state = Path(os.environ.get("XDG_STATE_HOME") or "~/.local/state").expanduser() / "prefrl"
    return state / f"labelling-token-{hashlib.sha256(str(clips.resolve()).encode()).hexdigest()[:16]}"


class Access:
    """The secret of one labelling page, kept across restarts of its server.

    Args:
        path: of the file that holds it, readable by its owner only; made when new.
        store: tells the database apart from another that takes its place, where the same ids are of other people.

    Attributes:
        token: what the printed address holds.
        page: the page's own name, which is no secret.
        access_cookie, labeller_cookie: names of the cookies. Browsers keep those of all ports of a host together, so
            the names tell the pages of two runs apart.

    Raises:
        OSError: the file can be neither made nor read.
        UserError: the file holds something else, or others may read it.
    """

    def __init__(self, path: Path, store: str = "") -> None:
        self._store = store
        self.token = _read_token(path) if os.path.lexists(path) else _make_token(path)
        name = self._signed("name")[:8]
        self.access_cookie, self.labeller_cookie = f"prefrl-access-{name}", f"prefrl-labeller-{name}"
        self.page = self._signed(f"page {store}")[:8]

    def admits(self, token: str | None) -> bool:
        """Whether this is the token of the printed address."""
        return token is not None and hmac.compare_digest(token.encode(), self.token.encode())

    def access(self) -> str:
        """The cookie's value that the token is exchanged for; the token cannot be told from it."""
        return self._signed("access")

    def has_access(self, cookie: str | None) -> bool:
        """Whether a request comes from somebody who was admitted."""
        return cookie is not None and hmac.compare_digest(cookie.encode(), self.access().encode())

    def labeller(self, labeller_id: int) -> str:
        """The cookie's value that says who has joined."""
        return f"{labeller_id}.{self._signed(f'labeller {labeller_id} {self._store}')}"

    def labeller_id(self, cookie: str | None) -> int | None:
        """Who has joined; None for nobody, and for a value that was not made here."""
        number = (cookie or "").partition(".")[0]
        if not re.fullmatch("[0-9]{1,9}", number, re.ASCII):
            return None
        expected = self.labeller(int(number))
        return int(number) if hmac.compare_digest((cookie or "").encode(), expected.encode()) else None

    def _signed(self, text: str) -> str:
        return hmac.new(self.token.encode(), text.encode(), hashlib.sha256).hexdigest()


def _make_token(path: Path) -> str:
    unfinished = path.with_name(f"{path.name}.{secrets.token_hex(8)}.unfinished")
    with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(secrets.token_urlsafe(32))
    try:
        with contextlib.suppress(FileExistsError):  # of two processes, one makes it
            os.link(unfinished, path)
    finally:
        unfinished.unlink()
    return _read_token(path)


def _read_token(path: Path) -> str:
    refusal = UserError(f"{path} holds no token that only you can read; remove it, and a new one is made")
    if path.is_symlink():
        raise refusal
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), errors="replace") as file:
        about = os.fstat(file.fileno())
        if not stat.S_ISREG(about.st_mode) or about.st_mode & 0o077 or about.st_uid != os.geteuid():
            raise refusal
        token = file.read(100).strip()
    if not re.fullmatch(r"[A-Za-z0-9_-]{43}", token, re.ASCII):
        raise refusal
    return token


class RateLimit:
    """A bucket for each client that fills at a steady rate; of so many clients at most, the latest.

    Args:
        per_second: requests in the long run.
        burst: requests at once.
        remembered: clients.
    """

    def __init__(self, per_second: float, burst: float, remembered: int = 1000) -> None:
        self._per_second, self._burst, self._remembered = per_second, burst, remembered
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()  # requests left, and when

    def allows(self, client: str, now: float | None = None) -> bool:
        """Whether a client may make another request now.

        Args:
            client: who asks.
            now: seconds of a clock that never goes back.
        """
        now = time.monotonic() if now is None else now
        left, before = self._buckets.pop(client, (self._burst, now))
        left = min(self._burst, left + (now - before) * self._per_second)
        allowed = left >= 1
        self._buckets[client] = (left - 1 if allowed else left), now
        while len(self._buckets) > self._remembered:
            self._buckets.popitem(last=False)
        return allowed


def own_names(host: str) -> frozenset[str]:
    """What a browser may say in Host, whatever the port: that is another one at the end of a tunnel.

    A foreign name that resolves to this machine (DNS rebinding) is none of them.

    Args:
        host: that the server binds to; 0.0.0.0 and :: stand for all of this machine's.
    """
    names = {"127.0.0.1", "localhost", "[::1]", f"[{host}]" if ":" in host else host}
    if host in ("0.0.0.0", "::"):
        own = socket.gethostname()
        names |= {own, socket.getfqdn()}
        with contextlib.suppress(OSError):  # a machine that does not know its own name
            names |= {f"[{a}]" if ":" in a else a for a in (str(x[4][0]) for x in socket.getaddrinfo(own, None))}
    return frozenset(name.lower() for name in names)
