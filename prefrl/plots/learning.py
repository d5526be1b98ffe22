"""Learning curves: one run, or the mean over seeds with a band, against environment steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import scipy  # scipy.stats takes half a second to load: when it is first used
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from prefrl.errors import UserError
from prefrl.metrics import Metrics
from prefrl.plots.style import add_legend, add_line, colour, panels, say_empty, styled


@dataclass(frozen=True)
class Curve:
    """One line of a figure, with a band around it or without."""

    label: str
    env_steps: NDArray[np.float64]  # (N,)
    values: NDArray[np.float64]  # (N,), NaN where nothing was measured
    low: NDArray[np.float64] | None = None  # (N,), the band's lower edge
    high: NDArray[np.float64] | None = None  # (N,)


def curve(label: str, metrics: Metrics, column: str = "true_return") -> Curve:
    """One run's column as a line."""
    steps = metrics.get("env_steps", np.empty(0))
    return Curve(label, steps, metrics.get(column, np.full(len(steps), np.nan)))


def curve_over_seeds(
    label: str,
    runs: Sequence[Metrics],
    column: str = "true_return",
    band: Literal["min-max", "interval"] = "min-max",
    points: int = 200,
) -> Curve:
    """The mean over runs that differ in their seed, up to the steps that all of them reached.

    Args:
        band: the runs' extremes, or a 95 % t interval of the mean.
        points: where the runs, interpolated linearly, are compared.

    Raises:
        UserError: none of the runs has a value in that column.
    """
    lines = []
    for metrics in runs:
        one = curve(label, metrics, column)
        known = np.isfinite(one.values) & np.isfinite(one.env_steps)
        if known.any():
            lines.append((one.env_steps[known], one.values[known]))
    if not lines:
        raise UserError(f"none of the {len(runs)} runs of {label!r} has a value of {column} yet")
    if len(lines) == 1:
        return Curve(label, *lines[0])
    grid = np.linspace(max(x[0] for x, _ in lines), min(x[-1] for x, _ in lines), points)
    values = np.stack([np.interp(grid, x, y) for x, y in lines])
    mean = values.mean(axis=0)
    if band == "min-max":
        return Curve(label, grid, mean, values.min(axis=0), values.max(axis=0))
    half = scipy.stats.t.ppf(0.975, len(lines) - 1) * values.std(axis=0, ddof=1) / np.sqrt(len(lines))
    return Curve(label, grid, mean, mean - half, mean + half)


@styled
def learning_curves(
    curves: Sequence[Curve],
    markers: Mapping[str, float] | None = None,
    ylabel: str = "true return",
    title: str | None = None,
) -> Figure:
    """Lines against environment steps, each with its band if it has one.

    Args:
        markers: horizontal lines by name, such as the paper's final value.
    """
    figure, (axes,) = panels(1, height=3.2)
    draw_curves(axes, curves, markers)
    axes.set_ylabel(ylabel)
    if title:
        axes.set_title(title)
    add_legend(figure, axes)
    return figure


def draw_curves(axes: Axes, curves: Sequence[Curve], markers: Mapping[str, float] | None = None) -> None:
    """learning_curves for one panel of a larger figure (call inside a function decorated with `styled`)."""
    for i, each in enumerate(curves):
        add_line(axes, each.env_steps, each.values, each.label, i)
        if each.low is not None and each.high is not None:
            axes.fill_between(each.env_steps, each.low, each.high, color=colour(i), alpha=0.18, linewidth=0)
    for (name, value), style in zip((markers or {}).items(), ("--", ":", "-.", (0, (1, 3))) * 5, strict=False):
        axes.axhline(value, color="#444444", linewidth=1.1, linestyle=style, label=name)
    if not any(np.isfinite(each.values).any() for each in curves):
        say_empty(axes)
