"""How fast is it here? `prefrl bench`, beside the bare simulator and Stable-Baselines3 as most people start it.

Runs whole trainings through run.train, as `prefrl train` does. Machines are shared and noisy, so what is compared takes
turns, an iteration each: whatever slows the machine down slows them all. That is done in rounds, and what is printed is
the median over rounds.
"""

from __future__ import annotations

import csv
import json
import math
import os
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import wait as wait_for
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import mujoco
import numpy as np
from rich.console import Console
from rich.table import Table

from prefrl.config import Count, TrainConfig, default_config
from prefrl.errors import UserError
from prefrl.progress import Progress
from prefrl.robots import quiet_about_model_files
from prefrl.run_directory import describe
from prefrl.tasks import Task, get_task
from prefrl.threads import available_cores

FULL_STEPS = 2_000_000  # environment steps of the runs that the paper's 700 labels belong to here
SB3_ROLLOUT = 8 * 2048  # environment steps between its updates

RATIOS = {
    "preference_over_ppo_true": ("preference_fps", "ppo_true_fps"),
    "preference_over_sb3_default": ("preference_fps", "sb3_default_fps"),
    "ppo_true_over_raw_step": ("ppo_true_fps", "raw_step_fps"),
}
ROWS = {
    "raw_step_fps": "simulator alone, steps/s",
    "ppo_true_fps": "true reward, steps/s",
    "preference_fps": "preferences, steps/s",
    "sb3_default_fps": "SB3's defaults, steps/s",
    "fit_share": "share of fitting",
    "label_share": "share of asking",
    "preference_over_ppo_true": "preferences / true reward",
    "preference_over_sb3_default": "preferences / SB3",
    "ppo_true_over_raw_step": "true reward / simulator",
}

Figures = dict[str, float]


@dataclass(frozen=True)
class BenchOptions:
    """Measure environment steps per second of simulator, PPO and the whole loop, beside Stable-Baselines3."""

    tasks: tuple[str, ...] = ("hopper", "cheetah", "ant")
    """tasks of `prefrl tasks`, each of another robot"""
    rounds: Count = 3
    """times everything is measured; medians are printed"""
    steps: Count = 500_000
    """environment steps of each training run; below 2e6, labels, random rollouts and first fit shrink in proportion"""
    labels: Count = 700
    """labels of a run of 2e6 steps or more"""
    sb3_steps: Count = 32_768
    """environment steps of Stable-Baselines3's PPO, rounded up to whole rollouts of 16384"""
    threads: Count | None = None
    """cores to use; all by default"""
    run_dir: Path = Path("runs")
    """folder on the disk that runs are written to; nothing is left in it"""
    json: bool = False
    """print one JSON object instead of the table"""


def bench(options: BenchOptions) -> None:
    """Measure, and print a table, or one JSON object; progress goes to stderr."""
    with _only_ours_on_stdout():
        result = measure(options, lambda line: print(line, file=sys.stderr, flush=True))
    if options.json:
        print(json.dumps(result, indent=2, allow_nan=False))
    else:
        print_table(result)


def measure(options: BenchOptions, on_progress: Callable[[str], None] = lambda line: None) -> dict[str, Any]:
    """Everything that `prefrl bench --json` prints.

    Raises:
        UserError: unknown task, two of one robot, nothing to measure, or a run too short for one iteration.
    """
    tasks = _chosen_tasks(options)
    # Refused now rather than after minutes of measuring.
    configs = [_config(task, "synthetic", options, 0, options.run_dir).resolved() for task in tasks]
    import torch  # loaded where it measures: every `prefrl` command imports the options above

    torch_threads = options.threads or torch.get_num_threads()
    torch.optim.Adam([torch.zeros(1)])  # the first one imports for a second or two, which the first run would pay for
    rounds: dict[str, list[Figures]] = {robot_name(task): [] for task in tasks}
    for number in range(options.rounds):
        for task, config in zip(tasks, configs, strict=True):
            figures: Figures = {}
            for measurement in (ours, sb3_default):
                torch.set_num_threads(torch_threads)
                figures |= measurement(task, config, options, number)
            rounds[robot_name(task)].append(figures | ratios(figures))
            line = ", ".join(f"{name} {value:,.0f}" for name, value in figures.items() if name.endswith("_fps"))
            on_progress(f"round {number + 1}/{options.rounds} {robot_name(task)}: {line}")
    about, cores = describe(configs[0]), available_cores()
    return {
        "machine": about["machine"] | {"usable_cores": cores, "threads": options.threads or cores},
        "torch_threads": torch_threads,
        "versions": about["versions"],
        "git_revision": about["git_revision"],
        "rounds": options.rounds,
        "robots": {
            robot: {**medians(each), "each_round": each, "what_was_run": _what_was_run(options, config)}
            for (robot, each), config in zip(rounds.items(), configs, strict=True)
        },
    }


