"""What a store is tested with: things to put in, and the databases, as another program than ours sees them."""

from __future__ import annotations

import itertools
import os
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pytest
import sqlalchemy as sa
from postgresql import TemporaryServer

from prefrl.preferences import Answer
from prefrl.queries import Query
from prefrl.segments import Segment

ARRAYS = ("observations", "actions", "true_rewards", "qpos", "qvel", "next_observations")


def make_segment(seed: int = 0, length: int = 4, exact_states: bool = True) -> Segment:
    rng = np.random.default_rng(seed)
    return Segment(
        observations=rng.normal(size=(length, 3)).astype(np.float32),
        actions=rng.normal(size=(length, 2)).astype(np.float32),
        true_rewards=rng.normal(size=length).astype(np.float32),
        qpos=rng.normal(size=(length, 5)) if exact_states else None,
        qvel=rng.normal(size=(length, 4)) if exact_states else None,
        env_steps=100 * seed,
        next_observations=rng.normal(size=(length, 3)).astype(np.float32) if exact_states else None,
    )


def make_query(seed: int = 0, size: int = 2) -> Query:
    return Query(tuple(make_segment(10 * seed + i) for i in range(size)))


def make_answer(query_id: int | None, choice: str = "left", /, **changes: Any) -> Answer:
    assert query_id is not None
    return replace(Answer.from_choice(query_id, choice, labeller="ann", shown_at=1.5, answered_at=4.25), **changes)


def assert_same_segment(one: Segment, other: Segment) -> None:
    for name in ARRAYS:
        a, b = getattr(one, name), getattr(other, name)
        if a is None:
            assert b is None
        else:
            assert (a.dtype, a.shape, a.tobytes()) == (b.dtype, b.shape, b.tobytes())
    assert one.env_steps == other.env_steps


def assert_same_queries(some: list[Query], others: list[Query]) -> None:
    assert [query.id for query in some] == [query.id for query in others]
    for one, other in zip(some, others, strict=True):
        for a, b in zip(one.segments, other.segments, strict=True):
            assert_same_segment(a, b)


@contextmanager
def mounted(folder: Path, *options: str) -> Iterator[None]:
    """A file system mounted at a folder, where this process may do that."""
    done = subprocess.run(["mount", *options, str(folder)], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"no right to mount a file system here: {done.stderr.strip().splitlines()[-1]}")
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


class Database(Protocol):
    """One database; statements have ? for each parameter."""

    @property
    def location(self) -> str:
        """What PreferenceStore takes."""

    def read(self, statement: str) -> list[tuple[Any, ...]]:
        """The rows of a query."""

    def tamper(self, statement: str, *parameters: object) -> None:
        """Change something, past foreign keys."""

    def contents(self) -> object:
        """Everything in it, and beside it, to compare."""


@dataclass(frozen=True)
class SqliteFile:
    path: Path

    @property
    def location(self) -> str:
        return os.fspath(self.path)

    def read(self, statement: str) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(self.path)) as connection:
            return connection.execute(statement).fetchall()

    def tamper(self, statement: str, *parameters: object) -> None:
        with closing(sqlite3.connect(self.path)) as connection, connection:
            connection.execute(statement, parameters)

    def contents(self) -> object:
        return os.listdir(self.path.parent), self.path.read_bytes()


@dataclass(frozen=True)
class PostgresqlDatabase:
    location: str

    def _connect(self) -> Any:
        import psycopg

        return psycopg.connect(self.location)

    def read(self, statement: str) -> list[tuple[Any, ...]]:
        with closing(self._connect()) as connection:
            rows: list[tuple[Any, ...]] = connection.execute(statement).fetchall()
            return rows

    def tamper(self, statement: str, *parameters: object) -> None:
        with closing(self._connect()) as connection, connection:
            connection.execute("SET session_replication_role = replica")
            connection.execute(statement.replace("?", "%s"), parameters or None)

    def contents(self) -> object:
        engine = sa.create_engine(self.location.replace("postgresql:", "postgresql+psycopg:"))
        with closing(engine.connect()) as connection:
            names = sorted(sa.inspect(connection).get_table_names())
            found = {name: connection.exec_driver_sql(f'SELECT * FROM "{name}"').all() for name in names}
        engine.dispose()
        return found


class SqliteFiles:
    """Makes new ones in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._numbers = folder, itertools.count()

    def new(self) -> SqliteFile:
        """A path where nothing is yet."""
        folder = self._folder / str(next(self._numbers))
        folder.mkdir()
        return SqliteFile(folder / "preferences.db")

    def drop(self, database: Database) -> None:
        """Let go of it; pytest removes the folder."""


class PostgresqlDatabases:
    """Makes new ones on a server."""

    def __init__(self, server: TemporaryServer) -> None:
        self.server, self._numbers = server, itertools.count()

    def new(self, options: str = "") -> PostgresqlDatabase:
        """An empty database."""
        name = f"test_{next(self._numbers)}"
        self._execute(f"CREATE DATABASE {name} {options}")
        return PostgresqlDatabase(self.server.url(name))

    def drop(self, database: Database) -> None:
        """Remove it, with whoever is still connected."""
        self._execute(f"DROP DATABASE {sa.make_url(database.location).database} WITH (FORCE)")

    @contextmanager
    def user_with_password(self, database: PostgresqlDatabase, password: str) -> Iterator[str]:
        """User ann, who may make tables; yields the database's URL for her, without the password."""
        database.tamper("CREATE ROLE with_password")
        database.tamper(f"CREATE ROLE ann LOGIN IN ROLE with_password PASSWORD '{password}'")
        database.tamper("GRANT CREATE ON SCHEMA public TO ann")
        yield database.location.replace("postgres@", "ann@")
        database.tamper("DROP OWNED BY ann")
        database.tamper("DROP ROLE ann, with_password")

    def _execute(self, statement: str) -> None:
        import psycopg

        with psycopg.connect(self.server.url(), autocommit=True) as connection:
            connection.execute(statement)


Databases = SqliteFiles | PostgresqlDatabases
