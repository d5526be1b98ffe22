"""The paper's Figure 2: eight tasks, PPO on the true reward beside 350, 700 and 1,400 synthetic answers, three seeds.

    prefrl sweep figure2
    prefrl report experiments/results/figure2

The paper trained for 20 million steps by TRPO; these are 2 million by PPO.
"""

from prefrl.paper import FIGURE_2, TRUE_REWARD
from prefrl.sweep import Sweep

SWEEP = Sweep(
    title="Figure 2: synthetic answers beside the true reward",
    tasks=("walker", "hopper", "swimmer", "cheetah", "ant", "reacher", "double-pendulum", "pendulum"),
    conditions={
        TRUE_REWARD: {"feedback": "none"},
        "1400 answers": {"labels": 1400},
        "700 answers": {"labels": 700},
        "350 answers": {"labels": 350},
    },
    seeds=(0, 1, 2),
    options={"steps": 2_000_000, "video": False},
    baseline=TRUE_REWARD,
    drawings=("learning", "profiles"),
    paper=FIGURE_2,
    notes={
        "pendulum": "The runs from answers are of 28 November 2026, after two mends without which a standing pole "
        "could fall for good; those of the other tasks, where the mends hardly bite, are of before "
        "(experiments/README.md)."
    },
)
