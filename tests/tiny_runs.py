"""Tiny whole runs, and what they left."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path
from typing import Any

from prefrl.agent import PPOOptions
from prefrl.config import OracleOptions, QueryOptions, TrainConfig
from prefrl.reward_training import RewardOptions

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
