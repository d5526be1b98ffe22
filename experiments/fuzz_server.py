"""The labelling page's server under nonsense, slow clients and a flood of strangers: refused, and still serving.

    python3 -m venv runs/schemathesis && runs/schemathesis/bin/pip install schemathesis==4.32.5
    .venv/bin/python experiments/fuzz_server.py

schemathesis, in an environment of its own, makes requests from the server's OpenAPI description, valid ones and
damaged ones, to a real `prefrl label`: as a labeller, and as a stranger without cookie and Origin. Then 200 connections
send one byte a second, half of them of a header and half of a body, and then strangers ask as fast as they can, while
the time is taken that others wait for their answers. Writes results.json and fuzz_server.md to
experiments/results/fuzz_server; exit code 0 only if all of it held.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.metadata
import json
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import tyro
from common import REPOSITORY, RESULTS, markdown_table
from labellers_at_once import Server, prepare

from prefrl.config import Count
from prefrl.errors import UserError
from prefrl.labelling.access import Access
from prefrl.labelling.clip_maker import Shelf
from prefrl.labelling.leases import Leases
from prefrl.labelling.server import CONSENT_VERSION, Site, make_api
from prefrl.labelling.subject import subject_of
from prefrl.preferences import PreferenceStore
from prefrl.run_directory import describe_here

REQUESTS_A_SECOND = 50  # of schemathesis; above 60 the server itself refuses them
PROBES_A_SECOND = 10
# A valid request may be refused: for a lease that is not there, or somebody else's. A POST that is not JSON is refused
# before it is known whether its path takes any.
EXCLUDED_CHECKS = ("positive_data_acceptance", "unsupported_method")


@dataclass(frozen=True)
class Options:
    """How much of each."""

    schemathesis: Path = REPOSITORY / "runs" / "schemathesis" / "bin" / "schemathesis"
    """its command, version 4"""
    examples: Count = 60
    """of each operation and kind of request"""
    slow_clients: Count = 200
    """connections that send a byte a second"""
    seconds: Count = 30
    """with slow clients, and with strangers"""
    seed: Count = 0
    """of the requests"""
    results: Path = RESULTS / "fuzz_server"
    """folder of the results"""


def openapi(location: str, folder: Path) -> dict[str, Any]:
    """The description of the server's interface, which it does not serve itself."""
    with PreferenceStore(location) as store:
        access = Access(folder / "token")
        return make_api(Site(subject_of(store), Leases(store), Shelf(store, folder), access, "127.0.0.1")).openapi()


def fuzz(options: Options, folder: Path, origin: str, cookie: str | None) -> dict[str, Any]:
    """Run schemathesis, as a labeller or, without a cookie, as a stranger."""
    report = folder / f"{'stranger' if cookie is None else 'labeller'}.json"
    headers = [] if cookie is None else ["--header", f"Cookie: {cookie}", "--header", f"Origin: {origin}"]
    command = [
        *(str(options.schemathesis), "run", str(folder / "openapi.json"), "--url", origin, *headers),
        *("--checks", "all", "--exclude-checks", ",".join(EXCLUDED_CHECKS), "--continue-on-failure"),
        *("--max-examples", str(options.examples), "--seed", str(options.seed), "--warnings", "off", "--no-color"),
        *("--rate-limit", f"{REQUESTS_A_SECOND}/s", "--report", "json", "--report-json-path", str(report)),
    ]
    began = time.monotonic()
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if not report.exists():
        raise UserError(f"schemathesis ended with {done.returncode}: {(done.stdout + done.stderr)[-400:]}")
    return {
        "report": json.loads(report.read_text()),
        "seconds": round(time.monotonic() - began, 1),
        "exit_code": done.returncode,
        "output": done.stdout,
    }


