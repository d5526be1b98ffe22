"""One run on one page; whatever it lacks becomes a plain sentence."""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from prefrl import plots
from prefrl.errors import UserError
from prefrl.metrics import last_value, measured
from prefrl.preferences import PreferenceStore
from prefrl.report.contents import Run, load_run
from prefrl.report.html import Drawer, Drawing, duration, flattened, mean_and_std, number, render, write_page
from prefrl.report.predictor import alarms_in_short, predictor_section
from prefrl.tasks import TASKS
from prefrl.trust import wants_trust

LARGEST_VIDEO = 20_000_000  # bytes; base64 adds a third, and a page should still open at once
EARLY_VIDEOS = {"025": "25 %", "050": "50 %", "075": "75 %"}
CHOICES = ("left", "right", "equal", "cant_tell", "skip")


@dataclass(frozen=True)
class Film:
    """A video on the page, or the sentence that stands in its place."""

    caption: str
    source: str = ""  # data: address
    missing: str = ""


def build_report(run_dir: str | Path, trust: bool = False) -> Path:
    """Write RUN/report.html from what the run left so far, and return its path.

    Args:
        run_dir: the run's folder.
        trust: count the answers on the server that the run's configuration names.

    Raises:
        UserError: the folder is no run, or can't be written.
    """
    run = load_run(run_dir)
    final = _film(run, "final", "The final policy")
    early = [_film(run, name, f"After {share} of the run") for name, share in EARLY_VIDEOS.items()]
    draw = Drawer()
    page = render(
        "run.html.j2",
        run=run,
        trained_from=_trained_from(run),
        notices=_notices(run),
        headline=_headline(run),
        facts=_facts(run),
        final_video=final,
        early_videos=early if final.source or any(each.source for each in early) else [],
        evaluation=_evaluation_table(run),
        evaluation_missing=_evaluation_missing(run),
        learning=_learning(run, draw),
        alarms=[f"Alarm: {alarm.sentence}." for alarm in run.alarms],
        predictor=predictor_section(run, draw),
        labels=_labels(run, draw, trust),
        machinery=_machinery(run, draw),
        no_metrics=_no_metrics(run),
        configuration=_configuration(run.config),
    )
    return write_page(run.path / "report.html", page)


def _trained_from(run: Run) -> str:
    if run.feedback == "none":
        return "Trained on the true reward"
    if not run.feedback:
        return "Trained from unknown feedback"
    if _option(run, "reward", "target") == "returns":
        return f"Trained from the true returns of up to {number(run.labels)} pairs of segments, to which r̂ was fitted"
    source = {"people": "people's", "synthetic": "synthetic"}.get(run.feedback, run.feedback)
    return f"Trained from up to {number(run.labels)} {source} answers; the policy never saw a reward"


def _notices(run: Run) -> list[str]:
    notices = list(run.problems)
    total = run.status.get("steps") or run.config.get("steps")
    reached = f"{number(run.env_steps)} of {number(total)} steps"
    message = f": {run.status['message']}" if run.status.get("message") else ""
    if run.state == "running":
        notices.append(f"This run had not ended when the report was written; it stood at {reached}.")
    elif run.state in ("stopped", "failed"):
        notices.append(f"This run {'was stopped' if run.state == 'stopped' else 'failed'} at {reached}{message}.")
    elif run.state != "done":
        notices.append("status.json is missing or unknown, so it is not known whether this run ended.")
    return notices


def _headline(run: Run) -> dict[str, str] | None:
    """The one number to look at: the task's measure of success, else the true return."""
    measures = run.evaluation.get("measures") or {}
    task = TASKS.get(run.task)
    if task is not None and task.success in measures:
        label = f"{plots.measure_label(task.success)}, mean of the final evaluation"
        return {"value": number(measures[task.success].get("mean")), "label": label}
    returns = run.evaluation.get("true_return")
    if returns:
        return {"value": number(returns.get("mean")), "label": "true return, mean of the final evaluation"}
    value = last_value(run.metrics, "true_return")
    return {"value": number(value), "label": "true return, last measured in training"} if np.isfinite(value) else None


