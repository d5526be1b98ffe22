"""An oracle that compares a score: the true return in the paper's synthetic experiments (section 3.1.1).

Takes queries.Query; gives preferences.Answer as soon as it is asked. Scores other than the true return: judges.py.
"""

from __future__ import annotations

import math
import time
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from prefrl.errors import UserError
from prefrl.preferences import SKIPPED, Answer, Ranking
from prefrl.queries import Query
from prefrl.segments import Segment

RECENT_SEGMENTS = 200  # whose scores say what is a large difference by now
LEAST_SPREAD = 0.05  # of their scores, beside that of all


class ShownScores:
    """Scores of all segments shown so far, and how large a difference between two of them is."""

    def __init__(self, scores: Iterable[float] = ()) -> None:
        self._latest: deque[float] = deque(maxlen=RECENT_SEGMENTS)
        self._count, self._mean, self._squares = 0, 0.0, 0.0
        self.extend(scores)

    def extend(self, scores: Iterable[float]) -> None:
        """Note the scores of segments that are shown now."""
        for score in scores:
            self._latest.append(score)
            # Welford's way: a hundred thousand scores are not gone through again for every answer.
            self._count += 1
            before = score - self._mean
            self._mean += before / self._count
            self._squares += before * (score - self._mean)

    def latest(self) -> tuple[float, float]:
        """Mean and deviation of the latest 200."""
        return float(np.mean(self._latest)), float(np.std(self._latest))

    def spread(self) -> float:
        """The deviation by which differences are measured.

        It is that of the latest ones, but no less than a twentieth of that of all: a policy that has come to rest, as
        a pole that stands, shows one clip again and again, and nobody would tell apart what differs in the fifth digit.
        """
        return max(self.latest()[1], LEAST_SPREAD * math.sqrt(self._squares / self._count))


def true_return(segment: Segment) -> float:
    """Undiscounted sum of the segment's true rewards."""
    return segment.true_return


@dataclass(frozen=True)
class Teacher:
    """How an oracle errs. By default never; the five teachers of B-Pref (Lee et al., 2021, algorithm 1), and mixtures.

    What depends on the size of scores is in deviations of the scores of the latest segments that were shown
    (`ShownScores.spread`). So one teacher suits tasks of any reward scale, and keeps its character while the policy
    gets better. B-Pref's own thresholds follow the policy's mean return instead, and its β is in units of reward.
    """

    rationality: float | None = None
    """β of a stochastic teacher: P[left] = 1 / (1 + exp(-β (left - right))), scores in deviations; none by default, who
    always prefers the better one"""
    discount: float = 1.0
    """γ of a myopic teacher, who weighs a segment's last step with 1, the one before with γ, then γ², and so on"""
    error_rate: float = 0.0
    """chance that a preference is uniformly random (the paper's section 2.2.3 assumes 0.1 of people); B-Pref's ε of
    flipped ones is half of it"""
    skip_below: float | None = None
    """the best segment's score, in deviations from the mean of the latest ones, below which a query is skipped; none by
    default"""
    equal_within: float = 0.0
    """difference of scores, in deviations, up to which segments are called equal; an exact tie always is"""

    def __post_init__(self) -> None:
        if self.rationality is not None and not 0 <= self.rationality < math.inf:
            raise UserError(f"rationality {self.rationality} of the oracle is not a number of 0 or more")
        if not 0 <= self.discount <= 1:
            raise UserError(f"discount {self.discount} of the oracle is outside [0, 1]")
        if not 0 <= self.error_rate <= 1:
            raise UserError(f"error rate {self.error_rate} of the oracle is outside [0, 1]")
        if self.skip_below is not None and not math.isfinite(self.skip_below):
            raise UserError(f"the oracle's skip-below of {self.skip_below} is not a number")
        if not 0 <= self.equal_within < math.inf:
            raise UserError(f"the oracle's equal-within of {self.equal_within} is not a number of 0 or more")


PERFECT = Teacher()


