"""From a video file to evenly sampled pictures on disk, by timestamps rather than by frame count."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jaxtyping import UInt8

from data_tools.tracking.config import TrackingError
from data_tools.tracking.pictures import save_picture

QUEUE = 16
"""Pictures that may wait to be written: bounds the memory a long video takes."""
NOTHING_DECODED = "no frame could be decoded. Is the file complete? Copy or export it again."
EARLY = 0.25
"""Part of a tick by which a frame may come before its slot: clocks of cameras jitter."""
STILL = 0.3
"""Mean difference, of 255, below which two pictures are the same one compressed twice: a camera's noise is larger."""


@dataclass(frozen=True)
class VideoInfo:
    """What the container says of the video, before decoding it."""

    width: int
    height: int
    """Size as displayed: after rotation and with square pixels."""
    frames: int | None
    """Estimated number of sampled frames; None if the container does not say how long it is."""


@dataclass(frozen=True)
class Sampled:
    """The sampled pictures of a video."""

    slots: tuple[int, ...]
    """Place of each picture on the clock of the sampling rate: picture i was shown at slots[i] / fps seconds."""
    sources: tuple[int, ...]
    """Number of each picture among the video's own frames, from 0."""
    width: int
    height: int
    """Size of the stored pictures."""
    scale: float
    """Stored size over the video's own."""
    still: float
    """Fraction of pictures that are the same as the one before."""
    total: int | None = None
    """Number of frames that the video itself has; None if it was not read to its end."""
    warning: str = ""
    """What was left out and why; empty if nothing was."""


def probe(video: Path, fps: float) -> VideoInfo:
    """Open a video and read its size and length.

    Raises:
        TrackingError: if the file is missing, is no video, or holds no picture that can be decoded.
    """
    import av

    if not video.is_file():
        raise TrackingError(f"{video}: no such video. Check the path.")
    try:
        with av.open(str(video)) as container:
            if not container.streams.video:
                raise TrackingError(f"{video}: holds no video stream (sound only?). Give a video of a talking head.")
            stream = container.streams.video[0]
            first = next(container.decode(stream), None)
            if first is None:
                raise TrackingError(f"{video}: {NOTHING_DECODED}")
            height, width = _upright(first, stream.sample_aspect_ratio).shape[:2]
            duration = None if stream.duration is None else float(stream.duration * stream.time_base)
            if duration is None and container.duration is not None:
                duration = container.duration / 1e6
    except (av.error.FFmpegError, OSError) as error:
        raise TrackingError(
            f"{video}: cannot be read as a video ({_reason(error)}). Is the file complete? Copy or export it again."
        ) from error
    return VideoInfo(width, height, None if duration is None else max(1, round(duration * fps)))


def sample(
    video: Path,
    folder: Path,
    fps: float,
    longest_side: int,
    limit: int | None,
    suffix: str,
    workers: int,
    on_frame: Callable[[], None] = lambda: None,
) -> Sampled:
    """Decode a video and write the frames on a steady clock to `folder` as 00000.jpg, 00001.jpg, ...

    Each source frame is used at most once. Pictures that are there already are not written again, so an interrupted
    run goes on where it stopped.

    Args:
        fps: sampling rate in 1/s.
        longest_side: larger pictures are scaled down to it, pixels.
        limit: stop after this many pictures.
        suffix: `.jpg` or `.png`.
        on_frame: called for each sampled picture.

    Raises:
        TrackingError: if nothing can be decoded.
        OSError: if the disk refuses.
    """
    folder.mkdir(parents=True, exist_ok=True)
    slots: list[int] = []
    sources: list[int] = []
    pending: list[Future] = []
    size, scale, repeats, previous, warning, total = (0, 0), 1.0, 0, None, "", 0
    with ThreadPoolExecutor(workers) as pool:
        frames = _on_clock(video, fps)
        while True:
            try:
                source, slot, picture = next(frames)
            except StopIteration:
                break
            except TrackingError as error:
                if not slots:
                    raise
                warning, total = f"{error} Went on with the {len(slots)} frames before it.", None
                break
            if picture is None:
                total = source + 1
                continue
            if limit is not None and len(slots) == limit:
                total = None
                break
            picture, scale = _limit(picture, longest_side)
            size = size if slots else picture.shape[1::-1]
            if picture.shape[1::-1] != size:
                warning = f"The picture size changes at frame {len(slots)}; only the frames before it were used."
                total = None
                break
            sparse = picture[::4, ::4].astype(np.int16)
            repeats += previous is not None and np.abs(sparse - previous).mean() < STILL
            previous = sparse
            target = folder / f"{len(slots):05d}{suffix}"
            if not target.exists():
                pending.append(pool.submit(save_picture, target, picture))
            if len(pending) > QUEUE:
                pending.pop(0).result()
            slots.append(slot)
            sources.append(source)
            total = source + 1
            on_frame()
        for job in pending:
            job.result()
    if not slots:
        raise TrackingError(f"{video}: {NOTHING_DECODED}")
    still = float(repeats / max(1, len(slots) - 1))
    return Sampled(tuple(slots), tuple(sources), *size, scale=scale, still=still, total=total, warning=warning)


def _on_clock(video: Path, fps: float) -> Iterator[tuple[int, int, UInt8[np.ndarray, "H W 3"] | None]]:
    """Yield (number, slot, picture) for each frame; only the first shown in a slot of the clock has its picture."""
    last, start = -1, None
    for number, seconds, frame, pixel_aspect in decoded(video):
        start = seconds if start is None else start
        slot = int((seconds - start) * fps + EARLY)
        fresh = slot > last
        last = max(last, slot)
        yield number, slot, _upright(frame, pixel_aspect) if fresh else None


def decoded(video: Path) -> Iterator[tuple[int, float, Any, Fraction | None]]:
    """Yield number, time in seconds, PyAV frame and a pixel's width over its height, for each frame of a video.

    Raises:
        TrackingError: it cannot be read, or not to its end.
    """
    import av

    count = 0
    try:
        with av.open(str(video)) as container:
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            rate = stream.average_rate or stream.guessed_rate or Fraction(25)
            for frame in container.decode(stream):
                # Raw streams carry no timestamps: then the frame rate is all there is.
                seconds = float(count / rate) if frame.time is None else frame.time
                yield count, seconds, frame, stream.sample_aspect_ratio
                count += 1
    except (av.error.FFmpegError, OSError, IndexError) as error:
        raise TrackingError(f"{video}: decoding stops after {count} frames ({_reason(error)}).") from error


def _upright(frame, pixel_aspect: Fraction | None) -> UInt8[np.ndarray, "H W 3"]:
    """RGB picture as a player would show it: turned as phones ask, and with square pixels."""
    picture = frame.to_ndarray(format="rgb24")
    if pixel_aspect and pixel_aspect != 1:
        picture = cv2.resize(picture, (max(1, round(picture.shape[1] * float(pixel_aspect))), picture.shape[0]))
    # Older PyAV versions do not read the turn that phones write.
    quarter_turns = round(getattr(frame, "rotation", 0) / 90) % 4
    return np.ascontiguousarray(np.rot90(picture, quarter_turns))


def _limit(picture: UInt8[np.ndarray, "H W 3"], longest_side: int) -> tuple[UInt8[np.ndarray, "h w 3"], float]:
    height, width = picture.shape[:2]
    scale = min(1.0, longest_side / max(height, width))
    if scale == 1.0:
        return picture, 1.0
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return cv2.resize(picture, size, interpolation=cv2.INTER_AREA), scale


def _reason(error: BaseException) -> str:
    return getattr(error, "strerror", None) or str(error)
