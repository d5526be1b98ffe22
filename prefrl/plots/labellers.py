"""Labellers beside each other: lines of shares with their intervals, rows of estimates, bars of choices."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter, PercentFormatter

from prefrl.plots.style import HATCHES, LINES, MARKERS, add_legend, colour, say_empty, styled, tint


@dataclass(frozen=True)
class Estimate:
    """A value with its interval, at some place on the other axis."""

    value: float  # NaN where there is none
    low: float  # ±inf where there is no bound
    high: float
    at: float = 0.0


@dataclass(frozen=True)
class Panel:
    """One of a figure's panels: estimates by the labeller's name."""

    title: str
    xlabel: str
    estimates: Sequence[tuple[str, Sequence[Estimate]]]
    ylabel: str = ""
    reference: float | None = None  # a thin line, such as what guessing comes to
    percent: bool = False  # of the estimates
    logarithmic: bool = False  # the horizontal axis


@styled
def estimate_lines(panels: Sequence[Panel]) -> Figure:
    """A line per labeller through its estimates, with their intervals as bars; panels above each other."""
    figure = Figure(figsize=(5.2, 0.5 + 2.5 * len(panels)))
    for axes, panel in zip(figure.subplots(len(panels), 1, squeeze=False)[:, 0], panels, strict=True):
        for i, (name, estimates) in enumerate(panel.estimates):
            _line(axes, name, i, estimates)
        if panel.reference is not None:
            axes.axhline(panel.reference, color="#888888", linewidth=0.9)
        if not axes.lines:
            say_empty(axes)
        if panel.percent:
            axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        _label(axes, panel)
        axes.set_ylabel(panel.ylabel)
    add_legend(figure, figure.axes[0])
    return figure


@styled
def estimate_rows(panels: Sequence[Panel]) -> Figure:
    """A row per labeller, its estimates as points with their intervals; panels above each other.

    A bound that there is not is an arrow to the panel's edge; who has no estimate has an empty row.
    """
    rows = [len(panel.estimates) for panel in panels]
    figure = Figure(figsize=(5.2, 0.3 + sum(0.85 + 0.26 * each for each in rows)))
    stacked = figure.subplots(len(panels), 1, squeeze=False, height_ratios=[1 + each for each in rows])[:, 0]
    for axes, panel in zip(stacked, panels, strict=True):
        if panel.logarithmic:
            axes.set_xscale("log")
        for i, (_, estimates) in enumerate(panel.estimates):
            _row(axes, i, estimates)
        if panel.reference is not None:
            axes.axvline(panel.reference, color="#888888", linewidth=0.9)
        axes.set_yticks(range(len(panel.estimates)), [name for name, _ in panel.estimates])
        axes.set_ylim(len(panel.estimates) - 0.5, -0.5)
        axes.grid(axis="y", visible=False)
        if panel.percent:
            axes.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        _label(axes, panel)
    figure.align_ylabels()
    return figure


@styled
def choice_shares(shares: Sequence[tuple[str, Mapping[str, float]]]) -> Figure:
    """A bar per labeller, made up of how often each choice was made.

    Args:
        shares: by labeller, of the same choices in the same order.
    """
    figure = Figure(figsize=(5.2, 1.1 + 0.3 * len(shares)))
    axes = figure.subplots()
    left = np.zeros(len(shares))
    for i, choice in enumerate(shares[0][1] if shares else ()):
        widths = np.array([each[choice] for _, each in shares])
        axes.barh(
            range(len(shares)),
            widths,
            left=left,
            height=0.7,
            label=choice,
            color=tint(colour(i), 0.45 if i % 2 else 0.1),
            hatch=HATCHES[i % len(HATCHES)],
            edgecolor="white",
            linewidth=0.6,
        )
        left += widths
    axes.set_yticks(range(len(shares)), [name for name, _ in shares])
    axes.set_ylim(len(shares) - 0.4, -0.6)
    axes.set_xlim(0, 1)
    axes.grid(axis="y", visible=False)
    axes.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axes.set_xlabel("share of answers")
    if axes.patches:
        figure.legend(*axes.get_legend_handles_labels(), loc="outside lower left", ncols=5, columnspacing=1.2)
    return figure


def _line(axes: Axes, name: str, index: int, estimates: Sequence[Estimate]) -> None:
    known = [each for each in estimates if math.isfinite(each.value)]
    if not known:
        return
    values = np.array([[each.at, each.value, each.low, each.high] for each in known])
    at, value, low, high = values.T
    axes.errorbar(
        at,
        value,
        np.stack([value - low, high - value]) if np.isfinite(low + high).all() else None,
        label=f" {name}" if name.startswith("_") else name,  # matplotlib leaves out of legends what begins with _
        color=colour(index),
        linestyle=LINES[index % len(LINES)],
        marker=MARKERS[index % len(MARKERS)],
        elinewidth=0.9,
        zorder=3,
    )


def _row(axes: Axes, row: int, estimates: Sequence[Estimate]) -> None:
    for i, each in enumerate(estimates):
        if math.isnan(each.low) and math.isnan(each.value):
            continue
        y = row + (i - (len(estimates) - 1) / 2) * 0.3
        ends = [each.low, each.high]
        finite = [end for end in (*ends, each.value) if math.isfinite(end)]
        axes.plot([min(finite), max(finite)], [y, y], color=colour(row), linewidth=1.6, zorder=3)
        if math.isfinite(each.value):
            axes.plot(each.value, y, color=colour(row), marker=MARKERS[row % len(MARKERS)], linestyle="", zorder=4)
        for end, place, sign in ((ends[0], min(finite), "<"), (ends[1], max(finite), ">")):
            if math.isinf(end):
                axes.plot(place, y, color=colour(row), marker=sign, markersize=6, linestyle="", zorder=4)


def _label(axes: Axes, panel: Panel) -> None:
    axes.set_title(panel.title)
    axes.set_xlabel(panel.xlabel)
    if panel.logarithmic:
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
    elif not panel.percent:
        axes.xaxis.set_major_locator(MaxNLocator(6))
