"""kill -9 of a process that writes answers as fast as it can: no acknowledged answer may be missing afterwards.

    .venv/bin/python experiments/kill_store.py                              # SQLite and a PostgreSQL server of its own
    .venv/bin/python experiments/kill_store.py --stores sqlite --kills 20
    .venv/bin/python experiments/kill_store.py --stores postgresql --url postgresql://USER@HOST/NAME

The writer reports the ids of each call of add_answers through a pipe once it has returned; it is killed some random
time later, and another one goes on with the same database. On PostgreSQL the client is killed, not the server. After
each kill every answer reported so far is looked up, calls must be there whole or not at all, and SQLite checks the
file. Writes results.json and kill_store.md to experiments/results/kill_store; exit code 0 only if all of it held.
"""

from __future__ import annotations

import importlib.metadata
import itertools
import json
import os
import platform
import signal
import sqlite3
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tyro
from common import REPOSITORY, RESULTS, markdown_table

from prefrl.config import Count
from prefrl.errors import UserError
from prefrl.preferences import Answer, PreferenceStore, without_password
from prefrl.queries import Query
from prefrl.run_directory import describe_here
from prefrl.segments import Segment

CALL_SIZES = (1, 2, 3)  # answers per call of add_answers, in turn
LONGEST_SECONDS = 0.5  # from a writer's first acknowledged call to its end
StoreName = Literal["sqlite", "postgresql"]


@dataclass(frozen=True)
class Options:
    """Which stores, and how often."""

    stores: tuple[StoreName, ...] = ("sqlite", "postgresql")
    """kinds of database"""
    kills: Count = 200
    """of each"""
    url: str | None = None
    """PostgreSQL database to write to; one on a temporary server by default"""
    seed: Count = 0
    """of the times of the kills"""
    results: Path = RESULTS / "kill_store"
    """folder of the results"""


@dataclass
class Tally:
    """What was found over all kills of one kind of database."""

    store: str
    version: str  # of the database
    kills: int = 0
    acknowledged: int = 0  # answers
    missing: int = 0  # of the acknowledged answers, after any kill
    unacknowledged: int = 0  # answers that are stored though the writer was killed before it could say so
    torn_calls: int = 0  # of which some answers are stored and others are not
    within_a_transaction: int | None = None  # kills that left a journal to roll back; SQLite
    checks_failed: int | None = None  # integrity_check and foreign_key_check; SQLite
    seconds: float = 0.0
    seen: dict[int, str] = field(default_factory=dict, repr=False)  # acknowledged: id -> labeller

    @property
    def holds(self) -> bool:
        """Whether nothing was lost or torn."""
        return not (self.missing or self.torn_calls or self.checks_failed)

    def as_json(self) -> dict[str, Any]:
        """Everything but the answers themselves."""
        return {name: value for name, value in asdict(self).items() if name != "seen"} | {"holds": self.holds}


def write_answers(location: str, query_ids: Sequence[int], tag: str, pipe: int) -> None:
    """Answer for ever; every call undoes the last answer of the one before."""
    with PreferenceStore(location) as store:
        last: Answer | None = None
        for call, size in enumerate(itertools.cycle(CALL_SIZES)):
            labeller = f"{tag}-{call}-{size}"
            now = time.time()
            ids = [last.query_id if last else query_ids[0], *query_ids[1:size]]
            new = [Answer(query_id, ((0,), (1,)), labeller, now, now) for query_id in ids]
            if last is not None:
                new[0] = Answer(ids[0], ((1,), (0,)), labeller, now, now, supersedes=last.id)
            stored = store.add_answers(new)
            os.write(pipe, f"{' '.join(str(answer.id) for answer in stored)} {labeller}\n".encode())
            last = stored[-1]


def kill_a_writer(location: str, query_ids: Sequence[int], tag: str, seconds: float) -> dict[int, str]:
    """Start a writer, kill it some seconds after its first acknowledged call; the answers it acknowledged."""
    reading, writing = os.pipe()
    writer = os.fork()  # and not a new interpreter, which would take longer to start than it lives
    if writer == 0:
        try:
            write_answers(location, query_ids, tag, writing)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(1)
    os.close(writing)
    with os.fdopen(reading) as lines:
        acknowledged = list(itertools.islice(lines, 1))
        time.sleep(seconds)
        os.kill(writer, signal.SIGKILL)
        acknowledged += lines
    _, status = os.waitpid(writer, 0)
    if os.WIFEXITED(status):
        raise UserError("the writer ended by itself; its own words are above")
    calls = [line.split() for line in acknowledged if line.endswith("\n")]
    return {int(number): labeller for *numbers, labeller in calls for number in numbers}


def prepare(location: str) -> list[int]:
    """Queries to answer."""
    zeros = np.zeros((60, 11), np.float32)
    segments = [Segment(zeros, zeros[:, :3], zeros[:, 0], env_steps=i) for i in range(2)]
    with PreferenceStore(location) as store:
        stored = store.add_queries([Query(tuple(segments))] * max(CALL_SIZES))
    return [query.id for query in stored if query.id is not None]


