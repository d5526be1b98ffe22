"""`prefrl label` as people start it: found again after kill -9, nothing left running, slow clients let go."""

from __future__ import annotations

import os
import queue
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest
import uvicorn
from labelling_sites import fill, said
from test_clips import needs_gl

from prefrl.errors import UserError
from prefrl.labelling import guard, prompt
from prefrl.labelling.clip_maker import clips_of
from prefrl.labelling.options import PORTS, LabellingOptions, Serving
from prefrl.labelling.serve import _listen, serve
from prefrl.labelling.server import CONSENT_VERSION
from prefrl.preferences import PreferenceStore


@dataclass
class Server:
    """`prefrl label --store FILE`, as often as it is started."""

    folder: Path
    processes: list[subprocess.Popen[str]] = field(default_factory=list)

    def start(self, port: int = 0, *options: str) -> str:
        """Its address, once it says so."""
        store = ["--store", str(self.folder / "preferences.db")]
        with (self.folder / "log").open("a") as log:
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", "prefrl", "label", *store, "--port", str(port), *options],
                env={**os.environ, "XDG_STATE_HOME": str(self.folder / "state")},
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        self.processes.append(process)
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("label at http://127.0.0.1:"), line + self.log()
        return line.split()[-1]

    def kill(self, how: signal.Signals = signal.SIGKILL) -> int:
        """End the newest one."""
        self.processes[-1].send_signal(how)
        return self.processes[-1].wait(30)

    def log(self) -> str:
        """What it complained about."""
        return (self.folder / "log").read_text()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """Over a store of three queries whose clips are there, so that nothing has to be rendered."""
    with PreferenceStore(tmp_path / "preferences.db", task="hopper") as store:
        fill(store, 3)
        clips = clips_of(store, tmp_path / "clips")
    clips.mkdir(parents=True)
    for segment_id in range(1, 7):
        (clips / f"segment-{segment_id}.mp4").write_bytes(b"clip")
    started = Server(tmp_path)
    yield started
    for process in started.processes:
        process.kill()
        process.wait()


def children_of(pid: int) -> list[int]:
    """Of all its threads, some of which start others."""
    return [
        int(child) for task in Path(f"/proc/{pid}/task").iterdir() for child in (task / "children").read_text().split()
    ]


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def eventually(holds: Callable[[], bool], seconds: float = 20) -> bool:
    end = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


@needs_gl
def test_the_page_is_found_again_after_kill_9_and_leaves_nothing_behind(server: Server) -> None:
    address = server.start()
    found = re.fullmatch(r"(http://127\.0\.0\.1:\d+)/\?token=([\w-]{43})", address)
    assert found is not None
    origin, token = found.groups()
    with httpx.Client(base_url=origin, headers={"Origin": origin}) as browser:
        assert browser.get("/").status_code == 403
        assert browser.get(address).status_code == 200
        browser.post("/api/join", json={"name": "Ann", "consent": CONSENT_VERSION})
        (pair,) = browser.post("/api/next", json={"count": 1}).json()["pairs"]
        assert browser.get(pair["clips"][0]).content == b"clip"
        first = browser.post("/api/answer", json=said(pair["lease"])).json()
        (clip_maker,) = children_of(server.processes[-1].pid)
        command = Path(f"/proc/{server.processes[-1].pid}/cmdline").read_text()
        assert token not in command + Path(f"/proc/{clip_maker}/cmdline").read_text()

        server.kill()
        assert eventually(lambda: not is_running(clip_maker)), "no orphan"
        with pytest.raises(httpx.TransportError):
            browser.get("/api/status")
        assert server.start(httpx.URL(origin).port or 0) == address, "the same port and token"
        assert browser.post("/api/answer", json=said(pair["lease"])).json() == first
        status = browser.get("/api/status").json()
        assert (status["name"], status["own_answers"], status["answered"]) == ("Ann", 1, 1)

        (clip_maker,) = children_of(server.processes[-1].pid)
        os.kill(clip_maker, signal.SIGKILL)
        pid = server.processes[-1].pid
        assert eventually(lambda: bool(children_of(pid)) and children_of(pid) != [clip_maker]), "started again"
        (clip_maker,) = children_of(pid)
    server.kill(signal.SIGINT)
    assert eventually(lambda: not is_running(clip_maker))
    assert token not in server.log()
    assert "Traceback" not in server.log()
    assert "Ann" not in server.log()


