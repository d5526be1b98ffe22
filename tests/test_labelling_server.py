"""The page server: what it does for the page, and what it does with everybody else."""

from __future__ import annotations

import json
import logging
import re
import sqlite3
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from labelling_sites import ADDRESS, Page, answer, fill, join, next_pairs, open_page, said
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from prefrl.labelling import guard
from prefrl.labelling.options import LeaseOptions
from prefrl.labelling.server import CONSENT_VERSION, PAGE_VERSION, make_api
from prefrl.preferences import PreferenceStore, connection

QUERIES = 8
Log = pytest.LogCaptureFixture


@pytest.fixture
def store(tmp_path: Path) -> Iterator[PreferenceStore]:
    with PreferenceStore(tmp_path / "preferences.db", task="hopper") as opened:
        fill(opened, QUERIES)
        yield opened


@pytest.fixture
def page(store: PreferenceStore, tmp_path: Path) -> Page:
    return open_page(store, tmp_path)


@pytest.fixture
def ann(page: Page) -> TestClient:
    return page.labeller("Ann")


def rows(store: PreferenceStore, statement: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(store.location)) as opened:
        return opened.execute(statement).fetchall()


def the_line(log: Log) -> str:
    """The one line in the log since it was last asked for."""
    (record,) = (each for each in log.records if each.name == "prefrl.labelling")
    line = record.getMessage()
    assert line.isprintable()
    assert line.isascii()
    log.clear()
    return line


# The good path


def test_a_token_becomes_a_cookie_a_name_a_pair_and_an_answer(page: Page, store: PreferenceStore) -> None:
    browser = page.browser()
    entry = browser.get("/", params={"token": page.site.access.token})
    assert entry.headers["refresh"] == "0; url=/", "not a redirect, after which a strict cookie would not be sent"
    (cookie,) = entry.headers.get_list("set-cookie")
    assert re.fullmatch(r"prefrl-access-\w{8}=[0-9a-f]{64}; HttpOnly; Max-Age=\d+; Path=/; SameSite=strict", cookie)
    assert page.site.access.token not in cookie + entry.text
    assert "<script src=" in browser.get("/").text
    before = browser.get("/api/status").json()
    assert (before["name"], before["own_answers"], before["queries"], before["answered"]) == (None, 0, QUERIES, 0)
    assert (before["task"], before["training"]) == ("hopper", None)

    joined = join(browser, "  Ann   Lee ")
    assert joined.json() == {"name": "Ann Lee"}
    (cookie,) = joined.headers.get_list("set-cookie")
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie

    (pair,) = next_pairs(browser)
    assert pair["undo"] is None
    clips = [browser.get(path) for path in pair["clips"]]
    assert [clip.headers["content-type"] for clip in clips] == ["video/mp4"] * 2
    shown = [int(clip.content.split()[-1]) for clip in clips]
    part = browser.get(pair["clips"][0], headers={"Range": "bytes=0-3"})
    assert (part.status_code, part.content) == (206, b"clip"), "browsers ask for parts of a video"

    began = time.time()
    assert answer(browser, pair["lease"], "right").status_code == 200
    (stored,) = store.answers()
    in_order = store.segment_ids([stored.query_id])[stored.query_id]
    assert stored.choice in ("left", "right")
    best, worst = (0, 1) if stored.choice == "left" else (1, 0)
    assert [in_order[worst], in_order[best]] == shown, "the right clip was better"
    assert (stored.labeller, stored.replays) == ("Ann Lee", 2)
    assert stored.answered_at == pytest.approx(began, abs=5)
    assert stored.answered_at - stored.shown_at == pytest.approx(2.5005)
    assert rows(store, "SELECT * FROM viewings") == [(stored.id, 1000.0, 3500.5, 2400.0, 1.5, PAGE_VERSION)]
    assert rows(store, "SELECT id, kind, answer_id FROM leases") == [(pair["lease"], "first", stored.id)]
    after = browser.get("/api/status").json()
    assert (after["name"], after["own_answers"], after["answered"]) == ("Ann Lee", 1, 1)
    assert after["page"] == before["page"]


