import ctypes
import importlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import imageio_ffmpeg
import mujoco
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from prefrl.clips import ClipRenderer, RenderingUnavailable, annotate, frame_strip, write_gif, write_video
from prefrl.clips.camera_path import follow
from prefrl.errors import UserError
from prefrl.tasks import TASKS, Camera, load_model

SIDE_VIEW = Camera(distance=4.0, elevation=-10.0, height=1.0)


def _missing_gl() -> str | None:
    """What this machine lacks; on one that has the library, a rendering that fails is a failing test."""
    if os.environ.get("MUJOCO_GL", "") in ("disable", "disabled", "off", "false", "0"):
        return "rendering is switched off by MUJOCO_GL"
    try:
        ctypes.CDLL("libEGL.so.1")
    except OSError as error:
        return f"no off-screen OpenGL: {error}; apt-get install -y libegl1 libgl1 libgl1-mesa-dri"
    return None


needs_gl = pytest.mark.skipif(_missing_gl() is not None, reason=str(_missing_gl()))


@pytest.fixture(scope="module")
def hopper() -> mujoco.MjModel:
    return load_model(TASKS["hopper"])


@pytest.fixture(scope="module")
def renderer(hopper: mujoco.MjModel) -> Iterator[ClipRenderer]:
    with ClipRenderer(hopper, SIDE_VIEW, 160, 120) as made:
        yield made


def states(model: mujoco.MjModel, steps: int = 1, **values: float | NDArray[np.float64]) -> NDArray[np.float64]:
    """(steps, nq): the model's resting pose with some hopper coordinates set."""
    qpos = np.repeat(np.asarray(model.qpos0)[None], steps, axis=0)
    for name, value in values.items():
        qpos[:, {"x": 0, "z": 1, "pitch": 2}[name]] = value
    return qpos


def robot_pixels(frame: NDArray[np.uint8]) -> NDArray[np.int64]:
    """(N, 2): rows and columns of what is brown; sky, floor and shadows are bluish."""
    return np.argwhere(frame[..., 0].astype(int) - frame[..., 2] > 25)


def test_a_robot_at_constant_speed_is_followed_exactly() -> None:
    path = np.stack([np.linspace(0.0, 50.0, 200), np.linspace(3.0, 1.0, 200)], axis=1)
    np.testing.assert_allclose(follow(path, slack=0.1), path, atol=1e-9)


def test_the_camera_glides_but_never_loses_the_robot() -> None:
    rng = np.random.default_rng(0)
    robot = np.cumsum(rng.normal(0, 0.2, (300, 2)), axis=0)
    camera = follow(robot, slack=0.6)
    assert np.abs(camera - robot).max() <= 0.6 + 1e-12
    assert np.abs(np.diff(camera, axis=0)).mean() < 0.5 * np.abs(np.diff(robot, axis=0)).mean()


def test_the_camera_cuts_at_a_reset_instead_of_gliding() -> None:
    robot = np.concatenate([np.linspace(0, 30, 100), np.linspace(0, 30, 100)])[:, None]
    np.testing.assert_allclose(follow(robot, slack=0.6), robot, atol=1e-9)


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_the_camera_can_follow_a_clip_of_a_few_frames(steps: int) -> None:
    robot = np.linspace(0.0, 1.0, steps)[:, None]
    np.testing.assert_allclose(follow(robot, slack=0.3), robot, atol=1e-9)


@needs_gl
def test_up_is_up_and_forward_is_to_the_right(hopper: mujoco.MjModel) -> None:
    with ClipRenderer(hopper, Camera(distance=4.0, height=1.0, track=False), 160, 120) as fixed:
        rest, higher, further = (
            robot_pixels(fixed.frames(qpos)[0]).mean(axis=0)
            for qpos in (states(hopper), states(hopper, z=1.25 + 0.5), states(hopper, x=0.5))
        )
        frame = fixed.frames(states(hopper))[0].astype(int)
    assert higher[0] < rest[0] - 10
    assert higher[1] == pytest.approx(rest[1], abs=1)
    assert further[1] > rest[1] + 10
    assert frame[:10].mean() > frame[-10:].mean() + 20, "the sky is bright and above, the floor below"


