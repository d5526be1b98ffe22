"""Run directories -> what is kept of a sweep's finished trials. See results.py for how it is written."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from prefrl.alarms import reward_alarms
from prefrl.environments import EnvironmentSpec
from prefrl.errors import UserError
from prefrl.evaluation import evaluate
from prefrl.metrics import Metrics, read_metrics
from prefrl.run_directory import read_json
from prefrl.sweep.definition import Sweep, Trial, learnt_from
from prefrl.sweep.results import Outcome, SweepResults, read_results
from prefrl.sweep.trial_state import differing_options, is_done, refuse_other_options

CURVE = (  # columns of metrics.csv
    *("true_return", "predicted_return", "reward/correlation", "reward/spread_ratio"),
    *("fit/accuracy", "held_out/calibration_error"),
)
CURVE_POINTS = 100  # each the mean over as many iterations
RANDOM_EPISODES = 20
RANDOM_SEED = 2_000_000  # of the actions and the start states, apart from those of training and evaluation


def collect(name: str, sweep: Sweep, root: Path, out: Path) -> SweepResults:
    """The outcomes of all of a sweep's trials that are done.

    A trial that is not done here keeps what `out`, or another sweep's folder beside it, says of it already: it may have
    run on another machine.

    Args:
        name: of the sweep.
        root: where the run directories are.
        out: folder of what was collected before, which may not exist.

    Raises:
        UserError: nothing is done, a run directory was made with other options, or `out` is damaged.
    """
    before = results_before(name, sweep, out)
    kept = known_outcomes(sweep, out)
    outcomes: list[Outcome] = []
    for trial in sweep.trials:
        if is_done(root / trial.id):
            refuse_other_options(root / trial.id, trial.learnt_from)
            outcomes.append(outcome_of(trial, root / trial.id))
        elif trial.id in kept:
            outcomes.append(replace(kept[trial.id], condition=trial.condition))
    if not outcomes:
        raise UserError(f"no trial of {name} is done in {root.absolute()}; run prefrl sweep first, or give --root")
    known = before.random_returns if before else {}
    tasks = dict.fromkeys(each.task for each in outcomes)
    random = {task: known[task] if task in known else random_return(_environment(sweep, task)) for task in tasks}
    return SweepResults(name, sweep, tuple(outcomes), random)


def results_before(name: str, sweep: Sweep, out: Path) -> SweepResults | None:
    """What `out` has of earlier collections, of which nothing would be lost by the next.

    Raises:
        UserError: it has outcomes of trials that this sweep does not have, or that were made with other options; or
            a table or page that is not known to be of a sweep.
    """
    if not (out / "sweep.json").exists():
        for file in (out / f"{name}.md", out / "report.html"):
            if file.exists():
                raise UserError(
                    f"{file} would be overwritten, and {out} has no sweep.json that says what it is of; move it away, "
                    "or give another --out"
                )
        return None
    before = read_results(out)
    wanted = {trial.id: trial.learnt_from for trial in sweep.trials}
    lost = [
        each
        for each in before.outcomes
        if each.id not in wanted or differing_options(each.learnt_from, wanted[each.id])
    ]
    if lost:
        raise UserError(
            f"{len(lost)} of {len(before.outcomes)} outcomes in {out} are of no trial of this sweep, such as "
            f"{lost[0].task}, {lost[0].condition}, seed {lost[0].seed}: its file or a default has changed; move the "
            "folder away to begin anew, or give another --out"
        )
    return before


def known_outcomes(sweep: Sweep, out: Path) -> dict[str, Outcome]:
    """What `out` and the folders beside it have of this sweep's trials, by id; equal trials of two sweeps are one run.

    Raises:
        UserError: a folder is damaged.
    """
    wanted = {trial.id: trial.learnt_from for trial in sweep.trials}
    folders = sorted(path.parent for path in out.parent.glob("*/sweep.json") if path.parent != out)
    found: dict[str, Outcome] = {}
    for folder in [out, *folders] if (out / "sweep.json").exists() else folders:
        for each in read_results(folder).outcomes:
            if each.id not in wanted or differing_options(each.learnt_from, wanted[each.id]):
                continue
            # Its own before all others, but for a line that a later version wrote, which keeps more columns.
            if each.id not in found or len(each.curve) > len(found[each.id].curve):
                found[each.id] = each
    return found


def outcome_of(trial: Trial, directory: Path) -> Outcome:
    """What a finished run directory says.

    Raises:
        UserError: a file is missing or damaged.
    """
    config, status = read_json(directory / "config.json"), read_json(directory / "status.json")
    metrics, resumed = read_metrics(directory / "metrics.csv"), config.get("resumed", [])
    began, ended = (datetime.fromisoformat(text) for text in (config["started_at"], status["updated_at"]))
    return Outcome(
        id=trial.id,
        task=trial.task,
        condition=trial.condition,
        seed=trial.seed,
        command=shlex.join(["prefrl", *trial.arguments(), "--threads", str(config["options"]["threads"])]),
        date=config["started_at"],
        git_revision="; ".join(dict.fromkeys([config["git_revision"], *(each["git_revision"] for each in resumed)])),
        machine=config["machine"],
        versions=config["versions"],
        steps=config["steps"],
        labels=config["labels"],
        seconds=_seconds(metrics, (ended - began).total_seconds()),
        evaluation=without_nan(read_json(directory / "evaluation.json")),
        curve=curve_of(metrics),
        alarms=[alarm.sentence for alarm in reward_alarms(metrics)],
        learnt_from=learnt_from(config["options"]),
    )


def curve_of(metrics: Metrics) -> dict[str, list[int | float | None]]:
    """env_steps and CURVE averaged over hundredths of the iterations in which an episode ended; None for NaN."""
    measured = np.isfinite(metrics["true_return"])
    pieces = [piece for piece in np.array_split(np.flatnonzero(measured), CURVE_POINTS) if len(piece)]
    columns: dict[str, list[int | float | None]] = {
        "env_steps": [round(metrics["env_steps"][piece].mean()) for piece in pieces]
    }
    for name in CURVE:
        if name in metrics:
            columns[name] = [_mean(metrics[name][piece]) for piece in pieces]
    return columns


def without_nan(value: Any) -> Any:
    """The same with None for what strict JSON has no word for."""
    if isinstance(value, Mapping):
        return {key: without_nan(each) for key, each in value.items()}
    if isinstance(value, list):
        return [without_nan(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def random_return(spec: EnvironmentSpec) -> float:
    """Mean true return over whole episodes of uniformly random actions."""
    env = spec.make(1)
    policy = _UniformPolicy(env.single_action_space, np.random.default_rng(RANDOM_SEED))
    env.close()
    return float(np.mean(evaluate(policy, spec, RANDOM_EPISODES, seed=RANDOM_SEED).true_returns))


class _UniformPolicy:
    def __init__(self, space: spaces.Space, rng: np.random.Generator) -> None:
        self._space, self._rng = space, rng

    def act(self, observations: NDArray[np.floating], deterministic: bool = True) -> NDArray[Any]:
        """(n, obs_dim) -> (n, ...) actions."""
        if isinstance(self._space, spaces.Discrete):
            return self._rng.integers(self._space.n, size=len(observations))
        assert isinstance(self._space, spaces.Box)
        shape = (len(observations), *self._space.shape)
        return self._rng.uniform(self._space.low, self._space.high, shape).astype(np.float32)


def _environment(sweep: Sweep, task: str) -> EnvironmentSpec:
    """The baseline's, if there is one: its return and the random policy's are the ends of one scale."""
    trials = [trial for trial in sweep.trials if trial.task == task]
    return next((each for each in trials if each.condition == sweep.baseline), trials[0]).config.environment()


def _seconds(metrics: Metrics, wall: float) -> float:
    """Of work: what metrics.csv counts, which leaves out the time between a kill and its resumption."""
    worked = metrics.get("seconds", np.empty(0))
    return round(float(worked[-1]) if len(worked) else wall, 1)


def _mean(values: NDArray[np.float64]) -> float | None:
    known = values[np.isfinite(values)]
    return float(f"{known.mean():.5g}") if len(known) else None
