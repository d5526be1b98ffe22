"""report.html: one file that opens from disk and tells what a run did.

Reads a run directory and nothing else; anything that is missing there becomes a plain sentence. compare_report does the
same for several runs. Pictures come from plots.py, videos are embedded as they lie in RUN/videos.
"""

from __future__ import annotations

import base64
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from markupsafe import Markup
from matplotlib.figure import Figure

from prefrl import plots
from prefrl.errors import UserError
from prefrl.plots import Metrics, last_value, measured
from prefrl.preferences import PreferenceStore
from prefrl.run_directory import read_json
from prefrl.tasks import TASKS

LARGEST_VIDEO = 20_000_000  # bytes; base64 adds a third, and a page should still open at once
EARLY_VIDEOS = {"025": "25 %", "050": "50 %", "075": "75 %"}
CHOICES = ("left", "right", "equal", "cant_tell")

# Figure 2 of the paper, final true return by eye (±3 %); keys are numbers of labels, 0 for RL on the true reward.
PAPER_RETURNS: dict[str, dict[int, float]] = {
    "walker": {0: 5300, 1400: 5900, 700: 4800, 350: 3350},
    "hopper": {0: 4180, 1400: 4450, 700: 4500, 350: 3450},
    "swimmer": {0: 173, 1400: 175, 700: 167, 350: 106},
    "cheetah": {0: 4200, 1400: 5300, 700: 4650, 350: 3750},
    "ant": {0: 50, 1400: 110, 700: -170, 350: -180},
    "reacher": {0: -1.8, 1400: -2.4, 700: -3.15, 350: -6.3},
    "double-pendulum": {0: 7400, 1400: 8600, 700: 7900, 350: 1000},
    "pendulum": {0: 1370, 1400: 750, 700: 1370, 350: 1370},
}


@dataclass(frozen=True)
class Run:
    """What a run directory holds; an empty part was missing."""

    path: Path
    config: Mapping[str, Any]
    status: Mapping[str, Any]
    evaluation: Mapping[str, Any]
    metrics: Metrics
    problems: Sequence[str] = field(default_factory=list)  # sentences on files that could not be read

    @property
    def name(self) -> str:
        """The directory's name."""
        return self.path.resolve().name

    @property
    def task(self) -> str:
        """The task, or a dash."""
        return str(self.config.get("task", "unknown task"))

    @property
    def feedback(self) -> str:
        """synthetic, people, none, or empty when unknown."""
        return str(self.config.get("feedback", ""))

    @property
    def labels(self) -> int:
        """Labels the run was given; 0 without feedback."""
        return int(self.config.get("labels") or 0) if self.feedback != "none" else 0

    @property
    def state(self) -> str:
        """running, done, failed, stopped or unknown."""
        return str(self.status.get("state", "unknown"))

    @property
    def state_class(self) -> str:
        """The state as a CSS class, for known states only."""
        return self.state if self.state in ("running", "done", "failed", "stopped") else "unknown"

    @property
    def env_steps(self) -> float:
        """Environment steps so far."""
        steps = self.status.get("env_steps")
        return last_value(self.metrics, "env_steps") if steps is None else float(steps)

    @property
    def seconds(self) -> float:
        """Wall time of training, NaN when unknown."""
        return last_value(self.metrics, "seconds")

    @property
    def condition(self) -> str:
        """What the run learnt from, in a few words; runs that differ in their seed alone share it."""
        if self.feedback == "none":
            return "true reward"
        return f"{self.labels} {self.feedback or 'unknown'} answers"


@dataclass(frozen=True)
class Drawing:
    """A figure as it stands on the page."""

    title: str
    svg: Markup
    caption: str


@dataclass(frozen=True)
class Film:
    """A video on the page, or the sentence that stands in its place."""

    caption: str
    source: str = ""  # data: address
    missing: str = ""


def build_report(run_dir: str | Path) -> Path:
    """Write RUN/report.html from what the run left so far, and return its path.

    Raises:
        UserError: the folder is no run, or can't be written.
    """
    run = load_run(run_dir)
    final = _film(run, "final", "The final policy")
    early = [_film(run, name, f"After {share} of the run") for name, share in EARLY_VIDEOS.items()]
    draw = _Drawer()
    page = (
        _templates()
        .get_template("run.html.j2")
        .render(
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
            diagnostics=_diagnostics(run, draw),
            diagnosis=_diagnosis(run.metrics),
            diagnostics_missing=_diagnostics_missing(run),
            labels=_labels(run, draw),
            machinery=_machinery(run, draw),
            no_metrics=_no_metrics(run),
            configuration=_configuration(run.config),
        )
    )
    return _write(run.path / "report.html", page)