def _chosen_tasks(options: BenchOptions) -> list[Task]:
    if not options.tasks:
        raise UserError("no task to measure; name one or more of `prefrl tasks`")
    if min(options.rounds, options.steps, options.sb3_steps) < 1:
        raise UserError("rounds and steps of 0 measure nothing; give at least 1")
    tasks = [get_task(name) for name in options.tasks]
    robots = [robot_name(task) for task in tasks]
    for robot in robots:
        if robots.count(robot) > 1:
            raise UserError(f"{robots.count(robot)} of the tasks are of the robot {robot}; name one of each")
    return tasks


def ours(task: Task, config: TrainConfig, options: BenchOptions, seed: int) -> Figures:
    """The simulator alone, a run on the true reward and one on preferences, an iteration each in turn."""
    from prefrl.run import train

    speeds: Figures = {}
    worked: list[float] = []

    def simulated(next_turn: NextTurn) -> None:
        simulator = BareSimulator(task, config.ppo.num_envs, options.threads, seed)
        for turn in range(1, math.ceil(options.steps / config.iteration_steps) + 1):
            simulator.advance(config.ppo.num_steps)
            speeds["raw_step_fps"] = turn * config.iteration_steps / next_turn()
        simulator.close()

    def on_true_reward(next_turn: NextTurn) -> None:
        def on_progress(progress: Progress) -> None:
            speeds["ppo_true_fps"] = progress.env_steps / next_turn()

        train(_config(task, "none", options, seed, folder / "none"), on_progress)

    def on_preferences(next_turn: NextTurn) -> None:
        def on_progress(progress: Progress) -> None:
            worked.append(next_turn())
            speeds["preference_fps"] = progress.env_steps / worked[-1]

        train(_config(task, "synthetic", options, seed, folder / "synthetic"), on_progress)

    options.run_dir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="bench-", dir=options.run_dir) as name:
        folder = Path(name)
        take_turns([simulated, on_true_reward, on_preferences])
        return speeds | read_shares(folder / "synthetic" / "metrics.csv", worked)


NextTurn = Callable[[], float]  # hands over, waits for the next turn, and says how many seconds the caller has worked
Job = Callable[[NextTurn], None]


class Abandoned(Exception):
    """Another of the jobs has failed, or the user pressed Ctrl-C."""


def take_turns(jobs: Sequence[Job]) -> None:
    """Do jobs side by side, each in a thread, of which one works at a time; the first one begins."""
    changed = threading.Condition()
    waiting = deque(range(len(jobs)))  # the first one works
    abandoned: list[bool] = []

    def work(number: int) -> None:
        seconds = began = 0.0

        def wait() -> None:
            nonlocal began
            with changed:
                changed.wait_for(lambda: abandoned or waiting[0] == number)
            if abandoned:
                raise Abandoned
            began = time.perf_counter()

        def next_turn() -> float:
            nonlocal seconds
            seconds += time.perf_counter() - began
            with changed:
                waiting.rotate(-1)
                changed.notify_all()
            wait()
            return seconds

        try:
            wait()
            jobs[number](next_turn)
        except BaseException:
            abandoned.append(True)
            raise
        finally:
            with changed:
                waiting.remove(number)
                changed.notify_all()

    with ThreadPoolExecutor(len(jobs)) as pool:
        try:
            done, _ = wait_for([pool.submit(work, number) for number in range(len(jobs))])
        except BaseException:
            abandoned.append(True)
            with changed:
                changed.notify_all()
            raise
    errors = [error for job in done if (error := job.exception()) is not None]
    for error in sorted(errors, key=lambda error: isinstance(error, Abandoned)):
        raise error


def ratios(figures: Figures) -> Figures:
    """The quotients of one round's speeds."""
    return {name: figures[above] / figures[below] for name, (above, below) in RATIOS.items()}


def medians(rounds: list[Figures]) -> Figures:
    """Of each figure over the rounds; a ratio's is not the ratio of two medians."""
    return {name: float(np.median([figures[name] for figures in rounds])) for name in ROWS}


class BareSimulator:
    """`mj_step` on all cores and nothing else, as fast as any agent could be.

    Every thread steps its own simulations under random actions and waits for nobody before the end of `advance`; no
    observation, reward or reset.
    """

    def __init__(self, task: Task, num_envs: int, threads: int | None = None, seed: int = 0) -> None:
        env = task.robot.make()
        self._model, self._frame_skip, space = env.model, env.frame_skip, env.action_space
        rng = np.random.default_rng(seed)
        self._data = [mujoco.MjData(env.model) for _ in range(num_envs)]
        for d in self._data:
            d.qpos[:], d.qvel[:] = task.robot.start_state(rng, env.init_qpos, env.init_qvel)
        env.close()
        self._ctrl = [d.ctrl for d in self._data]
        self._actions = rng.uniform(space.low, space.high, size=(997, num_envs, env.model.nu))  # again and again
        self._steps = 0
        workers = min(threads or available_cores(), num_envs)
        self._chunks = [range(num_envs)[i::workers] for i in range(workers)]
        self._pool = ThreadPoolExecutor(workers)

    def advance(self, steps: int) -> None:
        """That many environment steps of each simulation."""
        list(self._pool.map(lambda chunk: self._advance(chunk, steps), self._chunks))
        self._steps += steps

    def _advance(self, chunk: range, steps: int) -> None:
        model, frame_skip, data, ctrl, step = self._model, self._frame_skip, self._data, self._ctrl, mujoco.mj_step
        for t in range(self._steps, self._steps + steps):
            now = self._actions[t % len(self._actions)]
            for i in chunk:
                ctrl[i][:] = now[i]
                step(model, data[i], frame_skip)

    def close(self) -> None:
        """Stop the threads."""
        self._pool.shutdown()


