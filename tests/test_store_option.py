"""--store: a run's answers in a file or on a server of the user's choice, and a run whose store fails it."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from stores import Databases, PostgresqlDatabases, mounted
from tiny_runs import LABELS, assert_same, tiny

from prefrl.dataset import export_dataset
from prefrl.errors import UserError
from prefrl.preferences import PreferenceStore
from prefrl.progress import Progress
from prefrl.report import build_report
from prefrl.run import resume, train

pytestmark = pytest.mark.usefixtures("empty_figures")

AT = 1024  # steps after which the store fails


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(tiny(tmp_path_factory.mktemp("runs") / "run"))


def answers_in(location: str | Path) -> list[tuple[Any, ...]]:
    with PreferenceStore(location, task="reacher") as store:
        return [(answer.id, answer.query_id, answer.ranking) for answer in store.answers()]


def assert_same_run(run: Path, store: str | Path, other: Path) -> None:
    """The same metrics and weights, and the same answers in the store as in the other run's file."""
    assert not (run / "preferences.db").exists()
    assert answers_in(store) == answers_in(other / "preferences.db")
    assert_same(run, other)


def once_at(env_steps: int, act: Callable[[], object]) -> Callable[[Progress], None]:
    """Does something when a run has come that far."""
    done: list[int] = []

    def on_progress(progress: Progress) -> None:
        if progress.env_steps >= env_steps and not done:
            done.append(progress.env_steps)
            act()

    return on_progress


def options_of(run: Path) -> dict[str, Any]:
    options: dict[str, Any] = json.loads((run / "config.json").read_text())["options"]
    return options


# What is asked for


def test_a_path_is_kept_whole_so_that_resuming_elsewhere_finds_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert tiny(tmp_path / "run", store="answers.db").resolved().store == str(tmp_path / "answers.db")
    url = "postgresql://ann@host/name"
    assert tiny(tmp_path / "run", store=url).resolved().store == url
    assert tiny(tmp_path / "run").resolved().store is None


@pytest.mark.parametrize(
    ("options", "complaint"),
    [({"store": ""}, "name of the store is empty"), ({"store": "a.db", "feedback": "none"}, "leave out --store")],
)
def test_a_store_that_makes_no_sense_is_refused(tmp_path: Path, options: dict[str, Any], complaint: str) -> None:
    with pytest.raises(UserError, match=complaint):
        tiny(tmp_path / "run", **options).resolved()


@pytest.mark.parametrize("store", ["missing/answers.db", "postgresql://ann:sesame@127.0.0.1:1/name"])
def test_a_store_that_cannot_be_opened_is_refused_before_there_is_a_run(tmp_path: Path, store: str) -> None:
    pytest.importorskip("psycopg", reason="psycopg is not installed")
    location = store if "://" in store else str(tmp_path / store)
    with pytest.raises(UserError, match=r"unable to open|Connection refused"):
        train(tiny(tmp_path / "run", store=location))
    assert not (tmp_path / "run").exists()


# Runs


def test_a_run_is_the_same_wherever_its_answers_are(tmp_path: Path, databases: Databases, uninterrupted: Path) -> None:
    database = databases.new()
    run = train(tiny(tmp_path / "run", store=database.location))
    assert_same_run(run, database.location, uninterrupted)
    assert options_of(run)["store"] == database.location
    report = (run / "report.html").read_text()
    assert "<tr><th>reward</th>" in report, "the report found the answers"
    databases.drop(database)


def test_a_report_says_that_the_named_store_is_missing(tmp_path: Path, uninterrupted: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(uninterrupted, run)
    config = json.loads((run / "config.json").read_text())
    config["options"]["store"] = str(tmp_path / "answers.db")
    (run / "config.json").write_text(json.dumps(config))
    assert "a file outside its folder" in build_report(run).read_text()
    assert "answers.db is missing" in build_report(run, trust=True).read_text()
    assert not (tmp_path / "answers.db").exists()


def test_a_run_whose_disk_fills_up_stops_at_its_checkpoint_and_goes_on_with_more_room(
    tmp_path: Path, uninterrupted: Path
) -> None:
    small = tmp_path / "small"
    small.mkdir()
    with mounted(small, "-t", "tmpfs", "-o", "size=1m", "tmpfs"):
        config = tiny(tmp_path / "run", store=str(small / "answers.db"))

        def fill() -> None:
            with (small / "ballast").open("wb", buffering=0) as file:
                file.write(bytes(2_000_000))  # as many as fit

        with pytest.raises(UserError, match="disk is full; free some disk space and try again"):
            train(config, once_at(AT, fill))
        status = json.loads((tmp_path / "run" / "status.json").read_text())
        assert status["state"] == "failed"
        assert "disk is full" in status["message"]
        acknowledged = answers_in(small / "answers.db")
        assert acknowledged
        (small / "ballast").unlink()
        run = resume(tmp_path / "run", trust=True)
        assert answers_in(small / "answers.db")[: len(acknowledged)] == acknowledged
        assert_same_run(run, small / "answers.db", uninterrupted)


def test_a_run_whose_own_disk_fills_up_says_so_in_one_line_and_goes_on(tmp_path: Path, uninterrupted: Path) -> None:
    """Metrics, checkpoints and answers lie on it, all of them."""
    small = tmp_path / "small"
    small.mkdir()
    with mounted(small, "-t", "tmpfs", "-o", "size=8m", "tmpfs"):

        def fill() -> None:
            with (small / "ballast").open("wb", buffering=0) as file:
                while file.write(bytes(4096)) == 4096:
                    pass

        def fill_until_refused() -> None:
            with contextlib.suppress(OSError):
                fill()

        with pytest.raises(UserError, match=r"(make room|free some disk space)") as refusal:
            train(tiny(small / "run"), once_at(AT, fill_until_refused))
        assert "\n" not in str(refusal.value)
        assert str(small / "run") in str(refusal.value)
        (small / "ballast").unlink()
        assert_same(resume(small / "run"), uninterrupted)


def test_a_run_whose_server_stops_goes_on_when_it_is_back_with_the_password_from_the_environment(
    tmp_path: Path, postgresql: PostgresqlDatabases, uninterrupted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PGPASSWORD", raising=False)
    database = postgresql.new()
    with postgresql.user_with_password(database, "open sesame") as location:
        config = tiny(tmp_path / "run", store=location.replace("@", ":open%20sesame@"))
        try:
            with pytest.raises(UserError, match="try again") as refusal:
                train(config, once_at(AT, postgresql.server.stop))
        finally:
            postgresql.server.start()
        run = tmp_path / "run"
        assert options_of(run)["store"].startswith("postgresql://ann@")
        with pytest.raises(UserError, match=r"wants to connect to postgresql://ann@.*give --trust"):
            resume(run)
        with pytest.raises(UserError, match="environment variable PGPASSWORD"):
            resume(run, trust=True)
        monkeypatch.setenv("PGPASSWORD", "open sesame")
        resume(run, trust=True)
        with pytest.raises(UserError, match=r"wants to connect to postgresql://ann@.*give --trust"):
            export_dataset(run, tmp_path / "out")
        assert export_dataset(run, tmp_path / "out", trust=True).counts()["answers"] == LABELS
        assert_same_run(run, location, uninterrupted)
        assert "sesame" not in str(refusal.value)
        left = [file for file in run.rglob("*") if file.is_file() and b"sesame" in file.read_bytes()]
        assert left == [], "the password is nowhere in the run"
    postgresql.drop(database)
