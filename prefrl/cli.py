"""The command line: `prefrl train`, `resume`, `label`, `watch`, `report`, `answer`, `compare`, and so on."""

from __future__ import annotations

import logging
import os
import select
import shutil
import signal
import sys
import textwrap
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

import tyro
from rich import box
from rich.console import Console
from rich.table import Table

from prefrl.agreement import CompareOptions, compare
from prefrl.alarms import Alarm, reward_alarms
from prefrl.answering import AnswerOptions, answer
from prefrl.bench import BenchOptions, bench
from prefrl.checkpoint import checkpoints
from prefrl.config import Count, TrainConfig, default_config
from prefrl.dataset import Dataset, export_dataset, import_dataset
from prefrl.errors import UserError
from prefrl.evaluation import Evaluation
from prefrl.labelling.label import LabelOptions, label
from prefrl.metrics import read_metrics
from prefrl.progress import invitation, shown_progress
from prefrl.run_directory import read_json, written_configuration
from prefrl.stopping import Stopped
from prefrl.sweep.command import SweepOptions, sweep
from prefrl.tasks import TASKS


@dataclass(frozen=True)
class Resume:
    """Go on with an interrupted run from its last checkpoint, as if nothing had happened."""

    run: tyro.conf.Positional[Path]
    """folder of the run"""
    steps: Count | None = None
    """environment steps of the whole run; those it was started with by default"""
    trust: bool = False
    """import the module and connect to the server that the run names, which somebody else's run could misuse"""


@dataclass(frozen=True)
class Watch:
    """Evaluate a run's policy, count what it does, and render a video."""

    run: tyro.conf.Positional[Path]
    """folder of a finished run"""
    episodes: Count = 10
    """whole episodes to evaluate"""
    seed: Count | None = None
    """of the start states"""
    actions: Literal["deterministic", "sampled"] = "deterministic"
    """act by the policy's mean, or with its noise"""
    trust: bool = False
    """import the module that the run names, and open policy.zip with Stable-Baselines3, of whatever tool it is; both
    execute code that somebody else's run could misuse"""


@dataclass(frozen=True)
class Report:
    """Write RUN/report.html again; of several runs, one page that compares them; of a sweep, its page and figures."""

    runs: tyro.conf.Positional[tuple[Path, ...]]
    """folders of runs, or one with a sweep's results, such as experiments/results/figure2"""
    out: Path = Path("comparison.html")
    """page to write when there are several runs"""
    trust: bool = False
    """count the answers on the server that a run names, which somebody else's run could misuse"""


@dataclass(frozen=True)
class Export:
    """Write a run's preferences and predictor to a folder to publish, with a card that explains each."""

    run: tyro.conf.Positional[Path]
    """folder of the run"""
    out: tyro.conf.Positional[Path]
    """folder to write; must not exist yet"""
    trust: bool = False
    """connect to the server that the run names, which somebody else's run could misuse"""


@dataclass(frozen=True)
class Import:
    """Read preferences that `prefrl export` wrote into a new database; nothing in them is executed."""

    folder: tyro.conf.Positional[Path]
    """folder that was exported"""
    store: tyro.conf.Positional[Path]
    """database file to write; must not exist yet"""


@dataclass(frozen=True)
class Tasks:
    """List the tasks."""


Command = (
    Annotated[TrainConfig, tyro.conf.subcommand("train", description="Train a policy from comparisons.")]
    | Annotated[Resume, tyro.conf.subcommand("resume")]
    | Annotated[LabelOptions, tyro.conf.subcommand("label")]
    | Annotated[Watch, tyro.conf.subcommand("watch")]
    | Annotated[Report, tyro.conf.subcommand("report")]
    | Annotated[AnswerOptions, tyro.conf.subcommand("answer")]
    | Annotated[CompareOptions, tyro.conf.subcommand("compare")]
    | Annotated[Export, tyro.conf.subcommand("export")]
    | Annotated[Import, tyro.conf.subcommand("import")]
    | Annotated[SweepOptions, tyro.conf.subcommand("sweep")]
    | Annotated[Tasks, tyro.conf.subcommand("tasks")]
    | Annotated[BenchOptions, tyro.conf.subcommand("bench")]
)


def main() -> None:
    """Entry point of the `prefrl` command."""
    arguments = sys.argv[1:]
    debug = "--debug" in arguments
    arguments = [a for a in arguments if a != "--debug"]
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    try:
        sys.exit(_run(_parse(arguments)))
    except (Exception, KeyboardInterrupt) as error:
        if debug:
            raise
        if isinstance(error, BrokenPipeError) and _reader_is_gone():
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else Python complains of it once more
            sys.exit(128 + signal.SIGPIPE)
        Console(stderr=True, soft_wrap=True, highlight=False, markup=False).print(f"prefrl: {_in_one_line(error)}")
        sys.exit(130 if isinstance(error, Stopped | KeyboardInterrupt) else 1)


def _reader_is_gone() -> bool:
    """Whether nobody reads the output any more, as `prefrl train --help | head` has enough after ten lines."""
    poll = select.poll()
    poll.register(sys.stdout.fileno(), 0)  # for errors only, of which the lack of a reader is one
    return any(event & select.POLLERR for _, event in poll.poll(0))


def _in_one_line(error: BaseException) -> str:
    if isinstance(error, UserError | Stopped):
        text = str(error)
    elif isinstance(error, KeyboardInterrupt):
        text = "interrupted"
    else:
        text = f"{type(error).__name__}: {error} (--debug shows where)"
    return " ".join(text.split())


