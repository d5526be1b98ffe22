"""What a sweep would do, and for how long: `prefrl sweep NAME --dry-run`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich import box
from rich.console import Console, Group, RenderableType
from rich.table import Table

from prefrl.sweep.definition import Trial
from prefrl.sweep.live_table import clock, makespan, speed_of
from prefrl.sweep.speeds import Speeds, measured_speeds, speeds_in
from prefrl.sweep.trial_state import TrialState, state_of


@dataclass(frozen=True)
class Plan:
    """What is done, what is to run, and how fast that is likely to be."""

    trials: list[Trial]  # each once
    states: dict[str, TrialState]  # by id
    seen: Speeds  # of runs in the root
    measured: Speeds  # of what has not run there
    workers: int

    def seconds_left(self, trial: Trial) -> float:
        """Of one trial on its own; NaN if its speed is not known."""
        state = self.states[trial.id]
        if state.state == "done":
            return 0.0
        return (trial.config.steps - state.env_steps) / speed_of(trial, self.measured | self.seen)

    def of(self, state: str) -> list[Trial]:
        """The trials in a state."""
        return [trial for trial in self.trials if self.states[trial.id].state == state]


def make_plan(trials: Sequence[Trial], root: Path, workers: int, threads: int) -> Plan:
    """Look at the run directories, and try for some seconds what has never run there.

    Raises:
        UserError: a run directory was made with other options than its trial's.
    """
    once = list({trial.id: trial for trial in trials}.values())
    states = {trial.id: state_of(trial, root) for trial in once}
    seen = speeds_in(root)
    unknown = [
        trial
        for trial in once
        if states[trial.id].state != "done" and (trial.config.task, trial.config.feedback) not in seen
    ]
    return Plan(once, states, seen, measured_speeds(unknown, threads), workers)


def plan_table(plan: Plan, trials: Sequence[Trial], root: Path) -> RenderableType:
    """A row per task and condition; totals and where the speeds come from below; fits 80 columns.

    Args:
        trials: all, of which several may be one run.
    """
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("task", max_width=16)
    table.add_column("condition", max_width=20)
    for name in ("done", "unfinished", "to run", "time"):
        table.add_column(name, justify="right")
    for task, condition in dict.fromkeys((trial.task, trial.condition) for trial in trials):
        row = [trial for trial in trials if (trial.task, trial.condition) == (task, condition)]
        states = [plan.states[trial.id] for trial in row]
        unfinished = [_steps(state.env_steps) for state in states if state.state == "unfinished"]
        done, new = (sum(state.state == name for state in states) for name in ("done", "new"))
        left = sum(plan.seconds_left(trial) for trial in row)
        shown = f"{len(unfinished)} ({', '.join(unfinished)})" if unfinished else "-"
        table.add_row(task, condition, str(done or "-"), shown, str(new or "-"), clock(left) if left else "-")
    return Group(table, "\n".join(_totals(plan, trials, root)))


def _totals(plan: Plan, trials: Sequence[Trial], root: Path) -> list[str]:
    done, unfinished, new = (plan.of(state) for state in ("done", "unfinished", "new"))
    same = f", {len(trials) - len(plan.trials)} of which are runs of another trial too" * (
        len(trials) > len(plan.trials)
    )
    lines = [f"{len(trials)} trials in {root}{same}: {len(done)} done, {len(unfinished)} unfinished, {len(new)} to run"]
    left = [*unfinished, *new]
    if not left:
        return lines
    total = makespan([plan.seconds_left(trial) for trial in left], plan.workers)
    lines.append(f"about {clock(total)} with {plan.workers} at a time, the final evaluations not counted")
    wanted = {(trial.config.task, trial.config.feedback) for trial in left}
    for text, speeds in ((f"seen in {root}", plan.seen), ("measured for some seconds, alone", plan.measured)):
        named = [
            f"{task} {_feedback(feedback)} {speeds[task, feedback]:,.0f}"
            for task, feedback in speeds
            if (task, feedback) in wanted
        ]
        if named:
            lines.append(f"steps/s, {text}: {'; '.join(named)}")
    return lines


def _feedback(feedback: str) -> str:
    return "on the true reward" if feedback == "none" else feedback


def _steps(count: int) -> str:
    return f"{count / 1e6:.2g}M" if count >= 1e5 else f"{count:,}"


def print_plan(plan: Plan, trials: Sequence[Trial], root: Path) -> None:
    """To standard output."""
    Console(highlight=False, markup=False).print(plan_table(plan, trials, root))
