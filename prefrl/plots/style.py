"""The one style of all figures: readable in black and white and by the colour-blind.

Nothing here goes through pyplot: no display is needed, and no figure stays open after its last use.
"""

from __future__ import annotations

import functools
import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ParamSpec

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter
from numpy.typing import NDArray

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


def styled(draw: Callable[P, Figure]) -> Callable[P, Figure]:
    """Let a function that makes a Figure work in this module's style."""

    @functools.wraps(draw)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> Figure:
        with mpl.rc_context(STYLE):
            return draw(*args, **kwargs)

    return wrapper


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


def panels(count: int, height: float, ratios: Sequence[float] | None = None) -> tuple[Figure, list[Axes]]:
    """Panels above each other with one axis of environment steps; 5.2 inches wide."""
    figure = Figure(figsize=(5.2, height))
    grid = figure.subplots(count, 1, sharex=True, squeeze=False, height_ratios=ratios)
    stacked = list(grid[:, 0])
    steps_axis(stacked[-1])
    return figure, stacked


def steps_axis(axes: Axes) -> None:
    """Label the axis of environment steps: 500k, 1M."""
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.set_xlabel("environment steps")


def add_line(axes: Axes, steps: NDArray[np.float64], values: NDArray[np.float64], label: str, index: int) -> None:
    """A line through the measured points; rows without a value leave no gap. Few points are marked."""
    known = np.isfinite(values)
    if not known.any():
        if not axes.lines and not axes.collections:
            say_empty(axes)
        return
    for text in axes.texts:
        text.remove()
    axes.plot(
        steps[known],
        values[known],
        label=label,
        color=colour(index),
        linestyle=LINES[index % len(LINES)],
        marker=MARKERS[index % len(MARKERS)] if known.sum() <= 25 else None,
        zorder=3,
    )


def add_legend(figure: Figure, *stacked: Axes) -> None:
    """Inside each panel while there is room, below the figure when there are many lines."""
    for axes in stacked:
        entries = len(axes.get_legend_handles_labels()[0])
        if 2 <= entries <= 4:  # the label of the axis says what a single line is
            axes.legend(loc="best")
        elif entries > 4:
            figure.legend(*axes.get_legend_handles_labels(), loc="outside lower left", ncols=2)


def say_empty(axes: Axes) -> None:
    """What a panel without data shows."""
    if not axes.texts:
        axes.text(0.5, 0.5, "not measured", transform=axes.transAxes, ha="center", va="center", color="#777777")


def colour(index: int) -> str:
    """The palette's colour of the index-th line."""
    return COLOURS[index % len(COLOURS)]


def tint(name: str, share: float) -> tuple[float, float, float]:
    """A colour mixed with white; share 1 is white."""
    red, green, blue = mpl.colors.to_rgb(name)
    return red + (1 - red) * share, green + (1 - green) * share, blue + (1 - blue) * share
