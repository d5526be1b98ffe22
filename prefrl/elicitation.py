"""Queries to the oracle and answers from it, all of them stored, also across an interruption.

Takes queries.Query; keeps them and their answers in a preferences.PreferenceStore, with the step at which each was
asked and taken; gives both to whoever fits to them.
"""

from __future__ import annotations

import itertools
import logging
from collections import deque
from collections.abc import Container, Iterable, Sequence
from uuid import uuid4

import numpy as np

from prefrl.checkpoint import State
from prefrl.errors import UserError
from prefrl.oracles import Oracle
from prefrl.preferences import Answer, Moment, PreferenceStore
from prefrl.queries import Query

log = logging.getLogger("prefrl")

Answered = list[tuple[Query, Answer]]


class Elicitation:
    """Asks an oracle and keeps what it says.

    Args:
        store: keeps queries and answers; those it has count as asked and answered, and what has no answer is asked.
            Whoever answers straight into the store, as people do, is heard where the oracle leaves it to others.
        oracle: answers, now or later.
        state: of an earlier elicitation on the same store. What was asked and taken after it, until the interruption,
            is in the store: it is asked and taken again at the same steps, and not stored twice.

    Attributes:
        run: the key of this run in the store.
        asked, answered: queries so far, and answers that were not taken back.

    Raises:
        UserError: the store has less than the state knows of.
    """

    def __init__(self, store: PreferenceStore, oracle: Oracle, state: State | None = None) -> None:
        self.store, self.oracle = store, oracle
        self.run = state["run"] if state else uuid4().hex
        self._replays = state is not None and state["replays"]
        # Answers first: what others add meanwhile is then a query too many, and no answer without one.
        answers = {answer.id: answer for answer in store.answers(include_superseded=True)}
        queries = {query.id: query for query in store.queries()}
        if state is None:
            state = {"asked": list(queries), "taken": list(answers)}  # what was there before counts as learnt from
            store.record_asked(state["asked"], Moment(self.run, 0))
            store.record_taken(state["taken"], Moment(self.run, 0))
        asked, taken = state["asked"], state["taken"]
        steps_asked, steps_taken = store.asked_by(self.run), store.taken_by(self.run)
        if not (steps_asked.keys() >= set(asked) and steps_taken.keys() >= set(taken)):
            raise UserError(
                f"{store.location} knows of {len(steps_asked)} queries and {len(steps_taken)} answers of this run, but "
                f"not of all the {len(asked)} and {len(taken)} in its checkpoint; restore the file from a copy"
            )
        self._queries = {query_id: queries[query_id] for query_id in asked}
        self._answered = {answers[answer_id].query_id for answer_id in taken}
        self._arrived = [answers[answer_id] for answer_id in taken]
        self._taken = list(taken)
        self.answered = _standing(self._arrived)
        self._queries_ahead = deque(
            (queries[query_id], env_steps)
            for query_id, env_steps in steps_asked.items()
            if query_id not in self._queries
        )
        known = set(taken)
        # Answers that wait for their query or for their step; those without a step came while nobody took them.
        self._waiting: dict[int | None, tuple[Answer, int | None]] = {
            answer_id: (answers[answer_id], env_steps)
            for answer_id, env_steps in steps_taken.items()
            if answer_id not in known
        }
        self._hear()
        self._differs = False
        answered = {answer.query_id for answer in self._arrived} | self._answered_ahead()
        self._put_to_oracle(list(self._queries.values()), answered)

    @property
    def asked(self) -> int:
        """Queries so far."""
        return len(self._queries)

    def unanswered(self) -> int:
        """How many queries nobody has answered by now; none where a run is replayed, which hears all it will hear."""
        if self._replays:
            return 0
        given = self.oracle.collect()
        if given:
            self.store.add_answers(given)
        self._hear()
        return len(self._queries.keys() - self._answered - self._answered_ahead())

    def state(self) -> State:
        """What later questions and answers depend on besides the store; ask for it when nothing is left to `take`."""
        return {
            "run": self.run,
            "asked": list(self._queries),
            "taken": list(self._taken),
            "replays": self._replays,
        }

    def ask(self, queries: Sequence[Query], env_steps: int) -> None:
        """Store queries and put them to the oracle.

        Args:
            queries: not stored yet. After an interruption those are asked that were asked before, in their place.
            env_steps: of the run, now.
        """
        now = Moment(self.run, env_steps)
        ahead = [self._queries_ahead.popleft() for _ in queries[: len(self._queries_ahead)]]
        again = [query for query, _ in ahead]
        if not all(map(_same_segments, queries, again)):
            self._tell_difference(again[0])
        self.store.record_asked([query.id for query, step in ahead if query.id and step != env_steps], now)
        new = self.store.add_queries(queries[len(again) :], now)
        self._queries |= {query.id: query for query in [*again, *new]}
        self._put_to_oracle([*again, *new], self._answered_ahead())

    def collect(self, env_steps: int) -> Answered:
        """Store what the oracle has answered by now and take it; the policy waits for no answer.

        Args:
            env_steps: of the run, now.
        """
        now = Moment(self.run, env_steps)
        given = self.oracle.collect()
        if given:
            stored = self.store.add_answers(given, taken=now)
            self._waiting |= {answer.id: (answer, env_steps) for answer in stored}
        self._hear()
        due: list[Answer] = []
        for answer_id in sorted(self._waiting, key=lambda each: each or 0):
            answer, step = self._waiting[answer_id]
            # What takes the place of another comes after it, whenever either was taken before an interruption.
            replaced = answer.supersedes in self._waiting and all(answer.supersedes != each.id for each in due)
            if answer.query_id in self._queries and (step is None or step <= env_steps) and not replaced:
                due.append(answer)
        steps = {answer.id: self._waiting.pop(answer.id)[1] for answer in due}
        new = [answer_id for answer_id, step in steps.items() if answer_id and step != env_steps]
        self.store.record_taken(new, now)
        self._arrived += due
        self._taken += [answer.id for answer in due]
        self._answered |= {answer.query_id for answer in due}
        self.answered += _standing(due)
        return self.take()

    def take(self) -> Answered:
        """What is answered and wasn't taken yet; at first, what the store had."""
        answers, self._arrived = self._arrived, []
        return [(self._queries[answer.query_id], answer) for answer in answers]

    def _put_to_oracle(self, queries: Sequence[Query], answered: Container[int | None]) -> None:
        """In their order, whichever of them are answered: so an oracle knows the same before each of them."""
        for known, group in itertools.groupby(queries, key=lambda query: query.id in answered):
            (self.oracle.recall if known else self.oracle.submit)(list(group))

    def _answered_ahead(self) -> set[int]:
        return {answer.query_id for answer, _ in self._waiting.values()}

    def _hear(self) -> None:
        if self.oracle.others_answer and not self._replays:
            for answer in self.store.not_taken_by(self.run):
                self._waiting.setdefault(answer.id, (answer, None))

    def _tell_difference(self, query: Query) -> None:
        if not self._differs:
            log.warning(
                "query %d in %s is not what is asked now, as on another machine, with other versions or options, or "
                "where an environment starts anew: the run goes on with what was asked and answered then, but not bit "
                "for bit",
                query.id,
                self.store.location,
            )
        self._differs = True


def replay_state(store: PreferenceStore) -> State:
    """The state that an elicitation on this store began with, so that another one repeats it to the end.

    It takes what was taken then, and hears nothing else. Where several runs used the store, it is that of the run that
    took the most answers.

    Raises:
        UserError: no run has taken an answer from it.
    """
    runs = store.runs()
    if not runs:
        raise UserError(
            f"{store.location} says of no answer when a run took it, so there is nothing to replay; "
            "--store trains on its answers"
        )
    run = max(runs, key=lambda each: runs[each])
    return {
        "run": run,
        "asked": [query_id for query_id, env_steps in store.asked_by(run).items() if env_steps == 0],
        "taken": [answer_id for answer_id, env_steps in store.taken_by(run).items() if env_steps == 0],
        "replays": True,
    }


def _standing(answers: Iterable[Answer]) -> int:
    """How many answers there are, one that takes the place of another counting as that one."""
    return sum(answer.supersedes is None for answer in answers)


def _same_segments(query: Query, other: Query) -> bool:
    return len(query.segments) == len(other.segments) and all(
        np.array_equal(a.observations, b.observations) and np.array_equal(a.actions, b.actions)
        for a, b in zip(query.segments, other.segments, strict=True)
    )
