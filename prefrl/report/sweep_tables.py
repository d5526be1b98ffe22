"""The tables of a sweep, the same for its page and for Markdown, and its results as CSV.

A table is {"columns": [{"title": ..., "number": ...}], "rows": [[text, ...], ...]}, as the macro `table` takes it.
"""

from __future__ import annotations

import csv
import io
import math
from typing import Any

import numpy as np

from prefrl.plots import Estimate
from prefrl.report.html import mean_and_std, number
from prefrl.report.sweep_scores import ENOUGH, SweepScores

Table = dict[str, Any]


def aggregate_table(scores: SweepScores) -> Table:
    """A row per condition: scores over its tasks, beside the paper's, and on how many it equals the baseline."""
    baseline = scores.results.sweep.baseline
    tasks = len(scores.tasks)
    planned = len(scores.results.sweep.seeds) * tasks
    rows = []
    for name in scores.conditions:
        reached = scores.reached(name)
        itself = name == baseline or not reached.tasks
        rows.append(
            [
                name,
                f"{len(scores.scored(name))} of {tasks}",
                f"{scores.runs(name)} of {planned}",
                _score(scores.iqm(name)) + _paper(scores.paper_iqm(name)),
                _score(scores.gap(name)),
                _score(scores.improvement(name)),
                "–" if itself else f"{reached.inside} of {reached.tasks}",
                "–" if itself else f"{reached.above} of {reached.tasks}",
            ]
        )
    titles = ("tasks", "runs", "interquartile mean", "optimality gap", f"chance to beat {baseline}")
    table = _table("condition", *titles, "inside or above", "above", rows=rows)
    return table | {"stacked": any("\n" in cell for row in rows for cell in row)}


def return_table(scores: SweepScores) -> Table:
    """A row per task, a column per condition: mean and interval, and the paper's value with the ratio to it."""
    rows = []
    for task in scores.tasks:
        random = scores.results.random_returns.get(task, math.nan)
        cells = [_return(scores, task, name) for name in scores.conditions]
        rows.append([task, _rounded(random, _digits(random)), *cells])
    return _table("task", "random", *scores.conditions, rows=rows) | {"stacked": True}


def score_table(scores: SweepScores) -> Table:
    """A row per task, a column per condition: the mean score, where it reaches the baseline, the paper's own score."""
    rows = []
    for task in scores.tasks:
        cells = []
        for name in scores.conditions:
            ours = scores.score_of(task, scores.mean(task, name).value)
            cells.append(_rounded(ours) + _standing(scores, task, name) + _paper(scores.paper_score(task, name)))
        rows.append([task, *cells])
    return _table("task", *scores.conditions, rows=rows) | {"stacked": True}


# Of the predictor, by how a cell of the table calls it, and the column of a run's curve.
PREDICTOR = {
    "correlation": "reward/correlation",
    "held out": "fit/accuracy",
    "calibration error": "held_out/calibration_error",
    "spread": "reward/spread_ratio",
}


def predictor_table(scores: SweepScores) -> Table:
    """A row per task, a column per condition with answers: what the predictor was like at the end, over the seeds."""
    ran = [name for name in scores.answers if any(len(scores.returns(task, name)) for task in scores.tasks)]
    rows = [[task, *(_predictor(scores, task, name) for name in ran)] for task in scores.tasks]
    return _table("task", *ran, rows=rows) | {"stacked": True}


def answers_table(scores: SweepScores) -> Table:
    """A row per task: the fewest answers that reach 0.9 of the baseline, and the score with each number of answers."""
    rows = []
    for task in scores.tasks:
        enough = scores.enough_answers(task)
        means = [scores.score_of(task, scores.mean(task, name).value) for name in scores.answers]
        none = "none of these" if np.isfinite(means).any() else "–"
        fewest = none if enough is None else number(scores.answers[enough])
        if enough is not None and not scores.tried_fewer(task, enough):
            fewest = f"≤ {fewest}"
        rows.append([task, fewest, *(_rounded(mean) for mean in means)])
    return _table("task", f"fewest answers that reach {ENOUGH}", *map(number, scores.answers.values()), rows=rows)


