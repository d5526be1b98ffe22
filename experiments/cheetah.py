"""HalfCheetah from 700 synthetic answers beside PPO on the true reward: same settings and steps, 3 seeds each.

Run the trials (again, to continue), then write table and figure to experiments/results/cheetah:

    .venv/bin/python experiments/cheetah.py
    .venv/bin/python experiments/cheetah.py --collect
"""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure
from trials import Outcomes, Trial, curve, main, markdown_table, number, select

from prefrl import plots

TASK = "cheetah"
STEPS = 2_000_000
SEEDS = range(20, 23)  # none of them was looked at while settings were chosen
CONDITIONS: dict[str, dict[str, Any]] = {
    "700-answers": {"steps": STEPS, "labels": 700},
    "true-reward": {"steps": STEPS, "feedback": "none"},
}
LABELS = {"700-answers": "700 answers", "true-reward": "PPO on the true reward"}
PAPER = {"700 answers in the paper (20M steps)": 4650.0, "true reward in the paper": 4200.0}  # Figure 2
TRIALS = [Trial(TASK, name, seed, options) for name, options in CONDITIONS.items() for seed in SEEDS]


def table(outcomes: Outcomes) -> str:
    """Final true return of every seed; means and their ratio."""
    rows = [["trained on", "seed", "true return", "± over episodes", "speed, m/s", "minutes"]]
    means: dict[str, float] = {}
    for name, label in LABELS.items():
        runs = select(outcomes, TASK, name)
        for run in runs:
            returns = [number(run.mean("true_return")), number(float(np.std(run.values("true_return"))))]
            rows.append([label, str(run.seed), *returns, f"{run.mean('speed'):.2f}", f"{run.seconds / 60:.1f}"])
        if runs:
            means[name] = float(np.mean([run.mean("true_return") for run in runs]))
            rows.append([f"**{label}**", "**mean**", f"**{number(means[name])}**", "", "", ""])
    ratio = f"{means['700-answers'] / means['true-reward']:.2f}" if len(means) == 2 else "not known yet"
    return f"""# HalfCheetah: 700 synthetic answers beside the true reward

Final true return over the episodes of the last evaluation, without action noise.

{markdown_table(*rows)}

Mean with 700 answers over mean on the true reward: {ratio}."""


def figure(outcomes: Outcomes) -> Figure:
    """Learning curves of both, mean over seeds and their extremes."""
    lines = [curve(outcomes, TASK, name, label) for name, label in LABELS.items()]
    return plots.learning_curves([line for line in lines if line], markers=PAPER)


if __name__ == "__main__":
    main("cheetah", __doc__, TRIALS, table, figure)
