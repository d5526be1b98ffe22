"""Environments with a known optimum, and misbehaving ones, registered with gymnasium on import.

`prefrl train probes:probes/Observation-v0` finds them too, as a user's own module.
"""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

HORIZON = 16
UNIT = spaces.Box(-1.0, 1.0, (1,), np.float32)


class Probe(gymnasium.Env[Any, Any]):
    """One number to see, one to choose; subclasses say what it pays."""

    observation_space: spaces.Space[Any] = UNIT
    action_space: spaces.Space[Any] = UNIT

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.age = 0
        self.seen = self.observe()
        return self.seen, {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        reward = self.pay(action)
        self.age += 1
        self.seen = self.observe()
        return self.seen, reward, self.ends(), False, {}

    def observe(self) -> Any:
        return np.zeros(1, np.float32)

    def pay(self, action: Any) -> float:
        return 1.0

    def ends(self) -> bool:
        return False


class AlwaysOne(Probe):
    """Pays 1 whatever is done: all that can be learnt is the value 1/(1 - γ)."""


class Action(Probe):
    """Pays 1 - (a - ½)²: best is ½, whatever is seen."""

    def pay(self, action: Any) -> float:
        return 1.0 - float(action[0] - 0.5) ** 2


class DiscreteAction(Probe):
    """Pays 1 for the last of three actions, otherwise 0."""

    action_space = spaces.Discrete(3)

    def pay(self, action: Any) -> float:
        return float(int(action) == 2)


class Observation(Probe):
    """Shows -1 or 1 at random and pays action · observation: best is to repeat what is seen, which pays 1."""

    def observe(self) -> NDArray[np.float32]:
        return self.np_random.choice([-1.0, 1.0], size=1).astype(np.float32)

    def pay(self, action: Any) -> float:
        return float(action[0] * self.seen[0])


class Drawn(Observation):
    """Can be rendered: a square that is light where the observation is 1."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}

    def __init__(self, render_mode: str | None = None) -> None:
        self.render_mode = render_mode

    def render(self) -> Any:
        return np.full((64, 64, 3), 60 if self.seen[0] < 0 else 240, np.uint8)


class LedTo(Observation):
    """Shows -1 or 1 at random, and pays what the step leads to: only the observation after the action tells."""

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        observation, _, terminated, truncated, info = super().step(action)
        return observation, float(observation[0]), terminated, truncated, info


class Age(Probe):
    """Shows the step's number and pays it, so that every step can be told apart."""

    observation_space = spaces.Box(0.0, 1e6, (1,), np.float32)

    def observe(self) -> NDArray[np.float32]:
        return np.full(1, self.age, np.float32)

    def pay(self, action: Any) -> float:
        return float(self.age)


class EndsEarly(Age):
    """Terminates after 5 of 16 steps."""

    def ends(self) -> bool:
        return self.age == 5


class NanObservation(Probe):
    """Observes NaN from the tenth step on."""

    def observe(self) -> NDArray[np.float32]:
        return np.full(1, np.nan if self.age >= 10 else 0.0, np.float32)


class NanAtTheEnd(Probe):
    """Observes NaN after the last step of an episode, which same-step autoreset shows in `final_obs` only."""

    def observe(self) -> NDArray[np.float32]:
        return np.full(1, np.nan if self.age == HORIZON else 0.0, np.float32)


class NanLater(Probe):
    """Observes NaN from its third episode on."""

    episodes = 0

    def observe(self) -> NDArray[np.float32]:
        self.episodes += self.age == 0
        return np.full(1, np.nan if self.episodes > 2 else 0.0, np.float32)


class Huge(Probe):
    """Observes a number that is finite only in double precision."""

    observation_space = spaces.Box(-np.inf, np.inf, (1,), np.float64)

    def observe(self) -> NDArray[np.float64]:
        return np.full(1, 1e300 if self.age >= 10 else 0.0)


class InfiniteReward(Probe):
    """Pays infinity in the tenth step."""

    def pay(self, action: Any) -> float:
        return float("inf") if self.age == 9 else 0.0


class Image(Probe):
    """Observes a picture."""

    observation_space = spaces.Box(0, 255, (8, 8, 3), np.uint8)

    def observe(self) -> NDArray[np.uint8]:
        return np.zeros((8, 8, 3), np.uint8)


class Dictionary(Probe):
    """Observes a dictionary."""

    observation_space = spaces.Dict({"a": UNIT})

    def observe(self) -> dict[str, NDArray[np.float32]]:
        return {"a": np.zeros(1, np.float32)}


class Unbounded(Probe):
    """Takes any number as action."""

    action_space = spaces.Box(-np.inf, np.inf, (1,), np.float32)


class TwoActions(Probe):
    """Takes two discrete actions at once."""

    action_space = spaces.MultiDiscrete([2, 2])


class CountsFromOne(Probe):
    """Its discrete actions are 1, 2 and 3."""

    action_space = spaces.Discrete(3, start=1)


PROBES: tuple[type[Probe], ...] = (
    *(AlwaysOne, Action, DiscreteAction, Observation, Drawn, LedTo, Age, EndsEarly, NanObservation, InfiniteReward),
    *(NanAtTheEnd, NanLater, Huge),
    *(Image, Dictionary, Unbounded, TwoActions, CountsFromOne),
)


def probe_id(probe: type[Probe]) -> str:
    """The gymnasium id under which a probe is registered."""
    return f"probes/{probe.__name__}-v0"


for _probe in PROBES:
    gymnasium.register(probe_id(_probe), entry_point=f"probes:{_probe.__name__}", max_episode_steps=HORIZON)
gymnasium.register("probes/Endless-v0", entry_point="probes:AlwaysOne")
