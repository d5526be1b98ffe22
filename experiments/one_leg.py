"""The paper's other novel behaviour: HalfCheetah on its hind leg, from 700 synthetic answers and on the true reward.

prefrl sweep one_leg
prefrl report experiments/results/one_leg
"""

from prefrl.paper import TRUE_REWARD
from prefrl.sweep import Sweep

SWEEP = Sweep(
    title="HalfCheetah on one leg: 700 synthetic answers beside the true reward",
    tasks=("cheetah-one-leg",),
    conditions={"700 answers": {"labels": 700}, TRUE_REWARD: {"feedback": "none"}},
    seeds=(0, 1, 2),
    options={"steps": 2_000_000},
    baseline=TRUE_REWARD,
)
