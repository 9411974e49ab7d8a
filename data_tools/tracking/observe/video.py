"""From a video file, or a folder of pictures, to evenly sampled pictures on disk: by time rather than by count."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Shaped, UInt8

from data_tools.runs.pictures import save_picture
from data_tools.tracking.config import TrackingError
from data_tools.tracking.observe.frame_folder import open_folder, upright_picture
from data_tools.tracking.observe.framing import WHOLE_SIDE, Framing, limited, resized, whole_frames
from data_tools.tracking.observe.takes import Neighbours
from data_tools.tracking.observe.video_colour import Colours
from data_tools.tracking.observe.video_decode import (
    NOTHING_DECODED,
    Tally,
    decoded,
    first_frame,
    survey,
    turn_of,
    upright,
)
from data_tools.tracking.observe.video_stream import counted, open_film, printable_name

QUEUE = 16
"""Pictures that may wait to be written: bounds the memory a long video takes."""
EARLY = 0.25
"""Part of a tick by which a frame may come before its slot: clocks of cameras jitter."""


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
    framing: Framing
    """Which part of the video's pictures is stored, and how large."""
    still: float
    """Fraction of pictures that are the same as the last one that was another."""
    total: int | None = None
    """Number of frames that the video itself has; None if it was not read to its end."""
    lost: int = 0
    """Frames of the video that could not be used: damaged, of another size, or behind the end of a broken file."""
    warnings: tuple[str, ...] = ()
    """What was lost and why, and what cannot be shown as it is."""
    notes: tuple[str, ...] = ()
    """How the video was understood: the stream, the clock, the colours."""
    takes: tuple[int, ...] = ()
    """Take of each picture, from 0; empty where the video has no cuts."""
    dissolves: tuple[tuple[int, int], ...] = ()
    """First and last picture of each dissolve: they show two scenes at once, and are takes of their own."""
    elsewhere: tuple[int, ...] = ()
    """Pictures of takes that are not used."""

    @staticmethod
    def of_note(note: dict[str, Any]) -> Sampled:
        """What `dataclasses.asdict` took apart, and JSON kept."""
        values = {name: tuple(value) if isinstance(value, list) else value for name, value in note.items()}
        framing = {name: tuple(value) if isinstance(value, list) else value for name, value in note["framing"].items()}
        dissolves = tuple((first, last) for first, last in values["dissolves"])
        return Sampled(**values | {"framing": Framing(**framing), "dissolves": dissolves})


@dataclass(frozen=True)
class Glimpse:
    """One of the pictures of a video, scaled down to be looked at."""

    number: int
    """Among the video's own frames, from 0."""
    picture: UInt8[np.ndarray, "h w 3"]
    film: tuple[int, int]
    """Width and height of the video's own pictures."""


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


def glimpses(
    video: Path, fps: float, limit: int | None, stride: int, on_frame: Callable[[], None] = lambda: None
) -> Iterator[Glimpse]:
    """Every n-th of the pictures that `sample` would take, and the last one. Nothing is stored.

    Args:
        video, fps, limit, on_frame: as for `sample`.
        stride: the n.

    Raises:
        TrackingError: if nothing can be decoded.
    """
    source = _source(video, fps)
    film: tuple[int, int] | None = None
    count, behind = 0, None

    def look(number: int, read: Callable[[], Shaped[np.ndarray, "H W 3"] | None]) -> Glimpse | None:
        nonlocal film
        picture = read()
        if picture is None:
            return None
        size = limited(picture.shape[1::-1], WHOLE_SIDE)
        film = film or picture.shape[1::-1]
        if size != limited(film, WHOLE_SIDE):
            return None
        return Glimpse(number, _eight_bit(source, resized(picture, size)), film)

    for number, _, read in source:
        if read is None:
            continue
        if limit is not None and count == limit:
            break
        behind = None
        if count % stride:
            behind = (number, read)
        elif (seen := look(number, read)) is not None:
            yield seen
        count += 1
        on_frame()
    if behind is not None and (seen := look(*behind)) is not None:
        yield seen
    if film is None:
        raise TrackingError(f"{video}: {source.failure or NOTHING_DECODED}")


