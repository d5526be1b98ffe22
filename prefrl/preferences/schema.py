"""The tables of a preference database, and how to connect to one.

SQLite by default; everything but the connection's own settings is SQL that PostgreSQL speaks too.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from prefrl.errors import UserError
from prefrl.preferences.arrays import ARRAYS, OPTIONAL_ARRAYS

SCHEMA_VERSION = 1

TABLES = sa.MetaData()

meta = sa.Table(
    "meta",
    TABLES,
    sa.Column("key", sa.Text, primary_key=True),  # schema_version, task, mujoco_version, created
    sa.Column("value", sa.Text, nullable=False),
)

segments = sa.Table(
    "segments",
    TABLES,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("task", sa.Text),
    sa.Column("mujoco_version", sa.Text),  # of the exact states; empty where there are none
    sa.Column("env_steps", sa.BigInteger, nullable=False),  # of the run, when it was recorded
    sa.Column("length", sa.Integer, nullable=False),  # steps
    sa.Column("true_return", sa.Double, nullable=False),  # undiscounted sum of true_rewards
    *(
        column
        for name in ARRAYS
        for column in (
            sa.Column(name, sa.LargeBinary, nullable=name in OPTIONAL_ARRAYS),  # little-endian, row-major
            sa.Column(f"{name}_dtype", sa.Text, nullable=name in OPTIONAL_ARRAYS),  # as numpy writes it: "<f4"
            sa.Column(f"{name}_shape", sa.Text, nullable=name in OPTIONAL_ARRAYS),  # "60,11"
        )
    ),
)

queries = sa.Table(
    "queries",
    TABLES,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("created_at", sa.Double, nullable=False),  # unix seconds
)

query_segments = sa.Table(
    "query_segments",
    TABLES,
    sa.Column("query_id", sa.ForeignKey("queries.id"), primary_key=True),
    sa.Column("position", sa.Integer, primary_key=True),  # on screen, 0 = leftmost
    sa.Column("segment_id", sa.ForeignKey("segments.id"), nullable=False),
)

answers = sa.Table(
    "answers",
    TABLES,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("query_id", sa.ForeignKey("queries.id"), nullable=False, index=True),
    sa.Column("ranking", sa.Text, nullable=False),  # "0>1", "0=1", "2>0=1", "cant_tell"
    sa.Column("labeller", sa.Text, nullable=False),
    sa.Column("shown_at", sa.Double, nullable=False),  # unix seconds
    sa.Column("answered_at", sa.Double, nullable=False),  # unix seconds
    sa.Column("replays", sa.Integer, nullable=False),
    # Unique: two tabs can't both undo the same answer and leave two current ones.
    sa.Column("supersedes", sa.ForeignKey("answers.id"), unique=True),
)


def create_engine(url_or_path: str) -> sa.Engine:
    """Connections to a file path or a URL; nothing is opened yet. Writers use execution_options(writes=True)."""
    try:
        is_url = "://" in url_or_path
        engine = sa.create_engine(url_or_path if is_url else sa.URL.create("sqlite", database=url_or_path))
    except (sa.exc.ArgumentError, ModuleNotFoundError) as error:
        raise UserError(
            f"{url_or_path.partition('://')[0]}:// names no database that can be used here ({error}); "
            "give a file path, or install the driver"
        ) from error
    if engine.dialect.name == "sqlite":
        sa.event.listen(engine, "connect", _on_sqlite_connect)
        sa.event.listen(engine, "begin", _on_sqlite_begin)
    return engine


def _on_sqlite_connect(connection: Any, _: object) -> None:
    """Durable and strict. The journal stays SQLite's default: before 3.51.3, WAL can corrupt with several writers."""
    connection.isolation_level = None  # sqlite3 would begin transactions by itself, and only before the first write
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("PRAGMA busy_timeout = 30000")  # ms
    connection.execute("PRAGMA synchronous = FULL")


def _on_sqlite_begin(connection: sa.Connection) -> None:
    # A writer that began as a reader can't wait for another writer: SQLite would refuse it at once to avoid a deadlock.
    writes = connection.get_execution_options().get("writes")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
