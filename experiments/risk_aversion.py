"""An agent that is averse to risk: paid (1 - exp(-a r)) / a for a predicted reward r, eight tasks, three seeds.

    prefrl sweep risk_aversion --missing
    prefrl report experiments/results/risk_aversion

The runs without it and on the true reward are those of figure2.py, and are not run again.
"""

from prefrl.paper import FIGURE_2, TRUE_REWARD
from prefrl.sweep import Sweep

SWEEP = Sweep(
    title="Risk aversion",
    tasks=("walker", "hopper", "swimmer", "cheetah", "ant", "reacher", "double-pendulum", "pendulum"),
    conditions={
        TRUE_REWARD: {"feedback": "none"},
        "700, averse": {"labels": 700, "reward.risk_aversion": 0.5},
        "700": {"labels": 700},
    },
    seeds=(0, 1, 2),
    options={"steps": 2_000_000, "video": False},
    baseline=TRUE_REWARD,
    drawings=("learning", "profiles"),
    paper={task: {TRUE_REWARD: row[TRUE_REWARD]} for task, row in FIGURE_2.items()},
)