def _facts(run: Run) -> list[tuple[str, str]]:
    steps = f"{number(run.env_steps)} of {number(run.status.get('steps') or run.config.get('steps'))}"
    facts = [("feedback", run.feedback or "–")]
    if run.feedback != "none":
        answered = last_value(run.metrics, "labels/answered")
        facts.append(("labels", f"{number(answered)} answered of {number(run.labels)}"))
        facts.append(("reward hacking", alarms_in_short(run)))
    facts += [
        ("steps", steps),
        ("wall time", duration(run.seconds)),
        ("speed", f"{number(run.speed)} steps/s"),
        ("true return", mean_and_std(run.evaluation.get("true_return"))),
        ("seed", str(run.config.get("seed", "–"))),
    ]
    if run.config.get("started_at"):
        facts.append(("started", str(run.config["started_at"])))
    return facts


def _film(run: Run, name: str, caption: str) -> Film:
    path = run.path / "videos" / f"{name}.mp4"
    if not path.exists():
        why = "none was wanted, off-screen rendering was not available, or the run ended before"
        return Film(caption, missing=f"{caption}: no video ({why}).")
    if path.stat().st_size > LARGEST_VIDEO:
        return Film(caption, missing=f"{caption}: the video is too large for this page; see videos/{name}.mp4.")
    content = base64.b64encode(path.read_bytes()).decode("ascii")
    return Film(caption, source=f"data:video/mp4;base64,{content}")


def _evaluation_table(run: Run) -> dict[str, Any] | None:
    evaluation = run.evaluation
    if not evaluation.get("true_return"):
        return None
    rows = [("true return", evaluation["true_return"])]
    rows += [(plots.measure_label(name), summary) for name, summary in (evaluation.get("measures") or {}).items()]
    return {
        "episodes": number(evaluation.get("episodes")),
        "env_steps": number(evaluation.get("env_steps")),
        "rows": [
            {
                "label": label,
                "mean": number(summary.get("mean")),
                "std": number(summary.get("std")),
                "episodes": "  ".join(number(value) for value in summary.get("values") or ()),
            }
            for label, summary in rows
        ],
    }


def _evaluation_missing(run: Run) -> str:
    why = {"running": "it is made when the run ends", "failed": "the run failed before it"}.get(
        run.state, "none was made"
    )
    return f"There is no final evaluation: {why}."


def _no_metrics(run: Run) -> str:
    missing = "holds no finished row" if run.metrics else "is missing or empty"
    return f"There is nothing to draw: metrics.csv {missing}, so the run never finished an iteration."


def _learning(run: Run, draw: Drawer) -> list[Drawing]:
    drawings = []
    if measured(run.metrics, "true_return"):
        figure = plots.learning_curves([plots.curve("this run", run.metrics)], run.paper_markers)
        caption = "Return under the task's true reward, of the episodes that ended in each iteration."
        if run.feedback != "none":
            caption += " The policy was not trained on it."
        if run.paper_markers:
            caption += (
                " The paper's value is read off its figure 2, after 20 million steps (2 million for pendulum) of TRPO."
            )
        drawings.append(draw("True return", figure, caption))
    if measured(run.metrics, *(name for name in run.metrics if name.startswith("measure/"))):
        caption = "The task's own measures of success, counted from exact states."
        drawings.append(draw("Measures of success", plots.measure_curves(run.metrics), caption))
    return drawings


