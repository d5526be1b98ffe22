"""The page server: hands labellers their next pair, and puts their answers into the store.

A process of its own beside the trainer, which hears of answers through the store alone: either may stop, be killed and
come back without the other noticing. serve.py starts it.
"""

from __future__ import annotations

import hashlib
import logging
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastapi import APIRouter, FastAPI, HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.types import ASGIApp

from prefrl.errors import UserError
from prefrl.labelling.access import Access, own_names
from prefrl.labelling.clip_maker import Shelf
from prefrl.labelling.guard import Guard
from prefrl.labelling.leases import Lease, LeaseGone, Leases, Viewing, plain_name
from prefrl.labelling.messages import Id, Join, Next, Problem, Said, Undo
from prefrl.labelling.subject import Subject
from prefrl.labelling.training_status import latest_video, training_status
from prefrl.preferences import CHOICES, Answer

log = logging.getLogger("prefrl.labelling")

PAGE = Path(__file__).parent / "page"
COOKIE_SECONDS = 30 * 86_400
CONSENT = (PAGE / "consent.txt").read_text().strip()
# What is stored says by these what a labeller saw.
CONSENT_VERSION = hashlib.sha256(CONSENT.encode()).hexdigest()[:12]
PAGE_VERSION = hashlib.sha256(b"".join(path.read_bytes() for path in sorted(PAGE.iterdir()))).hexdigest()[:12]
# Not a redirect: a browser would not send the strict cookie after one that began on another site.
ENTRY = """<!doctype html><html lang="en"><meta charset="utf-8"><title>prefrl</title>
<link rel="icon" href="/favicon.svg"><p><a href="/">Go on</a></p></html>"""
REFUSALS = (400, 401, 403, 404, 405, 408, 409, 413, 415, 421, 422, 429, 503)  # with a Problem; guard.py has its own


@dataclass(frozen=True)
class Site:
    """What is served, and to whom."""

    subject: Subject
    leases: Leases
    shelf: Shelf
    access: Access
    host: str
    run: Path | None = None  # folder of the run behind it, to say what training is doing


def make_app(site: Site) -> ASGIApp:
    """The page and what it asks for, behind the guard."""
    return Guard(make_api(site), site.access, own_names(site.host))


def make_api(site: Site) -> FastAPI:
    """The page and what it asks for, from anybody."""
    # In plain text where uvicorn refuses what is no HTTP.
    kinds: dict[str, dict[str, Any]] = {"application/json": {}, "text/plain": {}}
    refusals: dict[int | str, dict[str, Any]] = {each: {"model": Problem, "content": kinds} for each in REFUSALS}
    app = FastAPI(title="prefrl labelling", docs_url=None, redoc_url=None, openapi_url=None, responses=refusals)
    _say_problems(app)
    app.include_router(_files(site))
    app.include_router(_pairs_and_answers(site))
    return app


def _say_problems(app: FastAPI) -> None:
    """Each in one line of JSON."""

    @app.exception_handler(UserError)
    async def tell(request: Request, error: UserError) -> JSONResponse:
        if isinstance(error, LeaseGone):
            return JSONResponse({"error": str(error)}, status_code=409)
        # The store: full, locked or gone. The page keeps its answers and tries again.
        log.error("%s", error)
        return JSONResponse({"error": str(error)}, status_code=503)

    @app.exception_handler(StarletteHTTPException)
    async def refuse(request: Request, error: StarletteHTTPException) -> JSONResponse:
        return JSONResponse({"error": error.detail}, error.status_code, error.headers)

    @app.exception_handler(RequestValidationError)
    async def say_what_is_wrong(request: Request, error: RequestValidationError) -> JSONResponse:
        # Not FastAPI's own, which repeats the input: that may be what neither UTF-8 nor JSON can hold.
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        line = ascii(f"{where}: {first['msg']}")[1:-1][:200]
        return JSONResponse({"error": line}, status_code=422)


