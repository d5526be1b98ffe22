"""The paper's final returns, to draw beside ours."""

from __future__ import annotations

from prefrl.report.contents import Run

# Figure 2 of the paper, final true return by eye (±3 %); keys are numbers of labels, 0 for RL on the true reward.
PAPER_RETURNS: dict[str, dict[int, float]] = {
    "walker": {0: 5300, 1400: 5900, 700: 4800, 350: 3350},
    "hopper": {0: 4180, 1400: 4450, 700: 4500, 350: 3450},
    "swimmer": {0: 173, 1400: 175, 700: 167, 350: 106},
    "cheetah": {0: 4200, 1400: 5300, 700: 4650, 350: 3750},
    "ant": {0: 50, 1400: 110, 700: -170, 350: -180},
    "reacher": {0: -1.8, 1400: -2.4, 700: -3.15, 350: -6.3},
    "double-pendulum": {0: 7400, 1400: 8600, 700: 7900, 350: 1000},
    "pendulum": {0: 1370, 1400: 750, 700: 1370, 350: 1370},
}


def paper_markers(run: Run) -> dict[str, float]:
    """The paper's value for the run's task and number of labels, by name; empty where it gives none."""
    known = PAPER_RETURNS.get(run.task, {})
    if not run.feedback or run.labels not in known:
        return {}
    source = f"{run.labels} labels" if run.labels else "RL on the true reward"
    return {f"paper, {source}": known[run.labels]}