def _labels(run: Run, draw: Drawer, trust: bool) -> dict[str, Any]:
    if run.feedback == "none":
        return {"missing": ["This run was trained on the true reward (feedback none) and asked for no labels."]}
    metrics, missing = run.metrics, []
    sentence, figures = "", []
    if measured(metrics, "labels/wanted", "labels/asked", "labels/answered"):
        wanted, asked, answered = (number(last_value(metrics, f"labels/{n}")) for n in ("wanted", "asked", "answered"))
        sentence = f"At the last row: {wanted} wanted by the schedule, {asked} asked, {answered} answered."
        caption = "A quarter of the labels is asked about the random policy; then the rate falls as the run goes on."
        if _option(run, "queries", "online") is False:
            caption = "All labels are asked about the random policy (--queries.no-online)."
        figures.append(draw("Labels", plots.label_curve(metrics), caption))
    else:
        missing.append("No label counts were recorded.")
    if measured(metrics, "fit/train_loss", "fit/validation_loss", "fit/accuracy"):
        caption = "Accuracy on answers the predictor was not fitted to; 0.5 is guessing."
        if _option(run, "reward", "target") == "returns":
            caption = (
                "Losses are squared errors of the segments' returns, over their deviation. Accuracy: which of a pair "
                "has the higher one, on pairs the predictor was not fitted to; 0.5 is guessing."
            )
        adaptive_l2 = _option(run, "reward", "adaptive_l2") is True
        if adaptive_l2:
            caption = f"The ℓ2 coefficient is adapted so that the validation loss stays in the grey band. {caption}"
        figures.append(draw("Fit of the predictor", plots.fit_curves(metrics, adaptive_l2), caption))
    else:
        missing.append("No fit of the predictor was recorded.")
    rows = _answers_by_labeller(run, missing, trust)
    return {
        "sentence": sentence,
        "figures": figures,
        "missing": missing,
        "rows": rows,
        "choices": [choice.replace("cant_tell", "can't tell") for choice in (*CHOICES, "ranking")],
    }


def _option(run: Run, group: str, name: str) -> Any:
    """As config.json has it; None where it has none."""
    options = run.config.get("options")
    found = options.get(group) if isinstance(options, Mapping) else None
    return found.get(name) if isinstance(found, Mapping) else None


def _answers_by_labeller(run: Run, missing: list[str], trust: bool) -> list[dict[str, Any]]:
    options = run.config.get("options")
    named = options.get("store") if isinstance(options, Mapping) else None
    location = str(named or run.path / "preferences.db")
    if not trust and (wants := wants_trust(run.path, "", str(named) if named else None)):
        missing.append(f"The run wants {wants[0]}, to count the answers; prefrl report --trust lets it.")
        return []
    if "://" not in location and not Path(location).exists():
        missing.append(f"{Path(location).name} is missing, so the answers can't be counted by choice.")
        return []
    try:
        with PreferenceStore(location) as store:
            answers = Counter((answer.labeller, answer.choice) for answer in store.answers())
    except UserError as error:
        missing.append(f"{Path(location).name if named is None else 'The store'} could not be read: {error}")
        return []
    rows = []
    for labeller in sorted({labeller for labeller, _ in answers}):
        total = sum(count for (who, _), count in answers.items() if who == labeller)
        counts = [answers[labeller, choice] for choice in CHOICES]
        rows.append({"labeller": labeller, "counts": [*counts, total - sum(counts)], "total": total})
    return rows


def _machinery(run: Run, draw: Drawer) -> list[Drawing]:
    drawings = []
    if measured(run.metrics, "steps_per_second"):
        caption = "Each stage's share of the wall time, smallest on top, and the speed of the whole loop."
        drawings.append(draw("Where the time went", plots.stage_shares(run.metrics), caption))
    if any(name.startswith("ppo/") and measured(run.metrics, name) for name in run.metrics):
        caption = "As Stable-Baselines3 logs them."
        drawings.append(draw("PPO's diagnostics", plots.ppo_curves(run.metrics), caption))
    return drawings


def _configuration(config: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Tables of names and values: the run, then each stage's options, versions and machine."""
    if not config:
        return []
    nested = {name: part for name, part in config.items() if isinstance(part, Mapping)}
    options = nested.pop("options", {})
    sections: list[tuple[str, Mapping[str, Any]]] = [
        ("run", {name: value for name, value in config.items() if not isinstance(value, Mapping)})
    ]
    sections.append(("options", {name: value for name, value in options.items() if not isinstance(value, Mapping)}))
    sections += [(f"options: {name}", value) for name, value in options.items() if isinstance(value, Mapping)]
    sections += list(nested.items())
    return [
        {"title": title.replace("_", " "), "rows": list(flattened(content))} for title, content in sections if content
    ]