def _files(site: Site) -> APIRouter:
    """The page itself, the clips of the segments, and the latest video of the run."""
    files, shelf, access = APIRouter(), site.shelf, site.access

    @files.get("/", response_class=HTMLResponse)
    def page(token: str | None = None) -> Response:
        if token is None:
            return FileResponse(PAGE / "page.html", headers={"Cache-Control": "no-store"})
        response = HTMLResponse(ENTRY, headers={"Refresh": "0; url=/"})
        _set_cookie(response, access.access_cookie, access.access())
        return response

    @files.get("/page.css", response_class=FileResponse)
    def style() -> FileResponse:
        return FileResponse(PAGE / "page.css", headers={"Cache-Control": "no-store"})

    @files.get("/page.js", response_class=FileResponse)
    def script() -> FileResponse:
        return FileResponse(PAGE / "page.js", media_type="text/javascript", headers={"Cache-Control": "no-store"})

    @files.get("/favicon.svg", response_class=FileResponse)
    def icon() -> FileResponse:
        return FileResponse(PAGE / "favicon.svg")

    # With the page's name, as browsers keep clips, and another run may be served at this address tomorrow.
    @files.get("/clips/{page}/{segment_id}", response_class=FileResponse)
    def clip(page: str, segment_id: Id) -> FileResponse:
        if page != access.page or not shelf.has(segment_id):
            raise HTTPException(404, "there is no such clip")
        headers = {"Cache-Control": "private, max-age=86400, immutable"}
        return FileResponse(shelf.path(segment_id), media_type="video/mp4", headers=headers)

    @files.get("/video", response_class=FileResponse)
    def video() -> FileResponse:
        path = latest_video(site.run)
        if path is None:
            raise HTTPException(404, "there is no video yet")
        return FileResponse(path, media_type="video/mp4", headers={"Cache-Control": "no-store"})

    return files


def _pairs_and_answers(site: Site) -> APIRouter:
    """What the page's script asks for, and says."""
    api = APIRouter(prefix="/api")
    subject, leases, shelf, access = site.subject, site.leases, site.shelf, site.access

    def labeller(request: Request) -> tuple[int, str]:
        who = access.labeller_id(request.cookies.get(access.labeller_cookie))
        name = leases.name_of(who) if who is not None else None
        if who is None or name is None:
            raise HTTPException(401, "say who you are first")
        return who, name

    def shown(lease: Lease) -> dict[str, Any]:
        segment_ids = shelf.segments_of(lease.query_id)
        in_order = segment_ids[::-1] if lease.swapped else segment_ids
        clips = [f"/clips/{access.page}/{segment_id}" for segment_id in in_order]
        return {"lease": lease.id, "clips": clips, "undo": lease.supersedes}

    @api.get("/status")
    def status(request: Request) -> dict[str, Any]:
        who = access.labeller_id(request.cookies.get(access.labeller_cookie))
        queries, answered = leases.counts()
        return {
            "task": subject.name,
            "instruction": subject.instruction,
            "consent": {"version": CONSENT_VERSION, "text": CONSENT},
            "page": access.page,
            "name": leases.name_of(who) if who is not None else None,
            "own_answers": leases.answered(who) if who is not None else 0,
            "queries": queries,
            "answered": answered,
            "training": training_status(site.run),
        }

    @api.post("/join")
    def join(said: Join) -> JSONResponse:
        if said.consent != CONSENT_VERSION:
            raise HTTPException(409, "the text to agree to has changed; load the page again")
        try:
            name = plain_name(said.name)
        except UserError as error:
            raise HTTPException(400, str(error)) from error
        who = leases.join(name, f"{CONSENT_VERSION}: {CONSENT}", time.time())
        response = JSONResponse({"name": name})
        _set_cookie(response, access.labeller_cookie, access.labeller(who))
        return response

    @api.post("/next")
    def next_pairs(request: Request, said: Next) -> dict[str, Any]:
        who, _ = labeller(request)
        return {"pairs": [shown(lease) for lease in leases.take(who, said.count, shelf, time.time())]}

    @api.post("/answer")
    def answer(request: Request, said: Said) -> dict[str, Any]:
        (who, name), now = labeller(request), time.time()
        answered_at = now - said.age_ms / 1000
        viewing = Viewing(said.shown_ms, said.answered_ms, said.active_ms, said.speed, PAGE_VERSION)
        given = Answer(
            query_id=0,  # the lease's
            ranking=CHOICES[said.choice],
            labeller=name,
            shown_at=answered_at - (said.answered_ms - said.shown_ms) / 1000,
            answered_at=answered_at,
            replays=said.replays,
        )
        return {"answer": leases.answer(said.lease, who, given, now, viewing).id}

    @api.post("/undo")
    def undo(request: Request, said: Undo) -> dict[str, Any]:
        lease = leases.undo(labeller(request)[0], said.before, time.time())
        if lease is not None and lease.query_id not in shelf:  # shown elsewhere; open now, so they are made next
            raise HTTPException(503, "the clips of that answer are being made again; undo once more in a moment")
        return {"pair": None if lease is None else shown(lease)}

    return api


def _set_cookie(response: Response, name: str, value: str) -> None:
    response.set_cookie(name, value, httponly=True, samesite="strict", max_age=COOKIE_SECONDS)
