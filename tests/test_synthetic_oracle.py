from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefrl.errors import UserError
from prefrl.oracles import Oracle
from prefrl.oracles.synthetic import SyntheticOracle, Teacher, rank
from prefrl.preferences import PreferenceStore
from prefrl.queries import Query
from prefrl.segments import Segment


def segment_worth(*true_rewards: float) -> Segment:
    length = len(true_rewards)
    return Segment(
        observations=np.zeros((length, 1), np.float32),
        actions=np.zeros((length, 1), np.float32),
        true_rewards=np.array(true_rewards, np.float32),
    )


def query_worth(*true_returns: float, query_id: int | None = 1) -> Query:
    return Query(tuple(segment_worth(value) for value in true_returns), id=query_id)


def queries_worth(*true_returns: float, count: int) -> list[Query]:
    """That look different, all of them."""
    shown = np.arange(count * len(true_returns), dtype=np.float32).reshape(count, -1, 1, 1)
    pairs = (zip(true_returns, each, strict=True) for each in shown)
    return [Query(tuple(replace(segment_worth(value), actions=x) for value, x in pair), id=1) for pair in pairs]


def choices(oracle: Oracle, *queries: Query) -> list[str]:
    oracle.submit(queries)
    return [answer.choice for answer in oracle.collect()]


def test_the_higher_true_return_is_preferred() -> None:
    oracle = SyntheticOracle(seed=0)
    assert choices(oracle, query_worth(2, 1), query_worth(1, 2), query_worth(-3, -2)) == ["left", "right", "right"]


def test_the_whole_segment_counts_and_not_its_best_step() -> None:
    query = Query((segment_worth(0, 0, 5), segment_worth(2, 2, 2)), id=1)
    assert choices(SyntheticOracle(seed=0), query) == ["right"]
    assert choices(SyntheticOracle(lambda segment: segment.true_rewards.max(), seed=0), query) == ["left"]


def test_an_exact_tie_is_equal_and_not_right() -> None:
    assert choices(SyntheticOracle(seed=0), query_worth(1, 1)) == ["equal"]


def test_of_a_policy_at_rest_hardly_visible_differences_stay_equal() -> None:
    oracle = SyntheticOracle(teacher=Teacher(equal_within=0.01), seed=0)
    assert set(choices(oracle, *[query_worth(-20, 15)] * 50)) == {"right"}
    assert set(choices(oracle, *[query_worth(15, 14.999)] * 200)) == {"equal"}
    assert set(choices(oracle, *[query_worth(15, 14.9)] * 10)) == {"left"}


def test_three_segments_are_ranked() -> None:
    queries = [query_worth(1, 3, 2), query_worth(1, 3, 1), query_worth(2, 2, 5), query_worth(0, 0, 0)]
    assert choices(SyntheticOracle(seed=0), *queries) == ["1>2>0", "1>0=2", "2>0=1", "0=1=2"]


def test_a_chain_of_small_differences_does_not_tie_the_first_with_the_last() -> None:
    assert rank([0.0, 0.4, 0.8, 1.2], tie_margin=0.5) == ((2, 3), (0, 1))


@given(st.lists(st.integers(-5, 5), min_size=2, max_size=7))
def test_without_a_margin_every_implied_comparison_is_the_sign_of_the_difference(scores: list[int]) -> None:
    oracle = SyntheticOracle(seed=0)
    oracle.submit([query_worth(*scores)])
    (answer,) = oracle.collect()
    expected = [(i, j, ((1 + np.sign(scores[i] - scores[j])) / 2)) for i, j in combinations(range(len(scores)), 2)]
    assert [(i, j, mu[0]) for i, j, mu in answer.pairs()] == expected
    assert all(sum(mu) == 1.0 for _, _, mu in answer.pairs())


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_error_rate_is_the_chance_of_a_coin_toss(seed: int) -> None:
    """Half of the errors hit the right answer by luck; a tie is one to anybody."""
    oracle = SyntheticOracle(teacher=Teacher(error_rate=0.4), seed=seed)
    count = 3000
    clear = choices(oracle, *queries_worth(1, 0, count=count))
    assert abs(clear.count("right") / count - 0.2) < 0.04
    assert "equal" not in clear
    assert set(choices(oracle, *queries_worth(0, 0, count=100))) == {"equal"}


def test_an_error_over_three_segments_is_any_order_alike() -> None:
    oracle = SyntheticOracle(teacher=Teacher(error_rate=1.0), seed=0)
    given = choices(oracle, *queries_worth(3, 2, 1, count=3000))
    orders = {"0>1>2", "0>2>1", "1>0>2", "1>2>0", "2>0>1", "2>1>0"}
    assert set(given) == orders
    assert all(abs(given.count(order) / 3000 - 1 / 6) < 0.04 for order in orders)


