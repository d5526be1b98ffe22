"""What a labeller said: a choice between two segments, or a ranking of more (section 2.2.2).

The oracles make them, the store keeps them, reward_training.py fits to their pairs().
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

from prefrl.errors import UserError

Ranking = tuple[tuple[int, ...], ...]

MAX_REPLAYS = 2**31 - 1  # what an INTEGER of PostgreSQL holds

CANT_TELL, SKIP = "cant_tell", "skip"
SKIPPED: Ranking = ()
CHOICES: dict[str, Ranking | None] = {
    "left": ((0,), (1,)),
    "right": ((1,), (0,)),
    "equal": ((0, 1),),
    CANT_TELL: None,
    SKIP: SKIPPED,
}


@dataclass(frozen=True)
class Answer:
    """What one labeller said about one query.

    Raises:
        UserError: the ranking does not hold each position 0, 1, ... exactly once.
    """

    query_id: int
    ranking: Ranking | None  # positions on screen, best first, ties grouped; None: can't tell; empty: skipped
    labeller: str
    shown_at: float  # unix seconds
    answered_at: float  # unix seconds
    replays: int = 0  # how often the labeller watched the clips again
    supersedes: int | None = None  # id of the answer that this one takes the place of (undo)
    id: int | None = None  # given by the PreferenceStore

    def __post_init__(self) -> None:
        if not self.ranking:
            return
        ranking = tuple(tuple(sorted(int(position) for position in tied)) for tied in self.ranking)
        positions = sorted(position for tied in ranking for position in tied)
        if len(positions) < 2 or positions != list(range(len(positions))) or () in ranking:
            raise UserError(f"ranking {self.ranking} must name each position 0, 1, ... once; give None for can't tell")
        object.__setattr__(self, "ranking", ranking)  # ties in ascending order, so that equal answers compare equal

    @classmethod
    def from_choice(
        cls,
        query_id: int,
        choice: str,
        *,
        labeller: str,
        shown_at: float,
        answered_at: float,
        replays: int = 0,
        supersedes: int | None = None,
    ) -> Answer:
        """The answer to a pair, from the key that was pressed: left, right, equal, cant_tell or skip."""
        if choice not in CHOICES:
            raise UserError(f"choice {choice!r} is none of {', '.join(CHOICES)}; rank longer queries with ranking=")
        return cls(query_id, CHOICES[choice], labeller, shown_at, answered_at, replays, supersedes)

    @property
    def choice(self) -> str:
        """left, right, equal, cant_tell or skip for a pair; like "2>0=1" for a longer query."""
        for choice, ranking in CHOICES.items():
            if ranking == self.ranking:
                return choice
        return ranking_to_text(self.ranking)

    def pairs(self) -> list[tuple[int, int, tuple[float, float]]]:
        """Every pairwise comparison (i, j, μ) with i < j that the answer implies; none for can't tell and skip.

        μ is (1, 0) where i is better, (0, 1) where j is, (½, ½) where they are equally good.
        """
        place = {position: rank for rank, tied in enumerate(self.ranking or ()) for position in tied}
        mu = {-1: (1.0, 0.0), 0: (0.5, 0.5), 1: (0.0, 1.0)}
        return [
            (i, j, mu[(place[i] > place[j]) - (place[i] < place[j])])
            for i in range(len(place))
            for j in range(i + 1, len(place))
        ]


def check_answer(
    answer: Answer,
    location: str,
    size_of: Mapping[int, int],
    query_of: Mapping[int, int],
    successor_of: Mapping[int, int | None],
) -> None:
    """Refuse what a store can't take.

    Args:
        answer: to be added.
        location: of the store.
        size_of: number of segments by query.
        query_of: by id of an answer, the query that it answers.
        successor_of: by id of a superseded answer, the one in its place; None if that has no id yet.

    Raises:
        UserError: it is stored already, its query is unknown, its ranking does not fit, a database would refuse a
            value, or it supersedes what it can't.
    """
    if answer.id is not None:
        raise UserError(f"answer {answer.id} is stored already; to change it, add one with supersedes={answer.id}")
    if answer.query_id not in size_of:
        raise UserError(f"query {answer.query_id} is not in {location}; add it with add_queries first")
    size = size_of[answer.query_id]
    if answer.ranking and sum(map(len, answer.ranking)) != size:
        raise UserError(
            f"ranking {ranking_to_text(answer.ranking)} does not fit query {answer.query_id}, which has {size} "
            f"segments; name each of the positions 0 to {size - 1} once"
        )
    if re.search("[\0\ud800-\udfff]", answer.labeller):
        raise UserError(f"labeller {answer.labeller!r} holds a character that databases refuse; give plain text")
    times_are_finite = math.isfinite(answer.shown_at) and math.isfinite(answer.answered_at)
    if not (times_are_finite and 0 <= answer.replays <= MAX_REPLAYS):
        raise UserError(
            f"answer to query {answer.query_id} has shown_at={answer.shown_at}, answered_at={answer.answered_at}, "
            f"replays={answer.replays}; give finite unix seconds and a count of 0 to {MAX_REPLAYS}"
        )
    if answer.supersedes is None:
        return
    if query_of.get(answer.supersedes) != answer.query_id:
        raise UserError(
            f"answer {answer.supersedes} is no answer to query {answer.query_id}; "
            "supersede one of the same query, or none"
        )
    if answer.supersedes in successor_of:
        successor = successor_of[answer.supersedes]
        by = "another of the same call" if successor is None else f"answer {successor}"
        raise UserError(f"answer {answer.supersedes} is superseded by {by} already; supersede that one instead")


def ranking_to_text(ranking: Ranking | None) -> str:
    """As the database keeps it: "0>1", "0=1", "2>0=1", "cant_tell", "skip"."""
    if not ranking:
        return CANT_TELL if ranking is None else SKIP
    return ">".join("=".join(map(str, tied)) for tied in ranking)


def ranking_from_text(text: str) -> Ranking | None:
    """The ranking that ranking_to_text wrote."""
    if text in (CANT_TELL, SKIP):
        return CHOICES[text]
    if not isinstance(text, str) or not re.fullmatch(r"[0-9]{1,4}([>=][0-9]{1,4})*", text):
        raise UserError(f"ranking {text!r} is none of {CANT_TELL} and {SKIP}, nor like 0>1, 0=1 or 2>0=1")
    return tuple(tuple(int(position) for position in tied.split("=")) for tied in text.split(">"))
