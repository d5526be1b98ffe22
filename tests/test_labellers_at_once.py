"""The short version of experiments/labellers_at_once.py."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from test_clips import needs_gl

SCRIPT = Path(__file__).parent.parent / "experiments" / "labellers_at_once.py"


@needs_gl
def test_labellers_at_once_lose_nothing_to_a_killed_server(tmp_path: Path) -> None:
    few = ["--stores", "sqlite", "--labellers", "3", "--seconds", "3", "--kills", "1", "--results", str(tmp_path)]
    done = subprocess.run([sys.executable, str(SCRIPT), *few], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (found,) = json.loads((tmp_path / "results.json").read_text())["stores"]
    assert found["sent"] >= 3 * 3 * 2
    assert found["acknowledged"] + found["refused_as_gone"] == found["sent"]
    assert sum(found["answers"][kind] for kind in ("first", "gold")) > 0
    assert set(found["wrong"].values()) == {0}
    assert len(found["kills"]) == 1
    assert found["requests_without_answer"] > 0, "while there was no server"
    assert "| 3 |" in (tmp_path / "labellers_at_once.md").read_text()
