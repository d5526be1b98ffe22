"""Gradient steps in proportion to the answers: 1,400 answers fitted with 4 per iteration beside 2, eight tasks.

    prefrl sweep in_proportion --missing
    prefrl report experiments/results/in_proportion

With the default of 2 steps of a fixed batch, an answer of 1,400 is drawn half as often as one of 700; with 4 steps, as
often. The runs on the true reward and those with 2 steps are figure2.py's, and are not run again.
"""

from prefrl.paper import FIGURE_2, TRUE_REWARD
from prefrl.sweep import Sweep

SWEEP = Sweep(
    title="1,400 answers, each fitted as often as one of 700",
    tasks=("walker", "hopper", "swimmer", "cheetah", "ant", "reacher", "double-pendulum", "pendulum"),
    conditions={
        TRUE_REWARD: {"feedback": "none"},
        "1400, 4 steps": {"labels": 1400, "reward.gradient_steps": 4},
        "1400, default": {"labels": 1400},
    },
    seeds=(0, 1, 2),
    options={"steps": 2_000_000, "video": False},
    baseline=TRUE_REWARD,
    drawings=("learning", "profiles"),
    paper={task: {TRUE_REWARD: row[TRUE_REWARD]} for task, row in FIGURE_2.items()},
)
