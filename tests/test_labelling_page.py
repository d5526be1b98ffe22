"""The page as a person uses it, in a real browser over a real server, down to the rows in the database."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from random import Random
from urllib.parse import urlsplit

import numpy as np
import pytest
import sqlalchemy as sa
import uvicorn
from chromium import find_chromium
from playwright.sync_api import Browser, BrowserContext, Page, Route, expect
from stand_in import KEYS, PLAYING, StandIn, browser, join, measured
from test_clips import needs_gl

from prefrl.labelling.access import Access
from prefrl.labelling.child import Child
from prefrl.labelling.clip_maker import ClipMaker, Shelf
from prefrl.labelling.leases import Leases
from prefrl.labelling.options import LabellingOptions, LeaseOptions
from prefrl.labelling.server import Site, make_app
from prefrl.labelling.subject import subject_of
from prefrl.oracles.synthetic import SyntheticOracle
from prefrl.preferences import PreferenceStore, schema
from prefrl.queries import Query
from prefrl.segments import Segment
from prefrl.tasks import TASKS

QUERIES = 8


pytestmark = [
    needs_gl,
    pytest.mark.skipif(find_chromium() is None, reason="no Chromium is installed; make test says how to change that"),
]


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with browser() as launched:
        yield launched


@pytest.fixture
def context(chromium: Browser) -> Iterator[BrowserContext]:
    made = chromium.new_context(viewport={"width": 1280, "height": 800})
    made.set_default_timeout(30_000)
    yield made
    made.close()


def pendulum_segment(seed: int) -> Segment:
    """15 steps of a pole that swings."""
    rng = np.random.default_rng(seed)
    first, last = rng.uniform(-1, 1, size=2)
    angle = np.linspace(first, last, 15)
    qpos = np.stack([0.1 * angle, angle], axis=1)
    return Segment(
        observations=rng.normal(size=(15, 4)).astype(np.float32),
        actions=rng.normal(size=(15, 1)).astype(np.float32),
        true_rewards=-(angle**2).astype(np.float32),
        qpos=qpos,
        qvel=np.zeros_like(qpos),
    )


def pairs() -> list[Query]:
    """The same in each store, so that the clips of one do for all."""
    return [Query((pendulum_segment(2 * i), pendulum_segment(2 * i + 1))) for i in range(QUERIES)]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[PreferenceStore]:
    with PreferenceStore(tmp_path / "preferences.db", task="pendulum") as made:
        made.add_queries(pairs())
        yield made


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of the segments that every test's store has."""
    folder = tmp_path_factory.mktemp("clips")
    with PreferenceStore(folder / "preferences.db", task="pendulum") as store:
        store.add_queries(pairs())
        maker = ClipMaker(Leases(store), folder / "clips")
        while maker.work():
            pass
        maker.close()
    return folder / "clips"


class Served:
    """The page of a store, served by a thread of this process."""

    def __init__(self, folder: Path, store: PreferenceStore, clips: Path) -> None:
        access = Access(folder / "token", store.created)
        leases = Leases(store, LeaseOptions(repeat=0.0))
        site = Site(subject_of(store), leases, Shelf(store, clips), access, "127.0.0.1")
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.address = f"http://127.0.0.1:{self._socket.getsockname()[1]}/?token={access.token}"
        self._server = uvicorn.Server(uvicorn.Config(make_app(site), log_config=None, lifespan="off"))
        self._thread = threading.Thread(target=lambda: self._server.run(sockets=[self._socket]))
        self._thread.start()

    def close(self) -> None:
        self._server.should_exit = self._server.force_exit = True
        self._thread.join()
        self._socket.close()


@pytest.fixture
def served(tmp_path: Path, store: PreferenceStore, clips: Path) -> Iterator[Served]:
    made = Served(tmp_path, store, clips)
    yield made
    made.close()


def opened(context: BrowserContext, served: Served, name: str = "Ann") -> Page:
    page = context.new_page()
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("console", lambda line: problems.append(line.text) if line.type == "error" else None)
    join(page, served.address, name)
    page.wait_for_selector(PLAYING, state="attached")
    page.problems = problems  # type: ignore[attr-defined]
    return page


