"""A sweep's final true returns against the number of answers, a panel per task."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from prefrl.plots.conditions import GREY, PAPER, few_ticks, grid, legend_above, limits, no_ticks, sample
from prefrl.plots.labellers import Estimate
from prefrl.plots.style import say_empty, styled, tint

COLOUR = "#0072B2"
BESIDE = 1.09  # times the answers, where each seed stands free of its interval's line
DOTTED = (0, (1, 1.5))


@dataclass(frozen=True)
class TaskAnswers:
    """A panel of final true returns against the number of answers."""

    task: str
    means: Sequence[Estimate]  # at the number of answers, in its order
    runs: Sequence[tuple[float, float]]  # (answers, true return) of each seed
    baseline: Estimate | None = None  # of the condition whose score is 1
    enough: float | None = None  # the return that counts as reaching it
    reached: Estimate | None = None  # the one of the means, at the fewest answers, that does
    tried_fewer: bool = True  # all smaller numbers of answers in the sweep, else fewer may be enough
    paper: Sequence[tuple[float, float]] = ()  # (answers, true return)


@styled
def answers_panels(tasks: Sequence[TaskAnswers], baseline: str = "true reward") -> Figure:
    """A panel per task: final true return against the number of answers, beside the baseline of that name."""
    figure, panels = grid(len(tasks), panel=(2.55, 2.05))
    for axes, panel in zip(panels, tasks, strict=True):
        axes.set_xscale("log")
        if panel.baseline is not None:
            _baseline(axes, panel)
        beside = [(BESIDE * answers, value) for answers, value in panel.runs]
        axes.plot(*_columns(beside), marker="o", markersize=2.5, linestyle="", color=tint(COLOUR, 0.5))
        axes.plot(*_columns(panel.paper), marker="D", markersize=4.5, linestyle="", color=GREY, markerfacecolor="white")
        drawn = [line.get_ydata() for line in axes.lines]
        low, high = limits(drawn)
        _intervals(axes, panel.means, (low, high))
        if panel.reached is not None:
            last = panel.reached.at == max(each.at for each in panel.means)
            _mark(axes, panel.reached, low, last, "" if panel.tried_fewer else "≤ ")
        if not panel.means:
            say_empty(axes)
        axes.set_ylim(low, high)
        _axis(axes, [each.at for each in panel.means])
        if not any(np.size(each) for each in drawn):
            no_ticks(axes.yaxis)
        axes.set_title(panel.task)
    figure.supxlabel("answers", fontsize="medium")
    figure.supylabel("final true return", fontsize="medium")
    legend_above(figure, _legend(tasks, baseline))
    return figure


def _baseline(axes: Axes, panel: TaskAnswers) -> None:
    baseline = panel.baseline
    assert baseline is not None
    axes.axhline(baseline.value, color="black", linewidth=1.2, zorder=2)
    if math.isfinite(baseline.low + baseline.high):
        axes.axhspan(baseline.low, baseline.high, color="#d9dde0", linewidth=0, zorder=0)
    if panel.enough is not None:
        axes.axhline(panel.enough, color="black", linewidth=1.0, linestyle=DOTTED, zorder=2)


def _intervals(axes: Axes, means: Sequence[Estimate], limits: tuple[float, float]) -> None:
    """A line through the means with their intervals, cut off where the panel ends."""
    axes.plot([each.at for each in means], [each.value for each in means], color=COLOUR, marker="o", zorder=4)
    for each in means:
        if math.isfinite(each.low + each.high):
            ends = np.clip([each.low, each.high], *limits)
            axes.plot([each.at] * 2, ends, color=COLOUR, linewidth=1.0, zorder=3)


def _mark(axes: Axes, reached: Estimate, low: float, last: bool, sign: str) -> None:
    """A ring about the mean, and the number of answers beside the foot of a line from it, inside the panel."""
    axes.plot(reached.at, reached.value, marker="o", markersize=9, markerfacecolor="none", color="black", zorder=5)
    axes.plot([reached.at] * 2, [low, reached.value], color="black", linewidth=0.8, linestyle=(0, (2, 2)), zorder=2)
    offset, side = ((-3, 3), "right") if last else ((3, 3), "left")
    axes.annotate(
        f"{sign}{reached.at:g}",
        (reached.at, low),
        offset,
        textcoords="offset points",
        fontsize=8.5,
        horizontalalignment=side,
        bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 0.8},
        zorder=6,
    )


def _axis(axes: Axes, answers: Sequence[float]) -> None:
    few_ticks(axes.yaxis)
    if not answers:
        no_ticks(axes.xaxis)
        return
    axes.set_xlim(min(answers) / 1.35, max(answers) * 1.35)
    axes.xaxis.set_major_locator(FixedLocator(list(answers)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.tick_params(axis="x", labelsize=7.5)


def _legend(tasks: Sequence[TaskAnswers], baseline: str) -> list[Line2D]:
    handles = [
        sample("mean, 95 % interval", color=COLOUR, marker="o"),
        sample("one seed", color=tint(COLOUR, 0.5), marker="o", markersize=2.5, linestyle=""),
    ]
    if any(each.baseline for each in tasks):
        handles.append(sample(baseline, color="black", linewidth=1.2))
    if any(each.enough is not None for each in tasks):
        handles.append(sample("0.9 of the way to it from random", color="black", linewidth=1.0, linestyle=DOTTED))
    if any(each.reached is not None for each in tasks):
        ring = {"marker": "o", "markersize": 9, "markerfacecolor": "none", "linestyle": ""}
        handles.append(sample("first mean that reaches 0.9 (≤: fewer not tried)", color="black", **ring))
    if any(each.paper for each in tasks):
        diamond = {"marker": "D", "markersize": 4.5, "markerfacecolor": "white", "linestyle": ""}
        handles.append(sample(PAPER, color=GREY, **diamond))
    return handles


def _columns(points: Sequence[tuple[float, float]]) -> tuple[list[float], list[float]]:
    return [x for x, _ in points], [y for _, y in points]
