"""The page of a comparison; whatever was not measured becomes a dash or a plain sentence."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from prefrl.agreement import words
from prefrl.agreement.drawings import agreement_figures, habit_figures, session_figures, teacher_figures
from prefrl.agreement.results import Between, Results
from prefrl.agreement.words import PARAMETERS
from prefrl.report.comparison import overlaid, runs_table
from prefrl.report.contents import Run
from prefrl.report.html import Drawer, number, render, write_page

WIDTHS = {"skip_below": "skip_width", "equal_within": "equal_width"}


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
        agreement=agreement_figures(results, draw),
        between=[_between(each) for each in results.between],
        matrix=_matrix(results),
        habits=habit_figures(results, draw),
        habit_rows=_habit_rows(results),
        session=session_figures(results, draw),
        drift=_drift(results),
        teachers=_teachers(results),
        teacher_figures=teacher_figures(results, draw),
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
                "oracle" if each.labeller.is_oracle else "on the page",
                number(habits.answers),
                *(words.percent_and_ends(share) for share in each.agreement),
                f"{words.percent_and_ends(habits.same)}{f' of {habits.repeats}' if habits.repeats else ''}",
                words.seconds(habits.seconds[1]),
            ]
        )
    columns = _columns("labeller", "", "answers", *scores, "with itself, sides swapped", "seconds", text=2)
    return {"columns": columns, "rows": rows}


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
                cells.append(f"{words.value(getattr(fit, name))}\n{words.ends(getattr(fit, name))}".rstrip())
                cells += [words.width(getattr(fit, WIDTHS[name]))] if name in WIDTHS else []
            rows.append([each.name, *cells])
        title = f"As teachers that compare the {scores.name}"
        tables.append({"title": title, "columns": columns, "rows": rows, "stacked": True})
    return tables
