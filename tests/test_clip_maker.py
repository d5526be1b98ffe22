"""Clips ahead of the labellers: which, once each, and by one process."""

from __future__ import annotations

import fcntl
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from stores import make_query, make_segment
from test_clips import needs_gl

from prefrl.errors import UserError
from prefrl.labelling import clip_maker
from prefrl.labelling.clip_maker import ClipMaker, Shelf, clips_of, make_clips
from prefrl.labelling.leases import Leases
from prefrl.labelling.options import LeaseOptions
from prefrl.labelling.subject import subject_of
from prefrl.preferences import PreferenceStore
from prefrl.queries import Query
from prefrl.segments import Segment

OPTIONS = LeaseOptions(repeat=0.0)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[PreferenceStore]:
    with PreferenceStore(tmp_path / "preferences.db", task="hopper") as opened:
        yield opened


@pytest.fixture
def rendered(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """No rendering: the names of the clips that would be rendered."""
    names: list[str] = []

    class Renderer:
        def __init__(self, *_: object) -> None:
            pass

        def iter_frames(self, qpos: np.ndarray, _: object) -> list[np.ndarray]:
            if len(qpos[0]) != 5:
                raise UserError("states do not fit")
            return []

        def close(self) -> None:
            pass

    def write(path: Path, *_: object) -> None:
        names.append(path.name)
        path.write_bytes(b"clip")

    monkeypatch.setattr(clip_maker, "ClipRenderer", Renderer)
    monkeypatch.setattr(clip_maker, "write_video", write)
    return names


def test_a_query_can_be_shown_when_both_clips_are_there(
    store: PreferenceStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clip_maker, "FRESH_SECONDS", -1)
    store.add_queries([make_query(0), make_query(1)])
    shelf = Shelf(store, tmp_path / "clips")
    assert 1 not in shelf, "there is no folder yet"
    shelf.folder.mkdir()
    assert shelf.segments_of(2) == [3, 4]
    shelf.path(3).write_bytes(b"clip")
    assert (shelf.has(3), shelf.has(4), 2 in shelf) == (True, False, False)
    shelf.path(4).with_suffix(".mp4.unfinished").write_bytes(b"cl")
    assert 2 not in shelf
    shelf.path(4).write_bytes(b"clip")
    assert (1 in shelf, 2 in shelf, "2" in shelf) == (False, True, False)
    shelf.path(3).unlink()
    assert 2 not in shelf, "removed since"


def test_links_and_folders_are_no_clips(
    store: PreferenceStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clip_maker, "FRESH_SECONDS", -1)
    store.add_queries([make_query()])
    shelf = Shelf(store, tmp_path)
    (tmp_path / "secret").write_bytes(b"secret")
    shelf.path(1).symlink_to("secret")
    shelf.path(2).mkdir()
    assert (shelf.has(1), shelf.has(2), 1 in shelf) == (False, False, False)


def test_the_folder_is_not_read_for_every_query(store: PreferenceStore, tmp_path: Path) -> None:
    store.add_queries([make_query()] * 5000)
    shelf = Shelf(store, tmp_path)
    began = time.process_time()
    assert not any(query_id in shelf for query_id in range(1, 5001))
    assert time.process_time() - began < 2


def test_a_segment_that_two_queries_share_is_rendered_once(
    store: PreferenceStore, tmp_path: Path, rendered: list[str]
) -> None:
    segments = [make_segment(i) for i in range(3)]
    store.add_queries([Query((segments[0], segments[1])), Query((segments[1], segments[2]))])
    maker = ClipMaker(Leases(store, OPTIONS), tmp_path / "clips")
    assert [maker.work() for _ in range(3)] == [True, True, False]
    assert rendered == ["segment-2.mp4", "segment-3.mp4", "segment-1.mp4"], "newest first"
    ClipMaker(Leases(store, OPTIONS), tmp_path / "clips").work()
    assert len(rendered) == 3, "nor after a restart"
    maker.shelf.path(2).unlink()
    assert maker.work()
    assert rendered[3:] == ["segment-2.mp4"], "what was removed is made again"


def test_what_is_open_comes_first_and_no_more_than_is_needed_soon(
    store: PreferenceStore, tmp_path: Path, rendered: list[str]
) -> None:
    store.add_queries([make_query(seed) for seed in range(10)])
    leases = Leases(store, OPTIONS)
    leases.take(leases.join("Ann", "v1", 0.0), 1, [4], time.time())
    maker = ClipMaker(leases, tmp_path / "clips", ahead=3)
    while maker.work():
        pass
    shown = [[7, 8], [19, 20], [17, 18], [15, 16]]
    assert rendered == [f"segment-{segment_id}.mp4" for pair in shown for segment_id in pair]


def test_a_query_that_cannot_be_rendered_holds_up_no_other(
    store: PreferenceStore, tmp_path: Path, rendered: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    wide = make_segment(7)
    wide = Segment(wide.observations, wide.actions, wide.true_rewards, np.zeros((4, 9)), None)
    without = make_segment(8, exact_states=False)
    store.add_queries([make_query(0), make_query(1), Query((wide, without)), Query((without, wide))])
    maker = ClipMaker(Leases(store, OPTIONS), tmp_path / "clips", ahead=1)
    while maker.work():
        pass
    assert rendered == ["segment-3.mp4", "segment-4.mp4"], "the next one that can be"
    lines = [record.getMessage() for record in caplog.records]
    assert [line.partition(":")[0] for line in lines] == ["query 4 can't be shown", "query 3 can't be shown"]
    assert "no exact states" in lines[0]


def test_of_two_makers_in_one_folder_one_renders(
    store: PreferenceStore, tmp_path: Path, rendered: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    store.add_queries([make_query()])
    folder = clips_of(store, tmp_path / "clips")
    folder.mkdir(parents=True)
    (folder / ".segment-1-of-one-that-was-killed.mp4").touch()
    ready = threading.Event()

    class Ended(Exception):
        pass

    def idle(_: float) -> None:
        raise Ended

    def make() -> None:
        with pytest.raises(Ended):
            make_clips(store.location, tmp_path / "clips", OPTIONS, ready.set)

    with (folder / "lock").open("a") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        maker = threading.Thread(target=make)
        maker.start()
        assert ready.wait(30), "it stands by"
        time.sleep(0.2)
        assert rendered == []
        monkeypatch.setattr(time, "sleep", idle)
    maker.join(30)
    assert not maker.is_alive()
    assert len(rendered) == 2
    assert list(folder.glob(".segment-*")) == []


def test_a_store_that_does_not_say_what_it_holds_is_refused(tmp_path: Path) -> None:
    with (
        PreferenceStore(tmp_path / "preferences.db") as store,
        pytest.raises(UserError, match="holds no segments yet; start the run that asks first"),
    ):
        subject_of(store)


def test_what_a_users_environment_does_without_states_is_left_to_the_trainer(
    tmp_path: Path, rendered: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    with PreferenceStore(tmp_path / "preferences.db", task="somebody/Own-v0") as store:
        store.add_queries([Query((make_segment(1, exact_states=False), make_segment(2, exact_states=False)))])
        maker = ClipMaker(Leases(store, OPTIONS), tmp_path / "clips")
        while maker.work():
            pass
    assert rendered == []
    assert caplog.text == ""


@needs_gl
def test_a_clip_is_a_video_of_the_segment(store: PreferenceStore, tmp_path: Path) -> None:
    import imageio_ffmpeg

    steps = np.zeros((10, 1), np.float32)
    segment = Segment(steps, steps, steps[:, 0], np.tile([0.0, 1.25, 0, 0, 0, 0], (10, 1)), np.zeros((10, 6)))
    other = Segment(steps, steps, steps[:, 0], np.tile([0.0, 1.25, 0.5, 0, 0, 0], (10, 1)), np.zeros((10, 6)))
    store.add_queries([Query((segment, other))])
    maker = ClipMaker(Leases(store, OPTIONS), tmp_path / "clips")
    try:
        assert maker.work()
        assert not maker.work()
    finally:
        maker.close()
    video = imageio_ffmpeg.read_frames(str(maker.shelf.path(1)))
    about = next(video)
    assert about["size"] == (clip_maker.WIDTH, clip_maker.HEIGHT)
    assert about["codec"] == "h264"
    assert len({len(frame) for frame in video}) == 1
