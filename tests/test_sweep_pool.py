"""Trials in processes of their own: killed with the sweep, continued, and never run twice at once."""

from __future__ import annotations

import multiprocessing
import os
import re
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from tiny_runs import assert_same
from tiny_sweeps import LONG, OPTIONS, PATIENCE, tiny_trial, uninterrupted, wait_for

from prefrl.checkpoint import checkpoints
from prefrl.run_directory import read_json
from prefrl.sweep import Trial
from prefrl.sweep.live_table import PlainLines
from prefrl.sweep.pool import Pool
from prefrl.sweep.running import Sweeping, Tally
from prefrl.sweep.trial_process import FAILED, STOPPED, Job, TrialProcess, is_running, log_of

pytestmark = pytest.mark.usefixtures("empty_figures")


def reached(directory: Path) -> int:
    """Environment steps of the newest checkpoint."""
    return max((int(path.name) for path in checkpoints(directory / "checkpoint")), default=0)


def sweep(trials: list[Trial], root: Path) -> Tally:
    return Sweeping(trials, root, Pool(1), PlainLines()).run()


def test_a_sweep_killed_twice_and_continued_ends_as_if_nothing_had_happened(tmp_path: Path) -> None:
    """With -9; its trial's process is gone moments later, and the directory free."""
    steps, before = LONG // 2, 0
    trial = tiny_trial(steps=steps)
    directory, log = tmp_path / trial.id, log_of(tmp_path, trial.id)
    for _ in range(2):
        process = multiprocessing.get_context("fork").Process(target=sweep, args=([trial], tmp_path))
        process.start()
        wait_for(lambda before=before: reached(directory) > before, "a checkpoint")  # type: ignore[misc]
        process.kill()
        process.join()
        wait_for(lambda: not is_running(log), "the end of the trial's process")
        before = reached(directory)
        assert before < steps, "the trial was to be killed in the middle"
        assert read_json(directory / "status.json")["state"] == "running"
    assert sweep([trial], tmp_path).done == {trial.id}
    assert f"goes on at {before:,} of" in log.read_text()
    assert log.read_text().count("  begins ") == 1
    assert_same(directory, uninterrupted(trial, tmp_path / "whole"))


def test_a_trial_of_two_sweeps_at_once_runs_once(tmp_path: Path) -> None:
    trial, tallies = tiny_trial(), list[Tally]()
    threads = [threading.Thread(target=lambda: tallies.append(sweep([trial], tmp_path))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    log = log_of(tmp_path, trial.id).read_text()
    assert log.count("  begins ") == 1, log
    assert read_json(tmp_path / trial.id / "status.json")["state"] == "done"
    assert len(tallies) == 2
    assert any(tally.done for tally in tallies)
    assert not any(tally.failed for tally in tallies)


def test_a_trial_that_is_asked_to_stop_saves_a_checkpoint_and_one_that_fails_says_why(tmp_path: Path) -> None:
    long, impossible = tiny_trial(steps=LONG * 100), replace(tiny_trial(), task="probes:probes/EndsEarly-v0")
    stopped, failed = (TrialProcess(Job.of(trial, tmp_path, 1)) for trial in (long, impossible))
    wait_for(lambda: reached(tmp_path / long.id), "a checkpoint")
    stopped.stop()
    assert stopped.exit_code(PATIENCE) == STOPPED
    assert read_json(tmp_path / long.id / "status.json")["state"] == "stopped"
    assert failed.exit_code(PATIENCE) == FAILED
    why = log_of(tmp_path, impossible.id).read_text().splitlines()[-1]
    assert re.search(r"failed: .*EndsEarly.* fix it with --horizon \d+; a sweep spells", why)


def test_ctrl_c_at_a_terminal_reaches_a_trial_once(tmp_path: Path) -> None:
    """As the signal of the process group, which trials are not in: the sweep asks each of them."""
    process = TrialProcess(Job.of(tiny_trial(), tmp_path, 1))
    try:
        assert os.getpgid(process._process.pid) != os.getpgid(0)
    finally:
        process.kill()
    assert process.exit_code(PATIENCE) == -signal.SIGKILL


def test_a_pool_tells_which_jobs_have_ended_and_how(tmp_path: Path) -> None:
    pool = Pool(2)
    pool.start(Job.of(tiny_trial(), tmp_path, 1))
    assert pool.wait(0.1) == []
    pool.kill()
    (ended,) = pool.wait(PATIENCE)
    assert (ended.id, ended.code, ended.killed) == (tiny_trial().id, -signal.SIGKILL, True)
    assert pool.wait(0) == []


def test_an_environment_beside_the_sweeps_file_is_found_from_anywhere(tmp_path: Path) -> None:
    (tmp_path / "lab").mkdir()
    (tmp_path / "lab" / "lonely_probe.py").write_text(
        """import gymnasium, probes
gymnasium.register("lonely/Age-v0", entry_point="probes:Age", max_episode_steps=16)
"""
    )
    options = {**OPTIONS, "feedback": "none", "steps": 512}
    (tmp_path / "lab" / "tiny.py").write_text(
        f"""from prefrl.sweep import Sweep
SWEEP = Sweep("Tiny", ("lonely_probe:lonely/Age-v0",), {{"true reward": {{}}}}, (0,), {options!r})
"""
    )
    done = subprocess.run(
        [sys.executable, "-m", "prefrl", "sweep", tmp_path / "lab" / "tiny.py", "--root", tmp_path / "trials"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
