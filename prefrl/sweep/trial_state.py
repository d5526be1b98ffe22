"""What a trial's run directory says of it: the only truth about what is done. Changes nothing."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from prefrl.checkpoint import checkpoints
from prefrl.errors import UserError
from prefrl.run_directory import read_json
from prefrl.sweep.definition import DONE_BEFORE, Trial, flat

TAIL_BYTES = 16_384  # of metrics.csv: some 20 rows


@dataclass(frozen=True)
class TrialState:
    """How far a trial has come."""

    state: Literal["done", "unfinished", "new"]
    env_steps: int  # that need not be made again


@dataclass(frozen=True)
class TrialProgress:
    """The end of metrics.csv."""

    env_steps: int
    seconds: float  # of work so far, without the time between a kill and its resumption
    steps_per_second: float  # of the last iteration
    true_return: float  # the last that was measured; NaN before


def state_of(trial: Trial, root: Path) -> TrialState:
    """Read a trial's directory.

    Raises:
        UserError: it was made with other options.
    """
    directory = root / trial.id
    if not directory.is_dir():
        return TrialState("new", 0)
    refuse_other_options(directory, trial.learnt_from)
    if is_done(directory):
        return TrialState("done", trial.config.steps)
    kept = checkpoints(directory / "checkpoint")
    return TrialState("unfinished", int(kept[-1].name)) if kept else TrialState("new", 0)


def is_done(directory: Path) -> bool:
    """Whether a run directory holds a finished run."""
    try:
        return read_json(directory / "status.json").get("state") == "done"
    except UserError:
        return False


def refuse_other_options(directory: Path, learnt_from: Mapping[str, Any]) -> None:
    """Refuse a run directory that is of another run than its name says: defaults may have changed since.

    Options that an older version did not know, and so did not write, are no difference.

    Args:
        directory: of the trial.
        learnt_from: the trial's `learnt_from`.

    Raises:
        UserError: it was made with other options.
    """
    if not (directory / "config.json").exists():
        return
    options = read_json(directory / "config.json").get("options")
    for key, found, wanted in differing_options(options if isinstance(options, dict) else {}, learnt_from):
        raise UserError(f"{directory} was made with {key} {found}, not {wanted}; move it away to run that trial again")


def differing_options(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """Options that differ: (name, found, wanted). One that was not known then is today's, or as DONE_BEFORE has it."""
    known = DONE_BEFORE | flat(found)
    return [(key, known[key], value) for key, value in flat(wanted).items() if known.get(key, value) != value]


def progress_of(directory: Path) -> TrialProgress | None:
    """Of a run that has done an iteration."""
    try:
        with (directory / "metrics.csv").open("rb") as file:
            header = file.readline()
            size = file.seek(0, 2)
            file.seek(max(len(header), size - TAIL_BYTES))
            tail = file.read()
    except OSError:
        return None
    columns = next(csv.reader([header.decode(errors="replace")]), [])
    lines = tail[: tail.rfind(b"\n") + 1].decode(errors="replace").splitlines()
    rows = [dict(zip(columns, row, strict=True)) for row in csv.reader(lines) if len(row) == len(columns)]
    try:
        last = rows[-1]
        returns = [float(row["true_return"]) for row in rows if row["true_return"]]
        return TrialProgress(
            int(last["env_steps"]),
            float(last["seconds"]),
            float(last["steps_per_second"] or "nan"),
            returns[-1] if returns else math.nan,
        )
    except (IndexError, KeyError, ValueError):  # nothing yet, or a file that is not ours
        return None
