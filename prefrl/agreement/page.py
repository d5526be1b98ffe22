"""The page of a comparison; whatever was not measured becomes a dash or a plain sentence."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from prefrl import plots
from prefrl.agreement import words
from prefrl.agreement.intervals import Interval
from prefrl.agreement.results import Between, Results
from prefrl.agreement.shares import Point, agreement_by_distance, agreement_by_part, seconds_by_part
from prefrl.agreement.words import PARAMETERS
from prefrl.plots import Estimate, Panel
from prefrl.report.comparison import overlaid, runs_table
from prefrl.report.contents import Run
from prefrl.report.html import Drawer, Drawing, number, render, write_page

CHOICE_LABELS = {"left": "left", "right": "right", "equal": "equal", "cant_tell": "can't tell", "skip": "skip"}
WIDTHS = {"skip_below": "skip_width", "equal_within": "equal_width"}
UNITS = {
    "rationality": "per deviation",
    "discount": "per step",
    "error_rate": "share of preferences that are a coin toss",
    "skip_below": "deviations from the mean",
    "equal_within": "deviations",
}


def write_comparison(results: Results, location: str, runs: Sequence[Run], out: Path) -> Path:
    """Write the page and return its path.

    Args:
        results: to show.
        location: of the store, for the heading.
        runs: whose learning curves are shown; none is fine.
        out: the page.

    Raises:
        UserError: it can't be written.
    """
    draw = Drawer()
    survey = results.survey
    page = render(
        "labellers.html.j2",
        title=f"{len(results.labellers)} labellers" if len(results.labellers) > 1 else "One labeller",
        lead=f"{survey.task or 'unknown task'} · {number(len(survey.true_return.differences))} queries · {location}",
        notices=[*_left_out(results), *(f"{run.name}: {problem}" for run in runs for problem in run.problems)],
        labellers=_labellers(results),
        agreement=_agreement(results, draw),
        between=[_between(each) for each in results.between],
        matrix=_matrix(results),
        habits=_habits(results, draw),
        habit_rows=_habit_rows(results),
        session=_session(results, draw),
        drift=_drift(results),
        teachers=_teachers(results),
        teacher_figures=_teacher_figures(results, draw),
        learning=overlaid(runs, draw),
        runs=runs_table(runs) if runs else None,
    )
    return write_page(out, page)


def _left_out(results: Results) -> list[str]:
    survey = results.survey
    if not survey.longer_queries:
        return []
    return [
        f"{number(survey.longer_queries)} queries of three segments or more and the "
        f"{number(survey.answers_to_longer)} answers to them are left out: everything here is about pairs."
    ]


def _columns(*titles: str, text: int = 1) -> list[dict[str, Any]]:
    """Columns of a table, the first `text` of words, the others of numbers."""
    return [{"title": title, "number": i >= text} for i, title in enumerate(titles)]


def _labellers(results: Results) -> dict[str, Any]:
    scores = [f"agrees with the {scores.name}" for scores in results.survey.scores]
    rows = []
    for each in results.labellers:
        habits = each.habits
        rows.append(
            [
                each.name,
                "oracle" if each.labeller.is_oracle else "person",
                number(habits.answers),
                *(words.percent_and_ends(share) for share in each.agreement),
                f"{words.percent_and_ends(habits.same)}{f' of {habits.repeats}' if habits.repeats else ''}",
                words.seconds(habits.seconds[1]),
            ]
        )
    columns = _columns("labeller", "", "answers", *scores, "with itself, sides swapped", "seconds", text=2)
    return {"columns": columns, "rows": rows}


def _agreement(results: Results, draw: Drawer) -> list[Drawing]:
    caption = (
        "Share of left and right answers that prefer the segment with the higher score, in bins of equally many "
        "answers; bars are Wilson's 95 % intervals. Equal, can't tell, skip, exact ties and repeats are left out. "
        "A deviation is that of the latest 200 segments' scores when the query was asked; guessing agrees in half."
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


def _estimates(points: Sequence[Point]) -> list[Estimate]:
    return [Estimate(p.share.value, p.share.low, p.share.high, p.at) for p in points]


def _between(between: Between) -> dict[str, str]:
    return {
        "group": between.group,
        "labellers": number(between.labellers),
        "queries": number(between.queries),
        "nominal": words.value_and_ends(between.nominal),
        "ordinal": words.value_and_ends(between.ordinal),
    }


def _matrix(results: Results) -> dict[str, Any] | None:
    """α of every two labellers; of two alone there is nothing to add."""
    if len(results.labellers) < 3:
        return None
    names = [each.name for each in results.labellers]
    rows = []
    for i, name in enumerate(names):
        cells = [results.pairs.get((min(i, j), max(i, j))) for j in range(len(names))]
        rows.append([name, *("" if c is None else f"{words.value(c.nominal)} ({number(c.queries)})" for c in cells)])
    return {"columns": _columns("", *names), "rows": rows}


def _habits(results: Results, draw: Drawer) -> list[Drawing]:
    shares = [
        (each.short, {label: each.habits.choices[name].value for name, label in CHOICE_LABELS.items()})
        for each in results.labellers
    ]
    sides = [(each.short, [_estimate(each.habits.on_left)]) for each in results.labellers]
    panel = Panel("", "share of choices for the left of the screen", sides)
    drawings = [
        draw(
            "Choices",
            plots.choice_shares(shares),
            "What was answered, repeats included. Left and right are here the query's own first and second segment.",
        ),
        draw(
            "Side bias",
            plots.estimate_rows([_with(panel, reference=0.5, percent=True)]),
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
        caption = "Median and quartiles of the time from seeing a query to answering it, by the server's clock."
        drawings.append(draw("Time per answer", plots.estimate_rows([panel]), caption))
    return drawings


def _with(panel: Panel, **changes: Any) -> Panel:
    return Panel(**{**vars(panel), **changes})


def _estimate(interval: Interval) -> Estimate:
    return Estimate(interval.value, interval.low, interval.high)


def _habit_rows(results: Results) -> dict[str, Any]:
    rows = []
    for each in results.labellers:
        habits = each.habits
        lower, median, upper = habits.seconds
        quartiles = "–" if math.isnan(median) else f"{median:.1f} ({lower:.1f} to {upper:.1f})"
        choices = [words.percent_and_ends(habits.choices[name]) for name in ("equal", "cant_tell", "skip")]
        rows.append(
            [
                each.name,
                words.percent_and_ends(habits.on_left),
                words.probability(habits.on_left_p),
                quartiles,
                *choices,
            ]
        )
    columns = _columns(
        "labeller", "chose the left", "p of no bias", "seconds, quartiles", "equal", "can't tell", "skip"
    )
    return {"columns": columns, "rows": rows}


def _session(results: Results, draw: Drawer) -> list[Drawing]:
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


def _drift(results: Results) -> dict[str, Any]:
    names = [scores.name for scores in results.survey.scores]
    rows = [[each.name, *(words.value_and_ends(change) for change in each.drift)] for each in results.labellers]
    return {"columns": _columns("labeller", *(f"agreement with the {name}" for name in names)), "rows": rows}


def _teachers(results: Results) -> list[dict[str, Any]]:
    """A table per score."""
    titles = [(title, "its width") if name in WIDTHS else (title,) for name, title in PARAMETERS.items()]
    columns = _columns("labeller", *itertools.chain(*titles))
    tables = []
    for i, scores in enumerate(results.survey.scores):
        rows = []
        for each in results.labellers:
            fit = each.fits[i]
            cells = []
            for name in PARAMETERS:
                cells.append(words.value_and_ends(getattr(fit, name)))
                cells += [words.width(getattr(fit, WIDTHS[name]))] if name in WIDTHS else []
            rows.append([each.name, *cells])
        tables.append({"title": f"As teachers that compare the {scores.name}", "columns": columns, "rows": rows})
    return tables


def _teacher_figures(results: Results, draw: Drawer) -> list[Drawing]:
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
