"""What the figures of a sweep share: a look for each condition, a grid with a panel per task."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import EngFormatter, FuncFormatter, MaxNLocator, NullLocator
from numpy.typing import ArrayLike

from prefrl.plots.style import LINES, MARKERS

GREY = "#5b6570"
PAPER = "the paper's final value"

MOST_BANDS = 5  # in one panel; more would cover each other

# Black is the baseline's; the first seven others differ in colour, in dashes and in marker.
CONDITION_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#7A7A7A")
CONDITION_LINES = (*LINES, (0, (7, 1.5, 1, 1.5, 1, 1.5)))
CONDITION_MARKERS = (*MARKERS, "X")


@dataclass(frozen=True)
class Look:
    """How one condition is drawn in every figure of a sweep."""

    colour: str
    line: Any
    marker: str
    width: float = 1.6  # points


Looks = Mapping[str, Look]  # by condition


def looks(conditions: Sequence[str], baseline: str | None = None) -> dict[str, Look]:
    """A look for each condition, in their order; the baseline is black, solid and thin.

    Any seven that follow each other differ in colour. From the eighth on a colour comes again, with other dashes and
    another marker: 49 are distinct, in black and white too.
    """
    found: dict[str, Look] = {}
    for condition in conditions:
        again, colour = divmod(len(found.keys() - {baseline}), len(CONDITION_COLOURS))
        line, marker = ((colour + shift) % len(CONDITION_COLOURS) for shift in (again, 2 * again))
        found[condition] = Look(CONDITION_COLOURS[colour], CONDITION_LINES[line], CONDITION_MARKERS[marker])
        if condition == baseline:
            found[condition] = Look("#000000", "-", "*", width=1.2)
    return found


def grid(
    count: int, panel: tuple[float, float], beside: float = 0.3, sharey: bool = False
) -> tuple[Figure, list[Axes]]:
    """Panels in at most four columns.

    Args:
        count: how many.
        panel: width and height of each, in inches.
        beside: room for what stands at the left of them, in inches.
        sharey: one vertical axis for all.
    """
    columns = {5: 3, 6: 3, 9: 3}.get(count, min(count, 4))
    rows = -(-count // columns)
    figure = Figure(figsize=(beside + panel[0] * columns, 0.8 + panel[1] * rows))
    panels = figure.subplots(rows, columns, squeeze=False, sharey=sharey)
    for axes in panels.flat[count:]:
        axes.remove()
    return figure, list(panels.flat[:count])


def limits(values: Iterable[ArrayLike], margin: float = 0.06) -> tuple[float, float]:
    """Around all finite values, with room for a share of their range; 0 to 1 without any."""
    pooled = [np.asarray(each, dtype=np.float64).ravel() for each in values]
    finite = np.concatenate([np.empty(0), *pooled])
    finite = finite[np.isfinite(finite)]
    if not len(finite):
        return 0.0, 1.0
    low, high = float(finite.min()), float(finite.max())
    room = margin * ((high - low) or abs(high) or 1.0)
    return low - room, high + room


def few_ticks(axis: Axis, count: int = 5) -> None:
    """At round numbers: 500k, 1M; below one as they are, 0.5, for no return is read in thousandths."""
    axis.set_major_locator(MaxNLocator(count, steps=(1, 2, 2.5, 5, 10)))
    engineering = EngFormatter(sep="")

    def text(value: float, position: int | None = None) -> str:
        return f"{value:.4g}".replace("-", "−") if 0 < abs(value) < 1 else engineering(value, position)

    axis.set_major_formatter(FuncFormatter(text))


def no_ticks(axis: Axis) -> None:
    """Of a panel in which nothing was measured, where any number would be made up."""
    axis.set_major_locator(NullLocator())
    axis.set_minor_locator(NullLocator())


def literal(label: str) -> str:
    """A label as a legend shows it: matplotlib leaves out those that begin with _."""
    return f" {label}" if label.startswith("_") else label


def sample(label: str, **look: Any) -> Line2D:
    """A legend's entry."""
    return Line2D([], [], label=literal(label), **look)


def legend_above(figure: Figure, handles: Sequence[Line2D]) -> None:
    """Above the panels, in as many columns as the figure has room for."""
    widest = max((len(str(handle.get_label())) for handle in handles), default=0)
    inches = (36 + 28 + 5.2 * widest) / 72  # of a sample, the gaps about it and its letters
    columns = max(1, min(len(handles), int(figure.get_figwidth() / inches)))
    if handles:
        figure.legend(handles=handles, loc="outside upper left", ncols=columns, handlelength=4)
