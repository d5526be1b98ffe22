"""Runs many `prefrl train` side by side, skips what is done, and collects small results to commit.

The scripts beside this one say which trials there are and what to make of them. A trial's run directory is the whole
truth about it; what is committed under results/ is derived from run directories by `--collect`.
"""

from __future__ import annotations

import csv
import fcntl
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import tyro
from matplotlib.figure import Figure

from prefrl import plots
from prefrl.config import default_config
from prefrl.errors import UserError
from prefrl.run_directory import read_json

REPOSITORY = Path(__file__).resolve().parent.parent
RUNS = REPOSITORY / "runs" / "experiments"  # not committed
RESULTS = REPOSITORY / "experiments" / "results"  # committed
QUICK = {  # few environments, so that some episodes end
    "steps": 40_000,
    "labels": 20,
    "ppo.num_envs": 16,
    "ppo.batch_size": 512,
    "evaluation_episodes": 2,
    "video": False,
}
CURVE_POINTS = 100  # of a learning curve, each the mean over a hundredth of the run
POLL_SECONDS = 0.5


@dataclass(frozen=True)
class Trial:
    """One `prefrl train`: a task under a condition, with a seed."""

    task: str
    condition: str  # a short name, the same for all seeds; part of file names
    seed: int
    options: Mapping[
        str, Any
    ]  # what differs from the task's defaults, spelt as in config.json: {"oracle.score": "judge"}

    @property
    def name(self) -> str:
        """Of its run directory."""
        return f"{self.task}-{self.condition}-{self.seed}"

    def arguments(self) -> list[str]:
        """What follows `prefrl` on the command line."""
        words = ["train", self.task, "--seed", str(self.seed)]
        for key, value in self.options.items():
            stage, dot, option = key.replace("_", "-").rpartition(".")
            if isinstance(value, bool):
                words.append(f"--{stage}{dot}{option}" if value else f"--{stage}{dot}no-{option}")
            else:
                words += [f"--{stage}{dot}{option}", str(value)]
        return words

    def resolved_options(self) -> dict[str, Any]:
        """What config.json says of such a run: the task's defaults, changed by the trial's options."""
        config = replace(default_config(self.task), seed=self.seed)
        for key, value in self.options.items():
            stage, _, option = key.rpartition(".")
            changed = replace(getattr(config, stage), **{option: value}) if stage else value
            config = replace(config, **{stage or option: changed})
        return dict(json.loads(json.dumps(asdict(config.resolved()), default=str)))


# Running

ON_ANY_MACHINE = ("run_dir", "threads", "video", "checkpoint_minutes")  # options that do not change the result


@dataclass(frozen=True)
class _Running:
    trial: Trial
    process: subprocess.Popen[bytes]
    began: float


def run_trials(trials: Sequence[Trial], root: Path, workers: int = 2, threads: int = 1) -> int:
    """Run every trial that is not done, each in a process of its own; its log is root/NAME.log.

    What an earlier attempt left unfinished goes on from its last checkpoint; without one it is renamed to
    NAME.failed-1 and so on, and the trial starts again.

    Args:
        trials: of which those that are done are skipped.
        root: where each trial's run directory goes, by its name.
        workers: trials side by side.
        threads: cores for each.

    Returns:
        The exit code: 0 when all trials are done, else 1.

    Raises:
        UserError: a done run directory was made with other options than its trial's.
    """
    root.mkdir(parents=True, exist_ok=True)
    waiting = [trial for trial in trials if not _done(trial, root)]
    running: list[_Running] = []
    failures: dict[str, str] = {}
    print(f"{len(trials)} trials in {_shown(root)}: {len(trials) - len(waiting)} done already, {len(waiting)} to run")
    try:
        while waiting or running:
            while waiting and len(running) < workers:
                trial = waiting.pop(0)
                started = _start(trial, root, threads)
                if started is not None:
                    running.append(started)
                    _say(f"started  {trial.name}")
            time.sleep(POLL_SECONDS)
            for each in [each for each in running if each.process.poll() is not None]:
                running.remove(each)
                seconds = time.monotonic() - each.began
                if each.process.returncode == 0:
                    _say(f"done     {each.trial.name}  {seconds:.0f} s")
                else:
                    failures[each.trial.name] = _last_words(each, root)
                    _say(f"failed   {each.trial.name}  {seconds:.0f} s: {failures[each.trial.name]}")
    finally:
        for each in running:
            each.process.terminate()
            each.process.wait()
            _say(f"stopped  {each.trial.name}; the same command goes on with it")
    for trial in trials:
        if trial.name not in failures and not _done(trial, root):
            failures[trial.name] = "another process is running it"
    if failures:
        print(f"{len(failures)} of {len(trials)} trials did not finish:")
        print(*(f"  {name}: {why}" for name, why in failures.items()), sep="\n")
    return 1 if failures else 0