def test_both_sides_occur_and_are_stored_by_segment(ann: TestClient, store: PreferenceStore) -> None:
    choices = {}
    for pair in next_pairs(ann, QUERIES):
        assert answer(ann, pair["lease"], "left").status_code == 200
        stored = store.answers()[-1]
        on_the_left = int(pair["clips"][0].rpartition("/")[2])
        in_order = store.segment_ids([stored.query_id])[stored.query_id]
        assert in_order[0 if stored.choice == "left" else 1] == on_the_left
        choices[stored.query_id] = stored.choice
    assert set(choices.values()) == {"left", "right"}


def test_the_five_answers_are_told_apart(ann: TestClient, store: PreferenceStore) -> None:
    words = ["equal", "cant_tell", "skip"]
    for pair, word in zip(next_pairs(ann, 3), words, strict=True):
        assert answer(ann, pair["lease"], word).status_code == 200
    assert [stored.choice for stored in store.answers()] == words


def test_an_answer_sent_again_is_the_same_one(ann: TestClient, page: Page, store: PreferenceStore) -> None:
    (pair,) = next_pairs(ann)
    first = answer(ann, pair["lease"], "left").json()
    assert answer(ann, pair["lease"], "left").json() == first, "as after a lost connection"
    assert answer(page.labeller("Ann"), pair["lease"], "right").json() == first, "from another tab"
    assert len(store.answers()) == 1


def test_an_answer_goes_on_counting_after_a_restart(ann: TestClient, page: Page, tmp_path: Path) -> None:
    (pair,) = next_pairs(ann)
    first = answer(ann, pair["lease"]).json()
    with PreferenceStore(tmp_path / "preferences.db") as again:
        restarted = open_page(again, tmp_path).browser()
        restarted.cookies = ann.cookies
        assert answer(restarted, pair["lease"]).json() == first
        assert len(again.answers()) == 1


def test_undo_shows_the_last_pair_as_it_was(ann: TestClient, store: PreferenceStore) -> None:
    assert ann.post("/api/undo", json={}).json() == {"pair": None}
    one, two = next_pairs(ann, 2)
    ids = [answer(ann, pair["lease"], "left").json()["answer"] for pair in (one, two)]
    again = ann.post("/api/undo", json={}).json()["pair"]
    assert (again["clips"], again["undo"]) == (two["clips"], ids[1])
    assert again not in next_pairs(ann, 3), "until it is answered anew, the answer stands"
    assert ann.post("/api/undo", json={}).json()["pair"] == again, "after a reload too"
    before = ann.post("/api/undo", json={"before": ids[1]}).json()["pair"]
    assert (before["clips"], before["undo"]) == (one["clips"], ids[0])
    assert answer(ann, again["lease"], "equal").status_code == 200
    assert [stored.choice == "equal" for stored in store.answers()] == [False, True]
    assert len(store.answers(include_superseded=True)) == 3
    assert ann.get("/api/status").json()["own_answers"] == 2


def test_an_undo_whose_clips_are_gone_is_shown_once_they_are_back(ann: TestClient, page: Page) -> None:
    (pair,) = next_pairs(ann)
    answer(ann, pair["lease"])
    paths = [page.site.shelf.path(int(clip.rpartition("/")[2])) for clip in pair["clips"]]
    paths[0].rename(paths[0].with_suffix(".away"))
    page.site.shelf._looked = 0.0
    assert ann.get(pair["clips"][0]).status_code == 404
    assert ann.post("/api/undo", json={}).status_code == 503
    query_id = rows(page.site.leases.store, "SELECT query_id FROM leases")[0][0]
    assert page.site.leases.wanted(time.time(), 0) == [query_id], "so its clips are made next"
    paths[0].with_suffix(".away").rename(paths[0])
    page.site.shelf._looked = 0.0
    assert ann.post("/api/undo", json={}).json()["pair"]["clips"] == pair["clips"]


