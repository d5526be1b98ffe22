import itertools
import time
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from scipy import stats

from prefrl.statistics import (
    Samples,
    interquartile_mean,
    mean_interval,
    normalised_scores,
    optimality_gap,
    performance_profile,
    probability_of_improvement,
    stratified_bootstrap,
)

# Runs × tasks, with a tie between the two in the third task. What rliable says of them: version 1.2.0, with arch 7.2.0,
# numpy 2.4.6 and scipy 1.17.1; ends of the 95 % intervals are means over random states 0 to 4 of 20,000 resamples
# (probability of improvement: 0 to 2 of 5,000; profile: one run of 20,000).
OURS = np.array(
    [
        [0.21, 1.05, 0.64, 0.98],
        [0.35, 0.92, 0.71, 1.10],
        [0.18, 1.31, 0.55, 0.87],
        [0.47, 1.12, 0.90, 1.02],
        [0.05, 0.99, 0.33, 1.21],
    ]
)
THEIRS = np.array([[0.30, 0.80, 0.64, 0.70], [0.42, 0.95, 0.40, 0.98], [0.10, 0.85, 0.52, 0.66]])
THRESHOLDS = np.array([0.0, 0.25, 0.5, 0.64, 0.75, 1.0, 1.25])
RLIABLE_PROFILE = np.array([1.0, 0.85, 0.7, 0.6, 0.55, 0.3, 0.05])
RLIABLE_PROFILE_ENDS = np.array([[1.0, 0.75, 0.6, 0.5, 0.5, 0.15, 0.0], [1.0, 0.95, 0.75, 0.7, 0.65, 0.45, 0.15]])

scores = st.integers(1, 4).flatmap(
    lambda tasks: st.lists(
        arrays(np.float64, st.integers(1, 6), elements=st.floats(-100, 100, width=32)), min_size=tasks, max_size=tasks
    )
)


def per_task(matrix: NDArray[np.float64]) -> list[NDArray[np.float64]]:
    return list(matrix.T)


@pytest.mark.parametrize(
    ("matrix", "mean", "gap", "gap_of_half"),
    [(OURS, 0.805, 0.2925, 0.0705), (THEIRS, 0.6233333333333334, 0.39, 0.065)],
)
def test_means_and_gaps_are_those_of_rliable(
    matrix: NDArray[np.float64], mean: float, gap: float, gap_of_half: float
) -> None:
    assert interquartile_mean(per_task(matrix)) == pytest.approx(mean, rel=1e-12)
    assert optimality_gap(per_task(matrix)) == pytest.approx(gap, rel=1e-12)
    assert optimality_gap(per_task(matrix), threshold=0.5) == pytest.approx(gap_of_half, rel=1e-12)


def test_profile_and_probability_of_improvement_are_those_of_rliable() -> None:
    np.testing.assert_allclose(performance_profile(per_task(OURS), THRESHOLDS), RLIABLE_PROFILE, rtol=1e-12)
    assert probability_of_improvement(per_task(OURS), per_task(THEIRS)) == pytest.approx(0.75, rel=1e-12)
    assert probability_of_improvement(per_task(THEIRS), per_task(OURS)) == pytest.approx(0.25, rel=1e-12)


@pytest.mark.parametrize(
    ("statistic", "samples", "low", "high", "step"),  # between values that the statistic can take
    [
        (interquartile_mean, (OURS,), 0.7176, 0.8846, 0.001),
        (interquartile_mean, (THEIRS,), 0.56, 0.7073, 0.01 / 6),
        (optimality_gap, (OURS,), 0.2395, 0.3462, 0.0005),
        (optimality_gap, (THEIRS,), 0.3258, 0.4530, 0.01 / 12),
        (probability_of_improvement, (OURS, THEIRS), 0.5833, 0.9028, 1 / 120),
    ],
)
def test_intervals_are_those_of_rliable(
    statistic: Callable[..., NDArray[np.float64]],
    samples: tuple[NDArray[np.float64], ...],
    low: float,
    high: float,
    step: float,
) -> None:
    own = [per_task(each) for each in samples]
    ends = []
    for seed in range(8):  # how much the ends differ from draw to draw says how close they have to come
        found = stratified_bootstrap(statistic, *own, rng=np.random.default_rng(seed), resamples=20_000)
        ends.append([found.low, found.high])
    lows, highs = np.array(ends).T
    assert lows.mean() == pytest.approx(low, abs=4 * lows.std(ddof=1) + step)
    assert highs.mean() == pytest.approx(high, abs=4 * highs.std(ddof=1) + step)


