"""An off-screen OpenGL context, or one line that says what is missing. Used by clips.renderer alone."""

from __future__ import annotations

import importlib
import importlib.util
import os
import platform
from typing import Any

import mujoco

from prefrl.errors import UserError

GL_INSTALL_HINT = "apt-get install -y libegl1 libegl-mesa0 libgl1 libgl1-mesa-dri"


class RenderingUnavailable(UserError):
    """Off-screen OpenGL does not work on this machine; training goes on without video."""


def make_gl_context(width: int, height: int) -> Any:
    """An off-screen OpenGL context. MUJOCO_GL picks the kind; on Linux the default is egl, which needs no display.

    MuJoCo itself reads MUJOCO_GL when it is imported, which is too early for a default of ours, so this does not use
    mujoco.Renderer.
    """
    kind = os.environ.get("MUJOCO_GL", "").lower().strip()
    if kind in ("disable", "disabled", "off", "false", "0"):
        raise RenderingUnavailable(f"rendering is switched off by MUJOCO_GL={kind}; unset it to get clips and videos")
    if kind in ("", "enable", "enabled", "on", "true", "1"):
        kind = "egl" if platform.system() == "Linux" else ""
    if importlib.util.find_spec("triton") is not None:
        # PyTorch's GPU builds import it with their first optimiser, which may come later. It brings an LLVM of its own,
        # and the process crashes if Mesa has loaded its own before.
        importlib.import_module("triton")
    module = {"egl": "mujoco.egl", "osmesa": "mujoco.osmesa", "glfw": "mujoco.glfw", "glx": "mujoco.glfw"}.get(kind)
    try:
        context = importlib.import_module(module).GLContext if module else mujoco.GLContext
        return context(width, height)
    except Exception as error:  # ImportError, AttributeError, OSError, RuntimeError and GLError, by what is missing
        raise unavailable(error) from error


def unavailable(error: Exception) -> RenderingUnavailable:
    reason = str(error).strip().split("\n")[0] or type(error).__name__
    return RenderingUnavailable(f"off-screen OpenGL does not work here ({reason}); for videos: {GL_INSTALL_HINT}")
