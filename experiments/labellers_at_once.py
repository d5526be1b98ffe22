"""Many labellers at once, the page's server killed meanwhile: no answer lost, none twice, no query asked too often.

    .venv/bin/python experiments/labellers_at_once.py                       # 20 on PostgreSQL, then 8 on SQLite
    .venv/bin/python experiments/labellers_at_once.py --stores sqlite --labellers 3 --seconds 10

Each simulated labeller has a connection, cookies and a name of their own, and does over HTTP what the page does: it
takes pairs ahead, fetches their clips, answers twice a second, and sends again whatever was not acknowledged. Now and
then it reloads, sends an answer a second time or takes one back. The server, `prefrl label`, is killed with SIGKILL at
random instants and started again. Afterwards every answer is looked up in the database. The clips are small files that
are no videos, so nothing is rendered. Writes results.json and labellers_at_once.md to
experiments/results/labellers_at_once; exit code 0 only if all of it held.
"""

from __future__ import annotations

import asyncio
import importlib.metadata
import json
import os
import platform
import random
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import sqlalchemy as sa
import tyro
from common import RESULTS, markdown_table
from kill_store import StoreName, database

from prefrl.config import Count
from prefrl.errors import UserError
from prefrl.labelling.clip_maker import clips_of
from prefrl.labelling.leases import Leases
from prefrl.labelling.options import LeaseOptions
from prefrl.preferences import Answer, PreferenceStore, schema
from prefrl.queries import Query
from prefrl.run_directory import describe_here
from prefrl.segments import Segment

LABELLERS: dict[StoreName, int] = {"postgresql": 20, "sqlite": 8}
OPTIONS = LeaseOptions(overlap=0.2, repeat=0.05, gold="owner", gold_share=0.05)
SEGMENTS = 400  # that the queries pair
GOLD = 40  # queries with a known answer
AHEAD = 3  # pairs held, as by the page
CHOICES = ("left", "right", "equal", "cant_tell", "skip")
RELOADS, SENT_TWICE, UNDONE = 0.02, 0.05, 0.02  # shares of answers that these happen after
RETRY_SECONDS = 0.2


@dataclass(frozen=True)
class Options:
    """How many, how long, and how often the server is killed."""

    stores: tuple[StoreName, ...] = ("postgresql", "sqlite")
    """kinds of database"""
    labellers: Count | None = None
    """at once; 20 on PostgreSQL and 8 on SQLite by default"""
    seconds: Count = 120
    """for which each of them labels, without the time in which there is no server"""
    rate: float = 2.0
    """answers a second of each"""
    kills: Count = 2
    """of the server"""
    url: str | None = None
    """PostgreSQL database; one on a temporary server by default"""
    seed: Count = 0
    """of the instants and of what labellers do"""
    results: Path = RESULTS / "labellers_at_once"
    """folder of the results"""


@dataclass
class Said:
    """What all labellers sent, and what came back. An answer's mark is what it says as shown_ms: no other has it."""

    sent: dict[float, tuple[str, str, int]] = field(default_factory=dict)  # mark -> labeller, choice, lease
    acknowledged: dict[float, int] = field(default_factory=dict)  # mark -> id of the answer
    contradicted: int = 0  # answers that were acknowledged twice, with two ids
    gone: int = 0  # answers that were refused, as somebody else had the query by then
    sent_again: int = 0  # requests that got no answer
    seconds: dict[str, list[float]] = field(default_factory=dict)  # by path: of each request that was answered


