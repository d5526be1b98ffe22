"""Run a sweep by both SLURM jobs of experiments/README.md, let their time run out, submit them again, lose a node.

    sudo apt-get install slurmctld slurmd slurm-client munge iproute2
    sudo .venv/bin/python experiments/slurm_jobs.py

SLURM runs on a cluster of two nodes made of this machine: each is a namespace of its own (network, processes, host
name), so that it can be lost at once with all that runs there. The scripts are read from the README, and only their
sizes, paths and the name of the sweep are changed. Then every trial is compared with that of a sweep that nobody
interrupted: metrics, answers and weights, bit for bit. Needs root, to whom its files then belong, and the extra `ray`.
Writes experiments/results/slurm_jobs/slurm_jobs.md and .json; about 15 minutes on two cores.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from common import REPOSITORY, RESULTS, RUNS
from kill_resume import same
from sweep_kills import SWEEP as KILLED
from sweep_kills import event, page, steps_saved

from prefrl.run_directory import describe_here, read_json

SWEEP = replace(KILLED, title="Trials for SLURM", options={**KILLED.options, "steps": 400_000})
FOLDER = RUNS / "slurm_jobs"
PROGRAMS = ("ip", "munged", "nsenter", "sbatch", "slurmctld", "slurmd", "unshare")
NODES = ("node1", "node2")
NETWORK, BRIDGE = "10.77.0", "prefrl-slurm"
SHORT = "00:04:00"  # a job's time: SLURM sends SIGTERM two to three minutes before
CONFIGURATION = """
ClusterName=prefrl
SlurmctldHost=head({network}.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdTimeout=10
ReturnToService=2
{nodes}
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


class Slurm:
    """A SLURM cluster of this machine, a core for each node.

    Args:
        folder: for its state and logs.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._nodes: dict[str, subprocess.Popen[bytes]] = {}
        folder.mkdir(parents=True)
        for name in ("state", *(f"spool-{node}" for node in NODES)):
            (folder / name).mkdir()
        addresses = {node: f"{NETWORK}.{10 + i}" for i, node in enumerate(NODES)}
        lines = [f"NodeName={node} NodeAddr={address} CPUs=1" for node, address in addresses.items()]
        text = CONFIGURATION.format(network=NETWORK, folder=folder, nodes="\n".join(lines))
        os.environ["SLURM_CONF"] = str(folder / "slurm.conf")
        (folder / "slurm.conf").write_text(text)
        hosts = {"localhost": "127.0.0.1", "head": f"{NETWORK}.1", **addresses}
        (folder / "hosts").write_text("".join(f"{address} {name}\n" for name, address in hosts.items()))
        key = folder / "munge.key"
        key.write_bytes(os.urandom(1024))
        key.chmod(0o400)
        with contextlib.ExitStack() as made:
            self._make(addresses, made)
            self._made = made.pop_all()

    def _make(self, addresses: dict[str, str], made: contextlib.ExitStack) -> None:
        """Network, daemons and nodes, each of which `made` is told how to undo."""
        _do("ip", "link", "add", BRIDGE, "type", "bridge")
        made.callback(_do, "ip", "link", "del", BRIDGE)
        _do("ip", "addr", "add", f"{NETWORK}.1/24", "dev", BRIDGE)
        _do("ip", "link", "set", BRIDGE, "up")
        for node, address in addresses.items():
            _do("ip", "netns", "add", node)
            made.callback(_do, "ip", "netns", "del", node)
            _do("ip", "link", "add", f"to-{node}", "type", "veth", "peer", "name", "eth0", "netns", node)
            _do("ip", "link", "set", f"to-{node}", "master", BRIDGE, "up")
            _do("ip", "-n", node, "addr", "add", f"{address}/24", "dev", "eth0")
            _do("ip", "-n", node, "link", "set", "eth0", "up")
            _do("ip", "-n", node, "link", "set", "lo", "up")
        files = [f"--{name}-file={self.folder}/munge.{name}" for name in ("key", "pid", "seed", "log")]
        socket = self.folder / "munge.socket"
        made.callback(_end, self._start("munged", "munged", "--foreground", "--force", f"--socket={socket}", *files))
        _wait_until(socket.exists, "munged listens")
        controller = "hostname head && exec slurmctld -D -c"
        made.callback(_end, self._start("slurmctld", "unshare", "--uts", "sh", "-c", controller))
        made.callback(self._lose_all)
        for node in NODES:
            self.add(node)
        self.wait_for_all()

    def _start(self, name: str, *words: str) -> subprocess.Popen[bytes]:
        with (self.folder / f"{name}.out").open("a") as log:
            return subprocess.Popen(words, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)

    def add(self, node: str) -> None:
        """Start a node."""
        own = ["hostname " + node, f"mount --bind {self.folder}/hosts /etc/hosts", "mount -t tmpfs tmpfs /tmp"]
        own += ["mount -t tmpfs tmpfs /dev/shm", f"exec slurmd -D -N {node}"]
        namespaces = ["nsenter", f"--net=/run/netns/{node}"]
        namespaces += ["unshare", "--uts", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child"]
        self._nodes[node] = self._start(node, *namespaces, "sh", "-c", " && ".join(own))

    def lose(self, node: str) -> None:
        """End everything that runs on a node at once."""
        process = self._nodes.pop(node)
        process.kill()  # and with the first process of a namespace all others of it
        process.wait()

    def _lose_all(self) -> None:
        for node in list(self._nodes):
            self.lose(node)

    def wait_for_all(self) -> None:
        """Until all nodes are idle."""
        _wait_until(lambda: _said("sinfo", "--noheader", "--format=%T").split() == ["idle"], "all nodes are idle")

    def close(self) -> None:
        """Stop it and leave nothing behind but its folder."""
        self._made.close()


class Submitted:
    """The sweep, run by one of the README's scripts.

    Args:
        name: of its folder.
        script: as the README has it.
    """

    def __init__(self, name: str, script: str) -> None:
        self.folder = FOLDER / name
        self.folder.mkdir()
        self.root = self.folder / "trials"
        self.events: list[dict[str, Any]] = []
        changes = {
            r"(--array=1-|--nodes=)\d+": rf"\g<1>{len(NODES)}",
            r"--cpus-per-task=\d+": "--cpus-per-task=1",
            "cd /shared/prefrl": f"cd {REPOSITORY}",
            "prefrl sweep figure2": f"prefrl sweep {__file__} --root {self.root} --out {self.folder / 'results'}",
        }
        for old, new in changes.items():
            script, times = re.subn(old, new, script)
            if times != 1:
                sys.exit(f"{old} is {times} times in the README's script for the {name}; adapt slurm_jobs.py")
        script = script.replace("ray-$SLURM_JOB_ID.log", f"{self.folder}/ray-$SLURM_JOB_ID.log")
        self.script = self.folder / "job.sh"
        self.script.write_text(script)

    def submit(self, *more: str) -> str:
        """Returns the job's id."""
        return _said("sbatch", "--parsable", f"--output={self.folder}/%j.log", *more, str(self.script)).strip()

    def until_it_ends(self, job: str) -> None:
        """Wait until nothing of a job is in the queue."""
        _wait_until(lambda: not _said("squeue", "--noheader", f"--jobs={job}"), f"job {job} has ended", 1800)

    def until_it_works(self, steps: int) -> None:
        """Wait until it has come further than so many steps."""
        _wait_until(lambda: steps_saved(self.root) > steps, "a trial has saved a checkpoint", 300)

    def note(self, what: str) -> None:
        """What was done, at which state of things."""
        self.events.append(event(what, self.root))
        print(f"{self.folder.name}: {self.events[-1]}", flush=True)

    def check_that_it_saved(self) -> None:
        """That of what its time cut short, each trial stopped of its own accord and said so."""
        logs = [path.read_text() for path in self.folder.glob("[0-9]*.log")]
        states = [read_json(path)["state"] for path in self.root.glob("*/status.json")]
        if not logs or not all("the same command continues" in log for log in logs) or "stopped" not in states:
            sys.exit(
                f"SLURM's SIGTERM did not stop the trials in time, which are {', '.join(states)}; see {self.folder}"
            )

    def run(self, slurm: Slurm) -> None:
        """Its time runs out; it is submitted again, loses a node, and goes on without it."""
        self.until_it_ends(self.submit(f"--time={SHORT}"))
        self.check_that_it_saved()
        self.note("stopped two minutes before the end of its time, and submitted again")
        before = steps_saved(self.root)
        job = self.submit()
        self.until_it_works(before)
        slurm.lose(NODES[1])
        self.note(f"{NODES[1]} lost")
        self.until_it_ends(job)
        self.note("the job has ended")
        for log in self.folder.glob("ray-*.log"):
            if log.read_text().count("Ray runtime started.") != len(NODES):
                sys.exit(f"Ray did not start on {len(NODES)} nodes; see {log}")
        slurm.add(NODES[1])
        slurm.wait_for_all()


def scripts() -> dict[str, str]:
    """Those of experiments/README.md."""
    text = (REPOSITORY / "experiments" / "README.md").read_text()
    array, ray = re.findall(r"```bash\n(#!/bin/bash\n#SBATCH.*?)```", text, re.DOTALL)
    return {"array job": array, "Ray": ray}


def main() -> None:
    """Run all three, compare, and write what came of it."""
    if missing := [program for program in PROGRAMS if shutil.which(program) is None]:
        sys.exit(f"{', '.join(missing)} not found; apt-get install slurmctld slurmd slurm-client munge iproute2")
    if os.geteuid() != 0:
        sys.exit("only root can make nodes of namespaces; run it with sudo")
    if Path("/tmp") in REPOSITORY.parents:
        sys.exit(f"{REPOSITORY} is in /tmp, of which each node has its own; work in another folder")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the nodes are cleared away
    shutil.rmtree(FOLDER, ignore_errors=True)
    whole = FOLDER / "uninterrupted"
    words = ["sweep", __file__, "--root", str(whole / "trials"), "--out", str(whole / "results")]
    subprocess.run([sys.executable, "-m", "prefrl", *words], check=True)
    submitted = {name: Submitted(name.replace(" ", "-"), script) for name, script in scripts().items()}
    with contextlib.closing(Slurm(FOLDER / "cluster")) as slurm:
        version = _said("sinfo", "--version").strip()
        for each in submitted.values():
            each.run(slurm)
    result = {
        "identical": {
            name: {trial.id: same(each.root / trial.id, whole / "trials" / trial.id) for trial in SWEEP.trials}
            for name, each in submitted.items()
        },
        "events": {name: each.events for name, each in submitted.items()},
        "commands": {trial.id: " ".join(["prefrl", *trial.arguments(), "--threads", "1"]) for trial in SWEEP.trials},
        "scripts": {name: each.script.read_text().replace(str(REPOSITORY), "…") for name, each in submitted.items()},
        "slurm": version,
        **describe_here(),
    }
    results = RESULTS / "slurm_jobs"
    results.mkdir(exist_ok=True)
    (results / "slurm_jobs.json").write_text(json.dumps(result, indent=1) + "\n")
    title = "A sweep under SLURM, out of time, submitted again, and short of a node"
    introduction = f"""`prefrl sweep` of {len(SWEEP.trials)} trials by the array job and by the Ray job of
experiments/README.md, on {version} with {len(NODES)} nodes of a core each, made of one machine."""
    (results / "slurm_jobs.md").write_text(page(title, introduction, result, "slurm_jobs"))
    print(results / "slurm_jobs.md")
    sys.exit(not all(all(each.values()) for trials in result["identical"].values() for each in trials.values()))


def _do(*words: str) -> None:
    subprocess.run(words, check=True)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(30)
    except subprocess.TimeoutExpired:
        process.kill()


def _said(*words: str) -> str:
    """What a command prints."""
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout


def _wait_until(fulfilled: Callable[[], bool], what: str, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not fulfilled():
        if time.monotonic() > end:
            raise TimeoutError(f"waited {seconds:.0f} s until {what}; see {FOLDER}")
        time.sleep(0.5)


if __name__ == "__main__":
    main()