def sb3_default(task: Task, config: TrainConfig, options: BenchOptions, seed: int) -> Figures:
    """Stable-Baselines3's PPO with its defaults on gymnasium's own environment."""
    from prefrl.agent import default_ppo

    with quiet_about_model_files():
        ppo = default_ppo(task.robot.base_id, seed)
    began = time.perf_counter()
    ppo.learn(options.sb3_steps)
    fps = ppo.num_timesteps / (time.perf_counter() - began)
    env = ppo.get_env()
    assert env is not None
    env.close()
    return {"sb3_default_fps": fps}


def _config(task: Task, feedback: Any, options: BenchOptions, seed: int, run_dir: Path) -> TrainConfig:
    """The task's own run, in miniature below FULL_STEPS.

    A short run that paid for the whole random start and first fit, or asked all labels, would have other shares of
    each than the long run it stands for.
    """
    config = default_config(task.name)
    scale = min(1.0, options.steps / FULL_STEPS)
    rollouts = max(1, round(config.queries.initial_rollouts * scale))
    gradient_steps = max(1, round(config.reward.initial_gradient_steps * scale))
    return replace(
        config,
        feedback=feedback,
        labels=max(4, round(options.labels * scale)),
        steps=options.steps,
        seed=seed,
        run_dir=run_dir,
        threads=options.threads,
        evaluation_episodes=1,
        video=False,
        queries=replace(config.queries, initial_rollouts=rollouts),
        reward=replace(config.reward, initial_gradient_steps=gradient_steps),
    )


def read_shares(metrics: Path, seconds: Sequence[float]) -> Figures:
    """Shares of fitting and asking in a whole run.

    Args:
        metrics: the run's metrics.csv.
        seconds: that the run had worked for after each of its rows.
    """
    with metrics.open(newline="") as file:
        rows = list(csv.DictReader(file))
    weights = np.diff(seconds, prepend=0.0)
    return {
        f"{stage}_share": float(np.average([float(row[f"share/{stage}"]) for row in rows], weights=weights))
        for stage in ("fit", "label")
    }


def _what_was_run(options: BenchOptions, config: TrainConfig) -> dict[str, str]:
    ours = f"whole runs of {options.steps:,} steps, {config.ppo.num_envs} environments"
    scaled = "" if options.steps >= FULL_STEPS else f" ({options.labels} per {FULL_STEPS:,} steps)"
    rollouts = config.queries.initial_rollouts
    return {
        "raw_step_fps": "Simulator: mj_step alone, as many steps, random actions.",
        "ppo_true_fps": f"True reward: PPO, {ours}, --feedback none.",
        "preference_fps": f"Preferences: {ours}, {config.labels} synthetic answers{scaled}, "
        f"{rollouts} random rollout{'s' if rollouts > 1 else ''}, "
        f"{config.reward.initial_gradient_steps} gradient steps in each first fit. "
        "Asking: choosing pairs, storing and answering them.",
        "sb3_default_fps": "SB3: Stable-Baselines3 PPO with its defaults (batch 64), gymnasium's own environment, 8 in "
        f"DummyVecEnv, {math.ceil(options.sb3_steps / SB3_ROLLOUT) * SB3_ROLLOUT:,} steps.",
    }


def print_table(result: dict[str, Any]) -> None:
    """The medians, a column per robot, and what was run."""
    table = Table("")
    for robot in result["robots"]:
        table.add_column(robot, justify="right")
    for i, (name, text) in enumerate(ROWS.items()):
        digits = ",.0f" if name.endswith("_fps") else ".3f"
        cells = [format(figures[name], digits) for figures in result["robots"].values()]
        table.add_row(text, *cells, end_section=i in (3, 5))
    console = Console(highlight=False)
    console.print(table)
    machine, versions = result["machine"], result["versions"]
    console.print(
        f"Medians of {result['rounds']} rounds on {machine['threads']} of {machine['cores']} cores; "
        f"mujoco {versions['mujoco']}, torch {versions['torch']}, gymnasium {versions['gymnasium']}, "
        f"stable-baselines3 {versions['stable-baselines3']}."
    )
    for text in dict.fromkeys(
        text for figures in result["robots"].values() for text in figures["what_was_run"].values()
    ):
        console.print(text)


def robot_name(task: Task) -> str:
    """Hopper of Hopper-v5."""
    return task.robot.base_id.rpartition("-v")[0]


@contextmanager
def _only_ours_on_stdout() -> Iterator[None]:
    """Send what libraries write to file descriptor 1 to stderr: some versions of MuJoCo print warnings there."""
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        sys.stdout.flush()
        os.dup2(kept, 1)
        os.close(kept)
