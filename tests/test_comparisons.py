from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefrl.comparisons import Comparisons
from prefrl.errors import UserError
from prefrl.preferences import Answer
from prefrl.queries import Query
from prefrl.segments import Segment


def make_segment(number: float, length: int = 2) -> Segment:
    """A segment whose every value tells which it is."""
    return Segment(
        np.full((length, 3), number, np.float32),
        np.full((length, 1), -number, np.float32),
        np.full(length, number, np.float32),
    )


def answered(number: int, choice: str = "left", length: int = 2) -> tuple[Query, Answer]:
    """The answer to a pair of segments `number` and `number + ½`."""
    query = Query((make_segment(number, length), make_segment(number + 0.5, length)), id=number + 1)
    return query, Answer.from_choice(number + 1, choice, labeller="test", shown_at=0.0, answered_at=0.0)


def filled(
    count: int, members: int = 3, seed: int = 0, bootstrap: bool = True, hold_out: bool = True, capacity: int = 3000
) -> Comparisons:
    comparisons = Comparisons(members, np.random.default_rng(seed), bootstrap, hold_out, capacity)
    comparisons.extend(answered(i) for i in range(count))
    return comparisons


def test_answers_become_mu_and_cant_tell_is_dropped() -> None:
    comparisons = Comparisons(3, np.random.default_rng(0))
    comparisons.extend(answered(i, choice) for i, choice in enumerate(["left", "right", "cant_tell", "equal"]))
    assert len(comparisons) == 3
    assert comparisons.mu[:3].tolist() == [[1, 0], [0, 1], [0.5, 0.5]]
    assert comparisons.observations[:3, :, 0, 0].tolist() == [[0, 0.5], [1, 1.5], [3, 3.5]]
    assert comparisons.actions[:3, 0, 0, 0].tolist() == [0, -1, -3]
    assert comparisons.true_returns[:3].tolist() == [[0, 1], [2, 3], [6, 7]]


def test_what_actions_led_to_is_compared_where_that_is_asked_for() -> None:
    comparisons = Comparisons(3, np.random.default_rng(0), observation="after")
    query, answer = answered(0)
    pair = [replace(segment, next_observations=segment.observations + 7) for segment in query.segments]
    comparisons.extend([(Query(tuple(pair), id=1), answer)])
    assert comparisons.observations[0, :, 0, 0].tolist() == [7, 7.5]
    with pytest.raises(UserError, match="no observations after its actions"):
        comparisons.extend([(query, answer)])


def test_steps_are_spread_evenly_over_what_is_kept() -> None:
    comparisons = filled(10, capacity=8)  # 8 pairs of 2 segments of 2 steps; the first two pairs are forgotten
    kept = [number + half for number in (8, 9, 2, 3, 4, 5, 6, 7) for half in (0, 0, 0.5, 0.5)]
    observations, actions = comparisons.steps(100)
    assert observations[:, 0].tolist() == kept
    assert actions[:, 0].tolist() == [-number for number in kept]
    assert comparisons.steps(4)[0][:, 2].tolist() == [kept[i] for i in (0, 10, 20, 31)]
    assert len(Comparisons(3, np.random.default_rng(0)).steps(4)[0]) == 0


def test_a_ranking_gives_every_pair_of_its_segments() -> None:
    query = Query(tuple(make_segment(i) for i in range(3)), id=1)
    comparisons = Comparisons(1, np.random.default_rng(0))
    comparisons.extend([(query, Answer(1, ((2,), (0, 1)), "test", 0.0, 0.0))])
    pairs = comparisons.observations[:3, :, 0, 0].tolist()
    assert dict(zip(map(tuple, pairs), comparisons.mu[:3].tolist(), strict=True)) == {
        (0, 1): [0.5, 0.5],
        (0, 2): [0, 1],
        (1, 2): [0, 1],
    }


def test_segments_of_another_length_are_refused() -> None:
    comparisons = filled(2)
    with pytest.raises(UserError, match="one length"):
        comparisons.extend([answered(3, length=5)])


def test_the_held_out_share_is_one_in_e_per_member() -> None:
    comparisons = filled(3000)
    held_out = comparisons.copies == 0
    # Standard deviation of a share of 3000 is 0.009.
    np.testing.assert_allclose(held_out.mean(axis=1), np.exp(-1), atol=0.04)
    assert held_out.all(axis=0).mean() == pytest.approx(np.exp(-3), abs=0.02), "members hold out independently"


@pytest.mark.parametrize("members", [3, 7])
def test_without_bootstrap_each_pair_is_held_out_by_one_member(members: int) -> None:
    copies = filled(3000, members, bootstrap=False).copies
    assert (copies.sum(axis=0) == members - 1).all()
    np.testing.assert_allclose((copies == 0).mean(axis=1), 1 / members, atol=0.04)


@pytest.mark.parametrize("members", [1, 2])
def test_without_bootstrap_few_members_hold_out_a_third_each(members: int) -> None:
    copies = filled(3000, members, bootstrap=False).copies
    np.testing.assert_allclose((copies == 0).mean(axis=1), 1 / 3, atol=0.04)
    assert ((copies == 0).sum(axis=0) <= 1).all()


