"""Known teachers answer; the fit finds them."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import fields, replace

import numpy as np
import pytest
from scipy import optimize
from surveys import labeller_of, make_pairs, make_segments, survey_of

from prefrl.agreement import FittedTeacher, Labeller, Survey, fit_teacher
from prefrl.agreement.labellers import EQUAL, LEFT, RIGHT, SKIP
from prefrl.agreement.scores import ShownSegments, running_scale
from prefrl.agreement.shares import agreement
from prefrl.agreement.words import PARAMETERS
from prefrl.oracles.synthetic import ShownScores, Teacher, discounted_return
from prefrl.queries import Query

MIXED = Teacher(rationality=3.0, discount=0.9, error_rate=0.1, skip_below=-0.5, equal_within=0.2)


def fitted(teacher: Teacher, queries: int = 400, seed: int = 0) -> FittedTeacher:
    survey = survey_of([("teacher", teacher)], make_pairs(queries, seed), seed)
    return fit_teacher(survey.labellers[0], survey, survey.true_return)


def one_who_says(survey: Survey, choices: np.ndarray) -> Labeller:
    count = len(choices)
    return Labeller(
        *("somebody", False, np.arange(count), choices.astype(np.int8)),
        *(np.zeros(count, dtype=np.bool_), np.ones(count), np.full(count, -1)),
    )


def outside(teacher: Teacher, fit: FittedTeacher) -> list[str]:
    """Parameters whose true value the interval does not hold."""
    truths = {name: getattr(teacher, name) for name in PARAMETERS}
    truths["rationality"] = math.inf if teacher.rationality is None else teacher.rationality
    found = {name: getattr(fit, name) for name in PARAMETERS}
    return [name for name, interval in found.items() if interval is not None and truths[name] not in interval]


def test_scores_are_on_the_scale_that_the_oracle_had() -> None:
    """Hard thresholds part the answers without one exception, also after more than 200 segments."""
    teacher = Teacher(skip_below=-0.4, equal_within=0.35)
    survey = survey_of([("teacher", teacher)], make_pairs(300))
    choices, scores = survey.labellers[0].choices, survey.true_return
    skipped = choices == SKIP
    np.testing.assert_array_equal(skipped, scores.best < -0.4)
    np.testing.assert_array_equal((choices == EQUAL)[~skipped], (scores.distances <= 0.35)[~skipped])
    assert 20 < skipped.sum() < 280
    assert 20 < (choices == EQUAL).sum() < 280


def test_what_a_myopic_teacher_perceives_decides_its_answers() -> None:
    survey = survey_of([("teacher", Teacher(discount=0.8))], make_pairs(300))
    left = survey.labellers[0].choices == LEFT
    np.testing.assert_array_equal(left, survey.shown.discounted_differences(0.8) > 0)
    assert (left != (survey.true_return.differences > 0)).sum() > 20, "it errs by the true return"


def test_perceived_scores_are_in_deviations_of_the_latest_ones_longer_queries_included() -> None:
    segments = make_segments(330)
    sizes = [2, 3, 2, 2] * 36 + [2, 2, 2]
    queries = [segments[sum(sizes[:i]) : sum(sizes[: i + 1])] for i in range(len(sizes))]
    shown = ShownSegments(queries)
    latest: deque[float] = deque(maxlen=200)
    expected = []
    for query in queries:
        values = [discounted_return(segment, 0.9) for segment in query]
        latest.extend(values)
        expected += [(values[0] - values[1]) / np.std(latest)] if len(query) == 2 else []
    np.testing.assert_allclose(shown.discounted_differences(0.9), expected, rtol=1e-9)
    assert len(shown.pairs) == len(expected) == sizes.count(2)


def test_the_scale_is_the_oracles_own_where_the_policy_came_to_rest() -> None:
    rng = np.random.default_rng(0)
    values = np.concatenate([rng.normal(-20, 5, 300), 15 + rng.normal(0, 1e-4, 300)])
    ends = np.arange(2, 601, 2)
    _, latest, spreads = running_scale(values, ends)
    np.testing.assert_allclose(spreads, [ShownScores(values[:end]).spread() for end in ends], rtol=1e-9)
    assert spreads[-1] == pytest.approx(0.05 * values.std())
    assert latest[-1] == pytest.approx(values[-200:].std())


@pytest.mark.parametrize(
    "teacher",
    [
        Teacher(rationality=2.0),
        Teacher(discount=0.9),
        Teacher(error_rate=0.2),
        Teacher(skip_below=-0.5),
        Teacher(equal_within=0.3),
        MIXED,
    ],
)
def test_intervals_hold_what_the_teacher_was_told(teacher: Teacher) -> None:
    """95 % intervals of five parameters and three seeds: 15 in all, of which 3 outside have a chance of 4 %."""
    fits = [fitted(teacher, seed=seed) for seed in range(3)]
    assert sum(len(outside(teacher, fit)) for fit in fits) <= 2
    for name in ("skip_below", "equal_within"):
        found = [getattr(fit, name) for fit in fits]
        if getattr(teacher, name):
            assert max(each.high - each.low for each in found) < 0.1, "a hard threshold is found to within its gap"
            assert all(getattr(teacher, name) == pytest.approx(each.value, abs=0.03) for each in found)
        else:
            assert found == [None] * 3


@pytest.mark.parametrize("seed", range(4))
def test_a_hard_threshold_may_lie_anywhere_between_the_scores_that_it_parts(seed: int) -> None:
    survey = survey_of([("teacher", Teacher(skip_below=-0.5, equal_within=0.3))], make_pairs(600, seed))
    (labeller,) = survey.labellers
    fit = fit_teacher(labeller, survey, replace(survey.true_return))
    skipped, equal = labeller.choices == SKIP, labeller.choices == EQUAL
    for interval, width, values, below in (
        (fit.skip_below, fit.skip_width, survey.true_return.best, skipped),
        (fit.equal_within, fit.equal_width, survey.true_return.distances[~skipped], equal[~skipped]),
    ):
        assert interval is not None
        assert interval.low <= values[below].max() <= interval.value <= values[~below].min() <= interval.high
        assert interval.half < 0.03
        assert width == pytest.approx(0, abs=0.001)


def test_intervals_end_where_an_optimiser_finds_the_likelihood_to_have_fallen_by_1_92() -> None:
    survey = survey_of([("teacher", Teacher(rationality=3.0, error_rate=0.2))], make_pairs(400))
    (labeller,) = survey.labellers
    by_sum = replace(survey.true_return, name="judge")  # a score that is not discounted: two parameters
    fit = fit_teacher(labeller, survey, by_sum)
    assert fit.rationality is not None
    assert fit.error_rate is not None
    margins = np.where(labeller.choices == LEFT, 1, -1) * by_sum.differences

    def loss(rationality: float, error_rate: float) -> float:
        chances = error_rate / 2 + (1 - error_rate) / (1 + np.exp(-rationality * margins))
        return -float(np.log(chances).sum())

    best = optimize.minimize(lambda p: loss(*p), (2.0, 0.1), bounds=[(0, 50), (0, 1)])
    assert [fit.rationality.value, fit.error_rate.value] == pytest.approx(best.x, rel=0.02)
    for end in (fit.rationality.low, fit.rationality.high):
        at_end = optimize.minimize_scalar(lambda e, end=end: loss(end, e), bounds=(0, 1), method="bounded")
        assert at_end.fun - best.fun == pytest.approx(1.92, abs=0.05)
    for end in (fit.error_rate.low, fit.error_rate.high):
        at_end = optimize.minimize_scalar(lambda b, end=end: loss(b, end), bounds=(0, 50), method="bounded")
        assert at_end.fun - best.fun == pytest.approx(1.92, abs=0.05)


def test_intervals_tell_teachers_apart() -> None:
    stochastic, mistaken, myopic = (
        fitted(each) for each in (Teacher(2.0), Teacher(error_rate=0.2), Teacher(discount=0.9))
    )
    assert stochastic.rationality is not None
    assert stochastic.rationality.high < 4
    assert mistaken.rationality is not None
    assert mistaken.rationality.low > 4
    assert mistaken.error_rate is not None
    assert mistaken.error_rate.low > 0.05
    assert stochastic.error_rate is not None
    assert stochastic.error_rate.low == 0
    assert myopic.discount is not None
    assert myopic.discount.high < 0.95
    assert stochastic.discount is not None
    assert stochastic.discount.high == 1


def test_more_answers_make_narrower_intervals() -> None:
    few, many = (fitted(MIXED, queries).rationality for queries in (250, 1000))
    assert few is not None
    assert many is not None
    assert many.half < 0.7 * few.half


def test_a_soft_threshold_is_found_with_its_width() -> None:
    survey = survey_of([("teacher", Teacher())], make_pairs(800))
    rng = np.random.default_rng(1)
    distances = survey.true_return.distances
    says_equal = rng.random(len(distances)) < 1 / (1 + np.exp(-(0.6 - distances) / 0.15))
    fit = fit_teacher(one_who_says(survey, np.where(says_equal, EQUAL, LEFT)), survey, survey.true_return)
    assert fit.equal_within is not None
    assert 0.6 in fit.equal_within
    assert fit.equal_within.half < 0.1
    assert fit.equal_width == pytest.approx(0.15, rel=0.4)


def test_who_answers_at_random_is_like_many_teachers_so_nothing_is_said_of_rationality_or_discount() -> None:
    survey = survey_of([("teacher", Teacher())], make_pairs(300))
    rng = np.random.default_rng(0)
    fit = fit_teacher(one_who_says(survey, rng.choice([LEFT, RIGHT], size=300)), survey, survey.true_return)
    assert fit.discount is None
    assert fit.error_rate is None, "with β = 0 any error rate comes to the same"


@pytest.mark.parametrize("always", [LEFT, EQUAL, SKIP])
def test_who_always_says_the_same_has_a_fit(always: int) -> None:
    survey = survey_of([("teacher", Teacher())], make_pairs(60))
    fit = fit_teacher(one_who_says(survey, np.full(60, always)), survey, survey.true_return)
    farthest, best = survey.true_return.distances.max(), survey.true_return.best.max()
    if always == EQUAL:
        assert fit.equal_within is not None
        assert fit.equal_within.low > 0.8 * farthest
        assert fit.equal_within.high == math.inf
    if always == SKIP:
        assert fit.skip_below is not None
        assert fit.skip_below.low > 0.5 * best
        assert fit.skip_below.high == math.inf
    if always != LEFT:
        assert (fit.rationality, fit.discount, fit.error_rate) == (None, None, None)
        again = survey_of([("double", fit.as_teacher())], make_pairs(60)).labellers[0]
        assert (again.choices == always).mean() > 0.9


def test_a_fitted_teacher_answers_as_its_labeller_did() -> None:
    queries = make_pairs(400)
    labeller = survey_of([("labeller", MIXED)], queries, seed=0)
    fit = fit_teacher(labeller.labellers[0], labeller, labeller.true_return)
    double = survey_of([("double", fit.as_teacher())], queries, seed=1)
    (theirs,), (ours,) = labeller.labellers, double.labellers
    for choice in (LEFT, EQUAL, RIGHT, SKIP):
        assert (ours.choices == choice).mean() == pytest.approx((theirs.choices == choice).mean(), abs=0.07)
    shares = [agreement(each, labeller.true_return).value for each in (theirs, ours)]
    assert shares[0] == pytest.approx(shares[1], abs=0.08)
    assert (ours.choices != theirs.choices).any(), "it errs at other questions"


def test_of_a_perfect_labeller_a_perfect_teacher_is_fitted() -> None:
    assert fitted(Teacher()).as_teacher() == Teacher()


def test_scores_that_are_all_the_same_say_nothing() -> None:
    (segment,) = make_segments(1)
    survey = survey_of([("teacher", Teacher(rationality=1.0))], [Query((segment, segment)) for _ in range(10)])
    fit = fit_teacher(survey.labellers[0], survey, survey.true_return)
    assert fit.answers == 0, "exact ties are left out"
    assert all(getattr(fit, name) is None for name in PARAMETERS)


def test_five_answers_have_wide_intervals() -> None:
    survey = survey_of([("teacher", Teacher())], make_pairs(5))
    fit = fit_teacher(labeller_of(survey, "teacher"), survey, survey.true_return)
    assert fit.error_rate is not None
    assert fit.error_rate.low == 0
    assert fit.error_rate.high > 0.3


def test_every_parameter_of_a_teacher_is_fitted() -> None:
    assert {field.name for field in fields(Teacher)} == set(PARAMETERS)
