"""A sweep's figures with a panel per task: learning curves, predicted against true returns, the final ones."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from prefrl.metrics import Metrics
from prefrl.plots.conditions import (
    GREY,
    MOST_BANDS,
    PAPER,
    Look,
    Looks,
    few_ticks,
    grid,
    legend_above,
    limits,
    no_ticks,
    sample,
)
from prefrl.plots.labellers import Estimate
from prefrl.plots.learning import Curve
from prefrl.plots.style import say_empty, styled

STAGES = 25  # of a run, over each of which its returns are averaged


@dataclass(frozen=True)
class TaskCurves:
    """A panel of learning curves, labelled by condition."""

    task: str
    curves: Sequence[Curve]
    paper: Mapping[str, float] = field(default_factory=dict)  # final true return by condition
    steps: float = 0.0  # of the runs, also of those to come; a curve's last point may lie before


@dataclass(frozen=True)
class TaskPredictions:
    """A panel of predicted against true returns."""

    task: str
    runs: Mapping[str, Sequence[Metrics]]  # by condition; a run without both columns is left out


@dataclass(frozen=True)
class TaskFinals:
    """A panel of final true returns; a condition without a run has an empty row."""

    task: str
    runs: Mapping[str, Sequence[float]]  # by condition, of each seed
    means: Mapping[str, Estimate]  # by condition
    paper: Mapping[str, float] = field(default_factory=dict)  # by condition


@styled
def learning_panels(tasks: Sequence[TaskCurves], looks: Looks) -> Figure:
    """A panel per task, a line per condition; the paper's final values in a strip at the right edge.

    Up to five conditions have their bands; more would cover each other.
    """
    figure, panels = grid(len(tasks), panel=(2.55, 1.95 if len(looks) <= MOST_BANDS else 2.3))
    for axes, panel in zip(panels, tasks, strict=True):
        for i, curve in enumerate(panel.curves):
            _curve(axes, curve, looks[curve.label], (i + 0.5) / len(looks), band=len(looks) <= MOST_BANDS)
        _frame_curves(axes, panel)
        _paper_strip(axes, {name: panel.paper[name] for name in looks if name in panel.paper}, looks)
        axes.set_title(panel.task)
    figure.supxlabel("environment steps", fontsize="medium")
    figure.supylabel("true return", fontsize="medium")
    marked = {name for panel in tasks for name in panel.paper}
    drawn = {curve.label for panel in tasks for curve in panel.curves} | marked
    _legend(figure, looks, drawn, paper=bool(marked & looks.keys()))
    return figure


@styled
def predicted_panels(tasks: Sequence[TaskPredictions], looks: Looks) -> Figure:
    """A panel per task, a line per run through its true and predicted returns, with a marker at its end.

    Both are averaged over twenty-fifths of the run's rows.
    """
    figure, panels = grid(len(tasks), panel=(2.55, 2.05))
    for axes, panel in zip(panels, tasks, strict=True):
        for name, look in looks.items():
            for metrics in panel.runs.get(name, ()):
                axes.plot(
                    *_stages(metrics, "true_return", "predicted_return"),
                    color=look.colour,
                    linestyle=look.line,
                    linewidth=0.6 * look.width,
                    marker=look.marker,
                    markersize=5,
                    markevery=slice(-1, None),
                )
        if any(np.size(line.get_xdata()) for line in axes.lines):
            few_ticks(axes.xaxis, 4)
            few_ticks(axes.yaxis)
        else:
            say_empty(axes)
            no_ticks(axes.xaxis)
            no_ticks(axes.yaxis)
        axes.set_title(panel.task)
    figure.supxlabel("true return", fontsize="medium")
    figure.supylabel("predicted return", fontsize="medium")
    _legend(figure, looks, {name for panel in tasks for name, runs in panel.runs.items() if runs}, paper=False)
    return figure


@styled
def final_panels(tasks: Sequence[TaskFinals], looks: Looks) -> Figure:
    """A panel per task, a row per condition: each seed, their mean with its interval, the paper's value."""
    figure, panels = grid(len(tasks), panel=(2.2, 0.7 + 0.25 * len(looks)), beside=1.1, sharey=True)
    for axes, panel in zip(panels, tasks, strict=True):
        for row, (name, look) in enumerate(looks.items()):
            runs = panel.runs.get(name, ())
            axes.plot(runs, [row + 0.25] * len(runs), marker="o", markersize=2.6, linestyle="", color=look.colour)
            if name in panel.paper:
                axes.plot(panel.paper[name], row, marker="|", markersize=11, markeredgewidth=1.4, color=GREY, zorder=2)
        _frame_finals(axes, panel)
        for row, (name, look) in enumerate(looks.items()):
            if runs := panel.runs.get(name, ()):
                _interval_row(axes, row, panel.means[name], look)
        axes.set_yticks(range(len(looks)), list(looks))
        axes.set_ylim(len(looks) - 0.4, -0.6)
        axes.grid(axis="y", visible=False)
        axes.set_title(panel.task)
    figure.supxlabel("final true return", fontsize="medium")
    handles = [
        sample("mean, 95 % interval", color="black", marker="s", linewidth=1.4),
        sample("one seed", color="black", marker="o", markersize=2.6, linestyle=""),
    ]
    if any(name in panel.paper for panel in tasks for name in looks):
        handles.append(sample(PAPER, color=GREY, marker="|", markersize=11, markeredgewidth=1.4, linestyle=""))
    legend_above(figure, handles)
    return figure


