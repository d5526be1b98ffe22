"""A labelling page to test with: a store of queries, clips that are no videos, and a browser in front of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from starlette.testclient import TestClient
from stores import make_query

from prefrl.labelling.access import Access
from prefrl.labelling.clip_maker import Shelf
from prefrl.labelling.leases import Leases
from prefrl.labelling.options import LeaseOptions
from prefrl.labelling.server import CONSENT_VERSION, Site, make_app
from prefrl.labelling.subject import subject_of
from prefrl.preferences import PreferenceStore

ADDRESS = "http://127.0.0.1:8765"


@dataclass(frozen=True)
class Page:
    """A site, and what is in front of it."""

    site: Site
    app: Any

    def browser(self, address: str = ADDRESS) -> TestClient:
        """Somebody who has not opened the page yet; an exception in the server is one here."""
        return TestClient(self.app, base_url=address, headers={"Origin": address})

    def entered(self) -> TestClient:
        """Somebody who has opened the printed address."""
        browser = self.browser()
        assert browser.get("/", params={"token": self.site.access.token}).status_code == 200
        return browser

    def labeller(self, name: str = "Ann") -> TestClient:
        """Somebody who has joined."""
        browser = self.entered()
        assert join(browser, name).status_code == 200
        return browser


def open_page(store: PreferenceStore, folder: Path, options: LeaseOptions | None = None) -> Page:
    """The page of a store, all of whose clips are there."""
    clips = folder / "clips"
    clips.mkdir(exist_ok=True)
    for segment_ids in store.segment_ids().values():
        for segment_id in segment_ids:
            (clips / f"segment-{segment_id}.mp4").write_bytes(b"clip of %d" % segment_id)
    leases = Leases(store, options or LeaseOptions(repeat=0.0))
    access = Access(folder / "token", store.created)
    site = Site(subject_of(store), leases, Shelf(store, clips), access, "127.0.0.1")
    return Page(site, make_app(site))


def fill(store: PreferenceStore, queries: int) -> None:
    """Put queries into it."""
    store.add_queries([make_query(seed) for seed in range(queries)])


def join(browser: TestClient, name: str, consent: str = CONSENT_VERSION) -> httpx.Response:
    """Say who it is."""
    return browser.post("/api/join", json={"name": name, "consent": consent})


def next_pairs(browser: TestClient, count: int = 1) -> list[dict[str, Any]]:
    """What it is to answer."""
    response = browser.post("/api/next", json={"count": count})
    assert response.status_code == 200, response.text
    pairs: list[dict[str, Any]] = response.json()["pairs"]
    return pairs


def said(lease: int, choice: str = "left", **changes: Any) -> dict[str, Any]:
    """A message with an answer."""
    times = {"shown_ms": 1000.0, "answered_ms": 3500.5, "age_ms": 20.0, "active_ms": 2400.0}
    return {"lease": lease, "choice": choice, **times, "replays": 2, "speed": 1.5, **changes}


def answer(browser: TestClient, lease: int, choice: str = "left", **changes: Any) -> httpx.Response:
    """Answer."""
    return browser.post("/api/answer", json=said(lease, choice, **changes))
