"""An oracle that compares a score: the true return in the paper's synthetic experiments (section 3.1.1).

Takes queries.Query; gives preferences.Answer as soon as it is asked. Scores other than the true return: judges.py.
"""

from __future__ import annotations

import math
import time
import zlib
from collections.abc import Callable, Sequence

import numpy as np

from prefrl.errors import UserError
from prefrl.preferences import Answer, Ranking
from prefrl.queries import Query
from prefrl.segments import Segment


def true_return(segment: Segment) -> float:
    """Undiscounted sum of the segment's true rewards."""
    return segment.true_return


class SyntheticOracle:
    """Prefers the segment with the higher score; ranks them when a query shows more than two.

    The paper's synthetic oracle never errs (section 3.1.1); its model of a person does, in 10 % of answers (2.2.3).

    Args:
        score: of one segment; higher is better. It may look at the whole segment and need not be a sum over steps.
        error_rate: chance that the answer is uniformly random (left or right, never equal), in [0, 1].
        tie_margin: scores this close, in the score's unit, are called equal; an exact tie always is.
        seed: what errors are drawn from, together with the query's segments: whether it is asked early or late, or
            again after an interruption, its answer is the same.
        labeller: the name under which the answers are stored.

    Raises:
        UserError: an error rate outside [0, 1], or a margin that is negative or not finite.
    """

    def __init__(
        self,
        score: Callable[[Segment], float] = true_return,
        error_rate: float = 0.0,
        tie_margin: float = 0.0,
        *,
        seed: int,
        labeller: str = "synthetic",
    ) -> None:
        if not 0.0 <= error_rate <= 1.0:
            raise UserError(f"error rate {error_rate} is no probability; give one between 0 and 1")
        if not 0.0 <= tie_margin < math.inf:
            raise UserError(f"tie margin {tie_margin} is no distance between scores; give a finite number of 0 or more")
        self.score = score
        self.error_rate = error_rate
        self.tie_margin = tie_margin
        self.seed = seed
        self.labeller = labeller
        self._answers: list[Answer] = []

    def submit(self, queries: Sequence[Query]) -> None:
        """Answer stored queries; collect() hands the answers out.

        Raises:
            UserError: a query without an id, or a score that is not finite. None of the queries is answered then.
        """
        self._answers += [self._answer(query) for query in queries]

    def collect(self) -> list[Answer]:
        """The answers since the last call, in the order of the queries."""
        answers, self._answers = self._answers, []
        return answers

    def _answer(self, query: Query) -> Answer:
        if query.id is None:
            raise UserError(
                "a query without an id can't be answered; pass it through PreferenceStore.add_queries first"
            )
        shown_at = time.time()
        scores = [float(self.score(segment)) for segment in query.segments]
        if not all(map(math.isfinite, scores)):
            raise UserError(
                f"query {query.id} has scores {scores}; the oracle's score must be finite for every segment"
            )
        ranking = rank(scores, self.tie_margin)
        if self.error_rate > 0:
            rng = np.random.default_rng([self.seed, *map(_fingerprint, query.segments)])
            if rng.random() < self.error_rate:
                ranking = tuple((int(position),) for position in rng.permutation(len(scores)))
        return Answer(query.id, ranking, self.labeller, shown_at, time.time())


def _fingerprint(segment: Segment) -> int:
    return zlib.crc32(segment.actions.tobytes(), zlib.crc32(segment.observations.tobytes()))


def rank(scores: Sequence[float], tie_margin: float = 0.0) -> Ranking:
    """Positions of the scores, best first; those within tie_margin of the best of their group are tied.

    Measured from the group's best, so that a chain of small differences does not tie the first with the last.
    """
    groups: list[list[int]] = []
    for position in sorted(range(len(scores)), key=lambda i: -scores[i]):
        if groups and scores[groups[-1][0]] - scores[position] <= tie_margin:
            groups[-1].append(position)
        else:
            groups.append([position])
    return tuple(tuple(sorted(tied)) for tied in groups)
