"""Whether a run's questions among the best segments make its predictor right early: every committed run of a task.

    python experiments/early_correlation.py pendulum

Reads the lines of experiments/results/*/trials.jsonl, a run that is in several sweeps once, and of those with so many
answers lays the correlation of predicted and true reward per step, when the run was as far as `by`, beside its final
return. Writes experiments/results/early_correlation/TASK.md; takes a second.
"""

from __future__ import annotations

import itertools
import json
import shlex
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import tyro
from common import RESULTS, markdown_table


@dataclass(frozen=True)
class Options:
    """Which runs."""

    task: Annotated[str, tyro.conf.Positional]
    """task of `prefrl tasks`"""
    labels: int = 700
    """answers that they were given"""
    by: int = 300_000
    """environment steps at which the correlation is looked at"""


def share_among_best(command: str) -> float:
    """Of a run's later questions, by its command; 0.5 is the default."""
    words = shlex.split(command)
    given = dict(itertools.pairwise(words))
    return 0.0 if given.get("--queries.selection") == "uniform" else float(given.get("--queries.elite-share", 0.5))


def main() -> None:
    """Collect, sort by the share, and write the table."""
    options = tyro.cli(Options, description=__doc__)
    runs: dict[str, dict[str, Any]] = {}
    for path in sorted(RESULTS.glob("*/trials.jsonl")):
        for line in path.read_text().splitlines():
            run = json.loads(line)
            if run["task"] == options.task and run["labels"] == options.labels and run["steps"] > options.by:
                runs.setdefault(run["id"], {**run, "sweep": path.parent.name})
    rows = []
    for run in runs.values():
        steps = np.array(run["curve"]["env_steps"])
        correlation = run["curve"]["reward/correlation"][int(np.abs(steps - options.by).argmin())]
        share = share_among_best(run["command"])
        rows.append((share > 0, correlation, run["evaluation"]["true_return"]["mean"], share, run))
    rows.sort(key=lambda row: row[:2], reverse=True)
    cells = [
        [f"{run['sweep']}, {run['condition']}", str(run["seed"]), f"{share:g}", f"{correlation:.2f}", f"{mean:,.0f}"]
        for _, correlation, mean, share, run in rows
    ]
    header = ["run", "seed", "share among the best", f"correlation by {options.by:,} steps", "final true return"]
    text = f"# {options.task}, {options.labels} answers: what is asked, and how right the predictor is early\n\n"
    path = RESULTS / "early_correlation" / f"{options.task}.md"
    path.parent.mkdir(exist_ok=True)
    path.write_text(text + markdown_table(header, *cells) + "\n")
    print(path)


if __name__ == "__main__":
    main()
