"""The README's moving picture: some seconds of a run's final video as a GIF.

.venv/bin/python experiments/moving_picture.py runs/backflip experiments/results/backflip/backflip.gif
"""

from __future__ import annotations

import argparse
from pathlib import Path

import imageio.v3 as iio

from prefrl.clips import write_gif


def main() -> None:
    """Read RUN/videos/final.mp4, write a GIF of its middle."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="folder of a finished run")
    parser.add_argument("out", type=Path, help="GIF to write")
    parser.add_argument("--start", type=float, default=2.0, help="second of the video to begin at")
    parser.add_argument("--seconds", type=float, default=5.0, help="length")
    options = parser.parse_args()
    video = options.run / "videos" / "final.mp4"
    if not video.exists():
        parser.exit(1, f"{video} is missing; give the folder of a run that ended, without --no-video\n")
    fps = float(iio.immeta(video)["fps"])
    frames = iio.imread(video)[int(options.start * fps) :][: int(options.seconds * fps)]
    options.out.parent.mkdir(parents=True, exist_ok=True)
    print(write_gif(options.out, frames, fps))


if __name__ == "__main__":
    main()