def _parse(arguments: list[str]) -> object:
    """Parse by tyro; `train TASK` starts from that task's own defaults."""
    if len(arguments) > 1 and arguments[0] == "train":
        rest = arguments[1:]
        if rest[0].startswith("-") and not {"-h", "--help"} & set(rest):
            task = tyro.cli(TrainConfig, args=rest, prog="prefrl train").task  # TASK stands after some option
        else:
            task = rest[0]
        if not task.startswith("-"):
            config = _parse_train(rest, default_config(task))
            if config.replay is None:
                return config
            replayed = Path(config.replay).parent  # its options are the defaults of what is not given
            if "://" in config.replay or not (replayed / "config.json").is_file():
                return config
            written = written_configuration(replayed)
            return _parse_train(rest, replace(written, task=task, run_dir=None, store=None, replay=config.replay))
    return tyro.cli(
        Command,
        args=arguments,
        prog="prefrl",
        description="Deep RL from human preferences, for control. --debug shows where an error comes from.",
    )


def _parse_train(arguments: list[str], default: TrainConfig) -> TrainConfig:
    return tyro.cli(
        TrainConfig,
        args=arguments,
        default=default,
        prog="prefrl train",
        description="Train a policy from comparisons.",
    )


def _run(command: object) -> int:
    # What trains, plays or draws is imported where it is called: torch alone takes a second or two.
    if isinstance(command, TrainConfig):
        _train(command)
    elif isinstance(command, Resume):
        _resume(command)
    elif isinstance(command, Watch):
        from prefrl.watching import watch

        deterministic = command.actions == "deterministic"
        evaluation, video = watch(command.run, command.episodes, deterministic, command.seed, command.trust)
        _print_evaluation(evaluation)
        if video is not None:
            print(video)
    elif isinstance(command, Report):
        print(_report(command))
    elif isinstance(command, LabelOptions):
        label(command, lambda address: print(invitation(address), flush=True))
    elif isinstance(command, AnswerOptions):
        print(f"{command.store}: " + ", ".join(f"{count} {choice}" for choice, count in answer(command).most_common()))
    elif isinstance(command, CompareOptions):
        from prefrl.agreement.terminal import print_results

        compared = compare(command)
        print_results(compared.results, Console())
        print(compared.page)
    elif isinstance(command, Export):
        _print_counts(command.out, export_dataset(command.run, command.out, command.trust))
    elif isinstance(command, Import):
        _print_counts(command.store, import_dataset(command.folder, command.store))
    elif isinstance(command, SweepOptions):
        return 0 if sweep(command) else 1
    elif isinstance(command, BenchOptions):
        bench(command)
    else:
        _print_tasks()
    return 0


def _train(config: TrainConfig) -> None:
    config = config.resolved()
    print(f"{config.task} in {config.run_dir}", flush=True)
    from prefrl import run

    with shown_progress(config, 0) as shown:
        path = run.train(config, shown.update, shown.page)
    _print_result(path)


def _resume(command: Resume) -> None:
    from prefrl import run

    config = run.configuration(command.run, command.steps, command.trust)
    print(f"{config.task} in {config.run_dir}", flush=True)
    reached = [int(path.name) for path in checkpoints(command.run / "checkpoint")]
    with shown_progress(config, max(reached, default=0)) as shown:
        path = run.resume(command.run, command.steps, shown.update, shown.page, command.trust)
    _print_result(path)


def _report(command: Report) -> Path:
    from prefrl.report import build_report, compare_report
    from prefrl.report.sweep_page import build_sweep_report

    if not command.runs:
        raise UserError("no run given; name one or more run folders")
    if len(command.runs) > 1:
        return compare_report(command.runs, command.out)
    folder = command.runs[0]
    return build_sweep_report(folder) if (folder / "sweep.json").exists() else build_report(folder, command.trust)


def _print_result(path: Path) -> None:
    evaluation = read_json(path / "evaluation.json")
    print(f"true return {evaluation['true_return']['mean']:.1f} ± {evaluation['true_return']['std']:.1f}", end="")
    for name, values in evaluation["measures"].items():
        print(f", {name} {values['mean']:.2f}", end="")
    print(f"; mean over {evaluation['episodes']} episodes")
    for alarm in reward_alarms(read_metrics(path / "metrics.csv")):
        _print_alarm(alarm)
    print(f"report: {path / 'report.html'}")


def _print_alarm(alarm: Alarm) -> None:
    """In whole words under each other where people read it; in one line where programs do."""
    text = f"alarm: {alarm.sentence}"
    if sys.stdout.isatty():
        text = textwrap.fill(text, shutil.get_terminal_size().columns, subsequent_indent=" " * len("alarm: "))
    print(text)


def _print_evaluation(evaluation: Evaluation) -> None:
    table = Table("", "mean", "each episode")
    rows = {"true return": evaluation.true_returns, **evaluation.measures}
    for name, values in rows.items():
        table.add_row(name, f"{sum(values) / len(values):.2f}", " ".join(f"{value:.4g}" for value in values))
    Console().print(table)


def _print_counts(path: Path, dataset: Dataset) -> None:
    print(f"{path}: {', '.join(f'{count} {kind}' for kind, count in dataset.counts().items())}")


def _print_tasks() -> None:
    table = Table("task", "gymnasium id", "steps", "segment", "success", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for task in TASKS.values():
        segment = f"{task.segment_steps} ({task.segment_seconds:g} s)"
        table.add_row(task.name, task.gymnasium_id, str(task.horizon), segment, task.success)
    Console().print(table)
    for task in TASKS.values():
        Console().print(f"[bold]{task.name}[/bold]: {task.instruction}")
