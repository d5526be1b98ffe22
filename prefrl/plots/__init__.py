"""Figures for the report, experiments and notebooks.

Takes the columns of metrics.csv (prefrl.metrics) or arrays; returns matplotlib Figures, which save writes as SVG and
PNG. Imported only where something is drawn: matplotlib takes a third of a second.

    runs = [read_metrics(run / "metrics.csv") for run in (first, second, third)]
    save(learning_curves([curve_over_seeds("700 answers", runs)], {"paper": 4650.0}), "figures/cheetah")
"""

from prefrl.plots.answers import TaskAnswers, answers_panels
from prefrl.plots.conditions import MOST_BANDS, Look, looks
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
from prefrl.plots.profiles import Aggregate, Profile, aggregate_profiles
from prefrl.plots.style import COLOURS, HATCHES, LINES, MARKERS, STYLE, save, styled, to_svg
from prefrl.plots.sweeps import (
    TaskCurves,
    TaskFinals,
    TaskPredictions,
    final_panels,
    learning_panels,
    predicted_panels,
)

__all__ = [
    "COLOURS",
    "HATCHES",
    "LINES",
    "MARKERS",
    "MOST_BANDS",
    "STYLE",
    "Aggregate",
    "Curve",
    "Estimate",
    "Look",
    "Panel",
    "Profile",
    "TaskAnswers",
    "TaskCurves",
    "TaskFinals",
    "TaskPredictions",
    "aggregate_profiles",
    "answers_panels",
    "choice_shares",
    "curve",
    "curve_over_seeds",
    "draw_curves",
    "estimate_lines",
    "estimate_rows",
    "final_panels",
    "fit_curves",
    "label_curve",
    "learning_curves",
    "learning_panels",
    "looks",
    "measure_curves",
    "measure_label",
    "ppo_curves",
    "predicted_panels",
    "reliability",
    "return_comparison",
    "reward_diagnostics",
    "save",
    "stage_shares",
    "styled",
    "to_svg",
    "trust_curves",
]
