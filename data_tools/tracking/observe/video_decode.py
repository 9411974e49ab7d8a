"""Frames out of a video file, each at its time, and what became of those that did not come out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jaxtyping import Float, Shaped

from data_tools.tracking.config import TrackingError
from data_tools.tracking.observe.video_clock import Clock
from data_tools.tracking.observe.video_colour import Colours, colours_of, lights_of
from data_tools.tracking.observe.video_stream import Film, open_film, reason

NOTHING_DECODED = "no frame could be decoded. Is the file complete? Copy or export it again."
ONE_A_PACKET = ("h264", "hevc", "av1", "vp9", "mpeg1video", "mpeg2video", "mjpeg", "prores", "dnxhd", "ffv1", "png")
"""Codecs each of whose packets is one picture that is shown."""
AVI = "avi"
"""FFmpeg's name of the container that has no timestamps of its own."""
ROUNDED = 0.3
"""How far behind its last frame a whole file may end, seconds."""
SURVEYED = 100
"""Pictures in which the brightest light of a film of high dynamic range is looked for, at most."""
SURVEYED_SIDE = 480
"""Longest side at which they are looked at, pixels."""
COMB, COMBED_SHARE = 0.06, 0.002
"""How far a line stands out, of full white, where a picture is woven of two moments; and the least part that does."""
HUGE = 12_000_000
"""Pixels of a picture from which decoding in many threads would hold too many of them: more than 3840x2160."""
FEW_KEYS = 4
"""A film with fewer key frames than this is surveyed in all of its first pictures."""


@dataclass
class Tally:
    """What happened while a video was decoded."""

    frames: int = 0
    """Frames decoded."""
    damaged: int = 0
    """Frames that could not be decoded."""
    hidden: int = 0
    """Frames that the file's edit list cuts away."""
    promised: int = 0
    """Frames that the file says it has; 0 if it does not say."""
    sent: int = 0
    """Frames that are there, decoded or not."""
    ended: bool = False
    """Whether it was read to its end, or to where it breaks off."""
    broken: str = ""
    """Why reading ended before the end of the file; empty if it did not."""
    fields: int = 0
    """Pictures that were woven of two moments, of which one was kept."""
    stream_note: str = ""
    """Which stream was taken, where there was a choice."""
    clock: Clock = field(default_factory=lambda: Clock(None))

    @property
    def behind(self) -> int:
        """Frames that the file promises behind its end."""
        return max(0, self.promised - self.sent) if self.ended else 0


def decoded(video: Path, tally: Tally | None = None) -> Iterator[tuple[int, float, Any, Fraction | None]]:
    """Yield number, time in seconds, PyAV frame and a pixel's width over its height, for each frame of a video.

    Times begin at 0 and rise strictly; see `Clock`.

    Args:
        tally: is told what happened. With it, damaged frames are passed over, and a broken file just ends.

    Raises:
        TrackingError: it cannot be read; without a tally also if it cannot be read whole.
    """
    import av

    strict = tally is None
    tally = tally or Tally()
    with open_film(video) as film:
        rate = film.stream.average_rate or film.stream.guessed_rate
        tally.clock, tally.stream_note = Clock(None if rate is None else float(rate)), film.note
        film.stream.thread_type = "AUTO"
        if film.facts.width * film.facts.height > HUGE:
            film.stream.codec_context.thread_count = 2
        try:
            for frame in _frames(film, tally):
                yield tally.frames, tally.clock.at(_stamp(frame, film)), frame, film.stream.sample_aspect_ratio
                tally.frames += 1
        except (av.error.FFmpegError, OSError) as error:
            tally.broken = f"Decoding stops after {tally.frames} frames ({reason(error)})."
        tally.ended = True
        if "matroska" in film.container.format.name:
            tally.promised = tally.sent + _promised_behind(film, tally.clock)
    if strict and (tally.broken or tally.damaged):
        words = tally.broken or f"{tally.damaged} frames are damaged."
        raise TrackingError(f"{video}: {words} Copy or export it again.")


def _frames(film: Film, tally: Tally) -> Iterator[Any]:
    """Frames of a film in the order in which they are shown; counts those that do not come out."""
    import av

    got, interlaced = 0, False
    # AVI counts ticks of its clock, with or without a picture: there only a cut packet tells that it breaks off.
    ticks = film.container.format.name == AVI
    tally.promised = 0 if ticks else film.stream.frames
    for packet in film.container.demux(film.stream):
        flush = packet.size == 0 and packet.pts is None and packet.dts is None
        tally.sent += not flush
        tally.hidden += bool(getattr(packet, "is_discard", False))
        if ticks and packet.is_corrupt:
            tally.promised = film.stream.frames
        try:
            frames = packet.decode()
        except av.error.InvalidDataError:
            tally.damaged += 1
            continue
        for frame in frames:
            got += 1
            interlaced = interlaced or frame.interlaced_frame
            yield frame
    # Other codecs pack several pictures, or none, into what the container counts as one; so do fields of one picture.
    if film.facts.codec in ONE_A_PACKET and not interlaced:
        tally.damaged = max(tally.damaged, tally.sent - tally.hidden - got)


def _promised_behind(film: Film, clock: Clock) -> int:
    """Frames that a Matroska file, which tells its length but no count, promises behind the last timestamp."""
    told = [film.facts.seconds, film.container.duration and film.container.duration / 1e6]
    if not all(told) or clock.stamp is None or clock.restarts:
        return 0
    missing = min(told) - clock.stamp - clock.step
    return round(missing / clock.step) if missing > ROUNDED else 0


