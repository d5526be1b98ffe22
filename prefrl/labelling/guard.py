"""What comes before every request to the page server: is it let in, is it small, is it from the page itself?

Refusals are one line in the log, without query and headers, which may hold the token.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import json
import logging
import re
from http import HTTPStatus
from urllib.parse import parse_qs

from starlette.requests import cookie_parser
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from prefrl.labelling.access import Access, RateLimit

log = logging.getLogger("prefrl.labelling")

MAX_BODY = 8192  # bytes; an answer takes some 300
BODY_SECONDS = 10.0  # that a request may take to come in
PUBLIC = ("/page.css", "/page.js", "/favicon.svg")  # the same for every run
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; media-src 'self'; "
    "img-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


class Refused(Exception):
    """A request that is not answered."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status, self.reason = status, reason


class Guard:
    """Lets requests through to `app` that come from the page; answers the others itself.

    Args:
        app: the application behind it.
        access: who may ask.
        names: of this server, without ports (access.own_names).
    """

    def __init__(self, app: ASGIApp, access: Access, names: frozenset[str]) -> None:
        self._app, self._access, self._names = app, access, names
        self._strangers, self._admitted = RateLimit(10, 60), RateLimit(60, 300)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "lifespan":
            return await self._app(scope, receive, send)
        if scope["type"] != "http":
            self._log(scope, "there are no WebSockets")
            return await send({"type": "websocket.close", "code": 1008})
        try:
            self._check(scope)
            body = await _body(scope, receive)
        except Refused as refused:
            self._log(scope, refused.reason)
            return await _answer(send, refused)

        async def send_and_log(message: Message) -> None:
            if message["type"] == "http.response.start" and 400 <= message["status"] < 500:
                self._log(scope, HTTPStatus(message["status"]).phrase)
            await send(message)

        await self._app(scope, _replay(body, receive), _with_headers(send_and_log))

    def _is_own(self, name: str) -> bool:
        if name in self._names:
            return True
        if not {"0.0.0.0", "[::]"} & self._names:
            return False
        with contextlib.suppress(ValueError):  # a foreign name that leads here is no address
            ipaddress.ip_address(name.strip("[]"))
            return True
        return False

    def _log(self, scope: Scope, reason: str) -> None:
        """One line; a token that somebody typed into the path is not in it."""
        path = scope["path"].replace(self._access.token, "TOKEN")[:80]
        log.warning("refused %s %a: %s", scope.get("method", "WebSocket")[:10], path, reason)

    def _check(self, scope: Scope) -> None:
        """Raise Refused unless the request may be answered."""
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        # Not http.cookies, which drops all of them if another program on this machine has set an odd one.
        cookies = cookie_parser(headers.get("cookie", ""))
        method, path = scope["method"], scope["path"]
        token = parse_qs(scope["query_string"].decode("latin-1")).get("token", [None])[0]
        entering = method == "GET" and path == "/" and self._access.admits(token)
        admitted = self._access.has_access(cookies.get(self._access.access_cookie))
        client = (scope.get("client") or [""])[0]
        if admitted or entering:  # strangers, however many, keep nobody out
            who = self._access.labeller_id(cookies.get(self._access.labeller_cookie))
            allowed = self._admitted.allows(f"{who} {client}")
        else:
            allowed = self._strangers.allows(client)
        if not allowed:
            raise Refused(429, "too many requests; wait a second")
        host, origin = headers.get("host", ""), headers.get("origin")
        if not self._is_own(re.sub(r":[0-9]*$", "", host).lower()):
            raise Refused(421, "this server is not known by that name; open the address that was printed")
        if origin is not None and origin not in (f"http://{host}", f"https://{host}"):
            raise Refused(403, "a page of another site may not ask")
        if not (admitted or entering or path in PUBLIC):
            raise Refused(403, "open the address that was printed, with its token")
        if method == "POST":
            if origin is None or headers.get("content-type", "").partition(";")[0].strip() != "application/json":
                raise Refused(415, "only the page itself may post, and in JSON")
            length = headers.get("content-length", "")
            if not re.fullmatch("[0-9]{1,9}", length) or int(length) > MAX_BODY:
                raise Refused(413, f"a request has a length, of {MAX_BODY} bytes at most")


async def _body(scope: Scope, receive: Receive) -> bytes:
    if scope["method"] != "POST":
        return b""
    body = b""
    try:
        async with asyncio.timeout(BODY_SECONDS):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise Refused(400, "the client went away")
                body += message.get("body", b"")
                if len(body) > MAX_BODY:
                    raise Refused(413, f"a request has {MAX_BODY} bytes at most")
                if not message.get("more_body", False):
                    return body
    except TimeoutError:
        raise Refused(408, f"the request took longer than {BODY_SECONDS:g} s to come in") from None


def _replay(body: bytes, receive: Receive) -> Receive:
    """What the application receives: the body that has been read, then whatever comes."""
    left = [body]

    async def next_message() -> Message:
        return {"type": "http.request", "body": left.pop(), "more_body": False} if left else await receive()

    return next_message


def _with_headers(send: Send) -> Send:
    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            names = {name.lower() for name, _ in message["headers"]}
            extra = HEADERS if b"cache-control" in names else {**HEADERS, "Cache-Control": "no-store"}
            message["headers"] = [*message["headers"], *((k.lower().encode(), v.encode()) for k, v in extra.items())]
        await send(message)

    return send_with_headers


async def _answer(send: Send, refused: Refused) -> None:
    body = json.dumps({"error": refused.reason}).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"connection", b"close"),  # what is left of the request is not read
    ]
    await _with_headers(send)({"type": "http.response.start", "status": refused.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
