"""What is asked and answered is stored once, also across an interruption."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from stores import make_answer, make_query

from prefrl.elicitation import Answered, Elicitation
from prefrl.errors import UserError
from prefrl.preferences import Answer, PreferenceStore
from prefrl.queries import Query


class Labellers:
    """Two people, who both answer every query, one question late."""

    def __init__(self) -> None:
        self.waiting: list[int] = []
        self.answers: list[Answer] = []

    def submit(self, queries: Sequence[Query]) -> None:
        for query_id in self.waiting:
            self.answers += [make_answer(query_id, labeller=name) for name in ("ann", "bob")]
        self.waiting = [query.id for query in queries if query.id is not None]

    def collect(self) -> list[Answer]:
        answers, self.answers = self.answers, []
        return answers

    def state(self) -> dict[str, Any]:
        return {"waiting": list(self.waiting)}

    def load_state(self, state: dict[str, Any]) -> None:
        self.waiting = list(state["waiting"])


def ask(elicitation: Elicitation, seed: int) -> Answered:
    """One more query; whatever was answered by then."""
    elicitation.ask([make_query(seed)])
    return elicitation.collect()


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
    store.add_queries([make_query(2)])
    store.add_answers([make_answer(2, labeller="ann")])
    resumed = Elicitation(store, Labellers(), state)
    resumed.take()
    resumed.ask([make_query(2), make_query(3)])
    assert told(resumed.collect()) == [(3, 2, "ann"), (4, 2, "bob")]
    assert [query.id for query in store.queries()] == [1, 2, 3, 4]


def test_other_questions_than_before_the_interruption_are_told_and_nothing_is_lost(
    store: PreferenceStore, caplog: pytest.LogCaptureFixture
) -> None:
    state, later = interrupted_after(store, state_at=2, asked=4)
    resumed = Elicitation(store, Labellers(), state)
    resumed.take()
    with caplog.at_level(logging.WARNING, "prefrl"):
        answered = ask(resumed, 99)
    assert "query 3 in" in caplog.text
    assert "not bit for bit" in caplog.text
    before = [line for each in later for line in told(each)]
    assert told(answered) == [*before, (7, 4, "ann"), (8, 4, "bob")], "query 4 had no answer yet, so it is asked again"
    assert (resumed.asked, resumed.answered) == (4, 8)
    ask(resumed, 5)
    assert told(ask(resumed, 6)) == [(9, 5, "ann"), (10, 5, "bob")], "new again"


def test_an_oracle_s_late_answers_count_once_after_a_second_interruption_too(store: PreferenceStore) -> None:
    state, _ = interrupted_after(store, state_at=2, asked=3)  # query 2 is answered, but not yet in the state
    resumed = Elicitation(store, Labellers(), state)
    resumed.take()
    resumed.skip_ahead()
    resumed.take()
    again = Elicitation(store, Labellers(), resumed.state())
    again.take()
    assert told(ask(again, 7)) == [(5, 3, "ann"), (6, 3, "bob")]
    assert store.counts()["answers"] == 6


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
        pytest.raises(UserError, match=r"0 queries and 0 answers, the checkpoint knows of 3 and 4; restore"),
    ):
        Elicitation(other, Labellers(), state)
