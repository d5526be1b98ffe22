"""Figures: one style, readable in black and white and by the colour-blind.

Reads metrics.csv (read_metrics) or arrays; returns matplotlib Figures for report.py, experiments and notebooks. Nothing
here touches pyplot's global state, so figures need no display and can be drawn from any thread.
"""

from __future__ import annotations

import csv
import functools
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, ParamSpec

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, FuncFormatter, LogLocator, NullFormatter
from numpy.typing import NDArray
from scipy import stats

from prefrl.errors import UserError

Metrics = dict[str, NDArray[np.float64]]  # column of metrics.csv -> one value per row, NaN where nothing was measured
P = ParamSpec("P")

# Okabe and Ito's palette without its yellow, dark and light in turn; line styles repeat what colours say.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000", "#56B4E9", "#E69F00")
LINES: tuple[Any, ...] = (
    "-",
    (0, (5, 1.5)),
    (0, (5, 1.5, 1, 1.5)),
    (0, (1, 1.2)),
    (0, (9, 2)),
    (0, (3, 1, 1, 1, 1, 1)),
)
MARKERS = ("o", "s", "^", "D", "v", "P")
HATCHES = ("", "///", "", "...", "", "\\\\\\", "", "xxx")

STYLE: dict[Any, Any] = {
    "axes.axisbelow": True,
    "axes.edgecolor": "#555555",
    "axes.grid": True,
    "axes.labelsize": 9.5,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 9.5,
    "figure.constrained_layout.use": True,
    "figure.dpi": 100,
    "font.family": ["DejaVu Sans"],
    "font.size": 9,
    "grid.color": "#e3e6e8",
    "grid.linewidth": 0.8,
    "legend.fontsize": 8.5,
    "legend.frameon": False,
    "legend.handlelength": 2.6,
    "lines.linewidth": 1.6,
    "lines.markersize": 4,
    "savefig.facecolor": "white",
    "svg.fonttype": "none",  # letters stay letters: small files that can be searched
    "svg.hashsalt": "prefrl",  # equal figures make equal files
    "text.parse_math": False,  # a task or run may be called "$x"
    "xtick.color": "#555555",
    "ytick.color": "#555555",
    "xtick.labelcolor": "black",
    "ytick.labelcolor": "black",
}

MEASURE_LABELS = {
    "turns": "backward turns per 8 s",
    "clean_flips": "clean flips per 8 s",
    "body_down": "share of steps with the body on the floor",
    "speed": "speed, m/s",
    "one_leg_speed": "speed on one leg, m/s",
    "front_leg_down": "share of steps with the front leg on the floor",
    "final_distance": "distance to the target, m",
    "upright": "share of steps upright",
}
STAGE_LABELS = {
    "simulate": "simulating",
    "policy": "acting",
    "predict": "predicting rewards",
    "label": "queries and answers",
    "fit": "fitting the predictor",
    "ppo": "PPO",
}


@dataclass(frozen=True)
class Curve:
    """One line of a figure, with a band around it or without."""

    label: str
    env_steps: NDArray[np.float64]  # (N,)
    values: NDArray[np.float64]  # (N,), NaN where nothing was measured
    low: NDArray[np.float64] | None = None  # (N,), the band's lower edge
    high: NDArray[np.float64] | None = None  # (N,)


def styled(draw: Callable[P, Figure]) -> Callable[P, Figure]:
    """Let a function that makes a Figure work in this module's style."""

    @functools.wraps(draw)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> Figure:
        with mpl.rc_context(STYLE):
            return draw(*args, **kwargs)

    return wrapper


