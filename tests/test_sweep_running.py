"""A sweep's trials: which are started, what becomes of each, and what is said of it. The engine is a scripted one."""

from __future__ import annotations

import fcntl
import io
import os
import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console
from tiny_runs import Killed, assert_same, killed_at
from tiny_sweeps import OPTIONS, Scripted, pretend, tiny_sweep, tiny_trial, uninterrupted

from prefrl import run
from prefrl.errors import UserError
from prefrl.stopping import Stopped
from prefrl.sweep import Trial
from prefrl.sweep.live_table import LiveTable, PlainLines, Snapshot, makespan
from prefrl.sweep.running import Sweeping, Tally
from prefrl.sweep.trial_process import BUSY, DONE, FAILED, STOPPED, Job, carry_out, log_of
from prefrl.sweep.trial_state import state_of

pytestmark = pytest.mark.usefixtures("empty_figures")


def sweep(trials: list[Trial], root: Path, engine: Scripted, retries: int = 2) -> Tally:
    return Sweeping(trials, root, engine, PlainLines(), retries=retries).run()


@contextmanager
def held(trial: Trial, root: Path) -> Iterator[None]:
    """As if another process ran it."""
    root.mkdir(exist_ok=True)
    with log_of(root, trial.id).open("a") as log:
        fcntl.flock(log, fcntl.LOCK_EX)
        yield


# Which are started.


def test_done_trials_are_left_and_the_others_run(tmp_path: Path) -> None:
    done, unfinished, new = (tiny_trial(seed) for seed in range(3))
    pretend(done, tmp_path)
    pretend(unfinished, tmp_path, "failed")
    engine = Scripted()
    tally = sweep([done, unfinished, new], tmp_path, engine)
    assert engine.started == [unfinished.id, new.id]
    assert tally.done == {done.id, unfinished.id, new.id}
    assert not tally.unfinished()


def test_a_sweep_that_is_done_starts_nothing(tmp_path: Path) -> None:
    pretend(tiny_trial(), tmp_path)
    engine = Scripted()
    assert sweep([tiny_trial()], tmp_path, engine).done == {tiny_trial().id}
    assert engine.started == []


def test_trials_that_are_one_run_run_once(tmp_path: Path) -> None:
    engine = Scripted()
    sweep([tiny_trial(), Trial("reacher", "by another name", 0, OPTIONS)], tmp_path, engine)
    assert engine.started == [tiny_trial().id]


def test_no_more_run_side_by_side_than_there_is_room_for(tmp_path: Path) -> None:
    most = 0

    class Watched(Scripted):
        def start(self, job: Job) -> None:
            nonlocal most
            super().start(job)
            most = max(most, len(self._running))

    sweep([tiny_trial(seed) for seed in range(5)], tmp_path, Watched(slots=3))
    assert most == 3


@pytest.mark.parametrize("state", ["done", "failed"])
def test_a_directory_of_other_options_is_refused_before_anything_runs(tmp_path: Path, state: str) -> None:
    new, trial = tiny_trial(0), tiny_trial(1)
    directory = pretend(trial, tmp_path, state)
    config = (directory / "config.json").read_text()
    (directory / "config.json").write_text(config.replace('"gamma": 0.995', '"gamma": 0.9'))
    engine = Scripted()
    with pytest.raises(
        UserError, match=rf"{trial.id} was made with ppo.gamma 0.9, not 0.995; move it away to run"
    ) as e:
        sweep([new, trial], tmp_path, engine)
    assert "\n" not in str(e.value)
    assert engine.started == []


def test_options_that_an_older_version_did_not_write_are_no_difference(tmp_path: Path) -> None:
    directory = pretend(tiny_trial(), tmp_path)
    config = (directory / "config.json").read_text()
    (directory / "config.json").write_text(config.replace('"gamma": 0.995, ', ""))
    assert "gamma" not in (directory / "config.json").read_text()
    assert state_of(tiny_trial(), tmp_path).state == "done"


# What becomes of each.


