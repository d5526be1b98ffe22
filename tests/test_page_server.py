"""The page server as the trainer has it: found again at the same address, started again when it ends."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from prefrl.errors import UserError
from prefrl.labelling import page_server
from prefrl.labelling.options import PORT, PeopleOptions
from prefrl.labelling.page_server import PageServer


class FakeChild:
    """In place of the process; some ports are taken."""

    taken: tuple[int, ...] = ()
    fails = False

    def __init__(self, role: str, arguments: dict[str, Any], log: Path) -> None:
        if self.fails:
            raise UserError("no port is free")
        port = arguments["options"]["port"]
        while port in self.taken:
            port += 1
        self.said = {"address": f"http://127.0.0.1:{port}/?token=x"}
        self.has_ended = False

    def ended(self) -> bool:
        return self.has_ended

    def close(self) -> None:
        pass


@pytest.fixture(autouse=True)
def fake_child(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page_server, "Child", FakeChild)
    monkeypatch.setattr(page_server, "RESTART_SECONDS", 0.0)


def started(run: Path, people: PeopleOptions | None = None) -> tuple[PageServer, list[str]]:
    told: list[str] = []
    return PageServer(run, str(run / "preferences.db"), people or PeopleOptions(), told.append), told


def test_a_run_that_is_resumed_is_found_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeChild, "taken", (PORT,))
    _, before = started(tmp_path)
    assert before == [f"http://127.0.0.1:{PORT + 1}/?token=x"]
    monkeypatch.setattr(FakeChild, "taken", ())
    _, later = started(tmp_path)
    assert later == before
    _, chosen = started(tmp_path, PeopleOptions(port=9000))
    assert chosen == ["http://127.0.0.1:9000/?token=x"], "who asks for a port gets it"


@pytest.mark.parametrize("written", ["", "0\n", "99999\n", "80 \n", "port\n", "-1\n"])
def test_a_file_that_holds_no_port_is_left_out_of_account(tmp_path: Path, written: str) -> None:
    (tmp_path / "labelling-port").write_text(written)
    _, told = started(tmp_path)
    assert told == [f"http://127.0.0.1:{PORT}/?token=x"]


def test_a_server_that_ends_is_started_again_and_tells_when_it_has_moved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    server, told = started(tmp_path)
    for _ in range(2):
        server._child.has_ended = True  # type: ignore[attr-defined]
        server.look_after()
    assert len(told) == 1
    assert caplog.text.count("it is started again") == 2
    monkeypatch.setattr(FakeChild, "taken", (PORT,))
    server._child.has_ended = True  # type: ignore[attr-defined]
    server.look_after()
    assert told[1:] == [f"http://127.0.0.1:{PORT + 1}/?token=x"]
    monkeypatch.setattr(FakeChild, "fails", True)
    server._child.has_ended = True  # type: ignore[attr-defined]
    server.look_after()
    assert "the labelling page is not served: no port is free" in caplog.text