def read_metrics(path: str | Path) -> Metrics:
    """Read metrics.csv: each column as floats, NaN for empty cells.

    A last line without its newline is one that is being written, or that a kill cut short: it is left out.

    Raises:
        UserError: there is no such file, or a cell is not a number.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(f"can't read {path}: {error.strerror}; is it a run directory?") from error
    lines = text[: text.rfind("\n") + 1].splitlines()
    rows = list(csv.reader(lines))
    if not rows:
        return {}
    header, *body = rows
    columns: Metrics = {}
    for i, name in enumerate(header):
        columns[name] = np.array(
            [_number(row[i] if i < len(row) else "", name, path) for row in body], dtype=np.float64
        )
    return columns


def _number(cell: str, column: str, path: Path) -> float:
    try:
        return float(cell) if cell.strip() else float("nan")
    except ValueError:
        raise UserError(f"{path}: {cell!r} in column {column} is not a number") from None


def measured(metrics: Metrics, *columns: str) -> bool:
    """Whether any of the columns holds a finite value."""
    return any(column in metrics and np.isfinite(metrics[column]).any() for column in columns)


def last_value(metrics: Metrics, column: str) -> float:
    """The column's last finite value, or NaN."""
    values = metrics.get(column, np.empty(0))
    finite = values[np.isfinite(values)]
    return float(finite[-1]) if len(finite) else float("nan")


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
    half = stats.t.ppf(0.975, len(lines) - 1) * values.std(axis=0, ddof=1) / np.sqrt(len(lines))
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
    figure, (axes,) = _panels(1, height=3.2)
    draw_curves(axes, curves, markers)
    axes.set_ylabel(ylabel)
    if title:
        axes.set_title(title)
    _legend(figure, axes)
    return figure


def draw_curves(axes: Axes, curves: Sequence[Curve], markers: Mapping[str, float] | None = None) -> None:
    """learning_curves for one panel of a larger figure (call inside a function decorated with `styled`)."""
    for i, each in enumerate(curves):
        _line(axes, each.env_steps, each.values, each.label, i)
        if each.low is not None and each.high is not None:
            axes.fill_between(each.env_steps, each.low, each.high, color=_colour(i), alpha=0.18, linewidth=0)
    for (name, value), style in zip((markers or {}).items(), ("--", ":", "-.", (0, (1, 3))) * 5, strict=False):
        axes.axhline(value, color="#444444", linewidth=1.1, linestyle=style, label=name)
    if not any(np.isfinite(each.values).any() for each in curves):
        _say_empty(axes)


@styled
def reward_diagnostics(metrics: Metrics) -> Figure:
    """Does the predictor still say what the true reward says? Spread of its output above, correlation below."""
    figure, (above, below) = _panels(2, height=4.2)
    steps = metrics.get("env_steps", np.empty(0))
    mean, std = _column(metrics, "reward/mean"), _column(metrics, "reward/std")
    _line(above, steps, mean, "mean", 0)
    _line(above, steps, std, "standard deviation", 1)
    above.set_ylabel("predicted reward")
    _line(below, steps, _column(metrics, "reward/correlation"), "per step", 0)
    _line(below, steps, _column(metrics, "reward/segment_correlation"), "per segment", 1)
    below.axhline(0, color="#888888", linewidth=0.9)
    below.set_ylim(-1.05, 1.05)
    below.set_ylabel("correlation with\nthe true reward")
    _legend(figure, above, below)
    figure.align_ylabels()
    return figure


@styled
def return_comparison(metrics: Metrics) -> Figure:
    """True return above, predicted return below: their units differ, their shapes should not."""
    figure, (above, below) = _panels(2, height=4.0)
    steps = metrics.get("env_steps", np.empty(0))
    _line(above, steps, _column(metrics, "true_return"), "true", 0)
    above.set_ylabel("true return")
    _line(below, steps, _column(metrics, "predicted_return"), "predicted", 1)
    below.set_ylabel("predicted return")
    figure.align_ylabels()
    return figure


