"""One row per iteration -> metrics.csv and TensorBoard. What it writes is read by metrics.py."""

from __future__ import annotations

import csv
import logging
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TextIO

from tensorboard.backend.event_processing.event_file_loader import LegacyEventFileLoader  # type: ignore[import-untyped]
from torch.utils.tensorboard import SummaryWriter

log = logging.getLogger("prefrl")

EVENTS = "events.out.tfevents."  # how TensorBoard's files begin


class MetricsWriter:
    """One row per iteration to metrics.csv and TensorBoard; x = environment steps.

    The columns are those of the first row. NaN becomes an empty cell. A run that an earlier version began gets the
    columns that this one adds, with empty cells in its rows of before.

    Args:
        path: the run's folder.
        upto: go on after this many environment steps; what was written of later ones is dropped from both.
    """

    def __init__(self, path: Path, upto: int = 0) -> None:
        self._path, self._columns = path / "metrics.csv", list[str]()
        kept = self._kept_rows(path / "metrics.csv", upto) if upto else []
        if len(kept) > 1 and kept[-1][0] != str(upto):  # without a row, no iteration was done
            log.warning("%s lacks rows before step %d, as after a power cut", path / "metrics.csv", upto)
        events = _kept_events(path, upto) if upto else []
        self._earlier_rows = kept[1:]
        self._file = self._begin(kept)
        before = list(path.glob(f"{EVENTS}*"))
        # A name of its own: within one second the old file's would be taken again.
        self._tensorboard = SummaryWriter(str(path), filename_suffix=f".{upto}.{len(before)}")
        writer: Any = self._tensorboard.file_writer
        for event in events:
            writer.event_writer.add_event(event)
        self._tensorboard.flush()
        for old in before:
            old.unlink()

    def _kept_rows(self, path: Path, upto: int) -> list[list[str]]:
        with path.open(newline="") as file:
            rows = list(csv.reader(file))
        self._columns = rows[0] if rows else []
        # The last row may be torn: then it is of a step that comes again.
        if not self._columns:
            return []
        return [self._columns, *(row for row in rows[1:] if len(row) == len(self._columns) and int(row[0]) <= upto)]

    def write(self, env_steps: int, row: Mapping[str, float]) -> None:
        """Append and flush."""
        if not self._columns:
            self._columns = ["env_steps", *row]
            csv.writer(self._file).writerow(self._columns)
        if self._earlier_rows and set(row) > set(self._columns[1:]):
            self._add_columns(["env_steps", *row])
        self._earlier_rows = []
        if list(row) != self._columns[1:]:
            raise ValueError(f"columns {list(row)} differ from the first row's {self._columns[1:]}")
        cells = ["" if math.isnan(value) else f"{value:.6g}" for value in row.values()]
        csv.writer(self._file).writerow([env_steps, *cells])
        self._file.flush()
        for name, value in row.items():
            if not math.isnan(value):
                self._tensorboard.add_scalar(name, value, env_steps)

    def _begin(self, rows: list[list[str]]) -> TextIO:
        """Write the file anew with these rows, and open it for more."""
        unfinished = self._path.with_name(self._path.name + ".unfinished")
        with unfinished.open("w", newline="") as file:
            csv.writer(file).writerows(rows)
        unfinished.replace(self._path)
        return self._path.open("a", newline="")

    def _add_columns(self, columns: list[str]) -> None:
        named = [dict(zip(self._columns, row, strict=True)) for row in self._earlier_rows]
        self._file.close()
        self._file = self._begin([columns, *([each.get(name, "") for name in columns] for each in named)])
        self._columns = columns

    def sync(self) -> None:
        """Wait until all rows are on the disk."""
        self._tensorboard.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Flush and close both."""
        self._file.close()
        self._tensorboard.close()


def _kept_events(path: Path, upto: int) -> list[Any]:
    """TensorBoard's events of the first `upto` steps."""
    events = [event for old in sorted(path.glob(f"{EVENTS}*")) for event in LegacyEventFileLoader(str(old)).Load()]
    return [event for event in events if event.HasField("summary") and event.step <= upto]
