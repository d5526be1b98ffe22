"""Several runs on one page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from prefrl import plots
from prefrl.errors import UserError
from prefrl.metrics import last_value, measured
from prefrl.plots import TaskPredictions
from prefrl.report.contents import Run, load_run
from prefrl.report.html import Drawer, Drawing, duration, flattened, mean_and_std, number, render, write_page
from prefrl.report.predictor import PREDICTED_AGAINST_TRUE, alarms_can_tell

SEED_OPTIONS = {"seed", "run_dir", "threads", "video", "evaluation_episodes"}  # by which equal runs may differ


def compare_report(run_dirs: Sequence[str | Path], out: str | Path) -> Path:
    """Write one page that lays several runs over each other, a figure per task and a line per condition.

    Runs of one task whose options differ in the seed alone become one line, their mean, with a band from lowest to
    highest.

    Raises:
        UserError: no run is given, a folder is no run, or `out` can't be written.
    """
    if not run_dirs:
        raise UserError("no run given; name one or more run folders")
    runs = [load_run(each) for each in run_dirs]
    tasks = list(dict.fromkeys(run.task for run in runs))
    of_what = ", ".join(tasks) if len(tasks) < 4 else f"{len(tasks)} tasks"
    page = render(
        "comparison.html.j2",
        title=f"{len(runs)} runs of {of_what}",
        lead="Runs whose options differ in the seed alone are one line, their mean; the band spans lowest to highest.",
        notices=[
            *(f"{run.name}: {problem}" for run in runs for problem in run.problems),
            *(f"Alarm, {run.name}: {alarm.sentence}." for run in runs for alarm in run.alarms),
        ],
        learning=overlaid(runs, drawer := Drawer()),
        predicted=_predicted(runs, drawer),
        runs=runs_table(runs),
    )
    return write_page(Path(out), page)


def overlaid(runs: Sequence[Run], draw: Drawer) -> list[Drawing]:
    """Learning curves of several runs, a figure per task and a line per condition; none where nothing was measured."""
    tasks = dict.fromkeys(run.task for run in runs)
    return [drawing for task in tasks for drawing in _comparison(task, [r for r in runs if r.task == task], draw)]


def runs_table(runs: Sequence[Run]) -> dict[str, Any]:
    """A row per run, for the macro `table`: what it learnt from, what came of it and what it took."""
    measures = list(dict.fromkeys(name for run in runs for name in run.evaluation.get("measures") or {}))
    returns = ["true return", *(plots.measure_label(name) for name in measures)]
    columns = [{"title": title, "number": False} for title in ("run", "task", "learnt from")]
    columns += [{"title": title, "number": True} for title in ("seed", *returns)]
    columns += [{"title": "state", "number": False}]
    columns += [{"title": title, "number": True} for title in ("steps", "answers", "alarms", "wall time", "steps/s")]
    return {"columns": columns, "rows": [_comparison_row(run, measures) for run in runs]}


def _comparison(task: str, runs: Sequence[Run], draw: Drawer) -> list[Drawing]:
    curves: list[plots.Curve] = []
    markers: dict[str, float] = {}
    for label, group in _groups([run for run in runs if measured(run.metrics, "true_return")]).items():
        seeds = f" ({len(group)} seeds)" if len(group) > 1 else ""
        curves.append(plots.curve_over_seeds(label + seeds, [run.metrics for run in group]))
        markers |= group[0].paper_markers
    if not curves:
        return []
    caption = "Return under the task's true reward."
    if len(curves) == 1:
        caption += f" Learnt from: {curves[0].label}."
    return [draw(task, plots.learning_curves(curves, markers), caption)]


def _predicted(runs: Sequence[Run], draw: Drawer) -> list[Drawing]:
    """Predicted against true returns, a panel per task; none where nothing was predicted."""
    panels = []
    for task in dict.fromkeys(run.task for run in runs):
        of_task = [r for r in runs if r.task == task and measured(r.metrics, "predicted_return")]
        groups = _groups([run for run in of_task if measured(run.metrics, "true_return")])
        if groups:
            panels.append(TaskPredictions(task, {label: [r.metrics for r in each] for label, each in groups.items()}))
    if not panels:
        return []
    looks = plots.looks(list(dict.fromkeys(label for panel in panels for label in panel.runs)))
    return [draw("Predicted against true return", plots.predicted_panels(panels, looks), PREDICTED_AGAINST_TRUE)]


def _groups(runs: Sequence[Run]) -> dict[str, list[Run]]:
    """Runs whose options differ in nothing but SEED_OPTIONS, by their condition and whatever else tells them apart."""
    options = [dict(flattened(run.config.get("options") or {})) for run in runs]
    groups: dict[str, list[Run]] = {}
    for run, own in zip(runs, options, strict=True):
        alike = [each for other, each in zip(runs, options, strict=True) if other.condition == run.condition]
        told_apart = [
            f"{name} {own.get(name, '–')}"
            for name in sorted({name for each in alike for name in each} - SEED_OPTIONS)
            if len({each.get(name) for each in alike}) > 1
        ]
        groups.setdefault(", ".join([run.condition, *told_apart]), []).append(run)
    return groups


def _comparison_row(run: Run, measures: Sequence[str]) -> list[str]:
    summaries = run.evaluation.get("measures") or {}
    return [
        run.name,
        run.task,
        run.condition,
        str(run.config.get("seed", "–")),
        mean_and_std(run.evaluation.get("true_return")),
        *(mean_and_std(summaries.get(name)) for name in measures),
        run.state,
        number(run.env_steps),
        number(last_value(run.metrics, "labels/answered")),
        str(len(run.alarms)) if alarms_can_tell(run) else "–",
        duration(run.seconds),
        number(run.speed),
    ]
