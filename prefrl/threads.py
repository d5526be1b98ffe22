"""Who may use which cores: the simulation takes them all, torch one.

The networks and batches here are small. Handing them to a second core gains a tenth on an idle machine and loses nine
tenths on a busy one, where two pools of threads wait for each other. Nor would a run on one core be that on two: sums
that are split among threads end in other last bits.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager


def available_cores() -> int:
    """Cores this process may use, which a cluster's scheduler may have limited."""
    return len(os.sched_getaffinity(0))


@contextmanager
def one_torch_thread() -> Iterator[None]:
    """Run a block, or a decorated function, with torch on one thread."""
    import torch  # only when it runs: whoever asks for the cores alone does without

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
