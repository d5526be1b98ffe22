from __future__ import annotations

import itertools
import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from prefrl.errors import UserError
from prefrl.preferences import Answer, PreferenceStore, Ranking, ranking_from_text, ranking_to_text
from prefrl.preferences.schema import TABLES
from prefrl.queries import Query
from prefrl.segments import Segment

ARRAYS = ("observations", "actions", "true_rewards", "qpos", "qvel")


def make_segment(seed: int = 0, length: int = 4, exact_states: bool = True) -> Segment:
    rng = np.random.default_rng(seed)
    return Segment(
        observations=rng.normal(size=(length, 3)).astype(np.float32),
        actions=rng.normal(size=(length, 2)).astype(np.float32),
        true_rewards=rng.normal(size=length).astype(np.float32),
        qpos=rng.normal(size=(length, 5)) if exact_states else None,
        qvel=rng.normal(size=(length, 4)) if exact_states else None,
        env_steps=100 * seed,
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


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "preferences.db"


@pytest.fixture
def store(path: Path) -> Iterator[PreferenceStore]:
    with PreferenceStore(path, task="hopper") as opened:
        yield opened


def read(path: Path, statement: str) -> list[tuple[Any, ...]]:
    """What another program than ours finds in the file."""
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(statement).fetchall()


def tamper(path: Path, statement: str, *parameters: object) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(statement, parameters)


# Answers


@pytest.mark.parametrize(
    ("choice", "mu"), [("left", [(1.0, 0.0)]), ("right", [(0.0, 1.0)]), ("equal", [(0.5, 0.5)]), ("cant_tell", [])]
)
def test_each_choice_is_the_papers_mu_and_reads_back_as_itself(choice: str, mu: list[tuple[float, float]]) -> None:
    answer = make_answer(7, choice)
    assert answer.choice == choice
    assert answer.pairs() == [(0, 1, value) for value in mu]


def test_an_unknown_choice_is_refused_with_the_possible_ones() -> None:
    with pytest.raises(UserError, match="'lft' is none of left, right, equal, cant_tell"):
        make_answer(7, "lft")


def test_a_ranking_of_three_implies_its_three_comparisons() -> None:
    answer = replace(make_answer(7), ranking=((2,), (0, 1)))
    assert answer.choice == "2>0=1"
    assert answer.pairs() == [(0, 1, (0.5, 0.5)), (0, 2, (0.0, 1.0)), (1, 2, (0.0, 1.0))]


@st.composite
def rankings(draw: st.DrawFn, size: int) -> Ranking | None:
    """A weak order of `size` positions, or can't tell."""
    if draw(st.integers(0, 9)) == 0:
        return None
    places = draw(st.lists(st.integers(0, size - 1), min_size=size, max_size=size))
    return tuple(tuple(i for i in range(size) if places[i] == place) for place in sorted(set(places)))


@given(st.integers(2, 6).flatmap(lambda size: rankings(size=size)))
def test_pairs_agree_with_the_ranking_read_as_text(ranking: Ranking | None) -> None:
    answer = replace(make_answer(1), ranking=ranking)
    text = ranking_to_text(ranking)
    assert ranking_from_text(text) == ranking
    if ranking is None:
        assert (text, answer.pairs()) == ("cant_tell", [])
        return
    positions = [int(position) for position in text.replace("=", ">").split(">")]
    expected = []
    for i, j in itertools.combinations(range(len(positions)), 2):
        first, last = sorted((text.index(str(i)), text.index(str(j))))
        if ">" not in text[first:last]:
            expected.append((i, j, (0.5, 0.5)))
        else:
            i_is_better = positions.index(i) < positions.index(j)
            expected.append((i, j, (1.0, 0.0) if i_is_better else (0.0, 1.0)))
    assert answer.pairs() == expected


@pytest.mark.parametrize("ranking", [((0,),), ((0,), (0,)), ((0,), (2,)), ((1,), (2,)), ((0, 1), ()), ()])
def test_a_ranking_that_is_no_order_of_its_positions_is_refused(ranking: Ranking) -> None:
    with pytest.raises(UserError, match="must name each position"):
        replace(make_answer(1), ranking=ranking)


def test_ties_compare_equal_in_whatever_order_they_are_given() -> None:
    assert replace(make_answer(1), ranking=((1, 0),)) == make_answer(1, "equal")


@pytest.mark.parametrize("text", ["", "0", "0>", "0>0", "0 > 1", "left", "0>1>3", "0>1;", "9" * 5000])
def test_a_ranking_text_that_we_did_not_write_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="ranking"):
        Answer(1, ranking_from_text(text), "ann", 0.0, 0.0)


