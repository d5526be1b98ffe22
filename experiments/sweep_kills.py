"""Kill a sweep with -9 twice and continue it, on the pool and on a Ray cluster that also loses a node.

    python experiments/sweep_kills.py

Then every trial is compared with that of a sweep that nobody interrupted: metrics, answers and weights, bit for bit.
Needs the extra `ray`. Writes experiments/results/sweep_kills/sweep_kills.md and .json; about ten minutes on two cores.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro
from common import RESULTS, RUNS, markdown_table
from kill_resume import same

from prefrl.checkpoint import checkpoints
from prefrl.run_directory import describe_here, read_json
from prefrl.sweep import Sweep
from prefrl.sweep.command import quick

SWEEP = Sweep(
    title="Trials to kill",
    tasks=("reacher", "hopper"),
    conditions={"200 answers": {"labels": 200}, "true reward": {"feedback": "none"}},
    seeds=(0, 1),
    options={"steps": 200_000, "video": False, "checkpoint_minutes": 0},
)
KILLS = 2
NODES = 2  # of the Ray cluster, one core each; a third takes the place of the one that is lost


@dataclass(frozen=True)
class Options:
    """What to run."""

    seed: int = 0
    """of the instants of the kills"""
    quick: bool = False
    """tiny trials, to see that everything works; leaves its results in runs/experiments/sweep_kills"""


class Kills:
    """One way to run the sweep, and what was done to it.

    Args:
        name: of its folder.
        options: of the script.
        more: arguments of `prefrl sweep`.
    """

    def __init__(self, name: str, options: Options, *more: str) -> None:
        self.folder = RUNS / "sweep_kills" / name
        self.folder.mkdir(parents=True)
        self.root = self.folder / ("trials-quick" if options.quick else "trials")
        self.instants: list[dict[str, Any]] = []
        self._rng = random.Random(options.seed)
        self._words = [sys.executable, "-m", "prefrl", "sweep", __file__, "--root", str(self.folder / "trials")]
        self._words += ["--out", str(self.folder / "results"), *(["--quick"] if options.quick else []), *more]

    def start(self) -> subprocess.Popen[bytes]:
        """The command, always the same."""
        with (self.folder / "sweep.log").open("a") as log:
            return subprocess.Popen(self._words, stdout=log, stderr=subprocess.STDOUT)

    def finish(self, process: subprocess.Popen[bytes]) -> None:
        """Wait for its end, which is to be a good one."""
        if process.wait() != 0:
            sys.exit(f"the sweep failed; see {self.folder / 'sweep.log'}")

    def wait_for_work(self, process: subprocess.Popen[bytes], since: int) -> None:
        """Until it has come further than `since`, and up to some seconds more."""
        while steps_saved(self.root) <= since and process.poll() is None:
            time.sleep(0.05)
        time.sleep(self._rng.uniform(0, 3))

    def kill_again_and_again(self) -> None:
        """Start it and kill it with -9, so often."""
        for _ in range(KILLS):
            process, before = self.start(), steps_saved(self.root)
            self.wait_for_work(process, before)
            if process.poll() is not None:
                sys.exit(f"the sweep ended before it could be killed; see {self.folder / 'sweep.log'}")
            process.kill()
            process.wait()
            self.note("the sweep killed with SIGKILL")

    def note(self, what: str) -> None:
        """What was done, at which state of things."""
        self.instants.append(event(what, self.root))
        print(f"{self.folder.name}: {self.instants[-1]}", flush=True)


def steps_saved(root: Path) -> int:
    """Environment steps of the newest checkpoints of all trials."""
    found = [checkpoints(path) for path in root.glob("*/checkpoint")]
    return sum(int(each[-1].name) for each in found if each)


def event(what: str, root: Path) -> dict[str, Any]:
    """What was done to the trials, and how far they were."""
    states = [read_json(path)["state"] for path in root.glob("*/status.json")]
    begun, done = len(states), states.count("done")
    return {"what": what, "steps_of_checkpoints": steps_saved(root), "trials_begun": begun, "done": done}


def on_the_pool(options: Options) -> Kills:
    """Killed twice, and continued."""
    kills = Kills("pool", options)
    kills.kill_again_and_again()
    kills.finish(kills.start())
    return kills


def on_ray(options: Options) -> Kills:
    """Killed twice, continued; then one of its nodes is lost."""
    from ray.cluster_utils import Cluster

    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    nodes = [cluster.add_node(num_cpus=1) for _ in range(NODES)]
    try:
        kills = Kills("ray", options, "--engine", "ray", "--address", cluster.address)
        kills.kill_again_and_again()
        process, before = kills.start(), steps_saved(kills.root)
        kills.wait_for_work(process, before)
        cluster.remove_node(nodes[0], allow_graceful=False)
        kills.note(f"one of {NODES} nodes killed")
        cluster.add_node(num_cpus=1)
        kills.finish(process)
    finally:
        cluster.shutdown()
    return kills


def main() -> None:
    """Run all three, compare, and write what came of it."""
    options = tyro.cli(Options, description=__doc__)
    shutil.rmtree(RUNS / "sweep_kills", ignore_errors=True)
    os.environ["PYTHONPATH"] = os.pathsep.join(path for path in (os.environ.get("PYTHONPATH"), *sys.path) if path)
    whole = Kills("uninterrupted", options)
    whole.finish(whole.start())
    trials = {trial.id: trial for trial in (quick(SWEEP) if options.quick else SWEEP).trials}
    killed = {"pool": on_the_pool(options), "Ray": on_ray(options)}
    verdicts = {
        name: {id_: same(kills.root / id_, whole.root / id_) for id_ in trials} for name, kills in killed.items()
    }
    result = {
        "identical": verdicts,
        "events": {name: kills.instants for name, kills in killed.items()},
        "commands": {trial.id: " ".join(["prefrl", *trial.arguments(), "--threads", "1"]) for trial in trials.values()},
        **describe_here(),
    }
    results = RUNS / "sweep_kills" if options.quick else RESULTS / "sweep_kills"
    results.mkdir(parents=True, exist_ok=True)
    (results / "sweep_kills.json").write_text(json.dumps(result, indent=1) + "\n")
    introduction = f"""`prefrl sweep` of {len(trials)} trials, two at a time, killed with SIGKILL {KILLS} times
