"""Timecodes of a take, and the even rate that its rows are moments of."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from flame_nerf.runtime.errors import MotionError

RATES = (24.0, 25.0, 30.0, 48.0, 50.0, 60.0, 120.0)
"""Frames a second that cameras and phones count in."""
USUAL_RATE = 60.0
"""Live Link Face's, unless it is told otherwise."""
LONGEST_GAP = 60.0
"""Seconds without a row beyond which a file is two takes, not one with drop-outs."""
HOW_TO_SAY = "give it with --fps to `flame-nerf motion`"
_DAY = 86400.0
_TIMECODE = re.compile(r"(\d{1,2}):(\d{1,2}):(\d{1,2})[:;](\d{1,3}(?:\.\d*)?)")


@dataclass(frozen=True)
class EvenRows:
    """Which of a take's rows are kept, and where they are among evenly spaced moments."""

    fps: float
    kept: Int[np.ndarray, " N"]
    """Rows of the take, in order."""
    place: Int[np.ndarray, " N"]
    """Moment of each kept row; the first is 0."""
    repeated: int
    """Rows left out, as an earlier one has their moment."""

    @property
    def count(self) -> int:
        """Moments from the first to the last row."""
        return int(self.place[-1]) + 1

    def positions(self) -> tuple[Float[np.ndarray, " T"], Bool[np.ndarray, " T"]]:
        """Row number among the kept ones, with a fraction in drop-outs, of each moment; and which are in drop-outs."""
        moments = np.arange(self.count)
        positions = np.interp(moments, self.place, np.arange(len(self.place)))
        return positions, ~np.isin(moments, self.place)


def even_rows(times: Float[np.ndarray, " N"], what: str, fps: float | None = None) -> EvenRows:
    """Places the rows of a take on even moments.

    Args:
        times: seconds of each row, never going back.
        what: the file, for messages.
        fps: moments a second; None: what the rows are apart, or where they differ a usual rate that is near.

    Raises:
        MotionError: times go back, stand still throughout, or have a hole that no drop-out makes.
    """
    steps = np.diff(times)
    if len(steps) and steps.min() < -1e-6:
        row = int(np.argmax(steps < -1e-6)) + 1
        raise MotionError(f"{what}: time goes back at row {row + 1}; it may be several takes in one file: cut it there")
    if len(steps) and steps.max() > LONGEST_GAP:
        row = int(steps.argmax()) + 1
        raise MotionError(
            f"{what}: {steps.max():.0f} s without a row before row {row + 1}; it may be several takes in one file: cut "
            "it there"
        )
    if fps is None:
        moving = steps[steps > 1e-6]
        if len(moving) == 0:
            raise MotionError(f"{what}: all rows have one time, so the rate is not known; {HOW_TO_SAY}")
        even = np.ptp(steps) < 0.01 * moving.mean()
        # Times in whole milliseconds do not tell 30 a second from 30.3: there the usual rate is meant.
        fps = usual(1.0 / float(moving.mean() if even else np.median(moving)), 5e-4 if even else 0.03)
    place = np.round((times - times[0]) * fps).astype(int)
    place, kept = np.unique(place, return_index=True)
    return EvenRows(fps, kept, place, len(times) - len(kept))


def usual(fps: float, within: float = 0.03) -> float:
    """The usual rate that is near a measured one, as a share of it; else the measured one, to a millionth."""
    near = min(RATES, key=lambda rate: abs(rate - fps))
    return near if abs(near - fps) < within * near else round(fps, 6)


def seconds_of(timecodes: Sequence[str], what: str) -> tuple[Float[np.ndarray, " N"], float]:
    """Seconds of timecodes HH:MM:SS:FF.sub, and the rate that their frames count in.

    The rate is told by the highest frame number where the take is longer than a second: the lowest usual rate above it.
    A shorter take counts in `USUAL_RATE`. Past midnight the seconds go on.

    Raises:
        MotionError: naming the row whose timecode is none.
    """
    parts = np.empty((len(timecodes), 4))
    for row, text in enumerate(timecodes):
        match = _TIMECODE.fullmatch(text.strip())
        if match is None:
            raise MotionError(f"{what}: row {row + 1} has the timecode {text[:30]!r}, expected HH:MM:SS:FF.sub")
        parts[row] = [float(part) for part in match.groups()]
    whole = parts[:, :3] @ [3600.0, 60.0, 1.0]
    highest, lasts = float(np.floor(parts[:, 3].max())), len(np.unique(whole)) > 2
    rate = next((rate for rate in RATES if rate > highest), None) if lasts else USUAL_RATE
    if rate is None or highest >= rate:
        raise MotionError(f"{what}: a timecode counts to frame {highest:.0f} of a second, which nothing does")
    seconds = whole + parts[:, 3] / rate
    seconds += _DAY * np.concatenate([[0], np.cumsum(np.diff(seconds) < -_DAY / 2)])
    return seconds, rate


def timecode_of(seconds: float, rate: float) -> str:
    """HH:MM:SS:FF.sub of a time, in frames of a whole rate: what `seconds_of` reads."""
    whole, frame = divmod(round(seconds * rate * 1000), round(rate * 1000))
    return f"{whole // 3600 % 24:02d}:{whole // 60 % 60:02d}:{whole % 60:02d}:{frame // 1000:02d}.{frame % 1000:03d}"
