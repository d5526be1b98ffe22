"""What is kept of a sweep's finished trials: small enough to commit, enough to draw every figure again.

FOLDER/sweep.json says what was asked for, FOLDER/trials.jsonl has a line per finished trial.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pydantic

from prefrl.errors import UserError
from prefrl.metrics import Metrics
from prefrl.sweep.definition import Sweep

FORMAT = 1


@dataclass(frozen=True)
class Outcome:
    """A finished trial."""

    id: str
    task: str
    condition: str
    seed: int
    command: str
    date: str  # when it began, UTC
    git_revision: str
    machine: dict[str, Any]
    versions: dict[str, str]
    steps: int
    labels: int  # queries it asked, which a teacher may skip; 0 on the true reward
    seconds: float  # of wall-clock time at work, up to the last iteration
    evaluation: dict[str, Any]  # as in evaluation.json
    # env_steps, and columns of metrics.csv, averaged over hundredths of the iterations in which an episode ended; None
    # for NaN
    curve: dict[str, list[int | float | None]]
    alarms: list[str]  # what the reward's diagnostics warned of, a line each
    # Every option that decided what was learnt, as config.json has them; older results did not keep them.
    learnt_from: dict[str, Any] = field(default_factory=dict)

    @property
    def true_return(self) -> float:
        """Mean over the evaluated episodes."""
        return float(self.evaluation["true_return"]["mean"])

    def late(self, column: str) -> list[float]:
        """What was measured over the last tenth of the curve."""
        points = self.curve.get(column, [])
        return [point for point in points[-len(points) // 10 :] if point is not None]

    def metrics(self) -> Metrics:
        """The learning curve as prefrl.plots takes it."""
        return {name: np.array(values, dtype=np.float64) for name, values in self.curve.items()}


@dataclass(frozen=True)
class SweepResults:
    """A sweep and what has come of it so far."""

    name: str
    sweep: Sweep
    outcomes: tuple[Outcome, ...]  # of finished trials, in the sweep's order
    random_returns: Mapping[str, float]  # by task: mean true return of uniformly random actions

    def of(self, task: str, condition: str) -> list[Outcome]:
        """All seeds of one task under one condition."""
        return [each for each in self.outcomes if (each.task, each.condition) == (task, condition)]

    @property
    def missing(self) -> list[str]:
        """Trials that are not finished, as "task, condition, seed N"."""
        there = {(each.task, each.condition, each.seed) for each in self.outcomes}
        return [
            f"{each.task}, {each.condition}, seed {each.seed}"
            for each in self.sweep.trials
            if (each.task, each.condition, each.seed) not in there
        ]


def write_results(results: SweepResults, folder: Path) -> None:
    """Write sweep.json and trials.jsonl, each by atomic rename: what was there stays whole until then.

    Raises:
        UserError: the folder cannot be written.
    """
    about = {
        "format": FORMAT,
        "name": results.name,
        "sweep": asdict(results.sweep),
        "random_returns": dict(results.random_returns),
    }
    lines = [json.dumps(asdict(each), allow_nan=False) for each in results.outcomes]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _replace(folder / "trials.jsonl", "".join(f"{line}\n" for line in lines))
        _replace(folder / "sweep.json", json.dumps(about, indent=2, allow_nan=False) + "\n")
    except OSError as error:
        raise UserError(f"cannot write results to {folder}: {error.strerror}; give another --out") from error


def _replace(path: Path, text: str) -> None:
    unfinished = path.with_name(f"{path.name}.unfinished")
    unfinished.write_text(text)
    unfinished.replace(path)


def read_results(folder: Path) -> SweepResults:
    """Read what `write_results` wrote; executes nothing from it.

    Raises:
        UserError: the folder holds no results of a sweep, or damaged ones.
    """
    where = "sweep.json"
    try:
        about = json.loads((folder / where).read_text())
        if about.get("format") != FORMAT:
            raise ValueError(f"format {about.get('format')}, this version of prefrl reads {FORMAT}")
        name = pydantic.TypeAdapter(str).validate_python(about["name"])
        if name in ("", "..") or name != Path(name).name:  # files are named after it
            raise ValueError(f"{name!r} is no name of a sweep")
        sweep = pydantic.TypeAdapter(Sweep).validate_python(about["sweep"])
        random = pydantic.TypeAdapter(dict[str, float]).validate_python(about["random_returns"])
        where, outcomes, outcome = "trials.jsonl", [], pydantic.TypeAdapter(Outcome)
        for number, line in enumerate((folder / where).read_text().splitlines(), 1):
            where = f"trials.jsonl, line {number}"
            outcomes.append(outcome.validate_json(line))
    except (OSError, KeyError, TypeError, ValueError, AttributeError, UserError) as error:
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        raise UserError(
            f"{folder} holds no whole results of a sweep: {where}: {reason}; restore the file, or move the folder away"
        ) from error
    return SweepResults(name, sweep, tuple(outcomes), random)