def test_queries_without_both_clips_wait(ann: TestClient, page: Page) -> None:
    (newest,) = page.site.shelf.store.segment_ids([QUERIES]).values()
    page.site.shelf.path(newest[1]).unlink()
    page.site.shelf._looked = 0.0
    clips = {clip for pair in next_pairs(ann, 12) for clip in pair["clips"]}
    assert len(clips) == 2 * (QUERIES - 1)
    assert not clips & {f"/clips/{page.site.access.page}/{segment_id}" for segment_id in newest}


def test_repeats_gold_and_overlap_reach_the_page(store: PreferenceStore, tmp_path: Path) -> None:
    gold = store.add_answers([replace(answered, query_id=3) for answered in [_owner_says()]])[0]
    options = LeaseOptions(overlap=1.0, repeat=0.5, repeat_after=1, gold="owner", gold_share=0.2)
    page = open_page(store, tmp_path, options)
    for name in ("Ann", "Bob", "Cyd"):
        browser = page.labeller(name)
        while pairs := next_pairs(browser):
            assert answer(browser, pairs[0]["lease"], "left").status_code == 200
    kinds = Counter(rows(store, "SELECT labeller_id, kind FROM leases"))
    assert kinds[1, "first"] == kinds[2, "first"] == QUERIES - 1
    assert kinds[3, "first"] == 0, "two are enough"
    assert [kinds[who, "gold"] for who in (1, 2, 3)] == [1, 1, 0], "a share of their own"
    assert kinds[1, "repeat"] == kinds[2, "repeat"] == (QUERIES - 1) // 2
    swapped = rows(store, "SELECT query_id, labeller_id, swapped FROM leases WHERE kind = 'repeat'")
    first = rows(store, "SELECT query_id, labeller_id, NOT swapped FROM leases WHERE kind = 'first'")
    assert set(swapped) <= set(first)
    asked = rows(store, "SELECT DISTINCT query_id FROM leases WHERE kind = 'gold'")
    assert asked == [(gold.query_id,)]


def _owner_says() -> Any:
    from stores import make_answer

    return make_answer(1, labeller="owner")


# Who may not


def test_the_page_is_nobodys_without_the_token(page: Page, caplog: Log) -> None:
    stranger = page.browser()
    for path in ("/", "/?token=", "/?token=wrong", "/api/status", "/clips/1", "/video", "/openapi.json", "/docs"):
        assert stranger.get(path).status_code == 403
        assert re.fullmatch(r"refused GET '[^ ?]+': open the address that was printed.*", the_line(caplog))
    for path in ("/api/join", "/api/next", "/api/answer", "/api/undo"):
        assert stranger.post(path, json={}).status_code == 403
        assert the_line(caplog).startswith(f"refused POST '{path}'")
    assert stranger.get("/page.js").status_code == 200, "the same for every run"
    stranger.cookies.set(page.site.access.access_cookie, "0" * 64)
    assert stranger.get("/api/status").status_code == 403
    assert page.entered().get("/api/status").status_code == 200, "still serving"


def test_the_token_does_not_open_other_paths(page: Page) -> None:
    token = page.site.access.token
    assert page.browser().get("/api/status", params={"token": token}).status_code == 403
    assert page.browser().head("/", params={"token": token}).status_code == 403
    assert page.browser().post("/", params={"token": token}, json={}).status_code == 403


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8765", "127.0.0.1.evil.example", "", "localhost.", "[::1", "127.0.0.1:x"]
)
def test_a_foreign_host_is_refused(page: Page, host: str, caplog: Log) -> None:
    browser = page.entered()
    for path in ("/", "/page.js", f"/?token={page.site.access.token}"):
        assert browser.get(path, headers={"Host": host}).status_code == 421
        assert the_line(caplog).startswith("refused GET")
    assert browser.get("/").status_code == 200


