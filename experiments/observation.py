"""Which observation of a step the predictor is given, before its action, after it or both: eight tasks, three seeds.

    prefrl sweep observation --missing
    prefrl report experiments/results/observation

The paper's predictor is given the observation before the action, and so has to foresee what the action leads to, which
is what the true rewards of all eight tasks are about. With both, fitting more in each iteration is tried beside it: as
many gradient steps as take the same time on every task; and then asking only where the predictors disagree, as the
paper does. The runs with the one before and on the true reward are those of figure2.py, and are not run again.
"""

from prefrl.paper import FIGURE_2, TRUE_REWARD
from prefrl.sweep import Sweep

BEFORE, AFTER, BOTH = ({"reward.observation": when} for when in ("before", "after", "both"))
FITTED_ALIKE = {"reward.gradient_steps": None}  # as many as take the same time on every task
DISPUTED = {"queries.elite_share": 0.0}  # none among the best segments
SWEEP = Sweep(
    title="Predictors that are given the observation before an action, the one after, or both",
    tasks=("walker", "hopper", "swimmer", "cheetah", "ant", "reacher", "double-pendulum", "pendulum"),
    conditions={
        TRUE_REWARD: {"feedback": "none"},
        "700, both, 4 to 16 steps": {"labels": 700, **BOTH, **FITTED_ALIKE},
        "700, both, 4 to 16 steps, disputed": {"labels": 700, **BOTH, **FITTED_ALIKE, **DISPUTED},
        "700, both": {"labels": 700, **BOTH},
        "700, after": {"labels": 700, **AFTER},
        "700, before": {"labels": 700, **BEFORE},
    },
    seeds=(0, 1, 2),
    options={"steps": 2_000_000, "video": False},
    baseline=TRUE_REWARD,
    drawings=("learning", "profiles"),
    paper={task: {TRUE_REWARD: row[TRUE_REWARD]} for task, row in FIGURE_2.items()},
)
