"""What surrounds the robot in a clip: sky, floor, light, shadows. Used by clips.renderer.

Pale and low in contrast, so that the robot is what stands out; the floor's two tints still tell tiles apart in grey.
A shadow is the robot's part drawn once more, flattened onto the floor: it shows height and costs 1 ms a frame, where
MuJoCo's own shadow map and reflections cost 30 to 60.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import mujoco
import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from prefrl.tasks import Camera

Colour = tuple[float, float, float]
SKY: Colour = (0.89, 0.93, 0.96)
FLOOR_DARK: Colour = (0.58, 0.64, 0.68)
FLOOR_LIGHT: Colour = (0.78, 0.82, 0.84)
SHADOW_RGBA = (0.10, 0.12, 0.15, 0.38)
FROM_ABOVE = -75.0  # degrees; a camera that looks down more steeply sees no shadows, they would be under the robot


class Stage:
    """Adds to each frame's scene what the model lacks.

    Args:
        model: as returned by styled.
        camera: of the clip.
    """

    def __init__(self, model: mujoco.MjModel, camera: Camera) -> None:
        self._model = model
        self._camera = camera
        self._floor = _floor_geom(model)
        self._period = _tile_period(model, self._floor)
        self._plain_floor = self._floor is not None and _floor_texture(model, self._floor) is None
        self._casts_shadows = self._floor is not None and camera.elevation > FROM_ABOVE
        self._has_sky = bool((model.tex_type == mujoco.mjtTexture.mjTEXTURE_SKYBOX).any())

    def dress(self, scene: mujoco.MjvScene, data: mujoco.MjData, lookat: NDArray[np.float64]) -> None:
        """Keep the floor under the camera, drop the shadows, close the background."""
        for geom in list(scene.geoms[: scene.ngeom]):
            if geom.objtype != mujoco.mjtObj.mjOBJ_GEOM:
                continue
            if geom.objid == self._floor:
                self._move_floor(geom, lookat)
            elif self._casts_shadows and self._model.geom_bodyid[geom.objid] != 0:
                _add_shadow(scene, geom, data.geom_xpos[self._floor, 2])
        if not self._has_sky:
            self._add_backdrop(scene, lookat)

    def _move_floor(self, geom: Any, lookat: NDArray[np.float64]) -> None:
        """By whole periods of the checker: the floor seems endless, and its tiles stay where they are."""
        geom.pos[:2] += np.floor(lookat[:2] / self._period) * self._period
        if self._plain_floor:  # lit by the head light alone, which leaves it dark when seen from the side
            geom.emission = 0.6 * np.cos(np.deg2rad(self._camera.elevation))

    def _add_backdrop(self, scene: mujoco.MjvScene, lookat: NDArray[np.float64]) -> None:
        """A wall in the sky's colour, far behind the robot: models without a sky have a black one."""
        wall = _new_geom(scene, mujoco.mjtGeom.mjGEOM_BOX.value)
        if wall is None:
            return
        azimuth = np.deg2rad(self._camera.azimuth)
        ahead = np.array([np.cos(azimuth), np.sin(azimuth), 0.0])
        side = np.array([-ahead[1], ahead[0], 0.0])
        away = 0.8 * self._model.vis.map.zfar * self._model.stat.extent
        wall.size[:] = (0.01, 10 * away, 10 * away)
        wall.pos[:] = lookat + away * ahead
        wall.mat[:] = np.stack([ahead, side, np.array([0.0, 0.0, 1.0])], axis=1)
        wall.rgba[:] = (*SKY, 1.0)
        wall.specular = wall.shininess = 0.0


def styled(model: mujoco.MjModel, width: int, height: int, samples: int) -> mujoco.MjModel:
    """A copy of the model in this module's colours, with a frame buffer of that size and samples per pixel."""
    model = copy.deepcopy(model)
    model.vis.global_.offwidth = max(width, model.vis.global_.offwidth)
    model.vis.global_.offheight = max(height, model.vis.global_.offheight)
    model.vis.quality.offsamples = samples
    # Most models have one lamp overhead, which leaves an upright robot dark; pendulums and reacher have none.
    model.vis.headlight.ambient[:] = 0.35 if model.nlight == 0 else 0.25
    model.vis.headlight.diffuse[:] = 0.65 if model.nlight == 0 else 0.5
    model.vis.headlight.specular[:] = 0.1
    for sky in np.flatnonzero(model.tex_type == mujoco.mjtTexture.mjTEXTURE_SKYBOX):
        _recolour(model, int(sky), SKY, SKY)
    floor = _floor_geom(model)
    if floor is not None:
        _restyle_floor(model, floor)
    return model