class Probe:
    """A labeller who goes on asking, and how long each answer takes."""

    def __init__(self, address: str) -> None:
        self._address, self.origin = address, address.partition("/?")[0]
        self._browser = httpx.AsyncClient(base_url=self.origin, headers={"Origin": self.origin}, timeout=30)
        self.cookie = ""

    async def join(self, name: str) -> None:
        """Open the page and say who it is."""
        await self._browser.get(self._address)
        joined = await self._browser.post("/api/join", json={"name": name, "consent": CONSENT_VERSION})
        joined.raise_for_status()
        self.cookie = "; ".join(f"{key}={value}" for key, value in self._browser.cookies.items())

    async def ask(self, seconds: float) -> dict[str, float]:
        """For so long; milliseconds for each answer."""
        taken, end = [], time.monotonic() + seconds
        while (began := time.monotonic()) < end:
            pairs = (await self._browser.post("/api/next", json={"count": 1})).raise_for_status().json()["pairs"]
            (await self._browser.get(pairs[0]["clips"][0])).raise_for_status()
            taken.append((time.monotonic() - began) / 2)
            await asyncio.sleep(max(0.0, began + 2 / PROBES_A_SECOND - time.monotonic()))
        figures = {
            "median": statistics.median(taken),
            "95 %": statistics.quantiles(taken, n=20)[18],
            "longest": max(taken),
        }
        return {name: round(1000 * each, 1) for name, each in figures.items()}


async def drip(port: int, head: bytes, rest: bytes, end: float, ended: Counter[str], held: list[float]) -> None:
    """Send `head`, then a byte of `rest` a second until the server has enough; and again, until it is time."""
    while time.monotonic() < end:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        began = time.monotonic()
        writer.write(head)
        answer = asyncio.ensure_future(reader.read(1000))
        for byte in rest:
            with contextlib.suppress(ConnectionError):  # closed by the server, as the answer says
                writer.write(bytes([byte]))
                await writer.drain()
            if (await asyncio.wait([answer], timeout=1))[0] or time.monotonic() > end:
                break
        if answer.done():
            held.append(time.monotonic() - began)
            line = b"" if answer.exception() else answer.result().partition(b"\r\n")[0]
            ended[line.decode() or "closed"] += 1
        answer.cancel()
        writer.close()


async def slow_clients(probe: Probe, port: int, options: Options) -> dict[str, Any]:
    """Others' waiting while so many connections send a byte a second; connections that end are opened again."""
    ended: dict[str, Counter[str]] = {"header": Counter(), "body": Counter()}
    held: list[float] = []
    page = f"GET /page.js HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nX-Slow: ".encode()
    post = (
        f"POST /api/undo HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nOrigin: {probe.origin}\r\nCookie: {probe.cookie}\r\n"
        "Content-Type: application/json\r\nContent-Length: 5000\r\n\r\n"
    ).encode()
    end = time.monotonic() + options.seconds
    async with asyncio.TaskGroup() as group:
        for i in range(options.slow_clients):
            kind, head = ("header", page) if i % 2 else ("body", post)
            group.create_task(drip(port, head, b" " * 5000, end, ended[kind], held))
        waited = await probe.ask(options.seconds - 1)
    return {
        "connections_at_once": options.slow_clients,
        "ended": {kind: dict(counter.most_common()) for kind, counter in ended.items()},
        "longest_held_seconds": round(max(held), 1),
        "others_wait_ms": waited,
    }


async def strangers(probe: Probe, options: Options) -> dict[str, Any]:
    """Others' waiting while four connections guess tokens as fast as they can."""
    answers: Counter[int] = Counter()
    end = time.monotonic() + options.seconds

    async def guess() -> None:
        async with httpx.AsyncClient(base_url=probe.origin, timeout=30) as browser:
            while time.monotonic() < end:
                answers[(await browser.get("/", params={"token": "x" * 43})).status_code] += 1

    async with asyncio.TaskGroup() as group:
        for _ in range(4):
            group.create_task(guess())
        waited = await probe.ask(options.seconds - 1)
    return {"answers": {str(status): count for status, count in sorted(answers.items())}, "others_wait_ms": waited}


async def besiege(server: Server, options: Options) -> dict[str, Any]:
    """What others wait without anything, with slow clients, and with strangers."""
    probe = Probe(server.address)
    await probe.join("Ann")
    alone = await probe.ask(min(10, options.seconds))
    slow = await slow_clients(probe, server.port, options)
    flood = await strangers(probe, options)
    return {"others_wait_ms_alone": alone, "slow_clients": slow, "strangers": flood}


