from __future__ import annotations

import time
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefrl.errors import UserError
from prefrl.oracles import Oracle
from prefrl.oracles.synthetic import SyntheticOracle, rank
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


def test_the_margin_makes_near_ties_equal_up_to_and_including_itself() -> None:
    oracle = SyntheticOracle(tie_margin=0.5, seed=0)
    queries = [query_worth(1, 1.25), query_worth(1.5, 1), query_worth(1, 1.75), query_worth(2, 1)]
    assert choices(oracle, *queries) == ["equal", "equal", "right", "left"]


def test_three_segments_are_ranked() -> None:
    oracle = SyntheticOracle(tie_margin=0.5, seed=0)
    queries = [query_worth(1, 3, 2), query_worth(1, 3, 1), query_worth(2, 2, 5), query_worth(0, 0.25, 0)]
    assert choices(oracle, *queries) == ["1>2>0", "1>0=2", "2>0=1", "0=1=2"]


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
    """Half of the errors hit the right answer by luck; they are left or right even where the truth is a tie."""
    oracle = SyntheticOracle(error_rate=0.4, seed=seed)
    count = 3000
    clear = choices(oracle, *queries_worth(1, 0, count=count))
    assert abs(clear.count("right") / count - 0.2) < 0.04
    assert "equal" not in clear
    tied = choices(oracle, *queries_worth(0, 0, count=count))
    assert abs(tied.count("equal") / count - 0.6) < 0.05
    assert abs(tied.count("left") / count - 0.2) < 0.04


def test_an_error_over_three_segments_is_any_order_alike() -> None:
    oracle = SyntheticOracle(error_rate=1.0, seed=0)
    given = choices(oracle, *queries_worth(3, 2, 1, count=3000))
    orders = {"0>1>2", "0>2>1", "1>0>2", "1>2>0", "2>0>1", "2>1>0"}
    assert set(given) == orders
    assert all(abs(given.count(order) / 3000 - 1 / 6) < 0.04 for order in orders)


def test_the_same_seed_makes_the_same_mistakes() -> None:
    queries = queries_worth(1, 0, count=200)
    first, again, other = (choices(SyntheticOracle(error_rate=0.5, seed=seed), *queries) for seed in (5, 5, 6))
    assert first == again != other


def test_mistakes_do_not_depend_on_when_and_beside_what_a_query_is_asked() -> None:
    queries = queries_worth(1, 0, count=50)
    at_once = choices(SyntheticOracle(error_rate=0.5, seed=5), *queries)
    oracle = SyntheticOracle(error_rate=0.5, seed=5)
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


@pytest.mark.parametrize("error_rate", [-0.1, 1.1, np.nan])
def test_an_error_rate_that_is_no_probability_is_refused(error_rate: float) -> None:
    with pytest.raises(UserError, match=f"error rate {error_rate}"):
        SyntheticOracle(error_rate=error_rate, seed=0)


@pytest.mark.parametrize("tie_margin", [-0.1, np.inf, np.nan])
def test_a_margin_that_is_no_distance_is_refused(tie_margin: float) -> None:
    with pytest.raises(UserError, match=f"tie margin {tie_margin}"):
        SyntheticOracle(tie_margin=tie_margin, seed=0)
