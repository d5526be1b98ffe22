"""Segments that will be shown next -> clips, ahead of the labellers, in one process that owns the OpenGL context.

Runs beside trainer and page server, and hears of queries through the store alone. A clip is a file named by its
segment: it is rendered once, and whoever is killed leaves whole files only.
"""

from __future__ import annotations

import fcntl
import hashlib
import logging
import math
import os
import time
from collections.abc import Callable
from pathlib import Path

from prefrl.clips import ClipRenderer, write_video
from prefrl.errors import UserError
from prefrl.labelling.leases import Leases
from prefrl.labelling.options import LeaseOptions
from prefrl.labelling.subject import subject_of
from prefrl.preferences import PreferenceStore, open_existing
from prefrl.segments import Segment
from prefrl.tasks import TASKS

log = logging.getLogger("prefrl.labelling")

WIDTH, HEIGHT = 320, 240  # of a clip, in pixels: two fit side by side on a laptop, one above the other on a phone
ENOUGH_FPS = 20  # frames a second that show a movement: twice as many take twice the time to render
AHEAD = 40  # pairs kept ready: two minutes for somebody who answers every 3 s
IDLE_SECONDS = 0.2
FRESH_SECONDS = 0.2


def clips_of(store: PreferenceStore, folder: Path) -> Path:
    """Where the clips of a store are, within a folder that others may use too: segments of all of them are numbered."""
    name = store.location if "://" in store.location else Path(store.location).name
    return folder / hashlib.sha256(f"{store.created} {name}".encode()).hexdigest()[:12]


class Shelf:
    """The clips there are, and the queries that can be shown with them.

    `in` tells so from what was in the folder at most FRESH_SECONDS ago: it is asked of all queries there are.

    Args:
        store: of the queries.
        folder: of the clips of this store alone, as `clips_of` names it.
    """

    def __init__(self, store: PreferenceStore, folder: Path) -> None:
        self.store, self.folder = store, folder
        self._segments_of: dict[int, list[int]] = {}
        self._files: frozenset[str] = frozenset()
        self._looked = -math.inf  # when, by the steady clock

    def path(self, segment_id: int) -> Path:
        """Where the clip of a segment is, or will be."""
        return self.folder / f"segment-{segment_id}.mp4"

    def segments_of(self, query_id: int) -> list[int]:
        """Ids of the segments that a query shows, in the query's order."""
        if query_id not in self._segments_of:  # all new ones at once; ids rise in the order in which queries came
            self._segments_of |= self.store.segment_ids(newer_than=max(self._segments_of, default=0))
        return self._segments_of[query_id]

    def has(self, segment_id: int) -> bool:
        """Whether the clip of a segment is there now."""
        path = self.path(segment_id)
        return path.is_file() and not path.is_symlink()  # a link might lead to what is nobody's to see

    def __contains__(self, query_id: object) -> bool:
        if time.monotonic() - self._looked > FRESH_SECONDS:
            self._looked = time.monotonic()
            self._files = self._list()
        return isinstance(query_id, int) and all(self.path(s).name in self._files for s in self.segments_of(query_id))

    def _list(self) -> frozenset[str]:
        try:
            with os.scandir(self.folder) as entries:
                return frozenset(entry.name for entry in entries if entry.is_file(follow_symlinks=False))
        except FileNotFoundError:  # not made yet, or removed
            return frozenset()


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
        self.shelf = Shelf(self.store, folder)
        self.shelf.folder.mkdir(parents=True, exist_ok=True)
        self.subject = subject_of(self.store)
        self._renderer: ClipRenderer | None = None
        if self.subject.name in TASKS:  # else there may be nothing to render
            self._open_renderer()
        self._passed_over: set[int] = set()  # queries that cannot be rendered, or are filmed by the trainer

    def work(self) -> bool:
        """Render the clips of the first pair that lacks some; False if there is none among the next ones.

        A query that cannot be rendered is named in the log once, and never shown.
        """
        for query_id in self.leases.wanted(time.time(), self.ahead, self._passed_over):
            if not all(map(self.shelf.has, self.shelf.segments_of(query_id))):
                try:
                    self._render(query_id)
                except UserError as error:
                    self._passed_over.add(query_id)
                    log.error("query %d can't be shown: %s", query_id, error)
                except OSError as error:  # a full disk; tried again after a while
                    log.error("no clips can be written: %s", error)
                    return False
                return True
        return False

    def _render(self, query_id: int) -> None:
        (query,) = self.store.queries([query_id])
        if any(segment.qpos is None for segment in query.segments):
            if self.subject.name in TASKS:
                raise UserError(f"its segments in {self.store.location} have no exact states to render")
            self._passed_over.add(query_id)  # the trainer films it
            return
        for segment, segment_id in zip(query.segments, self.shelf.segments_of(query_id), strict=True):
            if not self.shelf.has(segment_id):
                self._write(segment, self.shelf.path(segment_id))

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
        folder: for the clips of this and other stores. While another process makes them, this one waits for it to end.
        options: of the leases.
        on_ready: called once it is sure that clips can be rendered.

    Raises:
        RenderingUnavailable: no off-screen OpenGL here.
        UserError: the store cannot be read.
    """
    with open_existing(location) as store:
        maker = ClipMaker(Leases(store, options), clips_of(store, folder))
        on_ready()
        try:
            with (maker.shelf.folder / "lock").open("a") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                for unfinished in maker.shelf.folder.glob(".segment-*"):  # of a process that was killed
                    unfinished.unlink(missing_ok=True)
                while True:
                    if not maker.work():
                        time.sleep(IDLE_SECONDS)
        finally:
            maker.close()
