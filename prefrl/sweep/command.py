"""The command `prefrl sweep`: choose trials, then plan them, run them, or collect what is done."""

from __future__ import annotations

import fcntl
import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import tyro

from prefrl.config import Count
from prefrl.errors import UserError
from prefrl.run_directory import git_revision
from prefrl.sweep.collecting import collect, known_outcomes, results_before
from prefrl.sweep.definition import Options, Sweep, Trial, load_sweep
from prefrl.sweep.engines import Engine
from prefrl.sweep.live_table import counted, name_of, view_for_output
from prefrl.sweep.plan import make_plan, print_plan
from prefrl.sweep.pool import Pool
from prefrl.sweep.results import write_results
from prefrl.sweep.running import Sweeping, Tally
from prefrl.sweep.trial_state import is_done
from prefrl.threads import available_cores

QUICK = {  # few environments, so that some episodes end
    "steps": 20_000,
    "ppo.num_envs": 16,
    "ppo.num_steps": 64,
    "ppo.batch_size": 512,
    "evaluation_episodes": 2,
    "video": False,
}


@dataclass(frozen=True)
class SweepOptions:
    """Run a list of trials, each a run of its own: tasks × conditions × seeds, as experiments/NAME.py defines them.

    The same command continues: trials that are done are left, others go on from their checkpoints. Of finished trials,
    numbers, figures and a page are written to a folder to commit.
    """

    name: tyro.conf.Positional[str]
    """of experiments/NAME.py, or the path of any Python file that defines SWEEP; it is executed"""
    tasks: tuple[str, ...] = ()
    """only these tasks"""
    conditions: tuple[str, ...] = ()
    """only these conditions"""
    seeds: tuple[int, ...] = ()
    """only these seeds"""
    missing: bool = False
    """only trials of which neither OUT nor a folder beside it has an outcome: to go on on another machine"""
    part: str | None = None
    """I/N, only the Ith of N parts, counted from 1; for array jobs, whose tasks then need nothing of each other"""
    workers: Count | None = None
    """trials at a time; as many as the cores allow by default"""
    threads: Count = 1
    """cores for each trial"""
    root: Path = Path("runs/trials")
    """folder of the trials' run directories, which sweeps share: equal trials are one run"""
    dry_run: bool = False
    """leave everything as it is; show what there is to do, and how long it may take, for which each task that never ran
    in ROOT with such feedback is tried for some seconds"""
    quick: bool = False
    """tiny runs of the same trials in ROOT-quick, to see that everything works; results go there too"""
    collect: bool = False
    """run nothing; write results of the trials that are done"""
    out: Path | None = None
    """folder for results; experiments/results/NAME by default"""
    retries: Count = 2
    """times that a trial is started again whose process was killed or whose machine was lost"""
    engine: Literal["pool", "ray"] = "pool"
    """pool: processes on this machine; ray: a Ray cluster, whose machines share the file system of --root"""
    address: str | None = None
    """of the Ray cluster: HOST:PORT, or auto; one on this machine alone by default"""
    resources: tuple[str, ...] = ()
    """NAME=AMOUNT, Ray's custom resources that each trial needs beside its cores"""


