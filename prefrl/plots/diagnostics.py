"""One run's insides, a figure each: predictor, labels, time, PPO, measures of success. Read metrics.csv's columns."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, FuncFormatter, LogLocator, NullFormatter
from numpy.typing import NDArray

from prefrl.calibration import Calibration
from prefrl.metrics import Metrics, measured
from prefrl.plots.style import HATCHES, add_legend, add_line, colour, panels, say_empty, steps_axis, styled, tint

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
    "checkpoint": "checkpoints",
}


@styled
def reward_diagnostics(metrics: Metrics) -> Figure:
    """Does the predictor still say what the true reward says? Spread of its output above, correlation below."""
    figure, (above, below) = panels(2, height=4.2)
    steps = metrics.get("env_steps", np.empty(0))
    mean, std = _column(metrics, "reward/mean"), _column(metrics, "reward/std")
    add_line(above, steps, mean, "mean", 0)
    add_line(above, steps, std, "standard deviation", 1)
    above.set_ylabel("predicted reward")
    add_line(below, steps, _column(metrics, "reward/correlation"), "per step", 0)
    add_line(below, steps, _column(metrics, "reward/segment_correlation"), "per segment", 1)
    below.axhline(0, color="#888888", linewidth=0.9)
    below.set_ylim(-1.05, 1.05)
    below.set_ylabel("correlation with\nthe true reward")
    add_legend(figure, above, below)
    figure.align_ylabels()
    return figure


@styled
def return_comparison(metrics: Metrics, marked: Sequence[tuple[float, float]] = ()) -> Figure:
    """True return above, predicted return below: their units differ, their shapes should not.

    Args:
        marked: environment steps from and to, which are shaded.
    """
    figure, (above, below) = panels(2, height=4.0)
    steps = metrics.get("env_steps", np.empty(0))
    add_line(above, steps, _column(metrics, "true_return"), "true", 0)
    above.set_ylabel("true return")
    add_line(below, steps, _column(metrics, "predicted_return"), "predicted", 1)
    below.set_ylabel("predicted return")
    for axes in (above, below):
        for begin, end in marked:
            axes.axvspan(begin, end, facecolor="#e9d8cf", edgecolor="#a33a00", hatch="///", linewidth=0.6, zorder=0)
    figure.align_ylabels()
    return figure


@styled
def trust_curves(metrics: Metrics) -> Figure:
    """Where the predictor can be trusted: the members' spread on new states above, calibration of its odds below."""
    figure, (spread, calibration, sureness) = panels(3, height=5.4)
    steps = metrics.get("env_steps", np.empty(0))
    add_line(spread, steps, _column(metrics, "reward/spread_ratio"), "spread", 0)
    spread.axhline(1, color="#888888", linewidth=0.9)
    spread.set_ylabel("spread on new /\ncompared states")
    add_line(calibration, steps, _column(metrics, "held_out/calibration_error"), "calibration error", 0)
    calibration.set_ylabel("calibration\nerror")
    add_line(sureness, steps, _column(metrics, "held_out/confidence"), "probability given", 0)
    add_line(sureness, steps, _column(metrics, "held_out/accuracy"), "share right", 1)
    sureness.set_ylim(0.35, 1.02)
    sureness.set_ylabel("held-out answers")
    for axes in (spread, calibration):
        axes.set_ylim(bottom=0)
    add_legend(figure, sureness)
    figure.align_ylabels()
    return figure


@styled
def reliability(calibration: Calibration) -> Figure:
    """Shares of answers beside the probabilities that they were given, and how many predictions that rests on."""
    figure = Figure(figsize=(5.2, 5.0))
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    bins = calibration.bins
    predicted, preferred = [each.predicted for each in bins], [each.preferred for each in bins]
    above.plot((0, 1), (0, 1), color="#888888", linewidth=0.9, linestyle=(0, (5, 3)), label="as it should be")
    ends = np.array([each.interval for each in bins]).T
    errors = np.abs(ends - np.array(preferred))
    above.errorbar(predicted, preferred, errors, color=colour(0), marker="o", elinewidth=1, capsize=2.5, label="found")
    above.set_ylim(-0.03, 1.03)
    above.set_ylabel("share of answers for the left one")
    above.legend(loc="upper left")
    width = 0.9 * (bins[0].high - bins[0].low)
    below.bar([(b.low + b.high) / 2 for b in bins], [b.predictions for b in bins], width, color=tint(colour(0), 0.45))
    below.set_ylabel("predictions")
    below.set_xlim(0, 1)
    below.set_xlabel("predicted probability that the left segment is preferred")
    figure.align_ylabels()
    return figure


