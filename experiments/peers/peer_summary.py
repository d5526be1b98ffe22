"""Tables and the figure of the peer comparison, from the finished runs in results/; compare.py calls this."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter
from numpy.typing import NDArray

from prefrl.metrics import read_metrics
from prefrl.plots import COLOURS, LINES, styled

SYSTEMS = ("prefrl", "imitation")
FINAL_SHARE = 0.1  # of the steps, at the end of a run, that its final return is the mean over
FRACTIONS = (0.05, 0.1, 0.2, 0.5, 1.0)


@dataclass(frozen=True)
class Run:
    """One finished run: its curve, and what is in its .json."""

    env_steps: NDArray[np.float64]  # (N,) where episodes ended
    seconds: NDArray[np.float64]  # (N,) since the first environment step
    true_return: NDArray[np.float64]  # (N,) mean over the episodes that ended there
    facts: dict[str, Any]

    @property
    def steps_per_second(self) -> float:
        return float(self.facts["env_steps"] / self.facts["seconds"])

    @property
    def final_return(self) -> float:
        last = self.env_steps > (1 - FINAL_SHARE) * self.facts["env_steps"]
        return float(self.true_return[last].mean())

    def smoothed(self) -> NDArray[np.float64]:
        """(N,): at each point, the mean over the steps before it that are as many as a final return is taken over."""
        since = self.env_steps - FINAL_SHARE * self.facts["env_steps"]
        firsts = np.searchsorted(self.env_steps, since, side="right")
        return np.array([self.true_return[first : i + 1].mean() for i, first in enumerate(firsts)])

    def seconds_to(self, true_return: float) -> float:
        """When the true return, smoothed as the final one is, first reached a value; NaN if it never did."""
        reached = np.flatnonzero(self.smoothed() >= true_return)
        return float(self.seconds[reached[0]]) if len(reached) else float("nan")


def read_run(base: Path) -> Run:
    """One run of results/, by its path without a suffix."""
    curve = read_metrics(base.with_name(base.name + ".csv"))
    facts = json.loads(base.with_name(base.name + ".json").read_text())
    return Run(curve["env_steps"], curve["seconds"], curve["true_return"], facts)


Runs = dict[str, list[Run]]  # system -> one run per seed, the seeds in the same order


def per_seed(runs: Runs) -> list[dict[str, float]]:
    """The ratio of speeds, and when prefrl reached imitation's final return."""
    rows = []
    for ours, theirs in zip(runs["prefrl"], runs["imitation"], strict=True):
        reached = ours.seconds_to(theirs.final_return)
        rows.append(
            {
                "seed": theirs.facts["seed"],
                "speed_ratio": ours.steps_per_second / theirs.steps_per_second,
                "imitation_final_return": theirs.final_return,
                "imitation_seconds": theirs.facts["seconds"],
                "prefrl_seconds_to_it": reached,
                "share_of_imitation_seconds": reached / theirs.facts["seconds"],
            }
        )
    return rows


def as_json(runs: Runs) -> dict[str, Any]:
    """What summary.json holds; a return that was never reached is null."""
    rows = per_seed(runs)
    summary: dict[str, Any] = {
        "mean_speed_ratio": _mean(row["speed_ratio"] for row in rows),
        "lowest_speed_ratio": min(row["speed_ratio"] for row in rows),
        "mean_share_of_imitation_seconds": _mean(row["share_of_imitation_seconds"] for row in rows),
        "highest_share_of_imitation_seconds": float(np.max([row["share_of_imitation_seconds"] for row in rows])),
    }
    for system in SYSTEMS:
        summary[f"{system}_steps_per_second"] = _mean(run.steps_per_second for run in runs[system])
        summary[f"{system}_final_return"] = _mean(run.final_return for run in runs[system])
    summary = {key: _rounded(value) for key, value in summary.items()}
    return summary | {"seeds": [{key: _rounded(value) for key, value in row.items()} for row in rows]}


def as_markdown(runs: Runs, steps: int, labels: int) -> str:
    """What summary.md holds."""
    every = [run for system in SYSTEMS for run in runs[system]]
    ratios = [row["speed_ratio"] for row in per_seed(runs)]
    longest = max(run.facts["seconds"] for run in runs["imitation"])
    lines = [
        f"# prefrl beside imitation: HalfCheetah, {steps:,} steps, {labels} synthetic answers",
        "",
        f"Written by `compare.py`. The final return is the mean over the last {FINAL_SHARE:.0%} of the steps.",
        "",
        *_table(
            "system, seed, environment steps, answers, seconds, steps/s, CPU seconds, cores busy before, final return",
            [_run_cells(run) for run in every],
        ),
        "",
        f"prefrl takes {np.mean(ratios):.1f} times as many steps per second (mean; lowest {min(ratios):.1f}).",
        "",
        *_table(
            "seed, ratio of steps/s, imitation's final return, imitation's seconds, "
            "prefrl's seconds to that return, as a share",
            [_seed_cells(row) for row in per_seed(runs)],
        ),
        "",
        "True return measured last, mean over the seeds, after the same time",
        "",
        *_table("seconds, " + ", ".join(SYSTEMS), _at_cells(runs, "seconds", longest)),
        "",
        "and after the same number of steps:",
        "",
        *_table("environment steps, " + ", ".join(SYSTEMS), _at_cells(runs, "env_steps", steps)),
        "",
        "![true return against seconds and against steps](comparison.svg)",
        "",
        *_origin(every),
    ]
    return "\n".join(lines) + "\n"


