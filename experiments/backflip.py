"""A hopper learns the backflip: from 900 and 300 answers of the judge, of the blog's reward, and from that itself.

Run the trials (again, to continue), then write table and figure to experiments/results/backflip:

    .venv/bin/python experiments/backflip.py
    .venv/bin/python experiments/backflip.py --collect

A part of it: --conditions 900-answers --seeds 0 1
"""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter
from trials import Outcomes, Trial, curve, main, markdown_table, select

from prefrl import plots

TASK = "hopper-backflip"
ENOUGH_TURNS = 6  # backward turns per 8 s, mean over the evaluation's 10 episodes
MEASURES = ("turns", "clean_flips", "body_down")
SEEDS = range(5, 10)  # none of which was looked at while the settings were chosen
CONDITIONS: dict[str, dict[str, Any]] = {  # name -> what differs from `make backflip`
    "900-answers": {},
    "300-answers": {"labels": 300},
    "blog-answers": {"oracle.score": "reward", "queries.segment_steps": 60},
    "reward": {"feedback": "none"},
}
LABELS = {
    "900-answers": "900 answers of the judge",
    "300-answers": "300 answers of the judge",
    "blog-answers": "900 answers by the blog's reward",
    "reward": "the blog's reward itself",
}
TRIALS = [Trial(TASK, name, seed, options) for name, options in CONDITIONS.items() for seed in SEEDS]


def table(outcomes: Outcomes) -> str:
    """Every seed, then a line per condition."""
    enough = f"{ENOUGH_TURNS} turns or more"
    seeds = [["trained on", "seed", "turns", enough, "clean flips", "body down", "steps", "minutes"]]
    conditions = [
        ["trained on", f"seeds with {enough}", "seeds with a clean flip", "turns", "clean flips", "body down"]
    ]
    for name, label in LABELS.items():
        runs = select(outcomes, TASK, name)
        for run in runs:
            reached = "yes" if run.mean("turns") >= ENOUGH_TURNS else "no"
            turns, flips, down = (run.mean(measure) for measure in MEASURES)
            cost = [f"{run.steps / 1e6:g}M", f"{run.seconds / 60:.1f}"]
            seeds.append([label, str(run.seed), f"{turns:.1f}", reached, f"{flips:.1f}", f"{down:.0%}", *cost])
        if runs:
            turning = sum(run.mean("turns") >= ENOUGH_TURNS for run in runs)
            flipping = sum(max(run.values("clean_flips")) > 0 for run in runs)
            counts = [f"{turning} of {len(runs)}", f"{flipping} of {len(runs)}"]
            turns, flips, down = (float(np.mean([run.mean(measure) for run in runs])) for measure in MEASURES)
            conditions.append([label, *counts, f"{turns:.1f}", f"{flips:.1f}", f"{down:.0%}"])
    return f"""# Hopper backflip

Turns and clean flips are counted from exact states per 8 s of simulated time, mean over 10 evaluation episodes. Body
down is the share of steps in which more than the foot touches the floor. The judge compares how much of a backflip it
saw in clips of 3 s; the blog's hand-coded reward is summed over clips of 1.5 s.

{markdown_table(*conditions)}

{markdown_table(*seeds)}"""


@plots.styled
def figure(outcomes: Outcomes) -> Figure:
    """Turns and clean flips of every seed; learning curves of the true return, which the judge's runs never see."""
    drawn = Figure(figsize=(6.4, 6.2))
    above, below = drawn.subplots(2, 1, height_ratios=(1, 1.1))
    shown = [name for name in LABELS if select(outcomes, TASK, name)]
    for i, name in enumerate(shown):
        runs = select(outcomes, TASK, name)
        x = i + np.linspace(-0.2, 0.2, len(runs)) if len(runs) > 1 else np.array([i])
        look = {"linestyle": "none", "marker": plots.MARKERS[i], "color": plots.COLOURS[i], "markersize": 6}
        above.plot(x, [run.mean("turns") for run in runs], **look)
        above.plot(x, [run.mean("clean_flips") for run in runs], **look, markerfacecolor="white")
    above.axhline(ENOUGH_TURNS, color="#444444", linewidth=1.1, linestyle="--")
    above.set_xticks(range(len(shown)), [LABELS[name] for name in shown])
    above.set_xlim(-0.5, len(shown) - 0.5)
    above.set_ylim(bottom=-0.3)
    above.set_ylabel("per 8 s, each seed")
    above.set_title("backward turns (filled) and clean flips (hollow)")
    lines = [curve(outcomes, TASK, name, LABELS[name]) for name in shown]
    plots.draw_curves(below, [line for line in lines if line])
    below.xaxis.set_major_formatter(EngFormatter(sep=""))
    below.set_xlabel("environment steps")
    below.set_ylabel("true return (the blog's reward)")
    below.set_title("mean over seeds, and their extremes")
    below.legend(loc="best")
    return drawn


if __name__ == "__main__":
    main("backflip", __doc__, TRIALS, table, figure)