class SyntheticOracle:
    """Prefers the segment with the higher score; ranks them when a query shows more than two.

    The paper's synthetic oracle never errs (section 3.1.1); its model of a person does, in 10 % of answers (2.2.3).

    Args:
        score: of one segment; higher is better. It may look at the whole segment and need not be a sum over steps.
        teacher: how it errs.
        seed: what errors are drawn from, together with the query's segments: whether it is asked early or late, or
            again after an interruption, the draw is the same.
        labeller: the name under which the answers are stored.

    Raises:
        UserError: a discount for a score that is no sum over steps.
    """

    others_answer = False

    def __init__(
        self,
        score: Callable[[Segment], float] = true_return,
        teacher: Teacher = PERFECT,
        *,
        seed: int,
        labeller: str = "synthetic",
    ) -> None:
        if teacher.discount < 1 and score is not true_return:
            raise UserError(
                f"a discount of {teacher.discount} weighs the steps of a sum, which only the true return is; "
                "use --oracle.score reward"
            )
        self.score, self.teacher, self.seed, self.labeller = score, teacher, seed, labeller
        self._scores, self._perceived = ShownScores(), ShownScores()
        self._answers: list[Answer] = []

    def submit(self, queries: Sequence[Query]) -> None:
        """Answer stored queries; collect() hands the answers out.

        Raises:
            UserError: a query without an id, or a score that is not finite. None of the queries is answered then.
        """
        self._answers += [self._answer(query) for query in queries]

    def recall(self, queries: Sequence[Query]) -> None:
        """Note how far apart the segments of queries are that are answered already."""
        for query in queries:
            self._look(query)

    def collect(self) -> list[Answer]:
        """The answers since the last call, in the order of the queries."""
        answers, self._answers = self._answers, []
        return answers

    def _look(self, query: Query) -> tuple[list[float], list[float]]:
        """Scores of the segments, and what a myopic teacher takes them for."""
        scores = [float(self.score(segment)) for segment in query.segments]
        if not all(map(math.isfinite, scores)):
            raise UserError(
                f"query {query.id} has scores {scores}; the oracle's score must be finite for every segment"
            )
        discount = self.teacher.discount
        perceived = scores if discount == 1 else [discounted_return(s, discount) for s in query.segments]
        self._scores.extend(scores)
        self._perceived.extend(perceived)
        return scores, perceived

    def _answer(self, query: Query) -> Answer:
        if query.id is None:
            raise UserError(
                "a query without an id can't be answered; pass it through PreferenceStore.add_queries first"
            )
        shown_at = time.time()
        scores, perceived = self._look(query)
        return Answer(query.id, self._rank(query, scores, perceived), self.labeller, shown_at, time.time())

    def _rank(self, query: Query, scores: Sequence[float], perceived: Sequence[float]) -> Ranking:
        teacher, deviation = self.teacher, self._scores.spread()
        rng = np.random.default_rng([self.seed, *map(_fingerprint, query.segments)])
        if teacher.skip_below is not None:
            mean, latest_deviation = self._scores.latest()
            if max(scores) < mean + teacher.skip_below * latest_deviation:
                return SKIPPED
        ranking = rank(scores, teacher.equal_within * deviation)
        if len(ranking) == 1:
            return ranking
        if rng.random() < teacher.error_rate:
            return tuple((int(position),) for position in rng.permutation(len(scores)))
        if teacher.rationality is not None:
            # With Gumbel noise the order is a draw from the Plackett-Luce model; of two, from Bradley-Terry's.
            utilities = teacher.rationality * np.array(perceived) / max(self._perceived.spread(), 1e-12)
            return rank((utilities + rng.gumbel(size=len(scores))).tolist())
        return rank(perceived) if teacher.discount < 1 else ranking


def discounted_return(segment: Segment, discount: float) -> float:
    """Sum of true rewards, those further back weighing less: the last by 1, the one before by `discount`, ..."""
    weights = discount ** np.arange(segment.length - 1, -1, -1, dtype=np.float64)
    return float(weights @ segment.true_rewards.astype(np.float64))


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