# What goes in comes out


@st.composite
def segments(draw: st.DrawFn) -> Segment:
    length = draw(st.integers(1, 6))

    def array(dtype: type[np.floating[Any]], *shape: int) -> Any:
        return draw(hnp.arrays(dtype, (length, *shape), elements={"allow_nan": False, "allow_infinity": False}))

    widths = st.integers(1, 4)
    exact_states = draw(st.booleans())
    return Segment(
        observations=array(np.float32, draw(widths)),
        actions=array(np.float32, draw(widths)),
        true_rewards=array(np.float32),
        qpos=array(np.float64, draw(widths)) if exact_states else None,
        qvel=array(np.float64, draw(widths)) if exact_states else None,
        env_steps=draw(st.integers(0, 2**40)),
    )


@st.composite
def asked_and_answered(draw: st.DrawFn) -> list[tuple[Query, list[Answer]]]:
    cases = []
    for shown in draw(st.lists(st.lists(segments(), min_size=2, max_size=4), min_size=1, max_size=3)):
        given_answers = st.builds(
            Answer,
            query_id=st.just(0),
            ranking=rankings(size=len(shown)),
            labeller=st.text(st.characters(exclude_categories=["Cs"])),
            shown_at=st.floats(0, 1e10),
            answered_at=st.floats(0, 1e10),
            replays=st.integers(0, 100),
        )
        cases.append((Query(tuple(shown)), draw(st.lists(given_answers, max_size=3))))
    return cases


