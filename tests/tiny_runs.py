"""Tiny whole runs, and what they left."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
from stable_baselines3 import PPO

from prefrl.config import OracleOptions, TrainConfig
from prefrl.options import PPOOptions, QueryOptions, RewardOptions
from prefrl.preferences import PreferenceStore
from prefrl.progress import Progress
from prefrl.run_directory import read_json

STEPS = 8 * 256
LABELS = 40
TIMES = ("seconds", "steps_per_second", "share/")


def tiny(run_dir: Path, task: str = "reacher", **options: Any) -> TrainConfig:
    """Eight iterations of 256 steps, a checkpoint after each."""
    config = TrainConfig(
        task,
        labels=LABELS,
        steps=STEPS,
        run_dir=run_dir,
        threads=1,  # more would wait for each other where tests share the cores
        evaluation_episodes=2,
        video=False,
        checkpoint_minutes=0,
        queries=QueryOptions(segment_steps=5, initial_rollouts=2),
        oracle=OracleOptions(error_rate=0.2),
        reward=RewardOptions(initial_gradient_steps=10),
        ppo=PPOOptions(num_envs=8, num_steps=32, batch_size=128, epochs=2),
    )
    return replace(config, **options)


def metrics_of(run_dir: Path) -> list[dict[str, str]]:
    """Rows of metrics.csv."""
    with (run_dir / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def untimed_metrics_of(run_dir: Path) -> list[dict[str, str]]:
    """Rows of metrics.csv without what differs from one run to the next."""
    return [{name: value for name, value in row.items() if not name.startswith(TIMES)} for row in metrics_of(run_dir)]


class Killed(Exception):
    """By `killed_at`."""


def killed_at(env_steps: int) -> Any:
    """A progress callback that ends the run with a traceback, before the checkpoint of that iteration."""

    def on_progress(progress: Progress) -> None:
        if progress.env_steps >= env_steps:
            raise Killed

    return on_progress


def answers_of(path: Path) -> list[tuple[Any, ...]]:
    """What the run asked and what was answered."""
    with PreferenceStore(path / "preferences.db") as store:
        shown = [
            (query.id, *(segment.observations.tobytes() for segment in query.segments)) for query in store.queries()
        ]
        return [*shown, *((answer.id, answer.query_id, answer.ranking) for answer in store.answers())]


def weights_of(path: Path) -> dict[str, np.ndarray]:
    """Of the policy, and of the predictor if there is one."""
    policy = PPO.load(path / "policy.zip", device="cpu").policy.state_dict()
    found = {name: tensor.numpy() for name, tensor in policy.items()}
    if (path / "predictor.safetensors").exists():
        found |= safetensors.numpy.load_file(path / "predictor.safetensors")
    return found


def assert_same(path: Path, other: Path) -> None:
    """Metrics, calibration, answers and weights of two runs, bit for bit."""
    assert untimed_metrics_of(path) == untimed_metrics_of(other)
    feedback = read_json(path / "config.json")["feedback"]
    if feedback != "none":
        assert (path / "calibration.json").read_text() == (other / "calibration.json").read_text()
    if (path / "preferences.db").exists():
        assert answers_of(path) == answers_of(other)
    weights, others = weights_of(path), weights_of(other)
    assert weights.keys() == others.keys()
    for name, weight in weights.items():
        np.testing.assert_array_equal(weight, others[name], err_msg=name)
