"""The paper's Figure 5: what each part of the method is good for, with 700 synthetic answers, eight tasks, three seeds.

    prefrl sweep figure5 --missing
    prefrl report experiments/results/figure5

`as in the paper` has the paper's three predictors, its ℓ2 that follows the ratio of held-out to training loss, and its
way to choose queries. `original` has this project's defaults: seven predictors, a constant ℓ2, the first questions in
rounds, and half of the later ones about the best segments.
`original` and PPO on the true reward are the very runs of figure2.py, and are not run again.
"""

from prefrl.paper import FIGURE_2, FIGURE_5, TRUE_REWARD
from prefrl.sweep import Sweep

SWEEP = Sweep(
    title="Figure 5: ablations with 700 synthetic answers",
    tasks=("walker", "hopper", "swimmer", "cheetah", "ant", "reacher", "double-pendulum", "pendulum"),
    conditions={
        TRUE_REWARD: {"feedback": "none"},
        "original": {"labels": 700},
        "as in the paper": {
            "labels": 700,
            "queries.elite_share": 0.0,
            "queries.initial_rounds": False,
            "reward.members": 3,
            "reward.latest_share": 0.0,
            "reward.adaptive_l2": True,
            "reward.l2": 1e-2,
        },
        "random queries": {"labels": 700, "queries.selection": "uniform"},
        "no ensemble": {"labels": 700, "reward.members": 1, "queries.selection": "uniform"},
        # Four iterations of the random policy, the default, hold too few steps to ask everything about.
        # None of the answers is later than the others, so that all are drawn alike.
        "no online queries": {
            "labels": 700,
            "queries.online": False,
            "queries.initial_rollouts": 8,
            "reward.latest_share": 0.0,
        },
        "no regularisation": {"labels": 700, "reward.l2": 0.0},
        "no segments": {"labels": 700, "queries.segment_steps": 1},
        "target": {"labels": 700, "reward.target": "returns"},
    },
    seeds=(0, 1, 2),
    options={"steps": 2_000_000, "video": False},
    baseline=TRUE_REWARD,
    drawings=("learning", "profiles"),
    paper={
        task: {TRUE_REWARD: FIGURE_2[task][TRUE_REWARD], "as in the paper": row["original"], **row}
        for task, row in FIGURE_5.items()
    },
)
