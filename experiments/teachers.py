"""Teachers that err: 700 answers of each of B-Pref's, walker, cheetah, hopper and ant, three seeds.

    prefrl sweep teachers
    prefrl report experiments/results/teachers

The README's section "Oracles" says what each does. An error rate of 0.2 makes one preference in ten wrong, as in
B-Pref; thresholds and β are in deviations of the scores shown.
"""

from prefrl.paper import TRUE_REWARD
from prefrl.sweep import Sweep

SWEEP = Sweep(
    title="Teachers that err, 700 answers of each",
    tasks=("walker", "cheetah", "hopper", "ant"),
    conditions={
        TRUE_REWARD: {"feedback": "none"},
        "perfect": {"labels": 700},
        "stochastic": {"labels": 700, "oracle.rationality": 2.0},
        "myopic": {"labels": 700, "oracle.discount": 0.9},
        "mistaken": {"labels": 700, "oracle.error_rate": 0.2},
        "skipping": {"labels": 700, "oracle.skip_below": -0.5},
        "equal": {"labels": 700, "oracle.equal_within": 0.3},
    },
    seeds=(0, 1, 2),
    options={"steps": 2_000_000, "video": False},
    baseline=TRUE_REWARD,
    drawings=("learning", "profiles"),
)
