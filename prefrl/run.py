"""One run from start to end: refuse what can't work, begin or go on, and leave all in order however it ends."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from gymnasium.vector import SyncVectorEnv

from prefrl.candidate_films import jpeg
from prefrl.checkpoint import State, checkpoints, load_checkpoint
from prefrl.clips import ClipRenderer
from prefrl.config import TrainConfig
from prefrl.dataset.contents import from_rows
from prefrl.elicitation import replay_state
from prefrl.environments import EnvironmentSpec
from prefrl.errors import NumericalError, UserError
from prefrl.preferences import PreferenceStore, open_existing
from prefrl.progress import Progress
from prefrl.rollouts import RolloutRecorder, state_reader
from prefrl.run_directory import RunDirectory, read_json, written_configuration
from prefrl.run_in_progress import CHECKPOINT_FORMAT, RunInProgress
from prefrl.stopping import Stopped, StopSignals
from prefrl.tasks import load_model
from prefrl.trust import refuse_untrusted, wants_trust

log = logging.getLogger("prefrl")


def train(
    config: TrainConfig,
    on_progress: Callable[[Progress], None] = lambda progress: None,
    on_page: Callable[[str], None] = lambda address: None,
) -> Path:
    """Train as configured and leave everything in the run's folder, which is returned.

    Args:
        config: of the run.
        on_progress: called after every iteration, and now and then while people are waited for.
        on_page: called with the address of the labelling page, once people can open it.

    Raises:
        UserError: the configuration can't work, or the environment misbehaves.
        Stopped: Ctrl-C.
    """
    config = config.resolved()
    spec = config.environment()
    # What cannot be used is refused before it has a folder.
    if spec.task is None:
        play_one_episode(spec)
    if config.feedback == "people" and config.replay is None:
        refuse_without_pictures(spec)
    if config.store:
        PreferenceStore(config.store, task=config.task).close()
    if config.replay is not None:
        with open_existing(config.replay, config.task) as source:
            replay_state(source)
            from_rows(source.rows(), source.task, source.location)
    return _carry_out(config, RunDirectory(config), on_progress, on_page, None)


def play_one_episode(spec: EnvironmentSpec) -> None:
    """Play a random episode of an environment.

    Raises:
        UserError: it cannot be made, ends its episodes early, or shows NaN.
    """
    env = RolloutRecorder(spec.make(1))
    env.action_space.seed(0)
    env.reset(seed=0)
    for _ in range(spec.horizon):
        env.step(env.action_space.sample())
    env.close()


def refuse_without_pictures(spec: EnvironmentSpec) -> None:
    """Refuse an environment that people cannot be shown.

    Raises:
        RenderingUnavailable: there is no off-screen OpenGL here.
        UserError: it has neither MuJoCo states nor a `render` that gives pictures.
    """
    if spec.task is not None:
        ClipRenderer(load_model(spec.task), spec.task.camera, 16, 16).close()
        return
    env = spec.make(1)
    has_states = state_reader(env) is not None
    env.close()
    if has_states:
        return
    try:
        env = spec.make(1, render=True)
        assert isinstance(env, SyncVectorEnv)
        env.reset(seed=0)
        frame = env.envs[0].render()
        env.close()
    except Exception as error:  # whatever a user's environment may raise
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise UserError(f"{spec.name} cannot be shown to people: its render() fails: {reason}") from error
    jpeg(frame)


def resume(
    run_dir: Path,
    steps: int | None = None,
    on_progress: Callable[[Progress], None] = lambda progress: None,
    on_page: Callable[[str], None] = lambda address: None,
    trust: bool = False,
) -> Path:
    """Go on with an interrupted run from its last checkpoint, as if nothing had happened.

    Args:
        run_dir: the run's folder.
        steps: go on to this many environment steps, beyond those it was started with.
        on_progress, on_page: as for `train`.
        trust: import the module and connect to the server that the run's configuration names.

    Raises:
        UserError: the folder holds no run with a checkpoint, another process is running it, or it has nothing to do.
        Stopped: Ctrl-C.
    """
    config = configuration(run_dir, steps, trust)
    directory = RunDirectory(config, resume=True)
    try:
        state, torn = load_checkpoint(run_dir / "checkpoint")
        for line in torn:
            log.warning("%s", line)
        if state.get("format") != CHECKPOINT_FORMAT:
            raise UserError(
                f"{run_dir}/checkpoint is of another version of prefrl; resume it with that one (config.json names it) "
                "or move the folder away and begin anew"
            )
        reached = state["loop"]["agent"]["env_steps"]
        done = read_json(run_dir / "status.json").get("state") == "done"
        if config.steps <= reached and (done or steps is not None):
            raise UserError(f"{run_dir} has come to {reached} steps already; go further with --steps")
    except BaseException:
        directory.release()
        raise
    return _carry_out(config, directory, on_progress, on_page, state)


def configuration(run_dir: Path, steps: int | None = None, trust: bool = False) -> TrainConfig:
    """What a run directory was, or is to be, run with.

    Raises:
        UserError: the folder holds no run, or one that wants more trust.
    """
    config = written_configuration(run_dir)
    refuse_untrusted(run_dir, trust, config.task, config.store)
    return replace(config, run_dir=run_dir, steps=steps or config.steps).resolved()


def _carry_out(
    config: TrainConfig,
    directory: RunDirectory,
    on_progress: Callable[[Progress], None],
    on_page: Callable[[str], None],
    state: State | None,
) -> Path:
    run: RunInProgress | None = None
    stopped = False
    try:
        with StopSignals() as stop:
            run = RunInProgress(config, directory, on_progress, on_page, stop, state)
            try:
                stopped = run.train()
            except KeyboardInterrupt:
                stopped = True
        run.finish("stopped" if stopped else "done", f"stopped at {run.env_steps} steps" if stopped else "")
    except BaseException as error:
        ended = "stopped" if isinstance(error, KeyboardInterrupt) else "failed"
        message = str(error) or type(error).__name__
        if isinstance(error, NumericalError):
            message += f"; {_last_checkpoint(directory.path)}"
        try:
            if run is not None:
                run.close()
                if not isinstance(error, NumericalError):
                    run.save()
            directory.set_status(ended, run.env_steps if run else 0, message)
        except OSError as another:  # as on a full disk, which may be what has ended the run
            log.warning("%s could not be left in order: %s", directory.path, another.strerror or another)
        if isinstance(error, NumericalError):
            raise NumericalError(message) from error
        if isinstance(error, OSError):
            raise UserError(
                f"{directory.path}: {error.strerror or error}; make room or mend it, then prefrl resume it"
            ) from error
        raise
    finally:
        directory.release()
    if stopped:
        trust = " --trust" if wants_trust(directory.path, config.task, config.store) else ""
        further = f"; prefrl resume {directory.path}{trust} goes on" if (directory.path / "checkpoint").exists() else ""
        raise Stopped(f"stopped at {run.env_steps} of {config.steps} steps; saved in {directory.path}{further}")
    return directory.path


def _last_checkpoint(path: Path) -> str:
    last = checkpoints(path / "checkpoint")[-1:]
    return f"the last good checkpoint is of {int(last[0].name)} steps" if last else "there was no checkpoint yet"
