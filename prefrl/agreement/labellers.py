"""Read a preference store: its pairs with their scores, and what each labeller said of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

from prefrl.agreement.scores import Scores, ShownSegments
from prefrl.errors import UserError
from prefrl.preferences import Answer, PreferenceStore, schema
from prefrl.segments import Segment
from prefrl.tasks import TASKS

CHOICES = ("left", "equal", "right", "cant_tell", "skip")  # in this order the first three are an ordinal scale
LEFT, EQUAL, RIGHT, CANT_TELL, SKIP = range(len(CHOICES))


@dataclass(frozen=True, eq=False)
class Labeller:
    """What one labeller said, in the order in which the questions came; superseded answers are left out."""

    name: str
    is_oracle: bool  # none of the answers came through the labelling page
    pairs: NDArray[np.int64]  # (N,), index of the pair within Survey.scores
    choices: NDArray[np.int8]  # (N,), index within CHOICES; left is the query's first segment
    swapped: NDArray[np.bool_]  # (N,), that segment was shown on the right
    seconds: NDArray[np.float64]  # (N,), from seeing to answering; NaN of an oracle
    earlier: NDArray[np.int64]  # (N,), index of the labeller's first answer to the same query; -1 where this is it

    def __len__(self) -> int:
        return len(self.pairs)

    @property
    def first(self) -> NDArray[np.bool_]:
        """(N,), not a repeat."""
        return self.earlier < 0

    @property
    def decided(self) -> NDArray[np.bool_]:
        """(N,), left or right."""
        return (self.choices == LEFT) | (self.choices == RIGHT)


@dataclass(frozen=True, eq=False)
class Survey:
    """One set of queries and whoever answered them."""

    task: str | None
    shown: ShownSegments
    true_return: Scores
    judge: Scores | None  # where the task has one, and the segments have the states that it looks at
    labellers: tuple[Labeller, ...]  # who gave most answers first
    longer_queries: int  # of three segments or more, left out
    answers_to_longer: int

    @property
    def scores(self) -> tuple[Scores, ...]:
        """The true return, and the judge's where there is one."""
        return (self.true_return,) if self.judge is None else (self.true_return, self.judge)

    @property
    def people(self) -> tuple[Labeller, ...]:
        """Labellers who are no oracles."""
        return tuple(each for each in self.labellers if not each.is_oracle)

    def ratings(self, labellers: Sequence[Labeller]) -> NDArray[np.float64]:
        """(labellers, Q) first answers as indices within CHOICES; NaN for none, can't tell and skip."""
        found = np.full((len(labellers), len(self.true_return.differences)), np.nan)
        for row, labeller in zip(found, labellers, strict=True):
            told = labeller.first & (labeller.choices <= RIGHT)
            row[labeller.pairs[told]] = labeller.choices[told]
        return found


def read_survey(store: PreferenceStore) -> Survey:
    """Everything that a store holds on its pairs and their answers.

    Raises:
        UserError: nobody has answered a pair, or an array in the store is damaged.
    """
    answers = store.answers(include_superseded=True)
    if not answers:
        raise UserError(f"{store.location} holds no answers to compare; prefrl answer lets a scripted oracle give some")
    queries = store.queries()
    shown = ShownSegments([query.segments for query in queries])
    pairs = {queries[at].id: index for index, at in enumerate(shown.pairs)}
    superseded = {answer.supersedes for answer in answers}
    counted = [answer for answer in answers if answer.id not in superseded and answer.query_id in pairs]
    others = sum(answer.id not in superseded for answer in answers) - len(counted)
    longer = len(queries) - len(pairs)
    if not counted:
        raise UserError(
            f"{store.location} holds {others} answers, all to queries of three segments or more; prefrl compare reads "
            "answers to pairs, so ask about those"
        )
    for answer in counted:
        if answer.choice not in CHOICES:
            raise UserError(
                f"answer {answer.id} in {store.location} ranks {answer.choice} where its query has two segments; "
                "restore the file from a copy"
            )
    swapped, viewed = _swapped_on_screen(store), _seconds_viewed(store)
    asked = _first_ids(answers)
    counted.sort(key=lambda answer: asked[answer.id])
    said_by: dict[str, list[Answer]] = {}
    for answer in counted:
        said_by.setdefault(answer.labeller, []).append(answer)
    labellers = [_labeller(name, said, pairs, swapped, viewed) for name, said in said_by.items()]
    true_returns = np.array([segment.true_return for segment in shown.segments])
    return Survey(
        task=store.task,
        shown=shown,
        true_return=shown.score("true return", true_returns),
        judge=_judged(shown, store.task),
        labellers=tuple(sorted(labellers, key=lambda each: (-len(each), each.name))),
        longer_queries=longer,
        answers_to_longer=others,
    )


def _judged(shown: ShownSegments, task: str | None) -> Scores | None:
    judge: Callable[[Segment], float] | None = TASKS[task].judge if task in TASKS else None
    if judge is None or any(segment.qpos is None for segment in shown.segments):
        return None
    # A segment that several queries show is judged once.
    judged = {segment: judge(segment) for segment in dict.fromkeys(shown.segments)}
    return shown.score("judge", np.array([judged[segment] for segment in shown.segments]))


def _swapped_on_screen(store: PreferenceStore) -> dict[int, bool]:
    """By id of an answer that was given on the labelling page: whether the segments were shown in reverse order."""
    leases = schema.leases.c
    with store.transaction() as connection:
        rows = connection.execute(sa.select(leases.answer_id, leases.swapped).where(leases.answer_id.is_not(None)))
        return {row[0]: bool(row[1]) for row in rows}


def _seconds_viewed(store: PreferenceStore) -> dict[int, float]:
    """By id of an answer that was given on the labelling page: for how long it had been looked at, by its own clock."""
    viewings = schema.viewings.c
    with store.transaction() as connection:
        rows = connection.execute(sa.select(viewings.answer_id, viewings.active_ms))
        return {row[0]: row[1] / 1000 for row in rows}


def _first_ids(answers: Sequence[Answer]) -> dict[int | None, int]:
    """By id of an answer: the id of the answer that it goes back to by undo, which tells when the query was asked."""
    first: dict[int | None, int] = {}
    for answer in answers:  # in the order of their ids, so that what is superseded comes first
        assert answer.id is not None
        first[answer.id] = first.get(answer.supersedes, answer.id)
    return first


def _labeller(
    name: str,
    answers: Sequence[Answer],
    pairs: dict[int | None, int],
    swapped: dict[int, bool],
    viewed: dict[int, float],
) -> Labeller:
    leased = [answer.id in swapped for answer in answers]
    first_at: dict[int, int] = {}
    earlier = [-1 if (at := first_at.setdefault(a.query_id, i)) == i else at for i, a in enumerate(answers)]
    return Labeller(
        name=name,
        is_oracle=not any(leased),
        pairs=np.array([pairs[answer.query_id] for answer in answers], dtype=np.int64),
        choices=np.array([CHOICES.index(answer.choice) for answer in answers], dtype=np.int8),
        swapped=np.array([swapped.get(answer.id or 0, False) for answer in answers], dtype=np.bool_),
        seconds=np.array([viewed.get(answer.id or 0, np.nan) for answer in answers]),
        earlier=np.array(earlier, dtype=np.int64),
    )
