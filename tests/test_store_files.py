"""What can befall the SQLite file of a store: other people's files, torn ones, no permission, no space."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest
from stores import SqliteFile, assert_same_queries, make_answer, make_query, mounted

from prefrl.errors import UserError
from prefrl.preferences import Answer, PreferenceStore, opening
from prefrl.preferences.connection import Database


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "preferences.db"


def assert_whole(path: Path) -> None:
    file = SqliteFile(path)
    assert file.read("PRAGMA integrity_check") == [("ok",)]
    assert file.read("PRAGMA foreign_key_check") == []


def assert_one_line(error: UserError, path: Path) -> None:
    assert "\n" not in str(error)
    assert os.fspath(path) in str(error)


def test_a_commit_waits_for_the_disk_and_there_is_no_wal(path: Path) -> None:
    with PreferenceStore(path) as store, store._database.transaction() as connection:
        pragmas = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar_one()
            for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        }
    assert pragmas == {"journal_mode": "delete", "synchronous": 3, "foreign_keys": 1, "busy_timeout": 30_000}


def test_a_url_opens_the_same_file_as_its_path(path: Path) -> None:
    with PreferenceStore(path) as store:
        (query,) = store.add_queries([make_query()])
    with PreferenceStore(f"sqlite:///{path}") as by_url:
        assert by_url.location == os.fspath(path)
        assert_same_queries(by_url.queries(), [query])


def test_of_two_tasks_that_open_a_new_store_at_once_one_gets_it(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    PreferenceStore(path).close()
    read_of = opening._read_of

    def read_and_be_overtaken(database: Database, task: str | None) -> dict[str, str]:
        monkeypatch.setattr(opening, "_read_of", read_of)
        meta = read_of(database, task)
        PreferenceStore(path, task="walker").close()
        return meta

    monkeypatch.setattr(opening, "_read_of", read_and_be_overtaken)
    with pytest.raises(UserError, match="holds segments of task walker, not of hopper"):
        PreferenceStore(path, task="hopper")
    with PreferenceStore(path) as store:
        assert store.task == "walker"


def test_a_file_whose_schema_is_no_text_is_refused(path: Path) -> None:
    PreferenceStore(path, task="hopper").close()
    path.write_bytes(path.read_bytes().replace(b"segmentssegments", b"segment\x80segment\x80"))
    with pytest.raises(UserError, match="the file is damaged; restore it from a copy") as refusal:
        PreferenceStore(path, task="hopper")
    assert_one_line(refusal.value, path)


@pytest.mark.parametrize("content", [b"not a database", b"x" * 100_000, b"\x89PNG\r\n\x1a\n" + bytes(5000)])
def test_a_file_that_is_no_database_is_refused_and_untouched(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(UserError, match="not a database") as refusal:
        PreferenceStore(path, task="hopper")
    assert_one_line(refusal.value, path)
    assert path.read_bytes() == content
    assert os.listdir(path.parent) == [path.name]


@pytest.mark.parametrize("lost", [1, 4096, 100_000])
def test_a_truncated_store_is_refused_in_one_line_and_untouched(path: Path, lost: int) -> None:
    with PreferenceStore(path) as store:
        store.add_queries([make_query(seed) for seed in range(100)])
    torn = path.read_bytes()[:-lost]
    path.write_bytes(torn)
    with pytest.raises(UserError, match="the file is damaged; restore it from a copy") as refusal:
        PreferenceStore(path)
    assert_one_line(refusal.value, path)
    assert path.read_bytes() == torn


@pytest.mark.parametrize("kept", [100, 5000])
def test_the_first_bytes_of_a_store_are_refused_in_one_line(path: Path, kept: int) -> None:
    with PreferenceStore(path) as store:
        store.add_queries([make_query()])
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(UserError, match="the file is damaged") as refusal:
        PreferenceStore(path)
    assert_one_line(refusal.value, path)


def test_a_missing_folder_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="unable to open database file; give a path") as refusal:
        PreferenceStore(tmp_path / "missing" / "preferences.db")
    assert_one_line(refusal.value, tmp_path)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("change", "value", "complaint"),
    [("observations_shape", b"4,3", "not like 60,11"), ("observations", "x" * 48, "the file is damaged")],
)
def test_a_value_of_another_type_than_its_column_is_refused_on_loading(
    path: Path, change: str, value: object, complaint: str
) -> None:
    with PreferenceStore(path) as store:
        store.add_queries([make_query()])
        SqliteFile(path).tamper(f"UPDATE segments SET {change} = ? WHERE id = 2", value)
        with pytest.raises(UserError, match=complaint) as refusal:
            store.queries()
    assert "segment 2 in" in str(refusal.value)


def test_a_folder_that_takes_no_file_is_refused_in_one_line(tmp_path: Path) -> None:
    # Mounted read-only: permissions alone do not stop root.
    with mounted(tmp_path, "-t", "tmpfs", "-o", "ro", "tmpfs"):
        with pytest.raises(UserError, match="unable to open database file; give a path") as refusal:
            PreferenceStore(tmp_path / "preferences.db")
        assert_one_line(refusal.value, tmp_path)


def test_a_read_only_store_is_read_but_not_written(tmp_path: Path) -> None:
    path = tmp_path / "preferences.db"
    with PreferenceStore(path, task="hopper") as store:
        (query,) = store.add_queries([make_query()])
        (answer,) = store.add_answers([make_answer(query.id)])
    before = path.read_bytes()
    with mounted(tmp_path, "-o", "bind,ro", str(tmp_path)), PreferenceStore(path, task="hopper") as store:
        assert store.answers() == [answer]
        with pytest.raises(UserError, match="readonly database; make the file and its folder writable") as refusal:
            store.add_answers([make_answer(query.id)])
        assert store.answers() == [answer]
    assert_one_line(refusal.value, path)
    assert path.read_bytes() == before


def test_a_read_only_url_is_read_but_not_written(path: Path) -> None:
    with PreferenceStore(path, task="hopper") as store:
        (query,) = store.add_queries([make_query()])
    with PreferenceStore(f"sqlite:///file:{path}?mode=ro&uri=true") as store:
        assert_same_queries(store.queries(), [query])
        with pytest.raises(UserError, match="readonly database; make the file and its folder writable"):
            store.add_answers([make_answer(query.id)])
    assert_whole(path)


def fill(store: PreferenceStore) -> int:
    """Add queries with an answer each until the disk is full; returns how many were acknowledged."""
    acknowledged: list[Answer] = []

    def add() -> None:
        while True:
            stored = store.add_queries([make_query(seed) for seed in range(20)])
            acknowledged.extend(store.add_answers([make_answer(query.id) for query in stored]))

    with pytest.raises(UserError, match="disk") as refusal:
        add()
    assert_one_line(refusal.value, Path(store.location))
    return len(acknowledged)


def test_a_full_disk_is_one_line_and_loses_nothing(tmp_path: Path) -> None:
    path = tmp_path / "preferences.db"
    with mounted(tmp_path, "-t", "tmpfs", "-o", "size=256k", "tmpfs"):
        with PreferenceStore(path) as store:
            acknowledged = fill(store)
            assert acknowledged > 0
            with pytest.raises(UserError, match="disk is full; free some disk space and try again"):
                store.add_queries([make_query(seed) for seed in range(20)])
            assert len(store.answers()) == acknowledged
            assert_whole(path)
            subprocess.run(["mount", "-o", "remount,size=1m", str(tmp_path)], check=True)
            stored = store.add_queries([make_query()])
            store.add_answers([make_answer(query.id) for query in stored])
        with PreferenceStore(path) as store:
            assert len(store.answers()) == acknowledged + 1
        assert_whole(path)


QUOTA = """
import sys
from pathlib import Path
from test_store_files import fill
from prefrl.preferences import PreferenceStore
with PreferenceStore(Path(sys.argv[1])) as store:
    print(fill(store), len(store.answers()))
"""


def test_a_used_up_quota_is_one_line_and_loses_nothing(path: Path) -> None:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))

    done = subprocess.run(
        [sys.executable, "-c", QUOTA, str(path)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        preexec_fn=limit,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    acknowledged, seen = map(int, done.stdout.split())
    assert 0 < acknowledged == seen
    with PreferenceStore(path) as store:
        assert len(store.answers()) == acknowledged
    assert_whole(path)
