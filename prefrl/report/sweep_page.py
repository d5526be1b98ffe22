"""A sweep's results as a page, Markdown, a table of trials and figures, written beside them.

Reads sweep.json and trials.jsonl and nothing else, so that what is committed can be made again, byte for byte.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from prefrl import plots
from prefrl.errors import UserError
from prefrl.report import sweep_tables as tables
from prefrl.report.html import Drawer, number, render, write_page
from prefrl.report.sweep_drawings import sweep_figures
from prefrl.report.sweep_scores import SweepScores
from prefrl.statistics import RESAMPLES
from prefrl.sweep.results import SweepResults, read_results


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
            plots.save(each.figure, folder / each.name)
        except OSError as error:
            raise UserError(f"can't write {folder / each.name}: {error.strerror}") from error
        drawn.append({"drawing": draw(each.title, each.figure, each.caption), "inches": each.figure.get_figwidth()})
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
        "lead": f"{len(sweep.tasks)} tasks · {len(sweep.conditions)} conditions · {len(sweep.seeds)} seeds each; "
        f"{len(sweep.trials) - len(results.missing)} of {len(sweep.trials)} trials are finished",
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
        sections.append({"title": "Over all tasks", "table": table, "about": _about_aggregates(f"“{sweep.baseline}”")})
    papers = any(sweep.paper.get(task) for task in sweep.tasks)
    about = [
        "Mean over seeds and its 95 % t interval; each seed's return is the mean over its final evaluation's episodes."
    ]
    if papers:
        about.append(
            "The paper's is the mean of 5 runs of 20 million steps (pendulum: 2 million) of TRPO, read off its figure; "
            "ours is that times the number behind it, where both are above zero."
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
    if sweep.baseline is not None and "answers" in sweep.drawings:
        about = ["Mean scores by the number of answers."]
        sections.append({"title": "How many answers it takes", "table": tables.answers_table(scores), "about": about})
    return sections


def _about_aggregates(baseline: str) -> list[str]:
    return [
        f"Of the final returns of all seeds on all tasks, as scores: 0 is the random policy, 1 the mean of {baseline}. "
        "The interquartile mean leaves out the best and the worst quarter of the runs; the optimality gap is by how "
        f"much runs fall short of 1; the chance is that of a run against one of {baseline} on the same task.",
        f"In brackets, 95 % intervals: percentiles of {RESAMPLES:,} resamples of the seeds within each task. Those of "
        f"{baseline} are resampled too, so that the intervals hold how uncertain the scale is; of {baseline} itself, "
        "score and scale are drawn together. They are about other seeds, not about other tasks; they count the random "
        "policy's return as exact; of few seeds they are rather too narrow, and a task with one seed adds nothing to "
        f"them. A resample in which {baseline} is no better than random on some task has no score, and is left out.",
        f"Tasks: on how many the condition's mean is at or above that of {baseline}, or at least inside its 95 % t "
        "interval. With three seeds that interval is wide, 2.5 standard deviations to either side, and so the first "
        "count is kind; the second is not.",
    ]


def _notices(scores: SweepScores) -> list[str]:
    notices = []
    if missing := len(scores.results.missing):
        total = len(scores.results.sweep.trials)
        notices.append(
            f"{missing} of {total} trials are not finished; they are named below; everything here is without them."
        )
    if scores.results.sweep.baseline is not None and scores.unscored:
        reasons = "; ".join(f"{task}: {reason}" for task, reason in scores.unscored.items())
        notices.append(f"Left out of everything normalised: {reasons}.")
    return notices


def _alarmed(results: SweepResults) -> str:
    alarmed = sum(bool(each.alarms) for each in results.outcomes)
    return f"{number(alarmed)} of {number(len(results.outcomes))} runs raised an alarm of the reward's diagnostics."


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
        ("revision", _distinct([each.git_revision for each in outcomes])),
        ("begun", " to ".join(dict.fromkeys([dates[0], dates[-1]])) if dates else "–"),
        ("command", f"prefrl sweep {results.name}"),
    ]


def _distinct(texts: Sequence[str]) -> str:
    return "; ".join(text for text in dict.fromkeys(texts) if text) or "–"


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
