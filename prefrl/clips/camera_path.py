"""Where the camera looks while it follows the robot. Used by clips.renderer."""

from __future__ import annotations

import numpy as np

CAMERA_SMOOTHING_FRAMES = 12  # standard deviation of the Gaussian that the camera's path is smoothed with


def follow(centres: np.ndarray, slack: float) -> np.ndarray:
    """A camera path that glides after the robot and never loses it.

    Args:
        centres: (T, D) where the robot is.
        slack: the largest distance between robot and path along each axis, in metres. A jump beyond four times this
            between two frames is a reset: the camera cuts there instead of gliding.

    Returns:
        (T, D) the smoothed path. Robot at constant speed: exactly its own path.
    """
    jumps = np.abs(np.diff(centres, axis=0)).max(axis=1, initial=0.0) > 4 * slack
    pieces = np.split(centres, np.flatnonzero(jumps) + 1)
    smooth = np.concatenate([_smoothed(piece) for piece in pieces])
    return np.clip(smooth, centres - slack, centres + slack)


def _smoothed(path: np.ndarray) -> np.ndarray:
    """Gaussian smoothing in time; the ends are mirrored through the end point, which keeps a straight line straight."""
    reach = min(3 * CAMERA_SMOOTHING_FRAMES, len(path) - 1)
    if reach < 1:
        return path.copy()
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / CAMERA_SMOOTHING_FRAMES) ** 2)
    kernel /= kernel.sum()
    before = 2 * path[0] - path[reach:0:-1]
    after = 2 * path[-1] - path[-2 : -reach - 2 : -1]
    padded = np.concatenate([before, path, after])
    return np.stack([np.convolve(column, kernel, mode="valid") for column in padded.T], axis=1)
