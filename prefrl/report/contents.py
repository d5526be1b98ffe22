"""What a run directory holds, read for the report. Used by report.run_page and report.comparison."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from prefrl import paper
from prefrl.alarms import Alarm, reward_alarms
from prefrl.calibration import Calibration
from prefrl.errors import UserError
from prefrl.metrics import Metrics, last_value, read_metrics
from prefrl.run_directory import read_json


@dataclass(frozen=True)
class Run:
    """What a run directory holds; an empty part was missing."""

    path: Path
    config: Mapping[str, Any]
    status: Mapping[str, Any]
    evaluation: Mapping[str, Any]
    metrics: Metrics
    calibration: Calibration | None = None
    problems: Sequence[str] = field(default_factory=list)  # sentences on files that could not be read

    @property
    def name(self) -> str:
        """The directory's name."""
        return self.path.resolve().name

    @property
    def task(self) -> str:
        """The task, or a dash."""
        return str(self.config.get("task", "unknown task"))

    @property
    def feedback(self) -> str:
        """synthetic, people, none, or empty when unknown."""
        return str(self.config.get("feedback", ""))

    @property
    def labels(self) -> int:
        """Labels the run was given; 0 without feedback."""
        return int(self.config.get("labels") or 0) if self.feedback != "none" else 0

    @property
    def state(self) -> str:
        """running, waiting, done, failed, stopped or unknown."""
        return str(self.status.get("state", "unknown"))

    @property
    def state_class(self) -> str:
        """The state as a CSS class, for known states only."""
        return self.state if self.state in ("running", "waiting", "done", "failed", "stopped") else "unknown"

    @property
    def env_steps(self) -> float:
        """Environment steps so far."""
        steps = self.status.get("env_steps")
        return last_value(self.metrics, "env_steps") if steps is None else float(steps)

    @property
    def seconds(self) -> float:
        """Wall time of training, NaN when unknown."""
        return last_value(self.metrics, "seconds")

    @property
    def speed(self) -> float:
        """Environment steps per second of wall time, NaN when unknown."""
        return self.env_steps / self.seconds if self.seconds > 0 else float("nan")

    @cached_property
    def alarms(self) -> list[Alarm]:
        """Signs that the policy exploits the predictor."""
        return reward_alarms(self.metrics)

    @property
    def condition(self) -> str:
        """What the run learnt from, in a few words."""
        if self.feedback == "none":
            return "true reward"
        return f"{self.labels} {self.feedback or 'unknown'} answers"

    @property
    def paper_markers(self) -> dict[str, float]:
        """The paper's value for the run's task and number of labels, by name; empty where it gives none."""
        value = paper.final_return(self.task, self.labels) if self.feedback else None
        source = f"{self.labels} labels" if self.labels else "RL on the true reward"
        return {} if value is None else {f"paper, {source}": value}


def load_run(run_dir: str | Path) -> Run:
    """Read a run directory; what is missing or broken is left empty and noted in `problems`.

    Raises:
        UserError: the folder holds neither a configuration nor metrics.
    """
    path = Path(run_dir)
    if not (path / "config.json").exists() and not (path / "metrics.csv").exists():
        raise UserError(
            f"{path} holds neither config.json nor metrics.csv; name a run directory, such as runs/backflip"
        )
    problems: list[str] = []

    def read(name: str, reader: Callable[[Path], dict[str, Any]]) -> dict[str, Any]:
        if not (path / name).exists():
            return {}
        try:
            return reader(path / name)
        except UserError as error:
            problems.append(f"{name} could not be read: {error}")
            return {}

    def read_calibration(path: Path) -> dict[str, Any]:
        return {"calibration": Calibration.from_json(read_json(path), path)}

    return Run(
        path=path,
        config=read("config.json", read_json),
        status=read("status.json", read_json),
        evaluation=read("evaluation.json", read_json),
        metrics=read("metrics.csv", read_metrics),
        calibration=read("calibration.json", read_calibration).get("calibration"),
        problems=problems,
    )
