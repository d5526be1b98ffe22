"""One run from start to end: the loop, and everything it leaves in its folder."""

from __future__ import annotations

import logging
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium.vector import SyncVectorEnv

from prefrl.alarms import reward_alarms
from prefrl.candidate_films import jpeg
from prefrl.checkpoint import State, checkpoints, load_checkpoint, save_checkpoint
from prefrl.clips import ClipRenderer, RenderingUnavailable
from prefrl.config import TrainConfig, config_from_json
from prefrl.dataset.contents import from_rows
from prefrl.elicitation import replay_state
from prefrl.environments import EnvironmentSpec
from prefrl.errors import NumericalError, UserError
from prefrl.evaluation import Evaluation, evaluate
from prefrl.filming import film
from prefrl.labelling.clip_maker import Shelf, clips_of
from prefrl.labelling.page_server import PageServer
from prefrl.loop import PreferenceLoop, Waiting
from prefrl.metrics import read_metrics
from prefrl.metrics_writer import MetricsWriter
from prefrl.oracles.people import People
from prefrl.preferences import PreferenceStore, open_existing
from prefrl.rollouts import RolloutRecorder, state_reader
from prefrl.run_directory import RunDirectory, read_json, write_json
from prefrl.tasks import load_model
from prefrl.trust import refuse_untrusted, wants_trust

log = logging.getLogger("prefrl")

MILESTONES = (25, 50, 75)  # per cent of the run: a short evaluation and a video
PEOPLES_MILESTONES = (10, 25, 40, 50, 60, 75, 90)  # people see on the page what comes of their answers
MILESTONE_EPISODES = 4
LOOKS = 25  # in a run, for signs that the policy exploits the predictor
CHECKPOINT_FORMAT = 6  # changes with what PreferenceLoop.state holds, and where a run would go on as another does
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@dataclass(frozen=True)
class Progress:
    """What a progress bar shows."""

    env_steps: int
    labels: int
    true_return: float  # of the last episodes that ended; NaN before
    steps_per_second: float
    unanswered: int = 0  # queries whose answers are waited for


class Stopped(Exception):
    """The user pressed Ctrl-C, or the machine wants to stop; what was learnt so far is saved."""


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
                f"{run_dir}/checkpoint is of another version of prefrl; resume it with that one (config.json names it)"
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


def written_configuration(run_dir: Path) -> TrainConfig:
    """RUN/config.json as it stands there; nothing of it is looked up, imported or connected to."""
    return config_from_json(read_json(run_dir / "config.json").get("options", {}), run_dir / "config.json")


def _carry_out(
    config: TrainConfig,
    directory: RunDirectory,
    on_progress: Callable[[Progress], None],
    on_page: Callable[[str], None],
    state: State | None,
) -> Path:
    run: _Run | None = None
    stopped = False
    try:
        with StopSignals() as stop:
            run = _Run(config, directory, on_progress, on_page, stop, state)
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


class StopSignals:
    """SIGINT and SIGTERM ask the run to stop after the iteration; a second one stops it at once."""

    def __init__(self) -> None:
        self.requested = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> StopSignals:
        if threading.current_thread() is threading.main_thread():  # elsewhere Python allows no handlers
            self._before = {number: signal.signal(number, self._on_signal) for number in STOP_SIGNALS}
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _on_signal(self, number: int, frame: object) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True
        log.warning("stopping as soon as all is saved; once more stops at once")


