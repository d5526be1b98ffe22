from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from prefrl.normalisation import RunningMoments

batches = st.lists(
    hnp.arrays(np.float32, st.tuples(st.integers(1, 20), st.just(3)), elements=st.floats(-1e3, 1e3, width=32)),
    min_size=1,
    max_size=5,
)


@given(batches)
def test_moments_of_batches_equal_those_of_everything_at_once(batches: list[np.ndarray]) -> None:
    moments = RunningMoments(3)
    for batch in batches:
        moments.update(batch)
    everything = np.concatenate(batches).astype(np.float64)
    assert moments.count == len(everything)
    np.testing.assert_allclose(moments.mean, everything.mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(moments.deviation, everything.std(axis=0), atol=1e-6)


def test_a_rollout_of_steps_and_environments_is_so_many_vectors() -> None:
    rollout = np.random.default_rng(0).normal(size=(4, 5, 3))
    one, other = RunningMoments(3), RunningMoments(3)
    one.update(rollout)
    other.update(rollout.reshape(20, 3))
    np.testing.assert_array_equal(one.mean, other.mean)


def test_a_large_offset_does_not_swamp_the_deviation() -> None:
    rng = np.random.default_rng(0)
    moments = RunningMoments(1)
    for _ in range(20):
        moments.update(1e6 + rng.normal(size=(500, 1)))
    np.testing.assert_allclose(moments.deviation, 1.0, rtol=0.05)


def test_before_anything_was_seen_nothing_is_changed() -> None:
    moments = RunningMoments(2)
    np.testing.assert_array_equal(moments.mean, [0, 0])
    np.testing.assert_array_equal(moments.deviation, [1, 1])
