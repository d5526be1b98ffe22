"""Results of a sweep that never ran: returns and curves that follow known formulas, with noise per seed."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping

import numpy as np

from prefrl.paper import FIGURE_2, TRUE_REWARD
from prefrl.sweep import Outcome, Sweep, SweepResults, Trial

BEST = {"walker": 3200.0, "hopper": 3100.0, "swimmer": 140.0, "cheetah": 5200.0, "ant": 120.0, "reacher": -2.0}
RANDOM = {"walker": 80.0, "hopper": 500.0, "swimmer": 0.5, "cheetah": -280.0, "ant": -420.0, "reacher": -12.0}


def small_sweep(**changes: object) -> Sweep:
    """Two tasks, three conditions, two seeds."""
    options: dict[str, object] = {
        "title": "A sweep that never ran",
        "tasks": ("hopper", "reacher"),
        "conditions": {
            TRUE_REWARD: {"feedback": "none"},
            "700 answers": {"labels": 700},
            "350 answers": {"labels": 350},
        },
        "seeds": (0, 1),
        "options": {"steps": 1_000_000},
        "baseline": TRUE_REWARD,
        "drawings": ("learning", "answers", "profiles"),
        "paper": FIGURE_2,
        "notes": {"hopper": "hops."},
    }
    return Sweep(**{**options, **changes})  # type: ignore[arg-type]


def share_of_best(trial: Trial) -> float:
    """Of the way from random to the best return: more with more answers, and different for each seed."""
    labels = 0 if trial.options.get("feedback") == "none" else int(trial.options.get("labels", 700))
    noise = np.random.default_rng(zlib.crc32(f"{trial.task}{trial.condition}{trial.seed}".encode())).normal(0, 0.12)
    return float((labels / (labels + 120) if labels else 0.95) + noise)


def swept(
    sweep: Sweep,
    finished: Callable[[Trial], bool] = lambda trial: True,
    share: Callable[[Trial], float] = share_of_best,
    random: Mapping[str, float] = RANDOM,
    name: str = "small",
) -> SweepResults:
    """What would be kept of such a sweep."""
    outcomes = tuple(_outcome(trial, share(trial)) for trial in sweep.trials if finished(trial))
    return SweepResults(name, sweep, outcomes, {task: random[task] for task in sweep.tasks if task in random})


def _outcome(trial: Trial, share: float) -> Outcome:
    low, best = RANDOM.get(trial.task, 0.0), BEST.get(trial.task, 1000.0)
    final = low + share * (best - low)
    steps = np.linspace(0.01, 1, 100) * int(trial.options["steps"])
    rng = np.random.default_rng(trial.seed)
    rise = 1 - np.exp(-4 * np.linspace(0.01, 1, 100))
    returns = low + (final - low) * rise / rise[-1] + 0.03 * (best - low) * rng.standard_normal(100)
    episodes = [final - 1.0, final + 1.0]
    predictor: dict[str, list[float | None]] = {}
    if trial.options.get("feedback") != "none":
        predictor = {
            "predicted_return": (3 * (returns - low)).round(3).tolist(),
            "reward/correlation": [*[0.5] * 90, *[0.9] * 10],
            "fit/accuracy": [*[None] * 95, *[0.75] * 5],
        }
    return Outcome(
        id=trial.id,
        task=trial.task,
        condition=trial.condition,
        seed=trial.seed,
        command=" ".join(["prefrl", *trial.arguments()]),
        date=f"2026-11-2{3 + trial.seed}T10:00:00+00:00",
        git_revision="abc123",
        machine={"system": "Linux", "machine": "x86_64", "cores": 2},
        versions={"python": "3.11.7", "prefrl": "0.1.0"},
        steps=int(trial.options["steps"]),
        labels=0 if trial.options.get("feedback") == "none" else int(trial.options.get("labels", 700)),
        seconds=600.0,
        evaluation={
            "episodes": 2,
            "env_steps": int(trial.options["steps"]),
            "true_return": {"mean": final, "std": 1.0, "values": episodes},
            "measures": {"speed": {"mean": 1.5, "std": 0.1, "values": [1.4, 1.6]}},
        },
        curve={"env_steps": steps.round().tolist(), "true_return": returns.round(3).tolist(), **predictor},
        alarms=["the predictor | guesses"]
        if trial.options.get("labels", 0) < 700 and "feedback" not in trial.options
        else [],
    )