class _Run:
    def __init__(
        self,
        config: TrainConfig,
        directory: RunDirectory,
        on_progress: Callable[[Progress], None],
        on_page: Callable[[str], None],
        stop: StopSignals,
        state: State | None,
    ) -> None:
        self.config, self.directory, self.path = config, directory, directory.path
        self._on_progress, self._stop = on_progress, stop
        self._spec = config.environment()
        reached = state["loop"]["agent"]["env_steps"] if state else 0
        directory.begin(reached)
        self._metrics = MetricsWriter(self.path, reached)
        location = config.store or self.path / "preferences.db"
        open_store = PreferenceStore if state is None else open_existing  # to resume on a new, empty one is a mistake
        self._store = open_store(str(location), config.task) if config.feedback != "none" else None
        if self._store is not None and config.replay is not None and state is None:
            with open_existing(config.replay, config.task) as source:
                self._store.add_rows(source.rows())
        self._page: PageServer | None = None
        if config.feedback == "people" and config.replay is None:
            self._page = PageServer(self.path, str(location), config.people, on_page)
        oracle: People | None = None
        if self._page is not None and self._store is not None:
            oracle = People(Shelf(self._store, clips_of(self._store, self.path / "clips")))
        self._loop = PreferenceLoop(config, self._store, oracle, state=state["loop"] if state else None)
        self._began = time.perf_counter() - (state["seconds"] if state else 0.0)
        milestones = PEOPLES_MILESTONES if self._page is not None else MILESTONES
        self._milestones = [percent for percent in milestones if reached < percent / 100 * config.steps]
        self._last_return = state["last_return"] if state else float("nan")
        self._checkpointed = time.perf_counter()
        self._waited_at: int | None = None  # step at which people are being waited for
        self._alarmed = False

    @property
    def env_steps(self) -> int:
        """Environment steps so far."""
        return self._loop.agent.env_steps

    def train(self) -> bool:
        """Run the loop, noting metrics, milestones and checkpoints; returns whether it was asked to stop early."""
        for report in self._loop.iterations(self._wait):
            self._look_after_page()
            if self._waited_at is not None:
                self._waited_at = None
                self.directory.set_status("running", self.env_steps)
            metrics = {"seconds": time.perf_counter() - self._began, **report.metrics}
            self._metrics.write(report.env_steps, metrics)
            if report.calibration is not None:
                measured = {"env_steps": report.env_steps, **report.calibration.as_json()}
                write_json(self.path / "calibration.json", measured)
            if not np.isnan(metrics["true_return"]):
                self._last_return = metrics["true_return"]
            self._on_progress(
                Progress(report.env_steps, self._loop.labels_answered, self._last_return, metrics["steps_per_second"])
            )
            self._milestone(report.env_steps)
            self._look_for_alarms(report.env_steps)
            last = report.env_steps >= self.config.steps
            since = time.perf_counter() - self._checkpointed
            if last or self._stop.requested or since >= 60 * self.config.checkpoint_minutes:
                self._checkpoint()
            if self._stop.requested and not last:
                return True
        return False

    def _wait(self, report: Waiting) -> None:
        """People are waited for: say so, and be ready to be stopped or killed meanwhile."""
        if report.env_steps != self._waited_at:
            self._waited_at = report.env_steps
            if report.can_save:
                self._checkpoint()
            self.directory.set_status("waiting", report.env_steps, "for people's answers")
        labels = self._loop.labels_asked - report.unanswered
        self._on_progress(Progress(report.env_steps, labels, self._last_return, 0.0, report.unanswered))
        self._look_after_page()
        if self._stop.requested:
            raise KeyboardInterrupt

    def _look_after_page(self) -> None:
        if self._page is not None:
            self._page.look_after()

    def _checkpoint(self) -> None:
        with self._loop.clock.stage("checkpoint"):
            state = {
                "format": CHECKPOINT_FORMAT,
                "loop": self._loop.state(),
                "seconds": time.perf_counter() - self._began,
                "last_return": self._last_return,
            }
            self._metrics.sync()  # the rows up to here are not written again
            save_checkpoint(self.path / "checkpoint", self.env_steps, state)
        self._checkpointed = time.perf_counter()

    def _milestone(self, env_steps: int) -> None:
        reached = [percent for percent in self._milestones if env_steps >= percent / 100 * self.config.steps]
        self._milestones = self._milestones[len(reached) :]
        if reached and self.config.video:
            self._film(self._evaluate(MILESTONE_EPISODES), f"{reached[-1]:03d}", seconds=8)

    def _look_for_alarms(self, env_steps: int) -> None:
        """Now and then, until there is one; the report shows those that stand at the end."""
        before = env_steps - self.config.iteration_steps
        if self._alarmed or env_steps * LOOKS // self.config.steps == before * LOOKS // self.config.steps:
            return
        for alarm in reward_alarms(read_metrics(self.path / "metrics.csv"))[-1:]:
            self._alarmed = True
            log.warning("is the policy exploiting the predictor? %s", alarm.sentence)

    def save(self) -> None:
        """Write the policy and the predictor as they are now."""
        self._loop.agent.save(self.path / "policy.zip")
        if self._loop.ensemble is not None:
            self._loop.ensemble.save(self.path / "predictor.safetensors")

    def finish(self, state: str, message: str) -> None:
        """Save, evaluate, film, report."""
        self.save()
        evaluation = self._evaluate(self.config.evaluation_episodes)
        write_json(self.path / "evaluation.json", evaluation.as_json())
        if self.config.video:
            self._film(evaluation, "final", seconds=25)
        page, self._page = self._page, None
        self.close()
        self.directory.set_status(state, self.env_steps, message)
        if page is not None:
            page.say_goodbye()
        from prefrl.report import build_report  # draws: not for a run that has yet to start

        build_report(self.path, trust=True)

    def close(self) -> None:
        """Close the files and the labelling page, and stop the simulation's threads."""
        if self._page is not None:
            self._page.close()
        self._metrics.close()
        self._loop.close()
        if self._store is not None:
            self._store.close()

    def _evaluate(self, episodes: int) -> Evaluation:
        return evaluate(self._loop.agent, self._spec, episodes, self.env_steps, self.config.threads)

    def _film(self, evaluation: Evaluation, name: str, seconds: float) -> None:
        try:
            film(self._loop.agent, self._spec, evaluation, self.path / "videos" / f"{name}.mp4", seconds)
        except RenderingUnavailable as error:
            log.warning("no video: %s", error)