@pytest.fixture
def address(server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Of a page that is served from a thread of this process."""
    servers: list[uvicorn.Server] = []
    addresses: queue.Queue[str] = queue.Queue()

    class Stoppable(uvicorn.Server):
        def __init__(self, config: uvicorn.Config) -> None:
            super().__init__(config)
            servers.append(self)

    monkeypatch.setattr(uvicorn, "Server", Stoppable)
    folder = server.folder
    what = Serving(str(folder / "preferences.db"), folder / "clips", None, folder / "token")
    thread = threading.Thread(target=serve, args=(what, LabellingOptions(port=0), addresses.put))
    thread.start()
    yield addresses.get(timeout=60)
    servers[0].should_exit = True
    thread.join(30)
    assert not thread.is_alive()


@needs_gl
def test_slow_clients_are_let_go_while_others_are_served(
    address: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(prompt, "REQUEST_SECONDS", 1.0)
    monkeypatch.setattr(guard, "BODY_SECONDS", 1.0)
    url = httpx.URL(address)
    browser = httpx.Client(base_url=address, headers={"Origin": f"http://{url.netloc.decode()}"})
    assert browser.get(address).status_code == 200
    cookie = "; ".join(f"{name}={value}" for name, value in browser.cookies.items())
    head = f"Host: {url.netloc.decode()}\r\nCookie: {cookie}\r\nOrigin: http://{url.netloc.decode()}\r\n"
    page, post = f"GET /page.js HTTP/1.1\r\n{head}", f"POST /api/undo HTTP/1.1\r\n{head}Content-Length: 500\r\n"
    begun = {
        "nothing at all": b"",
        "half a header": page.encode(),
        "half a body": f"{post}Content-Type: application/json\r\n\r\n{{".encode(),
        "half a second request": f"{page}\r\n{page}".encode(),
        "a body that nobody reads": f"{page}Content-Length: 500\r\n\r\n{{".encode(),
    }
    expected = {"half a body": ["408"], "half a second request": ["200"], "a body that nobody reads": ["200"]}
    began = time.monotonic()
    stuck = [(name, socket.create_connection((url.host, url.port or 0), timeout=10)) for name in [*begun] * 6]
    for name, connection in stuck:
        connection.sendall(begun[name])
    served = 0
    while time.monotonic() - began < 1:
        assert browser.get("/api/status").status_code == 200
        served += 1
        time.sleep(0.05)
    assert served >= 2, "before any of them was let go"
    for name, connection in stuck:
        received = b"".join(iter(lambda: connection.recv(65536), b""))  # noqa: B023
        connection.close()
        assert re.findall(r"HTTP/1\.1 (\d+)", received.decode()) == expected.get(name, []), name
    assert time.monotonic() - began < 20
    late = [line for line in caplog.messages if "took longer than 1 s to come in" in line]
    assert len(late) == 6 * 3, "one line each for what was begun and not read"
    assert browser.get("/api/status").status_code == 200


def test_what_is_sent_to_a_browser_leaves_at_once() -> None:
    """asyncio switches off Nagle's algorithm, 40 ms for each answer, where a socket says that it is one of TCP."""
    with _listen("127.0.0.1", 0) as listening, socket.create_connection(listening.getsockname()):
        accepted, _ = listening.accept()
        with accepted:
            assert accepted.proto == socket.IPPROTO_TCP


def test_a_port_that_is_taken_leads_to_the_next() -> None:
    with _listen("127.0.0.1", 0) as first:
        port = first.getsockname()[1]
        with _listen("127.0.0.1", port) as second:
            assert port < second.getsockname()[1] < port + PORTS
    with pytest.raises(UserError, match="give another --port or --host"):
        _listen("192.0.2.1", 8765)
