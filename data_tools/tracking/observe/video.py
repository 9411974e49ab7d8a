"""From a video file, or a folder of pictures, to evenly sampled pictures on disk: by time rather than by count."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Shaped, UInt8

from data_tools.runs.pictures import save_picture
from data_tools.tracking.config import TrackingError
from data_tools.tracking.observe.frame_folder import open_folder
from data_tools.tracking.observe.video_colour import Colours
from data_tools.tracking.observe.video_decode import NOTHING_DECODED, Tally, decoded, first_frame, survey, upright
from data_tools.tracking.observe.video_stream import counted, open_film, printable_name

QUEUE = 16
"""Pictures that may wait to be written: bounds the memory a long video takes."""
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
    lost: int = 0
    """Frames of the video that could not be used: damaged, of another size, or behind the end of a broken file."""
    warnings: tuple[str, ...] = ()
    """What was lost and why, and what cannot be shown as it is."""
    notes: tuple[str, ...] = ()
    """How the video was understood: the stream, the clock, the colours."""


def probe(video: Path, fps: float) -> VideoInfo:
    """Open a video, or a folder of pictures, and read its size and length.

    Raises:
        TrackingError: if the file is missing, is no video, or holds no picture that can be decoded.
    """
    if video.is_dir():
        folder = open_folder(video)
        return VideoInfo(folder.width, folder.height, len(folder.paths))
    with open_film(video) as film:
        height, width = upright(first_frame(video, film), film.stream.sample_aspect_ratio).shape[:2]
        seconds = film.facts.seconds
        if seconds is None and film.container.duration is not None:
            seconds = film.container.duration / 1e6
    return VideoInfo(width, height, None if seconds is None else max(1, round(seconds * fps)))


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
    run goes on where it stopped. A folder of pictures has no clock: each picture is one tick.

    Args:
        video: a file, or a folder of pictures.
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
    source = _FolderSource(video) if video.is_dir() else _FileSource(video, fps)
    slots: list[int] = []
    sources: list[int] = []
    pending: list[Future] = []
    size, first_size, scale, repeats, previous, total = (0, 0), (0, 0), 1.0, 0, None, 0
    resized: list[tuple[int, tuple[int, int]]] = []
    with ThreadPoolExecutor(workers) as pool:
        for number, slot, picture in source:
            total = number + 1
            if picture is None:
                continue
            if limit is not None and len(slots) == limit:
                total = None
                break
            own_size = picture.shape[1::-1]
            picture, own_scale = _limit(picture, longest_side)
            if not slots:
                size, scale, first_size = picture.shape[1::-1], own_scale, own_size
            if picture.shape[1::-1] != size:
                resized.append((number, own_size))
                continue
            picture = source.colours.standard(picture) if picture.dtype == np.uint16 else picture
            sparse = picture[::4, ::4].astype(np.int16)
            repeats += previous is not None and np.abs(sparse - previous).mean() < STILL
            previous = sparse
            target = folder / f"{len(slots):05d}{suffix}"
            if not target.exists():
                pending.append(pool.submit(save_picture, target, picture))
            if len(pending) > QUEUE:
                pending.pop(0).result()
            slots.append(slot)
            sources.append(number)
            on_frame()
        for job in pending:
            job.result()
    if not slots:
        raise TrackingError(f"{video}: {source.failure or NOTHING_DECODED}")
    warnings = source.warnings()
    if resized:
        first, other = resized[0]
        warnings = (
            f"Left out: {counted(len(resized), 'frame')} of another size than the first ({other[0]}x{other[1]} against "
            f"{first_size[0]}x{first_size[1]}, from frame {first} on).",
            *warnings,
        )
    return Sampled(
        tuple(slots),
        tuple(sources),
        *size,
        scale=scale,
        still=float(repeats / max(1, len(slots) - 1)),
        total=None if source.failure else total,
        lost=source.lost + len(resized),
        warnings=warnings,
        notes=source.notes(),
    )


class _FileSource:
    """Frames of a video file: iterates over number, slot and picture; only the first in a slot has its picture."""

    def __init__(self, video: Path, fps: float) -> None:
        self._video, self._fps = video, fps
        self._tally = Tally()
        self._passed = self._corrupt = 0
        self.colours = survey(video)

    def __iter__(self) -> Iterator[tuple[int, int, Shaped[np.ndarray, "H W 3"] | None]]:
        last = -1
        for number, seconds, frame, pixel_aspect in decoded(self._video, self._tally):
            slot = int(seconds * self._fps + EARLY)
            used = slot > last and not frame.is_corrupt
            self._corrupt += frame.is_corrupt
            self._passed += slot <= last and not frame.is_corrupt
            last = slot if used else last
            yield number, slot, upright(frame, pixel_aspect, self.colours.deep) if used else None

    @property
    def failure(self) -> str:
        return self._tally.broken

    @property
    def lost(self) -> int:
        return self._tally.damaged + self._corrupt + self._tally.behind

    def warnings(self) -> tuple[str, ...]:
        tally, damaged, found = self._tally, self._tally.damaged + self._corrupt, []
        if tally.broken:
            found.append(f"{tally.broken} Went on with what came before.")
        if tally.behind:
            found.append(
                f"Left out: {counted(tally.behind, 'frame')} that the file promises behind where it breaks off."
            )
        if damaged:
            found.append(f"Left out: {counted(damaged, 'frame')} that cannot be decoded (damaged, or cut at a join).")
        return tuple(found) + ((self.colours.warning,) if self.colours.warning else ())

    def notes(self) -> tuple[str, ...]:
        tally, clock, found = self._tally, self._tally.clock, []
        if tally.stream_note:
            found.append(tally.stream_note)
        if clock.restarts:
            often = counted(clock.restarts, "time")
            found.append(f"The video's clock jumps {often} (joined pieces?): it was carried on there.")
        if clock.blind:
            found.append(f"The file holds no timestamps: frames were spaced {1000 * clock.step:.1f} ms apart.")
        if clock.replaced:
            found.append(
                f"Timestamps missing, repeated or out of order: {clock.replaced} of {tally.frames}; frames were spaced "
                "evenly there."
            )
        if tally.hidden:
            found.append(f"Not used: {counted(tally.hidden, 'frame')} that the file's edit list cuts away.")
        if self._passed:
            found.append(
                f"Passed over: {self._passed} of {tally.frames} frames, which come faster than {self._fps:g} a second "
                "(--fps)."
            )
        return tuple(found) + ((self.colours.note,) if self.colours.note else ())


class _FolderSource:
    """Frames of a folder of pictures: iterates over number, slot and picture."""

    colours = Colours()
    failure = ""

    def __init__(self, folder: Path) -> None:
        self._folder = open_folder(folder)
        self._damaged: list[str] = []

    def __iter__(self) -> Iterator[tuple[int, int, UInt8[np.ndarray, "H W 3"] | None]]:
        for path, (number, picture) in zip(self._folder.paths, self._folder.pictures(), strict=True):
            if picture is None:
                self._damaged.append(printable_name(path))
            yield number, number, picture

    @property
    def lost(self) -> int:
        return len(self._damaged)

    def warnings(self) -> tuple[str, ...]:
        if not self._damaged:
            return ()
        return (f"Left out: {counted(self.lost, 'picture')} that cannot be read: {', '.join(self._damaged[:5])}.",)

    def notes(self) -> tuple[str, ...]:
        return self._folder.notes


def _limit(picture: Shaped[np.ndarray, "H W 3"], longest_side: int) -> tuple[Shaped[np.ndarray, "h w 3"], float]:
    height, width = picture.shape[:2]
    scale = min(1.0, longest_side / max(height, width))
    if scale == 1.0:
        return picture, 1.0
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return cv2.resize(picture, size, interpolation=cv2.INTER_AREA), scale