@needs_gl
def test_a_backward_turn_goes_to_the_left(hopper: mujoco.MjModel, renderer: ClipRenderer) -> None:
    leaning_back = robot_pixels(renderer.frames(states(hopper, pitch=-0.7))[0])
    top = leaning_back[leaning_back[:, 0] < leaning_back[:, 0].min() + 10, 1].mean()
    foot = leaning_back[leaning_back[:, 0] > leaning_back[:, 0].max() - 10, 1].mean()
    assert top < foot


@needs_gl
def test_the_robot_and_the_floor_stay_in_view_over_100_metres(hopper: mujoco.MjModel, renderer: ClipRenderer) -> None:
    frames = renderer.frames(states(hopper, 60, x=np.linspace(0.0, 100.0, 60)))
    for frame in frames[[0, 15, 30, 45, 59]]:
        column = robot_pixels(frame).mean(axis=0)[1]
        assert 0.3 * 160 < column < 0.7 * 160
        assert frame[-20:, :, 0].std() > 8, "the floor's tiles can be seen"


@needs_gl
def test_the_floor_shows_how_far_the_robot_went(hopper: mujoco.MjModel, renderer: ClipRenderer) -> None:
    """The hopper's floor has tiles of 1/3 m, so the picture repeats after 2/3 m and is inverted after 1/3 m."""
    floor = [renderer.frames(states(hopper, x=x))[0, -30:].astype(int) for x in (0.0, 40.0, 1 / 3)]
    assert np.abs(floor[0] - floor[1]).mean() < 1
    assert np.abs(floor[0] - floor[2]).mean() > 10


@needs_gl
def test_the_camera_stays_at_its_height_when_the_robot_jumps(hopper: mujoco.MjModel, renderer: ClipRenderer) -> None:
    frames = renderer.frames(states(hopper, 9, z=1.25 + np.linspace(0.0, 0.6, 9)))
    rows = [robot_pixels(frame)[:, 0].mean() for frame in frames]
    assert np.all(np.diff(rows) < 0)
    corner = frames[:, -15:, :40].astype(int)  # floor beside the robot
    assert np.abs(corner - corner[0]).max() <= 2


@needs_gl
def test_a_shadow_lies_on_the_floor_below_a_jumping_robot(hopper: mujoco.MjModel, renderer: ClipRenderer) -> None:
    frame = renderer.frames(states(hopper, z=1.25 + 0.6))[0].astype(int)
    dark = np.argwhere(frame.sum(axis=-1) < 330)
    robot = robot_pixels(frame.astype(np.uint8))
    below = dark[dark[:, 0] > robot[:, 0].max() + 5]
    assert len(below) > 5
    assert below[:, 1].mean() == pytest.approx(robot[:, 1].mean(), abs=10)


@needs_gl
@pytest.mark.parametrize("name", TASKS)
def test_every_task_has_a_camera_that_frames_its_robot(name: str) -> None:
    task = TASKS[name]
    model = load_model(task)
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    with ClipRenderer(model, task.camera, 160, 120) as renderer:
        frame = renderer.frames(model.qpos0[None])[0].astype(int)
        moved = renderer.frames(model.qpos0[None] + 0.3)[0].astype(int)
    changed = np.argwhere(np.abs(frame - moved).max(axis=-1) > 30)
    assert 30 < len(changed) < 0.9 * 160 * 120
    assert frame.std() > 5
    assert frame.mean() > 120, "no black background"


@needs_gl
def test_rendering_repeats_itself_and_leaves_the_model_alone(hopper: mujoco.MjModel, renderer: ClipRenderer) -> None:
    before = [hopper.tex_data.copy(), hopper.geom_rgba.copy(), hopper.vis.headlight.ambient.copy()]
    with ClipRenderer(hopper, SIDE_VIEW, 160, 120) as again:
        qpos = states(hopper, 3, pitch=np.array([0.0, 0.5, 1.0]))
        np.testing.assert_array_equal(again.frames(qpos), renderer.frames(qpos, np.zeros((3, hopper.nv))))
        np.testing.assert_array_equal(np.stack(list(again.iter_frames(qpos))), again.frames(qpos))
    after = [hopper.tex_data, hopper.geom_rgba, hopper.vis.headlight.ambient]
    for old, new in zip(before, after, strict=True):
        np.testing.assert_array_equal(old, new)


