"""People answer while training runs: what is waited for, what an interruption changes, and who looks after the page."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import imageio
import numpy as np
import pytest
from stores import make_query, make_segment
from tiny_runs import LABELS, Killed, answers_of, assert_same, metrics_of, tiny

from prefrl import run as run_module
from prefrl import run_in_progress
from prefrl.elicitation import Elicitation
from prefrl.errors import UserError
from prefrl.labelling.clip_maker import Shelf, clips_of
from prefrl.labelling.options import PeopleOptions
from prefrl.labelling.subject import subject_of
from prefrl.options import PPOOptions, QueryOptions
from prefrl.oracles import Oracle
from prefrl.oracles.people import People
from prefrl.oracles.synthetic import SyntheticOracle
from prefrl.preferences import PreferenceStore
from prefrl.progress import Progress
from prefrl.run import resume, train
from prefrl.stopping import Stopped

pytestmark = pytest.mark.usefixtures("empty_figures")

SYNCHRONOUS = PeopleOptions(wait_above=0)


class NoPage:
    """In place of the page's server, which other tests are about."""

    def __init__(self, run: Path, store: str, people: PeopleOptions, on_page: Callable[[str], None]) -> None:
        on_page("http://127.0.0.1:1/?token=x")

    def look_after(self) -> None:
        pass

    def say_goodbye(self) -> None:
        pass

    def close(self) -> None:
        pass


class NoRenderer:
    """So that nothing here needs OpenGL."""

    def __init__(self, *_: object) -> None:
        pass

    def close(self) -> None:
        pass


@pytest.fixture(autouse=True)
def no_page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_in_progress, "PageServer", NoPage)
    monkeypatch.setattr(run_module, "ClipRenderer", NoRenderer)
    monkeypatch.setattr("prefrl.loop.WAIT_SECONDS", 0.02)


@contextmanager
def answering(run: Path, oracle: Oracle, upto: int = LABELS) -> Iterator[None]:
    """Another thread that answers whatever is open, oldest first, until so many are answered."""
    ended = threading.Event()
    given: list[int] = []

    def answer() -> None:
        while not (run / "preferences.db").exists():
            ended.wait(0.02)
        with PreferenceStore(run / "preferences.db") as store:
            while not ended.wait(0.02):
                for query in store.unanswered()[: upto - len(given)]:
                    oracle.submit([query])
                    store.add_answers(oracle.collect())
                    given.append(query.id or 0)

    thread = threading.Thread(target=answer)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def oracle_of(config: Any) -> Oracle:
    """The one that a synthetic run of this configuration would ask."""
    made: list[Oracle] = []

    def keep(resolved: Any, seed: int) -> Oracle:
        made.append(resolved.oracle.make(resolved.environment().task, seed))
        raise Killed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("prefrl.loop.make_oracle", keep)
        with pytest.raises(Killed):
            train(config)
    return made[0]


def people(run_dir: Path, options: PeopleOptions = SYNCHRONOUS, **changes: Any) -> Any:
    return tiny(run_dir, feedback="people", people=options, **changes)