def test_the_band_of_a_profile_is_that_of_rliable() -> None:
    found = stratified_bootstrap(
        lambda sample: performance_profile(sample, THRESHOLDS), per_task(OURS), rng=np.random.default_rng(0)
    )
    np.testing.assert_allclose(found.value, RLIABLE_PROFILE)
    # Of 20 runs, a share is a multiple of 0.05: an end that lies between two of them by chance may be one off.
    np.testing.assert_allclose([found.low, found.high], RLIABLE_PROFILE_ENDS, atol=0.0501)


@pytest.mark.parametrize("level", [0.5, 0.8, 0.95])
def test_the_interval_is_that_of_all_resamples_that_there_are(level: float) -> None:
    first, second = np.array([0.1, 0.7, 0.8]), np.array([0.3, 1.9])
    every = [  # equally likely, each of them
        np.mean(sorted([*a, *b])[1:-1])
        for a in itertools.product(first, repeat=3)
        for b in itertools.product(second, repeat=2)
    ]
    assert len(every) == 27 * 4
    found = stratified_bootstrap(
        interquartile_mean, [first, second], rng=np.random.default_rng(1), resamples=200_000, level=level
    )
    assert found.value == pytest.approx(np.mean([0.3, 0.7, 0.8]))
    slack = 4 * np.sqrt(0.25 / 200_000)  # of a share that is estimated from so many draws
    for end, share in ((found.low, (1 - level) / 2), (found.high, (1 + level) / 2)):
        assert np.mean(np.array(every) < end - 1e-9) <= share + slack
        assert np.mean(np.array(every) <= end + 1e-9) >= share - slack


@given(scores)
def test_the_interquartile_mean_is_scipys_trimmed_mean_of_all_runs(runs: Samples) -> None:
    expected = stats.trim_mean(np.concatenate(runs), 0.25)
    assert interquartile_mean(runs) == pytest.approx(expected, rel=1e-9, abs=1e-9)


@given(scores, st.floats(-50, 50))
def test_statistics_move_with_the_scores(runs: Samples, shift: float) -> None:
    moved = [each + shift for each in runs]
    assert interquartile_mean(moved) == pytest.approx(interquartile_mean(runs) + shift, abs=1e-6)
    assert optimality_gap(moved, 1 + shift) == pytest.approx(optimality_gap(runs, 1), abs=1e-6)


@given(scores)
def test_a_profile_never_rises_and_encloses_the_optimality_gap(runs: Samples) -> None:
    thresholds = np.linspace(-101, 101, 2021)
    profile = performance_profile(runs, thresholds)
    assert profile[0] == 1
    assert profile[-1] == 0
    assert (np.diff(profile) <= 0).all()
    short = thresholds <= 1
    area = (1 - profile[short]).sum() * 0.1  # under 1 - profile, up to the threshold of the gap
    assert optimality_gap(runs) == pytest.approx(area, abs=0.11)


@given(scores, st.integers(0, 2**32 - 1))
def test_the_probability_of_improvement_counts_pairs(ours: Samples, seed: int) -> None:
    rng = np.random.default_rng(seed)
    theirs = [rng.choice([*each, 0.0], size=3) for each in ours]  # with ties
    chances = [np.mean([(x > y) + (x == y) / 2 for x in a for y in b]) for a, b in zip(ours, theirs, strict=True)]
    forth, back = probability_of_improvement(ours, theirs), probability_of_improvement(theirs, ours)
    assert forth == pytest.approx(np.mean(chances))
    assert forth + back == pytest.approx(1)


@given(scores, st.integers(0, 2**32 - 1))
def test_resamples_are_worked_on_as_if_one_by_one(runs: Samples, seed: int) -> None:
    rng = np.random.default_rng(seed)
    drawn = [rng.choice(each, size=(3, len(each))) for each in runs]
    for statistic in (
        interquartile_mean,
        optimality_gap,
        lambda sample: performance_profile(sample, THRESHOLDS),
        lambda sample: probability_of_improvement(sample, runs),
    ):
        at_once = statistic(drawn)
        for i in range(3):
            np.testing.assert_allclose(at_once[i], statistic([each[i] for each in drawn]))


