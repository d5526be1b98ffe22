"""Folds and more fitting, the same time on every task, beside the defaults: 700 answers, eight tasks, three seeds.

    prefrl sweep fitting --missing
    prefrl report experiments/results/fitting

Each predictor learns from all answers but its fold (bootstrap.py), in as many gradient steps per iteration as take
the same time whatever a segment's length: 16 on segments of 15 steps, 4 on such of 60. The defaults, with the
bootstrap and 2 steps, and the runs on the true reward are those of figure2.py, and are not run again.
"""

from prefrl.paper import FIGURE_2, TRUE_REWARD
from prefrl.sweep import Sweep

FITTED = {"reward.bootstrap": False, "reward.gradient_steps": None}
SWEEP = Sweep(
    title="Predictors in folds and fitted with 4 to 16 gradient steps, beside the defaults",
    tasks=("walker", "hopper", "swimmer", "cheetah", "ant", "reacher", "double-pendulum", "pendulum"),
    conditions={
        TRUE_REWARD: {"feedback": "none"},
        "700, 4 to 16 steps": {"labels": 700, **FITTED},
        "700, default": {"labels": 700},
    },
    seeds=(0, 1, 2),
    options={"steps": 2_000_000, "video": False},
    baseline=TRUE_REWARD,
    drawings=("learning", "profiles"),
    paper={task: {TRUE_REWARD: row[TRUE_REWARD]} for task, row in FIGURE_2.items()},
)
