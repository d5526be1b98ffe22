"""The same trials on a Ray cluster of two nodes, all on this machine; one of them is lost in the middle."""

from __future__ import annotations

import os
import re
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
from test_sweep_pool import reached
from tiny_runs import assert_same
from tiny_sweeps import LONG, PATIENCE, tiny_trial, uninterrupted, wait_for

ray = pytest.importorskip("ray", reason="Ray is not installed; make setup brings it")

from ray.cluster_utils import Cluster  # noqa: E402

from prefrl.errors import UserError  # noqa: E402
from prefrl.stopping import Stopped  # noqa: E402
from prefrl.sweep import Trial, ray_engine  # noqa: E402
from prefrl.sweep.live_table import PlainLines  # noqa: E402
from prefrl.sweep.ray_engine import RayEngine, TrialActor  # noqa: E402
from prefrl.sweep.running import Sweeping, Tally  # noqa: E402
from prefrl.sweep.trial_process import STOPPED, Job, log_of  # noqa: E402

pytestmark = pytest.mark.usefixtures("empty_figures")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Its head runs no trials; each test adds the nodes it needs, as tests may be run apart from each other."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_worker_niceness", "0")  # by default 15: beside other tests its trials would hardly move
        paths = [*sys.path, os.environ.get("PYTHONPATH", "")]  # the nodes import prefrl from where the tests do
        patch.setenv("PYTHONPATH", os.pathsep.join(path for path in paths if path))
        made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
        RayEngine(made.address)  # connects this process by the head, which is there to stay
        yield made
        ray.shutdown()
        made.shutdown()


def test_a_trial_whose_node_is_lost_goes_on_on_another_to_the_same_end(
    cluster: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trial, tallies = tiny_trial(steps=LONG), list[Tally]()
    lost = cluster.add_node(num_cpus=1)
    engine = RayEngine(cluster.address)
    assert engine.slots == 1
    sweeping = threading.Thread(
        target=lambda: tallies.append(Sweeping([trial], tmp_path, engine, PlainLines()).run()), daemon=True
    )
    sweeping.start()
    wait_for(lambda: reached(tmp_path / trial.id), "a checkpoint")
    cluster.remove_node(lost, allow_graceful=False)
    assert reached(tmp_path / trial.id) < LONG, "it was to be lost in the middle"
    another = cluster.add_node(num_cpus=1)
    sweeping.join(PATIENCE)
    cluster.remove_node(another)
    assert [tally.done for tally in tallies] == [{trial.id}]
    assert re.search(r"killed .* lost with its node or actor \(.*\); again .* retry 1 of 2", capsys.readouterr().out)
    log = log_of(tmp_path, trial.id).read_text()
    assert log.count("  begins ") == log.count("  goes on at ") == 1, log
    assert_same(tmp_path / trial.id, uninterrupted(trial, tmp_path / "whole"))


def test_a_sweep_on_a_cluster_that_is_asked_to_stop_saves_its_trials(
    cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_engine, "ANSWER_SECONDS", PATIENCE)
    trial, node = tiny_trial(steps=100 * LONG), cluster.add_node(num_cpus=1)

    def stop() -> None:
        try:
            wait_for(lambda: reached(tmp_path / trial.id), "a checkpoint")
        finally:  # else the sweep below would go on for ever
            os.kill(os.getpid(), signal.SIGTERM)

    stopping = threading.Thread(target=stop)
    stopping.start()
    with pytest.raises(Stopped, match="the same command continues"):
        Sweeping([trial], tmp_path, RayEngine(cluster.address), PlainLines()).run()
    stopping.join(PATIENCE)
    cluster.remove_node(node)
    assert re.search(r"stopped at \d+ of \d+ steps; saved in", log_of(tmp_path, trial.id).read_text())


class StoppedAtOnce(PlainLines):
    """Somebody asks the sweep to stop as soon as it says that a trial was started."""

    def say(self, event: str, trial: Trial, text: str) -> None:
        super().say(event, trial, text)
        if event == "started":
            os.kill(os.getpid(), signal.SIGTERM)


def test_a_sweep_that_waits_for_room_in_the_cluster_can_be_stopped(
    cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_engine, "ANSWER_SECONDS", 1.0)
    engine = RayEngine(cluster.address, resources=("unheard_of=1",))
    with pytest.raises(Stopped, match="1 of 1 trial to go"):
        Sweeping([tiny_trial()], tmp_path, engine, StoppedAtOnce()).run()
    assert not any(tmp_path.iterdir()), "nothing ran"


class Unloadable:
    """What an actor is on a node that lacks a module."""

    def __init__(self) -> None:
        raise ModuleNotFoundError("No module named 'mujoco'")

    def run(self, job: Job) -> int:
        raise AssertionError(job.id)


def test_a_node_that_cannot_load_the_actor_fails_the_trial_and_says_why(
    cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_engine, "TrialActor", Unloadable)
    trial, node = tiny_trial(), cluster.add_node(num_cpus=1)
    tally = Sweeping([trial], tmp_path, RayEngine(cluster.address), PlainLines()).run()
    cluster.remove_node(node)
    assert list(tally.failed) == [trial.id], "not tried again: the next attempt would meet the same"
    assert tally.failed[trial.id] == "cannot be run there: ModuleNotFoundError: No module named 'mujoco'"


class Process:
    """A trial's process that runs until it is asked to stop."""

    made: ClassVar[list[Job]] = []

    def __init__(self, job: Job) -> None:
        self.made.append(job)
        self._asked = threading.Event()

    def exit_code(self, seconds: float) -> int | None:
        return STOPPED if self._asked.wait(seconds) else None

    def stop(self) -> None:
        self._asked.set()


@pytest.mark.parametrize("started", [False, True])
def test_an_actor_can_be_asked_to_stop_before_its_trial_began_and_while_it_runs(
    started: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_engine, "TrialProcess", Process)
    monkeypatch.setattr(Process, "made", [])
    actor, job, codes = TrialActor(), Job.of(tiny_trial(), tmp_path, threads=1), list[int]()
    running = threading.Thread(target=lambda: codes.append(actor.run(job)), daemon=True)
    if started:
        running.start()
        wait_for(lambda: Process.made, "the process")
        actor.stop()
    else:
        actor.stop()
        running.start()
    running.join(PATIENCE)
    assert codes == [STOPPED]
    assert Process.made == ([job] if started else [])


def test_a_cluster_has_room_by_cores_and_by_named_resources(cluster: Any) -> None:
    node = cluster.add_node(num_cpus=7, resources={"scratch": 3})
    wait_for(lambda: ray.cluster_resources().get("scratch"), "the node")
    cores = int(ray.cluster_resources()["CPU"])
    assert RayEngine(cluster.address).slots == cores
    assert RayEngine(cluster.address, threads=2).slots == cores // 2
    assert RayEngine(cluster.address, workers=1).slots == 1
    assert RayEngine(cluster.address, resources=("scratch=1.5",)).slots == 2
    with pytest.raises(UserError, match="--resources scratch; give NAME=AMOUNT"):
        RayEngine(cluster.address, resources=("scratch",))
    for amount in ("0", "-1", "inf", "nan", "1e-9"):
        with pytest.raises(UserError, match=f"--resources scratch={amount}; give a finite amount of 0.0001 or more"):
            RayEngine(cluster.address, resources=(f"scratch={amount}",))
    for name in ("CPU", ""):
        with pytest.raises(UserError, match=f"--resources {name}=1; '{name}' is no custom resource; --threads gives"):
            RayEngine(cluster.address, resources=(f"{name}=1",))
    cluster.remove_node(node)
