"""Bring a database of an older prefrl up to date, with a copy kept of what it was.

opening.py calls it. A new schema version appends a function to MIGRATIONS and changes schema.py.
"""

from __future__ import annotations

import itertools
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import sqlalchemy as sa

from prefrl.errors import UserError
from prefrl.preferences import schema


def _add_the_runs_steps(connection: sa.Connection) -> None:
    """What a run of before did is not known; its answers count as those of another run."""
    for table, column, referred in (("asked", "query_id", "queries"), ("taken", "answer_id", "answers")):
        connection.exec_driver_sql(
            f"CREATE TABLE {table} (run TEXT NOT NULL, {column} INTEGER NOT NULL REFERENCES {referred} (id), "
            f"env_steps BIGINT NOT NULL, PRIMARY KEY (run, {column}))"
        )


def _add_labelling(connection: sa.Connection) -> None:
    """Who labels, and who is shown which query."""
    number = "INTEGER PRIMARY KEY" if connection.dialect.name == "sqlite" else "SERIAL PRIMARY KEY"
    double = "DOUBLE PRECISION NOT NULL"
    connection.exec_driver_sql(
        f"CREATE TABLE labellers (id {number}, name TEXT NOT NULL UNIQUE, consent TEXT NOT NULL, joined_at {double})"
    )
    connection.exec_driver_sql(
        f"CREATE TABLE leases (id {number}, query_id INTEGER NOT NULL REFERENCES queries (id), "
        "labeller_id INTEGER NOT NULL REFERENCES labellers (id), kind TEXT NOT NULL, swapped BOOLEAN NOT NULL, "
        f"leased_at {double}, expires_at {double}, supersedes INTEGER REFERENCES answers (id), "
        "answer_id INTEGER UNIQUE REFERENCES answers (id))"
    )
    for column in ("query_id", "labeller_id"):
        connection.exec_driver_sql(f"CREATE INDEX ix_leases_{column} ON leases ({column})")


def _add_viewings(connection: sa.Connection) -> None:
    """How the page's answers came about."""
    double = "DOUBLE PRECISION NOT NULL"
    connection.exec_driver_sql(
        "CREATE TABLE viewings (answer_id INTEGER PRIMARY KEY REFERENCES answers (id), "
        f"shown_ms {double}, answered_ms {double}, active_ms {double}, speed {double}, page_version TEXT NOT NULL)"
    )


def _add_next_observations(connection: sa.Connection) -> None:
    """What the actions of earlier segments led to was not kept."""
    blob = "BLOB" if connection.dialect.name == "sqlite" else "BYTEA"
    for column, kind in (("", blob), ("_dtype", "TEXT"), ("_shape", "TEXT")):
        connection.exec_driver_sql(f"ALTER TABLE segments ADD COLUMN next_observations{column} {kind}")


# The first takes version 1 to 2, and so on; each within the transaction that also writes the new version.
MIGRATIONS: tuple[Callable[[sa.Connection], None], ...] = (
    _add_the_runs_steps,
    _add_labelling,
    _add_viewings,
    _add_next_observations,
)


# The tables that came with each version, so that a damaged database of an older one is told from a whole one.
NEW_TABLES: dict[int, tuple[str, ...]] = {
    1: ("meta", "segments", "queries", "query_segments", "answers"),
    2: ("asked", "taken"),
    3: ("labellers", "leases"),
    4: ("viewings",),
}


def tables_of(version: int) -> set[str]:
    """The tables of a database of that version."""
    return {name for since, names in NEW_TABLES.items() if since <= version for name in names}


def schema_version() -> int:
    """The version that this prefrl writes, and the newest that it reads."""
    return len(MIGRATIONS) + 1


def migrate(connection: sa.Connection, version: int, location: str) -> str:
    """Copy the database, then bring it from `version` to the newest.

    Args:
        connection: in a transaction that writes, so that nothing changes between the copy and the rest.
        version: of the database now.
        location: of the database, for the error.

    Returns:
        Where the copy is: a file beside a SQLite file, elsewhere tables beside the tables.

    Raises:
        UserError: there is no room or no permission for a copy.
    """
    try:
        copy_of = _copy_file if connection.dialect.name == "sqlite" else _copy_tables
        copy = copy_of(connection, version)
    except (OSError, sqlite3.Error) as error:
        raise UserError(
            f"{location} has schema version {version}, and no copy can be kept beside it before it is brought to "
            f"{schema_version()} ({error}); make room, and make the folder writable"
        ) from error
    for migration in MIGRATIONS[version - 1 :]:
        migration(connection)
    connection.execute(
        sa.update(schema.meta).where(schema.meta.c.key == "schema_version").values(value=str(schema_version()))
    )
    return copy


def _copy_file(connection: sa.Connection, version: int) -> str:
    path = Path(connection.exec_driver_sql("PRAGMA database_list").all()[0].file)
    copy = path.with_name(_unused(f"{path.name}.version-{version}", lambda name: path.with_name(name).exists()))
    unfinished = copy.with_name(copy.name + ".unfinished")
    unfinished.unlink(missing_ok=True)  # of a process that was killed
    try:
        # SQLite's own copying: opening and closing the file by other means would drop the locks that we hold on it.
        with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(unfinished)) as target:
            source.backup(target)
        unfinished.replace(copy)
    finally:
        unfinished.unlink(missing_ok=True)
    return str(copy)


def _copy_tables(connection: sa.Connection, version: int) -> str:
    there = set(sa.inspect(connection).get_table_names())
    copies = []
    for name in sorted(there & set(schema.TABLES.tables)):
        copy = _unused(f"{name}_version_{version}", there.__contains__)
        connection.exec_driver_sql(f'CREATE TABLE "{copy}" AS TABLE "{name}"')
        copies.append(copy)
    return ", ".join(copies)


def _unused(name: str, is_used: Callable[[str], bool]) -> str:
    names = itertools.chain([name], (f"{name}-{number}" for number in itertools.count(2)))
    return next(name for name in names if not is_used(name))
