from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from prefrl.queries import Query, disagreement, elite_pairs, most_disputed, pair_up
from prefrl.segments import Segment


def make_segments(count: int) -> list[Segment]:
    """Segments that are told apart by their number, which is their true return too."""
    zeros = np.zeros((1, 1), np.float32)
    return [Segment(zeros, zeros, np.array([i], np.float32), env_steps=i) for i in range(count)]


def numbers(queries: Sequence[Query]) -> list[tuple[int, ...]]:
    return [tuple(segment.env_steps for segment in query.segments) for query in queries]


def test_segments_are_paired_as_they_come_and_none_twice() -> None:
    assert numbers(pair_up(make_segments(6))) == [(0, 1), (2, 3), (4, 5)]
    assert numbers(pair_up(make_segments(7))) == [(0, 1), (2, 3), (4, 5)], "a last odd one is left out"
    assert numbers(pair_up(make_segments(6), size=3)) == [(0, 1, 2), (3, 4, 5)], "rankings"
    assert pair_up([]) == []


def test_a_query_compares_at_least_two() -> None:
    with pytest.raises(ValueError, match="at least 2 segments, not 1"):
        Query(tuple(make_segments(1)))


def test_disagreement_of_pairs_orders_by_the_variance_of_left_being_preferred() -> None:
    left = np.random.default_rng(0).random((3, 50))
    scores = disagreement(np.stack([left, 1 - left], axis=-1))
    np.testing.assert_allclose(scores, 2 * np.var(left, axis=0))


def test_no_disagreement_when_all_members_say_the_same() -> None:
    assert disagreement(np.full((3, 4, 2), 0.5)).tolist() == [0.0] * 4
    assert (disagreement(np.random.default_rng(0).random((1, 4, 2))) == 0).all(), "one member never disagrees"


def test_the_most_disputed_queries_are_kept_most_disputed_first() -> None:
    candidates = pair_up(make_segments(10))
    spread = np.array([0.1, 0.4, 0.0, 0.3, 0.2])  # the members say ½ - spread, ½ and ½ + spread

    def predict(queries: Sequence[Query]) -> NDArray[np.floating]:
        left = 0.5 + np.outer([-1, 0, 1], spread[[query.segments[0].env_steps // 2 for query in queries]])
        return np.stack([left, 1 - left], axis=-1)

    assert numbers(most_disputed(candidates, 3, predict)) == [(2, 3), (6, 7), (8, 9)]
    assert numbers(most_disputed(candidates, 9, predict)) == [(2, 3), (6, 7), (8, 9), (0, 1), (4, 5)]


def test_disagreement_is_in_the_preference_and_not_in_the_return() -> None:
    """Members that differ widely in scale but are all sure of the answer do not disagree (section 2.2.4)."""
    certain, unsure = np.array([[1.0, 0.0]] * 3), np.array([[0.6, 0.4], [0.4, 0.6], [0.5, 0.5]])
    scores = disagreement(np.stack([certain, unsure], axis=1))
    assert scores[0] == 0 < scores[1]


def test_the_best_segments_are_all_compared_with_each_other_and_with_no_other() -> None:
    pairs = numbers(elite_pairs(make_segments(20), np.arange(20.0), 4, np.random.default_rng(0)))
    assert {frozenset(pair) for pair in pairs} == {frozenset(p) for p in itertools.combinations((16, 17, 18, 19), 2)}
    assert len(pairs) == 6, "each pair once"


def test_sides_and_order_of_the_best_are_random() -> None:
    pairs = numbers(elite_pairs(make_segments(60), np.arange(60.0), 50, np.random.default_rng(0)))
    better_on_the_left = np.mean([left > right for left, right in pairs])
    assert 0.45 < better_on_the_left < 0.55, "of 1,225 coin tosses"
    assert abs(np.corrcoef(np.arange(len(pairs)), [max(pair) for pair in pairs])[0, 1]) < 0.1


def test_a_stretch_that_was_drawn_twice_is_not_compared_with_itself() -> None:
    returns = np.array([5.0, 5.0, 4.0, 1.0])
    (pair,) = numbers(elite_pairs(make_segments(4), returns, 2, np.random.default_rng(0)))
    assert set(pair) in ({0, 2}, {1, 2})
    assert len(elite_pairs(make_segments(4), np.zeros(4), 10, np.random.default_rng(0))) == 6, "nothing is known yet"


def test_the_stores_id_is_put_on_a_copy() -> None:
    query = pair_up(make_segments(2))[0]
    stored = query.with_id(7)
    assert (query.id, stored.id) == (None, 7)
    assert stored.segments is query.segments
