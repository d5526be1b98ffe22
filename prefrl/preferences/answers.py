"""What a labeller said: a choice between two segments, or a ranking of more (section 2.2.2).

The oracles make them, the store keeps them, reward_training.py fits to their pairs().
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from prefrl.errors import UserError

Ranking = tuple[tuple[int, ...], ...]

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