def as_markdown(result: dict[str, Any]) -> str:
    """The tables, and where their numbers come from."""
    fuzzed, siege = result["fuzzed"], result["siege"]
    cases = [
        [who, *(f"{each[key]:,}" for key in ("operations", "requests", "failures", "log_lines", "tracebacks"))]
        for who, each in fuzzed.items()
    ]
    slow, flood = siege["slow_clients"], siege["strangers"]
    waits = [
        [name, *(f"{value:,g}" for value in each.values())]
        for name, each in (
            ("nobody else", siege["others_wait_ms_alone"]),
            (f"{slow['connections_at_once']} connections that send a byte a second", slow["others_wait_ms"]),
            ("strangers that guess tokens", flood["others_wait_ms"]),
        )
    ]
    ended = "; ".join(
        f"of a {kind}: " + ", ".join(f"{count} x {line}" for line, count in each.items())
        for kind, each in slow["ended"].items()
    )
    guesses = ", ".join(f"{count:,} with {status}" for status, count in flood["answers"].items())
    machine, versions = result["machine"], ", ".join(f"{name} {value}" for name, value in result["versions"].items())
    return f"""# The labelling page's server under nonsense, slow clients and a flood

Requests that schemathesis makes from the OpenAPI description, valid and damaged ones, with all its checks but
{EXCLUDED_CHECKS[0]} (a valid request may be for a lease that is not there) and {EXCLUDED_CHECKS[1]} (a POST that
is not JSON is refused whatever its path):

{markdown_table(["who asks", "operations", "requests", "failed checks", "lines in the log", "tracebacks"], *cases)}

What a labeller waits for an answer meanwhile, in milliseconds, {PROBES_A_SECOND} requests a second:

{markdown_table(["beside them", "median", "95 %", "longest"], *waits)}

Slow connections were ended by the server after {slow["longest_held_seconds"]:g} s at most
({ended})
and opened again at once. Of the strangers' guesses it answered {guesses}.

Machine: {machine["system"]} {machine["machine"]}, {machine["cores"]} cores, shared by server and clients. \
Versions: {versions}.
Revision: {result["git_revision"]}. Begun {result["started_at"][:10]}. Command: {result["command"]}
"""


def main() -> int:
    """Ask, write the results; 1 if a check failed, or the server did."""
    options = tyro.cli(Options, prog="experiments/fuzz_server.py", description=__doc__)
    if not options.schemathesis.is_file():
        raise UserError(f"{options.schemathesis} does not exist; the docstring says how to install it")
    about = describe_here()
    fuzzed: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        location = str(folder / "preferences.db")
        prepare(location, folder, 2000)
        (folder / "openapi.json").write_text(json.dumps(openapi(location, folder)))
        server = Server(location, folder)
        try:
            probe = Probe(server.address)
            asyncio.run(probe.join("Ann"))
            for who, cookie in (("a labeller", probe.cookie), ("a stranger", None)):
                before = len((folder / "log").read_text().splitlines())
                found = fuzz(options, folder, probe.origin, cookie)
                report, log = found["report"], (folder / "log").read_text().splitlines()[before:]
                fuzzed[who] = {
                    "operations": report["operations"]["tested"],
                    "requests": report["test_cases"]["generated"],
                    "failures": report["test_cases"]["unique_failures"],
                    "errors": report["errors"],
                    "failed": report["failures"],
                    "seconds": found["seconds"],
                    "log_lines": len(log),
                    "log_lines_of_refusals": sum(line.startswith("refused ") for line in log),
                    "tracebacks": sum(line.startswith("Traceback") for line in log),
                }
                print(who, json.dumps(fuzzed[who]))
                if report["failures"] or report["errors"]:
                    print(found["output"][-4000:])
            siege = asyncio.run(besiege(server, options))
            print(json.dumps(siege))
        finally:
            server.kill()
        tracebacks = (folder / "log").read_text().count("Traceback")
    version = subprocess.run([str(options.schemathesis), "--version"], capture_output=True, text=True).stdout.split()[
        -1
    ]
    packages = ["prefrl", "fastapi", "starlette", "uvicorn", "pydantic"]
    result = {
        "command": f"experiments/fuzz_server.py --examples {options.examples} --slow-clients {options.slow_clients} "
        f"--seconds {options.seconds} --seed {options.seed}",
        **{key: about[key] for key in ("started_at", "git_revision", "machine")},
        "versions": {"python": platform.python_version(), "schemathesis": version}
        | {name: importlib.metadata.version(name) for name in packages},
        "fuzzed": fuzzed,
        "siege": siege,
        "tracebacks": tracebacks,
    }
    options.results.mkdir(parents=True, exist_ok=True)
    (options.results / "results.json").write_text(json.dumps(result, indent=2) + "\n")
    (options.results / "fuzz_server.md").write_text(as_markdown(result))
    return 1 if tracebacks or any(each["failures"] or each["errors"] for each in fuzzed.values()) else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except UserError as error:
        sys.exit(f"fuzz_server: {error}")
