from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefrl.label_schedule import labels_wanted

labels_and_steps = st.tuples(st.integers(4, 5000), st.integers(1000, 2 * 10**7))


@pytest.mark.parametrize(
    ("env_steps", "wanted"),
    [
        (0, 175),  # a quarter of 700
        (2 * 10**6, 175 + 151),  # 525 · ln 2 / ln 11 = 151.76
        (10**7, 175 + 392),  # 525 · ln 6 / ln 11 = 392.29
        (2 * 10**7, 700),
    ],
)
def test_the_papers_run_by_hand(env_steps: int, wanted: int) -> None:
    assert labels_wanted(env_steps, 2 * 10**7, 700) == wanted


def test_a_run_of_another_length_asks_at_the_same_share_of_its_steps() -> None:
    for share in np.linspace(0, 1, 11):
        long = labels_wanted(int(share * 2 * 10**7), 2 * 10**7, 900)
        assert abs(labels_wanted(int(share * 10**5), 10**5, 900) - long) <= 1


def test_the_rate_falls_as_c_over_t_plus_c() -> None:
    """Labels asked for in each tenth of a long run, against the integral of the paper's rate, summed step by step."""
    total, labels = 10_000, 10**6
    rate = (total / 10) / (np.arange(total) + total / 10)
    expected = 0.75 * labels * rate.reshape(10, -1).sum(axis=1) / rate.sum()
    at = [labels_wanted(t, total, labels) for t in range(0, total + 1, total // 10)]
    np.testing.assert_allclose(np.diff(at), expected, rtol=2e-3)


@given(labels_and_steps, st.lists(st.floats(0, 1), max_size=20))
def test_it_starts_with_a_quarter_never_falls_and_ends_with_all(
    labels_and_steps: tuple[int, int], shares: list[float]
) -> None:
    labels, total = labels_and_steps
    wanted = [labels_wanted(int(share * total), total, labels) for share in sorted([0.0, *shares, 1.0])]
    assert wanted[0] == math.ceil(labels / 4)
    assert wanted == sorted(wanted)
    assert wanted[-1] == labels


def test_a_last_iteration_beyond_the_end_asks_no_more() -> None:
    assert labels_wanted(2_100_000, 2_000_000, 700) == 700
