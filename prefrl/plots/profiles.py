"""A sweep over all its tasks: rows of aggregate scores, and performance profiles."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter
from numpy.typing import NDArray

from prefrl.plots.conditions import MOST_BANDS, Look, Looks, literal
from prefrl.plots.labellers import Estimate
from prefrl.plots.style import say_empty, styled


@dataclass(frozen=True)
class Aggregate:
    """One number for each condition, over all tasks and seeds."""

    title: str
    estimates: Mapping[str, Estimate]  # by condition
    reference: float | None = None  # a thin line


@dataclass(frozen=True)
class Profile:
    """The share of a condition's runs that score above each threshold, with its band."""

    thresholds: NDArray[np.float64]  # (K,)
    shares: NDArray[np.float64]  # (K,)
    low: NDArray[np.float64]  # (K,)
    high: NDArray[np.float64]  # (K,)


@styled
def aggregate_profiles(aggregates: Sequence[Aggregate], profiles: Mapping[str, Profile], looks: Looks) -> Figure:
    """Above, a panel per aggregate and a row per condition; below, the conditions' performance profiles.

    Up to five conditions have the bands of their profiles; more would cover each other.
    """
    above = 0.75 + 0.25 * len(looks)
    figure = Figure(figsize=(8.6, above + 3.6))
    upper, lower = figure.subfigures(2, 1, squeeze=False, height_ratios=(above, 3.6))[:, 0]
    row = upper.subplots(1, len(aggregates), sharey=True, squeeze=False)[0]
    for axes, aggregate in zip(row, aggregates, strict=True):
        _aggregate(axes, aggregate, looks)
    axes = lower.subplots()
    for name, profile in profiles.items():
        _profile(axes, name, profile, looks[name], band=len(looks) <= MOST_BANDS)
    axes.set_ylim(0, 1.02)
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axes.set_ylabel("share of runs above τ")
    axes.set_xlabel("normalised score τ: 0 is the random policy, 1 the baseline")
    if profiles:
        axes.axvline(1.0, color="#888888", linewidth=0.9, zorder=1)
        axes.set_xlim(next(iter(profiles.values())).thresholds[[0, -1]])
        lower.legend(*axes.get_legend_handles_labels(), loc="outside right upper", handlelength=4)
    else:
        say_empty(axes)
    return figure


def _aggregate(axes: Axes, aggregate: Aggregate, looks: Looks) -> None:
    for i, (name, look) in enumerate(looks.items()):
        estimate = aggregate.estimates.get(name)
        if estimate is None or not math.isfinite(estimate.value):
            continue
        if math.isfinite(estimate.low + estimate.high):
            axes.plot([estimate.low, estimate.high], [i, i], color=look.colour, linewidth=4.5, alpha=0.4, zorder=3)
        axes.plot(estimate.value, i, color=look.colour, marker=look.marker, markersize=6, linestyle="", zorder=4)
    if aggregate.reference is not None:
        axes.axvline(aggregate.reference, color="#888888", linewidth=0.9, zorder=1)
    axes.set_yticks(range(len(looks)), list(looks))
    axes.set_ylim(len(looks) - 0.4, -0.6)
    axes.grid(axis="y", visible=False)
    axes.xaxis.set_major_locator(MaxNLocator(4, steps=(1, 2, 2.5, 5, 10)))
    axes.set_title(aggregate.title)


def _profile(axes: Axes, name: str, profile: Profile, look: Look, band: bool) -> None:
    axes.plot(
        profile.thresholds,
        profile.shares,
        label=literal(name),
        color=look.colour,
        linestyle=look.line,
        linewidth=look.width,
        drawstyle="steps-post",
        marker=look.marker,
        markersize=4.5,
        markevery=0.12,
        zorder=3,
    )
    steps, low, high = profile.thresholds, profile.low, profile.high
    if band and np.isfinite(low + high).all():
        axes.fill_between(steps, low, high, color=look.colour, alpha=0.13, linewidth=0, step="post")
