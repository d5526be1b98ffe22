"""ClipRenderer: stored states of one model -> frames.

One thread of one process owns a ClipRenderer, because an OpenGL context belongs to the thread that uses it.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any

import mujoco
import numpy as np
from numpy.typing import ArrayLike, NDArray

from prefrl.clips.camera_path import follow
from prefrl.clips.gl import make_gl_context, unavailable
from prefrl.clips.stage import Stage, styled
from prefrl.errors import UserError

if TYPE_CHECKING:
    from prefrl.tasks import Camera

CAMERA_SLACK = 0.15  # the robot may stray from the picture's middle by this share of the visible width


class ClipRenderer:
    """Draws stored states of one model with one camera, right way up.

    The look of the model is adjusted on a copy (see stage.py): pale sky and floor, shadows straight down.

    Args:
        model: the task's model; not modified.
        camera: where to look from, and whether to follow the robot.
        width, height: of a frame, in pixels.
        antialias: smooth the robot's edges; with software OpenGL that takes 20 ms a frame instead of 7. The floor is
            smooth either way.

    Raises:
        RenderingUnavailable: no off-screen OpenGL; the message names the system packages to install.
    """

    def __init__(
        self, model: mujoco.MjModel, camera: Camera, width: int = 320, height: int = 240, antialias: bool = False
    ) -> None:
        if min(width, height) < 16 or max(width, height) > 4096:
            raise UserError(f"frames of {width}x{height} pixels can't be drawn; both sizes must be 16 to 4096")
        self.width, self.height = width, height
        self._camera = camera
        self._model = styled(model, width, height, samples=4 if antialias else 0)
        self._data = mujoco.MjData(self._model)
        self._stage = Stage(self._model, camera)
        self._scene = mujoco.MjvScene(self._model, maxgeom=2 * self._model.ngeom + 100)
        self._scene.flags[mujoco.mjtRndFlag.mjRND_SHADOW] = False
        self._scene.flags[mujoco.mjtRndFlag.mjRND_REFLECTION] = False
        self._options = mujoco.MjvOption()
        self._rect = mujoco.MjrRect(0, 0, width, height)
        self._context: mujoco.MjrContext | None = None
        self._gl: Any = make_gl_context(width, height)
        try:
            self._gl.make_current()
            self._context = mujoco.MjrContext(self._model, mujoco.mjtFontScale.mjFONTSCALE_150.value)
            mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN.value, self._context)
        except Exception as error:  # a driver's complaints come as many classes
            self.close()
            raise unavailable(error) from error

    def frames(self, qpos: ArrayLike, qvel: ArrayLike | None = None) -> NDArray[np.uint8]:
        """All frames at once: (T, height, width, 3).

        Args:
            qpos: (T, nq).
            qvel: (T, nv) or None for zeros; matters only to models whose looks depend on velocity.

        Raises:
            UserError: the states have other shapes than the model's, or hold NaN.
        """
        positions, velocities = self._checked_states(qpos, qvel)
        frames = np.empty((len(positions), self.height, self.width, 3), dtype=np.uint8)
        for i, frame in enumerate(self.iter_frames(positions, velocities)):
            frames[i] = frame
        return frames

    def iter_frames(self, qpos: ArrayLike, qvel: ArrayLike | None = None) -> Iterator[NDArray[np.uint8]]:
        """Like frames, one (height, width, 3) frame at a time, for episodes whose frames would fill the memory."""
        positions, velocities = self._checked_states(qpos, qvel)
        lookat = self._camera_path(positions)
        return (self._draw(*each) for each in zip(positions, velocities, lookat, strict=True))

    def close(self) -> None:
        """Free the OpenGL context; the renderer can't draw afterwards. Calling it twice is harmless."""
        if self._context is not None:
            self._gl.make_current()
            self._context.free()
            self._context = None
        if self._gl is not None:
            self._gl.free()
            self._gl = None

    def __enter__(self) -> ClipRenderer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _checked_states(
        self, qpos: ArrayLike, qvel: ArrayLike | None
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        nq, nv = self._model.nq, self._model.nv
        positions = np.asarray(qpos, dtype=np.float64)
        velocities = np.zeros((len(positions), nv)) if qvel is None else np.asarray(qvel, dtype=np.float64)
        if positions.ndim != 2 or positions.shape[1] != nq or velocities.shape != (len(positions), nv):
            raise UserError(
                f"states of shapes {positions.shape} and {velocities.shape} do not fit this model; "
                f"it needs (T, {nq}) and (T, {nv})"
            )
        if not (np.isfinite(positions).all() and np.isfinite(velocities).all()):
            raise UserError("states contain NaN or infinity and can't be drawn; the simulation they come from diverged")
        return positions, velocities

    def _camera_path(self, qpos: NDArray[np.float64]) -> NDArray[np.float64]:
        """(T, 3): the points looked at. Their height never changes, so that a person can compare heights by eye."""
        path = np.zeros((len(qpos), 3))
        path[:, 2] = self._camera.height
        if self._camera.track and len(qpos):
            visible_height = 2 * self._camera.distance * np.tan(np.deg2rad(self._model.vis.global_.fovy / 2))
            path[:, :2] = follow(self._centres(qpos), slack=CAMERA_SLACK * visible_height * self.width / self.height)
        return path

    def _centres(self, qpos: NDArray[np.float64]) -> NDArray[np.float64]:
        """(T, 2): where the first body's centre of mass is on the floor; steadier than its torso in a somersault."""
        centres = np.empty((len(qpos), 2))
        for i, positions in enumerate(qpos):
            self._data.qpos[:] = positions
            mujoco.mj_kinematics(self._model, self._data)
            mujoco.mj_comPos(self._model, self._data)
            centres[i] = self._data.subtree_com[min(1, self._model.nbody - 1), :2]
        return centres

    def _draw(
        self, qpos: NDArray[np.float64], qvel: NDArray[np.float64], lookat: NDArray[np.float64]
    ) -> NDArray[np.uint8]:
        if self._context is None:
            raise RuntimeError("this ClipRenderer is closed; make a new one to draw more")
        self._data.qpos[:], self._data.qvel[:] = qpos, qvel
        mujoco.mj_forward(self._model, self._data)
        view = mujoco.MjvCamera()
        view.type = mujoco.mjtCamera.mjCAMERA_FREE
        view.lookat[:] = lookat
        view.distance = self._camera.distance
        view.azimuth = self._camera.azimuth
        view.elevation = self._camera.elevation
        everything = mujoco.mjtCatBit.mjCAT_ALL.value
        mujoco.mjv_updateScene(self._model, self._data, self._options, None, view, everything, self._scene)
        self._stage.dress(self._scene, self._data, lookat)
        pixels = np.empty((self.height, self.width, 3), dtype=np.uint8)
        self._gl.make_current()
        mujoco.mjr_render(self._rect, self._scene, self._context)
        mujoco.mjr_readPixels(pixels, None, self._rect, self._context)
        return np.ascontiguousarray(pixels[::-1])  # OpenGL's first row is the bottom one