def run_table(scores: SweepScores) -> Table:
    """A row per finished trial."""
    rows = [
        [
            each.task,
            each.condition,
            str(each.seed),
            mean_and_std(each.evaluation["true_return"]),
            _rounded(scores.score_of(each.task, each.true_return)),
            number(each.steps),
            number(each.labels),
            f"{each.seconds / 60:.1f}",
            "; ".join(each.alarms),
        ]
        for each in scores.results.outcomes
    ]
    table = _table("task", "condition", "seed", "true return", "score", "steps", "answers", "minutes", rows=rows)
    table["columns"][1]["number"] = False
    table["columns"].append({"title": "alarms", "number": False})
    return table


def trials_csv(scores: SweepScores) -> str:
    """A line per finished trial, with every measure of the evaluation and the command that repeats it."""
    outcomes = scores.results.outcomes
    measures = sorted({name for each in outcomes for name in each.evaluation.get("measures") or {}})
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    settings = ["id", "task", "condition", "seed", "steps", "answers", "episodes", "true_return", "true_return_std"]
    writer.writerow(
        [*settings, "score", *measures, "alarms", "seconds", "date", "git_revision", "command"],
    )
    for each in outcomes:
        evaluation, own = each.evaluation, each.evaluation.get("measures") or {}
        numbers = [
            each.true_return,
            evaluation["true_return"].get("std"),
            scores.score_of(each.task, each.true_return),
            *((own.get(name) or {}).get("mean") for name in measures),
        ]
        cells = ["" if value is None or not math.isfinite(value) else f"{value:.6g}" for value in numbers]
        made = [each.id, each.task, each.condition, each.seed, each.steps, each.labels, evaluation.get("episodes", "")]
        about = [len(each.alarms), f"{each.seconds:.0f}", each.date, each.git_revision, each.command]
        writer.writerow([*made, *cells, *about])
    return out.getvalue()


def markdown(table: Table) -> str:
    """A table in Markdown, its columns of numbers set right."""
    header = [str(column["title"]) for column in table["columns"]]
    rule = ["---:" if column["number"] else "---" for column in table["columns"]]
    lines = [" | ".join(map(_cell, line)) for line in (header, rule, *table["rows"])]
    return "\n".join(f"| {line} |" for line in lines)


def _table(first: str, *titles: str, rows: list[list[str]]) -> Table:
    columns = [{"title": first, "number": False}, *({"title": title, "number": True} for title in titles)]
    return {"columns": columns, "rows": rows}


def _return(scores: SweepScores, task: str, condition: str) -> str:
    mean, paper = scores.mean(task, condition), scores.results.sweep.paper.get(task, {}).get(condition)
    digits = _digits(mean.value, paper or 0.0)
    lines = [_rounded(mean.value, digits)]
    if math.isfinite(mean.low + mean.high):
        lines.append(f"{_rounded(mean.low, digits)} to {_rounded(mean.high, digits)}")
    if paper is not None:
        lines.append(f"paper {_rounded(paper, digits)}")
        if mean.value > 0 and paper > 0:  # of returns below zero a ratio says nothing
            lines.append(f"× {mean.value / paper:.2f}")  # a line of its own: eight columns have no room beside
    return "\n".join(lines)


def _predictor(scores: SweepScores, task: str, condition: str) -> str:
    lines = []
    for label, column in PREDICTOR.items():
        known = [point for run in scores.results.of(task, condition) for point in run.late(column)]
        if known:
            lines.append(f"{label} {_rounded(float(np.mean(known)), 3 if label == 'correlation' else 2)}")
    return "\n".join(lines) or "–"


def _standing(scores: SweepScores, task: str, condition: str) -> str:
    if condition == scores.results.sweep.baseline:
        return ""
    return {"above": ", above", "inside": ", inside"}.get(scores.standing(task, condition) or "", "")


def _score(estimate: Estimate) -> str:
    if math.isnan(estimate.value):
        return "–"
    ends = "" if math.isnan(estimate.low) else f" ({_rounded(estimate.low)} to {_rounded(estimate.high)})"
    return f"{_rounded(estimate.value)}{ends}"


def _paper(score: float) -> str:
    return "" if math.isnan(score) else f"\npaper {_rounded(score)}"


def _digits(*returns: float) -> int:
    """After the point, of returns that stand together: three that count."""
    largest = max((abs(each) for each in returns if math.isfinite(each)), default=0.0)
    return 0 if largest >= 100 else 1 if largest >= 10 else 2


def _rounded(value: float, digits: int = 2) -> str:
    return "–" if math.isnan(value) else f"{value:,.{digits}f}".replace("-", "−")


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;").replace("\n", "<br>")
