"""A run between its start and its end: what the loop reports goes into the run's folder.

run.py begins one, or goes on with one, and sees to how it ends.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

import numpy as np

from prefrl.alarms import reward_alarms
from prefrl.checkpoint import State, save_checkpoint
from prefrl.clips import RenderingUnavailable
from prefrl.config import TrainConfig
from prefrl.evaluation import Evaluation, evaluate
from prefrl.filming import film
from prefrl.labelling.clip_maker import Shelf, clips_of
from prefrl.labelling.page_server import PageServer
from prefrl.loop import PreferenceLoop, Waiting
from prefrl.metrics import read_metrics
from prefrl.metrics_writer import MetricsWriter
from prefrl.oracles.people import People
from prefrl.preferences import PreferenceStore, open_existing
from prefrl.progress import Progress
from prefrl.run_directory import RunDirectory, write_json
from prefrl.stopping import StopSignals

log = logging.getLogger("prefrl")

MILESTONES = (25, 50, 75)  # per cent of the run: a short evaluation and a video
PEOPLES_MILESTONES = (10, 25, 40, 50, 60, 75, 90)  # people see on the page what comes of their answers
MILESTONE_EPISODES = 4
LOOKS = 25  # in a run, for signs that the policy exploits the predictor
CHECKPOINT_FORMAT = 8  # changes with what PreferenceLoop.state holds, and where a run would go on as another does


class RunInProgress:
    """The loop, with its metrics, milestones, checkpoints and labelling page.

    Args:
        config: of the run, resolved.
        directory: which this process holds.
        on_progress, on_page: as for `run.train`.
        stop: asked after every iteration, and while people are waited for.
        state: the checkpoint to go on from.
    """

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
