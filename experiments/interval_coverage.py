"""How often the 95 % intervals of a sweep's page hold the truth: simulated sweeps of few tasks with few seeds.

    python experiments/interval_coverage.py

Returns are normal, of one deviation; the baseline's mean is 1 on every task, the condition's lies between 0.5 and 1.1,
and a random policy gets 0. The intervals are those of prefrl.report.sweep_scores, by which every page is made. Writes
experiments/results/interval_coverage/interval_coverage.json and .md; some minutes on one core.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import tyro
from common import RESULTS, markdown_table
from numpy.typing import NDArray

from prefrl.config import Count
from prefrl.plots import Estimate
from prefrl.report.sweep_scores import SweepScores
from prefrl.run_directory import describe_here
from prefrl.statistics import interquartile_mean, optimality_gap, probability_of_improvement
from prefrl.sweep import Outcome, Sweep, SweepResults

BASELINE, CONDITION = "baseline", "condition"
TASKS, SEEDS = (8, 4, 1), (2, 3, 5)  # every number of the one with every number of the other
LOWEST, HIGHEST = 0.5, 1.1  # of the condition's means
MANY = 20_000  # runs of a task, of which the truth is taken


@dataclass(frozen=True)
class Options:
    """What to simulate."""

    sweeps: Count = 250
    """simulated of each kind, each anew"""
    deviation: float = 0.15
    """of a condition's runs on one task, as a score"""
    seed: int = 0
    """of the simulation"""


def means(tasks: int) -> NDArray[np.float64]:
    """(tasks,): the condition's, spread evenly; of a single task in the middle."""
    return np.linspace(LOWEST, HIGHEST, tasks) if tasks > 1 else np.array([(LOWEST + HIGHEST) / 2])


def drawn(options: Options, tasks: int, runs: int, rng: np.random.Generator) -> dict[str, NDArray[np.float64]]:
    """By condition, (tasks, runs): final returns."""
    noise = options.deviation * rng.standard_normal((2, tasks, runs))
    return {BASELINE: 1 + noise[0], CONDITION: means(tasks)[:, None] + noise[1]}


def truth(options: Options, tasks: int, rng: np.random.Generator) -> dict[str, float]:
    """Each number of the page, of very many runs."""
    runs = drawn(options, tasks, MANY, rng)
    ours, theirs = list(runs[CONDITION]), list(runs[BASELINE])
    some = 2_000  # every run against every other
    chance = probability_of_improvement([each[:some] for each in ours], [each[:some] for each in theirs])
    return {
        "interquartile mean": float(interquartile_mean(ours)),
        "optimality gap": float(optimality_gap(ours)),
        "chance to beat the baseline": float(chance),
    }


def estimates(runs: Mapping[str, NDArray[np.float64]]) -> dict[str, Estimate]:
    """Each number of the page, with its interval, of a sweep with these final returns."""
    tasks = tuple(f"task {i}" for i in range(len(runs[BASELINE])))
    seeds = tuple(range(runs[BASELINE].shape[1]))
    sweep = Sweep("Simulated", tasks, {BASELINE: {"feedback": "none"}, CONDITION: {}}, seeds, baseline=BASELINE)
    outcomes = tuple(
        outcome(task, condition, seed, float(runs[condition][i, seed]))
        for i, task in enumerate(tasks)
        for condition in sweep.conditions
        for seed in seeds
    )
    scores = SweepScores(SweepResults("simulated", sweep, outcomes, dict.fromkeys(tasks, 0.0)))
    return {
        "interquartile mean": scores.iqm(CONDITION),
        "optimality gap": scores.gap(CONDITION),
        "chance to beat the baseline": scores.improvement(CONDITION),
    }


def outcome(task: str, condition: str, seed: int, final: float) -> Outcome:
    """A run of which nothing but its final return is known."""
    return Outcome(
        id=f"{task}, {condition}, {seed}",
        task=task,
        condition=condition,
        seed=seed,
        command="",
        date="",
        git_revision="",
        machine={},
        versions={},
        steps=0,
        labels=0,
        seconds=0.0,
        evaluation={"true_return": {"mean": final}},
        curve={},
        alarms=[],
    )


def simulate(options: Options, tasks: int, seeds: int) -> dict[str, Any]:
    """By number: its truth, and in how many sweeps the interval held it, lay below it, or above it."""
    rng = np.random.default_rng(options.seed)
    found: dict[str, Any] = {
        name: {"truth": round(value, 4), "inside": 0, "interval_below": 0, "interval_above": 0}
        for name, value in truth(options, tasks, rng).items()
    }
    for _ in range(options.sweeps):
        for name, estimate in estimates(drawn(options, tasks, seeds, rng)).items():
            true = found[name]["truth"]
            side = "interval_below" if estimate.high < true else "interval_above" if estimate.low > true else "inside"
            found[name][side] += 1
    return found


def as_markdown(result: Mapping[str, Any]) -> str:
    """The table, and where its numbers come from."""
    options, machine = result["options"], result["machine"]
    names = list(result["cases"][0]["found"])
    rows = [
        [
            f"{case['tasks']} with {case['seeds']} seeds",
            *(f"{case['found'][name]['inside'] / options['sweeps']:.0%}".replace("%", " %") for name in names),
        ]
        for case in result["cases"]
    ]
    versions = ", ".join(f"{name} {result['versions'][name]}" for name in ("python", "prefrl", "numpy"))
    return f"""# How often the 95 % intervals of a sweep's page hold the truth

{options["sweeps"]} simulated sweeps of each kind. Returns are normal; deviation {options["deviation"]:g}.
The baseline's mean is 1 on every task, the condition's lies between {LOWEST:g} and {HIGHEST:g}, a random policy's is 0.

{markdown_table(["intervals that hold the truth, tasks", *names], *rows)}

{result["seconds"]:.0f} s. Machine: {machine["system"]} {machine["machine"]}, {machine["cores"]} cores. Versions:
{versions}. Revision {result["git_revision"]}. Date {result["started_at"][:10]}.
Command: experiments/interval_coverage.py --sweeps {options["sweeps"]} --deviation {options["deviation"]:g} \
--seed {options["seed"]}
"""


def main() -> None:
    """Simulate, and write what came of it."""
    options, about, began = tyro.cli(Options, description=__doc__), describe_here(), time.monotonic()
    cases = [
        {"tasks": tasks, "seeds": seeds, "found": simulate(options, tasks, seeds)} for tasks in TASKS for seeds in SEEDS
    ]
    result = {"options": asdict(options), "cases": cases, "seconds": round(time.monotonic() - began, 1), **about}
    folder = RESULTS / "interval_coverage"
    folder.mkdir(parents=True, exist_ok=True)
    page = as_markdown(result)
    (folder / "interval_coverage.json").write_text(json.dumps(result, indent=2) + "\n")
    (folder / "interval_coverage.md").write_text(page)
    print(page)


if __name__ == "__main__":
    main()
