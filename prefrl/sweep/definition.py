"""What a sweep is: tasks × conditions × seeds, each of them one `prefrl train`.

Written in experiments/NAME.py as `SWEEP = Sweep(...)`; run by `prefrl sweep NAME`.
"""

from __future__ import annotations

import difflib
import functools
import hashlib
import json
import math
import runpy
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, get_type_hints

import gymnasium
import numpy as np
import pydantic

from prefrl.config import TrainConfig, config_from_json, default_config
from prefrl.errors import UserError
from prefrl.tasks import TASKS, register

Options = Mapping[str, Any]  # what differs from a task's defaults, spelt as in config.json: {"oracle.score": "judge"}
Drawing = Literal["learning", "answers", "profiles"]

# Options that change nothing that is learnt, at all or under that feedback.
NOT_LEARNT_FROM = ("run_dir", "threads", "video", "checkpoint_minutes")
NOT_LEARNT_FROM_UNDER = {
    "none": ("labels", "store", "replay", "queries", "oracle", "people", "reward"),
    "synthetic": ("people",),
    "people": ("oracle",),
}
# What a run did of which an option was not known yet, where that is not today's default.
DONE_BEFORE = {"queries.elite_share": 0.0, "queries.initial_rounds": False, "reward.latest_share": 0.0}


@dataclass(frozen=True)
class Trial:
    """One run of a sweep: a task under a condition, with a seed."""

    task: str
    condition: str  # as tables and figures name it: "700 answers"
    seed: int
    options: Options

    @cached_property
    def config(self) -> TrainConfig:
        """The task's defaults, changed by the options; its run_dir is not for use.

        Raises:
            UserError: there is no such option, or it cannot work.
        """
        options = json.loads(json.dumps(asdict(replace(default_config(self.task), seed=self.seed)), default=str))
        for key, value in self.options.items():
            if key in ("task", "seed", "run_dir"):
                raise UserError(f"option {key!r} of {self.condition!r}: the sweep itself gives each trial its {key}")
            *path, last = key.split(".")
            if isinstance(value, Mapping):
                raise UserError(f"option {key!r} of {self.condition!r} is a group; name its options, as '{key}.NAME'")
            stage: Any = options
            for name in path:
                stage = stage.get(name) if isinstance(stage, dict) else None
            if not isinstance(stage, dict) or last not in stage:
                raise UserError(f"no option {key!r} of {self.condition!r}; {_nearest(key, flat(options))}")
            stage[last] = value
        # Checked and converted all at once, as config.json is: 2e6 steps are 2000000, else one run would have two ids.
        what = f"{self.task}, {self.condition}"
        config = config_from_json(options, what)
        try:
            return config.resolved()
        except UserError as error:
            raise UserError(f"{what}: {in_a_sweep(error)}") from error

    @cached_property
    def learnt_from(self) -> dict[str, Any]:
        """Every option that decides what is learnt, as config.json has it: {"ppo": {"gamma": 0.995, ...}, ...}."""
        return learnt_from(json.loads(json.dumps(asdict(self.config), default=str)))

    @cached_property
    def id(self) -> str:
        """Of its run directory, from its configuration alone: equal trials of two sweeps are one run.

        It is made of what differs from TrainConfig's own defaults, so that an option that a later version adds
        leaves it as it is.
        """
        config = self.config
        own = flat(json.loads(json.dumps(asdict(TrainConfig(config.task)), default=str)))
        different = {key: value for key, value in flat(self.learnt_from).items() if own.get(key) != value}
        if config.task not in TASKS:  # whose names may differ in letters that no file name has
            different["task"] = config.task
        digest = hashlib.sha256(json.dumps(different, sort_keys=True).encode()).hexdigest()[:8]
        labels = f"-{config.labels}" if config.feedback != "none" else ""
        task = "".join(letter if letter.isalnum() or letter in "._-" else "-" for letter in config.task)
        return f"{task}-{config.feedback}{labels}-seed{self.seed}-{digest}"

    def arguments(self) -> list[str]:
        """What follows `prefrl` on the command line."""
        words = ["train", self.task, "--seed", str(self.seed)]
        for key, value in self.options.items():
            stage, dot, option = key.replace("_", "-").rpartition(".")
            if isinstance(value, bool):
                words.append(f"--{stage}{dot}{option}" if value else f"--{stage}{dot}no-{option}")
            elif isinstance(value, (tuple, list)):
                words += [f"--{stage}{dot}{option}", *map(str, value)]
            else:
                words += [f"--{stage}{dot}{option}", str(value)]
        return words


