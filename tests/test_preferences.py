from __future__ import annotations

import itertools
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from stores import (
    Database,
    Databases,
    SqliteFile,
    assert_same_queries,
    assert_same_segment,
    make_answer,
    make_query,
    make_segment,
)

from prefrl.errors import UserError
from prefrl.preferences import Answer, Moment, PreferenceStore, Ranking, migrations, ranking_from_text, ranking_to_text
from prefrl.queries import Query
from prefrl.segments import Segment


@pytest.fixture
def store(database: Database) -> Iterator[PreferenceStore]:
    with PreferenceStore(database.location, task="hopper") as opened:
        yield opened


def assert_refused_and_untouched(database: Database, complaint: str, task: str = "hopper") -> None:
    before = database.contents()
    with pytest.raises(UserError, match=complaint) as refusal:
        PreferenceStore(database.location, task=task)
    assert "\n" not in str(refusal.value)
    assert database.location in str(refusal.value)
    assert database.contents() == before


# Answers


@pytest.mark.parametrize(
    ("choice", "mu"),
    [
        ("left", [(1.0, 0.0)]),
        ("right", [(0.0, 1.0)]),
        ("equal", [(0.5, 0.5)]),
        ("cant_tell", []),
        ("skip", []),
    ],
)
def test_each_choice_is_the_papers_mu_and_reads_back_as_itself(choice: str, mu: list[tuple[float, float]]) -> None:
    answer = make_answer(7, choice)
    assert answer.choice == choice
    assert answer.pairs() == [(0, 1, value) for value in mu]


def test_an_unknown_choice_is_refused_with_the_possible_ones() -> None:
    with pytest.raises(UserError, match="'lft' is none of left, right, equal, cant_tell, skip"):
        make_answer(7, "lft")


def test_a_ranking_of_three_implies_its_three_comparisons() -> None:
    answer = replace(make_answer(7), ranking=((2,), (0, 1)))
    assert answer.choice == "2>0=1"
    assert answer.pairs() == [(0, 1, (0.5, 0.5)), (0, 2, (0.0, 1.0)), (1, 2, (0.0, 1.0))]


@st.composite
def rankings(draw: st.DrawFn, size: int) -> Ranking | None:
    """A weak order of `size` positions, or can't tell, or skip."""
    if draw(st.integers(0, 9)) == 0:
        return draw(st.sampled_from([None, ()]))
    places = draw(st.lists(st.integers(0, size - 1), min_size=size, max_size=size))
    return tuple(tuple(i for i in range(size) if places[i] == place) for place in sorted(set(places)))


@given(st.integers(2, 6).flatmap(lambda size: rankings(size=size)))
def test_pairs_agree_with_the_ranking_read_as_text(ranking: Ranking | None) -> None:
    answer = replace(make_answer(1), ranking=ranking)
    text = ranking_to_text(ranking)
    assert ranking_from_text(text) == ranking
    if not ranking:
        assert (text, answer.pairs()) == ("cant_tell" if ranking is None else "skip", [])
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


@pytest.mark.parametrize("ranking", [((0,),), ((0,), (0,)), ((0,), (2,)), ((1,), (2,)), ((0, 1), ())])
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
    exact_states, width = draw(st.booleans()), draw(widths)
    return Segment(
        observations=array(np.float32, width),
        actions=array(np.float32, draw(widths)),
        true_rewards=array(np.float32),
        qpos=array(np.float64, draw(widths)) if exact_states else None,
        qvel=array(np.float64, draw(widths)) if exact_states else None,
        env_steps=draw(st.integers(0, 2**40)),
        next_observations=array(np.float32, width) if draw(st.booleans()) else None,
    )


@st.composite
def asked_and_answered(draw: st.DrawFn) -> list[tuple[Query, list[Answer]]]:
    cases = []
    for shown in draw(st.lists(st.lists(segments(), min_size=2, max_size=4), min_size=1, max_size=3)):
        given_answers = st.builds(
            Answer,
            query_id=st.just(0),
            ranking=rankings(size=len(shown)),
            labeller=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")),
            shown_at=st.floats(0, 1e10),
            answered_at=st.floats(0, 1e10),
            replays=st.integers(0, 100),
        )
        cases.append((Query(tuple(shown)), draw(st.lists(given_answers, max_size=3))))
    return cases


