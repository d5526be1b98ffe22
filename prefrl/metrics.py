"""metrics.csv -> columns of numbers, for whoever reads a run: plots, reports, alarms, sweeps, exports."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from prefrl.errors import UserError

Metrics = dict[str, NDArray[np.float64]]  # column of metrics.csv -> one value per row, NaN where nothing was measured

MONITORED_PAIRS = 64  # most pairs on which a row's losses and agreement are measured


def read_metrics(path: str | Path) -> Metrics:
    """Read metrics.csv: each column as floats, NaN for empty cells.

    A last line without its newline is one that is being written, or that a kill cut short: it is left out.

    Raises:
        UserError: there is no such file, or a cell is not a number.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(f"can't read {path}: {error.strerror}; is it a run directory?") from error
    lines = text[: text.rfind("\n") + 1].splitlines()
    rows = list(csv.reader(lines))
    if not rows:
        return {}
    header, *body = rows
    columns: Metrics = {}
    for i, name in enumerate(header):
        columns[name] = np.array(
            [_number(row[i] if i < len(row) else "", name, path) for row in body], dtype=np.float64
        )
    return columns


def _number(cell: str, column: str, path: Path) -> float:
    try:
        return float(cell) if cell.strip() else float("nan")
    except ValueError:
        raise UserError(f"{path}: {cell!r} in column {column} is not a number") from None


def measured(metrics: Metrics, *columns: str) -> bool:
    """Whether any of the columns holds a finite value."""
    return any(column in metrics and np.isfinite(metrics[column]).any() for column in columns)


def last_value(metrics: Metrics, column: str) -> float:
    """The column's last finite value, or NaN."""
    values = metrics.get(column, np.empty(0))
    finite = values[np.isfinite(values)]
    return float(finite[-1]) if len(finite) else float("nan")