def sweep(options: SweepOptions) -> bool:
    """Carry out the command; returns whether all chosen trials are done.

    Raises:
        UserError: options that cannot be, or a run directory that was made with other options than its trial's.
        Stopped: Ctrl-C or SIGTERM.
    """
    name, defined = load_sweep(options.name)
    root, out = options.root, options.out or Path("experiments/results") / name
    if options.quick:
        defined, root = quick(defined), root.with_name(f"{root.name}-quick")
        out = options.out or root / "results" / name
    if options.threads < 1 or options.workers == 0:
        raise UserError("a trial needs a core, and a sweep a worker: give --threads and --workers 1 or more")
    trials = chosen(defined, options)
    # Refused before days of training rather than after.
    before = None if options.collect else results_before(name, defined, out)
    known = known_outcomes(defined, out)  # as is what cannot be read beside it
    if options.missing:
        print(f"{sum(trial.id in known for trial in trials)} of {counted(len(trials))} have an outcome in {out.parent}")
        trials = [trial for trial in trials if trial.id not in known]
    elif not options.collect:
        again = sum(trial.id in known and not is_done(root / trial.id) for trial in trials)
        if again:
            print(
                f"{again} of {counted(len(trials))}, not done here, have an outcome in {out.parent}; --missing leaves "
                "them out"
            )
    for trial in trials:
        if trial.config.feedback == "people" and trial.config.replay is None:
            raise UserError(f"{name_of(trial)} asks people, whom a sweep cannot wait for; run it by prefrl train")
    if options.collect:
        _publish(name, defined, root, out)
        return True
    _refuse_shared_stores(trials)
    if options.engine == "pool" and (options.address or options.resources):
        raise UserError("--address and --resources are of --engine ray")
    workers = options.workers or max(1, available_cores() // options.threads)
    if options.dry_run:
        print_plan(make_plan(trials, root, workers, options.threads), trials, root)
        if options.engine == "ray" and options.workers is None:
            print("a plan asks no cluster: --workers says how many trials it has room for side by side")
        return True
    if trials and not options.quick and (revision := git_revision()).endswith("-dirty"):
        print(f"prefrl has changes that are not committed: these runs will name {revision}, which nobody can check out")
    with view_for_output() as view:
        sweeping = Sweeping(trials, root, _engine(options, workers), view, options.threads, options.retries)
        print(f"{counted(len(trials))} in {root}: {sweeping.snapshot().counts()}", flush=True)
        tally = sweeping.run()
    _summarise(tally, trials)
    if options.part is not None and trials:  # other parts may be writing at the same moment
        print(f"when all parts are done, {_collecting(options)} writes the results")
    elif tally.done or known.keys() - {each.id for each in (before.outcomes if before else ())}:
        _publish(name, defined, root, out)
    return not tally.unfinished()


def _refuse_shared_stores(trials: Sequence[Trial]) -> None:
    """Each trial would train on what the others asked, and the order in which they run would decide what is learnt."""
    by_store: dict[str, set[str]] = {}
    for trial in trials:
        if trial.config.store is not None:
            by_store.setdefault(str(trial.config.store), set()).add(trial.id)
    for store, ids in by_store.items():
        if len(ids) > 1:
            raise UserError(
                f"{len(ids)} trials would train on each other's answers in {store}; leave 'store' out, as each keeps "
                "its own in its run directory, or give answers of before as 'replay'"
            )


def chosen(sweep: Sweep, options: SweepOptions) -> list[Trial]:
    """The trials that the options leave.

    Raises:
        UserError: no trial has a named task, condition or seed, or the part is none.
    """
    trials = sweep.trials
    for kind, wanted in (("task", options.tasks), ("condition", options.conditions), ("seed", options.seeds)):
        there = list(dict.fromkeys(getattr(trial, kind) for trial in sweep.trials))
        for each in wanted:
            if each not in there:
                raise UserError(f"no trial has the {kind} {each!r}; there are {', '.join(map(str, there))}")
        trials = [trial for trial in trials if not wanted or getattr(trial, kind) in wanted]
    return _part(trials, options.part) if options.part is not None else trials


def quick(sweep: Sweep) -> Sweep:
    """The same trials made tiny, with few answers, fewer where there were fewer."""

    def fewer(options: Options) -> dict[str, Any]:
        return {**options, **({"labels": 4 + options["labels"] // 50} if "labels" in options else {})}

    changes: dict[str, Any] = {
        "options": {"labels": 20, **fewer(sweep.options)},
        "task_options": {task: fewer(options) for task, options in sweep.task_options.items()},
        "conditions": {name: {**fewer(options), **QUICK} for name, options in sweep.conditions.items()},
    }
    try:
        return replace(sweep, **changes)
    except UserError:  # 700 and 710 answers are equally few now, of which no curve over answers is drawn
        return replace(sweep, **changes, drawings=tuple(each for each in sweep.drawings if each != "answers"))


def _collecting(options: SweepOptions) -> str:
    """The command that collects what these options run."""
    words = ["prefrl", "sweep", options.name, "--collect", *["--quick"] * options.quick]
    words += ["--root", str(options.root)] * (options.root != SweepOptions.root)
    words += ["--out", str(options.out)] if options.out else []
    return shlex.join(words)


def _part(trials: Sequence[Trial], part: str) -> list[Trial]:
    number, slash, count = part.partition("/")
    if not (slash and number.isdecimal() and count.isdecimal()):
        raise UserError(f"--part {part}; give I/N, such as 2/8 for the second of eight parts")
    if not 1 <= int(number) <= int(count):
        raise UserError(f"--part {part}; parts count from 1 (SLURM: --array=1-{count})")
    # Task and condition decide how long a trial takes. Those of one are dealt in turn, and each round begins with
    # another part, so that none gets the slow ones of all.
    tasks = list(dict.fromkeys(trial.task for trial in trials))
    conditions = list(dict.fromkeys(trial.condition for trial in trials))
    alike = sorted(trials, key=lambda trial: (tasks.index(trial.task), conditions.index(trial.condition)))
    place, parts = int(number) - 1, int(count)
    ids = {id_ for i, id_ in enumerate(dict.fromkeys(trial.id for trial in alike)) if (i - i // parts) % parts == place}
    return [trial for trial in trials if trial.id in ids]


def _engine(options: SweepOptions, workers: int) -> Engine:
    if options.engine == "pool":
        return Pool(workers)
    from prefrl.sweep.ray_engine import RayEngine  # Ray is an extra

    return RayEngine(options.address, options.workers, options.threads, options.resources)


def _summarise(tally: Tally, trials: Sequence[Trial]) -> None:
    named = {trial.id: name_of(trial) for trial in reversed(trials)}
    for headline, why in (("not finished", tally.failed), ("left to other processes", tally.elsewhere)):
        if why:
            print(f"{len(why)} of {counted(len(named))} {headline}:")
            print(*(f"  {named[id_]}: {text}" for id_, text in why.items()), sep="\n")
    if not tally.unfinished():
        print(f"all done: {counted(len(named))}")


def _publish(name: str, defined: Sweep, root: Path, out: Path) -> None:
    from prefrl.report.sweep_page import build_sweep_report  # draws: not for a plan, nor for a trial's process

    with _alone(out):  # another command's later view would be lost under this one's earlier one
        results = collect(name, defined, root, out)
        write_results(results, out)
        page = build_sweep_report(out)
    if results.missing:
        print(f"{len(results.missing)} of {counted(len(results.sweep.trials))} not done yet")
    print(f"{counted(len(results.outcomes))} collected: {page}")


@contextmanager
def _alone(out: Path) -> Iterator[None]:
    """Wait for other commands that write to the same folder.

    Raises:
        UserError: there can be no lock beside it.
    """
    path = out.with_name(f".{out.name}.lock")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("w")
    except OSError as error:
        raise UserError(f"cannot write results to {out}: {error.strerror}; give another --out") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError as error:
            raise UserError(f"cannot write results to {out}: {error.strerror}; give another --out") from error
        yield
