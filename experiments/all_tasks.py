"""All other tasks once: 700 synthetic answers beside PPO on the true reward, and beside the paper's Figure 2.

Run the trials (again, to continue), then write table and figure to experiments/results/all_tasks:

    .venv/bin/python experiments/all_tasks.py
    .venv/bin/python experiments/all_tasks.py --collect

A part of it: --tasks hopper walker --conditions 700-answers. A line on a task that falls short goes into NOTES below.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter
from trials import Outcomes, Trial, curve, main, markdown_table, number, select

from prefrl import plots
from prefrl.tasks import get_task


@dataclass(frozen=True)
class Row:
    """One task of the table."""

    steps: int  # the paper took 2e7, and 2e6 on pendulum
    paper_700: float | None  # final true return in the paper's Figure 2, mean of 5 runs, read by eye
    paper_true: float | None


TASKS = {
    "hopper": Row(1_000_000, 4500, 4180),
    "walker": Row(1_000_000, 4800, 5300),
    "swimmer": Row(1_000_000, 167, 173),
    "ant": Row(1_000_000, -170, 50),
    "reacher": Row(1_000_000, -3.15, -1.8),
    "double-pendulum": Row(1_000_000, 7900, 7400),
    "pendulum": Row(1_000_000, 1370, 1370),
    "cheetah-one-leg": Row(1_000_000, None, None),
}
SEED = 0
CONDITIONS: dict[str, dict[str, Any]] = {"700-answers": {"labels": 700}, "true-reward": {"feedback": "none"}}
LABELS = {"700-answers": "700 answers", "true-reward": "PPO on the true reward"}
TRIALS = [
    Trial(task, name, SEED, {"steps": row.steps, **options})
    for task, row in TASKS.items()
    for name, options in CONDITIONS.items()
]

# Why a task falls short, in a line each; written by hand after looking at its runs.
NOTES: dict[str, str] = {
    "hopper": "a twentieth of the paper's steps; as much as our own PPO makes of the true reward by then.",
    "walker": "a twentieth of the paper's steps; more than our own PPO makes of the true reward by then, which still "
    "falls over on this seed.",
    "swimmer": "a twentieth of the paper's steps. At a discount of 0.995 it made 49 from answers and 99 of the true "
    "reward; the 0.9999 that is now its default was chosen on this seed.",
    "ant": "as much as the true reward while the policy acts with its noise (-460 and -464 in training); without, as "
    "evaluated, the two differ. The predictor is right (correlation with the true reward 0.96 per step).",
    "double-pendulum": "a twentieth of the paper's steps; more than our own PPO makes of the true reward by then.",
    "pendulum": "the pole lies in nearly all segments, so there is little to tell apart, and the predictor pays for "
    "something else (correlation 0.13 per step). PPO on the true reward has to find the swing up by chance too: it did "
    "so after 0.8M steps.",
    "cheetah-one-leg": "0.93 of PPO on the true reward; 5.3 m/s on one leg.",
}


def table(outcomes: Outcomes) -> str:
    """A line per task, then the notes."""
    header = ["task", "steps", "700 answers", "paper", "true reward", "paper"]
    header += ["measure", "700 answers", "true reward", "falls short of"]
    rows = [_row(outcomes, task) for task in TASKS]
    for task, *_, short in rows:
        if short and task not in NOTES:
            print(f"{task} falls short of {short} and has no line in NOTES yet")
    notes = "".join(f"\n- **{task}**: {note}" for task, note in NOTES.items())
    return f"""# All tasks: 700 synthetic answers beside the true reward

Final true return, mean over the episodes of the last evaluation, one seed. The paper's are means of 5 runs of 20M steps
(pendulum 2M) with TRPO, read off Figure 2. The last column says what our 700 answers fall short of: our own PPO on the
true reward, the paper's 700 answers, or both.

{markdown_table(header, *rows)}
{notes}"""


def _row(outcomes: Outcomes, task: str) -> list[str]:
    row, success = TASKS[task], get_task(task).success
    runs = {run.condition: run for name in CONDITIONS for run in select(outcomes, task, name)}
    ours, true_reward = (runs[name].mean("true_return") if name in runs else None for name in CONDITIONS)
    measures = [_cell(runs[name].mean(success) if name in runs else None) for name in CONDITIONS]
    rivals = {"PPO": true_reward, "paper": row.paper_700}
    short = [who for who, value in rivals.items() if ours is not None and value is not None and ours < value]
    returns = [_cell(value) for value in (ours, row.paper_700, true_reward, row.paper_true)]
    return [task, f"{row.steps / 1e6:g}M", *returns, plots.measure_label(success), *measures, ", ".join(short)]


def _cell(value: float | None) -> str:
    return "–" if value is None else number(value)


@plots.styled
def figure(outcomes: Outcomes) -> Figure:
    """A panel of learning curves for each task that has run, the paper's final values marked."""
    shown = [task for task in TASKS if any(run.task == task for run in outcomes.values())]
    rows = -(-len(shown) // 2)
    drawn = Figure(figsize=(6.4, 0.6 + 2.1 * rows))
    panels = drawn.subplots(rows, 2, squeeze=False).ravel()
    legend: dict[str, Any] = {}
    for axes, task in zip(panels, shown, strict=False):
        lines = [curve(outcomes, task, name, label) for name, label in LABELS.items()]
        paper = {"700 answers in the paper": TASKS[task].paper_700, "true reward in the paper": TASKS[task].paper_true}
        plots.draw_curves(axes, [line for line in lines if line], {k: v for k, v in paper.items() if v is not None})
        axes.set_title(task)
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
        handles, labels = axes.get_legend_handles_labels()
        legend |= dict(zip(labels, handles, strict=True))
    for axes in panels[len(shown) :]:
        axes.remove()
    drawn.supxlabel("environment steps", fontsize="medium")
    drawn.supylabel("true return", fontsize="medium")
    drawn.legend(legend.values(), legend.keys(), loc="outside upper left", ncols=2)
    return drawn


if __name__ == "__main__":
    main("all_tasks", __doc__, TRIALS, table, figure)