@settings(max_examples=12)
@given(asked_and_answered())
def test_a_reopened_store_holds_what_was_added(cases: list[tuple[Query, list[Answer]]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "preferences.db"
        with PreferenceStore(path) as store:
            stored = store.add_queries([query for query, _ in cases])
            answers = store.add_answers(
                [
                    replace(answer, query_id=query.id or 0)
                    for query, (_, given_answers) in zip(stored, cases, strict=True)
                    for answer in given_answers
                ]
            )
            assert_same_queries(store.queries(), stored)
        with PreferenceStore(path) as reopened:
            assert_same_queries(reopened.queries(), stored)
            assert reopened.answers() == answers
            answered = {answer.query_id for answer in answers}
            assert [query.id for query in reopened.unanswered()] == [q.id for q in stored if q.id not in answered]


def test_loaded_arrays_may_be_written_to_without_touching_the_store(store: PreferenceStore) -> None:
    (query,) = store.add_queries([make_query()])
    store.queries()[0].segments[0].observations[:] = 0.0
    assert_same_queries(store.queries(), [query])


def test_arrays_lie_in_the_file_as_plain_little_endian_bytes(store: PreferenceStore, path: Path) -> None:
    segment = make_segment()
    big_endian = replace(segment, qpos=np.asarray(segment.qpos).astype(">f8"))
    fortran = replace(segment, observations=np.asfortranarray(segment.observations))
    store.add_queries([Query((segment, big_endian)), Query((segment, fortran))])
    assert read(path, "SELECT observations, observations_dtype, observations_shape FROM segments") == (
        [(segment.observations.astype("<f4").tobytes("C"), "<f4", "4,3")] * 3
    )
    assert read(path, "SELECT qpos, qpos_dtype, qpos_shape FROM segments") == (
        [(np.asarray(segment.qpos).astype("<f8").tobytes(), "<f8", "4,5")] * 3
    )
    for query in store.queries():
        for loaded in query.segments:
            assert_same_segment(loaded, segment)


def test_a_segment_keeps_its_task_length_return_and_step(store: PreferenceStore, path: Path) -> None:
    segment = make_segment(3)
    store.add_queries([Query((segment, make_segment(4, exact_states=False)))])
    rows = read(path, "SELECT task, mujoco_version IS NULL, length, true_return, env_steps FROM segments")
    assert rows[0] == ("hopper", 0, 4, pytest.approx(sum(float(r) for r in segment.true_rewards)), 300)
    assert rows[1][1] == 1  # no exact states, so no simulator to name


def test_a_segment_shown_twice_is_stored_once(store: PreferenceStore) -> None:
    shared, other, third = make_segment(0), make_segment(1), make_segment(2)
    store.add_queries([Query((shared, other)), Query((other, shared))])
    store.add_queries([Query((shared, third))])
    (loaded, _, _) = store.queries()
    store.add_queries([Query((loaded.segments[0], third))])  # a segment read back is still the same one
    assert store.counts()["segments"] == 3
    queries = store.queries()
    assert queries[0].segments[0] is queries[1].segments[1]
    assert_same_segment(queries[1].segments[0], other)
    assert_same_segment(queries[3].segments[0], shared)


def test_numpy_scalars_are_stored_as_numbers(store: PreferenceStore) -> None:
    np_int: Any = np.int64
    segment = replace(make_segment(), env_steps=np_int(12345))
    (query,) = store.add_queries([Query((segment, segment))])
    answer = make_answer(query.id, query_id=np_int(1), replays=np_int(2), shown_at=np.float64(1.5))
    (stored,) = store.add_answers([answer])
    assert store.queries()[0].segments[0].env_steps == 12345
    assert store.answers() == [stored]


def test_queries_come_in_the_order_asked_for_over_several_batches(store: PreferenceStore) -> None:
    left, right = make_segment(0), make_segment(1)
    stored = store.add_queries([Query((left, right))] * 1100)
    ids = [query.id for query in stored if query.id is not None]
    assert ids == list(range(1, 1101))
    backwards = ids[::-1]
    assert [query.id for query in store.queries(backwards)] == backwards
    assert [query.id for query in store.queries([5, 5, 3])] == [5, 5, 3]
    assert store.queries([]) == []
    with pytest.raises(UserError, match="query 1101 is not in"):
        store.queries([1, 1101])


def test_reading_takes_as_many_statements_for_many_queries_as_for_one(store: PreferenceStore) -> None:
    statements: list[str] = []
    sa.event.listen(store._engine, "before_cursor_execute", lambda *arguments: statements.append(arguments[2]))

    def statements_to_read() -> int:
        statements.clear()
        store.queries()
        store.answers()
        return len(statements)

    store.add_answers([make_answer(query.id) for query in store.add_queries([make_query()])])
    for_one = statements_to_read()
    store.add_answers([make_answer(query.id) for query in store.add_queries([make_query(i) for i in range(50)])])
    assert statements_to_read() == for_one


def test_adding_nothing_adds_nothing(store: PreferenceStore) -> None:
    assert store.add_queries([]) == []
    assert store.add_answers([]) == []
    assert not any(store.counts().values())


# Append-only


def test_undo_supersedes_and_keeps_what_was_said(store: PreferenceStore) -> None:
    (query,) = store.add_queries([make_query()])
    (first,) = store.add_answers([make_answer(query.id, "left")])
    (second,) = store.add_answers([make_answer(query.id, "right", supersedes=first.id)])
    (third,) = store.add_answers([make_answer(query.id, "cant_tell", supersedes=second.id)])
    assert store.answers() == [third]
    assert store.answers(include_superseded=True) == [first, second, third]
    assert store.unanswered() == []
    expected = {"segments": 2, "queries": 1, "answered": 1, "unanswered": 0, "answers": 1, "superseded": 2}
    assert store.counts() == expected


def test_two_labellers_may_answer_the_same_query(store: PreferenceStore) -> None:
    (query,) = store.add_queries([make_query()])
    store.add_answers([make_answer(query.id, "left"), make_answer(query.id, "right", labeller="bob")])
    assert [(answer.labeller, answer.choice) for answer in store.answers()] == [("ann", "left"), ("bob", "right")]


def test_an_answer_is_superseded_once_at_most(store: PreferenceStore) -> None:
    (query,) = store.add_queries([make_query()])
    (first,) = store.add_answers([make_answer(query.id)])
    undo = make_answer(query.id, "right", supersedes=first.id)
    with pytest.raises(UserError, match="superseded by another of the same call"):
        store.add_answers([undo, undo])
    (second,) = store.add_answers([undo])
    with pytest.raises(UserError, match=f"answer {first.id} is superseded by answer {second.id} already"):
        store.add_answers([undo])
    assert store.answers() == [second]


def test_an_answer_supersedes_one_of_its_own_query_only(store: PreferenceStore) -> None:
    one, other = store.add_queries([make_query(0), make_query(1)])
    (answer,) = store.add_answers([make_answer(one.id)])
    for wrong in (answer.id, 99):
        with pytest.raises(UserError, match=f"answer {wrong} is no answer to query {other.id}"):
            store.add_answers([make_answer(other.id, supersedes=wrong)])


def test_what_is_stored_already_is_not_added_again(store: PreferenceStore) -> None:
    stored = store.add_queries([make_query()])
    answers = store.add_answers([make_answer(stored[0].id)])
    with pytest.raises(UserError, match="query 1 is stored already"):
        store.add_queries(stored)
    with pytest.raises(UserError, match="answer 1 is stored already"):
        store.add_answers(answers)


@pytest.mark.parametrize(
    ("size", "ranking"), [(2, ((0,), (1,), (2,))), (3, ((0,), (1,))), (3, ((0, 1),)), (2, ((2,), (0, 1)))]
)
def test_a_ranking_must_fit_its_query(store: PreferenceStore, size: int, ranking: Ranking) -> None:
    (query,) = store.add_queries([make_query(size=size)])
    with pytest.raises(UserError, match=rf"does not fit query 1, which has {size} segments.* 0 to {size - 1} once"):
        store.add_answers([make_answer(query.id, ranking=ranking)])
    assert store.answers() == []


def test_cant_tell_fits_a_query_of_any_size(store: PreferenceStore) -> None:
    (query,) = store.add_queries([make_query(size=5)])
    store.add_answers([make_answer(query.id, "cant_tell")])
    assert [answer.ranking for answer in store.answers()] == [None]


@pytest.mark.parametrize("wrong", [{"shown_at": np.nan}, {"answered_at": np.inf}, {"replays": -1}, {"query_id": 99}])
def test_one_impossible_answer_keeps_its_whole_call_out(store: PreferenceStore, wrong: dict[str, Any]) -> None:
    (query,) = store.add_queries([make_query()])
    with pytest.raises(UserError, match="query"):
        store.add_answers([make_answer(query.id), make_answer(query.id, **wrong)])
    assert store.answers() == []


@pytest.mark.parametrize(
    ("name", "array", "complaint"),
    [
        ("observations", np.array([[0.0], [np.nan], [0.0], [0.0]], np.float32), "NaN or infinity at step 1"),
        ("true_rewards", np.array([0.0, 0.0, 0.0, np.inf], np.float32), "NaN or infinity at step 3"),
        ("actions", np.zeros((3, 2), np.float32), r"shape \(3, 2\) beside 4 observations"),
        ("true_rewards", np.zeros((4, 1), np.float32), r"shape \(4, 1\)"),
        ("observations", np.zeros((4, 2), np.complex64), "dtype complex64"),
    ],
)
def test_one_unusable_segment_keeps_its_whole_call_out(
    store: PreferenceStore, name: str, array: np.ndarray, complaint: str
) -> None:
    change: dict[str, Any] = {name: array}
    bad = replace(make_segment(), **change)
    good = make_query()
    with pytest.raises(UserError, match=complaint):
        store.add_queries([good, Query((good.segments[0], bad))])
    assert not any(store.counts().values())
    store.add_queries([good])  # its segments are not taken for stored
    assert store.counts()["segments"] == 2


# Several at once


def test_a_late_reader_sees_what_a_writer_committed(store: PreferenceStore, path: Path) -> None:
    (query,) = store.add_queries([make_query()])
    with PreferenceStore(path) as reader:
        assert reader.task == "hopper"
        assert reader.answers() == []
        answers = store.add_answers([make_answer(query.id)])
        assert reader.answers() == answers
        assert_same_queries(reader.queries(), [query])


def test_writers_in_several_threads_lose_nothing(store: PreferenceStore, path: Path) -> None:
    (query,) = store.add_queries([make_query()])

    def label(name: str) -> None:
        with PreferenceStore(path) as own:
            for replays in range(10):
                own.add_answers([make_answer(query.id, labeller=name, replays=replays)])

    threads = [threading.Thread(target=label, args=(name,)) for name in ("ann", "bob", "cyd")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    found = {(answer.labeller, answer.replays) for answer in store.answers()}
    assert found == {(name, replays) for name in ("ann", "bob", "cyd") for replays in range(10)}


WRITER = """
import sys
import numpy as np
from prefrl.preferences import Answer, PreferenceStore
from prefrl.queries import Query
from prefrl.segments import Segment
rng = np.random.default_rng(0)
store = PreferenceStore(sys.argv[1])
while True:
    draw = lambda *shape: rng.normal(size=shape).astype(np.float32)
    shown = tuple(Segment(draw(60, 11), draw(60, 3), draw(60)) for _ in range(2))
    (query,) = store.add_queries([Query(shown)])
    choice = str(rng.choice(["left", "right", "equal", "cant_tell"]))
    new = Answer.from_choice(query.id, choice, labeller="ann", shown_at=0.0, answered_at=1.0)
    (answer,) = store.add_answers([new])
    print(answer.id, answer.query_id, answer.choice, flush=True)
"""


def test_answers_survive_kill_mid_write(path: Path) -> None:
    acknowledged: list[str] = []
    rng = np.random.default_rng(1)
    for _ in range(2):
        writer = subprocess.Popen([sys.executable, "-c", WRITER, os.fspath(path)], stdout=subprocess.PIPE, text=True)
        assert writer.stdout is not None
        with writer, writer.stdout as lines:
            acknowledged += itertools.islice(lines, 15)
            with pytest.raises(subprocess.TimeoutExpired):
                writer.wait(rng.uniform(0, 0.03))  # some instant of its work
            writer.send_signal(signal.SIGKILL)
            acknowledged += [line for line in lines if line.endswith("\n")]
        assert writer.returncode == -signal.SIGKILL
    with PreferenceStore(path) as store:
        kept = [f"{answer.id} {answer.query_id} {answer.choice}\n" for answer in store.answers()]
        assert [len(query.segments) for query in store.queries()] == [2] * store.counts()["queries"]
    assert len(acknowledged) >= 30
    assert set(acknowledged) <= set(kept)
    assert len(kept) <= len(acknowledged) + 2  # each kill may have cut off one acknowledgement
    assert read(path, "PRAGMA integrity_check") == [("ok",)]
    assert read(path, "PRAGMA foreign_key_check") == []


def test_sqlite_waits_for_the_disk_and_uses_no_wal(store: PreferenceStore) -> None:
    with store._engine.connect() as connection:
        pragmas = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar_one()
            for name in ("journal_mode", "synchronous", "foreign_keys")
        }
    assert pragmas == {"journal_mode": "delete", "synchronous": 2, "foreign_keys": 1}


def test_the_schema_is_one_that_postgresql_takes() -> None:
    from sqlalchemy.dialects import postgresql

    dialect = postgresql.dialect()
    created = [str(sa.schema.CreateTable(table).compile(dialect=dialect)) for table in TABLES.sorted_tables]
    assert any("observations BYTEA NOT NULL" in statement for statement in created)
    assert any("true_return DOUBLE PRECISION NOT NULL" in statement for statement in created)


# Opening


def test_a_url_opens_the_same_file_as_its_path(store: PreferenceStore, path: Path) -> None:
    (query,) = store.add_queries([make_query()])
    with PreferenceStore(f"sqlite:///{path}") as by_url:
        assert_same_queries(by_url.queries(), [query])


def test_meta_says_what_the_file_is(store: PreferenceStore, path: Path) -> None:
    meta = dict(read(path, "SELECT key, value FROM meta"))
    assert (meta["schema_version"], meta["task"]) == ("1", "hopper")
    assert set(meta) == {"schema_version", "task", "mujoco_version", "created"}


def test_a_store_belongs_to_one_task(path: Path) -> None:
    PreferenceStore(path).close()
    with PreferenceStore(path, task="ant") as named_later:
        assert named_later.task == "ant"
    with pytest.raises(UserError, match="holds segments of task ant, not of hopper"):
        PreferenceStore(path, task="hopper")


def test_a_closed_store_says_so(store: PreferenceStore) -> None:
    store.close()
    with pytest.raises(RuntimeError, match="closed"):
        store.answers()


def assert_refused_and_untouched(path: Path, complaint: str) -> None:
    before = path.read_bytes()
    with pytest.raises(UserError, match=complaint) as refusal:
        PreferenceStore(path, task="hopper")
    assert "\n" not in str(refusal.value)
    assert os.fspath(path) in str(refusal.value)
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == [path.name]


@pytest.mark.parametrize("content", [b"not a database", b"x" * 100_000, b"\x89PNG\r\n\x1a\n" + bytes(5000)])
def test_a_file_that_is_no_database_is_refused_and_untouched(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    assert_refused_and_untouched(path, "not a database")


@pytest.mark.parametrize("table", ["photos (id, pixels)", "meta (key, note)", "meta (key, value)"])
def test_a_database_of_another_program_is_refused_and_untouched(path: Path, table: str) -> None:
    tamper(path, f"CREATE TABLE {table}")
    assert_refused_and_untouched(path, "no preference store")


def test_a_newer_schema_is_refused_and_untouched(path: Path) -> None:
    PreferenceStore(path).close()
    tamper(path, "UPDATE meta SET value = '9' WHERE key = 'schema_version'")
    assert_refused_and_untouched(path, "schema version 9, newer than 1.* upgrade prefrl")


def test_a_store_that_lost_a_table_is_refused_and_untouched(path: Path) -> None:
    PreferenceStore(path).close()
    tamper(path, "DROP TABLE answers")
    assert_refused_and_untouched(path, "damaged")


@pytest.mark.parametrize("kept", [100, 5000])
def test_a_truncated_store_is_refused_in_one_line(path: Path, kept: int) -> None:
    with PreferenceStore(path) as store:
        store.add_queries([make_query()])
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(UserError, match="the file is damaged"):
        PreferenceStore(path)


def test_a_missing_folder_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="unable to open database file; give a path"):
        PreferenceStore(tmp_path / "missing" / "preferences.db")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("url", ["nosuchdatabase://host/name", "http:/x:/@://"])
def test_a_url_of_no_database_is_refused(url: str) -> None:
    with pytest.raises(UserError, match="give a file path, or install the driver"):
        PreferenceStore(url)


@pytest.mark.parametrize(
    ("change", "value", "complaint"),
    [
        ("observations_dtype", "|O", "observations have dtype '|O'; only plain numbers are loaded"),
        ("observations_dtype", "f4,O", "only plain numbers"),
        ("observations_dtype", "<f8", "hold 48 bytes where <f8 of shape 4,3 takes 96"),
        ("observations_dtype", "<M8[s]", "only plain numbers"),
        ("observations_shape", "4,4", "hold 48 bytes where <f4 of shape 4,4 takes 64"),
        ("observations_shape", "-4,-3", "not like 60,11"),
        ("observations_shape", "12", "2-dimensional arrays"),
        ("observations_shape", b"4,3", "not like 60,11"),
        ("observations", b"", "hold 0 bytes"),
        ("observations", "x" * 48, "the file is damaged"),
        ("true_rewards", np.full(4, np.nan, "<f4").tobytes(), "NaN or infinity at step 0"),
        ("qvel_shape", "5,4", "hold 128 bytes where <f8 of shape 5,4 takes 160"),
    ],
)
def test_a_tampered_array_is_refused_on_loading(
    store: PreferenceStore, path: Path, change: str, value: object, complaint: str
) -> None:
    store.add_queries([make_query()])
    tamper(path, f"UPDATE segments SET {change} = ? WHERE id = 2", value)
    with pytest.raises(UserError) as refusal:
        store.queries()
    assert complaint in str(refusal.value)
    assert "segment 2 in" in str(refusal.value)


def test_a_tampered_ranking_is_refused_on_loading(store: PreferenceStore, path: Path) -> None:
    (query,) = store.add_queries([make_query()])
    store.add_answers([make_answer(query.id)])
    tamper(path, "UPDATE answers SET ranking = '__import__(1)'")
    with pytest.raises(UserError, match="neither cant_tell nor like 0>1"):
        store.answers()


def test_a_query_that_lost_a_segment_is_refused_on_loading(store: PreferenceStore, path: Path) -> None:
    store.add_queries([make_query()])
    tamper(path, "DELETE FROM segments WHERE id = 2")
    with pytest.raises(UserError, match=r"query 1 in .* lost segments"):
        store.queries()