def sample(
    video: Path,
    folder: Path,
    fps: float,
    longest_side: int | None,
    limit: int | None,
    suffix: str,
    workers: int,
    on_frame: Callable[[], None] = lambda: None,
    framing: Framing | None = None,
) -> Sampled:
    """Decode a video and write the frames on a steady clock to `folder` as 00000.jpg, 00001.jpg, ...

    Each source frame is used at most once. Pictures that are there already are not written again, so an interrupted
    run goes on where it stopped. A folder of pictures has no clock: each picture is one tick.

    Args:
        video: a file, or a folder of pictures.
        fps: sampling rate in 1/s.
        longest_side: larger pictures are scaled down to it, pixels; None: the default for whole frames.
        limit: stop after this many pictures.
        suffix: `.jpg` or `.png`.
        on_frame: called for each sampled picture.
        framing: the part of the pictures to store; None: all of them.

    Raises:
        TrackingError: if nothing can be decoded.
        OSError: if the disk refuses.
    """
    folder.mkdir(parents=True, exist_ok=True)
    source, longest_side = _source(video, fps), longest_side or WHOLE_SIDE
    slots: list[int] = []
    sources: list[int] = []
    pending: list[Future] = []
    neighbours, total = Neighbours(), 0
    changed: list[tuple[int, tuple[int, int]]] = []
    with ThreadPoolExecutor(workers) as pool:
        for number, slot, read in source:
            total = number + 1
            if read is None:
                continue
            if limit is not None and len(slots) == limit:
                total = None
                break
            picture = read()
            if picture is None:
                continue
            size = picture.shape[1::-1]
            framing = framing or whole_frames(size, longest_side)
            if limited(size, longest_side) != limited(framing.film, longest_side):
                changed.append((number, size))
                continue
            picture = _eight_bit(source, framing.cut(picture))
            neighbours.see(picture)
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
    if framing is None or not slots:
        raise TrackingError(f"{video}: {source.failure or NOTHING_DECODED}")
    warnings = source.warnings()
    if changed:
        first, other = changed[0]
        warnings = (
            f"Left out: {counted(len(changed), 'frame')} of another size than the first ({other[0]}x{other[1]} against "
            f"{framing.film[0]}x{framing.film[1]}, from frame {first} on).",
            *warnings,
        )
    return Sampled(
        tuple(slots),
        tuple(sources),
        framing,
        still=neighbours.still,
        total=None if source.failure else total,
        lost=source.lost + len(changed),
        warnings=warnings,
        notes=source.notes(),
        takes=neighbours.takes(),
        dissolves=neighbours.dissolves,
    )


def _source(video: Path, fps: float) -> _FileSource | _FolderSource:
    return _FolderSource(video) if video.is_dir() else _FileSource(video, fps)


def _eight_bit(source: _FileSource | _FolderSource, picture: Shaped[np.ndarray, "H W 3"]) -> UInt8[np.ndarray, "H W 3"]:
    return source.colours.standard(picture) if picture.dtype == np.uint16 else picture


class _FileSource:
    """Frames of a video file: iterates over number, slot and what makes the picture, for the first in a slot only."""

    def __init__(self, video: Path, fps: float) -> None:
        self._video, self._fps = video, fps
        self._tally = Tally()
        self._passed = self._corrupt = 0
        self.colours = survey(video)

    def __iter__(self) -> Iterator[tuple[int, int, Callable[[], Shaped[np.ndarray, "H W 3"]] | None]]:
        last, turn, tally = -1, None, self._tally
        for number, seconds, frame, pixel_aspect in decoded(self._video, tally):
            turn = turn or turn_of(frame)
            slot = int(seconds * self._fps + EARLY)
            used = slot > last and not frame.is_corrupt
            self._corrupt += frame.is_corrupt
            self._passed += slot <= last and not frame.is_corrupt
            last = slot if used else last
            yield number, slot, partial(upright, frame, pixel_aspect, self.colours.deep, turn, tally) if used else None

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
        if tally.fields:
            found.append(f"Interlaced: of {counted(tally.fields, 'frame')} that show two moments one was kept.")
        if tally.hidden:
            found.append(f"Not used: {counted(tally.hidden, 'frame')} that the file's edit list cuts away.")
        if self._passed:
            found.append(
                f"Passed over: {self._passed} of {tally.frames} frames, which come faster than {self._fps:g} a second "
                "(--fps)."
            )
        return tuple(found) + ((self.colours.note,) if self.colours.note else ())


class _FolderSource:
    """Frames of a folder of pictures: iterates over number, slot and what reads the picture, None of a damaged one."""

    colours = Colours()
    failure = ""

    def __init__(self, folder: Path) -> None:
        self._folder = open_folder(folder)
        self._damaged: list[str] = []

    def __iter__(self) -> Iterator[tuple[int, int, Callable[[], UInt8[np.ndarray, "H W 3"] | None]]]:
        for path, number in zip(self._folder.paths, self._folder.numbers, strict=True):
            yield number, number, partial(self._read, path)

    def _read(self, path: Path) -> UInt8[np.ndarray, "H W 3"] | None:
        picture = upright_picture(path)
        if picture is None:
            self._damaged.append(printable_name(path))
        return picture

    @property
    def lost(self) -> int:
        return len(self._damaged)

    def warnings(self) -> tuple[str, ...]:
        if not self._damaged:
            return ()
        return (f"Left out: {counted(self.lost, 'picture')} that cannot be read: {', '.join(self._damaged[:5])}.",)

    def notes(self) -> tuple[str, ...]:
        return self._folder.notes
