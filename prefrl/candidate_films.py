"""Pictures of stretches that may be asked about, for environments whose states cannot be drawn later.

rollouts.RolloutRecorder calls it before each step; segments.cut_segments then draws from what was filmed.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from prefrl.errors import UserError

if TYPE_CHECKING:
    from gymnasium.vector import SyncVectorEnv

Film = tuple[bytes, ...]  # a JPEG picture before each step; empty where it was only planned

WIDEST = 400  # pixels of a picture


class CandidateFilms:
    """Films stretches of the next rollout that are chosen in advance: to render every step would take too long.

    Args:
        env: whose sub-environments can `render`.
        length: steps of a stretch.
        rng: chooses them.
        renders: take pictures; without, the same stretches are chosen, as a replay needs.
    """

    def __init__(self, env: SyncVectorEnv, length: int, rng: np.random.Generator, renders: bool = True) -> None:
        self._env, self._length, self._rng, self._renders = env, length, rng, renders
        self._wanted: list[tuple[int, int]] = []
        self._pictures: dict[tuple[int, int], bytes] = {}

    def plan(self, steps: int, count: int) -> None:
        """Choose `count` stretches of the next `steps` steps."""
        starts = self._rng.integers(steps - self._length + 1, size=count)
        envs = self._rng.integers(self._env.num_envs, size=count)
        self._wanted = sorted({(int(start), int(env)) for start, env in zip(starts, envs, strict=True)})
        self._pictures = {}

    def look(self, step: int) -> None:
        """Take the pictures of this step of the rollout, before it is taken."""
        if not self._renders:
            return
        for env in {env for start, env in self._wanted if start <= step < start + self._length}:
            self._pictures[step, env] = jpeg(self._env.envs[env].render())

    def take(self, episode_starts: NDArray[np.bool_]) -> dict[tuple[int, int], Film]:
        """What was filmed, by first step and environment; stretches that cross a reset are left out.

        Args:
            episode_starts: (S, n) of the rollout.
        """
        length = self._length
        whole = [
            (start, env) for start, env in self._wanted if not episode_starts[start + 1 : start + length, env].any()
        ]
        films = {
            (start, env): tuple(self._pictures[step, env] for step in range(start, start + length))
            if self._renders
            else ()
            for start, env in whole
        }
        self._wanted, self._pictures = [], {}
        return films


def jpeg(frame: object) -> bytes:
    """A rendered frame, small.

    Raises:
        UserError: it is no picture.
    """
    pixels = np.asarray(frame)
    if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8:
        raise UserError(
            f"render() gives {type(frame).__name__} of shape {pixels.shape} and type {pixels.dtype}; people need "
            "pictures: support render_mode rgb_array with (height, width, 3) uint8"
        )
    picture = Image.fromarray(pixels)
    if picture.width > WIDEST:
        picture = picture.resize((WIDEST, max(1, picture.height * WIDEST // picture.width)))
    written = io.BytesIO()
    picture.save(written, format="JPEG", quality=90)
    return written.getvalue()


def frames_of(film: Film) -> list[NDArray[np.uint8]]:
    """The pictures again: each (height, width, 3)."""
    return [np.asarray(Image.open(io.BytesIO(picture)).convert("RGB")) for picture in film]