@styled
def fit_curves(metrics: Metrics) -> Figure:
    """The predictor's fit: losses with the ratio the ℓ2 coefficient aims at, held-out accuracy, the coefficient."""
    figure, (losses, accuracy, l2) = _panels(3, height=5.4)
    steps = metrics.get("env_steps", np.empty(0))
    train, validation = _column(metrics, "fit/train_loss"), _column(metrics, "fit/validation_loss")
    if measured(metrics, "fit/train_loss"):
        losses.fill_between(
            steps, 1.1 * train, 1.5 * train, color="#bbbbbb", alpha=0.5, linewidth=0, label="1.1 to 1.5 times training"
        )
    _line(losses, steps, train, "training", 0)
    _line(losses, steps, validation, "validation", 1)
    losses.set_ylabel("cross-entropy")
    _line(accuracy, steps, _column(metrics, "fit/accuracy"), "held-out answers", 0)
    accuracy.axhline(0.5, color="#888888", linewidth=0.9)
    accuracy.set_ylim(0.35, 1.02)
    accuracy.set_ylabel("held-out accuracy")
    coefficient = _column(metrics, "fit/l2")
    _line(l2, steps, np.where(coefficient > 0, coefficient, np.nan), "coefficient", 0)
    l2.set_yscale("log")
    l2.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    l2.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    l2.yaxis.set_minor_formatter(NullFormatter())
    l2.set_ylabel("ℓ2 coefficient")
    _legend(figure, losses)
    figure.align_ylabels()
    return figure


@styled
def label_curve(metrics: Metrics) -> Figure:
    """Labels wanted by the schedule, asked and answered."""
    figure, (axes,) = _panels(1, height=3.0)
    steps = metrics.get("env_steps", np.empty(0))
    for i, name in enumerate(("wanted", "asked", "answered")):
        _line(axes, steps, _column(metrics, f"labels/{name}"), name, i)
    axes.set_ylim(bottom=0)
    axes.set_ylabel("labels")
    _legend(figure, axes)
    return figure


@styled
def stage_shares(metrics: Metrics) -> Figure:
    """What the time went into: each stage's share, stacked, and the steps per second it allowed."""
    figure, (shares, speed) = _panels(2, height=4.2, ratios=(2, 1))
    steps = metrics.get("env_steps", np.empty(0))
    columns = sorted(
        (name for name in metrics if name.startswith("share/") and measured(metrics, name)),
        key=lambda name: -float(np.nanmean(metrics[name])),
    )
    if columns:
        layers = np.nan_to_num(np.stack([metrics[name] for name in columns]))
        labels = [_stage_label(name, float(layer.mean())) for name, layer in zip(columns, layers, strict=True)]
        colours = [_tint(_colour(i), 0.45 if i % 2 else 0.1) for i in range(len(columns))]
        bands = shares.stackplot(steps, layers, labels=labels, colors=colours)
        for i, band in enumerate(bands):
            band.set_hatch(HATCHES[i % len(HATCHES)])
            band.set_edgecolor("white")
            band.set_linewidth(0.6)
        shares.set_ylim(0, 1)
        figure.legend(*shares.get_legend_handles_labels(), loc="outside lower left", ncols=2)
    shares.set_ylabel("share of time")
    if not columns:
        _say_empty(shares)
    _line(speed, steps, _column(metrics, "steps_per_second"), "steps per second", 0)
    speed.set_ylim(bottom=0)
    speed.yaxis.set_major_formatter(EngFormatter(sep=""))
    speed.set_ylabel("steps per\nsecond")
    figure.align_ylabels()
    return figure


@styled
def measure_curves(metrics: Metrics) -> Figure:
    """The task's own measures of success, such as backward turns per 8 s, a panel each."""
    names = [name for name in metrics if name.startswith("measure/")]
    figure, panels = _panels(max(1, len(names)), height=0.6 + 1.7 * max(1, len(names)))
    for i, (axes, name) in enumerate(zip(panels, names, strict=False)):
        _line(axes, metrics["env_steps"], metrics[name], name, i)
        axes.set_title(measure_label(name))
    if not names:
        _say_empty(panels[0])
    return figure


