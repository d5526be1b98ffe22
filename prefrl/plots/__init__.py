"""Figures for the report, experiments and notebooks.

Reads metrics.csv (read_metrics) or arrays; returns matplotlib Figures, which save writes as SVG and PNG.

    runs = [read_metrics(run / "metrics.csv") for run in (first, second, third)]
    save(learning_curves([curve_over_seeds("700 answers", runs)], {"paper": 4650.0}), "figures/cheetah")
"""

from prefrl.plots.diagnostics import (
    fit_curves,
    label_curve,
    measure_curves,
    measure_label,
    ppo_curves,
    reliability,
    return_comparison,
    reward_diagnostics,
    stage_shares,
    trust_curves,
)
from prefrl.plots.labellers import Estimate, Panel, choice_shares, estimate_lines, estimate_rows
from prefrl.plots.learning import Curve, curve, curve_over_seeds, draw_curves, learning_curves
from prefrl.plots.metrics import Metrics, last_value, measured, read_metrics
from prefrl.plots.style import COLOURS, HATCHES, LINES, MARKERS, STYLE, save, styled, to_svg

__all__ = [
    "COLOURS",
    "HATCHES",
    "LINES",
    "MARKERS",
    "STYLE",
    "Curve",
    "Estimate",
    "Metrics",
    "Panel",
    "choice_shares",
    "curve",
    "curve_over_seeds",
    "draw_curves",
    "estimate_lines",
    "estimate_rows",
    "fit_curves",
    "label_curve",
    "last_value",
    "learning_curves",
    "measure_curves",
    "measure_label",
    "measured",
    "ppo_curves",
    "read_metrics",
    "reliability",
    "return_comparison",
    "reward_diagnostics",
    "save",
    "stage_shares",
    "styled",
    "to_svg",
    "trust_curves",
]
