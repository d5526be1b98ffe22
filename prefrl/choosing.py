"""Choose what is asked next (section 2.2.4).

Reads rollouts.Rollout, and of reward_model.RewardEnsemble what its members expect; produces queries.Query.
"""

from __future__ import annotations

import numpy as np

from prefrl.options import QueryOptions
from prefrl.queries import Query, elite_pairs, most_disputed, pair_up
from prefrl.reward_model import RewardEnsemble
from prefrl.rollouts import Rollout
from prefrl.segments import cut_segments

ELITE = 10  # segments that are compared with each other


def random_pairs(recent: Rollout, count: int, length: int, rng: np.random.Generator) -> list[Query]:
    """Pairs of segments of `length` steps, each drawn anew."""
    return pair_up(cut_segments(recent, length, 2 * count, rng))


def disputed_pairs(
    recent: Rollout, count: int, length: int, options: QueryOptions, ensemble: RewardEnsemble, rng: np.random.Generator
) -> list[Query]:
    """Pairs on which the ensemble disagrees, a share of them among the best segments.

    Args:
        recent: what the policy did lately.
        count: of queries.
        length: steps per segment.
        options: how many candidates there are, and how large that share is.
        ensemble: as it stands.
        rng: draws candidates and sides.
    """
    elite = int(rng.binomial(count, options.elite_share))
    chosen: list[Query] = []
    if elite < count:
        candidates = random_pairs(recent, (count - elite) * options.candidates, length, rng)
        chosen += most_disputed(candidates, count - elite, ensemble.predict_preferences)
    for _ in range(elite):
        pool = cut_segments(recent, length, options.elite_pool, rng)
        pairs = elite_pairs(pool, ensemble.predict_returns(pool), ELITE, rng)
        asked = {query.shown for query in chosen}  # where a pool holds nearly all there is
        fresh = [pair for pair in pairs if pair.shown not in asked]
        chosen += most_disputed(fresh or pairs, 1, ensemble.predict_preferences)
    return chosen