@styled
def ppo_curves(metrics: Metrics) -> Figure:
    """PPO's own diagnostics, a small panel each."""
    names = [name for name in metrics if name.startswith("ppo/") and measured(metrics, name)]
    if not names:
        figure, panels = _panels(1, height=2.0)
        _say_empty(panels[0])
        return figure
    rows = -(-len(names) // 2)
    figure = Figure(figsize=(5.2, 0.4 + 1.4 * rows))
    grid = figure.subplots(rows, 2, sharex=True, squeeze=False)
    for axes in grid.flat[len(names) :]:
        axes.remove()
    for axes, name in zip(grid.flat, names, strict=False):
        _line(axes, metrics["env_steps"], metrics[name], name, 0)
        axes.set_title(name.removeprefix("ppo/").replace("_", " "))
    for axes in grid[-1]:
        _steps_axis(axes)
    return figure


def measure_label(name: str) -> str:
    """What a measure is called in figures and tables, with its unit."""
    name = name.removeprefix("measure/")
    return MEASURE_LABELS.get(name, name.replace("_", " "))


def save(figure: Figure, path_without_suffix: str | Path) -> tuple[Path, Path]:
    """Write the figure as SVG and as PNG (200 dots per inch); returns both paths."""
    base = Path(path_without_suffix)
    base.parent.mkdir(parents=True, exist_ok=True)
    svg, png = base.with_name(base.name + ".svg"), base.with_name(base.name + ".png")
    svg.write_text(to_svg(figure), encoding="utf-8")
    with mpl.rc_context(STYLE):
        figure.savefig(png, dpi=200, metadata={"Software": None})
    return svg, png


def to_svg(figure: Figure) -> str:
    """The figure as SVG text, the same for the same data."""
    out = io.StringIO()
    with mpl.rc_context(STYLE):
        figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None})
    return out.getvalue().replace("'DejaVu Sans'", "'DejaVu Sans', Verdana, sans-serif")  # alike in width


def _panels(count: int, height: float, ratios: Sequence[float] | None = None) -> tuple[Figure, list[Axes]]:
    """Panels above each other with one axis of environment steps; 5.2 inches wide."""
    figure = Figure(figsize=(5.2, height))
    grid = figure.subplots(count, 1, sharex=True, squeeze=False, height_ratios=ratios)
    panels = list(grid[:, 0])
    _steps_axis(panels[-1])
    return figure, panels


def _steps_axis(axes: Axes) -> None:
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.set_xlabel("environment steps")


def _line(axes: Axes, steps: NDArray[np.float64], values: NDArray[np.float64], label: str, index: int) -> None:
    """A line through the measured points; rows without a value leave no gap. Few points are marked."""
    known = np.isfinite(values)
    if not known.any():
        if not axes.lines and not axes.collections:
            _say_empty(axes)
        return
    for text in axes.texts:
        text.remove()
    axes.plot(
        steps[known],
        values[known],
        label=label,
        color=_colour(index),
        linestyle=LINES[index % len(LINES)],
        marker=MARKERS[index % len(MARKERS)] if known.sum() <= 25 else None,
        zorder=3,
    )


def _legend(figure: Figure, *panels: Axes) -> None:
    """Inside each panel while there is room, below the figure when there are many lines."""
    for axes in panels:
        entries = len(axes.get_legend_handles_labels()[0])
        if 2 <= entries <= 4:  # the label of the axis says what a single line is
            axes.legend(loc="best")
        elif entries > 4:
            figure.legend(*axes.get_legend_handles_labels(), loc="outside lower left", ncols=2)


def _say_empty(axes: Axes) -> None:
    if not axes.texts:
        axes.text(0.5, 0.5, "not measured", transform=axes.transAxes, ha="center", va="center", color="#777777")


def _column(metrics: Metrics, name: str) -> NDArray[np.float64]:
    return metrics.get(name, np.full(len(metrics.get("env_steps", ())), np.nan))


def _colour(index: int) -> str:
    return COLOURS[index % len(COLOURS)]


def _tint(colour: str, share: float) -> tuple[float, float, float]:
    red, green, blue = mpl.colors.to_rgb(colour)
    return red + (1 - red) * share, green + (1 - green) * share, blue + (1 - blue) * share


def _stage_label(column: str, share: float) -> str:
    name = column.removeprefix("share/")
    return f"{STAGE_LABELS.get(name, name)} ({share:.0%})"
