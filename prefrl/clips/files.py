"""Frames -> files: H.264 clips, GIFs for a README, contact sheets. Every file appears whole, by renaming."""

from __future__ import annotations

import functools
import itertools
import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import imageio_ffmpeg
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from prefrl.errors import UserError

Frame = NDArray[np.uint8]  # (height, width, 3)
GIF_FASTEST = 25  # frames per second that browsers still show at the right speed, in whole hundredths of a second


def write_video(path: str | Path, frames: Iterable[Frame], fps: float, crf: int = 23) -> Path:
    """Write H.264 in an MP4 that plays in every browser: yuv420p, index in front, even sizes (edges repeated).

    Args:
        frames: each (height, width, 3) uint8; an array (T, height, width, 3) will do.
        fps: frames per second of playback.
        crf: x264's quality, 18 (near lossless) to 35 (coarse).

    Raises:
        UserError: there are no frames, or fps is not positive.
    """
    first, rest = _first_of(frames, path)
    if not fps > 0:
        raise UserError(f"a video needs a positive frame rate, not {fps}")
    height, width = first.shape[:2]
    size = (width + width % 2, height + height % 2)
    with _whole_file(path) as partial:
        writer = imageio_ffmpeg.write_frames(
            str(partial),
            size,
            fps=fps,
            codec="libx264",
            pix_fmt_in="rgb24",
            pix_fmt_out="yuv420p",
            quality=None,
            macro_block_size=2,
            output_params=["-crf", str(crf), "-preset", "fast", "-movflags", "+faststart", "-f", "mp4"],
            ffmpeg_log_level="error",
        )
        writer.send(None)
        try:
            for frame in itertools.chain([first], rest):
                writer.send(np.ascontiguousarray(_even(frame)))
        finally:
            writer.close()
    return Path(path)


def write_gif(path: str | Path, frames: Iterable[Frame], fps: float, max_bytes: int = 3_000_000) -> Path:
    """Write a looping GIF at the right speed, made coarser until it fits.

    Args:
        fps: of the frames; every second, third, … one is dropped when GIF can't show that many.
        max_bytes: first the colours, then the frame rate, then the size of the picture give way.

    Raises:
        UserError: there are no frames, or even the coarsest GIF is larger than max_bytes.
    """
    first, rest = _first_of(frames, path)
    pictures = [Image.fromarray(frame) for frame in itertools.chain([first], rest)]
    fine = max(1, int(np.ceil(fps / GIF_FASTEST)))
    with _whole_file(path) as partial:
        for colours, stride, scale in ((64, fine, 1.0), (32, fine, 1.0), (32, 2 * fine, 1.0), (32, 2 * fine, 0.7)):
            _save_gif(partial, pictures[::stride], fps / stride, colours, scale)
            if partial.stat().st_size <= max_bytes:
                break
        else:
            size = partial.stat().st_size
            raise UserError(f"{path} would be {size} bytes, more than {max_bytes}; give fewer frames or a higher limit")
    return Path(path)


def frame_strip(frames: Iterable[Frame], count: int, path: str | Path, columns: int | None = None) -> Path:
    """A PNG contact sheet of `count` evenly spaced frames with their indices, to look at a movement at a glance."""
    all_frames = list(frames)
    if not all_frames or count < 1:
        raise UserError(f"a contact sheet needs frames; got {len(all_frames)} frames and a count of {count}")
    chosen = np.unique(np.linspace(0, len(all_frames) - 1, min(count, len(all_frames))).round().astype(int))
    labelled = [_with_text(all_frames[i], str(i), at_bottom=True) for i in chosen]
    columns = columns or int(np.ceil(np.sqrt(len(labelled))))
    height, width = labelled[0].shape[:2]
    sheet = np.full((-(-len(labelled) // columns) * height, columns * width, 3), 255, dtype=np.uint8)
    for i, frame in enumerate(labelled):
        row, column = divmod(i, columns)
        sheet[row * height : (row + 1) * height, column * width : (column + 1) * width] = frame
    with _whole_file(path) as partial:
        Image.fromarray(sheet).save(partial, format="PNG", optimize=True)
    return Path(path)


def annotate(frames: Iterable[Frame], texts: Iterable[str]) -> Iterator[Frame]:
    """The frames with one text each in the top left corner; lines are separated by newlines.

    Raises:
        ValueError: there are more texts than frames, or fewer.
    """
    for frame, text in zip(frames, texts, strict=True):
        yield _with_text(frame, text)


def _with_text(frame: Frame, text: str, at_bottom: bool = False) -> Frame:
    height = frame.shape[0]
    font = _font(max(11, height // 18))
    picture = Image.fromarray(frame)
    draw = ImageDraw.Draw(picture, "RGBA")
    left, top, right, bottom = draw.multiline_textbbox((8, 6), text, font=font)
    down = height - bottom - 8 if at_bottom else 0
    draw.rectangle((left - 5, top - 4 + down, right + 5, bottom + 4 + down), fill=(255, 255, 255, 190))
    draw.multiline_text((8, 6 + down), text, font=font, fill=(20, 24, 28, 255))
    return np.asarray(picture)


@functools.cache
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size=size)


def _save_gif(path: Path, pictures: list[Image.Image], fps: float, colours: int, scale: float) -> None:
    if scale != 1.0:
        size = (round(pictures[0].width * scale), round(pictures[0].height * scale))
        pictures = [picture.resize(size, Image.Resampling.LANCZOS) for picture in pictures]
    sample = Image.new("RGB", (pictures[0].width, 8 * pictures[0].height))  # one palette for all: no flicker
    for i, index in enumerate(np.linspace(0, len(pictures) - 1, 8).astype(int)):
        sample.paste(pictures[index], (0, i * pictures[0].height))
    # Median cut goes by how many pixels a colour has: the robot, a hundredth of them, would come out grey.
    palette = sample.quantize(colours, method=Image.Quantize.FASTOCTREE)
    indexed = [picture.quantize(palette=palette, dither=Image.Dither.NONE) for picture in pictures]
    ends = np.round(np.arange(1, len(indexed) + 1) * 100 / fps).astype(int)  # in hundredths: the total stays right
    durations = [int(each) * 10 for each in np.diff(ends, prepend=0)]
    indexed[0].save(
        path, format="GIF", save_all=True, append_images=indexed[1:], duration=durations, loop=0, optimize=False
    )


def _first_of(frames: Iterable[Frame], path: str | Path) -> tuple[Frame, Iterator[Frame]]:
    rest = iter(frames)
    first = next(rest, None)
    if first is None:
        raise UserError(f"no frames to write to {path}; a clip needs at least one")
    return first, rest


def _even(frame: Frame) -> Frame:
    """H.264 with yuv420p needs even sizes: repeat the last row and column where one is missing."""
    height, width = frame.shape[:2]
    if height % 2 == 0 and width % 2 == 0:
        return frame
    return np.pad(frame, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")


@contextmanager
def _whole_file(path: str | Path) -> Iterator[Path]:
    """A temporary name beside `path` that takes its place on success and leaves nothing behind on failure."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.stem}-", suffix=path.suffix, dir=path.parent)
    os.close(handle)
    partial = Path(name)
    try:
        yield partial
        partial.chmod(0o644)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
