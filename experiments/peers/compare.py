"""prefrl beside `imitation` on HalfCheetah: the same task, answers and steps, in turn on one machine.

    .venv/bin/python experiments/peers/compare.py                            # 2e6 steps, 700 answers, seeds 1 2 3
    .venv/bin/python experiments/peers/compare.py --steps 3e5 --seeds 1      # a look, in minutes
    .venv/bin/python experiments/peers/compare.py --again                    # measure anew what is there already

Makes imitation's environment (requirements-imitation.txt, Python 3.11) on first use. Every run that ended leaves its
curve and its facts in results/SYSTEM-STEPS-LABELS-SEED.csv and .json, and is not run again; from those come summary.md,
summary.json, comparison.svg and comparison.png. Use an otherwise idle machine: how many cores were busy before each run
is noted.

Both count every environment step, those for collecting segments included, and the time for all of acting, asking,
fitting and PPO; both leave out imports, set-up and films. The true return is that of the training episodes, with the
policy's noise.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
import platform
import resource
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from numpy.typing import NDArray
from peer_summary import SYSTEMS, Runs, as_json, as_markdown, draw, read_run

from prefrl.config import Count
from prefrl.errors import UserError
from prefrl.metrics import read_metrics
from prefrl.plots import save

HERE = Path(__file__).resolve().parent
ENVIRONMENT = HERE / ".venv-imitation"
REQUIREMENTS = HERE / "requirements-imitation.txt"


@dataclass(frozen=True)
class Options:
    """Train prefrl and imitation in turn, then write the tables and the figure."""

    steps: Count = 2_000_000
    """environment steps of each run"""
    labels: Count = 700
    """comparisons the synthetic oracle answers in each run"""
    seeds: tuple[int, ...] = (1, 2, 3)
    """one run of each system per seed"""
    again: bool = False
    """run what has a result already"""
    imitation_threads: int = 1
    """threads of torch for imitation; its small networks gain nothing from more"""
    results: Path = HERE / "results"
    """folder of the results"""
    runs: Path = HERE / "runs"
    """folder of the runs themselves, which are not committed"""


def name_of(system: str, options: Options, seed: int) -> str:
    return f"{system}-{options.steps}-{options.labels}-{seed}"


def make_environment() -> Path:
    """Install imitation where it is not yet as the requirements say; returns its Python."""
    python, stamp = ENVIRONMENT / "bin" / "python", ENVIRONMENT / "requirements.sha256"
    wanted = hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest()
    if stamp.exists() and stamp.read_text() == wanted:
        return python
    base = sys.executable if sys.version_info[:2] == (3, 11) else shutil.which("python3.11")
    if base is None:
        raise UserError(
            f"Python {platform.python_version()} can't run imitation 1.0.1, which needs 3.11; install python3.11"
        )
    print(f"installing imitation into {ENVIRONMENT}", flush=True)
    subprocess.run([base, "-m", "venv", str(ENVIRONMENT)], check=True)
    subprocess.run([str(python), "-m", "pip", "install", "--quiet", "-r", str(REQUIREMENTS)], check=True)
    stamp.write_text(wanted)
    return python


def command(system: str, options: Options, seed: int, folder: Path) -> list[str]:
    if system == "imitation":
        arguments = [str(make_environment()), str(HERE / "run_imitation.py"), "--out", str(folder)]
        arguments += ["--threads", str(options.imitation_threads)]
    else:
        arguments = [str(Path(sys.executable).with_name("prefrl")), "train", "cheetah", "--feedback", "synthetic"]
        arguments += ["--no-video", "--run-dir", str(folder)]
    return [*arguments, "--steps", str(options.steps), "--labels", str(options.labels), "--seed", str(seed)]


def measure(system: str, options: Options, seed: int) -> None:
    """Run one system once and write its curve and facts to the results."""
    name = name_of(system, options, seed)
    folder = options.runs / name
    if folder.exists():  # cut short, or to be run again
        shutil.rmtree(folder)
    options.runs.mkdir(parents=True, exist_ok=True)
    arguments = command(system, options, seed, folder)
    busy = busy_cores()
    if busy > 0.2:
        print(f"warning: {busy:.1f} cores are busy before {name} starts; its times will be too long", flush=True)
    log = options.runs / f"{name}.log"
    print(f"{name}: see {log}", flush=True)
    start, cpu_start = time.perf_counter(), children_cpu_seconds()
    with log.open("w") as out:
        code = subprocess.run(arguments, stdout=out, stderr=subprocess.STDOUT).returncode
    process_seconds, cpu_seconds = time.perf_counter() - start, children_cpu_seconds() - cpu_start
    if code != 0:
        raise UserError(f"{name} ended with exit code {code}; see {log}")
    curve, facts = read_imitation(folder) if system == "imitation" else read_prefrl(folder)
    facts |= {
        "process_seconds": round(process_seconds, 3),
        "process_cpu_seconds": round(cpu_seconds, 3),
        "busy_cores_before": None if np.isnan(busy) else round(busy, 2),
        "machine": {"processor": processor(), "cores": os.cpu_count(), "system": platform.platform()},
    }
    write_result(options.results / name, curve, facts)
    print(f"{name}: {facts['env_steps']:,} steps in {facts['seconds']:.0f} s", flush=True)


def busy_cores(seconds: float = 3.0) -> float:
    """How many cores other programs keep busy just now; NaN where the system has no /proc/stat."""
    stat = Path("/proc/stat")
    if not stat.exists():
        return float("nan")

    def ticks() -> float:
        """User, nice, system, then past idle and waiting: interrupts and stolen time."""
        fields = [float(field) for field in stat.read_text().splitlines()[0].split()[1:9]]
        return sum(fields[:3]) + sum(fields[5:])

    before = ticks()
    time.sleep(seconds)
    return (ticks() - before) / os.sysconf("SC_CLK_TCK") / seconds


def children_cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def processor() -> str:
    information = Path("/proc/cpuinfo")
    lines = information.read_text().splitlines() if information.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


Curve = list[tuple[int, float, float]]  # env_steps, seconds, true return


def read_imitation(folder: Path) -> tuple[Curve, dict[str, Any]]:
    metrics = read_metrics(folder / "curve.csv")
    return to_curve(metrics), json.loads((folder / "summary.json").read_text())


def read_prefrl(folder: Path) -> tuple[Curve, dict[str, Any]]:
    metrics = read_metrics(folder / "metrics.csv")
    config = json.loads((folder / "config.json").read_text())
    evaluation = json.loads((folder / "evaluation.json").read_text())
    shares = {column.removeprefix("share/"): metrics[column] for column in metrics if column.startswith("share/")}
    spent = np.diff(metrics["seconds"], prepend=0.0)
    env_steps, seconds = int(metrics["env_steps"][-1]), float(metrics["seconds"][-1])
    facts = {
        "system": "prefrl",
        "seed": config["seed"],
        "steps": config["steps"],
        "labels": config["labels"],
        "env_steps": env_steps,
        "labels_answered": int(np.nanmax(metrics["labels/answered"])),
        "seconds": round(seconds, 3),
        "steps_per_second": round(env_steps / seconds, 1),
        "stage_seconds": {stage: round(float(np.nansum(share * spent)), 3) for stage, share in shares.items()},
        "evaluation_true_return": evaluation["true_return"]["mean"],
        "settings": {key: value for key, value in config["options"].items() if key != "run_dir"},
        "versions": config["versions"],
        "git_revision": config["git_revision"],
    }
    return to_curve(metrics), facts


def to_curve(metrics: dict[str, NDArray[np.float64]]) -> Curve:
    steps, seconds, returns = metrics["env_steps"], metrics["seconds"], metrics["true_return"]
    return [(int(steps[i]), float(seconds[i]), float(returns[i])) for i in np.flatnonzero(np.isfinite(returns))]


def write_result(base: Path, curve: Curve, facts: dict[str, Any]) -> None:
    """The .json last and by renaming: a run without one has no result."""
    base.parent.mkdir(parents=True, exist_ok=True)
    with base.with_name(base.name + ".csv").open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["env_steps", "seconds", "true_return"])
        writer.writerows([steps, f"{seconds:.2f}", f"{value:.2f}"] for steps, seconds, value in curve)
    part = base.with_name(base.name + ".json.part")
    part.write_text(json.dumps(facts, indent=2) + "\n")
    part.replace(base.with_name(base.name + ".json"))


def main() -> None:
    options = tyro.cli(Options, description=__doc__)
    if not options.seeds:
        raise UserError("no seed given; name one or more after --seeds")
    for seed in options.seeds:
        for system in SYSTEMS:
            done = options.results / f"{name_of(system, options, seed)}.json"
            if options.again or not done.exists():
                measure(system, options, seed)
    runs: Runs = {
        system: [read_run(options.results / name_of(system, options, seed)) for seed in options.seeds]
        for system in SYSTEMS
    }
    text = as_markdown(runs, options.steps, options.labels)
    (options.results / "summary.md").write_text(text)
    (options.results / "summary.json").write_text(json.dumps(as_json(runs), indent=2) + "\n")
    save(draw(runs, options.labels), options.results / "comparison")
    print(text)


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"compare.py: {error}")
