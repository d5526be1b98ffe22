"""Make a new database a preference store, or make sure that it is one that can be read and is up to date.

store.py calls it on opening; migrations.py knows what older versions lack.
"""

from __future__ import annotations

import logging
import re
from datetime import UTC, datetime
from importlib.metadata import version

import sqlalchemy as sa

from prefrl.errors import UserError
from prefrl.preferences import schema
from prefrl.preferences.connection import Database, refuse_torn_file
from prefrl.preferences.migrations import migrate, schema_version, tables_of

log = logging.getLogger("prefrl")

MUJOCO_VERSION = version("mujoco")  # once: looking it up takes longer than storing a segment


def prepare(database: Database, task: str | None) -> dict[str, str]:
    """Make the database a preference store of today's version, of that task; returns what it says of itself, by key.

    Args:
        database: which may be new.
        task: None for whatever task it is of.

    Raises:
        UserError: not a preference store, written by a newer version, or of another task. It is left as it is.
    """
    with database.transaction() as connection:
        is_new = not sa.inspect(connection).get_table_names()
        refuse_torn_file(connection, database.location)
    if is_new:
        _create(database)
    meta = _read_of(database, task)
    if int(meta["schema_version"]) < schema_version():
        _migrate(database)
        meta = _read_of(database, task)
    if task is not None and "task" not in meta:
        with database.transaction(writes=True) as connection:
            if "task" not in _read(connection, database.location):
                connection.execute(sa.insert(schema.meta), {"key": "task", "value": task})
        meta = _read_of(database, task)  # another process may have been faster, with another task
    return meta


def _create(database: Database) -> None:
    with database.transaction(writes=True) as connection:
        if sa.inspect(connection).get_table_names():
            return  # another process was faster
        schema.TABLES.create_all(connection)
        meta = {
            "schema_version": str(schema_version()),
            "mujoco_version": MUJOCO_VERSION,
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        connection.execute(sa.insert(schema.meta), [{"key": key, "value": value} for key, value in meta.items()])


def _migrate(database: Database) -> None:
    with database.transaction(writes=True) as connection:
        written = int(_read(connection, database.location)["schema_version"])
        if written == schema_version():
            return  # another process was faster
        copy = migrate(connection, written, database.location)
    log.warning(
        "%s had schema version %d and has %d now; as it was it is kept in %s",
        *(database.location, written, schema_version(), copy),
    )


def _read_of(database: Database, task: str | None) -> dict[str, str]:
    with database.transaction() as connection:
        meta = _read(connection, database.location)
    recorded = meta.get("task", task)
    if task is not None and recorded != task:
        raise UserError(f"{database.location} holds segments of task {recorded}, not of {task}; give another path")
    return meta


def _read(connection: sa.Connection, location: str) -> dict[str, str]:
    """The meta table, once it is sure that this is a preference store that we can read."""
    inspector = sa.inspect(connection)
    tables = set(inspector.get_table_names())
    meta = {}
    if "meta" in tables and {column["name"] for column in inspector.get_columns("meta")} == {"key", "value"}:
        meta = {row.key: row.value for row in connection.execute(sa.select(schema.meta))}
    written = meta.get("schema_version")
    if not isinstance(written, str) or not re.fullmatch("[0-9]{1,9}", written):
        raise UserError(
            f"{location} is a database but no preference store; give the path or URL of one, or of a new, empty one"
        )
    if int(written) > schema_version():
        raise UserError(
            f"{location} has schema version {written}, newer than {schema_version()}, "
            "the newest that this prefrl reads; upgrade prefrl"
        )
    if int(written) < 1 or not tables >= tables_of(int(written)):
        raise UserError(f"{location} is a damaged preference store; restore it from a copy")
    return meta