def press(page: Page, key: str) -> None:
    page.wait_for_selector(PLAYING, state="attached")
    page.keyboard.press(key)


def until_stored(page: Page, store: PreferenceStore, count: int) -> None:
    """Wait until so many answers are in the database, the undone ones among them."""
    for _ in range(200):
        if len(store.answers(include_superseded=True)) >= count:
            return
        page.wait_for_timeout(50)
    raise AssertionError(f"{len(store.answers(include_superseded=True))} answers after 10 s, not {count}")


def test_keys_become_answers_with_how_they_came_about(
    context: BrowserContext, served: Served, store: PreferenceStore
) -> None:
    page = opened(context, served)
    assert "token" not in page.url
    expect(page.locator("#instruction")).to_contain_text("Prefer the clip in which the pole stands more upright.")
    for key in ("ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown", "s"):
        press(page, key)
        page.wait_for_timeout(300)
    until_stored(page, store, 5)
    with store.transaction() as connection:
        leases = {row.answer_id: row for row in connection.execute(sa.select(schema.leases))}
        viewings = connection.execute(sa.select(schema.viewings).order_by(schema.viewings.c.answer_id)).all()
        (labeller,) = connection.execute(sa.select(schema.labellers)).all()
    answers = store.answers()
    on_screen = [
        {"left": "right", "right": "left"}.get(answer.choice, answer.choice)
        if leases[answer.id].swapped
        else answer.choice
        for answer in answers
    ]
    assert on_screen == ["left", "right", "equal", "cant_tell", "skip"]
    assert [answer.query_id for answer in answers] == [8, 7, 6, 5, 4], "newest first"
    assert {answer.labeller for answer in answers} == {labeller.name} == {"Ann"}
    assert "What you answer trains a robot" in labeller.consent
    for viewing, answer in zip(viewings, answers, strict=True):
        assert viewing.answered_ms > viewing.shown_ms
        assert 0 <= viewing.active_ms <= viewing.answered_ms - viewing.shown_ms + 1
        assert answer.answered_at - answer.shown_at == pytest.approx(
            (viewing.answered_ms - viewing.shown_ms) / 1000, abs=1e-5
        )
        assert (viewing.speed, len(viewing.page_version)) == (1.0, 12)
    assert len(measured(page)) == 5
    assert page.problems == []  # type: ignore[attr-defined]


def test_undo_goes_back_through_the_session_and_then_goes_on(
    context: BrowserContext, served: Served, store: PreferenceStore
) -> None:
    page = opened(context, served)
    shown = []
    for _ in range(3):
        page.wait_for_selector(PLAYING, state="attached")
        shown.append(page.locator("#stage .pair:not(.ahead) video").evaluate_all("all => all.map(v => v.src)"))
        page.keyboard.press("ArrowDown")
        page.wait_for_timeout(100)
    page.wait_for_selector(PLAYING, state="attached")
    interrupted = page.locator("#stage .pair:not(.ahead) video").evaluate_all("all => all.map(v => v.src)")
    for pair in (shown[2], shown[1]):
        page.keyboard.press("u")
        expect(page.locator("#stage .pair:not(.ahead) video").first).to_have_js_property("src", pair[0])
        page.wait_for_selector(PLAYING, state="attached")
    page.keyboard.press("ArrowUp")
    expect(page.locator("#stage .pair:not(.ahead) video").first).to_have_js_property("src", interrupted[0])
    until_stored(page, store, 4)
    assert [answer.choice for answer in store.answers()] == ["cant_tell", "cant_tell", "equal"]
    assert [answer.query_id for answer in store.answers()] == [8, 6, 7]
    for _ in range(9):  # the changed one is the newest, then 6, then 8; further back there is nothing
        page.keyboard.press("u")
        page.wait_for_timeout(150)
    expect(page.locator("#notice")).to_contain_text("nothing further to take back")


