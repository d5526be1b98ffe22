"""A run with people's answers is repeated from its database, bit for bit, and goes on after a kill in the same way."""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from stores import make_answer
from tiny_runs import Killed, assert_same, killed_at, tiny, untimed_metrics_of

from prefrl.errors import UserError
from prefrl.loop import PreferenceLoop
from prefrl.oracles import Nobody
from prefrl.preferences import PreferenceStore
from prefrl.progress import Progress
from prefrl.run import resume, train

pytestmark = pytest.mark.usefixtures("empty_figures")


class Person:
    """Answers some of what is open after each iteration, in any order, and takes an answer back now and then."""

    def __init__(self, run_dir: Path, seed: int = 0) -> None:
        self.path, self.rng = run_dir / "preferences.db", np.random.default_rng(seed)

    def answer(self, progress: Progress) -> None:
        with PreferenceStore(self.path) as store:
            for query in self.rng.permutation(np.array(store.unanswered(), dtype=object))[: self.rng.integers(1, 6)]:
                choice = str(self.rng.choice(["left", "right", "equal", "cant_tell"], p=[0.4, 0.4, 0.1, 0.1]))
                store.add_answers([make_answer(query.id, choice)])
            standing = store.answers()
            if standing and self.rng.random() < 0.8:
                last = standing[-1]
                store.add_answers([make_answer(last.query_id, "right", supersedes=last.id)])


@pytest.fixture(scope="module")
def with_a_person(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("runs") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("prefrl.loop.make_oracle", lambda config, seed: Nobody())
        return train(tiny(path), Person(path).answer)


def replay(run: Path, run_dir: Path, **options: Any) -> Path:
    return train(tiny(run_dir, replay=str(run / "preferences.db"), **options))


def test_answers_came_at_many_steps_and_were_taken_back(with_a_person: Path) -> None:
    """So that the tests below test something."""
    with PreferenceStore(with_a_person / "preferences.db") as store:
        (run,) = store.runs()
        assert len(set(store.taken_by(run).values())) >= 5
        counts = store.counts()
    assert counts["superseded"] >= 2
    assert counts["unanswered"] >= 2
    answered = [int(float(row["labels/answered"])) for row in untimed_metrics_of(with_a_person)]
    assert answered == sorted(answered)
    assert 0 <= answered[0] < answered[-1]


def test_a_run_with_people_is_repeated_bit_for_bit(tmp_path: Path, with_a_person: Path) -> None:
    before = (with_a_person / "preferences.db").read_bytes()
    replay(with_a_person, tmp_path / "again")
    assert_same(tmp_path / "again", with_a_person)
    replay(tmp_path / "again", tmp_path / "once more")
    assert_same(tmp_path / "once more", with_a_person)
    assert (with_a_person / "preferences.db").read_bytes() == before


def test_a_killed_replay_resumes(tmp_path: Path, with_a_person: Path) -> None:
    config = tiny(tmp_path / "again", replay=str(with_a_person / "preferences.db"))
    with pytest.raises(Killed):
        train(config, killed_at(1280))
    resume(tmp_path / "again")
    assert_same(tmp_path / "again", with_a_person)


def test_a_run_with_people_that_is_killed_takes_their_answers_at_the_same_steps(
    tmp_path: Path, with_a_person: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two iterations are lost, and nobody answers while they are made again."""
    monkeypatch.setattr("prefrl.loop.make_oracle", lambda config, seed: Nobody())
    path = tmp_path / "run"
    person = Person(path)

    def answer_and_die(progress: Progress) -> None:
        killed_at(1792)(progress)
        person.answer(progress)

    with pytest.raises(Killed):
        train(tiny(path, checkpoint_minutes=0), answer_and_die)
    for checkpoint in sorted((path / "checkpoint").iterdir())[-1:]:
        (checkpoint / "values.json").write_text("torn")
    steps = []

    def answer_anew(progress: Progress) -> None:
        steps.append(progress.env_steps)
        if progress.env_steps >= 1792:
            person.answer(progress)

    resume(path, on_progress=answer_anew)
    assert steps[0] == 1536
    assert_same(path, with_a_person)


def test_a_synthetic_run_is_repeated_too_and_with_other_options_it_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    train(tiny(tmp_path / "run"))
    replay(tmp_path / "run", tmp_path / "again")
    assert_same(tmp_path / "again", tmp_path / "run")
    assert "bit" not in caplog.text
    replay(tmp_path / "run", tmp_path / "other", seed=1)
    assert "query 1 in" in caplog.text
    assert "not bit for bit" in caplog.text
    rows, others = untimed_metrics_of(tmp_path / "run"), untimed_metrics_of(tmp_path / "other")
    assert [row["labels/answered"] for row in rows] == [row["labels/answered"] for row in others]
    assert rows != others


def test_the_command_takes_the_options_of_the_run(tmp_path: Path, with_a_person: Path) -> None:
    database = str(with_a_person / "preferences.db")
    command: list[Path | str] = [Path(sys.executable).with_name("prefrl"), "train", "reacher", "--replay", database]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert_same(tmp_path / "runs" / "reacher-replay-0", with_a_person)
    written = json.loads((tmp_path / "runs" / "reacher-replay-0" / "config.json").read_text())["options"]
    assert written["replay"] == database
    assert written["threads"] == json.loads((with_a_person / "config.json").read_text())["options"]["threads"] == 1


def test_what_cannot_be_replayed_is_refused_in_one_line_and_leaves_nothing(tmp_path: Path, with_a_person: Path) -> None:
    database = str(with_a_person / "preferences.db")
    with PreferenceStore(tmp_path / "empty.db", task="reacher"):
        pass
    shutil.copy(database, tmp_path / "torn.db")
    with closing(sqlite3.connect(tmp_path / "torn.db")) as connection, connection:
        connection.execute("DELETE FROM query_segments WHERE query_id = 1")
    before = sorted(tmp_path.iterdir())
    refused: list[tuple[dict[str, Any], str]] = [
        ({"replay": str(tmp_path / "none.db")}, "none.db does not exist; give the preferences.db of a run"),
        ({"replay": str(tmp_path / "empty.db")}, "nothing to replay"),
        ({"replay": str(tmp_path / "torn.db")}, "query 1"),
        ({"replay": database, "task": "pendulum"}, "holds segments of task reacher, not of pendulum"),
        ({"replay": database, "store": "other.db"}, "--replay repeats a run .* leave out --store"),
        ({"replay": database, "feedback": "none"}, "--replay repeats a run .* leave out --feedback none"),
    ]
    for options, message in refused:
        with pytest.raises(UserError, match=message):
            train(replace(tiny(tmp_path / "run"), **options))
    assert sorted(tmp_path.iterdir()) == before


def test_the_loop_itself_replays(tmp_path: Path, with_a_person: Path) -> None:
    config = tiny(tmp_path / "unused", replay="of the store").resolved()
    with PreferenceStore(with_a_person / "preferences.db") as store:
        before = store.counts()
        loop = PreferenceLoop(config, store)
        reports = list(loop.iterations())
        loop.close()
        assert store.counts() == before
    answered = [int(float(row["labels/answered"])) for row in untimed_metrics_of(with_a_person)]
    assert [int(report.metrics["labels/answered"]) for report in reports] == answered
