"""Train control policies from comparisons between short clips of behaviour.

Implements "Deep reinforcement learning from human preferences" (Christiano et al., 2017). Importing prefrl registers
its tasks with gymnasium, as "prefrl/Hopper-v0" and so on.
"""

import ctypes
import os
import platform
from importlib.metadata import version

__version__ = version("prefrl")


def _prefer_headless_rendering() -> None:
    """Let MuJoCo render without a display, unless MUJOCO_GL says otherwise.

    MuJoCo reads MUJOCO_GL once, when it is first imported, hence here. "egl" without libEGL makes `import mujoco`
    itself fail (mujoco 4.0), and then nothing could be trained either, so it is chosen only where the library loads.
    """
    if platform.system() != "Linux" or "MUJOCO_GL" in os.environ:
        return
    try:
        ctypes.CDLL("libEGL.so.1")
    except OSError:
        return
    os.environ["MUJOCO_GL"] = "egl"


_prefer_headless_rendering()

from prefrl.tasks import register  # noqa: E402  imports mujoco, hence not before

register()