def test_a_killed_trial_is_started_again_so_often_and_no_oftener(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lucky, unlucky = tiny_trial(0), tiny_trial(1)
    engine = Scripted({lucky.id: [-9, -11], unlucky.id: [-9, -9, -9, DONE]})
    tally = sweep([lucky, unlucky], tmp_path, engine)
    assert engine.started.count(lucky.id) == engine.started.count(unlucky.id) == 3
    assert tally.done == {lucky.id}
    assert tally.failed[unlucky.id] == "killed by SIGKILL"
    said = capsys.readouterr().out
    assert re.search(r"killed +reacher, 40 answers, seed 0  \d+ s: killed by SIGSEGV; .*, retry 2 of 2", said)


def test_a_trial_that_fails_is_not_tried_again_and_the_others_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad, good = tiny_trial(0), tiny_trial(1)
    log_of(tmp_path, bad.id).write_text("2026-01-01 00:00:00  begins\n2026-01-01 00:01:00  failed: the reward is nan\n")
    engine = Scripted({bad.id: [FAILED]})
    tally = sweep([bad, good], tmp_path, engine)
    assert engine.started == [bad.id, good.id]
    assert tally.done == {good.id}
    assert tally.failed == {bad.id: f"the reward is nan; log: {tmp_path / bad.id}.log"}
    assert "failed     reacher, 40 answers, seed 0" in capsys.readouterr().out


def test_a_trial_that_another_process_runs_is_left_to_it_and_named(tmp_path: Path) -> None:
    theirs, ours = tiny_trial(0), tiny_trial(1)
    directory = pretend(theirs, tmp_path, "running")
    (directory / "lock").write_text("process 12 on node-3\n")
    engine = Scripted()
    with held(theirs, tmp_path):
        tally = sweep([theirs, ours], tmp_path, engine)
    assert engine.started == [ours.id]
    assert tally.elsewhere == {theirs.id: "process 12 on node-3 is running it"}


def test_what_another_process_finishes_meanwhile_is_done(tmp_path: Path) -> None:
    theirs, ours = tiny_trial(0), tiny_trial(1)

    class Meanwhile(Scripted):
        def start(self, job: Job) -> None:
            super().start(job)
            pretend(theirs, tmp_path)

    engine = Meanwhile()
    with held(theirs, tmp_path):
        tally = sweep([theirs, ours], tmp_path, engine)
    assert engine.started == [ours.id]
    assert tally.done == {theirs.id, ours.id}


def test_what_a_lost_process_still_holds_is_waited_for_and_then_run(tmp_path: Path) -> None:
    """It is free by the third look."""
    trial, looks = tiny_trial(), 0
    with held(trial, tmp_path):

        class Released(Scripted):
            lock_seconds = 60.0

            def wait(self, seconds: float) -> list[object]:  # type: ignore[override]
                nonlocal looks
                looks += 1
                if looks == 3:
                    os.rename(log_of(tmp_path, trial.id), tmp_path / "released")
                return super().wait(0)  # type: ignore[return-value]

        engine = Released()
        assert sweep([trial], tmp_path, engine).done == {trial.id}
    assert looks > 3


def test_who_comes_too_late_by_a_moment_leaves_the_trial_to_the_other(tmp_path: Path) -> None:
    engine = Scripted({tiny_trial().id: [BUSY]})
    tally = sweep([tiny_trial()], tmp_path, engine)
    assert engine.started == [tiny_trial().id]
    assert list(tally.elsewhere) == [tiny_trial().id]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_asks_the_running_trials_to_stop_and_starts_no_more(
    tmp_path: Path, number: signal.Signals, capsys: pytest.CaptureFixture[str]
) -> None:
    class Interrupted(Scripted):
        def wait(self, seconds: float) -> list[object]:  # type: ignore[override]
            if not self.stopped:
                os.kill(os.getpid(), number)
                return []
            return super().wait(seconds)  # type: ignore[return-value]

    trials = [tiny_trial(seed) for seed in range(4)]
    engine = Interrupted({trial.id: [STOPPED] for trial in trials})
    with pytest.raises(Stopped, match="stopped with 4 of 4 trials to go; the same command continues"):
        sweep(trials, tmp_path, engine)
    assert engine.stopped
    assert engine.started == [trials[0].id, trials[1].id]
    assert not engine.killed
    assert capsys.readouterr().out.count("stopped") == 2


# In a trial's process.


def job(trial: Trial, root: Path) -> Job:
    root.mkdir(exist_ok=True)
    return Job.of(trial, root, threads=1)


def test_a_trial_with_a_checkpoint_is_resumed_to_the_same_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trial = tiny_trial()
    with monkeypatch.context() as patch:
        patch.setattr("prefrl.sweep.trial_process.PlainProgress.update", lambda _, progress: killed_at(1280)(progress))
        with pytest.raises(Killed):
            carry_out(job(trial, tmp_path))
    assert (state_of(trial, tmp_path).state, state_of(trial, tmp_path).env_steps) == ("unfinished", 1024)
    with monkeypatch.context() as patch:
        patch.setattr(run, "train", lambda *_: pytest.fail("was begun again"))
        assert carry_out(job(trial, tmp_path)) == DONE
    assert_same(tmp_path / trial.id, uninterrupted(trial, tmp_path / "whole"))
    assert state_of(trial, tmp_path).state == "done"


def test_a_directory_without_a_checkpoint_is_moved_aside_and_the_trial_begins_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trial, begun = tiny_trial(), []
    monkeypatch.setattr(run, "train", lambda config, _: begun.append((config.run_dir, config.threads)))
    for name in ("torn", "torn again"):
        pretend(trial, tmp_path, "running")
        (tmp_path / trial.id / name).touch()
        assert carry_out(job(trial, tmp_path)) == DONE
    assert begun == [(tmp_path / trial.id, 1)] * 2
    assert (tmp_path / f"{trial.id}.failed-1" / "torn").exists()
    assert (tmp_path / f"{trial.id}.failed-2" / "torn again").exists()


def test_a_trial_that_is_held_is_neither_moved_nor_begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "train", lambda *_: pytest.fail("was begun"))
    monkeypatch.setattr("prefrl.sweep.trial_process.LOCK_SECONDS", 0.1)
    trial = tiny_trial()
    pretend(trial, tmp_path, "running")
    with held(trial, tmp_path):
        assert carry_out(job(trial, tmp_path)) == BUSY
    assert (tmp_path / trial.id / "status.json").exists()