def _done(trial: Trial, root: Path) -> bool:
    directory = root / trial.name
    if not (directory / "status.json").exists() or read_json(directory / "status.json")["state"] != "done":
        return False
    options, wanted = _flat(read_json(directory / "config.json")["options"]), _flat(trial.resolved_options())
    for key, value in wanted.items():
        if key not in ON_ANY_MACHINE and options.get(key) != value:
            raise UserError(
                f"{_shown(directory)} was made with {key} {options.get(key)}, not {value}; move it away to run it again"
            )
    return True


def _flat(options: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"ppo": {"gamma": 0.9}} -> {"ppo.gamma": 0.9}."""
    pairs: dict[str, Any] = {}
    for key, value in options.items():
        pairs |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return pairs


def _start(trial: Trial, root: Path, threads: int) -> _Running | None:
    """Start a trial; None if another process is running it, or has just finished it."""
    with (root / f"{trial.name}.log").open("a") as log:
        # The trial's process inherits the lock with its output and holds it until it ends, also when this process is
        # killed: so a directory that says "running" beside a free log is a dead run's.
        if not _locked(log) or _done(trial, root):
            return None
        if (root / trial.name / "checkpoint").exists():
            words = ["resume", str(root / trial.name)]
        else:
            if (root / trial.name).exists():
                _move_aside(root / trial.name)
            words = [*trial.arguments(), "--threads", str(threads), "--run-dir", str(root / trial.name)]
        process = subprocess.Popen(
            [str(Path(sys.executable).with_name("prefrl")), *words],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=os.environ | {"OMP_NUM_THREADS": str(threads)},
        )
    return _Running(trial, process, time.monotonic())


def _locked(log: TextIO) -> bool:
    try:
        fcntl.flock(log, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _move_aside(directory: Path) -> None:
    aside = (directory.with_name(f"{directory.name}.failed-{i}") for i in itertools.count(1))
    directory.rename(next(path for path in aside if not path.exists()))


def _last_words(failed: _Running, root: Path) -> str:
    log = root / f"{failed.trial.name}.log"
    lines = log.read_text(errors="replace").splitlines()
    return f"exit code {failed.process.returncode}, {lines[-1] if lines else 'no output'} ({_shown(log)})"


def _say(line: str) -> None:
    print(f"{time.strftime('%H:%M:%S')}  {line}", flush=True)


def _shown(path: Path) -> str:
    return str(path.relative_to(REPOSITORY) if path.is_relative_to(REPOSITORY) else path)


# Collecting


@dataclass(frozen=True)
class RunRecord:
    """What a finished run directory says."""

    config: dict[str, Any]
    evaluation: dict[str, Any]
    metrics: plots.Metrics
    seconds: float  # of wall-clock time, with the last evaluation and videos


def read_trial(directory: Path) -> RunRecord:
    """Read a finished run directory.

    Raises:
        UserError: it is missing or not finished.
    """
    config, status = read_json(directory / "config.json"), read_json(directory / "status.json")
    if status["state"] != "done":
        raise UserError(f"{_shown(directory)} is {status['state']}, not done")
    began, ended = (datetime.fromisoformat(text) for text in (config["started_at"], status["updated_at"]))
    metrics = plots.read_metrics(directory / "metrics.csv")
    return RunRecord(config, read_json(directory / "evaluation.json"), metrics, (ended - began).total_seconds())


@dataclass(frozen=True)
class Outcome:
    """A finished trial as it is committed."""

    task: str
    condition: str
    seed: int
    command: str
    date: str  # when it began, UTC
    git_revision: str
    machine: dict[str, Any]
    versions: dict[str, str]
    steps: int
    labels: int
    seconds: float  # of wall-clock time
    evaluation: dict[str, Any]  # as in evaluation.json
    curve: dict[str, list[float]]  # env_steps and true_return while training

    def values(self, name: str) -> list[float]:
        """A measure, or true_return, in each evaluated episode."""
        found = self.evaluation["true_return"] if name == "true_return" else self.evaluation["measures"][name]
        return list(found["values"])

    def mean(self, name: str) -> float:
        """A measure, or true_return, over the evaluated episodes."""
        return float(np.mean(self.values(name)))

    def metrics(self) -> plots.Metrics:
        """The learning curve as prefrl.plots takes it."""
        return {name: np.array(values) for name, values in self.curve.items()}


Outcomes = dict[str, Outcome]  # by trial name


def select(outcomes: Outcomes, task: str, condition: str) -> list[Outcome]:
    """All seeds of one task under one condition, in order."""
    chosen = [each for each in outcomes.values() if (each.task, each.condition) == (task, condition)]
    return sorted(chosen, key=lambda each: each.seed)


def curve(outcomes: Outcomes, task: str, condition: str, label: str) -> plots.Curve | None:
    """The mean learning curve over seeds with their extremes; None where no run is finished or ended an episode."""
    runs = [each.metrics() for each in select(outcomes, task, condition) if each.curve["env_steps"]]
    return plots.curve_over_seeds(label, runs) if runs else None


def collect(trials: Sequence[Trial], root: Path, results: Path) -> Outcomes:
    """Bring results.json and results.csv up to date with the run directories that are done.

    A trial that has no run directory here keeps what is committed already: it may have run on another machine.

    Raises:
        UserError: there is nothing, or a run directory was made with other options.
    """
    file = results / "results.json"
    committed = read_json(file)["trials"] if file.exists() else {}
    outcomes: Outcomes = {}
    for trial in trials:
        if _done(trial, root):
            outcomes[trial.name] = _outcome(trial, read_trial(root / trial.name))
        elif trial.name in committed:
            outcomes[trial.name] = Outcome(**committed[trial.name])
    if not outcomes:
        raise UserError(f"no finished trial in {_shown(root)}; run without --collect first")
    missing = [trial.name for trial in trials if trial.name not in outcomes]
    if missing:
        print(f"{len(missing)} of {len(trials)} trials are not done yet:", *missing, sep="\n  ")
    results.mkdir(parents=True, exist_ok=True)
    # A line per trial, so that a difference between two versions can be read.
    lines = [f"  {json.dumps(name)}: {json.dumps(asdict(each))}" for name, each in outcomes.items()]
    file.write_text('{"trials": {\n' + ",\n".join(lines) + "\n}}\n")
    _write_csv(results / "results.csv", outcomes)
    return outcomes


def _outcome(trial: Trial, run: RunRecord) -> Outcome:
    measured = np.isfinite(run.metrics["true_return"])
    steps, returns = run.metrics["env_steps"][measured], run.metrics["true_return"][measured]
    pieces = np.array_split(np.arange(len(steps)), min(CURVE_POINTS, max(1, len(steps))))
    config = run.config
    return Outcome(
        task=trial.task,
        condition=trial.condition,
        seed=trial.seed,
        command=" ".join(["prefrl", *trial.arguments(), "--threads", str(config["options"]["threads"])]),
        date=config["started_at"],
        git_revision=config["git_revision"],
        machine=config["machine"],
        versions=config["versions"],
        steps=config["steps"],
        labels=config["labels"],
        seconds=run.seconds,
        evaluation=run.evaluation,
        curve={
            "env_steps": [round(float(steps[piece].mean())) for piece in pieces if len(piece)],
            "true_return": [round(float(returns[piece].mean()), 3) for piece in pieces if len(piece)],
        },
    )


def _write_csv(path: Path, outcomes: Outcomes) -> None:
    measures = sorted({name for each in outcomes.values() for name in each.evaluation["measures"]})
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        settings = ["task", "condition", "seed", "steps", "labels", "episodes"]
        writer.writerow([*settings, "true_return", "true_return_std", *measures, "seconds", "git_revision", "date"])
        for each in outcomes.values():
            evaluation = each.evaluation
            numbers = [evaluation["true_return"]["mean"], evaluation["true_return"]["std"]]
            numbers += [evaluation["measures"].get(name, {}).get("mean", float("nan")) for name in measures]
            cells = ["" if np.isnan(number) else f"{number:.6g}" for number in numbers]
            made = [each.task, each.condition, each.seed, each.steps, each.labels, evaluation["episodes"]]
            writer.writerow([*made, *cells, f"{each.seconds:.0f}", each.git_revision, each.date])


# Showing


def markdown_table(header: Sequence[str], *rows: Sequence[str]) -> str:
    """A table in Markdown, all but its first column set right."""
    lines = [header, ["---"] + ["---:"] * (len(header) - 1), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def number(value: float) -> str:
    """A return, as many digits as it deserves."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def provenance(outcomes: Outcomes) -> str:
    """Where the numbers come from: machine, time, versions, revision, dates."""

    def distinct(texts: Sequence[str]) -> str:
        return "; ".join(dict.fromkeys(texts))

    every = list(outcomes.values())
    machines = distinct([f"{m['system']} {m['machine']}, {m['cores']} cores" for m in (each.machine for each in every)])
    versions = distinct([", ".join(f"{name} {version}" for name, version in each.versions.items()) for each in every])
    dates = sorted(each.date[:10] for each in every)
    hours = sum(each.seconds for each in every) / 3600
    return (
        f"{len(every)} trials, {hours:.1f} h of wall-clock time summed over trials. Machine: {machines}. "
        f"Versions: {versions}. Revision: {distinct([each.git_revision for each in every])}. "
        f"Begun {distinct([dates[0], dates[-1]])}. Every trial's command and every episode's value: results.json."
    )