and continued by the same command: on the pool, and on a Ray cluster of {NODES} nodes that then lost one for good."""
    title = "A sweep killed, continued, and short of a node"
    (results / "sweep_kills.md").write_text(page(title, introduction, result, "sweep_kills"))
    print(results / "sweep_kills.md")
    sys.exit(not all(all(each.values()) for verdict in verdicts.values() for each in verdict.values()))


def page(title: str, introduction: str, result: dict[str, Any], script: str) -> str:
    """Which trials ended the same, and what was done to them before, in Markdown.

    Args:
        title, introduction: of the page.
        result: with "identical" and "events", each by the way the sweep was run.
        script: whose page it is.
    """
    parts = ("metrics", "answers", "weights")
    rows = [
        [name, trial, *("yes" if verdict[part] else "NO" for part in parts)]
        for name, verdicts in result["identical"].items()
        for trial, verdict in verdicts.items()
    ]
    events = [
        [name, each["what"], f"{each['trials_begun']}, {each['done']}", f"{each['steps_of_checkpoints']:,}"]
        for name, instants in result["events"].items()
        for each in instants
    ]
    machine = result["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in result["versions"].items())
    return f"""# {title}

{introduction}
Each trial beside that of a sweep that nobody interrupted, bit for bit:

{markdown_table(["on", "trial", *(f"same {part}" for part in parts)], *rows)}

What was done to it, and how far it was:

{markdown_table(["on", "what", "trials begun, done", "steps saved by then"], *events)}

Metrics are compared without timings; answers with the segments they are about; weights of the policy and the predictor.
Machine: {machine["system"]} {machine["machine"]}, {machine["cores"]} cores. Versions: {versions}. Revision
{result["git_revision"]}. Date {result["started_at"][:10]}. Every trial's command: {script}.json.
"""


if __name__ == "__main__":
    main()