def test_a_trial_that_was_finished_since_is_not_touched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "train", lambda *_: pytest.fail("was begun"))
    pretend(tiny_trial(), tmp_path)
    assert carry_out(job(tiny_trial(), tmp_path)) == DONE


# What is shown.


def test_the_live_table_fits_80_columns_and_says_how_far_each_trial_is(tmp_path: Path) -> None:
    sweep_ = tiny_sweep(
        tasks=("double-pendulum",),
        conditions={"no online queries, 1400 answers": {}},
        seeds=(123,),
        baseline=None,
        options={"steps": 20_000_000},
    )
    (trial,) = sweep_.trials
    directory = pretend(trial, tmp_path, "running")
    (directory / "metrics.csv").write_text(
        "env_steps,seconds,steps_per_second,true_return\n2500000,500,5000,-123.456\n5000000,1000,4321.09,\n600"
    )
    out = io.StringIO()
    table = LiveTable(Console(file=out, width=80, force_terminal=True, color_system=None))
    snapshot = Snapshot(tmp_path, [(trial, 0.0)], [trial] * 3, done=7, failed=1, slots=2)
    with table:
        table.show(snapshot)
        table.say("failed", trial, "because")
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", out.getvalue())
    rows = text.replace("\r", "\n").splitlines()
    assert max(len(row) for row in rows if "because" not in row) <= 80
    (row,) = {row.strip() for row in rows if row.strip().startswith("double-pendulum") and "123" in row}
    assert row.endswith("25 %    4,321  -123.5  50:00")
    # A quarter in 1,000 s: 3,000 s for the rest, 4,000 s for each of three others; the second worker takes two of them.
    assert "7 done, 1 running, 3 waiting, 1 failed; 2:13:20 left" in text


@pytest.mark.parametrize("condition", ["700 [judge]", "x [/y]"])
def test_the_live_table_shows_a_conditions_name_as_it_is(tmp_path: Path, condition: str) -> None:
    trial, out = replace(tiny_trial(), condition=condition), io.StringIO()
    with LiveTable(Console(file=out, width=80, force_terminal=True, color_system=None)) as table:
        table.show(Snapshot(tmp_path, [(trial, 0.0)], [], done=0, failed=0, slots=1))
        table.say("failed", trial, "because")
    assert re.search(rf"reacher +{re.escape(condition)} +0 ", out.getvalue())
    assert f"reacher, {condition}, seed 0  because" in out.getvalue()


@pytest.mark.parametrize(
    ("seconds", "workers", "expected"),
    [([5, 5, 5], 1, 15), ([5, 5, 5], 2, 10), ([5, 1, 1, 1], 2, 5), ([1, 1, 8], 2, 9), ([], 3, 0), ([4], 8, 4)],
)
def test_time_left_is_that_of_workers_who_take_the_next_trial_when_free(
    seconds: list[float], workers: int, expected: float
) -> None:
    assert makespan(seconds, workers) == expected
