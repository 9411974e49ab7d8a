"""The one place that opens video files, and chooses which of a file's streams is the film."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from data_tools.tracking.config import TrackingError

ATTACHED_PIC, TIMED_THUMBNAILS, STILL_IMAGE = 0x400, 0x800, 0x100000
"""FFmpeg's dispositions (libavformat/avformat.h) of streams that accompany a film: covers, previews, stills."""
DEFAULT = 0x1
LOOKED_AT = 2000
"""Packets that are counted in a file that does not say how many pictures its streams have."""
PLAYLISTS = ("hls", "concat", "dash", "sdp")
"""FFmpeg's names of formats that hold no film, but names of other files and addresses."""
SHORT, SMALL = 0.5, 0.25
"""A stream shorter than this share of the longest, or of less than this share of the largest area, is a preview."""


@dataclass(frozen=True)
class StreamFacts:
    """What is known of a video stream before decoding it."""

    index: int
    """Position among all of the file's streams."""
    width: int
    height: int
    codec: str
    disposition: int = 0
    frames: int | None = None
    """Number of pictures; None if the file does not say."""
    seconds: float | None = None
    """How long it lasts; None if the file does not say."""

    @property
    def accompanies(self) -> bool:
        """Whether the file says that this is a cover, a preview or a still."""
        return bool(self.disposition & (ATTACHED_PIC | TIMED_THUMBNAILS | STILL_IMAGE))

    def __str__(self) -> str:
        length = "" if self.seconds is None else f", {self.seconds:.1f} s"
        length = ", one picture" if self.frames == 1 else length
        return f"stream {self.index} ({self.width}x{self.height} {self.codec}{length})"


def choose(streams: Sequence[StreamFacts]) -> StreamFacts | None:
    """The stream that is the film; None if there is none but covers and stills.

    Covers, previews and single pictures are out. Of the rest, those of full length come first, then those of full size,
    then the one that the file calls its default, then the largest, the longest, and the first.
    """
    films = [one for one in streams if not one.accompanies and one.frames != 1]
    if not films:
        return None
    longest = max(_length(one) for one in films)
    largest = max(one.width * one.height for one in films)

    def rank(one: StreamFacts) -> tuple:
        area, length = one.width * one.height, _length(one)
        whole, default = length >= SHORT * longest, bool(one.disposition & DEFAULT)
        return whole, area >= SMALL * largest, default, area, length, -one.index

    return max(films, key=rank)


def _length(one: StreamFacts) -> float:
    return one.seconds or 0.0


@dataclass(frozen=True)
class Film:
    """An open video file and the stream of it that is the film; both are PyAV's."""

    container: Any
    stream: Any
    facts: StreamFacts
    note: str
    """The stream that was taken, where there was a choice; empty otherwise."""


@contextmanager
def open_film(video: Path) -> Iterator[Film]:
    """Open a video file at its film.

    Raises:
        TrackingError: it is missing, no video, or holds nothing but sound, covers and single pictures.
    """
    if video.exists() and not video.is_file():
        raise TrackingError(
            f"{video}: is no regular file, but a pipe, a socket or a device. Save the video as a file and give that."
        )
    if not video.is_file():
        raise TrackingError(f"{video}: no such video. Check the path{_of_folder(video)}.")
    with _reading(video), _open(video) as container:
        if container.format.name in PLAYLISTS:
            raise TrackingError(f"{video}: is a list of other files. Give one of the videos that it names.")
        found = [_facts(stream) for stream in container.streams.video]
        sound = bool(container.streams.audio)
        candidates = [one for one in found if not one.accompanies]
        if any(one.frames is None for one in candidates) and (sound or len(candidates) > 1):
            found = _counted(video, found)
        film = choose(found)
        if film is None:
            raise TrackingError(_no_film(video, found, sound))
        others = [one for one in found if one.index != film.index]
        note = ""
        if len(others) > 0:
            note = f"Of {len(found)} video streams {film} was used, and not {', '.join(map(str, others))}."
        yield Film(container, container.streams[film.index], film, note)


@contextmanager
def _reading(video: Path) -> Iterator[None]:
    """What FFmpeg refuses, in words."""
    import av

    try:
        yield
    except (av.error.FFmpegError, OSError) as error:
        raise TrackingError(
            f"{video}: cannot be read as a video ({reason(error)}). Is the file complete? Copy or export it again."
        ) from error


def counted(number: int, noun: str) -> str:
    """1 frame, 2 frames."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def printable_name(path: Path) -> str:
    """A file's name as it can be written anywhere: bytes that are no text are shown as such."""
    return os.fsencode(path.absolute().name).decode(errors="backslashreplace")


def reason(error: BaseException) -> str:
    """FFmpeg's own words, on one line."""
    return " ".join((getattr(error, "strerror", None) or str(error)).split())


def _open(video: Path) -> Any:
    import av

    # Without `file:`, FFmpeg takes 2024-05-01T10:22:33.mp4 for an address. What a file names is not fetched.
    only_files = {"protocol_whitelist": "file"}
    return av.open("file:" + os.fspath(video), metadata_errors="replace", options=only_files)


def _facts(stream: Any) -> StreamFacts:
    context = stream.codec_context
    seconds = None if stream.duration is None else float(stream.duration * stream.time_base)
    if seconds is None:
        seconds = _clock_time(stream.metadata.get("DURATION", ""))
    single = stream.container.format.name in ("image2", "image2pipe") or stream.container.format.name.endswith("_pipe")
    return StreamFacts(
        stream.index,
        context.width,
        context.height,
        context.name,
        int(getattr(stream, "disposition", 0)),
        1 if single else stream.frames or None,
        seconds,
    )


def _clock_time(text: str) -> float | None:
    """Seconds of Matroska's 00:01:02.400000000."""
    parts = text.strip().split(":")
    try:
        hours, minutes, seconds = (float(part) for part in parts)
    except ValueError:
        return None
    return 3600 * hours + 60 * minutes + seconds


def _counted(video: Path, found: list[StreamFacts]) -> list[StreamFacts]:
    """The same with pictures counted in the file's first part, and lengths measured there if not all are known."""
    import av

    times: dict[int, list[float]] = {one.index: [] for one in found}
    with _open(video) as container:
        looked = 0
        try:
            for packet in container.demux(*container.streams.video):
                if packet.size:
                    times[packet.stream.index].append(float((packet.pts or 0) * packet.time_base))
                    looked += 1
                if looked == LOOKED_AT:
                    break
        except (av.error.FFmpegError, OSError):
            pass  # what follows decodes the same file, and says so
    result = []
    told = all(one.seconds is not None for one in found)
    for one in found:
        shown = times[one.index]
        frames = len(shown) if looked < LOOKED_AT or len(shown) == 1 else one.frames
        seconds = one.seconds if told else max(shown, default=0.0) - min(shown, default=0.0)
        result.append(replace(one, frames=frames, seconds=seconds))
    return result


def _no_film(video: Path, found: list[StreamFacts], sound: bool) -> str:
    advice = "Give a video of a talking head."
    if sound:
        cover = "; its picture is a cover" if found else ""
        return f"{video}: holds no video stream, sound only{cover}. {advice}"
    if found:
        return f"{video}: is a single picture. Give a video, or a folder of pictures, one for each frame."
    return f"{video}: holds no video stream. {advice}"


def _of_folder(video: Path) -> str:
    """Advice for who asks for frames/%05d.png or frames/*.png."""
    pattern = any(sign in video.name for sign in "%*?") and video.parent.is_dir()
    return f", or give the folder {video.parent} to take its pictures as frames" if pattern else ""
