"""HalfCheetah from 700 synthetic answers beside PPO on the true reward: same settings and steps, three seeds each.

prefrl sweep cheetah
prefrl report experiments/results/cheetah
"""

from prefrl.paper import FIGURE_2, TRUE_REWARD
from prefrl.sweep import Sweep

SWEEP = Sweep(
    title="HalfCheetah: 700 synthetic answers beside the true reward",
    tasks=("cheetah",),
    conditions={"700 answers": {"labels": 700}, TRUE_REWARD: {"feedback": "none"}},
    seeds=(20, 21, 22),  # none of them was looked at while settings were chosen
    options={"steps": 2_000_000},
    baseline=TRUE_REWARD,
    paper=FIGURE_2,
    notes={"cheetah": "runs of November 2026, before there were alarms: none was looked for."},
)
