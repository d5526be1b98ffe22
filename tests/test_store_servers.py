"""What can befall a store on a PostgreSQL server: nobody there, no right, no password, a connection that breaks."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import sqlalchemy as sa
from stores import PostgresqlDatabase, PostgresqlDatabases, make_answer, make_query

from prefrl.errors import UserError
from prefrl.preferences import PreferenceStore, connection, without_password

PASSWORD = "open sesame: 100 % @ once/"
ENCODED = "open%20sesame%3A%20100%20%25%20%40%20once%2F"


@pytest.fixture
def database(postgresql: PostgresqlDatabases) -> Iterator[PostgresqlDatabase]:
    made = postgresql.new()
    yield made
    postgresql.drop(made)


@pytest.fixture
def ann(postgresql: PostgresqlDatabases, database: PostgresqlDatabase) -> Iterator[str]:
    """URL of the database for a user who needs a password, which is not in it."""
    with postgresql.user_with_password(database, PASSWORD) as location:
        yield location


def line_of(error: UserError) -> str:
    line = str(error)
    assert "\n" not in line
    assert line.startswith("postgresql://")
    assert "sesame" not in line
    return line


@contextmanager
def lost_in_a_transaction(store: PreferenceStore, server: PostgresqlDatabase) -> Iterator[None]:
    """The server ends the store's connection just before it inserts something."""

    def end(connection: sa.Connection, cursor: object, statement: str, *_: object) -> None:
        if statement.startswith("INSERT"):
            server.read(
                "SELECT pg_terminate_backend(pid, 1000) FROM pg_stat_activity "
                "WHERE application_name = 'prefrl' AND datname = current_database()"
            )

    engine = store._database._engine
    sa.event.listen(engine, "before_cursor_execute", end)
    yield
    sa.event.remove(engine, "before_cursor_execute", end)


def test_a_server_that_is_not_there_is_one_line() -> None:
    pytest.importorskip("psycopg", reason="psycopg is not installed")
    with pytest.raises(UserError, match="Connection refused; check the path or the server") as refusal:
        PreferenceStore("postgresql://ann:sesame@127.0.0.1:1/preferences")
    assert line_of(refusal.value).startswith("postgresql://ann@127.0.0.1:1/preferences: ")


def test_a_server_that_stopped_is_one_line_and_its_return_goes_on(postgresql: PostgresqlDatabases) -> None:
    database = postgresql.new()
    with PreferenceStore(database.location.replace("postgres@", "postgres:sesame@")) as store:
        (query,) = store.add_queries([make_query()])
        answers = store.add_answers([make_answer(query.id)])
        postgresql.server.stop()
        try:
            for use in (store.answers, lambda: store.add_answers([make_answer(query.id)])):
                with pytest.raises(UserError) as refusal:
                    use()
                assert "try again" in line_of(refusal.value)
        finally:
            postgresql.server.start()
        answers += store.add_answers([make_answer(query.id)])
        assert store.answers() == answers
    postgresql.drop(database)


def test_an_idle_connection_that_broke_is_made_again(database: PostgresqlDatabase) -> None:
    with PreferenceStore(database.location) as store:
        (query,) = store.add_queries([make_query()])
        database.read("SELECT pg_terminate_backend(pid, 1000) FROM pg_stat_activity WHERE application_name = 'prefrl'")
        assert len(store.add_answers([make_answer(query.id)])) == 1


def test_a_connection_lost_in_a_transaction_is_one_line_and_loses_nothing(database: PostgresqlDatabase) -> None:
    with PreferenceStore(database.location) as store:
        (query,) = store.add_queries([make_query()])
        answers = store.add_answers([make_answer(query.id)])
        with lost_in_a_transaction(store, database), pytest.raises(UserError) as refusal:
            store.add_answers([make_answer(query.id), make_answer(query.id)])
        assert "check that the server runs, then try again" in line_of(refusal.value)
        assert store.answers() == answers
        assert len(store.add_answers([make_answer(query.id)])) == 1


def test_a_missing_database_is_one_line(postgresql: PostgresqlDatabases) -> None:
    with pytest.raises(UserError, match='database "nowhere" does not exist; create it on the server') as refusal:
        PreferenceStore(postgresql.server.url("nowhere"))
    line_of(refusal.value)


def test_an_unknown_option_of_a_url_is_one_line(database: PostgresqlDatabase) -> None:
    with pytest.raises(UserError, match="colour") as refusal:
        PreferenceStore(database.location + "&colour=red")
    line_of(refusal.value)


