"""Whether a face that is hard to see was followed all the same: by where the frames around it have the head."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, partial

import numpy as np
from jaxtyping import Bool, Float, Int

OFF = 0.016
"""Mean distance of a face's points from where the frames around have them, in heights of the face, from which it is
not there: faces that are seen well, five frames long, stay below 0.01."""
LONGEST_GAP = 1.0
"""Seconds between the frames around that can be bridged; heads move on meanwhile."""
ASKED, FEWEST_ASKED = 200, 5
"""How many frames that are seen well are asked how far off such a way is in this film, and how many at least. The
farthest bounds it: what blurs a frame is movement, so that the others stand stiller."""
SLOPE = 3
"""Frames over which a movement's speed is measured where a gap begins and ends."""


def off_course(
    pixels_of: Callable[[int], Float[np.ndarray, "L 2"]],
    height: Float[np.ndarray, " T"],
    seconds: Float[np.ndarray, " T"],
    doubtful: Bool[np.ndarray, " T"],
    unclear: Bool[np.ndarray, " T"],
) -> Bool[np.ndarray, " T"]:
    """Frames whose face is not where the frames around them have it; of doubtful ones also those that have none near
    enough to tell.

    Args:
        pixels_of: gives a frame's points on the face, as they were fitted.
        height: of the face in each picture, pixels.
        seconds: of each frame, increasing.
        doubtful: frames that do not show the face as the others do.
        unclear: others that are less like the rest: blurred, noisy, coarse.
    """
    pixels = lru_cache(None)(pixels_of)
    off, sure = np.zeros(len(height), dtype=bool), np.flatnonzero(~(doubtful | unclear))
    usual = lru_cache(None)(partial(_usual, pixels, height, seconds, sure))
    for row in np.flatnonzero(doubtful | unclear):
        before, after = sure[sure < row], sure[sure > row]
        near = [side for side in (before[-1:], after[:1]) if len(side)]
        # At the film's ends half as long: nothing says where the movement led to.
        if not near or (
            seconds[after[0]] - seconds[before[-1]] > LONGEST_GAP
            if len(near) == 2
            else abs(seconds[near[0][0]] - seconds[row]) > LONGEST_GAP / 2
        ):
            off[row] = doubtful[row]
            continue
        expected = _bridges(pixels, seconds, row, before, after) if len(near) == 2 else [pixels(int(near[0][0]))]
        distance = min(np.linalg.norm(pixels(int(row)) - one, axis=-1).mean() for one in expected)
        allowed = OFF
        if unclear[row]:
            # Seldom wrong: a head that jolts must not be called so.
            both = len(near) == 2
            allowed = max(OFF, usual(int(row - before[-1]), int(after[0] - row))) if both else np.inf
        off[row] = distance > allowed * height[row]
    return off


def _usual(
    pixels: Callable[[int], Float[np.ndarray, "L 2"]],
    height: Float[np.ndarray, " T"],
    seconds: Float[np.ndarray, " T"],
    sure: Int[np.ndarray, " S"],
    left: int,
    right: int,
) -> float:
    """Distance, heights of the face, that no sure frame exceeds from where others so many frames before and after have
    it; infinite where too few can be asked."""
    found = []
    for row in sure[:: max(1, len(sure) // ASKED)]:
        before, after = sure[sure <= row - left], sure[sure >= row + right]
        if len(before) and len(after) and seconds[after[0]] - seconds[before[-1]] <= LONGEST_GAP:
            ways = _bridges(pixels, seconds, int(row), before, after)
            found.append(min(np.linalg.norm(pixels(int(row)) - one, axis=-1).mean() for one in ways) / height[row])
    return max(found) if len(found) >= FEWEST_ASKED else np.inf


def _bridges(
    pixels: Callable[[int], Float[np.ndarray, "L 2"]],
    seconds: Float[np.ndarray, " T"],
    row: int,
    before: Int[np.ndarray, " B"],
    after: Int[np.ndarray, " A"],
) -> list[Float[np.ndarray, "L 2"]]:
    """Where the points would be on a straight way from the last sure frame before to the first one after, and on a
    curved one that leaves and arrives as the frames further off move."""
    first, last = int(before[-1]), int(after[0])
    start, end, span = pixels(first), pixels(last), seconds[last] - seconds[first]
    at = (seconds[row] - seconds[first]) / span
    earlier, later = int(before[-1 - min(SLOPE, len(before) - 1)]), int(after[min(SLOPE, len(after) - 1)])
    leaving = (start - pixels(earlier)) * span / max(seconds[first] - seconds[earlier], 1e-9)
    arriving = (pixels(later) - end) * span / max(seconds[later] - seconds[last], 1e-9)
    straight = (1 - at) * start + at * end
    curved = (
        (2 * at**3 - 3 * at**2 + 1) * start
        + (at**3 - 2 * at**2 + at) * leaving
        + (3 * at**2 - 2 * at**3) * end
        + (at**3 - at**2) * arriving
    )
    return [straight, curved]
