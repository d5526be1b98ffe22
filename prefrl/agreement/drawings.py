"""The figures of a comparison, for page.py."""

from __future__ import annotations

import math
from collections.abc import Sequence

from prefrl import plots
from prefrl.agreement.intervals import Interval
from prefrl.agreement.results import Results
from prefrl.agreement.shares import Point, agreement_by_distance, agreement_by_part, seconds_by_part
from prefrl.agreement.words import PARAMETERS
from prefrl.plots import Estimate, Panel
from prefrl.report.html import Drawer, Drawing

CHOICE_LABELS = {"left": "left", "right": "right", "equal": "equal", "cant_tell": "can't tell", "skip": "skip"}
UNITS = {
    "rationality": "per deviation",
    "discount": "per step",
    "error_rate": "share of preferences that are a coin toss",
    "skip_below": "deviations from the mean",
    "equal_within": "deviations",
}


def agreement_figures(results: Results, draw: Drawer) -> list[Drawing]:
    """Agreement as a function of how far apart the segments are, a figure per score."""
    caption = (
        "Share of left and right answers that prefer the segment with the higher score, in bins of equally many "
        "answers; bars are Wilson's 95 % intervals. Equal, can't tell, skip, exact ties and repeats are left out. "
        "A deviation is that of the latest 200 segments' scores when the query was asked, at least a twentieth of that "
        "of all; guessing agrees in half."
    )
    drawings = []
    for scores in results.survey.scores:
        lines = [(each.short, _estimates(agreement_by_distance(each.labeller, scores))) for each in results.labellers]
        panel = Panel(
            title="",
            xlabel=f"how far apart the segments are by the {scores.name}, in deviations",
            ylabel="agreement",
            estimates=lines,
            reference=0.5,
            percent=True,
        )
        drawings.append(draw(f"Agreement with the {scores.name}", plots.estimate_lines([panel]), caption))
        caption = "The same with the judge, a scripted look at the whole segment."
    return drawings


def habit_figures(results: Results, draw: Drawer) -> list[Drawing]:
    """Choices, side bias and time per answer."""
    shares = [
        (each.short, {label: each.habits.choices[name].value for name, label in CHOICE_LABELS.items()})
        for each in results.labellers
    ]
    sides = [(each.short, [_estimate(each.habits.on_left)]) for each in results.labellers]
    panel = Panel("", "share of choices for the left of the screen", sides, reference=0.5, percent=True)
    drawings = [
        draw(
            "Choices",
            plots.choice_shares(shares),
            "What was answered, repeats included. Left and right are here the query's own first and second segment.",
        ),
        draw(
            "Side bias",
            plots.estimate_rows([panel]),
            "With Wilson's 95 % intervals. Sides are drawn at random for people; a scripted oracle has none, and sees "
            "the first segment on the left.",
        ),
    ]
    if any(math.isfinite(each.habits.seconds[1]) for each in results.labellers):
        rows = []
        for each in results.labellers:
            lower, median, upper = each.habits.seconds
            rows.append((each.short, [Estimate(median, lower, upper)]))
        panel = Panel("", "seconds per answer", rows, logarithmic=True)
        caption = "Median and quartiles of the time for which the pair was in view before it was answered."
        drawings.append(draw("Time per answer", plots.estimate_rows([panel]), caption))
    return drawings


def session_figures(results: Results, draw: Drawer) -> list[Drawing]:
    """Agreement and time from a labeller's first answers to the last; none where all gave few."""
    scores = results.survey.true_return
    shares = [(each.short, _estimates(agreement_by_part(each.labeller, scores))) for each in results.labellers]
    if not any(points for _, points in shares):
        return []
    panel = Panel("", "answer", shares, "agreement", reference=0.5, percent=True)
    caption = "In consecutive fifths of each labeller's answers; bars are Wilson's 95 % intervals."
    drawings = [draw("Agreement with the true return over the session", plots.estimate_lines([panel]), caption)]
    paces = [
        (each.short, [Estimate(value, value, value, at) for at, value in seconds_by_part(each.labeller)])
        for each in results.labellers
    ]
    if any(points for _, points in paces):
        panel = Panel("", "answer", paces, "median seconds")
        drawings.append(
            draw("Seconds per answer over the session", plots.estimate_lines([panel]), "In consecutive fifths.")
        )
    return drawings


def teacher_figures(results: Results, draw: Drawer) -> list[Drawing]:
    """The fitted parameters side by side, a figure per score."""
    drawings = []
    for i, scores in enumerate(results.survey.scores):
        panels = []
        for name, title in PARAMETERS.items():
            fitted = [(each.short, getattr(each.fits[i], name)) for each in results.labellers]
            if any(interval is not None for _, interval in fitted):
                rows = [(who, [] if interval is None else [_estimate(interval)]) for who, interval in fitted]
                panels.append(Panel(title, UNITS[name], rows, logarithmic=name == "rationality"))
        if panels:
            caption = "With 95 % intervals; an arrow means that the answers set no bound on that side."
            drawings.append(draw(f"Teachers that compare the {scores.name}", plots.estimate_rows(panels), caption))
    return drawings


def _estimates(points: Sequence[Point]) -> list[Estimate]:
    return [Estimate(p.share.value, p.share.low, p.share.high, p.at) for p in points]


def _estimate(interval: Interval) -> Estimate:
    return Estimate(interval.value, interval.low, interval.high)
