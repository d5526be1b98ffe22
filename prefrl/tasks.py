"""The task table: the paper's eight MuJoCo tasks and its two novel behaviours.

Each row says what is simulated (robots.Robot), for how long, what it truly pays, what a person sees and is told,
and how success is counted. Registered with gymnasium as "prefrl/Hopper-v0" and so on, single and vectorised.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, SupportsFloat

import gymnasium
import mujoco
import numpy as np
from numpy.typing import NDArray

from prefrl import measures, robots, true_rewards
from prefrl.errors import UserError
from prefrl.oracles import judges
from prefrl.robots import Robot
from prefrl.segments import Segment
from prefrl.true_rewards import Transition


@dataclass(frozen=True)
class Camera:
    """A free camera for clips; MuJoCo's spherical coordinates about a point above the floor."""

    distance: float  # metres
    elevation: float = -12.0  # degrees, negative looks down
    azimuth: float = 90.0  # degrees, 90 looks along +y so that +x is to the right
    height: float = 0.8  # metres, of the point looked at
    track: bool = True  # follow the robot along the floor


@dataclass(frozen=True)
class Task:
    """One row of the table."""

    name: str
    gymnasium_id: str
    robot: Robot
    true_reward: Callable[[Transition], NDArray[np.float64]]
    measure: Callable[[NDArray[np.float64], float], dict[str, float]]  # (T, nq) states, seconds per step
    success: str  # the key of `measure` that says whether it worked, with its unit in the measure's docstring
    playback_fps: int  # steps per second of video (section A); hopper clips are slow motion
    camera: Camera
    instruction: str  # what a person reads (section B.1)
    horizon: int = 1000  # steps; no episode ends earlier
    segment_seconds: float = 1.5  # of video (section 3)
    judge: Callable[[Segment], float] | None = None

    @property
    def segment_steps(self) -> int:
        """Steps in a segment."""
        return round(self.segment_seconds * self.playback_fps)


RIGHT = "Prefer the clip in which the {robot} goes faster to the right. Only decide on events you actually witness."

TASKS: dict[str, Task] = {
    task.name: task
    for task in (
        Task(
            name="hopper",
            gymnasium_id="prefrl/Hopper-v0",
            robot=robots.HOPPER,
            true_reward=true_rewards.hopper,
            measure=measures.distance,
            success="speed",
            playback_fps=40,
            camera=Camera(distance=3.8, elevation=-10.0, height=0.95),
            instruction="Prefer the clip in which the centre of the robot moves further to the right. "
            "If they are about equal, prefer the one in which it stays higher.",
        ),
        Task(
            name="walker",
            gymnasium_id="prefrl/Walker-v0",
            robot=robots.WALKER,
            true_reward=true_rewards.walker,
            measure=measures.distance,
            success="speed",
            playback_fps=30,
            camera=Camera(distance=3.8, elevation=-10.0, height=0.85),
            instruction="Prefer the clip in which the centre of the robot moves further to the right. "
            "If they are about equal, prefer the one in which it stays higher.",
        ),
        Task(
            name="swimmer",
            gymnasium_id="prefrl/Swimmer-v0",
            robot=robots.SWIMMER,
            true_reward=true_rewards.forward,
            measure=measures.distance,
            success="speed",
            playback_fps=40,
            camera=Camera(distance=4.2, elevation=-60.0, height=0.0),
            instruction=RIGHT.format(robot="swimmer"),
        ),
        Task(
            name="cheetah",
            gymnasium_id="prefrl/Cheetah-v0",
            robot=robots.CHEETAH,
            true_reward=true_rewards.forward,
            measure=measures.distance,
            success="speed",
            playback_fps=20,
            camera=Camera(distance=3.4, height=0.55),
            instruction=RIGHT.format(robot="cheetah"),
        ),
        Task(
            name="ant",
            gymnasium_id="prefrl/Ant-v0",
            robot=robots.ANT,
            true_reward=true_rewards.ant,
            measure=measures.distance,
            success="speed",
            playback_fps=20,
            camera=Camera(distance=4.4, elevation=-28.0, height=0.5),
            instruction="First see whether the ant is upright: the one that stays on its feet is better. "
            "If both or neither are, prefer the one that goes faster to the right.",
        ),
        Task(
            name="reacher",
            gymnasium_id="prefrl/Reacher-v0",
            robot=robots.REACHER,
            true_reward=true_rewards.reacher,
            measure=measures.reach,
            success="final_distance",
            playback_fps=10,
            camera=Camera(distance=0.8, elevation=-90.0, height=0.0, track=False),
            instruction="Prefer the clip in which the end of the arm stays close to the dot throughout. "
            "Close at first and far away later is worse than a steady middle distance.",
            horizon=50,
        ),
        Task(
            name="double-pendulum",
            gymnasium_id="prefrl/DoublePendulum-v0",
            robot=robots.DOUBLE_PENDULUM,
            true_reward=true_rewards.double_pendulum,
            measure=measures.tip_up,
            success="upright",
            playback_fps=10,
            camera=Camera(distance=3.6, elevation=-8.0, height=0.1, track=False),
            instruction="Prefer the clip in which the poles point more upwards. "
            "If they are about equal, prefer the cart nearer to the centre.",
        ),
        Task(
            name="pendulum",
            gymnasium_id="prefrl/Pendulum-v0",
            robot=robots.PENDULUM,
            true_reward=true_rewards.pendulum,
            measure=measures.upright,
            success="upright",
            playback_fps=10,
            camera=Camera(distance=2.6, elevation=-8.0, height=0.0, track=False),
            instruction="Prefer the clip in which the pole stands more upright.",
        ),
        Task(
            name="hopper-backflip",
            gymnasium_id="prefrl/HopperBackflip-v0",
            robot=robots.HOPPER,
            true_reward=true_rewards.hopper_backflip,
            measure=measures.backflip,
            success="turns",
            playback_fps=40,
            camera=Camera(distance=3.8, elevation=-10.0, height=0.95),
            instruction="Prefer the clip in which the robot does more of a backflip: it jumps, turns over backwards "
            "(to the left) and lands on its foot. Turning in the air is better than rolling on the floor.",
            segment_seconds=3.0,  # a flip takes 100 to 140 steps, and a judge has to see one whole
            judge=judges.judge_backflip,
        ),
        Task(
            name="cheetah-one-leg",
            gymnasium_id="prefrl/CheetahOneLeg-v0",
            robot=robots.CHEETAH,
            true_reward=true_rewards.cheetah_one_leg,
            measure=measures.one_leg,
            success="one_leg_speed",
            playback_fps=20,
            camera=Camera(distance=3.4, height=0.55),
            instruction="Prefer the clip in which the cheetah goes further to the right on its back leg alone. "
            "Any touch of the floor with the front foot or shin makes a clip worse.",
            judge=judges.judge_one_leg,
        ),
    )
}