@pytest.mark.parametrize("host", ["localhost:8765", "LOCALHOST", "[::1]:9000", "127.0.0.1"])
def test_the_end_of_a_tunnel_is_no_foreign_host(page: Page, host: str) -> None:
    headers = {"Host": host, "Origin": f"http://{host}"}
    assert page.entered().get("/", headers=headers).status_code == 200


@pytest.mark.parametrize(
    "origin",
    ["http://evil.example", "null", "http://127.0.0.1:3000", "http://localhost:8765", "", "file://", ADDRESS + "/"],
)
def test_a_page_of_another_site_gets_nothing(ann: TestClient, origin: str, caplog: Log) -> None:
    for method, path in (("POST", "/api/next"), ("GET", "/api/status"), ("OPTIONS", "/api/next"), ("GET", "/page.js")):
        headers = {"Origin": origin, "Access-Control-Request-Method": "POST"}
        response = ann.request(method, path, headers=headers, json={"count": 1} if method == "POST" else None)
        assert response.status_code == 403
        assert not any(name.startswith("access-control") for name in response.headers)
        assert the_line(caplog).endswith("a page of another site may not ask")
    assert len(next_pairs(ann)) == 1


@pytest.mark.parametrize(
    "kind",
    ["application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "text/plain", "", "application/jsonp"],
)
def test_a_form_of_another_site_is_refused(ann: TestClient, kind: str, store: PreferenceStore, caplog: Log) -> None:
    (pair,) = next_pairs(ann)
    body = json.dumps(said(pair["lease"]))
    for headers in ({"Content-Type": kind}, {"Content-Type": kind, "Origin": "http://evil.example"}):
        assert ann.post("/api/answer", content=body, headers=headers).status_code in (403, 415)
        assert "refused POST '/api/answer'" in the_line(caplog)
    assert store.answers() == []


def test_who_posts_says_from_where(ann: TestClient, caplog: Log) -> None:
    del ann.headers["Origin"]
    assert ann.post("/api/next", json={"count": 1}).status_code == 415
    assert "only the page itself may post" in the_line(caplog)
    assert ann.get("/api/status").status_code == 200, "browsers send none with what they get from the same site"


PATHS = [
    *("/clips/../../etc/passwd", "/clips/..%2f..%2fetc%2fpasswd", "/clips/%2e%2e/token", "/clips/1%00.mp4"),
    *("/clips/1/../../token", "/clips/segment-1.mp4", "/clips/-1", "/clips/0", "/clips/1e1", "/clips/0x1"),
    *("/clips/2147483648", f"/clips/{'9' * 5000}", "/clips/99999", "/clips/", "/clips/١", "/%2e%2e/token"),
    *("/page.html", "/consent.txt", "/page.js/../consent.txt", "/video", "/static/page.html", "/etc/passwd"),
    *("/clips/%7f", "/%0aINJECTED", "/%1b[31m", "/%e2%80%a8", "/%ff%fe", "/" + "x" * 10_000),
]


def test_clips_are_found_by_id_only(ann: TestClient, page: Page, caplog: Log) -> None:
    within = [path.replace("/clips/", f"/clips/{page.site.access.page}/") for path in PATHS if "/clips/" in path]
    for path in PATHS + within:
        response = ann.get(path)
        assert response.status_code in (400, 404, 422), path
        assert page.site.access.token not in response.text
        assert len(the_line(caplog)) < 1000


def test_a_link_in_the_clips_folder_is_not_followed(ann: TestClient, page: Page) -> None:
    path = page.site.shelf.path(1)
    path.unlink()
    path.symlink_to(page.site.shelf.folder.parent / "token")
    clip = f"/clips/{page.site.access.page}/1"
    assert ann.get(clip).status_code == 404
    page.site.shelf._looked = 0.0
    assert all(clip not in pair["clips"] for pair in next_pairs(ann, 12))


def test_the_names_of_labellers_are_data(page: Page, store: PreferenceStore, caplog: Log) -> None:
    name = "<script>alert(1)</script>'\"; DROP TABLE answers; -- ${7*7} {{7*7}}"
    browser = page.labeller(name)
    assert browser.get("/api/status").json()["name"] == name
    assert browser.get("/api/status").headers["content-type"] == "application/json"
    assert name not in browser.get("/").text
    (pair,) = next_pairs(browser)
    answer(browser, pair["lease"])
    assert [stored.labeller for stored in store.answers()] == [name]
    assert "script" not in caplog.text


def test_the_page_puts_nothing_into_html() -> None:
    folder = Path(guard.__file__).parent / "page"
    script, html = (folder / "page.js").read_text(), (folder / "page.html").read_text()
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function|srcdoc", script)
    assert not re.search(r"<script(?! src=\"/page.js\" defer></script>)|\son\w+=|javascript:|<style|\sstyle=", html)


def test_a_name_that_is_none_is_refused(page: Page, store: PreferenceStore, caplog: Log) -> None:
    browser = page.entered()
    for name in ("", " ", "x" * 81, "a\0b", "\x1b[2J", "\x9b31m", "x" * 300, "\ud800", 7, None, ["Ann"]):
        body = json.dumps({"name": name, "consent": CONSENT_VERSION})
        response = browser.post("/api/join", content=body, headers={"Content-Type": "application/json"})
        assert response.status_code in (400, 422)
        assert the_line(caplog).startswith("refused POST '/api/join'")
    assert rows(store, "SELECT * FROM labellers") == []
    assert join(browser, "Ann").status_code == 200


def test_nobody_joins_without_the_text_that_is_shown(page: Page) -> None:
    assert join(page.entered(), "Ann", consent="older").status_code == 409


BODIES = [
    *(b"", b"{", b"null", b"[]", b'"x"', b"7", b"\xff\xfe", b"{}", b'{"lease": 1}', b"[" * 8000, b"9" * 5000),
    *(b'{"lease": NaN}', b'{"lease": Infinity}', b'{"lease": 1e999}', b'{"lease": "1"}', b'{"lease": true}'),
    *(b'{"\\ud800": 1}', b'{"lease": "\\ud800"}', b'{"lease": {"a": "\\udfff"}}', b"\0", b'{"a":1}' * 9),
]


@pytest.mark.parametrize("path", ["/api/join", "/api/next", "/api/answer"])
def test_a_malformed_body_is_refused(ann: TestClient, path: str, caplog: Log) -> None:
    for body in BODIES:
        response = ann.post(path, content=body, headers={"Content-Type": "application/json"})
        assert response.status_code in (400, 422), body
        assert len(response.content) < 400, "nothing is echoed"
        assert the_line(caplog).startswith(f"refused POST '{path}'")


CHANGES: list[dict[str, Any]] = [
    *({"lease": value} for value in (0, -1, 2**31, 2**63, 2**200, 1.5, "1", True, None, [1])),
    *({"choice": value} for value in ("up", "", "LEFT", None, 1, ["left"], "left\0")),
    *({"replays": value} for value in (-1, 100_000, 2**31, 0.5, True)),
    *({"speed": value} for value in (0, -1, 17, 1e308, "1", float("nan"), float("inf"))),
    *({"shown_ms": value} for value in (-1, 1e11, float("nan"), float("-inf"), "1", 4000.0)),
    *({"age_ms": value} for value in (-1, 1e11, float("nan"))),
    *({"active_ms": value} for value in (-1, 2600.0, float("inf"))),
    *({"extra": 1}, {"labeller": "Bob"}, {"query_id": 1}, {"swapped": False}, {"supersedes": 1}),
]


def test_an_answer_out_of_bounds_is_refused(ann: TestClient, store: PreferenceStore, caplog: Log) -> None:
    (pair,) = next_pairs(ann)
    for changes in CHANGES:
        body = json.dumps(said(pair["lease"]) | changes)
        response = ann.post("/api/answer", content=body, headers={"Content-Type": "application/json"})
        assert response.status_code == 422, changes
        assert response.json()["error"].startswith("body")
        assert the_line(caplog).startswith("refused POST '/api/answer'")
    assert store.answers() == []
    assert answer(ann, pair["lease"]).status_code == 200


def test_an_oversized_body_is_refused(ann: TestClient, caplog: Log) -> None:
    headers = {"Content-Type": "application/json"}
    big = b" " * guard.MAX_BODY + b"{}"
    assert ann.post("/api/undo", content=big, headers=headers).status_code == 413
    assert the_line(caplog) == "refused POST '/api/undo': a request has a length, of 8192 bytes at most"
    assert ann.post("/api/undo", content=big[2:], headers=headers).status_code == 200
    for length in ("-1", "1e3", "+5", "", "8193", "9" * 400):
        assert ann.post("/api/undo", content=b"{}", headers={**headers, "Content-Length": length}).status_code == 413
        the_line(caplog)
    lies = ann.post("/api/undo", content=big, headers={**headers, "Content-Length": "2"})
    assert (lies.status_code, lies.headers["connection"]) == (413, "close")
    assert ann.post("/api/undo", content=iter([b"{}"]), headers=headers).status_code == 413, "in pieces, of no length"


def test_the_leases_of_others_are_of_no_use(ann: TestClient, page: Page, store: PreferenceStore, caplog: Log) -> None:
    bob = page.labeller("Bob")
    (pair,) = next_pairs(ann)
    for lease in (pair["lease"], 999, 2**31 - 1):
        assert answer(bob, lease).status_code == 409
        assert the_line(caplog) == "refused POST '/api/answer': Conflict"
    assert store.answers() == []
    answer(ann, pair["lease"])
    assert bob.post("/api/undo", json={}).json() == {"pair": None}
    assert bob.post("/api/undo", json={"before": 2**31 - 1}).json() == {"pair": None}
    stranger = page.entered()
    for path, body in (("/api/next", {"count": 1}), ("/api/undo", {}), ("/api/answer", said(pair["lease"]))):
        assert stranger.post(path, json=body).status_code == 401
    cookie = page.site.access.labeller(1)
    for forged in ("1", f"{cookie}0", cookie.replace("1.", "2.", 1), page.site.access.labeller(77)):
        stranger.cookies.set(page.site.access.labeller_cookie, forged)
        assert stranger.post("/api/next", json={"count": 1}).status_code == 401


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "HEAD", "PROPFIND"])
def test_other_methods_are_refused(ann: TestClient, method: str) -> None:
    for path in ("/", "/api/next", "/clips/1", "/page.js", "/nothing"):
        assert ann.request(method, path).status_code in (404, 405)