def _stages(metrics: Metrics, *columns: str) -> NDArray[np.float64]:
    """(columns, at most STAGES) means over rows in which all are measured."""
    if not all(column in metrics for column in columns):
        return np.empty((len(columns), 0))
    rows = np.array([metrics[column] for column in columns])
    rows = rows[:, np.isfinite(rows).all(axis=0)]
    pieces = np.array_split(rows, min(STAGES, rows.shape[1]), axis=1) if rows.size else []
    return np.array([piece.mean(axis=1) for piece in pieces]).reshape(-1, len(columns)).T


def _curve(axes: Axes, curve: Curve, look: Look, offset: float, band: bool) -> None:
    """A line with five markers, shifted by a share of their distance so that those of other lines stay visible."""
    known = np.isfinite(curve.values)
    steps, values = curve.env_steps[known], curve.values[known]
    apart = max(1, len(steps) // 5)
    axes.plot(
        steps,
        values,
        color=look.colour,
        linestyle=look.line,
        linewidth=look.width,
        marker=look.marker,
        markersize=4.5,
        markevery=(int(offset * apart), apart),
        zorder=3,
    )
    if band and curve.low is not None and curve.high is not None:
        axes.fill_between(curve.env_steps, curve.low, curve.high, color=look.colour, alpha=0.14, linewidth=0, zorder=1)


def _frame_curves(axes: Axes, panel: TaskCurves) -> None:
    """Limits by means and the paper's values: the intervals of three seeds may run out of the panel."""
    low, high = limits([*(curve.values for curve in panel.curves), list(panel.paper.values())])
    axes.set_ylim(low, high)
    if panel.curves or panel.paper:
        few_ticks(axes.yaxis)
    else:
        no_ticks(axes.yaxis)
    ends = [float(curve.env_steps[-1]) for curve in panel.curves if len(curve.env_steps)]
    last = max([panel.steps, *ends])
    axes.set_xlim(0, last or 1.0)
    if last:
        few_ticks(axes.xaxis, 4)
    else:
        no_ticks(axes.xaxis)
    if not panel.curves:
        say_empty(axes)


def _paper_strip(axes: Axes, paper: Mapping[str, float], looks: Looks) -> None:
    """A hollow marker per condition, each in a column of its own, right of the last step."""
    if not paper:
        return
    last = axes.get_xlim()[1]
    step = min(0.055, 0.34 / len(paper)) * last
    axes.axvline(last, color="#b9c0c6", linewidth=0.8, zorder=1)
    for i, (name, value) in enumerate(paper.items()):
        look = looks[name]
        axes.plot(
            last + (i + 0.8) * step,
            value,
            color=look.colour,
            marker=look.marker,
            markersize=5,
            markerfacecolor="white",
            markeredgewidth=1.3,
            linestyle="",
            zorder=4,
        )
    middle = last + (len(paper) + 0.6) / 2 * step
    axes.text(
        middle, 1.0, "paper", transform=axes.get_xaxis_transform(), ha="center", va="bottom", color=GREY, size=7.5
    )
    axes.set_xticks([tick for tick in axes.get_xticks() if tick <= last])
    axes.set_xlim(0, last + (len(paper) + 0.6) * step)


def _frame_finals(axes: Axes, panel: TaskFinals) -> None:
    values = [*panel.runs.values(), list(panel.paper.values())]
    axes.set_xlim(*limits(values, margin=0.1))
    if any(map(len, values)):
        few_ticks(axes.xaxis, 4)
    else:
        no_ticks(axes.xaxis)


def _interval_row(axes: Axes, row: int, estimate: Estimate, look: Look) -> None:
    left, right = axes.get_xlim()
    for end, edge, sign in ((estimate.low, left, "<"), (estimate.high, right, ">")):
        if math.isnan(end):
            continue
        beyond = end < left if edge == left else end > right
        axes.plot([estimate.value, edge if beyond else end], [row, row], color=look.colour, linewidth=1.4, zorder=3)
        if beyond:
            axes.plot(edge, row, marker=sign, markersize=4, color=look.colour, clip_on=False, zorder=4)
    axes.plot(estimate.value, row, marker=look.marker, markersize=5.5, color=look.colour, linestyle="", zorder=5)


def _legend(figure: Figure, looks: Looks, drawn: set[str], paper: bool) -> None:
    handles = [
        sample(name, color=look.colour, linestyle=look.line, linewidth=look.width, marker=look.marker)
        for name, look in looks.items()
        if name in drawn
    ]
    if paper:
        hollow = {"markerfacecolor": "white", "markeredgewidth": 1.3, "linestyle": ""}
        handles.append(sample(f"hollow: {PAPER}", color=GREY, marker="o", **hollow))
    legend_above(figure, handles)
