from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from prefrl.errors import UserError
from prefrl.rollouts import Rollout, join
from prefrl.segments import Segment, cut_segments, valid_starts

Starts = NDArray[np.bool_]

# (S, n) of any size, a reset in any place.
any_starts = hnp.arrays(np.bool_, st.tuples(st.integers(1, 30), st.integers(1, 4)))


def numbered_rollout(episode_starts: Starts, first_step: int = 0) -> Rollout:
    """A rollout in which an observation says which step of which environment and of which episode it is."""
    steps, envs = episode_starts.shape
    step, env = np.meshgrid(np.arange(first_step, first_step + steps), np.arange(envs), indexing="ij")
    observations = np.stack([step, env, episode_starts.cumsum(axis=0)], axis=-1)
    return Rollout(
        observations.astype(np.float32),
        (observations + np.array([1, 0, 0])).astype(np.float32),
        -observations[..., :2].astype(np.float32),
        step.astype(np.float32),
        episode_starts,
        observations.astype(np.float64),
        observations[..., :1].astype(np.float64),
        env_steps=first_step + steps,
    )


def windows_without_a_reset(episode_starts: Starts, length: int) -> set[tuple[int, int]]:
    """(step, environment) of every window of which no step but the first starts an episode, one by one."""
    steps, envs = episode_starts.shape
    return {
        (s, e)
        for s in range(steps - length + 1)
        for e in range(envs)
        if not any(episode_starts[s + k, e] for k in range(1, length))
    }


@given(any_starts, st.integers(1, 12))
def test_valid_starts_are_the_windows_without_a_reset(episode_starts: Starts, length: int) -> None:
    found = {(int(s), int(e)) for s, e in np.argwhere(valid_starts(episode_starts, length))}
    assert found == windows_without_a_reset(episode_starts, length)


@given(any_starts, st.integers(1, 8), st.integers(0, 2**32 - 1))
def test_segments_never_cross_a_reset(episode_starts: Starts, length: int, seed: int) -> None:
    rollout = numbered_rollout(episode_starts)
    if not windows_without_a_reset(episode_starts, length):
        with pytest.raises(UserError, match=f"segment of {length} steps"):
            cut_segments(rollout, length, 1, np.random.default_rng(seed))
        return
    for segment in cut_segments(rollout, length, 5, np.random.default_rng(seed)):
        step, env, episode = segment.observations.T
        assert segment.length == length
        assert (np.diff(step) == 1).all(), "consecutive steps"
        assert len(set(env)) == len(set(episode)) == 1, "of one episode"
        # All parts are of the same steps.
        np.testing.assert_array_equal(segment.actions, -segment.observations[:, :2])
        np.testing.assert_array_equal(segment.true_rewards, step)
        assert segment.qpos is not None
        assert segment.qvel is not None
        assert segment.next_observations is not None
        np.testing.assert_array_equal(segment.next_observations[:, 0], step + 1)
        np.testing.assert_array_equal(segment.qpos, segment.observations)
        np.testing.assert_array_equal(segment.qvel[:, 0], step)


@given(any_starts, st.integers(1, 29), st.integers(1, 8))
def test_a_border_between_rollouts_is_no_reset(episode_starts: Starts, border: int, length: int) -> None:
    border = min(border, len(episode_starts))
    parts = [numbered_rollout(episode_starts[:border]), numbered_rollout(episode_starts[border:], border)]
    joined = join([part for part in parts if len(part.rewards)])
    np.testing.assert_array_equal(joined.rewards, numbered_rollout(episode_starts).rewards)
    assert joined.env_steps == len(episode_starts)
    found = {(int(s), int(e)) for s, e in np.argwhere(valid_starts(joined.episode_starts, length))}
    assert found == windows_without_a_reset(episode_starts, length)


@pytest.mark.parametrize("seed", range(3))
def test_segments_are_uniform_over_all_windows_those_across_rollout_borders_included(seed: int) -> None:
    length, draws = 4, 40_000
    episode_starts = np.zeros((20, 3), np.bool_)
    episode_starts[[0, 9], 0] = episode_starts[[3, 6], 1] = True
    joined = join([numbered_rollout(episode_starts[:10]), numbered_rollout(episode_starts[10:], 10)])
    windows = windows_without_a_reset(episode_starts, length)
    assert sum(6 < step < 10 for step, _ in windows) >= 6, "some windows lie across the border"

    segments = cut_segments(joined, length, draws, np.random.default_rng(seed))
    counts = Counter((int(s.observations[0, 0]), int(s.observations[0, 1])) for s in segments)
    assert set(counts) == windows
    expected = draws / len(windows)
    chi_square = sum((count - expected) ** 2 / expected for count in counts.values())
    degrees = len(windows) - 1
    assert chi_square < degrees + 5 * np.sqrt(2 * degrees)


def test_a_segment_is_a_copy_and_knows_when_it_was_recorded() -> None:
    rollout = numbered_rollout(np.zeros((5, 1), np.bool_))
    segment = rollout.segment(1, 0, 3)
    before, after = segment.observed("before").copy(), segment.observed("after").copy()
    rollout.observations[:] = rollout.next_observations[:] = -1
    np.testing.assert_array_equal(segment.observed("before"), before)
    np.testing.assert_array_equal(segment.observed("after"), after)
    assert segment.env_steps == 5


def test_a_segment_that_does_not_know_what_its_actions_led_to_says_so() -> None:
    zeros = np.zeros((3, 1), np.float32)
    segment = Segment(zeros, zeros, zeros[:, 0], env_steps=7)
    assert segment.observed("before") is zeros
    with pytest.raises(UserError, match=r"recorded at 7 environment steps .* --reward.observation before"):
        segment.observed("after")


def test_the_true_return_is_the_undiscounted_sum() -> None:
    zeros = np.zeros((3, 1), np.float32)
    assert Segment(zeros, zeros, np.array([1.0, -2.0, 4.0], np.float32)).true_return == 3.0