def test_undo_takes_back_the_answer_that_is_still_under_way(
    context: BrowserContext, served: Served, store: PreferenceStore
) -> None:
    page = opened(context, served)

    def slowly(route: Route) -> None:
        page.wait_for_timeout(300)
        route.continue_()

    page.route("**/api/answer", slowly)
    press(page, "ArrowDown")
    press(page, "ArrowUp")
    page.keyboard.press("u")
    page.keyboard.press("u")
    expect(page.locator("#notice")).to_contain_text("Taken back")
    page.wait_for_timeout(1500)
    press(page, "s")
    until_stored(page, store, 3)
    assert [(answer.query_id, answer.choice) for answer in store.answers()] == [(7, "equal"), (8, "skip")]


def test_the_clips_of_another_run_at_the_same_address_are_its_own(
    context: BrowserContext, tmp_path: Path, store: PreferenceStore, clips: Path
) -> None:
    first = Served(tmp_path, store, clips)
    shown = opened(context, first).locator("#stage video").evaluate_all("all => all.map(v => v.src)")
    first.close()
    (tmp_path / "other").mkdir()
    with PreferenceStore(tmp_path / "other" / "preferences.db", task="pendulum") as another:
        another.add_queries(pairs())
        second = Served(tmp_path / "other", another, clips)
        later = opened(context, second, "Bob").locator("#stage video").evaluate_all("all => all.map(v => v.src)")
        second.close()
    paths = [{urlsplit(source).path for source in each} for each in (shown, later)]
    assert paths[0]
    assert paths[1]
    assert not paths[0] & paths[1]


def test_answers_outlive_a_lost_connection_and_a_reload(
    context: BrowserContext, served: Served, store: PreferenceStore
) -> None:
    page = opened(context, served)
    context.set_offline(True)
    press(page, "ArrowDown")
    page.wait_for_timeout(200)
    press(page, "ArrowUp")
    expect(page.locator("#notice")).to_contain_text("2 answers wait")
    assert store.answers() == []
    context.set_offline(False)
    page.reload()
    until_stored(page, store, 2)
    assert [answer.choice for answer in store.answers()] == ["cant_tell", "equal"]
    press(page, "s")
    until_stored(page, store, 3)
    assert len({answer.query_id for answer in store.answers()}) == 3


def test_a_server_that_was_killed_is_found_again(
    context: BrowserContext, tmp_path: Path, store: PreferenceStore
) -> None:
    """The real processes: the server, and the clip maker beside it."""
    arguments = {
        **{"store": str(tmp_path / "preferences.db"), "clips": str(tmp_path / "clips"), "run": None},
        **{"token": str(tmp_path / "token"), "options": asdict(LabellingOptions(repeat=0.0)), "trust": False},
    }
    child = Child("server", arguments, tmp_path / "log")
    page = context.new_page()
    address = str(child.said["address"])
    join(page, address, "Ann")
    press(page, "ArrowDown")
    until_stored(page, store, 1)
    page.wait_for_selector(PLAYING, state="attached")
    os.kill(child.pid, signal.SIGKILL)
    child.close()
    press(page, "ArrowUp")
    expect(page.locator("#notice")).to_contain_text("here")
    arguments["options"] = asdict(LabellingOptions(repeat=0.0, port=urlsplit(address).port or 0))
    child = Child("server", arguments, tmp_path / "log")
    assert child.said["address"] == address
    until_stored(page, store, 2)
    press(page, "s")
    until_stored(page, store, 3)
    child.close()
    assert [answer.choice for answer in store.answers()] == ["cant_tell", "equal", "skip"]
    token = (tmp_path / "token").read_text()
    assert token not in (tmp_path / "log").read_text()


def test_two_tabs_count_nothing_twice(context: BrowserContext, served: Served, store: PreferenceStore) -> None:
    first = opened(context, served)
    second = context.new_page()
    second.goto(served.address)
    second.wait_for_selector(PLAYING, state="attached")
    for tab in (first, second, second, first, second, first, second, first):
        press(tab, "ArrowLeft")
        tab.wait_for_timeout(150)
    until_stored(first, store, 4)
    first.wait_for_timeout(500)
    answers = store.answers()
    assert len({answer.query_id for answer in answers}) == len(answers)


