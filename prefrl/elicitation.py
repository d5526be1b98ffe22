"""Queries to the oracle and answers from it, all of them stored, also across an interruption.

Takes queries.Query; keeps them and their answers in a preferences.PreferenceStore; gives both to whoever fits to them.
"""

from __future__ import annotations

import logging
from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Sequence

import numpy as np

from prefrl.checkpoint import State
from prefrl.errors import UserError
from prefrl.oracles import Oracle
from prefrl.preferences import Answer, PreferenceStore
from prefrl.queries import Query

log = logging.getLogger("prefrl")

Answered = list[tuple[Query, Answer]]


class Elicitation:
    """Asks an oracle and keeps what it says.

    Args:
        store: keeps queries and answers; those it has count as asked and answered, and what has no answer is asked.
        oracle: answers, now or later.
        state: of an earlier elicitation on the same store. What was asked and answered after it, until the
            interruption, is in the store; it is asked again, found there, and not stored twice.

    Attributes:
        asked, answered: queries so far, and answers that were not taken back.

    Raises:
        UserError: the store has less than the state knows of.
    """

    def __init__(self, store: PreferenceStore, oracle: Oracle, state: State | None = None) -> None:
        self.store, self.oracle = store, oracle
        queries, answers = store.queries(), store.answers(include_superseded=True)
        asked, taken = (state["asked"], state["taken"]) if state else (len(queries), len(answers))
        if len(queries) < asked or len(answers) < taken:
            raise UserError(
                f"{store.location} holds {len(queries)} queries and {len(answers)} answers, the checkpoint knows of "
                f"{asked} and {taken}; restore the file from a copy"
            )
        self.asked, self.answered = asked, _standing(answers[:taken])
        self._taken = taken  # answers, with those that another one supersedes
        self._queries: dict[int | None, Query] = {query.id: query for query in queries[:asked]}
        self._arrived = answers[:taken]
        self._queries_ahead = deque(queries[asked:])
        self._answers_ahead: defaultdict[int, deque[Answer]] = defaultdict(deque)  # by query
        # By query: answers that were taken from the store, and that an oracle that was asked earlier may give again.
        self._skipped = Counter(dict(state["skipped"]) if state else {})
        for answer in answers[taken:]:
            self._answers_ahead[answer.query_id].append(answer)
        if state is not None:
            oracle.load_state(state["oracle"])
        elif unanswered := _unanswered(queries, answers):
            oracle.submit(unanswered)

    def state(self) -> State:
        """What later questions and answers depend on besides the store; ask for it when nothing is left to `take`."""
        skipped = [[query_id, count] for query_id, count in self._skipped.items() if count]
        return {"asked": self.asked, "taken": self._taken, "skipped": skipped, "oracle": self.oracle.state()}

    def ask(self, queries: Sequence[Query]) -> None:
        """Store queries and put them to the oracle."""
        stored = self._store(queries)
        self.asked += len(stored)
        self._queries |= {query.id: query for query in stored}
        self.oracle.submit(stored)

    def collect(self) -> Answered:
        """Store what the oracle has answered by now and take it; the policy waits for no answer."""
        answers = [answer for answer in self.oracle.collect() if not self._was_skipped(answer)]
        if not answers:
            return self.take()
        ahead = [self._answers_ahead[answer.query_id] for answer in answers]
        again = [waiting.popleft() if waiting else None for waiting in ahead]
        new = iter(self.store.add_answers([a for a, known in zip(answers, again, strict=True) if not known]))
        self._count([known or next(new) for known in again])
        return self.take()

    def take(self) -> Answered:
        """What is answered and wasn't taken yet; at first, what the store had."""
        answers, self._arrived = self._arrived, []
        return [(self._queries[answer.query_id], answer) for answer in answers]

    def skip_ahead(self) -> None:
        """Count what was asked and answered after the state as it is, where it won't be asked again.

        What was not answered yet is put to the oracle.
        """
        self.asked += len(self._queries_ahead)
        self._queries |= {query.id: query for query in self._queries_ahead}
        ahead = [answer for answers in self._answers_ahead.values() for answer in answers]
        if unanswered := _unanswered(self._queries_ahead, ahead):
            self.oracle.submit(unanswered)
        self._queries_ahead.clear()
        self._count(sorted(ahead, key=lambda answer: answer.id or 0))
        self._skipped.update(answer.query_id for answer in ahead)
        self._answers_ahead.clear()

    def _was_skipped(self, answer: Answer) -> bool:
        """Whether an oracle that was asked before the state answers what was skipped."""
        left = self._skipped[answer.query_id]
        self._skipped[answer.query_id] = max(0, left - 1)
        return left > 0

    def _count(self, answers: Sequence[Answer]) -> None:
        self._arrived.extend(answers)
        self._taken += len(answers)
        self.answered += _standing(answers)

    def _store(self, queries: Sequence[Query]) -> list[Query]:
        """With their ids; what the store holds from before an interruption is not stored again."""
        again = list(self._queries_ahead)[: len(queries)]
        if not all(map(_same_segments, queries, again)):
            log.warning(
                "query %d in %s is not what is asked again after the checkpoint, as on another machine or with other "
                "versions: the run goes on with what was asked and answered then, but not bit for bit",
                again[0].id,
                self.store.location,
            )
            self.skip_ahead()
            return []
        for _ in again:
            self._queries_ahead.popleft()
        return again + self.store.add_queries(queries[len(again) :])


def _standing(answers: Iterable[Answer]) -> int:
    """How many answers there are, one that takes the place of another counting as that one."""
    return sum(answer.supersedes is None for answer in answers)


def _unanswered(queries: Iterable[Query], answers: Iterable[Answer]) -> list[Query]:
    answered = {answer.query_id for answer in answers}
    return [query for query in queries if query.id not in answered]


def _same_segments(query: Query, other: Query) -> bool:
    return all(
        np.array_equal(a.observations, b.observations) and np.array_equal(a.actions, b.actions)
        for a, b in zip(query.segments, other.segments, strict=True)
    )