class Server:
    """`prefrl label` as a process, at the same port whenever it is started."""

    def __init__(self, location: str, folder: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self._folder = folder
        shares = ["--overlap", str(OPTIONS.overlap), "--repeat", str(OPTIONS.repeat)]
        gold = ["--gold", str(OPTIONS.gold), "--gold-share", str(OPTIONS.gold_share)]
        where = ["--store", location, "--clips", str(folder / "clips"), "--port", str(self.port)]
        self._command = [sys.executable, "-P", "-m", "prefrl", "label", *where, *shares, *gold]
        self.address = ""
        self.start()

    def start(self) -> None:
        """Returns when it can be asked."""
        with (self._folder / "log").open("a") as log:
            environment = {**os.environ, "XDG_STATE_HOME": str(self._folder), "OMP_NUM_THREADS": "1"}
            self._process = subprocess.Popen(
                self._command, env=environment, stdout=subprocess.PIPE, stderr=log, text=True
            )
        assert self._process.stdout is not None
        address = self._process.stdout.readline().removeprefix("label at ").strip()
        if not address or self.address not in ("", address):
            raise UserError(f"the server says {address!r}, and {(self._folder / 'log').read_text()!r}")
        self.address = address

    def kill(self) -> None:
        """Without warning."""
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()


class Labeller:
    """Somebody with a browser."""

    def __init__(self, number: int, address: str, options: Options, said: Said) -> None:
        self._name, self._address, self._options, self._said = f"labeller {number}", address, options, said
        self._rng = random.Random(f"{options.seed} {number}")
        self._marks = (number * 1e6 + i + 0.5 for i in range(10**6))
        self._origin = address.partition("/?")[0]
        self._pairs: list[dict[str, Any]] = []
        self._clips: set[str] = set()  # the browser has them already

    async def label(self) -> None:
        """Give as many answers as fit into the time, at a steady rate as long as there is a server."""
        limits = httpx.Limits(max_connections=4)
        async with httpx.AsyncClient(headers={"Origin": self._origin}, timeout=15, limits=limits) as self._browser:
            await self._ask("GET", self._address)
            consent = (await self._ask("GET", "/api/status")).json()["consent"]["version"]
            await self._ask("POST", "/api/join", {"name": self._name, "consent": consent})
            await asyncio.sleep(self._rng.random() / self._options.rate)
            for _ in range(round(self._options.seconds * self._options.rate)):
                began = time.monotonic()
                await self._answer_next()
                await asyncio.sleep(max(0.0, began + 1 / self._options.rate - time.monotonic()))

    async def _answer_next(self) -> None:
        while not self._pairs:
            await self._fill()
        pair = self._pairs.pop(0)
        message = await self._answer(pair["lease"])
        if message is not None and self._rng.random() < SENT_TWICE:
            await self._send(message)
        if self._rng.random() < UNDONE:
            taken_back = (await self._ask("POST", "/api/undo", {})).json()["pair"]
            if taken_back is not None:
                await self._answer(taken_back["lease"])
        if self._rng.random() < RELOADS:
            self._pairs.clear()
        await self._fill()

    async def _fill(self) -> None:
        given = (await self._ask("POST", "/api/next", {"count": AHEAD})).json()["pairs"]
        if not given:
            raise UserError("there is nothing left to label; more queries are needed")
        self._pairs = given
        for clip in {clip for pair in given for clip in pair["clips"]} - self._clips:
            await self._ask("GET", clip)
            self._clips.add(clip)

    async def _answer(self, lease: int) -> dict[str, Any] | None:
        mark, choice = next(self._marks), self._rng.choice(CHOICES)
        times = {"shown_ms": mark, "answered_ms": mark + 400, "age_ms": 0, "active_ms": 400}
        message = {"lease": lease, "choice": choice, **times, "replays": 0, "speed": 1}
        self._said.sent[mark] = (self._name, choice, lease)
        return message if await self._send(message) else None

    async def _send(self, message: dict[str, Any]) -> bool:
        response = await self._ask("POST", "/api/answer", message)
        if response.status_code == 409:
            self._said.gone += 1
            return False
        known = self._said.acknowledged.setdefault(message["shown_ms"], response.json()["answer"])
        self._said.contradicted += known != response.json()["answer"]
        return True

    async def _ask(self, method: str, path: str, message: dict[str, Any] | None = None) -> httpx.Response:
        """Until it is answered, as long as that takes."""
        url = path if path.startswith("http") else self._origin + path
        while True:
            began = time.monotonic()
            try:
                response = await self._browser.request(method, url, json=message)
            except httpx.TransportError:
                self._said.sent_again += 1
                await asyncio.sleep(RETRY_SECONDS)
                continue
            if response.status_code in (200, 409):
                kind = "/clips" if path.startswith("/clips/") else path.partition("?")[0].removeprefix(self._origin)
                self._said.seconds.setdefault(kind, []).append(time.monotonic() - began)
                return response
            if response.status_code != 503:
                raise UserError(f"{method} {path.partition('?')[0]}: {response.status_code} {response.text}")
            await asyncio.sleep(RETRY_SECONDS)


def prepare(location: str, folder: Path, queries: int) -> None:
    """Queries to answer, some of them with a known answer, and a file for each clip."""
    zeros = np.zeros((25, 11), np.float32)
    segments = [Segment(zeros, zeros[:, :3], zeros[:, 0], env_steps=i) for i in range(SEGMENTS)]
    rng = random.Random(0)
    with PreferenceStore(location, task="hopper") as store:
        stored = store.add_queries([Query((a, b)) for a, b in (rng.sample(segments, 2) for _ in range(queries))])
        known = [query.id for query in stored[::-1] if query.id is not None][:GOLD]
        store.add_answers([Answer(each, ((0,), (1,)), str(OPTIONS.gold), 0.0, 0.0) for each in known])
        clips = clips_of(store, folder / "clips")
    clips.mkdir(parents=True)
    for segment_id in range(1, SEGMENTS + 1):
        (clips / f"segment-{segment_id}.mp4").write_bytes(bytes(1000))


def check(location: str, said: Said) -> dict[str, int]:
    """What does not hold in the database; all of it should be 0."""
    with PreferenceStore(location) as store, store.transaction() as connection:
        leases, viewings, answers = schema.leases, schema.viewings, schema.answers
        joined = answers.join(leases, leases.c.answer_id == answers.c.id).join(viewings)
        columns = [answers.c.id, answers.c.query_id, answers.c.ranking, answers.c.labeller, viewings.c.shown_ms]
        of_lease = [leases.c.id.label("lease_id"), leases.c.labeller_id, leases.c.kind, leases.c.swapped]
        rows = connection.execute(sa.select(*columns, *of_lease).select_from(joined)).all()
        of_labellers = sa.select(sa.func.count()).select_from(answers).where(answers.c.labeller != OPTIONS.gold)
        stored = connection.execute(of_labellers).scalar_one()
        gold = set(connection.scalars(sa.select(answers.c.query_id).where(answers.c.labeller == OPTIONS.gold)))
        capacity = Leases(store, OPTIONS).capacity
    found = {row.shown_ms: row for row in rows}
    firsts = {(row.query_id, row.labeller_id): row for row in rows if row.kind == "first"}
    labellers = Counter(query_id for query_id, _ in firsts)
    times = Counter((row.query_id, row.labeller_id, row.kind) for row in rows if row.kind != "undo")
    repeats = [row for row in rows if row.kind == "repeat"]
    return {
        "acknowledged and not there": sum(
            mark not in found or found[mark].id != each for mark, each in said.acknowledged.items()
        ),
        "there twice": len(rows) - len(found) + said.contradicted,
        "there and never sent": sum(mark not in said.sent for mark in found) + stored - len(rows),
        "there and not as sent": sum(
            mark in said.sent and said.sent[mark] != (row.labeller, _on_screen(row.ranking, row.swapped), row.lease_id)
            for mark, row in found.items()
        ),
        "queries of too many labellers": sum(count > capacity(each) for each, count in labellers.items()),
        "asked twice of one labeller": sum(count > 1 for count in times.values()),
        "repeats on the same sides": sum(
            row.swapped == firsts[row.query_id, row.labeller_id].swapped for row in repeats
        ),
        "gold queries asked as others": sum((row.kind == "gold") != (row.query_id in gold) for row in rows)
        - sum(row.kind == "undo" and row.query_id in gold for row in rows),
    }


def _on_screen(ranking: str, swapped: bool) -> str:
    stored = {"0>1": "left", "1>0": "right", "0=1": "equal"}.get(ranking, ranking)
    return {"left": "right", "right": "left"}.get(stored, stored) if swapped else stored


def kinds(location: str) -> dict[str, int]:
    """How many answers of each kind there are, and of how many queries two labellers' first ones."""
    with PreferenceStore(location) as store, store.transaction() as connection:
        leases = schema.leases.c
        answered = sa.select(leases.kind, sa.func.count()).where(leases.answer_id.is_not(None)).group_by(leases.kind)
        first = sa.select(leases.query_id).where(leases.answer_id.is_not(None), leases.kind == "first")
        shared = first.group_by(leases.query_id).having(sa.func.count() > 1)
        counts = {row[0]: row[1] for row in connection.execute(answered.order_by(leases.kind))}
        return counts | {"of two labellers": len(connection.scalars(shared).all())}


async def label_and_kill(server: Server, labellers: int, options: Options, said: Said) -> list[dict[str, float]]:
    """Let them label, and kill the server meanwhile; when, and for how long nothing was acknowledged."""
    rng, began = random.Random(options.seed), time.monotonic()
    kills = []

    async def kill() -> None:
        for i in range(options.kills):
            share = (i + rng.uniform(0.2, 0.8)) / options.kills
            await asyncio.sleep(max(0.0, began + share * options.seconds - time.monotonic()))
            at, known = time.monotonic(), len(said.acknowledged)
            await asyncio.to_thread(server.kill)
            await asyncio.to_thread(server.start)
            while len(said.acknowledged) == known:
                await asyncio.sleep(0.01)
            kills.append({"at_seconds": round(at - began, 2), "back_after_seconds": round(time.monotonic() - at, 2)})

    async with asyncio.TaskGroup() as group:
        group.create_task(kill())
        for number in range(1, labellers + 1):
            group.create_task(Labeller(number, server.address, options, said).label())
    return kills


def measure(name: StoreName, location: str, version: str, options: Options) -> dict[str, Any]:
    """One kind of database."""
    labellers = LABELLERS[name] if options.labellers is None else options.labellers
    answers = labellers * round(options.seconds * options.rate)
    said = Said()
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        prepare(location, folder, answers + GOLD + AHEAD * labellers)
        server = Server(location, folder)
        began = time.monotonic()
        try:
            kills = asyncio.run(label_and_kill(server, labellers, options, said))
        except* UserError as errors:
            raise UserError(str(errors.exceptions[0])) from errors
        finally:
            server.kill()
        seconds = time.monotonic() - began
        log = (folder / "log").read_text().splitlines()
    wrong = check(location, said)
    return {
        "store": name,
        "version": version,
        "labellers": labellers,
        "kills": kills,
        "seconds": round(seconds, 1),
        "sent": len(said.sent),
        "acknowledged": len(said.acknowledged),
        "refused_as_gone": said.gone,
        "requests_without_answer": said.sent_again,
        "answers": kinds(location),
        "wrong": wrong,
        "log_lines": len(log),
        "tracebacks": sum(line.startswith("Traceback") for line in log),
        "milliseconds": {path: _spread(each) for path, each in sorted(said.seconds.items())},
        "holds": not any(wrong.values()) and not any(line.startswith("Traceback") for line in log),
    }


def _spread(seconds: Sequence[float]) -> dict[str, float]:
    percent = statistics.quantiles(seconds, n=100, method="inclusive") if len(seconds) > 1 else [seconds[0]] * 99
    figures = {"median": percent[49], "95 %": percent[94], "99 %": percent[98], "longest": max(seconds)}
    return {"requests": len(seconds)} | {name: round(1000 * each, 1) for name, each in figures.items()}


def as_markdown(result: dict[str, Any]) -> str:
    """The tables, and where their numbers come from."""
    stores = result["stores"]
    of_all = [
        ["labellers at once", *(str(each["labellers"]) for each in stores)],
        ["answers acknowledged", *(f"{each['acknowledged']:,}" for each in stores)],
        ["requests that got no answer, sent again", *(f"{each['requests_without_answer']:,}" for each in stores)],
        ["refused, as somebody else had the query by then", *(f"{each['refused_as_gone']:,}" for each in stores)],
        *([f"answers: {kind}", *(f"{each['answers'].get(kind, 0):,}" for each in stores)] for kind in _KINDS),
        *([f"**{name}**", *(f"{each['wrong'][name]:,}" for each in stores)] for name in stores[0]["wrong"]),
        ["lines in the server's log, tracebacks", *(f"{each['log_lines']}, {each['tracebacks']}" for each in stores)],
    ]
    latencies = [
        [f"{each['version']}, {path}", *(f"{value:,g}" for value in each["milliseconds"][path].values())]
        for each in stores
        for path in ("/api/answer", "/api/next", "/api/undo", "/clips")
        if path in each["milliseconds"]
    ]
    kills = "; ".join(
        f"{each['version']}: "
        + ", ".join(
            f"after {kill['at_seconds']:g} s, back in {kill['back_after_seconds']:g} s" for kill in each["kills"]
        )
        for each in stores
    )
    machine, versions = result["machine"], ", ".join(f"{name} {value}" for name, value in result["versions"].items())
    return f"""# Many labellers at once, the server killed meanwhile

Each labeller gives {result["rate"]:g} answers a second for {result["seconds"]} s, over HTTP, as the page does.
After {RELOADS:.0%} of their answers they reload, {SENT_TWICE:.0%} they send a second time, {UNDONE:.0%} they take back.
{OPTIONS.overlap:.0%} of the queries are for two labellers; of each one's own {OPTIONS.repeat:.0%} come back swapped and
{OPTIONS.gold_share:.0%} are gold ones. The server is killed with SIGKILL and started again:
{kills}.

{markdown_table(["", *(each["version"] for each in stores)], *of_all)}

What is in bold is looked up in the database afterwards, and has to be 0.

{markdown_table(["milliseconds", "requests", "median", "95 %", "99 %", "longest"], *latencies)}

Labellers and server share the cores; what got no answer while the server was gone is not in these times.

Machine: {machine["system"]} {machine["machine"]}, {machine["cores"]} cores. Versions: {versions}. \
Revision: {result["git_revision"]}. Begun {result["started_at"][:10]}.
Command: {result["command"]}
"""


_KINDS = ("first", "of two labellers", "repeat", "gold", "undo")


def main() -> int:
    """Measure, write the results; 1 if anything was lost."""
    options = tyro.cli(Options, prog="experiments/labellers_at_once.py", description=__doc__)
    about, measured = describe_here(), []
    for name in options.stores:
        with database(name, options.url) as (location, version):
            measured.append(measure(name, location, version, options))
        found = measured[-1]
        print(f"{version}: {found['acknowledged']} answers of {found['labellers']} labellers; wrong: {found['wrong']}")
    packages = ["prefrl", "fastapi", "starlette", "uvicorn", "sqlalchemy", "httpx"]
    result = {
        "command": f"experiments/labellers_at_once.py --stores {' '.join(options.stores)} --seconds {options.seconds} "
        f"--kills {options.kills}" + ("" if options.labellers is None else f" --labellers {options.labellers}"),
        **{key: about[key] for key in ("started_at", "git_revision", "machine")},
        "versions": {"python": platform.python_version()}
        | {name: importlib.metadata.version(name) for name in packages},
        "seconds": options.seconds,
        "rate": options.rate,
        "seed": options.seed,
        "stores": measured,
    }
    options.results.mkdir(parents=True, exist_ok=True)
    (options.results / "results.json").write_text(json.dumps(result, indent=2) + "\n")
    (options.results / "labellers_at_once.md").write_text(as_markdown(result))
    return 0 if all(each["holds"] and len(each["kills"]) == options.kills for each in measured) else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except UserError as error:
        sys.exit(f"labellers_at_once: {error}")