@styled
def draw(runs: Runs, labels: int) -> Figure:
    """True return against seconds and against steps: thin lines the seeds, a thick one their mean."""
    figure = Figure(figsize=(9.0, 3.6))
    by_seconds, by_steps = figure.subplots(1, 2, sharey=True)
    for i, system in enumerate(SYSTEMS):
        _draw_system(by_seconds, runs[system], "seconds", system, i)
        _draw_system(by_steps, runs[system], "env_steps", system, i)
    by_seconds.set_xscale("log")
    by_seconds.set_xlabel("seconds (logarithmic)")
    by_steps.set_xlabel("environment steps")
    for axes in (by_seconds, by_steps):
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    by_seconds.set_ylabel("true return")
    by_steps.legend(loc="best")
    seeds = len(runs["prefrl"])
    figure.suptitle(f"HalfCheetah, {labels} synthetic answers, {seeds} {'seed' if seeds == 1 else 'seeds'} each")
    return figure


def _draw_system(axes: Axes, runs: list[Run], x: str, system: str, index: int) -> None:
    for run in runs:
        axes.plot(getattr(run, x), run.true_return, color=COLOURS[index], linewidth=0.8, alpha=0.4)
    grid, values = _mean_curve(runs, x)
    axes.plot(grid, values, color=COLOURS[index], linestyle=LINES[index], linewidth=2.2, label=system)


def _mean_curve(runs: list[Run], x: str, points: int = 200) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean true return over the seeds, (points,), where all of them were measured."""
    lines = [(getattr(run, x), run.true_return) for run in runs]
    grid = np.geomspace(max(xs[0] for xs, _ in lines), min(xs[-1] for xs, _ in lines), points)
    return grid, np.stack([np.interp(grid, xs, ys) for xs, ys in lines]).mean(axis=0)


def _run_cells(run: Run) -> list[str]:
    facts = run.facts
    return [
        facts["system"],
        str(facts["seed"]),
        f"{facts['env_steps']:,}",
        str(facts["labels_answered"]),
        f"{facts['seconds']:,.0f}",
        f"{run.steps_per_second:,.0f}",
        f"{facts['process_cpu_seconds']:,.0f}",
        "-" if facts["busy_cores_before"] is None else f"{facts['busy_cores_before']:.1f}",
        f"{run.final_return:,.0f}",
    ]


def _seed_cells(row: dict[str, float]) -> list[str]:
    reached = not np.isnan(row["prefrl_seconds_to_it"])
    return [
        f"{row['seed']:.0f}",
        f"{row['speed_ratio']:.1f}",
        f"{row['imitation_final_return']:,.0f}",
        f"{row['imitation_seconds']:,.0f}",
        f"{row['prefrl_seconds_to_it']:,.0f}" if reached else "never",
        f"{row['share_of_imitation_seconds']:.1%}" if reached else "-",
    ]


def _at_cells(runs: Runs, x: str, longest: float) -> list[list[str]]:
    return [
        [f"{f * longest:,.0f}", *(_cell(_mean(_return_at(run, x, f * longest) for run in runs[s])) for s in SYSTEMS)]
        for f in FRACTIONS
    ]


def _return_at(run: Run, x: str, at: float) -> float:
    """The last true return measured by then; NaN before the first."""
    known = np.flatnonzero(getattr(run, x) <= at)
    return float(run.true_return[known[-1]]) if len(known) else float("nan")


def _cell(value: float) -> str:
    return "-" if np.isnan(value) else f"{value:,.0f}"


def _table(header: str, rows: list[list[str]]) -> list[str]:
    columns = header.split(", ")
    return [f"| {' | '.join(cells)} |" for cells in (columns, ["---"] * len(columns), *rows)]


def _origin(runs: list[Run]) -> list[str]:
    """Which machines and versions the numbers are from."""
    machines = sorted({f"{run.facts['machine']['processor']}, {run.facts['machine']['cores']} cores" for run in runs})
    versions = {
        f"- {run.facts['system']}: " + ", ".join(f"{name} {number}" for name, number in run.facts["versions"].items())
        for run in runs
    }
    warning = [] if len(machines) == 1 else ["", "**Measured on several machines: the ratios mean nothing.**"]
    return ["Machine: " + "; ".join(machines) + ".", *warning, "", *sorted(versions)]


def _mean(values: Iterable[float]) -> float:
    return float(np.mean(list(values)))


def _rounded(value: float) -> float | None:
    return None if np.isnan(value) else round(float(value), 4)