def compare_report(run_dirs: Sequence[str | Path], out: str | Path) -> Path:
    """Write one page that lays several runs over each other, a figure per task and a line per condition.

    Runs of one task that differ in their seed alone become one line, the mean, with a band from lowest to highest.

    Raises:
        UserError: no run is given, a folder is no run, or `out` can't be written.
    """
    if not run_dirs:
        raise UserError("no run given; name one or more run folders")
    runs = [load_run(each) for each in run_dirs]
    tasks = list(dict.fromkeys(run.task for run in runs))
    draw = _Drawer()
    learning = [drawing for task in tasks for drawing in _comparison(task, [r for r in runs if r.task == task], draw)]
    measures = list(dict.fromkeys(name for run in runs for name in run.evaluation.get("measures") or {}))
    titles = ["run", "task", "learnt from", "seed", "state", "steps", "answers", "wall time", "steps/s", "true return"]
    columns = [{"title": t, "number": i in (3, 5, 6, 7, 8, 9)} for i, t in enumerate(titles)]
    columns += [{"title": plots.measure_label(name), "number": True} for name in measures]
    page = (
        _templates()
        .get_template("comparison.html.j2")
        .render(
            title=f"{len(runs)} runs of {', '.join(tasks)}"
            if len(tasks) < 4
            else f"{len(runs)} runs of {len(tasks)} tasks",
            lead="Runs that differ in their seed alone are one line, their mean; the band spans lowest to highest.",
            notices=[f"{run.name}: {problem}" for run in runs for problem in run.problems],
            learning=learning,
            columns=columns,
            rows=[_comparison_row(run, measures) for run in runs],
        )
    )
    return _write(Path(out), page)


def load_run(run_dir: str | Path) -> Run:
    """Read a run directory; what is missing or broken is left empty and noted in `problems`.

    Raises:
        UserError: the folder holds neither a configuration nor metrics.
    """
    path = Path(run_dir)
    if not (path / "config.json").exists() and not (path / "metrics.csv").exists():
        raise UserError(
            f"{path} holds neither config.json nor metrics.csv; name a run directory, such as runs/backflip"
        )
    problems: list[str] = []

    def read(name: str, reader: Callable[[Path], dict[str, Any]]) -> dict[str, Any]:
        if not (path / name).exists():
            return {}
        try:
            return reader(path / name)
        except UserError as error:
            problems.append(f"{name} could not be read: {error}")
            return {}

    return Run(
        path=path,
        config=read("config.json", read_json),
        status=read("status.json", read_json),
        evaluation=read("evaluation.json", read_json),
        metrics=read("metrics.csv", plots.read_metrics),
        problems=problems,
    )


def number(value: Any, digits: int = 3) -> str:
    """A number as a person writes it: thousands apart, few digits, a dash for what was not measured."""
    try:
        value = float(value)
    except (TypeError, ValueError):
        return "–"
    if not np.isfinite(value):
        return "–"
    if value == round(value) or abs(value) >= 10 ** (digits - 1):
        return f"{value:,.0f}".replace("-", "−")
    decimals = max(0, digits - 1 - int(np.floor(np.log10(abs(value)))))
    return (f"{value:.{decimals}f}" if decimals < 6 else f"{value:.{digits - 1}e}").replace("-", "−")


