"""Figure 2 (figure2.py) with five seeds in place of three: how much of it is luck.

    prefrl sweep five_seeds --missing
    prefrl report experiments/results/five_seeds

The runs of the first three seeds are those of figure2.py, and are not run again. Beside them the condition of
observation.py with which three seeds of 700 answers come inside the interval of the true reward on all eight tasks.
"""

from prefrl.paper import FIGURE_2, TRUE_REWARD
from prefrl.sweep import Sweep

SWEEP = Sweep(
    title="Figure 2 with five seeds",
    tasks=("walker", "hopper", "swimmer", "cheetah", "ant", "reacher", "double-pendulum", "pendulum"),
    conditions={
        TRUE_REWARD: {"feedback": "none"},
        "1400 answers": {"labels": 1400},
        "700 answers": {"labels": 700},
        "350 answers": {"labels": 350},
        "700, both, 4 to 16 steps": {"labels": 700, "reward.observation": "both", "reward.gradient_steps": None},
    },
    seeds=(0, 1, 2, 3, 4),
    options={"steps": 2_000_000, "video": False},
    baseline=TRUE_REWARD,
    drawings=("learning", "profiles"),
    paper=FIGURE_2,
    notes={
        "pendulum": "The runs from answers of seeds 0 to 2 are of 28 November 2026, after two mends without which a "
        "standing pole could fall for good; those of the other tasks, where the mends hardly bite, are of before "
        "(experiments/README.md). All runs of seeds 3 and 4 are of after them."
    },
)