@needs_gl
def test_states_that_cannot_be_drawn_are_refused(hopper: mujoco.MjModel, renderer: ClipRenderer) -> None:
    with pytest.raises(UserError, match=r"NaN or infinity"):
        renderer.frames(states(hopper, z=np.nan))
    with pytest.raises(UserError, match=r"needs \(T, 6\) and \(T, 6\)"):
        renderer.frames(np.zeros((3, 5)))
    assert renderer.frames(np.zeros((0, 6))).shape == (0, 120, 160, 3)


@needs_gl
def test_a_closed_renderer_says_so(hopper: mujoco.MjModel) -> None:
    closed = ClipRenderer(hopper, SIDE_VIEW, 64, 48)
    closed.close()
    closed.close()
    with pytest.raises(RuntimeError, match="closed"):
        closed.frames(states(hopper))


def test_an_absurd_size_is_refused(hopper: mujoco.MjModel) -> None:
    with pytest.raises(UserError, match="16 to 4096"):
        ClipRenderer(hopper, SIDE_VIEW, 320, 0)


def test_missing_opengl_is_one_line_that_says_what_to_install(
    hopper: mujoco.MjModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = importlib.import_module

    def missing(name: str) -> object:
        if name.startswith("mujoco."):
            raise ImportError("cannot load libEGL.so.1\nand much more")
        return there(name)  # triton, of PyTorch's GPU builds

    monkeypatch.setattr(importlib, "import_module", missing)
    monkeypatch.setenv("MUJOCO_GL", "egl")
    with pytest.raises(RenderingUnavailable, match=r"libEGL\.so\.1.*apt-get install.*libegl1") as caught:
        ClipRenderer(hopper, SIDE_VIEW)
    assert "\n" not in str(caught.value)
    monkeypatch.setenv("MUJOCO_GL", "disable")
    with pytest.raises(RenderingUnavailable, match="MUJOCO_GL=disable"):
        ClipRenderer(hopper, SIDE_VIEW)


def moving_square(count: int = 20, height: int = 48, width: int = 64) -> NDArray[np.uint8]:
    frames = np.full((count, height, width, 3), 230, dtype=np.uint8)
    for i, frame in enumerate(frames):
        frame[10:20, 2 * i : 2 * i + 10] = (200, 30, 30)
    return frames


def test_a_video_plays_everywhere_and_keeps_every_frame(tmp_path: Path) -> None:
    frames = moving_square()
    path = write_video(tmp_path / "new" / "clip.mp4", iter(frames), fps=40)
    reader = imageio_ffmpeg.read_frames(str(path))
    meta = next(reader)
    decoded = np.stack([np.frombuffer(frame, np.uint8).reshape(48, 64, 3) for frame in reader])
    assert meta["fps"] == 40
    assert meta["codec"] == "h264"
    assert meta["pix_fmt"].startswith("yuv420p")
    assert len(decoded) == len(frames)
    assert np.abs(decoded.astype(int) - frames).mean() < 8
    content = path.read_bytes()
    assert content.index(b"moov") < content.index(b"mdat"), "the index comes first: playback starts at once"
    assert [each.name for each in path.parent.iterdir()] == ["clip.mp4"]


def test_odd_sizes_are_padded_to_even_ones(tmp_path: Path) -> None:
    path = write_video(tmp_path / "odd.mp4", moving_square(4, 33, 47), fps=10)
    assert next(imageio_ffmpeg.read_frames(str(path)))["source_size"] == (48, 34)


def test_a_video_that_fails_half_way_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    path.write_bytes(b"old")

    def broken() -> Iterator[NDArray[np.uint8]]:
        yield from moving_square(3)
        raise RuntimeError("no more")

    with pytest.raises(RuntimeError, match="no more"):
        write_video(path, broken(), fps=10)
    assert path.read_bytes() == b"old"
    assert [each.name for each in tmp_path.iterdir()] == ["clip.mp4"]


def test_a_video_without_frames_or_speed_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no frames"):
        write_video(tmp_path / "clip.mp4", [], fps=10)
    with pytest.raises(UserError, match="positive frame rate"):
        write_video(tmp_path / "clip.mp4", moving_square(2), fps=0)
    assert list(tmp_path.iterdir()) == []


def test_a_gif_plays_at_the_speed_of_the_clip(tmp_path: Path) -> None:
    path = write_gif(tmp_path / "clip.gif", moving_square(40), fps=40)
    with Image.open(path) as gif:
        total = 0
        for index in range(gif.n_frames):  # type: ignore[attr-defined]
            gif.seek(index)
            total += gif.info["duration"]
        assert gif.info["loop"] == 0
    assert total == pytest.approx(1000, abs=20)


def test_a_small_robot_keeps_its_colour_in_a_gif(tmp_path: Path) -> None:
    rng, orange = np.random.default_rng(0), np.array([200, 110, 30])
    frames = rng.integers(80, 230, (8, 120, 160, 1)) + rng.integers(0, 24, (8, 120, 160, 3))  # all shades of grey
    frames[:, 54:58, 76:84] = orange
    path = write_gif(tmp_path / "clip.gif", frames.astype(np.uint8), fps=20)
    with Image.open(path) as gif:
        shown = np.asarray(gif.convert("RGB"))[56, 80].astype(int)
    assert np.abs(shown - orange).max() < 30


def test_a_gif_gets_coarser_until_it_fits(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 255, (12, 60, 80, 3)).astype(np.uint8)
    fine = write_gif(tmp_path / "fine.gif", noise, fps=20).stat().st_size
    assert write_gif(tmp_path / "coarse.gif", noise, fps=20, max_bytes=fine // 2).stat().st_size <= fine // 2
    with pytest.raises(UserError, match="more than 100"):
        write_gif(tmp_path / "tiny.gif", noise, fps=20, max_bytes=100)
    assert not (tmp_path / "tiny.gif").exists()


def test_a_contact_sheet_shows_first_and_last_frame(tmp_path: Path) -> None:
    frames = moving_square(20)
    with Image.open(frame_strip(frames, 6, tmp_path / "strip.png")) as sheet:
        pixels = np.asarray(sheet)
    assert pixels.shape == (2 * 48, 3 * 64, 3)
    np.testing.assert_array_equal(pixels[:20, :64], frames[0, :20])
    np.testing.assert_array_equal(pixels[48:68, 128:], frames[-1, :20])


def test_each_frame_gets_its_own_text() -> None:
    frames = moving_square(2, 120, 160)
    first, second = annotate(frames, ["0.0 s", "1.0 s"])
    assert first.shape == frames[0].shape
    assert not np.array_equal(first[:30, :60], second[:30, :60])
    np.testing.assert_array_equal(first[40:], frames[0, 40:])
    with pytest.raises(ValueError, match="shorter"):
        list(annotate(frames, ["one"]))


def test_the_encoder_ships_with_the_package() -> None:
    version = subprocess.run([imageio_ffmpeg.get_ffmpeg_exe(), "-version"], capture_output=True, text=True, check=True)
    assert re.search("enable-libx264", version.stdout)


@needs_gl
def test_an_optimiser_may_follow_a_picture() -> None:
    """PyTorch's GPU builds and Mesa bring an LLVM each; in the wrong order that was a crash of the process."""
    code = (
        "import torch\n"
        "from prefrl.clips import ClipRenderer\n"
        "from prefrl.tasks import TASKS, load_model\n"
        "task = TASKS['pendulum']\n"
        "with ClipRenderer(load_model(task), task.camera, 64, 64) as renderer:\n"
        "    renderer.frames([[0.0, 0.0]])\n"
        "torch.optim.Adam([torch.nn.Parameter(torch.zeros(2))])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
