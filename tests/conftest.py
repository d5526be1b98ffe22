"""What holds for every test."""

import os
from collections.abc import Iterator
from contextlib import ExitStack
from importlib.util import find_spec

# Read by PyTorch when it is imported, and by the commands that tests start: the tests share the cores among processes.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import hypothesis
import pytest
import torch
from matplotlib.figure import Figure
from postgresql import ServerUnavailable, TemporaryServer, server_programs
from stores import Database, Databases, PostgresqlDatabases, SqliteFiles

from prefrl import plots  # and prefrl chooses MuJoCo's off-screen renderer before any test imports mujoco

# No deadline: the first example of a property pays for compilation and imports.
hypothesis.settings.register_profile("prefrl", deadline=None)
hypothesis.settings.load_profile("prefrl")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what needs PostgreSQL where it is missing; by a marker, so that it is one line per file."""
    if find_spec("psycopg") is None:
        missing = "psycopg is not installed; make setup brings it"
    elif server_programs() is None:
        missing = "no PostgreSQL server is installed; make test says how to change that"
    else:
        return
    for item in items:
        parameters = getattr(getattr(item, "callspec", None), "params", {})
        if "postgresql" in (*getattr(item, "fixturenames", ()), parameters.get("databases")):
            item.add_marker(pytest.mark.skip(reason=missing))


@pytest.fixture(autouse=True)
def torch_threads() -> Iterator[None]:
    """bench() sets them for the whole process."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def empty_figures() -> Iterator[None]:
    """Reports are written with nothing in their figures, which take longer than all else in a tiny run."""
    with pytest.MonkeyPatch.context() as patch:
        for name in plots.__all__:
            if getattr(getattr(plots, name), "__annotations__", {}).get("return") == "Figure":
                patch.setattr(plots, name, lambda *_, **__: Figure())
        yield


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgresqlDatabases]:
    """On a server of this process's own, started when the first test wants it."""
    with ExitStack() as stack:
        try:
            server = stack.enter_context(TemporaryServer(durable=False))
        except ServerUnavailable as error:
            pytest.skip(str(error))
        yield PostgresqlDatabases(server)


@pytest.fixture(scope="session", params=["sqlite", "postgresql"])
def databases(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Databases:
    """Both kinds in turn, for tests that need several."""
    if request.param == "sqlite":
        return SqliteFiles(tmp_path_factory.mktemp("stores"))
    found: PostgresqlDatabases = request.getfixturevalue("postgresql")
    return found


@pytest.fixture
def database(databases: Databases) -> Iterator[Database]:
    """A new database, of both kinds in turn."""
    made = databases.new()
    yield made
    databases.drop(made)
