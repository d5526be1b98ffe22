"""A policy's episode as a video: from stored states, or by the environment's own `render`."""

from __future__ import annotations

from pathlib import Path

import gymnasium
import numpy as np

from prefrl.clips import ClipRenderer, RenderingUnavailable, annotate, write_video
from prefrl.environments import EnvironmentSpec
from prefrl.evaluation import EVALUATION_SEED, Evaluation, Policy
from prefrl.measures import backward_revolutions
from prefrl.tasks import load_model


def film(policy: Policy, spec: EnvironmentSpec, evaluation: Evaluation, path: Path, seconds: float) -> Path:
    """Render the first evaluated episode, at most `seconds` of video.

    Raises:
        RenderingUnavailable: no off-screen rendering here, or the environment has none.
    """
    if spec.task is None or evaluation.qpos is None:
        return _film_by_rendering(policy, spec, path, seconds)
    task, qpos = spec.task, evaluation.qpos[0]
    # Every second step at the clip's rate: twice the speed a labeller sees, so that an episode fits.
    stride = 2 if len(qpos) > 100 else 1
    qpos = qpos[::stride][: int(seconds * task.playback_fps)]
    dt = _seconds_per_step(spec)
    with ClipRenderer(load_model(task), task.camera, width=480, height=360) as renderer:
        captions = [_caption(task.name, qpos[: i + 1], i * stride * dt) for i in range(len(qpos))]
        return Path(write_video(path, annotate(renderer.iter_frames(qpos), captions), task.playback_fps))


def _seconds_per_step(spec: EnvironmentSpec) -> float:
    assert spec.task is not None
    env = spec.task.robot.make()
    dt = float(env.dt)
    env.close()
    return dt


def _caption(task: str, qpos: np.ndarray, seconds: float) -> str:
    caption = f"{seconds:4.1f} s"
    if task == "hopper-backflip":
        turned = backward_revolutions(qpos)
        caption += f"   turns {int(np.floor((turned - turned[0]).max()))}"
    return caption


def _film_by_rendering(policy: Policy, spec: EnvironmentSpec, path: Path, seconds: float) -> Path:
    """Film an environment of the user's through its own `render`."""
    try:
        frames, fps = _rendered_episode(policy, spec, seconds)
    except Exception as error:  # whatever a user's renderer may raise: no video is worth a run
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise RenderingUnavailable(f"{spec.name} cannot render: {reason}") from error
    return Path(write_video(path, frames, fps))


def _rendered_episode(policy: Policy, spec: EnvironmentSpec, seconds: float) -> tuple[list[np.ndarray], float]:
    """Frames of one episode, at most `seconds` of them, and their rate."""
    env = gymnasium.make(spec.name, render_mode="rgb_array", max_episode_steps=spec.horizon)
    fps = env.metadata.get("render_fps", 30)
    observation, _ = env.reset(seed=EVALUATION_SEED)
    frames = []
    for _ in range(int(min(seconds * fps, spec.horizon))):
        frames.append(np.asarray(env.render()))
        action = policy.act(np.asarray(observation)[None])[0]
        observation, _, terminated, truncated, _ = env.step(action)
        if terminated or truncated:
            break
    env.close()
    return frames, fps
