"""Run the trials of a sweep that are not done, on whatever engine, and say what came of each."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from prefrl.stopping import Stopped, StopSignals
from prefrl.sweep.definition import Trial
from prefrl.sweep.engines import Ended, Engine, signal_name
from prefrl.sweep.live_table import Snapshot, View, counted
from prefrl.sweep.trial_process import BUSY, DONE, STOPPED, Job, is_running, log_of
from prefrl.sweep.trial_state import is_done, state_of

WAIT_SECONDS = 0.5  # between looks at what runs


@dataclass
class Tally:
    """What has come of the trials so far, by id."""

    done: set[str] = field(default_factory=set)
    failed: dict[str, str] = field(default_factory=dict)  # why, and where the log is
    elsewhere: dict[str, str] = field(default_factory=dict)  # who is running it

    def unfinished(self) -> dict[str, str]:
        """Why a trial is not done."""
        return {**self.failed, **self.elsewhere}


class Sweeping:
    """The trials that are not done, on their way.

    Args:
        trials: of which equal ones are one.
        root: where each has its run directory, by its id.
        engine: to run them.
        view: to show what happens.
        threads: cores for each.
        retries: how often a trial is started again whose process was killed or whose machine was lost.

    Raises:
        UserError: a run directory was made with other options than its trial's.
    """

    def __init__(
        self, trials: Sequence[Trial], root: Path, engine: Engine, view: View, threads: int = 1, retries: int = 2
    ) -> None:
        self._trials = {trial.id: trial for trial in trials}
        self._root, self._engine, self._view = root, engine, view
        self._threads, self._retries = threads, retries
        states = {id_: state_of(trial, root) for id_, trial in self._trials.items()}
        self.tally = Tally(done={id_ for id_, state in states.items() if state.state == "done"})
        self._waiting = [id_ for id_ in self._trials if id_ not in self.tally.done]
        self._running: dict[str, float] = {}  # when it was started
        self._killed: dict[str, int] = {}  # how often
        self._all_held_since: float | None = None

    def run(self) -> Tally:
        """Run until all are done, have failed, or are in other processes' hands.

        Raises:
            Stopped: Ctrl-C or SIGTERM; the trials that ran have saved their checkpoints.
        """
        stopping = False
        try:
            with StopSignals() as stop:
                while self._running or (not stop.requested and self._start_what_can()):
                    if stop.requested and not stopping:
                        stopping = True
                        self._engine.stop()
                    for ended in self._engine.wait(WAIT_SECONDS):
                        self._note(ended, stopping)
                    if not stop.requested:
                        self._start_what_can()
                    self._view.show(self.snapshot())
        except BaseException:
            self._engine.kill()
            raise
        if stop.requested:
            left = len(self._trials) - len(self.tally.done)
            raise Stopped(f"stopped with {left} of {counted(len(self._trials))} to go; the same command continues")
        for id_ in [*self._waiting, *self.tally.elsewhere]:  # in other processes' hands to the last
            if is_done(self._root / id_):
                self.tally.done.add(id_)
                self.tally.elsewhere.pop(id_, None)
            else:
                self.tally.elsewhere.setdefault(id_, self._who_runs(id_))
        return self.tally

    def snapshot(self) -> Snapshot:
        """For the view."""
        return Snapshot(
            root=self._root,
            running=[(self._trials[id_], began) for id_, began in self._running.items()],
            waiting=[self._trials[id_] for id_ in self._waiting],
            done=len(self.tally.done),
            failed=len(self.tally.failed),
            slots=self._engine.slots,
        )

    def _start_what_can(self) -> bool:
        """Fill the free slots; returns whether there is still something to wait for."""
        while self._waiting and len(self._running) < self._engine.slots:
            free = next((id_ for id_ in self._waiting if not is_running(log_of(self._root, id_))), None)
            if free is None:
                break
            self._waiting.remove(free)
            if is_done(self._root / free):  # since, by another command
                self.tally.done.add(free)
                self._view.say("done", self._trials[free], "by another process")
                continue
            self._engine.start(Job.of(self._trials[free], self._root, self._threads))
            self._running[free] = time.monotonic()
            self._view.say("started", self._trials[free], "")
        if self._running or not self._waiting:
            self._all_held_since = None
            return bool(self._running)
        # Nothing runs here, and other processes hold all that waits. They may be those of a command that was killed,
        # or of a machine that was lost, and about to be gone.
        self._all_held_since = self._all_held_since or time.monotonic()
        return time.monotonic() - self._all_held_since < self._engine.lock_seconds

    def _note(self, ended: Ended, stopping: bool) -> None:
        trial, seconds = self._trials[ended.id], time.monotonic() - self._running.pop(ended.id)
        took = f"{seconds:.0f} s"
        if ended.code == DONE:
            self.tally.done.add(ended.id)
            self._view.say("done", trial, took)
        elif stopping or ended.code == STOPPED:
            self._view.say("stopped", trial, took)
            if not stopping:
                self.tally.failed[ended.id] = "was asked to stop by somebody else; the same command continues"
        elif ended.code == BUSY:
            self.tally.elsewhere[ended.id] = self._who_runs(ended.id)
            self._view.say("elsewhere", trial, self.tally.elsewhere[ended.id])
        elif ended.killed and self._killed.get(ended.id, 0) < self._retries:
            self._killed[ended.id] = self._killed.get(ended.id, 0) + 1
            self._waiting.insert(0, ended.id)
            again = f"again from its checkpoint, retry {self._killed[ended.id]} of {self._retries}"
            self._view.say("killed", trial, f"{took}: {self._why(ended)}; {again}")
        else:
            log = log_of(self._root, ended.id)
            self.tally.failed[ended.id] = self._why(ended) + f"; log: {log}" * log.exists()
            self._view.say("failed", trial, f"{took}: {self.tally.failed[ended.id]}")

    def _why(self, ended: Ended) -> str:
        if ended.reason:
            return ended.reason
        if ended.killed:
            return f"killed by {signal_name(ended.code)}"
        log = log_of(self._root, ended.id)
        lines = log.read_text(errors="replace").splitlines() if log.exists() else []
        return lines[-1].partition("failed: ")[2] or lines[-1] if lines else f"exit code {ended.code}, no output"

    def _who_runs(self, id_: str) -> str:
        try:
            owner = (self._root / id_ / "lock").read_text().strip()
        except OSError:
            owner = ""
        return f"{owner or 'another process'} is running it"
