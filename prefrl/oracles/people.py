"""People answer through the labelling page, straight into the store; here are the clips that only the trainer has.

Segments with exact states are rendered beside it (labelling/clip_maker.py). Of the others there are pictures
(candidate_films.py), which are gone once the trainer is.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence

from prefrl.candidate_films import frames_of
from prefrl.clips import write_video
from prefrl.labelling.clip_maker import Shelf
from prefrl.labelling.leases import PICTURES_LOST
from prefrl.labelling.subject import playback_fps
from prefrl.preferences import SKIPPED, Answer
from prefrl.queries import Query

log = logging.getLogger("prefrl")


class People:
    """Leaves queries to whoever labels, with a clip of each segment that cannot be rendered later.

    Args:
        shelf: where the clips go.
    """

    others_answer = True

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf
        self._lost: list[Answer] = []

    def submit(self, queries: Sequence[Query]) -> None:
        """Write the clips that are needed. A query whose pictures were lost in an interruption is skipped."""
        for query in queries:
            assert query.id is not None
            segment_ids = self._shelf.segments_of(query.id)
            for segment, segment_id in zip(query.segments, segment_ids, strict=True):
                if segment.film and not self._shelf.has(segment_id):
                    fps = playback_fps(segment.length)
                    write_video(self._shelf.path(segment_id), frames_of(segment.film), fps)
            if query.segments[0].qpos is None and not all(map(self._shelf.has, segment_ids)):
                log.warning("query %d has lost its pictures in the interruption; it is skipped", query.id)
                now = time.time()
                self._lost.append(Answer(query.id, SKIPPED, PICTURES_LOST, now, now))

    def recall(self, queries: Sequence[Query]) -> None:
        """Look at nothing."""

    def collect(self) -> list[Answer]:
        """What was skipped; everything else comes through the store."""
        lost, self._lost = self._lost, []
        return lost
