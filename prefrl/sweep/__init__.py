"""Sweeps: many runs side by side, and what comes of them.

definition.py -> run directories -> results.py -> statistics, figures, page
"""

from prefrl.sweep.definition import Options, Sweep, Trial, load_sweep
from prefrl.sweep.results import Outcome, SweepResults, read_results, write_results

__all__ = [
    "Options",
    "Outcome",
    "Sweep",
    "SweepResults",
    "Trial",
    "load_sweep",
    "read_results",
    "write_results",
]