def test_other_cookies_of_this_machine_do_no_harm(ann: TestClient) -> None:
    ours = "; ".join(f"{name}={value}" for name, value in ann.cookies.items())
    ann.cookies.clear()
    for other in ('{"a": 1}', "a=b=c", "=", ";;", 'x="', "\xff=\xfe", "a[1]=(b)", "$Version=1", "bad name=1"):
        for header in (f"{other}; {ours}", f"{ours}; {other}"):
            response = ann.get("/api/status", headers={"Cookie": header.encode("latin-1")})
            assert (response.status_code, response.json()["name"]) == (200, "Ann"), other


def test_who_asks_too_much_waits_and_keeps_nobody_out(page: Page, caplog: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.monotonic()
    monkeypatch.setattr("prefrl.labelling.access.time.monotonic", lambda: now)
    stranger, bob = page.browser(), page.labeller("Bob")
    assert [stranger.get("/api/status").status_code for _ in range(62)] == [403] * 60 + [429] * 2
    assert caplog.text.count("too many requests") == 2
    codes = [bob.get("/clips/999").status_code for _ in range(302)]
    assert codes == [404] * 300 + [429] * 2
    assert len(next_pairs(page.labeller("Ann"))) == 1, "strangers and other labellers have buckets of their own"
    now += 1
    assert stranger.get("/api/status").status_code == 403
    assert bob.get(f"/clips/{page.site.access.page}/1").status_code == 200


def test_there_are_no_websockets(ann: TestClient, caplog: Log) -> None:
    with pytest.raises(WebSocketDisconnect), ann.websocket_connect("/api/status"):
        pass
    assert the_line(caplog) == "refused WebSocket '/api/status': there are no WebSockets"


def test_every_answer_says_what_browsers_may_do_with_it(ann: TestClient, page: Page) -> None:
    (pair,) = next_pairs(ann)
    responses = [
        *(ann.get(path) for path in ("/", "/page.js", "/page.css", "/favicon.svg", "/api/status", pair["clips"][0])),
        *(page.entered().get("/?token=wrong"), page.browser().get("/"), ann.get("/nothing"), ann.put("/")),
        *(ann.post("/api/next", json={"count": 1}), ann.post("/api/next", json={})),
    ]
    for response in responses:
        rules = dict(rule.split(maxsplit=1) for rule in response.headers["content-security-policy"].split("; "))
        assert rules["default-src"] == rules["base-uri"] == rules["form-action"] == rules["frame-ancestors"] == "'none'"
        assert rules["script-src"] == "'self'"
        assert "unsafe" not in response.headers["content-security-policy"]
        assert response.headers["x-content-type-options"] == "nosniff"
        assert response.headers["x-frame-options"] == "DENY"
        assert response.headers["referrer-policy"] == "no-referrer"
        assert response.headers["cross-origin-resource-policy"] == "same-origin"
        assert "access-control-allow-origin" not in response.headers, "though Origin was sent"
        is_clip = response.headers["content-type"] == "video/mp4"
        assert response.headers["cache-control"] == ("private, max-age=86400, immutable" if is_clip else "no-store")


def test_neither_token_nor_name_reach_the_log(page: Page, caplog: Log) -> None:
    caplog.set_level(logging.DEBUG)
    token = page.site.access.token
    browser = page.labeller("Zebedee")
    for path in (f"/?token={token}", f"/{token}", f"/%3Ftoken={token}", f"/x/{token}?token={token}"):
        page.browser().get(path, headers={"Referer": f"{ADDRESS}/?token={token}"})
        page.browser().get(path, headers={"Host": "evil.example"})
        browser.get(path)
    browser.post("/api/next", content="{", headers={"Content-Type": "application/json"})
    browser.post("/api/answer", json=said(999))
    ours = [record.getMessage() for record in caplog.records if not record.name.startswith("http")]  # the test's client
    assert len(ours) >= 10
    assert token not in "\n".join(ours)
    assert "Zebedee" not in "\n".join(ours)
    assert not any(value in "\n".join(ours) for value in browser.cookies.values())


# The store fails


def test_a_store_that_is_locked_is_said_in_one_line_and_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: Log
) -> None:
    monkeypatch.setattr(connection, "BUSY_SECONDS", 0)
    with PreferenceStore(tmp_path / "preferences.db", task="hopper") as store:
        fill(store, 2)
        browser = open_page(store, tmp_path).labeller()
        (pair,) = next_pairs(browser)
        with closing(sqlite3.connect(store.location)) as other:
            other.execute("BEGIN EXCLUSIVE")
            for path, body in (("/api/answer", said(pair["lease"])), ("/api/next", {"count": 2})):
                response = browser.post(path, json=body)
                assert response.status_code == 503
                assert "locked" in response.json()["error"]
                assert "locked" in the_line(caplog)
            assert browser.get("/page.js").status_code == 200
        assert answer(browser, pair["lease"]).status_code == 200
        assert len(store.answers()) == 1