@dataclass(frozen=True)
class Sweep:
    """Tasks × conditions × seeds, and what is drawn of them.

    Args:
        title: of the page and the table, such as "Figure 2: ...".
        tasks: of `prefrl tasks`, or gymnasium ids.
        conditions: by name, what each changes.
        seeds: of every task and condition.
        options: what all trials change.
        task_options: what all trials of a task change; before the condition's.
        baseline: the condition whose mean over seeds is a normalised score of 1; a random policy's is 0.
        drawings: "learning": a panel per task, a line per condition; "answers": final return against the number of
            answers, of the conditions that have some, each another number; "profiles": scores over all tasks.
        paper: the paper's final returns, by task and condition.
        notes: a line of Markdown per task, written by hand after looking at its runs.

    Raises:
        UserError: a part is empty, named twice or cannot be kept, the baseline is none of the conditions, or a drawing
            can't be made of them.
    """

    title: str
    tasks: tuple[str, ...]
    conditions: Mapping[str, Options]
    seeds: tuple[int, ...]
    options: Options = field(default_factory=dict)
    task_options: Mapping[str, Options] = field(default_factory=dict)
    baseline: str | None = None
    drawings: tuple[Drawing, ...] = ("learning",)
    paper: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    notes: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, adapter in _adapters().items():
            try:
                object.__setattr__(self, name, adapter.validate_python(_plain(getattr(self, name), name)))
            except pydantic.ValidationError as error:
                first = error.errors()[0]
                where = "".join(f", {part}" for part in first["loc"])
                raise UserError(f"the sweep's {name}{where}: {first['msg']}, not {first['input']!r}") from error
        for name in ("tasks", "seeds"):
            values = getattr(self, name)
            if len(set(values)) < len(values):
                raise UserError(f"the sweep's {name}: {values} names one twice, which would count as two runs")
        if not (self.tasks and self.conditions and self.seeds):
            raise UserError(f"sweep {self.title!r} has no trials; give it tasks, conditions and seeds")
        if min(self.seeds) < 0:
            raise UserError(f"the sweep's seeds: {min(self.seeds)} is below 0")
        for name in ("task_options", "notes"):
            for task in getattr(self, name):
                if task not in self.tasks:
                    raise UserError(f"the sweep's {name}: {task!r} is none of its tasks: {', '.join(self.tasks)}")
        if self.baseline is not None and self.baseline not in self.conditions:
            raise UserError(f"the baseline {self.baseline!r} is none of: {', '.join(self.conditions)}")
        if "profiles" in self.drawings and self.baseline is None:
            raise UserError("profiles are drawn of normalised scores; name the sweep's baseline")
        if "answers" in self.drawings:
            self._refuse_equal_answers()

    def _refuse_equal_answers(self) -> None:
        """One line through conditions with equally many answers would be about what else differs between them.

        Nor has a condition a place on it whose number of answers is another on another task.
        """
        first: dict[str, tuple[Any, str]] = {}
        for task in self.tasks:
            by_count: dict[Any, str] = {}
            for condition, changes in self.conditions.items():
                own = {**self.options, **self.task_options.get(task, {}), **changes}
                if own.get("feedback") == "none":
                    continue
                count = own.get("labels", default_config(task).labels)
                known, elsewhere = first.setdefault(condition, (count, task))
                if count != known:
                    raise UserError(
                        f"{condition!r} has {known} answers on {elsewhere} and {count} on {task}, so there is no curve "
                        "over answers; give it labels, or leave 'answers' out of the sweep's drawings"
                    )
                if count in by_count:
                    raise UserError(
                        f"{by_count[count]!r} and {condition!r} both have {count} answers on {task}, so there is no "
                        "curve over answers; leave 'answers' out of the sweep's drawings"
                    )
                by_count[count] = condition

    @cached_property
    def trials(self) -> list[Trial]:
        """All of them: seed after seed, so that each task has a first result early."""
        return [
            Trial(task, condition, seed, {**self.options, **self.task_options.get(task, {}), **changes})
            for seed in self.seeds
            for task in self.tasks
            for condition, changes in self.conditions.items()
        ]


