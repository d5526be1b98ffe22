"""What is asked and answered is stored once, also across an interruption."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from stores import make_answer, make_query

from prefrl.elicitation import Answered, Elicitation, replay_state
from prefrl.errors import UserError
from prefrl.oracles import Nobody
from prefrl.oracles.synthetic import SyntheticOracle
from prefrl.preferences import Answer, Moment, PreferenceStore
from prefrl.queries import Query


class Labellers:
    """Two people, who both answer every query, one question late."""

    others_answer = True

    def __init__(self) -> None:
        self.waiting: list[int] = []
        self.answers: list[Answer] = []

    def submit(self, queries: Sequence[Query]) -> None:
        for query_id in self.waiting:
            self.answers += [make_answer(query_id, labeller=name) for name in ("ann", "bob")]
        self.waiting = [query.id for query in queries if query.id is not None]

    def recall(self, queries: Sequence[Query]) -> None:
        pass

    def collect(self) -> list[Answer]:
        answers, self.answers = self.answers, []
        return answers


def ask(elicitation: Elicitation, seed: int) -> Answered:
    """One more query, after 100 steps more; whatever was answered by then."""
    elicitation.ask([make_query(seed)], 100 * (seed + 1))
    return elicitation.collect(100 * (seed + 1))


def told(answered: Answered) -> list[tuple[int | None, int | None, str]]:
    assert all(query.id == answer.query_id for query, answer in answered)
    return [(answer.id, answer.query_id, answer.labeller) for _, answer in answered]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[PreferenceStore]:
    with PreferenceStore(tmp_path / "preferences.db") as opened:
        yield opened


def test_answers_come_with_their_queries_in_the_order_in_which_they_came(store: PreferenceStore) -> None:
    elicitation = Elicitation(store, Labellers())
    assert told(ask(elicitation, 0)) == []
    assert told(ask(elicitation, 1)) == [(1, 1, "ann"), (2, 1, "bob")]
    assert told(ask(elicitation, 2)) == [(3, 2, "ann"), (4, 2, "bob")]
    assert (elicitation.asked, elicitation.answered) == (3, 4)
    assert elicitation.take() == []


def test_what_a_store_holds_already_counts(store: PreferenceStore) -> None:
    before = Elicitation(store, Labellers())
    for seed in range(3):
        ask(before, seed)
    after = Elicitation(store, Labellers())
    assert (after.asked, after.answered) == (3, 4)
    assert [answer for _, answer in after.take()] == store.answers()
    assert after.take() == []


def interrupted_after(store: PreferenceStore, state_at: int, asked: int) -> tuple[dict[str, Any], list[Answered]]:
    """A state, and everything that came after it up to an interruption."""
    elicitation = Elicitation(store, Labellers())
    for seed in range(state_at):
        ask(elicitation, seed)
    return elicitation.state(), [ask(elicitation, seed) for seed in range(state_at, asked)]


def test_what_is_asked_again_after_an_interruption_is_found_and_not_stored_twice(store: PreferenceStore) -> None:
    state, later = interrupted_after(store, state_at=2, asked=5)
    stored = store.counts()
    resumed = Elicitation(store, Labellers(), state)
    assert (resumed.asked, resumed.answered) == (2, 2)
    assert told(resumed.take()) == [(1, 1, "ann"), (2, 1, "bob")]
    assert [told(ask(resumed, seed)) for seed in range(2, 5)] == [told(each) for each in later]
    assert store.counts() == stored
    assert told(ask(resumed, 5)) == [(9, 5, "ann"), (10, 5, "bob")], "new again"
    assert (resumed.asked, resumed.answered) == (6, 10)


def test_half_of_a_step_s_queries_and_answers_may_be_stored(store: PreferenceStore) -> None:
    state, _ = interrupted_after(store, state_at=2, asked=2)
    store.add_queries([make_query(2)], Moment(state["run"], 300))
    store.add_answers([make_answer(2, labeller="ann")])
    resumed = Elicitation(store, Labellers(), state)
    resumed.take()
    resumed.ask([make_query(2), make_query(3)], 300)
    assert told(resumed.collect(300)) == [(3, 2, "ann")]
    assert [query.id for query in store.queries()] == [1, 2, 3, 4]
    assert told(ask(resumed, 4)) == [(4, 3, "ann"), (5, 3, "bob"), (6, 4, "ann"), (7, 4, "bob")]


def test_other_questions_than_before_the_interruption_are_told_and_nothing_is_lost(
    store: PreferenceStore, caplog: pytest.LogCaptureFixture
) -> None:
    state, later = interrupted_after(store, state_at=2, asked=4)
    resumed = Elicitation(store, Labellers(), state)
    resumed.take()
    with caplog.at_level(logging.WARNING, "prefrl"):
        again = [ask(resumed, 99), ask(resumed, 100)]
    assert caplog.text.count("query 3 in") == caplog.text.count("not bit for bit") == 1, "told once"
    assert [told(each) for each in again] == [[line for each in later for line in told(each)], []]
    assert told(ask(resumed, 101)) == [(7, 4, "ann"), (8, 4, "bob")], "query 4 had no answer, so it was asked again"
    assert (resumed.asked, resumed.answered) == (5, 8)
    assert store.asked_by(resumed.run) == {1: 100, 2: 200, 3: 10_000, 4: 10_100, 5: 10_200}, "as it is in this life"


def test_what_is_asked_later_than_before_the_interruption_resumes_once_more(store: PreferenceStore) -> None:
    """As where the run is told to go on further, so that the labels spread over more steps."""
    state, _ = interrupted_after(store, state_at=2, asked=4)
    resumed = Elicitation(store, Labellers(), state)
    resumed.take()
    assert told(resumed.collect(900)) == [(3, 2, "ann"), (4, 2, "bob")], "the others wait for their query"
    again = Elicitation(store, Labellers(), resumed.state())
    assert (again.asked, again.answered) == (2, 4)
    again.take()
    again.ask([make_query(2)], 1000)
    assert told(again.collect(1000)) == [(5, 3, "ann"), (6, 3, "bob")]


# People answer straight into the store.


def test_people_are_heard_whenever_they_answer(store: PreferenceStore) -> None:
    elicitation = Elicitation(store, Nobody())
    assert ask(elicitation, 0) == ask(elicitation, 1) == []
    store.add_answers([make_answer(2), make_answer(1)])
    assert told(elicitation.collect(300)) == [(1, 2, "ann"), (2, 1, "ann")]
    assert elicitation.collect(400) == []
    store.add_answers([make_answer(2, "right", supersedes=1)])
    assert told(elicitation.collect(500)) == [(3, 2, "ann")]
    assert elicitation.answered == 2
    assert store.taken_by(elicitation.run) == {1: 300, 2: 300, 3: 500}


def test_people_may_answer_while_nobody_trains(store: PreferenceStore) -> None:
    """What was taken after the checkpoint comes at its step again, what nobody has taken as soon as it was asked."""
    first = Elicitation(store, Nobody())
    ask(first, 0)
    state = first.state()
    ask(first, 1)
    store.add_answers([make_answer(1)])
    assert told(first.collect(250)) == [(1, 1, "ann")]
    store.add_answers([make_answer(1, labeller="bob"), make_answer(2, labeller="bob")])
    resumed = Elicitation(store, Nobody(), state)
    assert resumed.take() == []
    assert told(resumed.collect(150)) == [(2, 1, "bob")]
    assert told(ask(resumed, 1)) == [(3, 2, "bob")]
    assert told(resumed.collect(250)) == [(1, 1, "ann")]


def test_an_answer_that_was_taken_back_is_forgotten_whatever_was_taken_when(store: PreferenceStore) -> None:
    """The first one was taken late, the run killed before its checkpoint, and the answer then taken back."""
    first = Elicitation(store, Nobody())
    ask(first, 0)
    state = first.state()
    store.add_answers([make_answer(1)])
    assert told(first.collect(300)) == [(1, 1, "ann")]
    store.add_answers([make_answer(1, "right", supersedes=1)])
    resumed = Elicitation(store, Nobody(), state)
    assert resumed.collect(200) == []
    assert told(resumed.collect(300)) == [(1, 1, "ann"), (2, 1, "ann")]
    repeated = Elicitation(store, Nobody(), replay_state(store))
    ask(repeated, 0)
    assert told(repeated.collect(300)) == [(1, 1, "ann"), (2, 1, "ann")]


def test_a_scripted_oracle_s_run_hears_no_other(store: PreferenceStore) -> None:
    """So that its questions may be answered by others as well, to compare them."""
    oracle = SyntheticOracle(seed=0)
    first = Elicitation(store, oracle)
    assert len(ask(first, 0)) == 1
    state = first.state()
    (query,) = store.add_queries([make_query(1)], Moment(first.run, 200))  # killed before it was answered
    store.add_answers([make_answer(1, labeller="other"), make_answer(query.id, labeller="other")])
    assert first.collect(150) == []
    resumed = Elicitation(store, oracle, state)
    resumed.take()
    ((_, answer),) = ask(resumed, 1)
    assert (answer.query_id, answer.labeller) == (query.id, "synthetic")


def test_an_oracle_sees_queries_in_the_order_in_which_they_were_asked(store: PreferenceStore) -> None:
    """Whichever of them are answered: at the start on a store that others used, and when that is resumed."""

    class Watching(Nobody):
        def __init__(self) -> None:
            self.seen: list[int | None] = []

        def submit(self, queries: Sequence[Query]) -> None:
            self.seen += [query.id for query in queries]

        recall = submit

    store.add_queries([make_query(seed) for seed in range(6)])
    store.add_answers([make_answer(query_id) for query_id in (5, 2)])
    oracle = Watching()
    state = Elicitation(store, oracle).state()
    assert oracle.seen == [1, 2, 3, 4, 5, 6]
    store.add_answers([make_answer(4)])
    again = Watching()
    Elicitation(store, again, state)
    assert again.seen == [1, 2, 3, 4, 5, 6]


def test_runs_on_one_store_take_only_answers_to_what_they_asked(store: PreferenceStore) -> None:
    one, other = Elicitation(store, Nobody()), Elicitation(store, Nobody())
    one.ask([make_query(0)], 100)
    other.ask([make_query(1)], 200)
    store.add_answers([make_answer(1), make_answer(2)])
    assert told(one.collect(300)) == [(1, 1, "ann")]
    assert told(other.collect(300)) == [(2, 2, "ann")]
    assert store.runs() == {one.run: 1, other.run: 1}


def test_a_run_is_repeated_from_its_store(store: PreferenceStore) -> None:
    store.add_queries([make_query(7)])
    store.add_answers([make_answer(1)])
    Elicitation(store, Labellers())  # another run, which took less
    elicitation = Elicitation(store, Labellers())
    before = [elicitation.take(), *(ask(elicitation, seed) for seed in range(4))]
    repeated = Elicitation(store, Nobody(), replay_state(store))
    again = [repeated.take(), *(ask(repeated, seed) for seed in range(4))]
    assert [told(each) for each in again] == [told(each) for each in before]
    assert sum(map(len, again)) == 7


def test_a_store_that_no_run_took_from_cannot_be_repeated(store: PreferenceStore) -> None:
    store.add_queries([make_query(0)])
    store.add_answers([make_answer(1)])
    with pytest.raises(UserError, match=r"says of no answer when a run took it.*--store trains on its answers"):
        replay_state(store)


# What a store held before.


def test_a_store_that_began_with_an_undo_resumes_on_the_same_answers(store: PreferenceStore) -> None:
    store.add_queries([make_query(0)])
    store.add_answers([make_answer(1, "left")])
    store.add_answers([make_answer(1, "right", supersedes=1)])
    first = Elicitation(store, Labellers())
    assert (first.asked, first.answered) == (1, 1)
    before = [*first.take(), *ask(first, 1), *ask(first, 2)]
    resumed = Elicitation(store, Labellers(), first.state())
    assert told(resumed.take()) == told(before)
    assert resumed.answered == first.answered == 3


def test_a_query_without_an_answer_is_put_to_the_new_oracle(store: PreferenceStore) -> None:
    store.add_queries([make_query(0), make_query(1)])
    store.add_answers([make_answer(1)])
    elicitation = Elicitation(store, Labellers())
    assert (elicitation.asked, elicitation.answered) == (2, 1)
    assert told([*elicitation.take(), *ask(elicitation, 2)]) == [(1, 1, "ann"), (2, 2, "ann"), (3, 2, "bob")]


def test_a_store_that_lost_something_is_refused(store: PreferenceStore, tmp_path: Path) -> None:
    state, _ = interrupted_after(store, state_at=3, asked=3)
    with (
        PreferenceStore(tmp_path / "other.db") as other,
        pytest.raises(UserError, match=r"knows of 0 queries and 0 answers of this run.* the 3 and 4 .*; restore"),
    ):
        Elicitation(other, Labellers(), state)
