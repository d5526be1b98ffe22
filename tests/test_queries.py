from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from prefrl.queries import Query, disagreement, most_disputed, pair_up
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


def test_the_stores_id_is_put_on_a_copy() -> None:
    query = pair_up(make_segments(2))[0]
    stored = query.with_id(7)
    assert (query.id, stored.id) == (None, 7)
    assert stored.segments is query.segments
