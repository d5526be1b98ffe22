"""The other eight tasks once, for a million steps: 700 synthetic answers beside PPO on the true reward and the paper.

prefrl sweep all_tasks
prefrl report experiments/results/all_tasks
"""

from prefrl.paper import FIGURE_2, TRUE_REWARD
from prefrl.sweep import Sweep

SWEEP = Sweep(
    title="All other tasks: 700 synthetic answers beside the true reward",
    tasks=("hopper", "walker", "swimmer", "ant", "reacher", "double-pendulum", "pendulum", "cheetah-one-leg"),
    conditions={"700 answers": {"labels": 700}, TRUE_REWARD: {"feedback": "none"}},
    seeds=(0,),
    options={"steps": 1_000_000},
    baseline=TRUE_REWARD,
    paper=FIGURE_2,
    notes={  # why a task falls short; written after looking at its runs, of before there were alarms
        "hopper": "a twentieth of the paper's steps; as much as our own PPO makes of the true reward by then.",
        "walker": "a twentieth of the paper's steps; more than our own PPO makes of the true reward by then, which "
        "still falls over on this seed.",
        "swimmer": "a twentieth of the paper's steps. At a discount of 0.995 it made 49 from answers and 99 of the "
        "true reward; the 0.9999 that is now its default was chosen on this seed.",
        "ant": "as much as the true reward while the policy acts with its noise (-460 and -464 in training); "
        "without, as evaluated, the two differ. The predictor is right (correlation with the true reward 0.96 "
        "per step).",
        "double-pendulum": "a twentieth of the paper's steps; more than our own PPO makes of the true reward by then.",
        "pendulum": "the pole lies in nearly all segments, so there is little to tell apart, and the predictor pays "
        "for something else (correlation 0.13 per step). PPO on the true reward has to find the swing up by chance "
        "too: it did so after 0.8M steps.",
        "cheetah-one-leg": "0.93 of PPO on the true reward; 5.3 m/s on one leg.",
    },
)
