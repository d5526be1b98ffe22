"""Kill -9 a run of the real loop at random instants, resume it each time, and compare it with an uninterrupted one.

    .venv/bin/python experiments/kill_resume.py

Writes experiments/results/kill_resume/kill_resume.md and .json; about ten minutes on one core.
"""

from __future__ import annotations

import csv
import json
import math
import os
import random
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
import tyro
from common import RESULTS, RUNS
from stable_baselines3 import PPO

from prefrl.preferences import PreferenceStore
from prefrl.run_directory import read_json

TIMES = ("seconds", "steps_per_second", "share/")


@dataclass(frozen=True)
class Options:
    """What to run, and how often to kill it."""

    task: str = "hopper"
    """task of `prefrl tasks`"""
    steps: int = 800_000
    """environment steps of the run"""
    labels: int = 300
    """labels of the run"""
    kills: int = 30
    """times to kill it"""
    seed: int = 0
    """of the instants"""


def command(*words: str) -> list[str]:
    """A `prefrl` command line."""
    return [str(Path(sys.executable).with_name("prefrl")), *words]


def run_to_the_end(run: Path, *words: str) -> float:
    """Run a command, whose output goes to a log; returns the seconds to its first checkpoint."""
    log, began, first = run.with_name(f"{run.name}.log"), time.perf_counter(), math.nan
    with log.open("a") as file:
        process = subprocess.Popen(command(*words), stdout=file, stderr=subprocess.STDOUT)
        while process.poll() is None:
            time.sleep(0.05)
            if math.isnan(first) and any((run / "checkpoint").glob("[0-9]*")):
                first = time.perf_counter() - began
    if process.returncode:
        sys.exit(f"{' '.join(words)} failed; see {log}")
    return first


def longest_life(whole: Path, start: float, kills: int) -> float:
    """Seconds to draw lives up to, so that so many of them take half of the run, whatever the machine's speed.

    A life of t seconds brings the run t - s seconds further, s being what it takes to the first checkpoint; over lives
    from 0 to s + x that is x² / 2 (s + x) on average.
    """
    with (whole / "metrics.csv").open(newline="") as file:
        rows = [float(row["seconds"]) for row in csv.DictReader(file)]
    per_life = 0.4 * (rows[-1] - rows[0]) / kills
    return start + per_life + math.sqrt(per_life**2 + 2 * per_life * start)


def kill_after(seconds: float, log: Path, *words: str) -> bool:
    """Start a command and kill -9 it; returns whether it was still running."""
    with log.open("a") as file:
        process = subprocess.Popen(command(*words), stdout=file, stderr=subprocess.STDOUT)
        try:
            process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            return True
    return False


def rows_of(path: Path) -> list[dict[str, str]]:
    """metrics.csv without its timings."""
    with (path / "metrics.csv").open(newline="") as file:
        return [{k: v for k, v in row.items() if not k.startswith(TIMES)} for row in csv.DictReader(file)]


def answers_of(path: Path) -> list[tuple[Any, ...]]:
    """What was asked, and what was answered; nothing on the true reward."""
    if not (path / "preferences.db").exists():
        return []
    with PreferenceStore(path / "preferences.db") as store:
        asked = [(q.id, *(s.observations.tobytes() for s in q.segments)) for q in store.queries()]
        return [*asked, *((a.id, a.query_id, a.ranking) for a in store.answers(include_superseded=True))]


def weights_of(path: Path) -> dict[str, np.ndarray]:
    """Policy and predictor, if there is one."""
    policy = PPO.load(path / "policy.zip", device="cpu").policy.state_dict()
    predictor = path / "predictor.safetensors"
    learnt = safetensors.numpy.load_file(predictor) if predictor.exists() else {}
    return {k: v.numpy() for k, v in policy.items()} | learnt


def same(path: Path, other: Path) -> dict[str, bool]:
    """Whether two runs left the same, bit for bit."""
    weights, others = weights_of(path), weights_of(other)
    return {
        "metrics": rows_of(path) == rows_of(other),
        "answers": answers_of(path) == answers_of(other),
        "weights": weights.keys() == others.keys()
        and all(np.array_equal(weight, others[name]) for name, weight in weights.items()),
    }


def main() -> None:
    """Run, kill, resume, compare, and write what came of it."""
    options = tyro.cli(Options, description=__doc__)
    root = RUNS / "kill_resume"
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir(parents=True)
    whole, killed = root / "uninterrupted", root / "killed"
    words = ["train", options.task, "--steps", str(options.steps), "--labels", str(options.labels)]
    words += ["--threads", "1", "--no-video", "--checkpoint-minutes", "0"]
    os.environ["OMP_NUM_THREADS"] = "1"
    longest = longest_life(whole, run_to_the_end(whole, *words, "--run-dir", str(whole)), options.kills)
    print(f"lives of up to {longest:.1f} s", flush=True)
    rng = random.Random(options.seed)
    instants: list[dict[str, Any]] = []
    while len(instants) < options.kills:
        seconds = rng.uniform(0, longest)
        resumable = any((killed / "checkpoint").glob("[0-9]*"))
        if not resumable:
            shutil.rmtree(killed, ignore_errors=True)
        again = ["resume", str(killed)] if resumable else [*words, "--run-dir", str(killed)]
        if not kill_after(seconds, root / "killed.log", *again):
            sys.exit(f"the run ended by itself after {len(instants)} kills; see {root}/killed.log, or raise --steps")
        state = read_json(killed / "status.json") if (killed / "status.json").exists() else {}
        instants.append({"after_seconds": round(seconds, 2), "resumed": resumable, "rows": _rows(killed)})
        print(f"kill {len(instants)}/{options.kills}: {instants[-1]} {state.get('state', 'no status yet')}", flush=True)
    run_to_the_end(killed, "resume", str(killed))
    outcome = same(killed, whole)
    config = read_json(whole / "config.json")
    result = {
        "identical": outcome,
        "kills": len(instants),
        "kills_of_a_resumed_run": sum(bool(each["resumed"]) for each in instants),
        "instants": instants,
        "command": " ".join(["prefrl", *words]),
        **{key: config[key] for key in ("git_revision", "machine", "versions", "started_at")},
    }
    results = RESULTS / "kill_resume"
    results.mkdir(parents=True, exist_ok=True)
    (results / "kill_resume.json").write_text(json.dumps(result, indent=1) + "\n")
    (results / "kill_resume.md").write_text(_page(result))
    print(outcome)
    sys.exit(not all(outcome.values()))


def _rows(path: Path) -> int:
    """Iterations that metrics.csv knows of."""
    metrics = path / "metrics.csv"
    return max(0, len(metrics.read_text().splitlines()) - 1) if metrics.exists() else 0


def _page(result: dict[str, Any]) -> str:
    verdicts = "\n".join(f"| {name} | {'yes' if ok else 'NO'} |" for name, ok in result["identical"].items())
    return f"""# Killed {result["kills"]} times, and resumed

`{result["command"]}`,
killed with SIGKILL {result["kills"]} times, {result["kills_of_a_resumed_run"]} of them while it was a resumed run,
then resumed to its end, beside the same run uninterrupted.

| identical, bit for bit | |
| --- | --- |
{verdicts}

Metrics are compared without timings; answers with the segments they are about; weights of the policy and the predictor.
Machine: {result["machine"]["system"]} {result["machine"]["machine"]}, {result["machine"]["cores"]} cores. Revision
{result["git_revision"]}. Begun {result["started_at"][:10]}.
"""


if __name__ == "__main__":
    main()
