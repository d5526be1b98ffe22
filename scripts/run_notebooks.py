"""Run notebooks and keep what they show, and nothing of the machine that they ran on.

.venv/bin/python scripts/run_notebooks.py notebooks/*.ipynb
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode
from traitlets.config import Config

FOLDER = Path(__file__).resolve().parent.parent / "notebooks"
TIMEOUT = 300  # seconds of one cell


def settings_of(notebook: NotebookNode) -> NotebookNode:
    """The first code cell, which says how much is run; the tests run less."""
    cell: NotebookNode = next(cell for cell in notebook.cells if cell.cell_type == "code")
    return cell


def run(notebook: NotebookNode) -> NotebookNode:
    """Run all cells in a kernel of this interpreter, in the folder of the notebooks, and return the notebook.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell failed.
    """
    with tempfile.TemporaryDirectory(prefix="notebook-") as sockets:  # files, as another kernel may take a port first
        client = NotebookClient(
            notebook,
            timeout=TIMEOUT,
            kernel_name="python3",
            resources={"metadata": {"path": str(FOLDER)}},
            record_timing=False,
            coalesce_streams=True,
            config=Config(KernelManager={"transport": "ipc", "ip": f"{sockets}/kernel"}),
        )
        ran: NotebookNode = client.execute()
    return ran


def tidy(notebook: NotebookNode) -> NotebookNode:
    """Leave out what differs from one machine to the next."""
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    for cell in notebook.cells:
        cell.metadata = {}
    return notebook


if __name__ == "__main__":
    for path in map(Path, sys.argv[1:]):
        began = time.perf_counter()
        nbformat.write(tidy(run(nbformat.read(path, as_version=4))), path)
        print(f"{path}: {time.perf_counter() - began:.0f} s")
