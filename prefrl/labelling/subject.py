"""What labellers look at: the robot of a task, or whatever a user's environment shows."""

from __future__ import annotations

from dataclasses import dataclass

import gymnasium
import mujoco

from prefrl.environments import resolve_environment
from prefrl.errors import UserError
from prefrl.preferences import PreferenceStore
from prefrl.tasks import TASKS, Camera, load_model

INSTRUCTION = "Prefer the clip that shows the better behaviour."


@dataclass(frozen=True)
class Subject:
    """The environment that a store's segments come from.

    Attributes:
        name: a task's, or a gymnasium id.
        instruction: what people are told.
    """

    name: str
    instruction: str

    def fps(self, length: int) -> int:
        """Steps per second of video of a segment of so many steps."""
        return TASKS[self.name].playback_fps if self.name in TASKS else playback_fps(length)

    def load(self) -> tuple[mujoco.MjModel, Camera]:
        """The model, and from where to look at it. A user's environment is imported.

        Raises:
            UserError: there is none, or it has no MuJoCo model.
        """
        if self.name in TASKS:
            return load_model(TASKS[self.name]), TASKS[self.name].camera
        resolve_environment(self.name)
        env = gymnasium.make(self.name)
        model = getattr(env.unwrapped, "model", None)
        env.close()
        if not isinstance(model, mujoco.MjModel):
            raise UserError(f"{self.name} has no MuJoCo model to render its segments with")
        extent = float(model.stat.extent)
        return model, Camera(distance=1.5 * extent, height=float(model.stat.center[2]))


def playback_fps(length: int) -> int:
    """Steps per second at which a segment of a user's environment takes 1.5 s, as the paper's do (section 3)."""
    return min(60, max(5, round(length / 1.5)))


def subject_of(store: PreferenceStore, instruction: str | None = None) -> Subject:
    """What a store's segments show; nothing is imported.

    Args:
        store: of the segments.
        instruction: what people are told instead of the task's own words.

    Raises:
        UserError: the store does not say what it holds.
    """
    if store.task is None:
        raise UserError(f"{store.location} holds no segments yet; start the run that asks first")
    own = TASKS[store.task].instruction if store.task in TASKS else INSTRUCTION
    return Subject(store.task, instruction or own)
