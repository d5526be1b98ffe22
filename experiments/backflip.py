"""Hopper learns the backflip: from 900 and 300 answers of the judge, of the blog's reward, and from that itself.

Run the trials (again, to continue), which also writes the page that every sweep has; then write what a page of returns
does not show, turns and clean flips, to experiments/results/backflip/flips.md:

    prefrl sweep backflip
    python experiments/backflip.py
"""

from __future__ import annotations

from typing import Any

import numpy as np
from common import RESULTS, markdown_table
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

from prefrl import plots
from prefrl.sweep import Outcome, Sweep, SweepResults, read_results

TASK = "hopper-backflip"
ENOUGH_TURNS = 6  # backward turns per 8 s, mean over the evaluation's episodes
MEASURES = ("turns", "clean_flips", "body_down")

SWEEP = Sweep(
    title="Hopper backflip, from answers and from the blog's reward",
    tasks=(TASK,),
    conditions={  # what differs from `make backflip`
        "900 answers of the judge": {},
        "300 answers of the judge": {"labels": 300},
        "900 answers by the blog's reward": {"oracle.score": "reward", "queries.segment_steps": 60},
        "the blog's reward itself": {"feedback": "none"},
    },
    seeds=(5, 6, 7, 8, 9),  # the settings were chosen on others
    notes={TASK: "Turns and flips: flips.md."},
)


def each(run: Outcome, measure: str) -> list[float]:
    """A measure in every evaluated episode."""
    return list(run.evaluation["measures"][measure]["values"])


def mean(run: Outcome, measure: str) -> float:
    """Over the evaluated episodes."""
    return float(np.mean(each(run, measure)))


def table(results: SweepResults) -> str:
    """A line per condition, then every seed."""
    enough = f"{ENOUGH_TURNS} turns or more"
    seeds = [["trained on", "seed", "turns", enough, "clean flips", "body down", "steps", "minutes"]]
    conditions = [
        ["trained on", f"seeds with {enough}", "seeds with a clean flip", "turns", "clean flips", "body down"]
    ]
    for name in results.sweep.conditions:
        runs = results.of(TASK, name)
        for run in runs:
            reached = "yes" if mean(run, "turns") >= ENOUGH_TURNS else "no"
            turns, flips, down = (mean(run, measure) for measure in MEASURES)
            cost = [f"{run.steps / 1e6:g}M", f"{run.seconds / 60:.1f}"]
            seeds.append([name, str(run.seed), f"{turns:.1f}", reached, f"{flips:.1f}", f"{down:.0%}", *cost])
        if runs:
            turning = sum(mean(run, "turns") >= ENOUGH_TURNS for run in runs)
            flipping = sum(max(each(run, "clean_flips")) > 0 for run in runs)
            counts = [f"{turning} of {len(runs)}", f"{flipping} of {len(runs)}"]
            turns, flips, down = (float(np.mean([mean(run, measure) for run in runs])) for measure in MEASURES)
            conditions.append([name, *counts, f"{turns:.1f}", f"{flips:.1f}", f"{down:.0%}"])
    return f"""# Hopper backflip: turns and clean flips

Turns and clean flips are counted from exact states per 8 s of simulated time, mean over 10 evaluation episodes. Body
down is the share of steps in which more than the foot touches the floor. The judge compares how much of a backflip it
saw in clips of 3 s; the blog's hand-coded reward is summed over clips of 1.5 s. Machine, versions, revisions and each
trial's command: [backflip.md](backflip.md) and trials.jsonl.

{markdown_table(*conditions)}

{markdown_table(*seeds)}

![](flips.svg)
"""


@plots.styled
def figure(results: SweepResults) -> Figure:
    """Turns and clean flips of every seed; learning curves of the true return, which the judge's runs never see."""
    drawn = Figure(figsize=(6.4, 6.2))
    above, below = drawn.subplots(2, 1, height_ratios=(1, 1.1))
    shown = [name for name in results.sweep.conditions if results.of(TASK, name)]
    for i, name in enumerate(shown):
        runs = results.of(TASK, name)
        x = i + np.linspace(-0.2, 0.2, len(runs)) if len(runs) > 1 else np.array([i])
        look: dict[str, Any] = {
            "linestyle": "none",
            "marker": plots.MARKERS[i],
            "color": plots.COLOURS[i],
            "markersize": 6,
        }
        above.plot(x, [mean(run, "turns") for run in runs], **look)
        above.plot(x, [mean(run, "clean_flips") for run in runs], **look, markerfacecolor="white")
    above.axhline(ENOUGH_TURNS, color="#444444", linewidth=1.1, linestyle="--")
    above.set_xticks(range(len(shown)), [name.replace(" of ", "\nof ").replace(" by ", "\nby ") for name in shown])
    above.set_xlim(-0.5, len(shown) - 0.5)
    above.set_ylim(bottom=-0.3)
    above.set_ylabel("per 8 s, each seed")
    above.set_title("backward turns (filled) and clean flips (hollow)")
    lines = [plots.curve_over_seeds(name, [run.metrics() for run in results.of(TASK, name)]) for name in shown]
    plots.draw_curves(below, lines)
    below.xaxis.set_major_formatter(EngFormatter(sep=""))
    below.set_xlabel("environment steps")
    below.set_ylabel("true return (the blog's reward)")
    below.set_title("mean over seeds, and their extremes")
    below.legend(loc="best")
    return drawn


def main() -> None:
    """Write flips.md, flips.svg and flips.png."""
    folder = RESULTS / "backflip"
    results = read_results(folder)
    (folder / "flips.md").write_text(table(results))
    plots.save(figure(results), folder / "flips")
    print(folder / "flips.md")


if __name__ == "__main__":
    main()
