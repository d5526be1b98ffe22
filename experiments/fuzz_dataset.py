"""Damages an exported data set thousands of times and imports it; each time it is refused in one line, or harmless.

.venv/bin/python experiments/fuzz_dataset.py --examples 10000 --save

Stops at the first import that ends in anything but a UserError, takes more than 10 s, leaves something behind, or comes
to other data although the checksums were left as they were. tests/damage.py says what damage there is.
"""

from __future__ import annotations

import json
import platform
import sys
import time
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import hypothesis
import tyro

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.append(str(REPOSITORY / "tests"))

from damage import Damage, damages, import_damaged  # noqa: E402  from tests/

RESULTS = REPOSITORY / "experiments" / "results" / "fuzz_dataset" / "results.json"


@dataclass(frozen=True)
class Options:
    """How much to damage."""

    examples: int = 10_000
    """damaged folders"""
    seed: int = 0
    """of the damage"""
    save: bool = False
    """write the counts to experiments/results/fuzz_dataset/results.json"""


def main() -> None:
    """Damage, import, count."""
    options = tyro.cli(Options, description=__doc__)
    outcomes: Counter[str] = Counter()
    slowest = 0.0

    @hypothesis.seed(options.seed)
    @hypothesis.settings(
        max_examples=options.examples,
        database=None,
        deadline=None,
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    @hypothesis.given(damages())
    def check(damage: Damage) -> None:
        nonlocal slowest
        outcome = import_damaged(damage)
        outcomes[outcome.name] += 1
        slowest = max(slowest, outcome.seconds)

    began = time.monotonic()
    check()
    found = {
        "examples": outcomes.total(),
        **dict(outcomes),
        "slowest_import_seconds": round(slowest, 3),
        "seconds": round(time.monotonic() - began, 1),
        "seed": options.seed,
        "date": datetime.now(UTC).date().isoformat(),
        "versions": {name: version(name) for name in ("prefrl", "numpy", "pydantic", "hypothesis")},
        "python": platform.python_version(),
    }
    print(json.dumps(found, indent=2))
    if options.save:
        RESULTS.parent.mkdir(parents=True, exist_ok=True)
        RESULTS.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
