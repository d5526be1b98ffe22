"""The backflip with the labelling page: a browser, driven by a program, answers while training runs.

    .venv/bin/python experiments/people.py

The answers are an oracle's word, given with a person's delays, slips and mistakes; nothing here is a person's. Writes
experiments/results/people/people.md and .json; about twenty minutes on two cores, which should have nothing else to do.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import sqlalchemy as sa
import tyro
from common import RESULTS, RUNS

from prefrl.preferences import open_existing, schema
from prefrl.run_directory import read_json

STAND_IN = Path(__file__).parents[1] / "scripts" / "stand_in.py"
READY_MS = 1000  # a pair that was ready plays well before; above, the labeller waited for one
FIRST_MINUTE = 60_000


@dataclass(frozen=True)
class Options:
    """What to run."""

    task: str = "hopper-backflip"
    """task of `prefrl tasks`"""
    labels: int = 400
    """comparisons to ask for"""
    answers: int = 300
    """that the stand-in gives before it leaves"""
    steps: int = 4_000_000
    """environment steps of the run"""
    seconds: float = 3.0
    """for an answer on average"""
    error_rate: float = 0.1
    """share of answers that are random, as the paper supposes of people"""
    seed: int = 0
    """of run and stand-in"""


def main() -> None:
    """Train, label, and write what came of it."""
    options = tyro.cli(Options, description=__doc__)
    run = RUNS / "people" / f"{options.task}-{options.labels}-{options.seed}"
    shutil.rmtree(run, ignore_errors=True)
    run.parent.mkdir(parents=True, exist_ok=True)
    words = ["train", options.task, "--feedback", "people", "--labels", str(options.labels)]
    words += ["--steps", str(options.steps), "--seed", str(options.seed)]
    log, results = run.with_suffix(".log"), RESULTS / "people"
    command = [str(Path(sys.executable).with_name("prefrl")), *words, "--run-dir", str(run)]
    with log.open("w") as file:
        training = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=file, text=True)
        assert training.stdout is not None
        address = next(found[1] for line in training.stdout if (found := re.match("label at (.*)", line)))
        label = [sys.executable, str(STAND_IN), address, str(run / "preferences.db"), "--answers", str(options.answers)]
        label += ["--seconds", str(options.seconds), "--seed", str(options.seed)]
        score = "judge" if options.task in ("hopper-backflip", "cheetah-one-leg") else "reward"
        results.mkdir(parents=True, exist_ok=True)
        label += [
            "--screenshot",
            str(results / "page.png"),
            "--oracle.score",
            score,
            "--oracle.error-rate",
            str(options.error_rate),
        ]
        stand_in = subprocess.Popen(label, stdout=subprocess.PIPE, stderr=file, text=True)
        for line in training.stdout:
            print(line, end="", flush=True)
        said, _ = stand_in.communicate()
    if training.wait() or stand_in.returncode:
        sys.exit(f"training ended with {training.returncode}, the stand-in with {stand_in.returncode}; see {log}")
    result = summary(run, json.loads(said), " ".join(["prefrl", *words]))
    (results / "people.json").write_text(json.dumps(result, indent=1) + "\n")
    (results / "people.md").write_text(page(result))
    print(page(result))


def summary(run: Path, said: dict[str, Any], command: str) -> dict[str, Any]:
    """What the run, its database and the browser say."""
    pressed = np.array([at for at, _ in said["pressed_and_to_next_ms"]])
    took = np.array([took for _, took in said["pressed_and_to_next_ms"]])
    ready = took[took < READY_MS]
    began = pressed[0]
    waits = [[round((at - began) / 1000, 1), round(ms / 1000, 2)] for at, ms in zip(pressed, took, strict=True)]
    config, evaluation = read_json(run / "config.json"), read_json(run / "evaluation.json")
    return {
        "command": command,
        "answers_given": said["answers"],
        "database": database(run / "preferences.db"),
        "key_to_next_ms": {
            "pairs": len(ready),
            "median": round(float(np.median(ready)), 1),
            "95th percentile": round(float(np.percentile(ready, 95)), 1),
            "largest": round(float(ready.max()), 1),
        },
        "waited_for_a_pair": [
            {"after_seconds": at, "seconds": seconds} for at, seconds in waits if seconds >= READY_MS / 1000
        ],
        "seconds_of_labelling": round(float(pressed[-1] - began) / 1000),
        "measures": evaluation["measures"],
        "true_return": evaluation["true_return"],
        **{key: config[key] for key in ("git_revision", "machine", "versions", "started_at")},
    }


def database(path: Path) -> dict[str, int]:
    """Whether every answer is in it once."""
    with open_existing(str(path)) as store:
        standing = store.answers()
        counts = store.counts()
        with store.transaction() as connection:
            leases = connection.execute(sa.select(schema.leases).order_by(schema.leases.c.answer_id)).all()
            viewings = connection.execute(sa.select(sa.func.count()).select_from(schema.viewings)).scalar_one()
    kind_of: dict[int, str] = {}  # by answer; what was undone keeps its kind
    for lease in leases:
        if lease.answer_id is not None:
            kind_of[lease.answer_id] = kind_of[lease.supersedes] if lease.kind == "undo" else lease.kind
    repeats = {answer.id for answer in standing if answer.id is not None and kind_of[answer.id] == "repeat"}
    per_query = Counter(answer.query_id for answer in standing if answer.id not in repeats)
    return {
        "queries": counts["queries"],
        "standing_answers": len(standing),
        "undone_answers": counts["superseded"],
        "answers_without_a_lease_or_a_viewing": len(standing) + counts["superseded"] - min(len(kind_of), viewings),
        "queries_answered_twice": sum(count > 1 for count in per_query.values()),
        "repeats": len(repeats),
    }


def page(result: dict[str, Any]) -> str:
    """The same for people to read."""
    took, in_it = result["key_to_next_ms"], result["database"]
    later = [wait for wait in result["waited_for_a_pair"] if wait["after_seconds"] > FIRST_MINUTE / 1000]
    measures = ", ".join(f"{name} {values['mean']:.2f}" for name, values in result["measures"].items())
    return f"""# A browser answers while training runs

`{result["command"]}`,
answered by [scripts/stand_in.py](../../../scripts/stand_in.py): an oracle's word with a person's delays, slips and
mistakes, given with key presses in Chromium. Not a person's.

| what | figure |
| --- | --- |
| answers given, in {result["seconds_of_labelling"] / 60:.1f} minutes | {result["answers_given"]} |
| standing in the database; undone before | {in_it["standing_answers"]}; {in_it["undone_answers"]} |
| queries answered twice, but for {in_it["repeats"]} repeats with swapped sides | {in_it["queries_answered_twice"]} |
| answers without a lease or without how they came about | {in_it["answers_without_a_lease_or_a_viewing"]} |
| key press to both next clips playing: median, 95th percentile, largest of {took["pairs"]} | \
{took["median"]:.0f}, {took["95th percentile"]:.0f}, {took["largest"]:.0f} ms |
| times without a next pair: in all, after the first minute | {len(result["waited_for_a_pair"])}, {len(later)} |
| final evaluation | {measures}; true return {result["true_return"]["mean"]:.0f} |

Machine: {result["machine"]["system"]} {result["machine"]["machine"]}, {result["machine"]["cores"]} cores, Chromium on
them too. Revision {result["git_revision"]}. Begun {result["started_at"][:10]}.
"""


if __name__ == "__main__":
    main()
