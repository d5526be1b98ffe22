"""What the pool makes of two cores: two trials side by side against the same two one after the other.

    python experiments/pool_efficiency.py

Wants an idle machine with two cores or more. Writes experiments/results/pool_efficiency/pool_efficiency.md and .json;
about ten minutes.
"""

from __future__ import annotations

import json
import shutil
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import tyro
from common import RESULTS, RUNS, markdown_table

from prefrl.config import Count
from prefrl.run_directory import describe_here
from prefrl.sweep import Sweep, Trial
from prefrl.sweep.command import quick
from prefrl.sweep.live_table import PlainLines
from prefrl.sweep.pool import Pool
from prefrl.sweep.running import Sweeping
from prefrl.threads import available_cores

SWEEP = Sweep(
    title="Two trials to time",
    tasks=("hopper",),
    conditions={"140 answers": {"labels": 140}},
    seeds=(0, 1),
    options={"steps": 400_000, "video": False},
)
WANTED = 1.6  # times the throughput
WAYS = {"one after the other": 1, "side by side": 2}  # workers


@dataclass(frozen=True)
class Options:
    """What to run."""

    rounds: Count = 3
    """times that both ways are measured, in turn; medians are reported"""
    quick: bool = False
    """tiny trials, to see that everything works; leaves its results in runs/experiments/pool_efficiency"""


def seconds_of(trials: Sequence[Trial], workers: int) -> float:
    """From the start of the first trial's process to the end of the last one's, in a new folder."""
    folder = RUNS / "pool_efficiency" / "trials"
    shutil.rmtree(folder, ignore_errors=True)
    began = time.perf_counter()
    tally = Sweeping(trials, folder, Pool(workers), PlainLines()).run()
    seconds = time.perf_counter() - began
    if tally.unfinished():
        sys.exit(f"the sweep failed: {tally.unfinished()}")
    return seconds


def main() -> None:
    """Measure both ways in turn, and write what came of it."""
    options = tyro.cli(Options, description=__doc__)
    if available_cores() < 2:
        sys.exit("one core is all there is: nothing can be measured side by side")
    trials = (quick(SWEEP) if options.quick else SWEEP).trials
    seconds: dict[str, list[float]] = {way: [] for way in WAYS}
    for number in range(options.rounds):
        for way in list(WAYS)[:: -1 if number % 2 else 1]:  # each goes first in turn
            seconds[way].append(seconds_of(trials, WAYS[way]))
            print(f"round {number + 1}, {way}: {seconds[way][-1]:.1f} s", flush=True)
    ratios = [one / both for one, both in zip(*seconds.values(), strict=True)]
    steps = sum(trial.config.steps for trial in trials)
    result = {
        "times_the_throughput": statistics.median(ratios),
        "wanted": WANTED,
        "rounds": ratios,
        "seconds": seconds,
        "steps_per_second": {way: steps / statistics.median(each) for way, each in seconds.items()},
        "commands": [" ".join(["prefrl", *trial.arguments(), "--threads", "1"]) for trial in trials],
        **describe_here(),
        "available_cores": available_cores(),
    }
    results = RUNS / "pool_efficiency" if options.quick else RESULTS / "pool_efficiency"
    results.mkdir(parents=True, exist_ok=True)
    (results / "pool_efficiency.json").write_text(json.dumps(result, indent=1) + "\n")
    (results / "pool_efficiency.md").write_text(_page(result))
    print(f"{result['times_the_throughput']:.2f} times the throughput: {results / 'pool_efficiency.md'}")


def _page(result: dict[str, Any]) -> str:
    rows = [
        [way, f"{result['steps_per_second'][way]:,.0f}", ", ".join(f"{each:.1f}" for each in seconds)]
        for way, seconds in result["seconds"].items()
    ]
    machine = result["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in result["versions"].items())
    trials = "\n".join(f"- `{command}`" for command in result["commands"])
    return f"""# Two trials side by side on two cores

{trials}

By the pool of `prefrl sweep`, one thread each, in new folders: from the start of the first trial's process to the end
of the last one's, with all that a trial does, its start and its final evaluation too.

{markdown_table(["two trials", "steps/s of both, median", "seconds of each round"], *rows)}

Side by side: {result["times_the_throughput"]:.2f} times the throughput, the median of rounds
({", ".join(f"{each:.2f}" for each in result["rounds"])}); wanted: {result["wanted"]}.

Machine: {machine["system"]} {machine["machine"]}, {result["available_cores"]} of {machine["cores"]} cores. Versions:
{versions}. Revision {result["git_revision"]}. Date {result["started_at"][:10]}.
"""


if __name__ == "__main__":
    main()
