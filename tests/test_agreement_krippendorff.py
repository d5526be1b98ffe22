"""Krippendorff's α against the worked examples of its author, and against what it must be."""

from __future__ import annotations

import numpy as np
import pytest

from prefrl.agreement.krippendorff import Level, alpha, alpha_interval, value_counts

# Krippendorff (2011), Computing Krippendorff's alpha-reliability: the examples A, B and C to E; 0 is a missing rating.
MEG_AND_OWEN = [[1, 2, 1, 1, 1, 1, 1, 1, 2, 1], [2, 2, 2, 1, 1, 2, 1, 1, 1, 1]]
BEN_AND_GERRY = [[1, 1, 2, 2, 4, 3, 3, 3, 5, 4, 4, 1], [2, 1, 2, 2, 2, 3, 3, 3, 5, 4, 4, 4]]
FOUR_OBSERVERS = [
    [1, 2, 3, 3, 2, 1, 4, 1, 2, 0, 0, 0],
    [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, 0, 3],
    [0, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, 0],
    [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, 0],
]


def counts_of(ratings: list[list[int]]) -> np.ndarray:
    table = np.array(ratings, dtype=np.float64)
    return value_counts(np.where(table == 0, np.nan, table), np.arange(1.0, 6.0))


@pytest.mark.parametrize(
    ("ratings", "level", "published"),
    [
        (MEG_AND_OWEN, "nominal", 0.095),
        (BEN_AND_GERRY, "nominal", 0.692),
        (FOUR_OBSERVERS, "nominal", 0.743),
        (FOUR_OBSERVERS, "ordinal", 0.815),
        (FOUR_OBSERVERS, "interval", 0.849),
    ],
)
def test_alpha_is_what_was_published(ratings: list[list[int]], level: Level, published: float) -> None:
    assert alpha(counts_of(ratings), level) == pytest.approx(published, abs=0.0006)


def test_agreement_disagreement_and_chance() -> None:
    assert alpha(counts_of([[1, 2, 3, 1], [1, 2, 3, 1]])) == 1
    assert alpha(counts_of([[1, 2] * 200, [2, 1] * 200])) < -0.99
    assert alpha(counts_of(np.random.default_rng(0).integers(1, 4, size=(3, 3000)).tolist())) == pytest.approx(
        0, abs=0.03
    )


def test_equal_against_left_is_a_smaller_disagreement_than_right_against_left() -> None:
    mild, strong = [[1, 3] * 20, [1, 3] * 19 + [2, 3]], [[1, 3] * 20, [1, 3] * 19 + [3, 3]]
    assert alpha(counts_of(mild), "ordinal") > alpha(counts_of(strong), "ordinal")


@pytest.mark.parametrize("ratings", [[[1, 1, 1], [1, 1, 1]], [[1, 2, 0], [0, 0, 3]], [[1, 2, 3]]])
def test_there_is_no_alpha_where_nothing_could_differ_or_nothing_is_shared(ratings: list[list[int]]) -> None:
    assert np.isnan(alpha(counts_of(ratings)))
    interval = alpha_interval(counts_of(ratings), "nominal", seed=0)
    assert np.isnan([interval.value, interval.low, interval.high]).all()


def test_the_interval_holds_the_true_alpha_in_most_samples_and_narrows_with_more_queries() -> None:
    """Two labellers who see the truth in 8 of 10 queries and toss a coin in the others have an α of 0.64."""

    def said(queries: int, seed: int) -> np.ndarray:
        rng = np.random.default_rng(seed)
        truth = rng.integers(1, 3, size=queries)
        return counts_of(
            [np.where(rng.random(queries) < 0.8, truth, rng.integers(1, 3, size=queries)).tolist() for _ in "12"]
        )

    intervals = [alpha_interval(said(150, seed), "nominal", seed=0) for seed in range(60)]
    assert 52 <= sum(0.64 in interval for interval in intervals) <= 60
    assert alpha_interval(said(2400, 0), "nominal", seed=0).half < 0.4 * np.mean([each.half for each in intervals])
    assert alpha_interval(said(150, 0), "nominal", seed=0) == intervals[0], "the same seed gives the same interval"