def test_the_same_seed_makes_the_same_mistakes() -> None:
    queries = queries_worth(1, 0, count=200)
    oracles = [SyntheticOracle(teacher=Teacher(error_rate=0.5), seed=seed) for seed in (5, 5, 6)]
    first, again, other = (choices(oracle, *queries) for oracle in oracles)
    assert first == again != other


def test_mistakes_do_not_depend_on_when_and_beside_what_a_query_is_asked() -> None:
    queries = queries_worth(1, 0, count=50)
    at_once = choices(SyntheticOracle(teacher=Teacher(error_rate=0.5), seed=5), *queries)
    oracle = SyntheticOracle(teacher=Teacher(error_rate=0.5), seed=5)
    assert [choice for query in reversed(queries) for choice in choices(oracle, query)] == at_once[::-1]
    assert choices(oracle, *queries) == at_once


def test_answers_are_collected_once_and_in_order() -> None:
    oracle = SyntheticOracle(seed=0)
    assert oracle.collect() == []
    oracle.submit([query_worth(1, 0, query_id=4)])
    oracle.submit([query_worth(0, 1, query_id=2), query_worth(0, 1, query_id=9)])
    assert [answer.query_id for answer in oracle.collect()] == [4, 2, 9]
    assert oracle.collect() == []


def test_answers_say_who_gave_them_and_when() -> None:
    before = time.time()
    oracle = SyntheticOracle(seed=0, labeller="perfect")
    oracle.submit([query_worth(1, 0)])
    (answer,) = oracle.collect()
    assert answer.labeller == "perfect"
    assert before <= answer.shown_at <= answer.answered_at <= time.time()


def test_answers_go_into_the_store(tmp_path: Path) -> None:
    oracle = SyntheticOracle(seed=0)
    with PreferenceStore(tmp_path / "preferences.db") as store:
        oracle.submit(store.add_queries([query_worth(0, 1, query_id=None), query_worth(1, 2, 0, query_id=None)]))
        stored = store.add_answers(oracle.collect())
        assert [answer.choice for answer in stored] == ["right", "1>0>2"]
        assert store.unanswered() == []


def test_a_score_that_is_not_finite_answers_none_of_the_queries() -> None:
    oracle = SyntheticOracle(seed=0)
    with pytest.raises(UserError, match=r"query 3 has scores \[1.0, nan\]"):
        oracle.submit([query_worth(1, 0), query_worth(1, np.nan, query_id=3)])
    assert oracle.collect() == []


def test_a_query_without_an_id_is_refused() -> None:
    with pytest.raises(UserError, match="without an id"):
        SyntheticOracle(seed=0).submit([query_worth(1, 0, query_id=None)])


# The five teachers of B-Pref


def teacher(seed: int = 0, /, **options: Any) -> SyntheticOracle:
    return SyntheticOracle(teacher=Teacher(**options), seed=seed)


def spread_out(count: int = 400) -> list[Query]:
    """Pairs whose scores have mean 10 and deviation 5, and that look different, all of them."""
    scores = np.random.default_rng(1).normal(10, 5, size=(count, 2)).astype(np.float32)
    return [
        Query((replace(segment_worth(left), actions=np.full((1, 1), i, np.float32)), segment_worth(right)), id=1)
        for i, (left, right) in enumerate(scores.tolist())
    ]


def scaled(queries: Sequence[Query], factor: float) -> list[Query]:
    return [
        Query(tuple(replace(s, true_rewards=np.float32(factor) * s.true_rewards) for s in query.segments), id=1)
        for query in queries
    ]


def apart(query: Query) -> float:
    left, right = (segment.true_return for segment in query.segments)
    return left - right


@pytest.mark.parametrize("beta", [0.5, 2.0])
def test_a_stochastic_teacher_prefers_the_better_one_by_bradley_and_terry(beta: float) -> None:
    queries = spread_out(6000)
    left = np.array([choice == "left" for choice in choices(teacher(rationality=beta), *queries)])
    difference = np.array([apart(query) for query in queries]) / 5
    for low, high in ((-2.0, -1.0), (-0.5, 0.5), (1.0, 2.0)):
        within = (difference > low) & (difference < high)
        expected = (1 / (1 + np.exp(-beta * difference[within]))).mean()
        assert left[within].mean() == pytest.approx(expected, abs=0.05)


def test_without_rationality_it_is_a_coin_and_with_a_lot_it_does_not_err() -> None:
    queries = spread_out()
    assert abs(choices(teacher(rationality=0.0), *queries).count("left") - 200) < 40
    assert choices(teacher(rationality=1e9), *queries) == choices(teacher(), *queries)