@dataclass(frozen=True)
class Options:
    """What to run of an experiment."""

    collect: bool = False
    """run nothing; write results, table and figure from the trials that are done"""
    tasks: tuple[str, ...] = ()
    """run only these tasks"""
    conditions: tuple[str, ...] = ()
    """run only these conditions"""
    seeds: tuple[int, ...] = ()
    """run only these seeds"""
    workers: int = 2
    """trials side by side"""
    threads: int = 1
    """cores for each trial"""
    quick: bool = False
    """tiny runs in a folder of their own, to see that everything works; --collect --quick leaves its results there"""


def main(
    name: str,
    description: str,
    trials: Sequence[Trial],
    table: Callable[[Outcomes], str],
    figure: Callable[[Outcomes], Figure],
) -> None:
    """The command line of an experiment; exits with its code.

    Args:
        name: of the script, its run directories and its results.
        description: the script's docstring.
        trials: all there are.
        table: finished trials -> Markdown.
        figure: finished trials -> a figure.
    """
    options = tyro.cli(Options, prog=f"experiments/{name}.py", description=description)
    root, results = RUNS / name, RESULTS / name
    if options.quick:
        root, results = RUNS / f"{name}-quick", RUNS / f"{name}-quick" / "results"
        trials = [replace(trial, options={**trial.options, **QUICK}) for trial in trials]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the trials are ended too
    try:
        if not options.collect:
            sys.exit(run_trials(_chosen(trials, options), root, options.workers, options.threads))
        outcomes = collect(trials, root, results)
        (results / f"{name}.md").write_text(f"{table(outcomes)}\n\n![]({name}.svg)\n\n{provenance(outcomes)}\n")
        plots.save(figure(outcomes), results / name)
        print(f"{len(outcomes)} trials collected: {_shown(results / name)}.md")
    except UserError as error:
        sys.exit(f"{name}: {error}")
    except KeyboardInterrupt:
        sys.exit(130)


def _chosen(trials: Sequence[Trial], options: Options) -> list[Trial]:
    for wanted, there in (
        (options.tasks, {trial.task for trial in trials}),
        (options.conditions, {trial.condition for trial in trials}),
        (options.seeds, {trial.seed for trial in trials}),
    ):
        for each in wanted:
            if each not in there:
                raise UserError(f"no trial has {each!r}; there are {', '.join(str(item) for item in sorted(there))}")
    return [
        trial
        for trial in trials
        if (not options.tasks or trial.task in options.tasks)
        and (not options.conditions or trial.condition in options.conditions)
        and (not options.seeds or trial.seed in options.seeds)
    ]
