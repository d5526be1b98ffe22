"""What the paper's runs came to (arXiv 1706.03741), to draw and to table beside ours.

Final true returns by task and condition, read by eye off the figures (±3 %): TRPO after 20 million steps, of pendulum
after 2 million; means of 5 runs, of people one run.
"""

from __future__ import annotations

TRUE_REWARD = "true reward"  # the condition of RL on the true reward


def _by_task(conditions: tuple[str, ...], rows: dict[str, tuple[float, ...]]) -> dict[str, dict[str, float]]:
    return {task: dict(zip(conditions, row, strict=True)) for task, row in rows.items()}


FIGURE_2 = _by_task(
    (TRUE_REWARD, "1400 answers", "700 answers", "350 answers", "people, 750 answers"),
    {
        "walker": (5300, 5900, 4800, 3350, 4300),
        "hopper": (4180, 4450, 4500, 3450, 3300),
        "swimmer": (173, 175, 167, 106, 135),
        "cheetah": (4200, 5300, 4650, 3750, 4480),
        "ant": (50, 110, -170, -180, 330),
        "reacher": (-1.8, -2.4, -3.15, -6.3, -3.4),
        "double-pendulum": (7400, 8600, 7900, 1000, 6000),
        "pendulum": (1370, 750, 1370, 1370, 1370),
    },
)

# Ablations with 700 synthetic answers. No ensemble means random queries too; target regresses on the true reward.
FIGURE_5 = _by_task(
    ("original", "random queries", "no ensemble", "no online queries", "no regularisation", "no segments", "target"),
    {
        "walker": (4850, 3750, 3750, 4800, 4750, 550, 1650),
        "hopper": (4500, 3900, 3950, 4000, 3900, 2350, 1800),
        "swimmer": (167, 57, 62, 51, 99, 99, 36),
        "cheetah": (4650, 5400, 3330, 3980, 5600, 1200, 1200),
        "ant": (-190, 60, -280, 150, -150, -670, -780),
        "reacher": (-3.15, -3.9, -3.85, -3.8, -2.6, -7.6, -9.2),
        "double-pendulum": (7700, 5700, 3400, 3500, 4000, -900, 3300),
        "pendulum": (1370, 1370, 1370, 1370, 1370, 1370, 1150),
    },
)


def final_return(task: str, labels: int) -> float | None:
    """Figure 2's value for a task and a number of synthetic labels, 0 for RL on the true reward; None without."""
    return FIGURE_2.get(task, {}).get(f"{labels} answers" if labels else TRUE_REWARD)
