"""Which pairs to ask about: five ways to choose 700 queries, eight tasks, three seeds.

    prefrl sweep queries --missing
    prefrl report experiments/results/queries

`original` asks half of the later queries where the ensemble disagrees most, and half among the best segments; `a
quarter among the best` asks fewer of these. `disputed queries` leaves out the best, as the paper does; `half among the
best` asks the other half at random; `random queries` asks all at random. The runs of `original`, of random queries and
of the true reward are those of figure5.py, and are not run again.
"""

from prefrl.paper import FIGURE_2, TRUE_REWARD
from prefrl.sweep import Sweep

SWEEP = Sweep(
    title="Ways to choose 700 queries",
    tasks=("walker", "hopper", "swimmer", "cheetah", "ant", "reacher", "double-pendulum", "pendulum"),
    conditions={
        TRUE_REWARD: {"feedback": "none"},
        "original": {"labels": 700},
        "a quarter among the best": {"labels": 700, "queries.elite_share": 0.25},
        "disputed queries": {"labels": 700, "queries.elite_share": 0.0},
        "half among the best": {"labels": 700, "queries.candidates": 1},
        "random queries": {"labels": 700, "queries.selection": "uniform"},
    },
    seeds=(0, 1, 2),
    options={"steps": 2_000_000, "video": False},
    baseline=TRUE_REWARD,
    drawings=("learning", "profiles"),
    paper={task: {TRUE_REWARD: row[TRUE_REWARD]} for task, row in FIGURE_2.items()},
)
