"""Damage to each file that is loaded of somebody else's run, and what loading it may come to."""

from __future__ import annotations

import functools
import hashlib
import json
import shutil
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from damage import SLOW, VALUES, Outcome, changed_bytes, changed_member, refusal_of
from hypothesis import assume
from hypothesis import strategies as st
from tiny_runs import tiny

from prefrl.checkpoint import load_checkpoint
from prefrl.dataset.contents import from_rows
from prefrl.environments import resolve_environment
from prefrl.policy import SavedPolicy
from prefrl.preferences import PreferenceStore
from prefrl.preferences.schema import TABLES
from prefrl.reward_model import RewardEnsemble
from prefrl.run import configuration, train

CONFIGURATION, DATABASE, PREDICTOR, POLICY = "config.json", "preferences.db", "predictor.safetensors", "policy.zip"


@functools.cache
def example_run() -> Path:
    """A whole run, made once, that nobody changes."""
    folder = Path(tempfile.mkdtemp(prefix="prefrl-damaged-"))
    run = train(tiny(folder / "run", steps=4 * 256, checkpoint_minutes=1000))
    shutil.rmtree(run / "videos")
    return run


def read_database(path: Path) -> None:
    """All that a trainer, a report and an export read of it."""
    with PreferenceStore(path, task="reacher") as store:
        store.queries()
        store.answers(include_superseded=True)
        store.counts()
        for run in store.runs():
            store.asked_by(run)
            store.taken_by(run)
            store.not_taken_by(run)
        from_rows(store.rows(), store.task, str(path))


def read_policy(path: Path) -> None:
    """As `prefrl watch` does."""
    env = resolve_environment("reacher").make(1)
    SavedPolicy(path, env.single_observation_space, env.single_action_space, (64, 64))
    env.close()


LOADERS: dict[str, Callable[[Path], object]] = {
    CONFIGURATION: lambda path: configuration(path.parent),
    DATABASE: read_database,
    PREDICTOR: RewardEnsemble.load,
    POLICY: read_policy,
    "checkpoint/000000001024/values.json": lambda path: load_checkpoint(path.parents[1]),
    "checkpoint/000000001024/arrays.npz": lambda path: load_checkpoint(path.parents[1]),
}


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every container within a JSON value, with each of its keys."""
    if isinstance(value, dict | list):
        for key in list(value) if isinstance(value, dict) else range(len(value)):
            yield value, key
            yield from places(value[key])


@st.composite
def changed_json(draw: st.DrawFn, data: bytes) -> bytes:
    """One value of it replaced, or left out."""
    content = json.loads(data)
    container, key = draw(st.sampled_from(list(places(content))))
    if draw(st.integers(0, 9)):
        container[key] = draw(VALUES)
    else:
        del container[key]
    return json.dumps(content).encode()


@st.composite
def changed_header(draw: st.DrawFn, data: bytes) -> bytes:
    """Another header of a safetensors file, of the right length."""
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    if draw(st.booleans()):
        about = draw(changed_json(header["__metadata__"]["prefrl"].encode()))
        header["__metadata__"]["prefrl"] = about.decode()
        changed = json.dumps(header).encode()
    else:
        changed = draw(changed_json(json.dumps(header).encode()))
    return len(changed).to_bytes(8, "little") + changed + data[8 + length :]


@st.composite
def changed_rows(draw: st.DrawFn, data: bytes) -> bytes:
    """Other values in a column of a database, past foreign keys; a table less."""
    table = draw(st.sampled_from(sorted(TABLES.tables)))
    column = draw(st.sampled_from([column.name for column in TABLES.tables[table].columns]))
    value = draw(st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1), st.floats(), st.text(max_size=4), st.binary()))
    statement = f'UPDATE {table} SET "{column}" = ? WHERE rowid % ? = 0'
    with tempfile.NamedTemporaryFile() as file:
        file.write(data)
        file.flush()
        with closing(sqlite3.connect(file.name)) as connection, connection:
            try:
                if draw(st.integers(0, 19)):
                    connection.execute(statement, (value, draw(st.integers(1, 5))))
                else:
                    connection.execute(f"DROP TABLE {table}")
            except (sqlite3.Error, UnicodeEncodeError):
                assume(False)  # against a constraint, or no text that SQLite takes: no such damage exists
        return Path(file.name).read_bytes()


def damaged(name: str) -> st.SearchStrategy[bytes]:
    """What may have happened to the file of that name."""
    data = (example_run() / name).read_bytes()
    inside: dict[str, Callable[[bytes], st.SearchStrategy[bytes]]] = {
        CONFIGURATION: changed_json,
        DATABASE: changed_rows,
        PREDICTOR: changed_header,
        POLICY: changed_member,
    }
    within = inside.get(name, changed_json if name.endswith(".json") else changed_member)
    return st.one_of(within(data), within(data), changed_bytes(data))


EXECUTION = (
    *("os.system", "os.exec", "os.posix_spawn", "os.fork", "subprocess.Popen"),
    *("socket.connect", "ctypes.dlopen", "pickle.find_class"),
)
_audited: list[list[str]] = []  # where to note what is executed; empty while nobody asks


@functools.cache
def _add_audit_hook() -> None:
    """Once and for good: there is no way to remove one."""

    def note(event: str, arguments: tuple[Any, ...]) -> None:
        if _audited and event.startswith(EXECUTION):
            _audited[0].append(f"{event} {arguments}")

    sys.addaudithook(note)


@contextmanager
def nothing_executed() -> Iterator[None]:
    """Fails where a process, a connection or a pickled class was asked for meanwhile."""
    executed = _begin_audit()
    try:
        yield
    finally:
        _audited.clear()
    assert executed == []


def _begin_audit() -> list[str]:
    _add_audit_hook()
    executed: list[str] = []
    _audited.append(executed)
    return executed


def load_damaged(name: str, content: bytes) -> Outcome:
    """Load a file; it must be taken, or refused in one line, soon, and execute nothing.

    Raises:
        AssertionError: anything else happened.
    """
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        run.mkdir()
        if name.startswith("checkpoint"):
            shutil.copytree(example_run() / "checkpoint", run / "checkpoint")
            reseal_checkpoint(run / name, content)
        (run / name).write_bytes(content)
        began = time.perf_counter()
        with nothing_executed():
            refusal = refusal_of(lambda: LOADERS[name](run / name))
        seconds = time.perf_counter() - began
        assert seconds < SLOW
        return Outcome("refused" if refusal else "taken", seconds)


def reseal_checkpoint(path: Path, content: bytes) -> None:
    """With checksums that fit the damage, as somebody would who wants it to be read."""
    checksums = json.loads((path.parent / "checksums.json").read_text())
    checksums[path.name] = hashlib.sha256(content).hexdigest()
    (path.parent / "checksums.json").write_text(json.dumps(checksums))