def test_a_resample_stays_within_its_tasks() -> None:
    runs = [np.array([0.0, 1.0]), np.array([10.0, 11.0, 12.0])]

    def seen(sample: Samples) -> NDArray[np.float64]:
        assert [each.shape for each in sample] in ([(2,), (3,)], [(50, 2), (50, 3)])
        assert set(np.unique(sample[0])) == {0.0, 1.0}
        assert set(np.unique(sample[1])) == {10.0, 11.0, 12.0}
        return np.asarray(sample[0].mean(axis=-1))

    stratified_bootstrap(seen, runs, rng=np.random.default_rng(0), resamples=50)


def test_equal_seeds_make_equal_intervals() -> None:
    one, same, other = (
        stratified_bootstrap(interquartile_mean, per_task(OURS), rng=np.random.default_rng(seed), resamples=100)
        for seed in (3, 3, 4)
    )
    assert (one.low, one.high) == (same.low, same.high)
    assert (one.low, one.high) != (other.low, other.high)


def test_random_has_a_score_of_0_and_the_baseline_of_1() -> None:
    returns = [np.array([-100.0, 300.0, 500.0]), np.array([-6.0, -2.0])]
    first, second = normalised_scores(returns, random=[-100.0, -10.0], baseline=[300.0, -2.0])
    np.testing.assert_allclose(first, [0, 1, 1.5])
    np.testing.assert_allclose(second, [0.5, 1])


def test_without_a_better_baseline_there_is_no_score() -> None:
    (scored,) = normalised_scores([np.array([[1.0, 2.0], [3.0, 4.0]])], [0.0], [np.array([2.0, -1.0])])
    np.testing.assert_array_equal(scored, [[0.5, 1.0], [np.nan, np.nan]])
    assert np.isnan(interquartile_mean([scored])).tolist() == [False, True]
    assert np.isnan(optimality_gap([scored])).tolist() == [False, True]
    assert np.isnan(performance_profile([scored], THRESHOLDS)).all(axis=1).tolist() == [False, True]


def test_resamples_without_a_score_are_left_out_of_the_interval() -> None:
    """A baseline of one good and one bad run: 1 resample in 4 has the bad one alone, which is no better than random."""
    returns, baseline = [np.array([2.0])], [np.array([4.0, -4.5])]

    def score(own: Samples, resampled: Samples) -> NDArray[np.float64]:
        return interquartile_mean(normalised_scores(own, [-1.0], [each.mean(axis=-1) for each in resampled]))

    found = stratified_bootstrap(score, returns, baseline, rng=np.random.default_rng(0))
    assert found.value == pytest.approx(3 / 0.75)
    assert found.low == pytest.approx(3 / 5)  # the good one twice
    assert found.high == pytest.approx(3 / 0.75)
    nothing = stratified_bootstrap(score, returns, [np.array([-2.0])], rng=np.random.default_rng(0))
    assert np.isnan([nothing.value, nothing.low, nothing.high]).all()


def test_what_cannot_be_resampled_is_refused() -> None:
    with pytest.raises(ValueError, match="without a run"):
        stratified_bootstrap(interquartile_mean, [np.empty(0)], rng=np.random.default_rng(0))
    with pytest.raises(ValueError, match="zip"):
        normalised_scores([np.ones(1), np.ones(1)], [0.0], [1.0])
    with pytest.raises(ValueError, match="zip"):
        probability_of_improvement([np.ones(1)], [np.ones(1), np.ones(1)])


def test_the_interval_of_a_mean_is_students() -> None:
    values = [3.0, 4.0, 8.0]
    low, high = stats.t.interval(0.9, df=2, loc=np.mean(values), scale=stats.sem(values))
    assert mean_interval(values, level=0.9) == pytest.approx((5.0, low, high))
    np.testing.assert_equal(mean_interval([3.0]), (3.0, np.nan, np.nan))
    np.testing.assert_equal(mean_interval([]), (np.nan, np.nan, np.nan))


def test_ten_thousand_resamples_of_eight_tasks_take_seconds() -> None:
    runs = [np.random.default_rng(task).random(5) for task in range(8)]
    began = time.process_time()
    stratified_bootstrap(interquartile_mean, runs, rng=np.random.default_rng(0))
    stratified_bootstrap(probability_of_improvement, runs, runs, rng=np.random.default_rng(0))
    assert time.process_time() - began < 5