def get_task(name: str) -> Task:
    """The task of that name or gymnasium id.

    Raises:
        UserError: there is none.
    """
    for task in TASKS.values():
        if name in (task.name, task.gymnasium_id):
            return task
    raise UserError(f"unknown task {name!r}; `prefrl tasks` lists them, and any gymnasium id works too")


def load_model(task: Task) -> mujoco.MjModel:
    """The task's MuJoCo model."""
    env = task.robot.make()
    model: mujoco.MjModel = env.model
    env.close()
    return model


class TaskEnv(gymnasium.Env[NDArray[np.float64], NDArray[np.float32]]):
    """One task as a single gymnasium environment: gymnasium's own robot, this task's reward, no early end."""

    def __init__(self, task: str, render_mode: str | None = None) -> None:
        self.task = get_task(task)
        self._robot = self.task.robot.make(render_mode=render_mode)
        self.render_mode = render_mode
        self.metadata = self._robot.metadata
        self.observation_space = self._robot.observation_space
        self.action_space = self._robot.action_space

    @property
    def model(self) -> mujoco.MjModel:
        """The MuJoCo model."""
        return self._robot.model

    @property
    def data(self) -> mujoco.MjData:
        """The exact state of the simulation."""
        return self._robot.data

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float64], dict[str, Any]]:
        """Start an episode; see gymnasium.Env.reset."""
        super().reset(seed=seed)
        self._robot.np_random = self.np_random
        observation, _ = self._robot.reset()
        return observation, {}

    def step(
        self, action: NDArray[np.float32]
    ) -> tuple[NDArray[np.float64], SupportsFloat, bool, bool, dict[str, Any]]:
        """Step the robot; the reward is the task's true reward."""
        before = self.data.qpos.copy()
        observation = self._robot.step(action)[0]
        transition = Transition(
            before[None],
            self.data.qpos[None].copy(),
            self.data.qvel[None].copy(),
            observation[None],
            np.asarray(action)[None],
            self._robot.dt,
        )
        return observation, float(self.task.true_reward(transition)[0]), False, False, {}

    def render(self) -> Any:
        """Gymnasium's own rendering."""
        return self._robot.render()

    def close(self) -> None:
        """Free the renderer."""
        self._robot.close()


def register() -> None:
    """Register every task with gymnasium; its plug-in entry point calls this, and so does importing prefrl.tasks."""
    for task in TASKS.values():
        if task.gymnasium_id not in gymnasium.registry:
            gymnasium.register(
                task.gymnasium_id,
                entry_point="prefrl.tasks:TaskEnv",
                vector_entry_point="prefrl.simulation:make_task_vector_env",
                max_episode_steps=task.horizon,
                kwargs={"task": task.name},
            )