@settings(max_examples=12)
@given(cases=asked_and_answered())
def test_a_reopened_store_holds_what_was_added(databases: Databases, cases: list[tuple[Query, list[Answer]]]) -> None:
    database = databases.new()
    with PreferenceStore(database.location) as store:
        stored = store.add_queries([query for query, _ in cases])
        answers = store.add_answers(
            [
                replace(answer, query_id=query.id or 0)
                for query, (_, given_answers) in zip(stored, cases, strict=True)
                for answer in given_answers
            ]
        )
        assert_same_queries(store.queries(), stored)
    with PreferenceStore(database.location) as reopened:
        assert_same_queries(reopened.queries(), stored)
        assert reopened.answers() == answers
        answered = {answer.query_id for answer in answers}
        assert [query.id for query in reopened.unanswered()] == [q.id for q in stored if q.id not in answered]
    databases.drop(database)


def test_loaded_arrays_may_be_written_to_without_touching_the_store(store: PreferenceStore) -> None:
    (query,) = store.add_queries([make_query()])
    store.queries()[0].segments[0].observations[:] = 0.0
    assert_same_queries(store.queries(), [query])


def test_arrays_lie_in_the_file_as_plain_little_endian_bytes(store: PreferenceStore, database: Database) -> None:
    segment = make_segment()
    big_endian = replace(segment, qpos=np.asarray(segment.qpos).astype(">f8"))
    fortran = replace(segment, observations=np.asfortranarray(segment.observations))
    store.add_queries([Query((segment, big_endian)), Query((segment, fortran))])
    assert database.read("SELECT observations, observations_dtype, observations_shape FROM segments") == (
        [(segment.observations.astype("<f4").tobytes("C"), "<f4", "4,3")] * 3
    )
    assert database.read("SELECT qpos, qpos_dtype, qpos_shape FROM segments") == (
        [(np.asarray(segment.qpos).astype("<f8").tobytes(), "<f8", "4,5")] * 3
    )
    for query in store.queries():
        for loaded in query.segments:
            assert_same_segment(loaded, segment)


def test_a_segment_keeps_its_task_length_return_and_step(store: PreferenceStore, database: Database) -> None:
    segment = make_segment(3)
    store.add_queries([Query((segment, make_segment(4, exact_states=False)))])
    rows = database.read("SELECT task, mujoco_version IS NULL, length, true_return, env_steps FROM segments")
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
    sa.event.listen(
        store._database._engine, "before_cursor_execute", lambda *arguments: statements.append(arguments[2])
    )

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


def test_cant_tell_and_skip_fit_a_query_of_any_size_and_stay_two_things(store: PreferenceStore) -> None:
    (query,) = store.add_queries([make_query(size=5)])
    store.add_answers([make_answer(query.id, "cant_tell"), make_answer(query.id, "skip")])
    assert [answer.choice for answer in store.answers()] == ["cant_tell", "skip"]
    assert [answer.ranking for answer in store.answers()] == [None, ()]


@pytest.mark.parametrize(
    "wrong",
    [
        {"shown_at": np.nan},
        {"answered_at": np.inf},
        {"replays": -1},
        {"replays": 2**31},
        {"query_id": 99},
        {"labeller": "ann\0"},
        {"labeller": "ann\ud800"},
    ],
)
def test_one_impossible_answer_keeps_its_whole_call_out(store: PreferenceStore, wrong: dict[str, Any]) -> None:
    (query,) = store.add_queries([make_query()])
    with pytest.raises(UserError, match=r"query|labeller"):
        store.add_answers([make_answer(query.id), make_answer(query.id, **wrong)])
    assert store.answers() == []


