"""Segments that will be shown next -> clips, ahead of the labellers, in one process that owns the OpenGL context.

Runs beside trainer and page server, and hears of queries through the store alone. A clip is a file named by its
segment: it is rendered once, and whoever is killed leaves whole files only.
"""

from __future__ import annotations

import fcntl
import logging
import time
from collections.abc import Callable
from pathlib import Path

from prefrl.clips import ClipRenderer, write_video
from prefrl.labelling.leases import LeaseOptions, Leases
from prefrl.labelling.subject import subject_of
from prefrl.preferences import PreferenceStore, open_existing
from prefrl.segments import Segment
from prefrl.tasks import TASKS

log = logging.getLogger("prefrl.labelling")

WIDTH, HEIGHT = 320, 240  # of a clip, in pixels: two fit side by side on a laptop, one above the other on a phone
ENOUGH_FPS = 20  # frames a second that show a movement: twice as many take twice the time to render
AHEAD = 40  # pairs kept ready: two minutes for somebody who answers every 3 s
IDLE_SECONDS = 0.2


class Shelf:
    """The clips there are, and the queries that can be shown with them.

    Args:
        store: of the queries.
        folder: of the clips.
    """

    def __init__(self, store: PreferenceStore, folder: Path) -> None:
        self.store, self.folder = store, folder
        self._segments_of: dict[int, list[int]] = {}
        self._there: set[int] = set()

    def path(self, segment_id: int) -> Path:
        """Where the clip of a segment is, or will be."""
        return self.folder / f"segment-{segment_id}.mp4"

    def segments_of(self, query_id: int) -> list[int]:
        """Ids of the segments that a query shows, in the query's order."""
        if query_id not in self._segments_of:
            self._segments_of |= self.store.segment_ids([query_id])
        return self._segments_of[query_id]

    def has(self, segment_id: int) -> bool:
        """Whether the clip of a segment is there."""
        if segment_id not in self._there:
            path = self.path(segment_id)
            if path.is_file() and not path.is_symlink():  # a link might lead to what is nobody's to see
                self._there.add(segment_id)
        return segment_id in self._there

    def __contains__(self, query_id: object) -> bool:
        return isinstance(query_id, int) and all(map(self.has, self.segments_of(query_id)))


class ClipMaker:
    """Renders what is shown next.

    Args:
        leases: which say what that is.
        folder: for the clips; created.
        ahead: pairs to keep ready.

    Raises:
        RenderingUnavailable: no off-screen OpenGL here.
        UserError: the store does not say what it holds.
    """

    def __init__(self, leases: Leases, folder: Path, ahead: int = AHEAD) -> None:
        self.leases, self.store, self.ahead = leases, leases.store, ahead
        folder.mkdir(parents=True, exist_ok=True)
        self.shelf = Shelf(self.store, folder)
        self._without_states: set[int] = set()
        self.subject = subject_of(self.store)
        self._renderer: ClipRenderer | None = None
        if self.subject.name in TASKS:  # else there may be nothing to render
            self._open_renderer()

    def work(self) -> bool:
        """Render the clips of the first pair that lacks some; False if there is none among the next ones."""
        wanted = [each for each in self.leases.wanted(time.time()) if each not in self._without_states]
        return any(query_id not in self.shelf and self._render(query_id) for query_id in wanted[: self.ahead])

    def _render(self, query_id: int) -> bool:
        (query,) = self.store.queries([query_id])
        if any(segment.qpos is None for segment in query.segments):
            self._without_states.add(query_id)  # the trainer has filmed it
            return False
        for segment, segment_id in zip(query.segments, self.shelf.segments_of(query_id), strict=True):
            if not self.shelf.has(segment_id):
                self._write(segment, self.shelf.path(segment_id))
        return True

    def _write(self, segment: Segment, path: Path) -> None:
        renderer = self._renderer or self._open_renderer()
        assert segment.qpos is not None
        fps = self.subject.fps(segment.length)
        stride = max(1, fps // ENOUGH_FPS)
        qvel = None if segment.qvel is None else segment.qvel[::stride]
        write_video(path, renderer.iter_frames(segment.qpos[::stride], qvel), fps / stride)

    def _open_renderer(self) -> ClipRenderer:
        model, camera = self.subject.load()
        self._renderer = ClipRenderer(model, camera, WIDTH, HEIGHT)
        return self._renderer

    def close(self) -> None:
        """Free the OpenGL context."""
        if self._renderer is not None:
            self._renderer.close()


def make_clips(location: str, folder: Path, options: LeaseOptions, on_ready: Callable[[], None]) -> None:
    """Render ahead until this process ends.

    Args:
        location: path or URL of the store.
        folder: for the clips. While another process makes them there, this one waits for it to end.
        options: of the leases.
        on_ready: called once it is sure that clips can be rendered.

    Raises:
        RenderingUnavailable: no off-screen OpenGL here.
        UserError: the store cannot be read.
    """
    with open_existing(location) as store:
        maker = ClipMaker(Leases(store, options), folder)
        on_ready()
        try:
            with (folder / "lock").open("a") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                while True:
                    if not maker.work():
                        time.sleep(IDLE_SECONDS)
        finally:
            maker.close()
