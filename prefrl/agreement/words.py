"""Numbers and intervals of the comparison as they are written, in the terminal and on the page."""

from __future__ import annotations

import math

from prefrl.agreement.intervals import Interval
from prefrl.report.html import number

NOTHING = "–"

PARAMETERS = {
    "rationality": "rationality β",
    "discount": "discount γ",
    "error_rate": "error rate 2ε",
    "skip_below": "skip below",
    "equal_within": "equal within",
}


def percent(share: float) -> str:
    """0.834 as 83, in whole per cent."""
    return NOTHING if math.isnan(share) else f"{100 * share:.0f}"


def percent_and_half(share: Interval) -> str:
    """As 83 ± 2, in per cent: half the interval's width after the sign."""
    return NOTHING if math.isnan(share.value) else f"{percent(share.value)} ± {percent(share.half)}"


def percent_and_ends(share: Interval) -> str:
    """As 83 % (81 to 85)."""
    if math.isnan(share.value):
        return NOTHING
    return f"{percent(share.value)} % ({percent(share.low)} to {percent(share.high)})"


def seconds(value: float) -> str:
    """One decimal."""
    return NOTHING if math.isnan(value) else f"{value:.1f}"


def width(deviations: float | None) -> str:
    """Of a soft threshold, in two decimals."""
    return NOTHING if deviations is None else f"{deviations:.2f}"


def probability(p: float) -> str:
    """Three decimals, or how small it is."""
    return NOTHING if math.isnan(p) else "< 0.001" if p < 0.001 else f"{p:.3f}"


def value(interval: Interval | None) -> str:
    """As many decimals as its interval is wide; none where there is no interval, as nothing is known."""
    if interval is None:
        return "none"
    return NOTHING if math.isnan(interval.value) else _number(interval.value, interval)


def ends(interval: Interval | None) -> str:
    """As "1.8 to 2.5", "over 1.8" or "under 2.5"; empty where there is no interval."""
    if interval is None or math.isnan(interval.low):
        return ""
    low, high = _number(interval.low, interval), _number(interval.high, interval)
    if math.isinf(interval.high):
        return f"over {low}"
    return f"under {high}" if math.isinf(interval.low) else f"{low} to {high}"


def value_and_ends(interval: Interval | None) -> str:
    """As 2.1 (1.8 to 2.5)."""
    between = ends(interval)
    return f"{value(interval)} ({between})" if between else value(interval)


def _number(value: float, interval: Interval) -> str:
    """With decimals of a fifth of the interval's width at most, or three digits where that has none."""
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    width = interval.high - interval.low
    if not 0 < width < math.inf or value == round(value):
        return number(value)
    decimals = min(max(math.ceil(-math.log10(width / 5)), 0), 4)
    return f"{round(value, decimals) + 0.0:.{decimals}f}".replace("-", "−")  # + 0.0: no minus before zero
