"""What drawing each predictor's answers with replacement costs, and fitting them little: eight tasks, three seeds.

    prefrl sweep bootstrap --missing
    prefrl report experiments/results/bootstrap

With the bootstrap each of the seven predictors learns from 1 - 1/e of the answers, and holds out the others. In folds
each answer is held out by one predictor, so that each learns from six sevenths; in as many gradient steps, 2 per
iteration, each answer is then drawn half as often, so 8 are tried as well. The runs with the bootstrap and on the true
reward are those of figure2.py, and are not run again.
"""

from prefrl.paper import FIGURE_2, TRUE_REWARD
from prefrl.sweep import Sweep

FOLDS = {"reward.bootstrap": False}
SWEEP = Sweep(
    title="Each predictor on a draw of the answers or on all but its fold, fitted with 2 or 8 gradient steps",
    tasks=("walker", "hopper", "swimmer", "cheetah", "ant", "reacher", "double-pendulum", "pendulum"),
    conditions={
        TRUE_REWARD: {"feedback": "none"},
        "700, folds, 8 steps": {"labels": 700, **FOLDS, "reward.gradient_steps": 8},
        "700, folds": {"labels": 700, **FOLDS},
        "1400, bootstrap": {"labels": 1400, "reward.bootstrap": True},
        "700, bootstrap": {"labels": 700, "reward.bootstrap": True},
        "350, bootstrap": {"labels": 350, "reward.bootstrap": True},
    },
    seeds=(0, 1, 2),
    options={"steps": 2_000_000, "video": False},
    baseline=TRUE_REWARD,
    drawings=("learning", "profiles"),
    paper={task: {TRUE_REWARD: row[TRUE_REWARD]} for task, row in FIGURE_2.items()},
)
