"""A sweep's results as a page, Markdown, a table of trials and figures, written beside them.

Reads sweep.json and trials.jsonl and nothing else, so that what is committed can be made again, byte for byte.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import scipy

from prefrl import plots
from prefrl.errors import UserError
from prefrl.report import sweep_tables as tables
from prefrl.report.html import Drawer, number, render, write_page
from prefrl.report.sweep_drawings import sweep_figures
from prefrl.report.sweep_scores import HARDLY, SweepScores
from prefrl.statistics import RESAMPLES
from prefrl.sweep.results import Outcome, SweepResults, read_results

# As experiments/interval_coverage.py measured: by tasks and seeds, the fewest and the most of 250 simulated sweeps, in
# percent, that the intervals of an aggregate held the truth of.
COVERAGE = {
    (8, 5): (91, 93),
    (8, 3): (88, 91),
    (8, 2): (78, 85),
    (4, 5): (92, 94),
    (4, 3): (86, 88),
    (4, 2): (67, 78),
    (1, 5): (86, 93),
    (1, 3): (63, 78),
    (1, 2): (43, 68),
}


def build_sweep_report(folder: Path) -> Path:
    """Write report.html, NAME.md, results.csv and each figure as SVG and PNG into the folder; returns the page's path.

    Args:
        folder: with sweep.json and trials.jsonl.

    Raises:
        UserError: the folder holds no results of a sweep, or can't be written.
    """
    results = read_results(folder)
    scores = SweepScores(results)
    draw, drawn, pictures = Drawer(), [], []
    for each in sweep_figures(scores):
        try:
            svg, _ = plots.save(each.figure, folder / each.name)
        except OSError as error:
            raise UserError(f"can't write {folder / each.name}: {error.strerror}") from error
        drawing = draw.inline(each.title, svg.read_text(encoding="utf-8"), each.caption)
        drawn.append({"drawing": drawing, "inches": each.figure.get_figwidth()})
        pictures.append(f"![{each.title}]({each.name}.svg)\n\n{each.caption}")
    content = _content(scores)
    write_page(folder / "results.csv", tables.trials_csv(scores))
    write_page(folder / f"{results.name}.md", _markdown(content, pictures))
    return write_page(folder / "report.html", render("sweep.html.j2", figures=drawn, **content))


def _content(scores: SweepScores) -> dict[str, Any]:
    """What page and Markdown tell alike."""
    results = scores.results
    sweep = results.sweep
    return {
        "title": sweep.title,
        "lead": f"{_counted(sweep.tasks, 'task')} · {_counted(sweep.conditions, 'condition')} · "
        f"{_counted(sweep.seeds, 'seed')} each; "
        f"{_of_trials(len(sweep.trials) - len(results.missing), results)} finished",
        "notices": _notices(scores),
        "sections": _sections(scores),
        "notes": [(task, note) for task, note in sweep.notes.items()],
        "missing": results.missing,
        "runs": tables.run_table(scores),
        "alarmed": _alarmed(results),
        "provenance": _provenance(results),
    }


def _sections(scores: SweepScores) -> list[dict[str, Any]]:
    """Title, table, and paragraphs on how to read it."""
    sweep = scores.results.sweep
    sections = []
    if sweep.baseline is not None:
        table = tables.aggregate_table(scores)
        about = _about_aggregates(scores, f"“{sweep.baseline}”")
        if any(math.isfinite(scores.paper_iqm(name)) for name in scores.conditions):
            about.append(
                "The paper's is the interquartile mean of its scores on the same tasks. Of each it tells the mean over "
                "5 runs, and not the runs: the best and the worst quarter of the tasks are left out."
            )
        sections.append({"title": "Over all tasks", "table": table, "about": about})
        if (common := scores.comparable) is not scores:
            about = ["As above, over those of the tasks that every condition has runs of: these rows can be compared."]
            title = f"Over {', '.join(common.tasks)}"
            sections.append({"title": title, "table": tables.aggregate_table(common), "about": about})
    papers = any(sweep.paper.get(task) for task in sweep.tasks)
    about = [
        "Mean over seeds and its 95 % t interval; each seed's return is the mean over its final evaluation's episodes."
    ]
    if papers:
        about.append(
            "The paper's is the mean of 5 runs of 20 million steps (pendulum: 2 million) of TRPO, read off its figure; "
            "ours is that times the number below it, where both are above zero."
        )
    sections.append({"title": "Final true return", "table": tables.return_table(scores), "about": about})
    if sweep.baseline is not None:
        about = [
            f"Of the mean return. Above: at or above the mean of “{sweep.baseline}”; inside: below it, but inside its "
            "95 % t interval."
        ]
        if papers:
            about.append(f"The paper's score of 1 is its own “{sweep.baseline}”; its 0 is our random policy.")
        sections.append({"title": "Normalised scores", "table": tables.score_table(scores), "about": about})
    table = tables.predictor_table(scores)
    if any(cell != "–" for row in table["rows"] for cell in row[1:]):
        about = [
            "Over the last tenth of each run, the mean over seeds. Correlation: of the predicted and the true reward "
            "along the policy's own steps. Held out: share of answers that a member of the ensemble was not fitted to "
            "and gets right; calibration error is expected on those. Spread: how far the members lie apart along the "
            "policy's own steps, in units of that on the segments compared; above 1 where nobody was asked. What was "
            "not kept of a run is left out."
        ]
        sections.append({"title": "The predicted reward", "table": table, "about": about})
    if sweep.baseline is not None and "answers" in sweep.drawings:
        about = [
            "Mean scores by the number of answers. ≤: of fewer there are not yet as many runs as of the baseline, and "
            "they may be enough."
        ]
        sections.append({"title": "How many answers it takes", "table": tables.answers_table(scores), "about": about})
    return sections


def _about_aggregates(scores: SweepScores, baseline: str) -> list[str]:
    tasks = min((count for name in scores.conditions if (count := len(scores.compared(name)))), default=0)
    return [
        f"Of the final returns of all seeds on all tasks, as scores: 0 is the random policy, 1 the mean of {baseline}. "
        "The interquartile mean leaves out the best and the worst quarter of the runs, rounded down; the optimality "
        "gap is by how much runs fall short of 1; the chance is that of a run against one of "
        f"{baseline} on the same task. Every task weighs alike, however many of its runs are finished.",
        f"In brackets, 95 % intervals: percentiles of {RESAMPLES:,} resamples of the seeds within each task. Those of "
        f"{baseline} are resampled too, so that the intervals hold how uncertain the scale is; {baseline} itself, "
        "being the scale, has none. They are about other seeds, not about other tasks; they count the random policy's "
        f"return as exact; {_coverage(tasks, scores.fewest_runs())}and a task with one seed adds nothing to them. A "
        f"resample in which {baseline} is no better than random on some task has no score, and is left out.",
        "Tasks and runs: how many of the sweep's the scores are of. Inside or above: on how many tasks the condition's "
        f"mean is at or above that of {baseline}, or at least inside its 95 % t interval. "
        f"{_width(scores.baseline_runs())}",
    ]


def _coverage(tasks: int, seeds: int) -> str:
    """What was measured of sweeps with no more tasks and seeds than this one; empty where it is smaller than all."""
    alike = [case for case in COVERAGE if case[0] <= tasks and case[1] <= seeds]
    if not alike:
        return ""
    tasks, seeds = max(alike)
    least, most = COVERAGE[tasks, seeds]
    kind = f"{'one task' if tasks == 1 else f'{tasks} tasks'} with {seeds} seeds"
    return (
        f"of few seeds they are too narrow, and held the truth in {least} to {most} % of 250 simulated sweeps of "
        f"{kind} (experiments/interval_coverage.py); "
    )


def _width(seeds: int) -> str:
    """How wide the t interval of so many seeds is."""
    if seeds < 2:
        return "One seed has no interval to be inside."
    half = float(scipy.stats.t.ppf(0.975, seeds - 1)) / math.sqrt(seeds)
    kind = "wide, " if seeds < 5 else ""
    return (
        f"Of {seeds} seeds that interval is {kind}{half:.1f} standard deviations to either side, and so the first "
        "count is kind; the second is not."
    )


def _notices(scores: SweepScores) -> list[str]:
    notices = []
    if missing := len(scores.results.missing):
        notices.append(
            f"{_of_trials(missing, scores.results)} not finished; what is missing is named below; everything here is "
            "without it."
        )
    if alarmed := [each for each in scores.results.outcomes if each.alarms]:
        notices.append(
            f"The reward may have been exploited in {_counted(alarmed, 'run')}: {_named(alarmed)}. The table of all "
            "runs says why."
        )
    if pleasing := scores.pleasing_only_predictors():
        notices.append(
            f"Only the predictor is pleased in {_counted(pleasing, 'run')}: {_named(pleasing)}. It pays more than for "
            f"the random policy, at a score below {HARDLY}; where there is no true return to lose, no alarm is raised."
        )
    if scores.results.sweep.baseline is not None:
        notices += _notices_of_scores(scores)
    return notices


def _named(outcomes: Sequence[Outcome]) -> str:
    return "; ".join(f"{each.task}, {each.condition}, seed {each.seed}" for each in outcomes)


def _notices_of_scores(scores: SweepScores) -> list[str]:
    notices = []
    if scores.unscored:
        tasks_by_reason: dict[str, list[str]] = {}
        for task, reason in scores.unscored.items():
            tasks_by_reason.setdefault(reason, []).append(task)
        reasons = "; ".join(f"{', '.join(tasks)}: {reason}" for reason, tasks in tasks_by_reason.items())
        notices.append(f"Left out of everything normalised: {reasons}.")
    over = {(*scores.scored(name), "compared", *scores.compared(name)) for name in scores.conditions}
    if len(over - {("compared",)}) > 1:
        notices.append(
            "Over all tasks, rows are not over the same tasks, for want of finished runs: they can't be compared with "
            f"each other{'' if scores.comparable is scores else '; below are those that can'}."
        )
    elif len({scores.finished(name) for name in scores.conditions if scores.scored(name)}) > 1:
        notices.append(
            "Over all tasks, rows are not over the same seeds, for want of finished runs: they differ by the luck of "
            "these too."
        )
    alone = {name: scores.single(name) for name in scores.conditions if scores.single(name)}
    without = [name for name, tasks in alone.items() if len(tasks) == len(scores.compared(name))]
    partly = [f"{name}: {', '.join(tasks)}" for name, tasks in alone.items() if name not in without]
    if without:
        notices.append(
            f"Over all tasks, there are no intervals of {', '.join(without)}: no task has two runs each of condition "
            "and baseline."
        )
    if partly:
        notices.append(
            "Over all tasks, intervals are too narrow where condition or baseline has one run, which counts as exact: "
            f"{'; '.join(partly)}."
        )
    return notices


def _counted(some: Collection[object], what: str) -> str:
    """1 task, 2 tasks."""
    return f"{len(some)} {what}{'' if len(some) == 1 else 's'}"


def _of_trials(count: int, results: SweepResults) -> str:
    """1 of 2 trials is, 2 of 2 trials are."""
    trials = results.sweep.trials
    return f"{count} of {_counted(trials, 'trial')} {'is' if count == 1 else 'are'}"


def _alarmed(results: SweepResults) -> str:
    from_answers = [each for each in results.outcomes if each.labels]
    alarmed = sum(bool(each.alarms) for each in from_answers)
    runs = _counted(from_answers, "run")
    return f"{number(alarmed)} of {runs} from answers raised an alarm of the reward's diagnostics."


def _provenance(results: SweepResults) -> list[tuple[str, str]]:
    """Where the numbers come from, whatever differs between trials being listed."""
    outcomes = results.outcomes
    dates = sorted(each.date[:10] for each in outcomes)
    versions = [", ".join(f"{name} {version}" for name, version in each.versions.items()) for each in outcomes]
    hours = sum(each.seconds for each in outcomes) / 3600
    return [
        ("trials", f"{number(len(outcomes))}, {hours:.1f} h of wall-clock time in all"),
        ("machine", _distinct([", ".join(f"{k} {v}" for k, v in each.machine.items()) for each in outcomes])),
        ("versions", _distinct(versions)),
        ("revision", _revisions(outcomes)),
        ("begun", " to ".join(dict.fromkeys([dates[0], dates[-1]])) if dates else "–"),
        ("command", f"prefrl sweep {results.name}"),
    ]


def _distinct(texts: Sequence[str]) -> str:
    return "; ".join(text for text in dict.fromkeys(texts) if text) or "–"


def _revisions(outcomes: Sequence[Outcome]) -> str:
    """Each with the number of trials that it ran, wholly or from a checkpoint on."""
    counts = Counter(revision for each in outcomes for revision in dict.fromkeys(each.git_revision.split("; ")))
    return "; ".join(f"{revision} ({count})" for revision, count in counts.items() if revision) or "–"


def _markdown(content: dict[str, Any], pictures: Sequence[str]) -> str:
    parts = [f"# {content['title']}", f"{content['lead']}."]
    parts += [f"**{notice}**" for notice in content["notices"]]
    for i, section in enumerate(content["sections"]):
        parts += [f"## {section['title']}", tables.markdown(section["table"]), *section["about"]]
        if i == 0:
            parts += ["## Figures", *pictures]
    if content["notes"]:
        parts += ["## Notes", "\n".join(f"- **{task}**: {note}" for task, note in content["notes"])]
    if content["missing"]:
        parts += ["## Trials that are not finished", "\n".join(f"- {each}" for each in content["missing"])]
    parts += ["## Every run", content["alarmed"], tables.markdown(content["runs"])]
    parts += ["## Provenance", "\n".join(f"- {what}: {value}" for what, value in content["provenance"])]
    parts.append(
        "Each trial's command is in results.csv, its learning curve and every evaluated episode in trials.jsonl."
    )
    return "\n\n".join(parts) + "\n"
