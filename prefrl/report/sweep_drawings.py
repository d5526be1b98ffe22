"""The figures of a sweep's page: file name, title, figure and caption of each."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from matplotlib.figure import Figure

from prefrl import plots
from prefrl.metrics import Metrics, measured
from prefrl.plots import Aggregate, Curve, Estimate, Profile, TaskAnswers, TaskCurves, TaskFinals, TaskPredictions
from prefrl.report.predictor import PREDICTED_AGAINST_TRUE
from prefrl.report.sweep_scores import SweepScores

THRESHOLDS = 151  # of a performance profile


@dataclass(frozen=True)
class SweepFigure:
    """A figure and what stands around it."""

    name: str  # of its files
    title: str
    figure: Figure
    caption: str


def sweep_figures(scores: SweepScores) -> Iterator[SweepFigure]:
    """Those that the sweep's drawings ask for, one after the other; the returns of every seed always."""
    sweep = scores.results.sweep
    looks = plots.looks(scores.conditions, sweep.baseline)
    if "profiles" in sweep.drawings:
        common = scores.comparable
        which = "all tasks" if common is scores else ", ".join(common.tasks)
        yield SweepFigure(
            "profiles",
            f"Scores over {which}",
            plots.aggregate_profiles(_aggregates(common), _profiles(common), looks),
            f"{_bars(scores)} are 95 % intervals of the stratified bootstrap over seeds; of the optimality gap, less "
            "is better. Below, the share of all runs that score above τ.",
        )
    if "learning" in sweep.drawings:
        yield SweepFigure(
            "learning",
            "True return while training",
            plots.learning_panels([_task_curves(scores, task) for task in scores.tasks], looks),
            f"{_means(scores)}{_of_the_paper(scores, 'Hollow marks at the right are')}",
        )
    predictions = [_task_predictions(scores, task) for task in scores.tasks]
    if any(each.runs for each in predictions):
        yield SweepFigure(
            "predicted",
            "Predicted against true return",
            plots.predicted_panels(predictions, looks),
            PREDICTED_AGAINST_TRUE,
        )
    if "answers" in sweep.drawings:
        beside = ""
        if sweep.baseline is not None:
            beside = (
                f"; the grey band is that of “{sweep.baseline}”, the dotted line nine tenths of the way to it from the "
                "random policy"
            )
        yield SweepFigure(
            "answers",
            "True return against the number of answers",
            plots.answers_panels([_task_answers(scores, task) for task in scores.tasks], sweep.baseline or ""),
            f"Means with 95 % t intervals, which may run out of the panel{beside}."
            f"{_of_the_paper(scores, 'Diamonds are')}",
        )
    yield SweepFigure(
        "final",
        "Final true return of every seed",
        plots.final_panels([_task_finals(scores, task) for task in scores.tasks], looks),
        "Mean over the final evaluation's episodes. Lines are 95 % t intervals of the mean over seeds; an arrow says "
        f"that one goes on beyond the panel.{_of_the_paper(scores, 'Grey bars are')}",
    )


def _bars(scores: SweepScores) -> str:
    return "Bars" if len(scores.conditions) > plots.MOST_BANDS else "Bars and bands"


def _means(scores: SweepScores) -> str:
    if len(scores.conditions) > plots.MOST_BANDS:
        return (
            "Mean over seeds; the intervals of so many lines would cover each other, and are among the final returns."
        )
    return "Mean over seeds with the 95 % t interval of the mean, which may run out of the panel."


def _of_the_paper(scores: SweepScores, what: str) -> str:
    if not any(scores.results.sweep.paper.get(task) for task in scores.tasks):
        return ""
    return f" {what} the paper's final values, read off its figure, after 20 million steps (pendulum: 2 million)."


def _aggregates(scores: SweepScores) -> list[Aggregate]:
    columns = [
        ("interquartile mean score", scores.iqm, 1.0),
        ("optimality gap", scores.gap, 0.0),
        (f"chance to beat {scores.results.sweep.baseline}", scores.improvement, 0.5),
    ]
    return [
        Aggregate(title, {name: statistic(name) for name in scores.conditions}, reference)
        for title, statistic, reference in columns
    ]


def _profiles(scores: SweepScores) -> dict[str, Profile]:
    highest = [
        scores.score_of(task, value)
        for task in scores.tasks
        for name in scores.conditions
        for value in scores.returns(task, name)
    ]
    finite = [each for each in highest if math.isfinite(each)]
    top = min(2.0, max([1.2, *finite]))
    found = {name: scores.profile(name, np.linspace(0, top, THRESHOLDS)) for name in scores.conditions}
    return {name: profile for name, profile in found.items() if profile is not None}


def _task_curves(scores: SweepScores, task: str) -> TaskCurves:
    curves: list[Curve] = []
    for name in scores.conditions:
        runs = [each.metrics() for each in scores.results.of(task, name)]
        runs = [run for run in runs if measured(run, "true_return")]
        if runs:
            curves.append(plots.curve_over_seeds(name, runs, band="interval"))
    return TaskCurves(task, curves, scores.results.sweep.paper.get(task, {}), _steps(scores, task))


def _task_predictions(scores: SweepScores, task: str) -> TaskPredictions:
    runs: dict[str, list[Metrics]] = {}
    for name in scores.conditions:
        for metrics in (each.metrics() for each in scores.results.of(task, name)):
            if measured(metrics, "true_return") and measured(metrics, "predicted_return"):
                runs.setdefault(name, []).append(metrics)
    return TaskPredictions(task, runs)


def _steps(scores: SweepScores, task: str) -> float:
    """Of a task's runs; where none is finished what the sweep asks for, or those of its other tasks; 0 if unknown."""
    outcomes = scores.results.outcomes
    own = [float(each.steps) for each in outcomes if each.task == task]
    if not own:
        planned = (trial.options.get("steps") for trial in scores.results.sweep.trials if trial.task == task)
        own = [float(steps) for steps in planned if steps is not None]
    return max(own or [float(each.steps) for each in outcomes], default=0.0)


def _task_finals(scores: SweepScores, task: str) -> TaskFinals:
    return TaskFinals(
        task,
        {name: scores.returns(task, name).tolist() for name in scores.conditions},
        {name: scores.mean(task, name) for name in scores.conditions},
        scores.results.sweep.paper.get(task, {}),
    )


def _task_answers(scores: SweepScores, task: str) -> TaskAnswers:
    paper = scores.results.sweep.paper.get(task, {})
    means = {
        name: replace(scores.mean(task, name), at=count)
        for name, count in scores.answers.items()
        if len(scores.returns(task, name))
    }
    baseline = scores.mean(task, scores.results.sweep.baseline or "")
    enough, reached = scores.enough_return(task), scores.enough_answers(task)
    return TaskAnswers(
        task,
        list(means.values()),
        [(count, value) for name, count in scores.answers.items() for value in scores.returns(task, name)],
        baseline=_known(baseline),
        enough=None if math.isnan(enough) else enough,
        reached=None if reached is None else means[reached],
        tried_fewer=reached is None or scores.tried_fewer(task, reached),
        paper=[(count, paper[name]) for name, count in scores.answers.items() if name in paper],
    )


def _known(estimate: Estimate) -> Estimate | None:
    return None if math.isnan(estimate.value) else estimate
