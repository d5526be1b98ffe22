"""Sweeps: many runs side by side, and what comes of them.

definition.py -> running.py, which hands each trial to an engine (pool.py, ray_engine.py), which starts trial_process.py
-> run directories -> collecting.py -> results.py -> statistics, figures, page. command.py is `prefrl sweep`.
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