@pytest.fixture(scope="module")
def synthetic(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(tiny(tmp_path_factory.mktemp("runs") / "synthetic"))


def test_a_person_who_is_waited_for_teaches_what_an_oracle_does_that_says_the_same(
    tmp_path: Path, synthetic: Path
) -> None:
    oracle = oracle_of(tiny(tmp_path / "asked"))
    with answering(tmp_path / "run", oracle):
        train(people(tmp_path / "run"))
    assert_same(tmp_path / "run", synthetic)


def test_only_the_first_batch_is_waited_for_but_for_its_last_tenth(tmp_path: Path) -> None:
    oracle = oracle_of(tiny(tmp_path / "asked"))
    enough = LABELS // 4 - LABELS // 40
    with answering(tmp_path / "run", oracle, upto=enough):
        train(people(tmp_path / "run", PeopleOptions()))
    rows = metrics_of(tmp_path / "run")
    assert {int(float(row["labels/answered"])) for row in rows} == {enough}
    assert int(float(rows[-1]["labels/asked"])) == LABELS
    assert json.loads((tmp_path / "run" / "status.json").read_text())["state"] == "done"


def test_training_waits_above_so_many_open_questions(tmp_path: Path) -> None:
    shown: list[Progress] = []
    states: set[str] = set()

    def look(progress: Progress) -> None:
        shown.append(progress)
        states.add(json.loads((tmp_path / "run" / "status.json").read_text())["state"])

    oracle = oracle_of(tiny(tmp_path / "asked"))
    with answering(tmp_path / "run", oracle):
        train(people(tmp_path / "run", PeopleOptions(wait_above=3)), look)
    for row in metrics_of(tmp_path / "run"):
        assert int(float(row["labels/asked"])) - int(float(row["labels/answered"])) <= 3
    assert "waiting" in states
    assert any(progress.unanswered > 0 for progress in shown)


def test_a_run_that_is_stopped_or_killed_while_it_waits_goes_on(tmp_path: Path, synthetic: Path) -> None:
    config = people(tmp_path / "run")
    oracle = oracle_of(tiny(tmp_path / "asked"))
    waits = []

    def stop(progress: Progress) -> None:
        waits.append(progress.unanswered)
        if len(waits) == 3:
            raise KeyboardInterrupt

    # In the first of two rounds, of five questions each.
    with answering(tmp_path / "run", oracle, upto=4), pytest.raises(Stopped, match=r"prefrl resume .* goes on"):
        train(config, stop)
    assert len(answers_of(tmp_path / "run")) == LABELS // 8 + 4

    def kill(progress: Progress) -> None:
        if progress.unanswered and progress.env_steps > 512:  # within an iteration
            raise Killed

    with answering(tmp_path / "run", oracle, upto=LABELS // 4 - 4), pytest.raises(Killed):
        resume(tmp_path / "run", on_progress=kill)
    with answering(tmp_path / "run", oracle):
        resume(tmp_path / "run")
    assert_same(tmp_path / "run", synthetic)


def test_a_run_killed_in_a_later_round_goes_on_there(tmp_path: Path) -> None:
    """With a question of the round before still open, which is answered before the kill, and none asked twice."""
    oracle = oracle_of(tiny(tmp_path / "asked"))
    first = 20  # of 160 labels, 40 of them in two rounds

    def kill(progress: Progress) -> None:
        if progress.env_steps == 512 and progress.unanswered:
            status = json.loads((tmp_path / "run" / "status.json").read_text())
            assert (status["state"], status["env_steps"]) == ("waiting", 512)
            raise Killed

    with answering(tmp_path / "run", oracle, upto=first - 1), pytest.raises(Killed):
        train(people(tmp_path / "run", PeopleOptions(wait_above=3), labels=160), kill)
    with answering(tmp_path / "run", oracle, upto=160):
        resume(tmp_path / "run")
    last = metrics_of(tmp_path / "run")[-1]
    assert int(float(last["labels/asked"])) == 160
    assert int(float(last["labels/answered"])) >= 157


def test_a_run_with_people_is_repeated_from_its_database(tmp_path: Path) -> None:
    oracle = oracle_of(tiny(tmp_path / "asked"))
    with answering(tmp_path / "run", oracle, upto=25):
        train(people(tmp_path / "run", PeopleOptions()))
    train(people(tmp_path / "again", PeopleOptions(), replay=str(tmp_path / "run" / "preferences.db")))
    assert_same(tmp_path / "again", tmp_path / "run")


def test_the_address_is_told_before_anything_is_waited_for(tmp_path: Path) -> None:
    told: list[str] = []

    def stop(progress: Progress) -> None:
        told.append("waits")
        raise KeyboardInterrupt

    with pytest.raises(Stopped):
        train(people(tmp_path / "run"), stop, told.append)
    assert told == ["http://127.0.0.1:1/?token=x", "waits"]


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"wait_above": -1}, "can't wait above -1 unanswered queries; give 0 or more"),
        ({"port": 70000}, "port 70000 is none"),
        ({"host": ""}, "the host is empty"),
        ({"overlap": 1.5}, "overlap 1.5 is no share; give a number from 0 to 1"),
        ({"repeat": -0.1}, "repeat -0.1 is no share"),
        ({"lease_seconds": 0.0}, r"a lease of 0.0 seconds; it needs more than 0"),
        ({"repeat_after": -1}, "-1 answers between a query and its repeat"),
    ],
)
def test_impossible_options_are_refused_in_one_line(options: dict[str, Any], line: str) -> None:
    with pytest.raises(UserError, match=line):
        PeopleOptions(**options)