def duration(seconds: float) -> str:
    """Seconds as hours, minutes and seconds."""
    if not np.isfinite(seconds):
        return "–"
    hours, rest = divmod(round(seconds), 3600)
    minutes, rest = divmod(rest, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


def _trained_from(run: Run) -> str:
    if run.feedback == "none":
        return "Trained on the true reward"
    if not run.feedback:
        return "Trained from unknown feedback"
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
    facts += [
        ("steps", steps),
        ("wall time", duration(run.seconds)),
        ("speed", f"{number(_speed(run))} steps/s"),
        ("true return", _mean_and_std(run.evaluation.get("true_return"))),
        ("seed", str(run.config.get("seed", "–"))),
    ]
    if run.config.get("started_at"):
        facts.append(("started", str(run.config["started_at"])))
    return facts


def _speed(run: Run) -> float:
    return run.env_steps / run.seconds if run.seconds > 0 else float("nan")


def _mean_and_std(summary: Any) -> str:
    if not isinstance(summary, Mapping):
        return "–"
    return f"{number(summary.get('mean'))} ± {number(summary.get('std'))}"


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


def _learning(run: Run, draw: _Drawer) -> list[Drawing]:
    drawings = []
    if measured(run.metrics, "true_return"):
        figure = plots.learning_curves([plots.curve("this run", run.metrics)], _paper_markers(run))
        caption = "Return under the task's true reward, of the episodes that ended in each iteration."
        if run.feedback != "none":
            caption += " The policy was not trained on it."
        if _paper_markers(run):
            caption += (
                " The paper's value is read off its figure 2, after 20 million steps (2 million for pendulum) of TRPO."
            )
        drawings.append(draw("True return", figure, caption))
    if measured(run.metrics, *(name for name in run.metrics if name.startswith("measure/"))):
        caption = "The task's own measures of success, counted from exact states."
        drawings.append(draw("Measures of success", plots.measure_curves(run.metrics), caption))
    return drawings


def _paper_markers(run: Run) -> dict[str, float]:
    known = PAPER_RETURNS.get(run.task, {})
    if run.labels not in known:
        return {}
    source = f"{run.labels} labels" if run.labels else "RL on the true reward"
    return {f"paper, {source}": known[run.labels]}


def _diagnostics(run: Run, draw: _Drawer) -> list[Drawing]:
    drawings = []
    if measured(run.metrics, "predicted_return"):
        caption = (
            "Two units, one shape: where the predicted return climbs and the true one falls, "
            "the policy exploits the predictor."
        )
        drawings.append(draw("True and predicted return", plots.return_comparison(run.metrics), caption))
    if measured(run.metrics, "reward/mean", "reward/std", "reward/correlation"):
        caption = (
            "On the steps of each iteration's rollouts. The spread should stay steady; the correlation should not sink."
        )
        drawings.append(draw("Predicted reward", plots.reward_diagnostics(run.metrics), caption))
    return drawings


def _diagnosis(metrics: Metrics) -> list[str]:
    """The last tenth of the run in words."""
    sentences = []
    for column, unit in (("reward/correlation", "step by step"), ("reward/segment_correlation", "over whole segments")):
        values = metrics.get(column, np.empty(0))
        late = values[-max(1, len(values) // 10) :]
        late = late[np.isfinite(late)]
        if len(late):
            sentences.append(f"{number(late.mean(), 2)} {unit}")
    if not sentences:
        return []
    return [f"Over the last tenth of the run, predicted and true reward correlate by {' and '.join(sentences)}."]


def _diagnostics_missing(run: Run) -> str:
    if run.feedback == "none":
        return "This run was trained on the true reward (feedback none), so there is no predictor to compare with it."
    return "No predicted reward was recorded: the run did not get as far as fitting the predictor."


def _labels(run: Run, draw: _Drawer) -> dict[str, Any]:
    if run.feedback == "none":
        return {"missing": ["This run was trained on the true reward (feedback none) and asked for no labels."]}
    metrics, missing = run.metrics, []
    sentence, figures = "", []
    if measured(metrics, "labels/wanted", "labels/asked", "labels/answered"):
        wanted, asked, answered = (number(last_value(metrics, f"labels/{n}")) for n in ("wanted", "asked", "answered"))
        sentence = f"At the last row: {wanted} wanted by the schedule, {asked} asked, {answered} answered."
        caption = "A quarter of the labels is asked about the random policy; then the rate falls as the run goes on."
        figures.append(draw("Labels", plots.label_curve(metrics), caption))
    else:
        missing.append("No label counts were recorded.")
    if measured(metrics, "fit/train_loss", "fit/validation_loss", "fit/accuracy"):
        caption = (
            "The ℓ2 coefficient is adapted so that the validation loss stays in the grey band. "
            "Accuracy on answers the predictor was not fitted to; 0.5 is guessing."
        )
        figures.append(draw("Fit of the predictor", plots.fit_curves(metrics), caption))
    else:
        missing.append("No fit of the predictor was recorded.")
    rows = _answers_by_labeller(run, missing)
    return {
        "sentence": sentence,
        "figures": figures,
        "missing": missing,
        "rows": rows,
        "choices": [choice.replace("cant_tell", "can't tell") for choice in (*CHOICES, "ranking")],
    }


def _answers_by_labeller(run: Run, missing: list[str]) -> list[dict[str, Any]]:
    path = run.path / "preferences.db"
    if not path.exists():
        missing.append("preferences.db is missing, so the answers can't be counted by choice.")
        return []
    try:
        with PreferenceStore(path) as store:
            answers = Counter((answer.labeller, answer.choice) for answer in store.answers())
    except UserError as error:
        missing.append(f"preferences.db could not be read: {error}")
        return []
    rows = []
    for labeller in sorted({labeller for labeller, _ in answers}):
        total = sum(count for (who, _), count in answers.items() if who == labeller)
        counts = [answers[labeller, choice] for choice in CHOICES]
        rows.append({"labeller": labeller, "counts": [*counts, total - sum(counts)], "total": total})
    return rows


def _machinery(run: Run, draw: _Drawer) -> list[Drawing]:
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
        {"title": title.replace("_", " "), "rows": list(_flattened(content))} for title, content in sections if content
    ]


def _flattened(content: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    rows: list[tuple[str, str]] = []
    for name, value in content.items():
        if isinstance(value, Mapping):
            rows += _flattened(value, f"{prefix}{name}.")
        else:
            rows.append((f"{prefix}{name}", "–" if value is None or value == "" else str(value)))
    return rows


def _comparison(task: str, runs: Sequence[Run], draw: _Drawer) -> list[Drawing]:
    conditions = list(dict.fromkeys(run.condition for run in runs))
    curves: list[plots.Curve] = []
    markers: dict[str, float] = {}
    for condition in conditions:
        known = [r for r in runs if r.condition == condition and measured(r.metrics, "true_return")]
        if known:
            seeds = f" ({len(known)} seeds)" if len(known) > 1 else ""
            curves.append(plots.curve_over_seeds(condition + seeds, [run.metrics for run in known]))
            markers |= _paper_markers(known[0])
    if not curves:
        return []
    caption = "Return under the true reward against environment steps."
    return [draw(task, plots.learning_curves(curves, markers), caption)]


def _comparison_row(run: Run, measures: Sequence[str]) -> list[str]:
    summaries = run.evaluation.get("measures") or {}
    return [
        run.name,
        run.task,
        run.condition,
        str(run.config.get("seed", "–")),
        run.state,
        number(run.env_steps),
        number(last_value(run.metrics, "labels/answered")),
        duration(run.seconds),
        number(_speed(run)),
        _mean_and_std(run.evaluation.get("true_return")),
        *(_mean_and_std(summaries.get(name)) for name in measures),
    ]


class _Drawer:
    """Turns figures into inline SVG whose ids are unique on the page."""

    def __init__(self) -> None:
        self._count = 0

    def __call__(self, title: str, figure: Figure, caption: str) -> Drawing:
        self._count += 1
        return Drawing(title, inline_svg(plots.to_svg(figure), f"f{self._count}-", title), caption)


def inline_svg(svg: str, prefix: str, title: str) -> Markup:
    """SVG to stand inside HTML: no prologue or metadata, scalable, ids made unique by `prefix`."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{prefix}", svg)
    opening, rest = svg.split(">", 1)
    opening = re.sub(r'\s(width|height|xmlns|xmlns:xlink)="[^"]*"', "", opening)
    rest = rest.replace("xlink:href=", "href=")
    return Markup(opening + f' role="img" aria-label="{Markup.escape(title)}">' + rest)


def _templates() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.PackageLoader("prefrl"), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True
    )


def _write(path: Path, page: str) -> Path:
    """By atomic rename, so that a reader never sees half a page."""
    unfinished = path.with_name(path.name + ".unfinished")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished.write_text(page, encoding="utf-8")
        unfinished.replace(path)
    except OSError as error:
        raise UserError(f"can't write {path}: {error.strerror}; choose a place that can be written") from error
    return path
