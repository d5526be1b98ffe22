"""Where the experiments keep what they run and what they found, and tables in Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
RUNS = REPOSITORY / "runs" / "experiments"  # not committed
RESULTS = REPOSITORY / "experiments" / "results"  # committed


def markdown_table(header: Sequence[str], *rows: Sequence[str]) -> str:
    """A table in Markdown, all but its first column set right."""
    lines = [header, ["---"] + ["---:"] * (len(header) - 1), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