@pytest.mark.parametrize(
    ("name", "array", "complaint"),
    [
        ("observations", np.array([[0.0], [np.nan], [0.0], [0.0]], np.float32), "NaN or infinity at step 1"),
        ("true_rewards", np.array([0.0, 0.0, 0.0, np.inf], np.float32), "NaN or infinity at step 3"),
        ("actions", np.zeros((3, 2), np.float32), r"shape \(3, 2\) beside 4 observations"),
        ("next_observations", np.zeros((4, 2), np.float32), r"shape \(4, 2\) beside observations of shape \(4, 3\)"),
        ("true_rewards", np.zeros((4, 1), np.float32), r"shape \(4, 1\)"),
        ("observations", np.zeros((4, 3), np.complex64), "dtype complex64"),
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


def test_a_late_reader_sees_what_a_writer_committed(store: PreferenceStore, database: Database) -> None:
    (query,) = store.add_queries([make_query()])
    with PreferenceStore(database.location) as reader:
        assert reader.task == "hopper"
        assert reader.answers() == []
        answers = store.add_answers([make_answer(query.id)])
        assert reader.answers() == answers
        assert_same_queries(reader.queries(), [query])


def test_writers_in_several_threads_lose_nothing(store: PreferenceStore, database: Database) -> None:
    (query,) = store.add_queries([make_query()])

    def label(name: str) -> None:
        with PreferenceStore(database.location) as own:
            for replays in range(10):
                own.add_answers([make_answer(query.id, labeller=name, replays=replays)])

    threads = [threading.Thread(target=label, args=(name,)) for name in ("ann", "bob", "cyd")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    found = {(answer.labeller, answer.replays) for answer in store.answers()}
    assert found == {(name, replays) for name in ("ann", "bob", "cyd") for replays in range(10)}


UNDOING_WRITER = """
import sys
import numpy as np
from prefrl.preferences import Answer, PreferenceStore
from prefrl.queries import Query
from prefrl.segments import Segment
location, labeller = sys.argv[1:]
with PreferenceStore(location, task="hopper") as store:
    for number in range(10):
        zeros = np.zeros((4, 2), np.float32)
        (query,) = store.add_queries([Query(tuple(Segment(zeros, zeros, zeros[:, 0], env_steps=i) for i in range(2)))])
        times = {"labeller": labeller, "shown_at": 0.0, "answered_at": 1.0}
        (first,) = store.add_answers([Answer.from_choice(query.id, "left", **times)])
        (second,) = store.add_answers([Answer.from_choice(query.id, "right", supersedes=first.id, **times)])
        print(first.id, second.id, flush=True)
"""

READER = """
import sys
import time
from prefrl.preferences import PreferenceStore
with PreferenceStore(sys.argv[1]) as store:
    print("ready", flush=True)
    seen, looks = [], 0
    while len(seen) < 40:
        now = store.counts()
        assert now["segments"] == 2 * now["queries"], now
        assert now["answered"] + now["unanswered"] == now["queries"], now
        answers = store.answers(include_superseded=True)
        assert answers[: len(seen)] == seen, "what came later stands after what came before"
        seen, looks = answers, looks + 1
        time.sleep(0.005)
    print(looks)
"""


def python(script: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", script, *arguments], stdout=subprocess.PIPE, text=True)


def test_two_writers_and_a_reader_in_processes_of_their_own_agree(store: PreferenceStore, database: Database) -> None:
    reader = python(READER, database.location)
    assert reader.stdout is not None
    assert reader.stdout.readline() == "ready\n"
    writers = [python(UNDOING_WRITER, database.location, name) for name in ("ann", "bob")]
    acknowledged = [line for writer in writers for line in writer.communicate(timeout=50)[0].splitlines()]
    looks, _ = reader.communicate(timeout=50)
    assert [process.returncode for process in (reader, *writers)] == [0, 0, 0]
    assert int(looks) > 1
    assert len(acknowledged) == 20
    supersedes = {answer.id: answer.supersedes for answer in store.answers(include_superseded=True)}
    pairs = [tuple(map(int, line.split())) for line in acknowledged]
    assert supersedes == {first: None for first, _ in pairs} | {second: first for first, second in pairs}


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


def test_answers_survive_kill_mid_write(database: Database) -> None:
    acknowledged: list[str] = []
    rng = np.random.default_rng(1)
    for _ in range(2):
        writer = python(WRITER, database.location)
        assert writer.stdout is not None
        with writer, writer.stdout as lines:
            acknowledged += itertools.islice(lines, 15)
            with pytest.raises(subprocess.TimeoutExpired):
                writer.wait(rng.uniform(0, 0.03))  # some instant of its work
            writer.send_signal(signal.SIGKILL)
            acknowledged += [line for line in lines if line.endswith("\n")]
        assert writer.returncode == -signal.SIGKILL
    with PreferenceStore(database.location) as store:
        kept = [f"{answer.id} {answer.query_id} {answer.choice}\n" for answer in store.answers()]
        assert [len(query.segments) for query in store.queries()] == [2] * store.counts()["queries"]
    assert len(acknowledged) >= 30
    assert set(acknowledged) <= set(kept)
    assert len(kept) <= len(acknowledged) + 2  # each kill may have cut off one acknowledgement
    if isinstance(database, SqliteFile):
        assert database.read("PRAGMA integrity_check") == [("ok",)]
        assert database.read("PRAGMA foreign_key_check") == []


# Opening


def test_meta_says_what_the_database_is(store: PreferenceStore, database: Database) -> None:
    meta = dict(database.read("SELECT key, value FROM meta"))
    assert (meta["schema_version"], meta["task"]) == ("5", "hopper")
    assert set(meta) == {"schema_version", "task", "mujoco_version", "created"}


def test_a_store_belongs_to_one_task(database: Database) -> None:
    PreferenceStore(database.location).close()
    with PreferenceStore(database.location, task="ant") as named_later:
        assert named_later.task == "ant"
    with pytest.raises(UserError, match="holds segments of task ant, not of hopper"):
        PreferenceStore(database.location, task="hopper")


def test_two_processes_that_open_a_new_database_at_once_make_one_store(database: Database) -> None:
    start = threading.Barrier(4)
    tasks = []

    def open_it() -> None:
        start.wait()
        with PreferenceStore(database.location, task="hopper") as opened:
            tasks.append(opened.task)

    threads = [threading.Thread(target=open_it) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    assert tasks == ["hopper"] * 4
    assert database.read("SELECT count(*) FROM meta") == [(4,)]


def test_a_closed_store_says_so(store: PreferenceStore) -> None:
    store.close()
    with pytest.raises(RuntimeError, match="closed"):
        store.answers()


@pytest.mark.parametrize(
    "table", ["photos (id int, pixels text)", "meta (key text, note text)", "meta (key text, value text)"]
)
def test_a_database_of_another_program_is_refused_and_untouched(database: Database, table: str) -> None:
    database.tamper(f"CREATE TABLE {table}")
    assert_refused_and_untouched(database, "no preference store")


def test_a_newer_schema_is_refused_and_untouched(database: Database) -> None:
    PreferenceStore(database.location).close()
    database.tamper("UPDATE meta SET value = '9' WHERE key = 'schema_version'")
    assert_refused_and_untouched(database, "schema version 9, newer than 5.* upgrade prefrl")


def test_a_store_that_lost_a_table_is_refused_and_untouched(database: Database) -> None:
    PreferenceStore(database.location).close()
    database.tamper("DROP TABLE taken")
    assert_refused_and_untouched(database, "damaged")


def test_a_table_of_other_columns_is_refused_in_one_line(database: Database) -> None:
    PreferenceStore(database.location).close()
    database.tamper("ALTER TABLE answers RENAME COLUMN ranking TO order_of_merit")
    with PreferenceStore(database.location) as opened, pytest.raises(UserError, match="ranking") as refusal:
        opened.answers()
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("url", ["nosuchdatabase://host/name", "nosuchdatabase+driver://host/name"])
def test_a_url_of_no_database_is_refused(url: str) -> None:
    with pytest.raises(UserError, match="give a file path or postgresql://, or install its driver"):
        PreferenceStore(url)


@pytest.mark.parametrize(
    "url",
    [
        "http:/x:/@://",
        "postgresql://ann:secret@host:port/name",
        "postgresql://ann:sec@ret@host/name",
        "postgresql://ann:sec@re/t@host/name",
    ],
)
def test_a_malformed_url_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(UserError, match="no address of a database") as refusal:
        PreferenceStore(url)
    assert "ret" not in str(refusal.value)
    assert refusal.value.__cause__ is None


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
        ("observations", b"", "hold 0 bytes"),
        ("true_rewards", np.full(4, np.nan, "<f4").tobytes(), "NaN or infinity at step 0"),
        ("qvel_shape", "5,4", "hold 128 bytes where <f8 of shape 5,4 takes 160"),
    ],
)
def test_a_tampered_array_is_refused_on_loading(
    store: PreferenceStore, database: Database, change: str, value: object, complaint: str
) -> None:
    store.add_queries([make_query()])
    database.tamper(f"UPDATE segments SET {change} = ? WHERE id = 2", value)
    with pytest.raises(UserError) as refusal:
        store.queries()
    assert complaint in str(refusal.value)
    assert "segment 2 in" in str(refusal.value)


def test_a_tampered_ranking_is_refused_on_loading(store: PreferenceStore, database: Database) -> None:
    (query,) = store.add_queries([make_query()])
    store.add_answers([make_answer(query.id)])
    database.tamper("UPDATE answers SET ranking = '__import__(1)'")
    with pytest.raises(UserError, match="none of cant_tell and skip, nor like 0>1"):
        store.answers()


def test_a_query_that_lost_a_segment_is_refused_on_loading(store: PreferenceStore, database: Database) -> None:
    store.add_queries([make_query()])
    database.tamper("DELETE FROM segments WHERE id = 2")
    with pytest.raises(UserError, match=r"query 1 in .* lost segments"):
        store.queries()


# What a run did, by its steps


def test_a_run_s_steps_are_noted_and_noted_again(store: PreferenceStore) -> None:
    store.add_queries([make_query(0), make_query(1)], Moment("a", 100))
    store.add_queries([make_query(2)], Moment("a", 50))
    store.add_answers([make_answer(2), make_answer(1), make_answer(3)])
    assert store.asked_by("a") == {3: 50, 1: 100, 2: 100}
    assert list(store.asked_by("a")) == [3, 1, 2]
    assert (store.asked_by("b"), store.taken_by("a"), store.runs()) == ({}, {}, {})
    store.record_taken([3, 1], Moment("a", 2**40))
    store.record_taken([3], Moment("a", 70))
    store.record_taken([3], Moment("b", 0))
    assert list(store.taken_by("a").items()) == [(3, 70), (1, 2**40)]
    assert [answer.id for answer in store.not_taken_by("a")] == [2]
    assert store.not_taken_by("b") == [], "it asked nothing"
    assert store.runs() == {"a": 2, "b": 1}


# Migration


@pytest.fixture
def from_version_1(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if answers had got a column in a later version, and a table had come in the one after."""

    def add_column(connection: sa.Connection) -> None:
        connection.exec_driver_sql("ALTER TABLE answers ADD COLUMN screen TEXT DEFAULT 'unknown'")

    def add_table(connection: sa.Connection) -> None:
        connection.exec_driver_sql("CREATE TABLE screens (name TEXT)")

    monkeypatch.setattr(migrations, "MIGRATIONS", (*migrations.MIGRATIONS, add_column, add_table))


@pytest.fixture
def of_version_1(database: Database) -> Database:
    """A database with a query, an answer to it, and one that took its place."""
    with PreferenceStore(database.location, task="hopper") as store:
        (query,) = store.add_queries([make_query()])
        (answer,) = store.add_answers([make_answer(query.id)])
        store.add_answers([make_answer(query.id, "right", supersedes=answer.id)])
    for table in ("viewings", "leases", "labellers", "taken", "asked"):  # came in versions 4, 3 and 2
        database.tamper(f"DROP TABLE {table}")
    for column in ("", "_dtype", "_shape"):  # in version 5
        database.tamper(f"ALTER TABLE segments DROP COLUMN next_observations{column}")
    database.tamper("UPDATE meta SET value = '1' WHERE key = 'schema_version'")
    return database


def copies(database: Database) -> list[str]:
    if isinstance(database, SqliteFile):
        return sorted(file.name for file in database.path.parent.iterdir() if file != database.path)
    tables = database.read(r"SELECT tablename FROM pg_tables WHERE tablename LIKE '%\_version\_1%' ORDER BY 1")
    return [name for (name,) in tables]


def test_an_older_database_is_brought_up_to_date_and_a_copy_kept(
    of_version_1: Database, request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture
) -> None:
    rows = of_version_1.read("SELECT * FROM answers ORDER BY id")
    shown = of_version_1.read("SELECT * FROM query_segments ORDER BY query_id, position")
    request.getfixturevalue("from_version_1")
    with PreferenceStore(of_version_1.location, task="hopper") as store:
        assert [answer.choice for answer in store.answers(include_superseded=True)] == ["left", "right"]
        as_recorded = tuple(replace(segment, next_observations=None) for segment in make_query().segments)
        assert_same_queries(store.queries(), [Query(as_recorded, id=1)])
        assert len(store.add_answers([make_answer(1)])) == 1
    assert of_version_1.read("SELECT * FROM query_segments ORDER BY query_id, position") == shown
    assert of_version_1.read("SELECT value FROM meta WHERE key = 'schema_version'") == [("7",)]
    assert of_version_1.read("SELECT screen FROM answers WHERE id = 1") == [("unknown",)]
    kept = copies(of_version_1)
    assert [record.getMessage() for record in caplog.records] == [
        f"{of_version_1.location} had schema version 1 and has 7 now; as it was it is kept in "
        + (", ".join(kept) if not isinstance(of_version_1, SqliteFile) else str(of_version_1.path.with_name(kept[0])))
    ]
    if isinstance(of_version_1, SqliteFile):
        assert kept == ["preferences.db.version-1"]
        copy = SqliteFile(of_version_1.path.with_name(kept[0]))
        assert copy.read("SELECT * FROM answers ORDER BY id") == rows
        assert copy.read("SELECT value FROM meta WHERE key = 'schema_version'") == [("1",)]
    else:
        assert len(kept) == 5
        assert of_version_1.read("SELECT * FROM answers_version_1 ORDER BY id") == rows
    PreferenceStore(of_version_1.location).close()
    assert copies(of_version_1) == kept, "migrated once"


def test_a_run_goes_on_in_a_database_from_before_runs_were_noted(of_version_1: Database) -> None:
    with PreferenceStore(of_version_1.location, task="hopper") as store:
        assert store.runs() == {}
        store.record_asked([1], Moment("f00d", 0))
        assert [answer.id for answer in store.not_taken_by("f00d")] == [1, 2]
        store.record_taken([1, 2], Moment("f00d", 0))
        assert (store.runs(), store.not_taken_by("f00d")) == ({"f00d": 2}, [])
        store.add_queries([make_query()])
        assert_same_queries(store.queries()[1:], [make_query().with_id(2)])
        with pytest.raises(sa.exc.IntegrityError):
            store.record_taken([3], Moment("f00d", 0))


def test_an_older_database_that_lost_a_table_is_refused_and_untouched(of_version_1: Database) -> None:
    of_version_1.tamper("DROP TABLE answers")
    assert_refused_and_untouched(of_version_1, "damaged")


def test_a_migration_that_fails_leaves_the_database_as_it_was(
    of_version_1: Database, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    request.getfixturevalue("from_version_1")

    def fail(connection: sa.Connection) -> None:
        connection.exec_driver_sql("DELETE FROM answers")
        raise ZeroDivisionError

    before = of_version_1.read("SELECT * FROM answers ORDER BY id")
    working = migrations.MIGRATIONS
    monkeypatch.setattr(migrations, "MIGRATIONS", (*working, fail))
    with pytest.raises(ZeroDivisionError):
        PreferenceStore(of_version_1.location)
    assert of_version_1.read("SELECT * FROM answers ORDER BY id") == before
    assert of_version_1.read("SELECT value FROM meta WHERE key = 'schema_version'") == [("1",)]
    monkeypatch.setattr(migrations, "MIGRATIONS", working)
    PreferenceStore(of_version_1.location).close()
    if isinstance(of_version_1, SqliteFile):
        assert copies(of_version_1) == ["preferences.db.version-1", "preferences.db.version-1-2"]


def test_a_store_of_another_task_is_not_migrated(of_version_1: Database, from_version_1: None) -> None:
    assert_refused_and_untouched(of_version_1, "not of ant", task="ant")


def test_a_damaged_version_is_refused_and_untouched(of_version_1: Database, from_version_1: None) -> None:
    of_version_1.tamper("UPDATE meta SET value = '0' WHERE key = 'schema_version'")
    assert_refused_and_untouched(of_version_1, "damaged")