def test_a_store_that_is_damaged_is_said_in_one_line(ann: TestClient, store: PreferenceStore, caplog: Log) -> None:
    (pair,) = next_pairs(ann)
    store._database._engine.dispose()
    Path(store.location).write_bytes(b"no database " * 1000)
    response = answer(ann, pair["lease"])
    assert response.status_code == 503
    assert "not a database" in the_line(caplog)


def test_a_run_whose_files_are_nonsense_is_shown_without_them(
    store: PreferenceStore, tmp_path: Path, page: Page
) -> None:
    run = tmp_path / "run"
    (run / "videos").mkdir(parents=True)
    app = make_api(replace(page.site, run=run))
    browser = TestClient(app)
    assert browser.get("/api/status").json()["training"] is None
    assert browser.get("/video").status_code == 404
    (run / "config.json").write_text('{"labels": "\\ud800"}')
    for status in ("[]", "{", "7", '{"state": ["x"], "steps": NaN}', '{"state": "\\ud800", "env_steps": 1e999}'):
        (run / "status.json").write_text(status)
        for metrics in (b"", b"a,b\n1,2\n", b"env_steps\nnan\n", b"env_steps\n\xff\n", b'"\n"\n', b"\0\n\n", b"a\n\n"):
            (run / "metrics.csv").write_bytes(metrics)
            training = browser.get("/api/status").json()["training"]
            assert training is None or set(training.values()) <= {None, 0}
    (run / "status.json").write_text('{"state": "running", "steps": 500, "env_steps": 7}')
    (run / "metrics.csv").write_text("env_steps,steps_per_second\n256,1000.5\n512,")
    (run / "videos" / "1.mp4").write_bytes(b"video")
    (run / "videos" / "2.mp4").symlink_to(tmp_path / "token")
    training = browser.get("/api/status").json()["training"]
    assert (training["state"], training["steps"], training["env_steps"]) == ("running", 500, 256)
    assert (training["steps_per_second"], bool(training["video"])) == (1000.5, True)
    assert browser.get("/video").content == b"video"


