"""Connections to a preference database: a SQLite file by its path, PostgreSQL by its URL.

store.py says what is read and written; here is what makes it durable, lets several processes take turns, and turns
what the user can mend into one line.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from prefrl.errors import UserError

BUSY_SECONDS = 30  # that a writer waits for another one
POSTGRESQL = {  # libpq's options where the URL says nothing; seconds, but for the last in ms
    "fallback_application_name": "prefrl",
    "client_encoding": "utf8",
    "connect_timeout": 10,
    # Without these, a server that lost its power is waited for by the hour.
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 60_000,
}
WRITERS = 8_247_329_120_415_003  # the lock that writers take on PostgreSQL; any number, the same for all of them

_DAMAGED = "the file is damaged; restore it from a copy"
# By a part of what SQLite says, and of what libpq says while there is no connection.
_WAYS_OUT = {
    "not a database": "it is no preference store; give the path of one, or of a file that does not exist yet",
    "malformed": _DAMAGED,
    "unable to open": "give a path to a file in a folder that exists and that you may write to",
    "readonly": "make the file and its folder writable",
    "locked": "another process has been writing to it for too long; stop that one or try again",
    "disk is full": "free some disk space and try again",
    "disk I/O error": "check the disk's space, quota and health, then try again",
    "password": "give the right user, and its password in the environment variable PGPASSWORD",
    "does not exist": "create it on the server first, or give another URL",
}
# By how PostgreSQL's error code begins. Any other code is a mistake of ours.
_WAYS_OUT_BY_CODE = {
    "08": "check that the server can be reached, then try again",
    "22P05": "give the URL of a database whose encoding is UTF-8",
    "25006": "the server takes no changes; give the URL of one that does",
    "40": "try again",
    "42501": "grant the user this right, or give another user",
    "42703": "it is no preference store; give the URL of one, or of an empty database",
    "42P01": "it is no preference store; give the URL of one, or of an empty database",
    "53": "give the server more room, then try again",
    "55P03": "another process has been writing to it for too long; stop that one or try again",
    "57": "check that the server runs, then try again",
    "58": "look into the server's log",
    "XX": "look into the server's log; restore the database from a copy if it is damaged",
}


def without_password(url_or_path: str) -> str:
    """A path as it is, a URL without its passwords; one that can't be read is cut to its scheme.

    libpq takes the password from the environment variable PGPASSWORD or from ~/.pgpass where a URL has none.
    """
    if "://" not in url_or_path:
        return url_or_path
    try:
        url = _parse(url_or_path)
    except (sa.exc.ArgumentError, ValueError):
        return f"{url_or_path.partition('://')[0]}://"
    query = {key: value for key, value in url.query.items() if key not in ("password", "sslpassword")}
    if url.password is None and len(query) == len(url.query):
        return url_or_path
    public = sa.URL.create(url.drivername, url.username, None, url.host, url.port, url.database, query)
    return public.render_as_string()


def _parse(text: str) -> sa.URL:
    url = sa.make_url(text)
    if url.host and "@" in f"{url.host}{url.database}":  # the end of a password that holds an @
        raise ValueError("an @ too many")
    return url


class Database:
    """Transactions on one database; nothing is opened before the first.

    Args:
        url_or_path: a file path (SQLite), postgresql://… or another SQLAlchemy URL.

    Attributes:
        location: for people to read; without a password.

    Raises:
        UserError: no such kind of database, or its driver is not installed.
    """

    def __init__(self, url_or_path: str) -> None:
        self._engine = _create_engine(url_or_path)
        self._writer = self._engine.execution_options(writes=True)
        self._closed = False
        self._turn = threading.Lock()
        file = self._engine.url.database if self._engine.dialect.name == "sqlite" else None
        self.location = file or without_password(url_or_path)

    @contextmanager
    def transaction(self, writes: bool = False) -> Iterator[sa.Connection]:
        """One transaction; of those that write, there is one at a time.

        Threads of this process take turns here: SQLite lets writers poll for theirs, which is slow and unfair among
        many, and each that waited inside a transaction would hold one of the pool's connections.

        Raises:
            UserError: what the user can mend: no space, no permission, a foreign file, a server that is gone.
        """
        if self._closed:
            raise RuntimeError(f"the preference store {self.location} is closed")
        if writes and not self._turn.acquire(timeout=BUSY_SECONDS):
            raise UserError(f"{self.location}: other threads have been writing to it for {BUSY_SECONDS} s; try again")
        try:
            with (self._writer if writes else self._engine).begin() as connection:
                yield connection
        except sa.exc.TimeoutError as error:
            raise UserError(f"{self.location}: all connections to it have been busy for too long; try again") from error
        except UnicodeDecodeError as error:  # sqlite3 can't say what is malformed in the words of the file
            if self._engine.dialect.name != "sqlite":
                raise
            raise UserError(f"{self.location}: holds text that is no UTF-8; {_DAMAGED}") from error
        except sa.exc.DBAPIError as error:
            way_out = _way_out(error)
            if way_out is None:
                raise
            reason = (str(error.orig).splitlines() or [type(error.orig).__name__])[0]
            raise UserError(f"{self.location}: {reason}; {way_out}") from error
        finally:
            if writes:
                self._turn.release()

    def close(self) -> None:
        """Let go of the database; what was committed is in it already."""
        self._closed = True
        self._engine.dispose()


def refuse_torn_file(connection: sa.Connection, location: str) -> None:
    """Refuse a SQLite file that ends within a page, where SQLite itself would go on and read zeros.

    Args:
        connection: in a transaction that has read something, so that nobody is writing.
        location: of the file, for the error.

    Raises:
        UserError: the file is torn.
    """
    if connection.dialect.name != "sqlite":
        return
    path = connection.exec_driver_sql("PRAGMA database_list").all()[0].file
    page = connection.exec_driver_sql("PRAGMA page_size").scalar_one()
    size = Path(path).stat().st_size if path else 0
    if size % page:
        raise UserError(
            f"{location} has {size} bytes, no whole number of pages of {page}: "
            "the file is damaged; restore it from a copy"
        )


def _create_engine(url_or_path: str) -> sa.Engine:
    if "://" not in url_or_path:
        engine = sa.create_engine(sa.URL.create("sqlite", database=url_or_path))
    else:
        scheme = url_or_path.partition("://")[0]
        try:
            engine = _create_engine_by_url(_parse(url_or_path))
        except (sa.exc.NoSuchModuleError, ImportError) as error:
            way_out = "pip install 'psycopg[binary]'" if "psycopg" in str(error) else "install its driver"
            raise UserError(
                f"{scheme}:// names no database that can be used here ({str(error).splitlines()[0]}); "
                f"give a file path or postgresql://, or {way_out}"
            ) from error
        except (sa.exc.ArgumentError, ValueError):
            # Not the error's own words, nor its chain: they may hold the password.
            raise UserError(
                f"what follows {scheme}:// is no address of a database; give a file path or "
                "postgresql://USER@HOST/NAME, special characters written like %40"
            ) from None
    if engine.dialect.name == "sqlite":
        sa.event.listen(engine, "connect", _on_sqlite_connect)
        sa.event.listen(engine, "begin", _on_sqlite_begin)
    elif engine.dialect.name == "postgresql":
        sa.event.listen(engine, "connect", _on_postgresql_connect)
        sa.event.listen(engine, "begin", _on_postgresql_begin)
    return engine


def _create_engine_by_url(url: sa.URL) -> sa.Engine:
    if url.drivername not in ("postgresql", "postgres", "postgresql+psycopg"):
        return sa.create_engine(url)
    options = {name: value for name, value in POSTGRESQL.items() if name not in url.query}
    # A connection that was lost while idle is replaced; one lost in a transaction is an error.
    return sa.create_engine(url.set(drivername="postgresql+psycopg"), connect_args=options, pool_pre_ping=True)


def _on_sqlite_connect(connection: Any, _: object) -> None:
    """Durable and strict. The journal stays SQLite's default: before 3.51.3, WAL can corrupt with several writers."""
    connection.isolation_level = None  # sqlite3 would begin transactions by itself, and only before the first write
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute(f"PRAGMA busy_timeout = {1000 * BUSY_SECONDS}")
    connection.execute("PRAGMA synchronous = EXTRA")  # also waits until the journal's removal is on the disk