def _plain(value: Any, name: str) -> Any:
    """As JSON gives it back, with NumPy's numbers and paths made plain."""
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise UserError(f"the sweep's {name}: {key!r} is the name of something; write it as text")
        return {key: _plain(part, name) for key, part in value.items()}
    if isinstance(value, (list, tuple, range)):
        return [_plain(part, name) for part in value]
    if isinstance(value, (np.ndarray, np.generic)):
        return _plain(value.tolist(), name)
    if isinstance(value, Path):
        return str(value)
    if value is None or isinstance(value, (str, bool, int)) or (isinstance(value, float) and math.isfinite(value)):
        return value
    raise UserError(f"the sweep's {name}: {value!r} cannot be kept; give text, finite numbers, and lists of them")


def in_a_sweep(error: UserError) -> str:
    """The message, with how a sweep spells the options that it names as the command line does."""
    return f"{error}; a sweep spells --ppo.num-envs as 'ppo.num_envs'" if "--" in str(error) else str(error)


@functools.cache
def _adapters() -> dict[str, pydantic.TypeAdapter[Any]]:
    """What each part of a sweep may be; the same for one that is written and one that is read back."""
    return {name: pydantic.TypeAdapter(hint) for name, hint in get_type_hints(Sweep).items()}


def learnt_from(options: Mapping[str, Any]) -> dict[str, Any]:
    """Of a run's options, as config.json has them, those that decide what is learnt."""
    left_out = {*NOT_LEARNT_FROM, *NOT_LEARNT_FROM_UNDER[options["feedback"]]}
    return {key: value for key, value in options.items() if key not in left_out}


def load_sweep(name: str) -> tuple[str, Sweep]:
    """The sweep of that name: (its name, what it is).

    Args:
        name: of experiments/NAME.py below the current folder, or the path of any Python file; it is executed.

    Raises:
        UserError: there is no such file, it defines no SWEEP, or one of a task that its trials could not find.
    """
    path = Path(name) if name.endswith(".py") else Path("experiments") / f"{name}.py"
    if not path.is_file():
        there = sorted(each.stem for each in Path("experiments").glob("*.py") if "SWEEP = " in each.read_text())
        known = f"experiments/ has {', '.join(there)}" if there else "there are none in experiments/ here"
        raise UserError(f"no sweep {path}; {known}; or give the path of a Python file that defines SWEEP")
    sys.path.insert(0, str(path.parent.resolve()))  # as `python PATH` does, for what the file imports
    register()
    registered = set(gymnasium.registry)
    found = runpy.run_path(str(path), run_name=path.stem)
    sweep = found.get("SWEEP")
    if not isinstance(sweep, Sweep):
        raise UserError(f"{path} defines no SWEEP = prefrl.sweep.Sweep(...)")
    for task in sweep.tasks:
        if task in gymnasium.registry and task not in registered:
            raise UserError(
                f"{path} registers {task} itself, but each trial is a process of its own, which does not read that "
                f"file; register it in a module beside it and call the task MODULE:{task}"
            )
    return path.stem, sweep


def _nearest(key: str, options: Mapping[str, Any]) -> str:
    """What a mistyped or half-written option is likely to be: its end, or its letters, or where all are listed."""
    ends = [option for option in options if option.rpartition(".")[2] == key]
    alike = difflib.get_close_matches(key, options, n=1) or difflib.get_close_matches(
        key, [option.rpartition(".")[2] for option in options], n=1
    )
    if found := ends or [option for option in options if alike and option.endswith(alike[0])]:
        return f"did you mean {' or '.join(map(repr, found))}?"
    return "`prefrl train --help` lists them; a sweep spells --ppo.num-envs as 'ppo.num_envs'"


def flat(options: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"ppo": {"gamma": 0.9}} -> {"ppo.gamma": 0.9}."""
    pairs: dict[str, Any] = {}
    for key, value in options.items():
        pairs |= flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return pairs
