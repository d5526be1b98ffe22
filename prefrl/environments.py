"""Turn a task name or any gymnasium id into a vector environment with a fixed horizon.

The project's own tasks run on simulation.py; everything else goes through gymnasium.make_vec.
"""

from __future__ import annotations

import importlib
import itertools
import sys
from dataclasses import dataclass
from typing import Any, SupportsFloat

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv

from prefrl.errors import UserError
from prefrl.tasks import TASKS, Task, get_task, register


@dataclass(frozen=True)
class EnvironmentSpec:
    """What to build, resolved and checked."""

    name: str  # task name or gymnasium id
    horizon: int  # steps of every episode
    task: Task | None  # None for an environment that is not of the task table
    absorb: bool = False  # an episode that ends early is filled up to the horizon

    def make(self, num_envs: int, threads: int | None = None, stagger: bool = False, render: bool = False) -> VectorEnv:
        """Build the vector environment; `stagger` spreads the phases of its episodes by ending the first ones early.

        With `render`, environments that are not of the task table can give pictures.

        Raises:
            UserError: its spaces are not supported, or gymnasium cannot make it.
        """
        if self.task is not None:
            return gymnasium.make_vec(
                self.task.gymnasium_id,
                num_envs=num_envs,
                max_episode_steps=self.horizon,
                threads=threads,
                stagger=stagger,
            )
        made = itertools.count(1)

        def fix_horizon(env: gymnasium.Env) -> FixedHorizon:
            first = self.horizon * next(made) // num_envs if stagger else self.horizon
            return FixedHorizon(env, self.horizon, self.absorb, first_horizon=max(first, 1))

        try:
            env = gymnasium.make_vec(
                self.name,
                num_envs=num_envs,
                vectorization_mode="sync",
                vector_kwargs={"autoreset_mode": AutoresetMode.SAME_STEP},
                wrappers=[fix_horizon],
                max_episode_steps=-1,
                **({"render_mode": "rgb_array"} if render else {}),
            )
        except (gymnasium.error.Error, ImportError) as error:
            raise UserError(f"cannot make {self.name}: {str(error).splitlines()[0]}") from error
        check_spaces(self.name, env.single_observation_space, env.single_action_space)
        return env


def resolve_environment(name: str, horizon: int | None = None, absorb: bool | None = None) -> EnvironmentSpec:
    """Find a task or gymnasium id ("module:Id-v0" imports the module first) and settle its horizon.

    Episodes that end early are filled up if `absorb` says so; by default where a horizon is given.

    Raises:
        UserError: there is no such environment, or no horizon is known for it.
    """
    register()
    if len(name) > 200:  # of a damaged file
        raise UserError(f"unknown task {name[:20]!r}... of {len(name)} characters; `prefrl tasks` lists the tasks")
    if horizon is not None and horizon < 2:
        raise UserError(f"horizon of {horizon} steps; an episode needs at least 2")
    if name in TASKS or any(task.gymnasium_id == name for task in TASKS.values()):
        task = get_task(name)
        return EnvironmentSpec(task.name, horizon or task.horizon, task)
    try:
        spec = gymnasium.spec(name) if ":" not in name else _import_and_find(name)
    except (gymnasium.error.Error, ImportError, ValueError) as error:  # ValueError: an empty module name
        reason = str(error).splitlines()[0].rstrip(".")
        if isinstance(error, ModuleNotFoundError):
            reason += "; start prefrl in the folder of that module, or name the folder in PYTHONPATH"
        raise UserError(
            f"unknown task {name!r}: {reason}; `prefrl tasks` lists the tasks, and any gymnasium id works too"
        ) from error
    known = horizon or spec.max_episode_steps
    if known is None:
        raise UserError(f"{name} has no time limit; give every episode the same length with --horizon N")
    return EnvironmentSpec(name, known, None, absorb=horizon is not None if absorb is None else absorb)


def _import_and_find(name: str) -> Any:
    module, env_id = name.split(":", 1)
    if "" not in sys.path:
        sys.path.append("")  # a module in the current folder, which the `prefrl` command does not search by itself
    importlib.import_module(module)
    return gymnasium.spec(env_id)


def check_spaces(name: str, observation_space: spaces.Space, action_space: spaces.Space) -> None:
    """Refuse what the predictor and PPO can't take: they want flat vectors and one kind of action.

    Raises:
        UserError: images, dictionaries, discrete observations, or actions that are composite, unbounded or not
            counted from 0.
    """
    if not isinstance(observation_space, spaces.Box) or len(observation_space.shape) != 1:
        kind = "image" if isinstance(observation_space, spaces.Box) and len(observation_space.shape) > 1 else "such"
        raise UserError(
            f"{name} has observations {observation_space}; {kind} observations are not supported, "
            "wrap it so that it returns one flat vector (gymnasium.wrappers.FlattenObservation)"
        )
    flat_box = isinstance(action_space, spaces.Box) and len(action_space.shape) == 1
    if not flat_box and not isinstance(action_space, spaces.Discrete):
        raise UserError(f"{name} has actions {action_space}; only flat Box and Discrete actions are supported")
    if isinstance(action_space, spaces.Discrete) and action_space.start != 0:
        raise UserError(
            f"{name} counts its actions from {action_space.start} and PPO from 0; shift them by "
            "gymnasium.wrappers.TransformAction"
        )
    if isinstance(action_space, spaces.Box) and not np.isfinite([action_space.low, action_space.high]).all():
        raise UserError(f"{name} has unbounded actions {action_space}; bound them by gymnasium.wrappers.RescaleAction")


class FixedHorizon(gymnasium.Wrapper):
    """Episodes of exactly `horizon` steps, since an episode's length would leak its reward (section A).

    Args:
        env: without a time limit of its own.
        horizon: steps per episode.
        absorb: fill up an episode that ends early with its last observation and reward 0; otherwise refuse it.
        first_horizon: steps of the first episode, where environments are to be in different phases.
    """

    def __init__(self, env: gymnasium.Env, horizon: int, absorb: bool, first_horizon: int | None = None) -> None:
        super().__init__(env)
        self.horizon, self.absorb = horizon, absorb
        self._length = first_horizon or horizon
        self._age = 0

    def reset(self, **kwargs: Any) -> tuple[Any, dict[str, Any]]:
        """Start an episode."""
        if self._age:
            self._length = self.horizon
        self._age, self._ended = 0, False
        self._observation, info = self.env.reset(**kwargs)
        return self._observation, info

    def step(self, action: Any) -> tuple[Any, SupportsFloat, bool, bool, dict[str, Any]]:
        """Step, or stay where the episode ended.

        Raises:
            UserError: the episode ended early and may not be filled up.
        """
        self._age += 1
        reward: SupportsFloat = 0.0
        info: dict[str, Any] = {}
        if not self._ended:
            self._observation, reward, terminated, truncated, info = self.env.step(action)
            self._ended = terminated or truncated
            if self._ended and not self.absorb and self._age < self._length:
                name = self.spec.id if self.spec else "the environment"
                raise UserError(
                    f"{name} ended an episode after {self._age} of {self.horizon} steps; the length of an episode "
                    f"tells the reward to the predictor, so fix it with --horizon {self.horizon}"
                )
        return self._observation, reward, False, self._age >= self._length, info