def test_a_password_is_taken_from_the_url_or_the_environment(
    ann: str, database: PostgresqlDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PGPASSWORD", raising=False)
    with PreferenceStore(ann.replace("ann@", f"ann:{ENCODED}@")) as store:
        assert store.answers() == []
    with pytest.raises(UserError, match="PGPASSWORD") as refusal:
        PreferenceStore(ann)
    line_of(refusal.value)
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    with PreferenceStore(ann) as store:
        assert store.answers() == []
    with pytest.raises(UserError, match=r'failed for user "ann"; .* PGPASSWORD') as refusal:
        PreferenceStore(ann.replace("ann@", "ann:sesame@"))
    line_of(refusal.value)


def test_a_missing_right_is_one_line(ann: str, database: PostgresqlDatabase, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    database.tamper("REVOKE CREATE ON SCHEMA public FROM ann")
    with pytest.raises(UserError, match="permission denied for schema public; grant the user this right") as refusal:
        PreferenceStore(ann)
    line_of(refusal.value)
    with PreferenceStore(database.location, task="hopper") as store:
        (query,) = store.add_queries([make_query()])
    database.tamper("GRANT SELECT ON ALL TABLES IN SCHEMA public TO ann")
    with PreferenceStore(ann, task="hopper") as reader:
        assert len(reader.queries()) == 1
        with pytest.raises(UserError, match="permission denied for table answers") as refusal:
            reader.add_answers([make_answer(query.id)])
    line_of(refusal.value)


def test_a_server_that_takes_no_changes_is_read_but_not_written(database: PostgresqlDatabase) -> None:
    with PreferenceStore(database.location, task="hopper") as store:
        (query,) = store.add_queries([make_query()])
    database.tamper(f"ALTER DATABASE {sa.make_url(database.location).database} SET default_transaction_read_only = on")
    with PreferenceStore(database.location, task="hopper") as store:
        assert len(store.queries()) == 1
        with pytest.raises(UserError, match="read-only transaction; the server takes no changes") as refusal:
            store.add_answers([make_answer(query.id)])
    line_of(refusal.value)


def test_a_writer_that_hangs_is_waited_for_and_then_named(
    database: PostgresqlDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "BUSY_SECONDS", 1)
    with PreferenceStore(database.location) as hanging, PreferenceStore(database.location) as store:
        (query,) = store.add_queries([make_query()])
        with hanging._database.transaction(writes=True):
            began = time.monotonic()
            with pytest.raises(UserError, match="another process has been writing to it for too long") as refusal:
                store.add_answers([make_answer(query.id)])
            assert time.monotonic() - began >= 1
            assert store.answers() == [], "readers do not wait"
        line_of(refusal.value)
        assert len(store.add_answers([make_answer(query.id)])) == 1


def test_commits_wait_for_the_disk_even_where_the_server_would_not(database: PostgresqlDatabase) -> None:
    name = sa.make_url(database.location).database
    for said, done in (("off", "on"), ("remote_apply", "remote_apply")):
        database.tamper(f"ALTER DATABASE {name} SET synchronous_commit = {said}")
        with PreferenceStore(database.location) as store, store._database.transaction() as open_one:
            assert open_one.exec_driver_sql("SHOW synchronous_commit").scalar_one() == done


def test_a_database_of_another_encoding_is_one_line(postgresql: PostgresqlDatabases) -> None:
    database = postgresql.new("ENCODING 'LATIN1' TEMPLATE template0")
    with PreferenceStore(database.location) as store:
        (query,) = store.add_queries([make_query()])
        (answer,) = store.add_answers([make_answer(query.id, labeller="André")])
        with pytest.raises(UserError, match=r"LATIN1.*; give the URL of a database whose encoding is UTF-8") as refusal:
            store.add_answers([make_answer(query.id, labeller="Ольга")])
        assert store.answers() == [answer]
    line_of(refusal.value)
    postgresql.drop(database)


def test_two_undos_at_once_leave_one_current_answer(database: PostgresqlDatabase) -> None:
    with PreferenceStore(database.location) as store:
        (query,) = store.add_queries([make_query()])
        (first,) = store.add_answers([make_answer(query.id)])
        refusals: list[UserError] = []

        def undo() -> None:
            with PreferenceStore(database.location) as own:
                start.wait()
                try:
                    own.add_answers([make_answer(query.id, "right", supersedes=first.id)])
                except UserError as error:
                    refusals.append(error)

        start = threading.Barrier(4)
        threads = [threading.Thread(target=undo) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(timeout=30)
        assert ["superseded by answer" in str(error) for error in refusals] == [True] * 3
        assert len(store.answers()) == 1


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("runs/preferences.db", "runs/preferences.db"),
        ("sqlite:///runs/preferences.db", "sqlite:///runs/preferences.db"),
        ("postgresql://ann@host:5433/name?host=/tmp", "postgresql://ann@host:5433/name?host=/tmp"),
        ("postgresql://ann:sesame@host:5433/name", "postgresql://ann@host:5433/name"),
        ("postgresql://ann:sesame@/name?sslmode=require", "postgresql://ann@/name?sslmode=require"),
        (
            "postgresql://host/name?user=ann&password=sesame&sslpassword=sesame&sslmode=require",
            "postgresql://host/name?sslmode=require&user=ann",
        ),
        ("postgresql://ann:sesame@host:port/name", "postgresql://"),
        ("postgresql://ann:open@sesame@host/name", "postgresql://"),
        ("sqlite:////home/ann@host/answers.db", "sqlite:////home/ann@host/answers.db"),
    ],
)
def test_a_location_is_told_without_its_password(given: str, kept: str) -> None:
    assert without_password(given) == kept