def _on_sqlite_begin(connection: sa.Connection) -> None:
    # A writer that began as a reader can't wait for another writer: SQLite would refuse it at once to avoid a deadlock.
    writes = connection.get_execution_options().get("writes")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _on_postgresql_connect(connection: Any, _: object) -> None:
    connection.execute(f"SET lock_timeout = '{BUSY_SECONDS}s'")
    # A writer whose machine was switched off would hold up all the others.
    connection.execute(f"SET idle_in_transaction_session_timeout = '{2 * BUSY_SECONDS}s'")
    connection.execute(
        "SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'"
    )
    connection.commit()


def _on_postgresql_begin(connection: sa.Connection) -> None:
    # As on SQLite: readers see one state throughout, and writers take turns. So an answer that is checked against the
    # others is checked against all of them, and ids rise in the order of the commits.
    if connection.get_execution_options().get("writes"):
        connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL READ COMMITTED")
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({WRITERS})")
    else:
        connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")


def _way_out(error: sa.exc.DBAPIError) -> str | None:
    """What the user can do; None if the mistake is ours."""
    code = getattr(error.orig, "sqlstate", None)
    if code is not None:
        return next((way for start, way in _WAYS_OUT_BY_CODE.items() if code.startswith(start)), None)
    # sqlite3 reports the state of the file or the disk as these two types; their subclasses are our own mistakes.
    # Without a statement it was the connection or the commit that failed.
    of_the_database = type(error) in (sa.exc.OperationalError, sa.exc.DatabaseError)
    if not (of_the_database or error.connection_invalidated or error.statement is None):
        return None
    reason = str(error.orig)
    return next((way for part, way in _WAYS_OUT.items() if part in reason), "check the path or the server, try again")