def test_a_stochastic_teacher_ranks_three_by_plackett_and_luce() -> None:
    """At these scores, with β that makes a deviation worth log 2, the worths are 4, 2 and 1."""
    queries = queries_worth(2, 1, 0, count=3000)
    given = choices(teacher(rationality=np.log(2) * np.std([2, 1, 0])), *queries)
    assert given.count("0>1>2") / 3000 == pytest.approx(4 / 7 * 2 / 3, abs=0.04)
    assert given.count("2>1>0") / 3000 == pytest.approx(1 / 7 * 2 / 6, abs=0.02)


def test_a_myopic_teacher_looks_at_the_end() -> None:
    query = Query((segment_worth(9, 0, 0), segment_worth(0, 0, 4)), id=1)
    assert choices(teacher(), query) == ["left"]
    assert choices(teacher(discount=0.7), query) == ["left"]  # 0.49 * 9 = 4.41
    assert choices(teacher(discount=0.6), query) == ["right"]  # 0.36 * 9 = 3.24
    assert choices(teacher(discount=0.0), query) == ["right"]


def test_near_ties_are_equal_up_to_the_threshold() -> None:
    queries = spread_out(2000)
    given = choices(teacher(equal_within=0.4), *queries)
    for query, choice in list(zip(queries, given, strict=True))[100:]:  # after which the deviation is known
        difference = abs(apart(query)) / 5
        assert 0.35 < difference < 0.45 or (choice == "equal") == (difference < 0.4)


def test_a_pair_that_shows_nothing_is_skipped() -> None:
    queries = spread_out(2000)
    given = choices(teacher(skip_below=-0.5), *queries)
    for query, choice in list(zip(queries, given, strict=True))[100:]:
        best = max(segment.true_return for segment in query.segments)
        assert 6 < best < 9 or (choice == "skip") == (best < 7.5)
    assert given.count("skip") > 100


MIXED = {"rationality": 1.0, "discount": 0.9, "error_rate": 0.1, "skip_below": -1.0, "equal_within": 0.2}


def test_teachers_do_not_depend_on_the_scale_of_rewards() -> None:
    queries = spread_out()
    given = choices(teacher(**MIXED), *queries)
    assert choices(teacher(**MIXED), *scaled(queries, 1024.0)) == given
    assert set(given) == {"left", "right", "equal", "skip"}


def test_a_teacher_that_was_interrupted_goes_on_as_it_was() -> None:
    queries = spread_out()
    whole = choices(teacher(**MIXED), *queries)
    resumed = teacher(**MIXED)
    resumed.recall(queries[:300])
    assert choices(resumed, *queries[300:]) == whole[300:]


def test_a_teacher_that_was_interrupted_remembers_more_than_the_latest_segments() -> None:
    queries = [*[query_worth(-20, 15)] * 50, *[query_worth(15, 14.999)] * 200]
    resumed = teacher(equal_within=0.01)
    resumed.recall(queries[:-10])
    assert choices(resumed, *queries[-10:]) == ["equal"] * 10


def test_of_a_policy_at_rest_no_more_is_skipped_than_before() -> None:
    rng = np.random.default_rng(0)
    moving, resting = rng.normal(-20, 5, (200, 2)), 15 + rng.normal(0, 1e-3, (400, 2))
    given = choices(teacher(skip_below=0.5), *[query_worth(*scores) for scores in (*moving, *resting)])
    assert abs(given[:200].count("skip") - given[-200:].count("skip")) < 30
    assert given[-200:].count("skip") > 50


def test_the_same_seed_gives_the_same_answers_and_another_seed_others() -> None:
    queries = spread_out()
    first, again, other = (choices(teacher(seed, **MIXED), *queries) for seed in (0, 0, 1))
    assert first == again != other


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"error_rate": -0.1}, "error rate -0.1"),
        ({"error_rate": 1.1}, "error rate 1.1"),
        ({"error_rate": np.nan}, "error rate nan"),
        ({"equal_within": -0.1}, "equal-within of -0.1"),
        ({"equal_within": np.inf}, "equal-within of inf"),
        ({"rationality": -1.0}, "rationality -1.0"),
        ({"rationality": np.nan}, "rationality nan"),
        ({"discount": 1.5}, "discount 1.5"),
        ({"skip_below": np.nan}, "skip-below of nan"),
    ],
)
def test_an_impossible_teacher_is_refused(options: dict[str, float], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Teacher(**options)


def test_a_judge_cannot_be_myopic() -> None:
    with pytest.raises(UserError, match=r"a discount of 0.9 weighs the steps of a sum, which only the true return is"):
        SyntheticOracle(lambda segment: 0.0, Teacher(discount=0.9), seed=0)