def check(location: str, tag: str, tally: Tally) -> None:
    """Look up everything acknowledged so far."""
    with PreferenceStore(location) as store:
        answers = store.answers(include_superseded=True)
    found = {answer.id: answer.labeller for answer in answers if answer.labeller.startswith(tag)}
    tally.acknowledged = len(tally.seen)
    tally.missing = max(tally.missing, sum(found.get(each) != labeller for each, labeller in tally.seen.items()))
    tally.unacknowledged = len(found.keys() - tally.seen.keys())
    calls = Counter(found.values())
    tally.torn_calls = max(tally.torn_calls, sum(calls[name] != int(name.split("-")[-1]) for name in calls))


def is_whole(path: Path) -> bool:
    """Whether SQLite finds the file whole."""
    with closing(sqlite3.connect(path)) as connection:
        whole = connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        return whole and not connection.execute("PRAGMA foreign_key_check").fetchall()


def measure(name: StoreName, location: str, version: str, options: Options) -> Tally:
    """Kill writers of one database one after the other."""
    tally = Tally(name, version)
    rng = np.random.default_rng(options.seed)
    run = f"{time.time_ns():x}"  # tells the answers from those of an earlier run
    query_ids = prepare(location)
    file = Path(location) if name == "sqlite" else None
    journals = damaged = 0
    began = time.monotonic()
    for kill in range(options.kills):
        tally.seen |= kill_a_writer(location, query_ids, f"{run}-{kill}", rng.uniform(0, LONGEST_SECONDS))
        tally.kills += 1
        journals += file is not None and file.with_name(file.name + "-journal").exists()
        check(location, run, tally)
        damaged += file is not None and not is_whole(file)
    if file is not None:
        tally.within_a_transaction, tally.checks_failed = journals, damaged
    tally.seconds = round(time.monotonic() - began, 1)
    return tally


@contextmanager
def database(name: StoreName, url: str | None) -> Iterator[tuple[str, str]]:
    """A location to write to, and the version of what is there."""
    if name == "sqlite":
        with tempfile.TemporaryDirectory() as folder:
            yield str(Path(folder) / "preferences.db"), f"SQLite {sqlite3.sqlite_version}"
    elif url is not None:
        yield url, f"PostgreSQL {server_version(url)}"
    else:
        sys.path.append(str(REPOSITORY / "scripts"))
        from postgresql import ServerUnavailable, TemporaryServer

        try:
            with TemporaryServer() as server:
                yield server.url(), f"PostgreSQL {server_version(server.url())}"
        except ServerUnavailable as error:
            raise UserError(f"{error}; install one, give --url, or --stores sqlite") from error


def server_version(url: str) -> str:
    import psycopg

    try:
        with closing(psycopg.connect(url)) as connection:
            return str(connection.execute("SHOW server_version").fetchall()[0][0]).split()[0]
    except psycopg.Error as error:
        raise UserError(f"{without_password(url)}: {str(error).splitlines()[0]}") from error


def as_markdown(result: dict[str, Any]) -> str:
    """The table, and where its numbers come from."""
    header = [
        "database",
        "kills",
        "acknowledged answers",
        "of them missing",
        "calls stored in part",
        "answers stored, not yet acknowledged",
        "kills within a transaction",
        "failed file checks",
    ]
    rows = [
        [
            tally["version"],
            *(f"{tally[key]:,}" for key in ("kills", "acknowledged", "missing", "torn_calls", "unacknowledged")),
            *("-" if tally[key] is None else f"{tally[key]:,}" for key in ("within_a_transaction", "checks_failed")),
        ]
        for tally in result["stores"]
    ]
    machine = result["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in result["versions"].items())
    return f"""# kill -9 of a process that writes answers

A writer adds answers as fast as it can and is killed at a random time, at most {LONGEST_SECONDS} s after its first
acknowledged call; then everything acknowledged so far is looked up. On PostgreSQL the client is killed. A kill within
a transaction leaves a journal, which SQLite rolls back; the file checks are integrity_check and foreign_key_check.

{markdown_table(header, *rows)}

{sum(tally["seconds"] for tally in result["stores"]):.0f} s. Machine: {machine["system"]} {machine["machine"]}, \
{machine["cores"]} cores. Versions: {versions}. Revision: {result["git_revision"]}. Begun {result["started_at"][:10]}.
Command: {result["command"]}
"""


def main() -> int:
    """Measure, write the results; 1 if anything was lost."""
    options = tyro.cli(Options, prog="experiments/kill_store.py", description=__doc__)
    about = describe_here()
    tallies = []
    for name in options.stores:
        with database(name, options.url) as (location, version):
            tallies.append(measure(name, location, version, options))
        found = tallies[-1]
        print(f"{version}: {found.kills} kills, {found.acknowledged} answers acknowledged, {found.missing} missing")
    packages = ["prefrl", "sqlalchemy", *(["psycopg"] if "postgresql" in options.stores else [])]
    result = {
        "command": f"experiments/kill_store.py --kills {options.kills} --stores {' '.join(options.stores)}",
        **{key: about[key] for key in ("started_at", "git_revision", "machine")},
        "versions": {"python": platform.python_version()}
        | {name: importlib.metadata.version(name) for name in packages},
        "stores": [tally.as_json() for tally in tallies],
    }
    options.results.mkdir(parents=True, exist_ok=True)
    (options.results / "results.json").write_text(json.dumps(result, indent=2) + "\n")
    (options.results / "kill_store.md").write_text(as_markdown(result))
    return 0 if all(tally.holds and tally.kills == options.kills for tally in tallies) else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except UserError as error:
        sys.exit(f"kill_store: {error}")
