"""Who may talk to the page server: the token's file, the cookies, the rate, the names of this machine."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from prefrl.errors import UserError
from prefrl.labelling.access import Access, RateLimit, own_names, token_file


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "token"


def test_the_token_is_kept_in_a_file_that_only_its_owner_reads(path: Path) -> None:
    before = os.umask(0)
    try:
        token = Access(path).token
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.read_text() == token
    assert len(token) == 43, "256 bits"
    assert Access(path).token == token, "after a restart"
    assert os.listdir(path.parent) == ["token"], "nothing unfinished is left"
    assert Access(path.with_name("other")).token != token


def test_two_processes_that_start_at_once_have_the_same_token(path: Path) -> None:
    code = "import sys; from pathlib import Path; from prefrl.labelling.access import Access; sys.stdin.readline()\n"
    code += "print(Access(Path(sys.argv[1])).token)"
    command = [sys.executable, "-P", "-c", code, str(path)]
    started = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    for process in started:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    tokens = {process.communicate()[0].strip() for process in started}
    assert tokens == {path.read_text()}


def test_of_two_that_find_no_file_one_makes_it(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = Access(path).token
    monkeypatch.setattr("os.path.lexists", lambda _: False)  # as it was a moment ago
    assert Access(path).token == first
    assert os.listdir(path.parent) == ["token"]


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o660, 0o644])
def test_a_token_that_others_may_read_or_write_is_refused(path: Path, mode: int) -> None:
    Access(path)
    path.chmod(mode)
    with pytest.raises(UserError, match="remove it, and a new one is made"):
        Access(path)


@pytest.mark.parametrize("text", ["", "short", "x" * 44, "é" * 43, "x" * 42 + "\n" + "y", "\0" * 43])
def test_a_file_with_something_else_in_it_is_refused(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o600)
    with pytest.raises(UserError, match="no token that only you can read") as caught:
        Access(path)
    assert "xxx" not in str(caught.value)


def test_a_link_or_a_pipe_in_the_place_of_the_token_is_refused(path: Path) -> None:
    Access(path.with_name("real"))
    path.symlink_to("real")
    with pytest.raises(UserError, match="no token"):
        Access(path)
    path.unlink()
    os.mkfifo(path, 0o600)
    with pytest.raises(UserError, match="no token"):
        Access(path)


def test_a_token_of_another_user_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Access(path)
    other = os.geteuid() + 1
    monkeypatch.setattr("os.geteuid", lambda: other)
    with pytest.raises(UserError, match="no token"):
        Access(path)


def test_only_the_token_is_admitted_and_only_its_cookie_has_access(path: Path) -> None:
    access, other = Access(path), Access(path.with_name("other"))
    assert access.admits(access.token)
    assert access.has_access(access.access())
    assert access.token not in access.access() + access.labeller(1) + access.access_cookie + access.page
    for wrong in (None, "", other.token, access.token[:-1], access.token + "x", access.access(), "é\xff"):
        assert not access.admits(wrong)
    for wrong in (None, "", access.token, other.access(), access.access().upper(), access.labeller(1), "é\xff"):
        assert not access.has_access(wrong)
    assert access.access_cookie != other.access_cookie, "browsers send the cookies of all ports"


def test_a_labeller_is_believed_only_with_our_signature(path: Path) -> None:
    access, other = Access(path), Access(path.with_name("other"))
    cookie = access.labeller(12)
    assert access.labeller_id(cookie) == 12
    signature = cookie.partition(".")[2]
    forged = [
        *(None, "", "12", "12.", f"13.{signature}", f"012.{signature}", f"12.{signature}0", f" {cookie}", f"{cookie}."),
        *(f"-12.{signature}", f"١٢.{signature}", f"{'9' * 400}.{signature}", other.labeller(12), access.access()),
    ]
    assert [access.labeller_id(each) for each in forged] == [None] * len(forged)


def test_a_labeller_of_one_database_is_nobody_in_the_next_in_its_place(path: Path) -> None:
    before, after = Access(path, "2026-11-01T00:00:00+00:00"), Access(path, "2026-11-02T00:00:00+00:00")
    assert after.labeller_id(before.labeller(1)) is None
    assert after.has_access(before.access()), "the address is the same"
    assert before.page != after.page


def test_a_client_may_ask_at_a_steady_rate_after_a_burst() -> None:
    limit = RateLimit(per_second=2, burst=5)
    assert [limit.allows("ann", 100.0) for _ in range(7)] == [True] * 5 + [False] * 2
    assert limit.allows("bob", 100.0), "each has their own"
    assert [limit.allows("ann", 101.0) for _ in range(3)] == [True, True, False]
    assert sum(limit.allows("ann", 102 + i / 100) for i in range(1000)) == pytest.approx(21, abs=1)
    assert [limit.allows("ann", 1000.0) for _ in range(7)] == [True] * 5 + [False] * 2, "no more than a burst"


def test_only_the_latest_clients_are_remembered() -> None:
    limit = RateLimit(per_second=0.001, burst=1, remembered=10)
    for i in range(1000):
        assert limit.allows(f"client {i}", 0.0)
    assert len(limit._buckets) == 10
    assert not limit.allows("client 999", 0.0)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "192.168.1.5", "::1", "::", "0.0.0.0", "Lab.Example"])
def test_the_server_is_known_by_its_own_names_only(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "LabPC")
    monkeypatch.setattr(socket, "getfqdn", lambda: "labpc.example.org")
    found = [(2, 1, 6, "", ("10.0.0.7", 0)), (10, 1, 6, "", ("fe80::7", 0, 0, 0))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_: found)
    loopback = {"127.0.0.1", "localhost", "[::1]"}
    expected = {
        "192.168.1.5": {"192.168.1.5"},
        "Lab.Example": {"lab.example"},
        "::": {"[::]", "labpc", "labpc.example.org", "10.0.0.7", "[fe80::7]"},
        "0.0.0.0": {"0.0.0.0", "labpc", "labpc.example.org", "10.0.0.7", "[fe80::7]"},
    }
    assert own_names(host) == loopback | expected.get(host, set())


def test_a_machine_that_does_not_know_its_own_name_has_its_others(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object) -> None:
        raise socket.gaierror("unknown")

    monkeypatch.setattr(socket, "gethostname", lambda: "labpc")
    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    assert "labpc" in own_names("0.0.0.0")


def test_the_token_is_kept_apart_from_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    one, other = token_file(tmp_path / "run" / "clips"), token_file(tmp_path / "other" / "clips")
    assert one.parent == other.parent == tmp_path / "state" / "prefrl"
    assert one != other
    assert one == token_file(tmp_path / "run" / ".." / "run" / "clips")