def test_when_all_is_answered_the_page_says_so_and_asks_again_by_itself(
    context: BrowserContext, served: Served, store: PreferenceStore, clips: Path
) -> None:
    page = opened(context, served)
    for _ in range(QUERIES):
        press(page, "ArrowDown")
        page.wait_for_timeout(50)
    expect(page.locator("#waiting-title")).to_have_text("Everything asked so far is answered")
    expect(page.locator("#answers")).to_have_text(f"{QUERIES} of {QUERIES}")
    first, second = store.queries([1])[0].segments
    store.add_queries([Query((second, first))])
    press(page, "s")
    until_stored(page, store, QUERIES + 1)


def test_a_name_is_shown_as_text_and_one_that_is_none_is_refused(
    context: BrowserContext, served: Served, store: PreferenceStore
) -> None:
    page = context.new_page()
    join(page, served.address, "   ")
    expect(page.locator("#name-problem")).to_contain_text("a name has 1 to 80 characters")
    other = context.browser.new_context().new_page()  # type: ignore[union-attr]
    other.on("dialog", lambda dialog: pytest.fail("the name was executed"))
    join(other, served.address, "<img src=x onerror=alert(1)>")
    other.wait_for_selector(PLAYING, state="attached")
    press(other, "s")
    until_stored(other, store, 1)
    assert store.answers()[0].labeller == "<img src=x onerror=alert(1)>"
    other.context.close()


def test_clicks_speed_replay_and_help(context: BrowserContext, served: Served, store: PreferenceStore) -> None:
    page = opened(context, served)
    page.keyboard.press("+")
    page.keyboard.press("r")
    page.locator("#replay").click()
    expect(page.locator("#speed")).to_have_text("1.5×")
    page.keyboard.press("?")
    expect(page.locator("#help")).to_be_visible()
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Escape")
    expect(page.locator("#help")).not_to_be_visible()
    assert store.answers() == [], "no key is an answer while the help is open"
    page.locator("#stage .pair:not(.ahead) .clip.right").click()
    until_stored(page, store, 1)
    with store.transaction() as connection:
        assert connection.execute(sa.select(schema.viewings.c.speed)).scalar_one() == 1.5
    assert store.answers()[0].replays == 2


def test_a_key_held_down_is_one_answer(context: BrowserContext, served: Served, store: PreferenceStore) -> None:
    page = opened(context, served)
    for _ in range(6):
        page.keyboard.down("ArrowDown")  # Chromium marks all but the first as repeats
        page.wait_for_timeout(60)
    page.keyboard.up("ArrowDown")
    until_stored(page, store, 1)
    page.wait_for_timeout(300)
    assert len(store.answers()) == 1


def test_the_stand_in_says_what_its_oracle_says(
    context: BrowserContext, served: Served, store: PreferenceStore
) -> None:
    page = opened(context, served, "stand-in")
    person = StandIn(page, store, SyntheticOracle(seed=0), Random(0), seconds=0.3)
    for number in range(QUERIES):
        person.answer(slip=number == 3)
    until_stored(page, store, QUERIES + 1)
    returns = {query.id: [segment.true_return for segment in query.segments] for query in store.queries()}
    for answer in store.answers():
        left, right = returns[answer.query_id]
        assert answer.choice == ("left" if left > right else "right")
    assert set(KEYS) >= {answer.choice for answer in store.answers()}


@pytest.mark.parametrize("size", [(1280, 800), (1920, 1080), (390, 844), (844, 390), (320, 568)])
def test_everything_fits_on_the_screen(
    context: BrowserContext, served: Served, store: PreferenceStore, size: tuple[int, int]
) -> None:
    page = opened(context, served)
    page.set_viewport_size({"width": size[0], "height": size[1]})
    page.route("**/api/status", lambda route: route.abort())  # which would bring the task's own words back
    longest = max((task.instruction for task in TASKS.values()), key=len)
    page.evaluate("text => document.getElementById('instruction').textContent = text", longest)
    page.wait_for_timeout(200)
    assert page.evaluate("document.documentElement.scrollWidth") <= size[0]
    for selector in ('#choices [data-choice="left"]', '#choices [data-choice="cant_tell"]', ".pair:not(.ahead) .right"):
        box = page.locator(selector).bounding_box()
        assert box is not None
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= size[0] + 1
        assert box["y"] + box["height"] <= size[1] + 1, f"{selector} is below the screen's edge"