# Anything at all

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-3, 12)
    | st.floats()
    | st.text(st.characters(codec=None))
    | st.sampled_from(["left", "skip", "Ann", "\ud800", CONSENT_VERSION]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
names = st.sampled_from(["name", "consent", "count", "before", *said(1)]) | st.text(max_size=5)
changed = st.dictionaries(names, values, max_size=4)
messages = values | st.builds(lambda base, changes: base | changes, st.sampled_from([{}, said(1), said(2)]), changed)


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    path=st.sampled_from(["/api/join", "/api/next", "/api/answer", "/api/undo"]),
    body=messages.map(lambda message: json.dumps(message).encode()) | st.binary(max_size=200),
)
def test_no_message_is_more_than_the_server_can_take(ann: TestClient, path: str, body: bytes) -> None:
    headers = {"Content-Type": "application/json"}
    response = ann.post(path, content=body, headers=headers)
    assert response.status_code in (200, 400, 401, 409, 422, 429)
    assert isinstance(response.json(), dict)


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    path=st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=40),
    header=st.sampled_from(["Cookie", "Origin", "Range", "Content-Type", "If-None-Match", "X-Forwarded-Host"]),
    value=st.binary(max_size=40).map(lambda text: re.sub(rb"[\r\n\0]", b"", text)),
)
def test_no_path_and_no_header_is_more_than_the_server_can_take(
    ann: TestClient, path: str, header: str, value: bytes
) -> None:
    response = ann.get("/" + path.lstrip("/"), headers={header: value})
    assert response.status_code < 500