def test_copies_are_those_of_drawing_as_many_pairs_with_replacement() -> None:
    """Against the bootstrap drawn outright: D draws with replacement out of D pairs."""
    pairs = 3000
    drawn = np.bincount(np.random.default_rng(1).integers(pairs, size=pairs), minlength=pairs)
    for copies in filled(pairs).copies:
        assert copies.sum() == pytest.approx(pairs, rel=0.1)
        for times in range(4):
            assert (copies == times).mean() == pytest.approx((drawn == times).mean(), abs=0.05)


def test_switches_turn_bootstrap_and_hold_out_off() -> None:
    assert (filled(200, bootstrap=False, hold_out=False).copies[:, :200] == 1).all()
    assert filled(200, bootstrap=True, hold_out=False).copies[:, :200].min() == 1
    assert filled(200, bootstrap=True, hold_out=False).copies.max() > 1
    assert set(np.unique(filled(200, bootstrap=False, hold_out=True).copies[:, :200])) == {0, 1}


@pytest.mark.parametrize("seed", range(3))
def test_minibatches_draw_in_proportion_to_copies(seed: int) -> None:
    comparisons, draws = filled(40, seed=seed), 60_000
    for rows, copies in zip(comparisons.minibatch(draws).numpy(), comparisons.copies[:, :40], strict=True):
        share, expected = np.bincount(rows, minlength=40) / draws, copies / copies.sum()
        deviation = np.sqrt(expected * (1 - expected) / draws)
        assert (np.abs(share - expected) <= 5.5 * deviation).all()


@pytest.mark.parametrize("capacity", [3000, 30])
def test_a_share_of_the_minibatch_is_of_the_latest_pairs(capacity: int) -> None:
    comparisons, draws = filled(40, capacity=capacity), 40_000
    numbers = comparisons.observations[:, 0, 0, 0].numpy()
    for rows, copies in zip(
        comparisons.minibatch(draws, latest=8, share=0.25).numpy(), comparisons.copies, strict=True
    ):
        latest = np.flatnonzero((numbers >= 32) & (numbers < 40))
        expected = copies[: len(comparisons)] / copies[: len(comparisons)].sum() * 0.75
        expected[latest] += copies[latest] / copies[latest].sum() * 0.25
        share = np.bincount(rows, minlength=len(comparisons)) / draws
        assert (np.abs(share - expected) <= 5.5 * np.sqrt(expected * (1 - expected) / draws)).all()


def test_a_member_that_holds_out_all_the_latest_pairs_draws_from_the_others() -> None:
    comparisons = filled(20)
    comparisons.copies[:, :20] = 1
    comparisons.copies[1, 15:20] = 0
    one, other, _ = comparisons.minibatch(500, latest=5, share=1.0).numpy()
    assert one.min() == 15
    assert set(other) == set(range(15))


@given(st.integers(1, 30), st.integers(1, 4), st.integers(0, 10**6), st.booleans(), st.integers(1, 30), st.floats(0, 1))
def test_a_minibatch_never_holds_a_held_out_pair(
    count: int, members: int, seed: int, bootstrap: bool, latest: int, share: float
) -> None:
    comparisons = filled(count, members, seed, bootstrap)
    rows = comparisons.minibatch(64, latest, share).numpy()
    assert rows.shape == (members, 64)
    for drawn, copies in zip(rows, comparisons.copies[:, :count], strict=True):
        assert ((drawn >= 0) & (drawn < count)).all()
        if copies.any():  # one that holds out everything draws from all
            assert (copies[drawn] > 0).all()


def test_the_buffer_keeps_the_last_answers_only() -> None:
    comparisons = filled(25, capacity=10)
    assert len(comparisons) == 10
    assert sorted(comparisons.observations[:, 0, 0, 0].tolist()) == list(range(15, 25))
    assert comparisons.minibatch(500).max() < 10
    comparisons.extend([answered(99, "right")])
    newest = comparisons.observations[:, 0, 0, 0] == 99
    assert comparisons.mu[newest].tolist() == [[0, 1]]
    assert len(comparisons) == 10


def test_what_is_held_out_stays_held_out_as_answers_come_in() -> None:
    comparisons = filled(20)
    before = comparisons.copies[:, :20].copy()
    comparisons.extend(answered(i) for i in range(20, 60))
    np.testing.assert_array_equal(comparisons.copies[:, :20], before)


def test_a_superseded_answer_loses_its_weight_and_the_new_one_counts() -> None:
    comparisons = Comparisons(3, np.random.default_rng(0))
    query, answer = answered(0, "left")
    comparisons.extend([(query, replace(answer, id=1))])
    comparisons.extend([(query, replace(Answer(1, ((1,), (0,)), "test", 0.0, 0.0), id=2, supersedes=1))])
    assert comparisons.mu[: len(comparisons)].tolist() == [[0, 0], [0, 1]]