# Environments that are none of ours


def drawn(run_dir: Path, **changes: Any) -> Any:
    return people(run_dir, task="probes:probes/Drawn-v0", labels=16, **changes)


def test_what_has_no_states_is_filmed_and_the_clips_show_the_segments(tmp_path: Path) -> None:
    oracle = SyntheticOracle(seed=0)
    with answering(tmp_path / "run", oracle, upto=16):
        train(drawn(tmp_path / "run"))
    with PreferenceStore(tmp_path / "run" / "preferences.db") as store:
        shelf = Shelf(store, clips_of(store, tmp_path / "run" / "clips"))
        for query in store.queries():
            assert query.id is not None
            for segment, segment_id in zip(query.segments, shelf.segments_of(query.id), strict=True):
                frames = np.array(imageio.v3.imread(shelf.path(segment_id)))
                assert len(frames) == segment.length
                light = frames.mean(axis=(1, 2, 3)) > 127
                assert light.tolist() == (segment.observations[:, 0] > 0).tolist()


def test_a_run_on_pictures_is_repeated_without_them(tmp_path: Path) -> None:
    with answering(tmp_path / "run", SyntheticOracle(seed=0), upto=16):
        train(drawn(tmp_path / "run"))
    train(drawn(tmp_path / "again", replay=str(tmp_path / "run" / "preferences.db")))
    assert_same(tmp_path / "again", tmp_path / "run")
    assert not (tmp_path / "again" / "clips").exists()


def test_a_query_whose_pictures_are_lost_is_skipped_and_nobody_waits_for_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with PreferenceStore(tmp_path / "preferences.db", task="probes/Drawn-v0") as store:
        elicitation = Elicitation(store, People(Shelf(store, tmp_path / "clips")))
        elicitation.ask([replace(make_query(), segments=(make_segment(1, exact_states=False),) * 2)], 100)
        assert elicitation.unanswered() == 0
        ((_, answer),) = elicitation.collect(100)
        assert answer.choice == "skip"
    assert "query 1 has lost its pictures" in caplog.text


@pytest.mark.parametrize(
    ("task", "changes", "line"),
    [
        ("Observation", {}, "cannot be shown to people: its render"),
        ("Drawn", {"queries": QueryOptions(segment_steps=15), "horizon": 64}, "segment of 15 steps exceeds .* filmed"),
    ],
)
def test_what_cannot_be_shown_is_refused_and_leaves_nothing(
    tmp_path: Path, task: str, changes: dict[str, Any], line: str
) -> None:
    ppo = PPOOptions(num_envs=32, num_steps=8, batch_size=128)
    with pytest.raises(UserError, match=line):
        train(people(tmp_path / "run", task=f"probes:probes/{task}-v0", ppo=ppo, **changes))
    assert not (tmp_path / "run").exists()


def test_a_users_mujoco_environment_is_rendered_from_its_states(tmp_path: Path) -> None:
    with PreferenceStore(tmp_path / "preferences.db", task="Reacher-v5") as store:
        subject = subject_of(store, "Prefer the clip whose arm is calmer.")
        assert subject.instruction == "Prefer the clip whose arm is calmer."
        model, camera = subject.load()
    assert model.nq == 4
    assert camera.distance > 0
    assert subject.fps(30) == 20
