"""The paper's entropy bonus, falling to nothing, on learned and on true reward: eight tasks, three seeds.

    prefrl sweep entropy
    prefrl report experiments/results/entropy

The paper took a bonus of 0.01 (swimmer 0.001, A.1), the one setting of TRPO that it adjusted for a reward that
changes (2.2.1). Here it falls from 0.01 to 0 over the run, on swimmer too. The predictors are those of bootstrap.py's
folds with 8 gradient steps, whose runs without a bonus stand beside, and those on the true reward from figure2.py.
"""

from prefrl.paper import FIGURE_2, TRUE_REWARD
from prefrl.sweep import Sweep

FOLDS = {"reward.bootstrap": False, "reward.gradient_steps": 8}
BONUS = {"ppo.entropy_bonus": 0.01, "ppo.final_entropy_bonus": 0.0}
SWEEP = Sweep(
    title="An entropy bonus that falls from 0.01 to 0 over the run",
    tasks=("walker", "hopper", "swimmer", "cheetah", "ant", "reacher", "double-pendulum", "pendulum"),
    conditions={
        TRUE_REWARD: {"feedback": "none"},
        "true reward, bonus": {"feedback": "none", **BONUS},
        "1400, bonus": {"labels": 1400, **FOLDS, **BONUS},
        "700, bonus": {"labels": 700, **FOLDS, **BONUS},
        "700": {"labels": 700, **FOLDS},
    },
    seeds=(0, 1, 2),
    options={"steps": 2_000_000, "video": False},
    baseline=TRUE_REWARD,
    drawings=("learning", "profiles"),
    paper={task: {TRUE_REWARD: row[TRUE_REWARD]} for task, row in FIGURE_2.items()},
)
