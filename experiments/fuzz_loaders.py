"""Damages every kind of file that somebody else may send, thousands of times each, and loads it.

    .venv/bin/python experiments/fuzz_loaders.py --examples 10000 --save

Each time it must be refused in one line, or come to data that a run could have left. Stops at the first load that ends
in a traceback, takes more than 10 s, or starts a process, a connection or a pickled class. What damage there is:
tests/damage.py for an exported data set, tests/damaged_files.py for the files of a run.
"""

from __future__ import annotations

import functools
import json
import platform
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import hypothesis
import tyro
from hypothesis import strategies as st

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.append(str(REPOSITORY / "tests"))

from damage import Outcome, damages, import_damaged  # noqa: E402  from tests/
from damaged_files import LOADERS, damaged, load_damaged  # noqa: E402

RESULTS = REPOSITORY / "experiments" / "results" / "fuzz_loaders" / "results.json"
DATASET = "exported data set"


@dataclass(frozen=True)
class Options:
    """How much to damage."""

    examples: int = 10_000
    """damaged copies of each"""
    seed: int = 0
    """of the damage"""
    only: str | None = None
    """one of them, by its name or the beginning of it"""
    save: bool = False
    """write the counts to experiments/results/fuzz_loaders/results.json"""


def fuzz(strategy: st.SearchStrategy[Any], load: Callable[[Any], Outcome], options: Options) -> dict[str, Any]:
    """Load as many examples, and count what came of them."""
    outcomes: Counter[str] = Counter()
    slowest = 0.0

    @hypothesis.seed(options.seed)
    @hypothesis.settings(
        max_examples=options.examples,
        database=None,
        deadline=None,
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    @hypothesis.given(strategy)
    def check(damage: Any) -> None:
        nonlocal slowest
        outcome = load(damage)
        outcomes[outcome.name] += 1
        slowest = max(slowest, outcome.seconds)

    began = time.monotonic()
    check()
    return {
        "loads": outcomes.total(),
        **dict(sorted(outcomes.items())),
        "slowest_seconds": round(slowest, 3),
        "seconds": round(time.monotonic() - began, 1),
    }


def main() -> None:
    """Damage, load, count."""
    options = tyro.cli(Options, description=__doc__)
    found: dict[str, Any] = {}
    for name in (DATASET, *LOADERS):
        if not name.startswith(options.only or ""):
            continue
        if name == DATASET:
            found[name] = fuzz(damages(), import_damaged, options)
        else:
            found[name] = fuzz(damaged(name), functools.partial(load_damaged, name), options)
        print(name, json.dumps(found[name]), flush=True)
    result = {
        "loads": sum(each["loads"] for each in found.values()),
        "of": found,
        "seed": options.seed,
        "date": datetime.now(UTC).date().isoformat(),
        "versions": {name: version(name) for name in ("prefrl", "numpy", "pydantic", "torch", "hypothesis")},
        "python": platform.python_version(),
    }
    if options.save:
        RESULTS.parent.mkdir(parents=True, exist_ok=True)
        RESULTS.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
