"""The short version of experiments/kill_store.py."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from stores import Database, SqliteFile

SCRIPT = Path(__file__).parent.parent / "experiments" / "kill_store.py"


def test_no_acknowledged_answer_is_lost_to_kill_9(database: Database, tmp_path: Path) -> None:
    is_file = isinstance(database, SqliteFile)
    where = ["--stores", "sqlite"] if is_file else ["--stores", "postgresql", "--url", database.location]
    done = subprocess.run(
        [sys.executable, str(SCRIPT), *where, "--kills", "5", "--seed", "1", "--results", str(tmp_path)],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (found,) = json.loads((tmp_path / "results.json").read_text())["stores"]
    assert found["kills"] == 5
    assert found["acknowledged"] >= 5
    assert (found["missing"], found["torn_calls"]) == (0, 0)
    assert found["checks_failed"] == (0 if is_file else None)
    assert database.location not in (tmp_path / "results.json").read_text()
    assert "| 5 |" in (tmp_path / "kill_store.md").read_text()
