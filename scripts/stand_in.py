"""Somebody who labels, played by a program: it drives the page in Chromium with key presses, as a person would.

    .venv/bin/python scripts/stand_in.py ADDRESS RUN/preferences.db --answers 200

It looks up which segments are on the screen and answers as an oracle would, with a person's delays and slips. What it
says is an oracle's word, and never to be reported as a person's.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import tyro
from chromium import find_chromium
from playwright.sync_api import Browser, Page, TimeoutError, sync_playwright

from prefrl.config import OracleOptions
from prefrl.oracles.synthetic import SyntheticOracle
from prefrl.preferences import PreferenceStore, open_existing
from prefrl.tasks import TASKS

# No sandbox, which containers do not allow; no GPU, which they do not have.
FLAGS = ("--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-sync")
KEYS = {"left": "ArrowLeft", "right": "ArrowRight", "equal": "ArrowUp", "cant_tell": "ArrowDown", "skip": "s"}
PLAYING = "#stage[data-playing]"


@dataclass(frozen=True)
class Options:
    """Label on a page that is served."""

    address: tyro.conf.Positional[str]
    """that the server printed, token included"""
    store: tyro.conf.Positional[str]
    """the same database as the page's"""
    answers: int = 100
    """to give"""
    name: str = "stand-in"
    """to label under"""
    seconds: float = 3.0
    """for an answer on average, at least 0.3"""
    slips: float = 0.05
    """share of answers that are undone and given again"""
    patience: float = 120.0
    """seconds to wait for the next pair before giving up"""
    screenshot: Path | None = None
    """PNG to write when half of the answers are given"""
    seed: int = 0
    """of delays, slips and mistakes"""
    oracle: OracleOptions = field(default_factory=OracleOptions)


@contextmanager
def browser() -> Iterator[Browser]:
    """The system's Chromium, without a window."""
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=find_chromium(), args=list(FLAGS))
        try:
            yield launched
        finally:
            launched.close()


def join(page: Page, address: str, name: str) -> None:
    """Open the page and agree."""
    page.goto(address)
    page.locator("#name").fill(name)
    page.keyboard.press("Enter")


class StandIn:
    """Answers what a page shows.

    Args:
        page: joined already.
        store: which the page's segments are in.
        oracle: whose word it gives.
        rng: of delays and slips.
        seconds: for an answer on average.
    """

    def __init__(
        self, page: Page, store: PreferenceStore, oracle: SyntheticOracle, rng: Random, seconds: float
    ) -> None:
        self.page, self.store, self.oracle, self.rng, self.seconds = page, store, oracle, rng, seconds
        self._segments_of: dict[tuple[int, ...], int] = {}

    def answer(self, slip: bool = False, patience: float = 120.0) -> str:
        """Look, think, press; returns the choice.

        Args:
            slip: press another key first, and take it back.
            patience: seconds to wait for a pair.
        """
        self.page.wait_for_selector(PLAYING, state="attached", timeout=1000 * patience)
        choice = self._choice()
        # Mostly near the mean, at times much longer, as people are.
        self.page.wait_for_timeout(1000 * max(0.3, self.seconds * self.rng.lognormvariate(-0.08, 0.4)))
        if slip:
            shown = self._shown()
            self.page.keyboard.press(KEYS[self.rng.choice([each for each in KEYS if each != choice])])
            self.page.wait_for_timeout(400)
            self.page.keyboard.press("u")
            self._wait_for(shown)
        self.page.keyboard.press(KEYS[choice])
        return choice

    def _shown(self) -> list[str]:
        sources = self.page.locator("#stage .pair:not(.ahead) video").evaluate_all("all => all.map(v => v.src)")
        return [str(source) for source in sources]

    def _wait_for(self, shown: list[str]) -> None:
        for _ in range(100):
            if self._shown() == shown and self.page.locator(PLAYING).count():
                return
            self.page.wait_for_timeout(50)
        raise RuntimeError("what was undone did not come back within 5 s")

    def _choice(self) -> str:
        left, right = (int(re.search(r"(\d+)$", source)[1]) for source in self._shown())  # type: ignore[index]
        query_id, swapped = self._query(left, right)
        (query,) = self.store.queries([query_id])
        self.oracle.submit([query])
        (said,) = self.oracle.collect()
        return {"left": "right", "right": "left"}.get(said.choice, said.choice) if swapped else said.choice

    def _query(self, left: int, right: int) -> tuple[int, bool]:
        if (left, right) not in self._segments_of and (right, left) not in self._segments_of:
            ids = [query.id for query in self.store.queries() if query.id is not None]
            self._segments_of = {tuple(shown): query_id for query_id, shown in self.store.segment_ids(ids).items()}
        swapped = (left, right) not in self._segments_of
        return self._segments_of[(right, left) if swapped else (left, right)], swapped


def measured(page: Page) -> list[tuple[float, float]]:
    """When each key was pressed, and how long until both next clips played; milliseconds by the page's clock."""
    found = page.evaluate("performance.getEntriesByName('answer-to-next').map(m => [m.startTime, m.duration])")
    return [(float(at), float(took)) for at, took in found]


def main() -> None:
    """Label, and say how it went as JSON."""
    options = tyro.cli(Options, description=__doc__)
    rng = Random(options.seed)
    with browser() as launched, open_existing(options.store) as store:
        page = launched.new_page(viewport={"width": 1280, "height": 800})
        join(page, options.address, options.name)
        oracle = options.oracle.make(TASKS.get(store.task or ""), options.seed)
        person = StandIn(page, store, oracle, rng, options.seconds)
        given = 0
        try:
            while given < options.answers:
                person.answer(rng.random() < options.slips, options.patience)
                given += 1
                if options.screenshot is not None and given == options.answers // 2:
                    page.wait_for_selector(PLAYING, state="attached")
                    page.wait_for_timeout(500)
                    page.screenshot(path=options.screenshot)
        except TimeoutError:
            print(f"nothing to answer for {options.patience:g} s, after {given} answers", file=sys.stderr)
        page.wait_for_timeout(1000)
        json.dump({"answers": given, "pressed_and_to_next_ms": measured(page)}, sys.stdout)
        print()


if __name__ == "__main__":
    main()