@styled
def fit_curves(metrics: Metrics, adaptive_l2: bool = False) -> Figure:
    """The predictor's fit: losses, held-out accuracy, and the ℓ2 coefficient.

    Args:
        adaptive_l2: whether the coefficient followed the ratio of the losses; then that which it aims at is drawn.
    """
    figure, (losses, accuracy, l2) = panels(3, height=5.4)
    steps = metrics.get("env_steps", np.empty(0))
    train, validation = _column(metrics, "fit/train_loss"), _column(metrics, "fit/validation_loss")
    if adaptive_l2 and measured(metrics, "fit/train_loss"):
        losses.fill_between(
            steps, 1.1 * train, 1.5 * train, color="#bbbbbb", alpha=0.5, linewidth=0, label="1.1 to 1.5 times training"
        )
    add_line(losses, steps, train, "training", 0)
    add_line(losses, steps, validation, "validation", 1)
    losses.set_ylabel("cross-entropy")
    add_line(accuracy, steps, _column(metrics, "fit/accuracy"), "held-out answers", 0)
    accuracy.axhline(0.5, color="#888888", linewidth=0.9)
    accuracy.set_ylim(0.35, 1.02)
    accuracy.set_ylabel("held-out accuracy")
    coefficient = _column(metrics, "fit/l2")
    add_line(l2, steps, np.where(coefficient > 0, coefficient, np.nan), "coefficient", 0)
    l2.set_yscale("log")
    l2.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    l2.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    l2.yaxis.set_minor_formatter(NullFormatter())
    l2.set_ylabel("ℓ2 coefficient")
    add_legend(figure, losses)
    figure.align_ylabels()
    return figure


@styled
def label_curve(metrics: Metrics) -> Figure:
    """Labels wanted by the schedule, asked and answered."""
    figure, (axes,) = panels(1, height=3.0)
    steps = metrics.get("env_steps", np.empty(0))
    for i, name in enumerate(("wanted", "asked", "answered")):
        add_line(axes, steps, _column(metrics, f"labels/{name}"), name, i)
    axes.set_ylim(bottom=0)
    axes.set_ylabel("labels")
    add_legend(figure, axes)
    return figure


@styled
def stage_shares(metrics: Metrics) -> Figure:
    """What the time went into: each stage's share, stacked, and the steps per second it allowed."""
    figure, (shares, speed) = panels(2, height=4.2, ratios=(2, 1))
    steps = metrics.get("env_steps", np.empty(0))
    columns = sorted(
        (name for name in metrics if name.startswith("share/") and measured(metrics, name)),
        key=lambda name: -float(np.nanmean(metrics[name])),
    )
    if columns:
        layers = np.nan_to_num(np.stack([metrics[name] for name in columns]))
        labels = [_stage_label(name, float(layer.mean())) for name, layer in zip(columns, layers, strict=True)]
        colours = [tint(colour(i), 0.45 if i % 2 else 0.1) for i in range(len(columns))]
        bands = shares.stackplot(steps, layers, labels=labels, colors=colours)
        for i, band in enumerate(bands):
            band.set_hatch(HATCHES[i % len(HATCHES)])
            band.set_edgecolor("white")
            band.set_linewidth(0.6)
        shares.set_ylim(0, 1)
        figure.legend(*shares.get_legend_handles_labels(), loc="outside lower left", ncols=2)
    shares.set_ylabel("share of time")
    if not columns:
        say_empty(shares)
    add_line(speed, steps, _column(metrics, "steps_per_second"), "steps per second", 0)
    speed.set_ylim(bottom=0)
    speed.yaxis.set_major_formatter(EngFormatter(sep=""))
    speed.set_ylabel("steps per\nsecond")
    figure.align_ylabels()
    return figure


@styled
def measure_curves(metrics: Metrics) -> Figure:
    """The task's own measures of success, such as backward turns per 8 s, a panel each."""
    names = [name for name in metrics if name.startswith("measure/")]
    figure, rows = panels(max(1, len(names)), height=0.6 + 1.7 * max(1, len(names)))
    for i, (axes, name) in enumerate(zip(rows, names, strict=False)):
        add_line(axes, metrics["env_steps"], metrics[name], name, i)
        axes.set_title(measure_label(name))
    if not names:
        say_empty(rows[0])
    return figure


@styled
def ppo_curves(metrics: Metrics) -> Figure:
    """PPO's own diagnostics, a small panel each."""
    names = [name for name in metrics if name.startswith("ppo/") and measured(metrics, name)]
    if not names:
        figure, rows = panels(1, height=2.0)
        say_empty(rows[0])
        return figure
    count = -(-len(names) // 2)
    figure = Figure(figsize=(5.2, 0.4 + 1.4 * count))
    grid = figure.subplots(count, 2, sharex=True, squeeze=False)
    for axes in grid.flat[len(names) :]:
        axes.remove()
    for axes, name in zip(grid.flat, names, strict=False):
        add_line(axes, metrics["env_steps"], metrics[name], name, 0)
        axes.set_title(name.removeprefix("ppo/").replace("_", " "))
    for axes in grid[-1]:
        steps_axis(axes)
    return figure


def measure_label(name: str) -> str:
    """What a measure is called in figures and tables, with its unit."""
    name = name.removeprefix("measure/")
    return MEASURE_LABELS.get(name, name.replace("_", " "))


def _column(metrics: Metrics, name: str) -> NDArray[np.float64]:
    return metrics.get(name, np.full(len(metrics.get("env_steps", ())), np.nan))


def _stage_label(column: str, share: float) -> str:
    name = column.removeprefix("share/")
    return f"{STAGE_LABELS.get(name, name)} ({share:.0%})"
