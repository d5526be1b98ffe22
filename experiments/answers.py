"""How many answers it takes: final true return from 50 to 1,400 synthetic answers, eight tasks, three seeds.

    prefrl sweep answers --missing
    prefrl report experiments/results/answers

Its runs of 350, 700 and 1,400 answers and of the true reward are those of figure2.py, and are not run again.
"""

from prefrl.paper import FIGURE_2, TRUE_REWARD
from prefrl.sweep import Sweep

SWEEP = Sweep(
    title="True return against the number of answers",
    tasks=("walker", "hopper", "swimmer", "cheetah", "ant", "reacher", "double-pendulum", "pendulum"),
    conditions={
        TRUE_REWARD: {"feedback": "none"},
        **{f"{labels} answers": {"labels": labels} for labels in (50, 100, 200, 350, 700, 1400)},
    },
    seeds=(0, 1, 2),
    options={"steps": 2_000_000, "video": False},
    baseline=TRUE_REWARD,
    drawings=("answers", "profiles"),
    paper=FIGURE_2,
)