def _restyle_floor(model: mujoco.MjModel, floor: int) -> None:
    texture = _floor_texture(model, floor)
    if texture is None:
        model.geom_rgba[floor] = (*FLOOR_LIGHT, 1.0)
        return
    _recolour(model, texture, FLOOR_DARK, FLOOR_LIGHT)
    model.geom_rgba[floor] = 1.0
    model.mat_rgba[model.geom_matid[floor]] = 1.0
    model.mat_specular[model.geom_matid[floor]] = 0.0


def _recolour(model: mujoco.MjModel, texture: int, dark: Colour, light: Colour) -> None:
    """Map a texture's brightness onto the range between two colours."""
    channels = int(model.tex_nchannel[texture])
    if channels < 3:
        return
    size = int(model.tex_height[texture]) * int(model.tex_width[texture]) * channels
    start = int(model.tex_adr[texture])
    texels = model.tex_data[start : start + size].reshape(-1, channels)
    grey = texels[:, :3].mean(axis=1, keepdims=True)
    share = (grey - grey.min()) / max(float(np.ptp(grey)), 1e-9)
    texels[:, :3] = np.round(255 * (np.array(dark) + share * (np.array(light) - np.array(dark))))


def _add_shadow(scene: mujoco.MjvScene, geom: Any, floor_height: float) -> None:
    shadow = _new_geom(scene, geom.type)
    if shadow is None:
        return
    shadow.size[:] = geom.size
    shadow.dataid = geom.dataid
    shadow.pos[:] = (geom.pos[0], geom.pos[1], floor_height + 0.002)
    shadow.mat[:] = np.diag([1.0, 1.0, 1e-4]) @ geom.mat  # flattened; a matrix that only rotates would not do
    shadow.rgba[:] = SHADOW_RGBA
    shadow.transparent = 1
    shadow.specular = shadow.shininess = shadow.emission = 0.0


def _new_geom(scene: mujoco.MjvScene, kind: int) -> Any:
    """The next free geom of the scene, or None when the scene is full."""
    if scene.ngeom >= scene.maxgeom:
        return None
    geom = scene.geoms[scene.ngeom]
    mujoco.mjv_initGeom(geom, kind, np.ones(3), np.zeros(3), np.eye(3).ravel(), np.ones(4, dtype=np.float32))
    geom.category = mujoco.mjtCatBit.mjCAT_DECOR
    scene.ngeom += 1
    return geom


def _floor_geom(model: mujoco.MjModel) -> int | None:
    """The first plane that belongs to the world, or None."""
    planes = (model.geom_type == mujoco.mjtGeom.mjGEOM_PLANE) & (model.geom_bodyid == 0)
    return int(np.flatnonzero(planes)[0]) if planes.any() else None


def _floor_texture(model: mujoco.MjModel, floor: int) -> int | None:
    material = int(model.geom_matid[floor])
    if material < 0:
        return None
    texture = int(model.mat_texid[material, mujoco.mjtTextureRole.mjTEXROLE_RGB])
    return texture if texture >= 0 else None


def _tile_period(model: mujoco.MjModel, floor: int | None) -> NDArray[np.float64]:
    """(2,): by how many metres the floor can be moved along x and y and look the same."""
    if floor is None or _floor_texture(model, floor) is None:
        return np.ones(2)
    material = int(model.geom_matid[floor])
    repeat: NDArray[np.float64] = np.maximum(model.mat_texrepeat[material].astype(np.float64), 1e-6)
    side = 2.0 * model.geom_size[floor, :2]
    if model.mat_texuniform[material] or not side.all():  # a plane of size 0 is endless, and counts repeats per metre
        return 1.0 / repeat
    return side / repeat