def _stamp(frame: Any, film: Film) -> float | None:
    """When a frame is to be shown by its own account, seconds."""
    if film.container.format.name != AVI:
        return frame.time
    # AVI stores the order of decoding only; what FFmpeg makes of it for B-frames goes back and forth.
    return None if frame.dts is None else float(frame.dts * film.stream.time_base)


def survey(video: Path) -> Colours:
    """What a video's colours are; of one of high dynamic range also its brightest light.

    Raises:
        TrackingError: it cannot be read.
    """
    with open_film(video) as film:
        colours = colours_of(first_frame(video, film), film.stream.codec_context)
    if not colours.high:
        return colours
    lights = _lights(video, colours, "NONKEY")
    lights = lights if len(lights) >= FEW_KEYS else _lights(video, colours, "DEFAULT")
    if not lights:
        return colours
    peaks, glare = zip(*lights, strict=True)
    return replace(colours, peak=max(peaks), glare=sum(glare) / len(glare))


def first_frame(video: Path, film: Film) -> Any:
    """The film's first frame that can be decoded.

    Raises:
        TrackingError: there is none.
    """
    frame = next(_frames(film, Tally()), None)
    if frame is None:
        raise TrackingError(f"{video}: {NOTHING_DECODED}")
    return frame


def _lights(video: Path, colours: Colours, skipped: str) -> list[tuple[float, float]]:
    """`lights_of` pictures of a film, at most `SURVEYED`."""
    import av

    lights: list[tuple[float, float]] = []
    with open_film(video) as film:
        film.stream.codec_context.skip_frame = skipped
        try:
            for frame in _frames(film, Tally()):
                scale = min(1.0, SURVEYED_SIDE / max(frame.width, frame.height))
                size = {"width": max(1, round(scale * frame.width)), "height": max(1, round(scale * frame.height))}
                lights.append(lights_of(colours, frame.to_ndarray(format="rgb48le", **size)))
                if len(lights) == SURVEYED:
                    break
        except (av.error.FFmpegError, OSError):
            pass  # what came before must do; sampling says where the file breaks
    return lights


Turn = Callable[[Shaped[np.ndarray, "h w 3"]], Shaped[np.ndarray, "H W 3"]]
"""Turns and mirrors a stored picture as it is to be shown."""


def upright(
    frame: Any,
    pixel_aspect: Fraction | None,
    deep: bool = False,
    turn: Turn | None = None,
    tally: Tally | None = None,
) -> Shaped[np.ndarray, "H W 3"]:
    """RGB picture as a player would show it: turned and mirrored as phones ask, of one moment, and with square pixels.

    Args:
        deep: give 16 bits a channel, else 8.
        turn: from `turn_of`, of the film's first frame; None: the frame's own.
        tally: is told of pictures that were woven of two moments.
    """
    picture = frame.to_ndarray(format="rgb48le" if deep else "rgb24")
    if frame.interlaced_frame and combed(picture):
        picture = one_field(picture)
        if tally is not None:
            tally.fields += 1
    if pixel_aspect and pixel_aspect != 1:
        picture = cv2.resize(picture, (max(1, round(picture.shape[1] * float(pixel_aspect))), picture.shape[0]))
    return np.ascontiguousarray((turn or turn_of(frame))(picture))


def combed(picture: Shaped[np.ndarray, "H W 3"]) -> bool:
    """Whether every other line shows another moment: lines stand out against both their neighbours, the same way.

    Many films call themselves interlaced, and hold whole pictures all the same.
    """
    green = picture[..., 1].astype(np.float32) / np.iinfo(picture.dtype).max
    above, below = green[1:-1] - green[:-2], green[1:-1] - green[2:]
    return bool((above * below > COMB**2).mean() > COMBED_SHARE)


def one_field(picture: Shaped[np.ndarray, "H W 3"]) -> Shaped[np.ndarray, "H W 3"]:
    """The picture's upper field alone: the lines of the other one are the means of their neighbours."""
    result = picture.copy()
    upper = picture[::2].astype(np.uint32)
    between = (upper[:-1] + upper[1:]) // 2
    result[1 : 2 * len(between) : 2] = between
    if len(picture) % 2 == 0:
        result[-1] = picture[-2]
    return result


def turn_of(frame: Any) -> Turn:
    """How a film's pictures are turned and mirrored, as one of its frames tells.

    Ask once a film: in PyAV a frame whose side data were looked at, and they, hold on to each other, so that its 12 MB
    (of 3840x2160) wait for the garbage collector.
    """
    matrix = _display_matrix(frame)
    if matrix is None:
        # Older PyAV versions do not read the turn that phones write.
        quarters = round(getattr(frame, "rotation", 0) / 90) % 4
        return lambda picture: np.rot90(picture, quarters)
    (a, b), (c, d) = matrix
    lying = abs(b) > abs(a)
    right, down = (c, b) if lying else (a, d)

    def turned(picture: Shaped[np.ndarray, "h w 3"]) -> Shaped[np.ndarray, "H W 3"]:
        picture = picture.swapaxes(0, 1) if lying else picture
        return picture[:: -1 if down < 0 else 1, :: -1 if right < 0 else 1]

    return turned


def _display_matrix(frame: Any) -> Float[np.ndarray, "2 2"] | None:
    """Rows: where a step to the right, and one down, of the stored picture lead in the shown one; None if not told.

    Front cameras mirror by it, phones turn.
    """
    for data in getattr(frame, "side_data", ()):
        if getattr(data.type, "name", "") == "DISPLAYMATRIX":
            return np.frombuffer(bytes(data), dtype=np.int32)[:9].reshape(3, 3)[:2, :2].astype(np.float64)
    return None
