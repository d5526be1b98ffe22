"""How many answers are wanted by step T (section A.1)."""

from __future__ import annotations

import math

INITIAL_SHARE = 0.25  # of all labels, asked about the randomly initialised policy


def labels_wanted(env_steps: int, total_steps: int, labels: int) -> int:
    """Cumulative number of labels to have asked for after `env_steps` of `total_steps`.

    A quarter at the start; then at a rate proportional to c / (T + c), where c is a tenth of the run (2e6 of the
    paper's 2e7 steps), so that the last label is asked for at the end.
    """
    initial = math.ceil(INITIAL_SHARE * labels)
    constant = total_steps / 10
    progress = math.log1p(min(env_steps, total_steps) / constant) / math.log1p(total_steps / constant)
    return initial + math.floor((labels - initial) * progress + 1e-9)
