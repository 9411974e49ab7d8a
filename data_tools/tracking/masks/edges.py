"""The background along a matte's edge, told by its colour.

A network's matte is as fine as the network's own pixels, and takes a rim of background along: blue around a head that
was filmed before a blue screen, white before a window. The field learns that rim as the colour of the head's sides.
Where head and background differ in colour, each pixel near the edge is placed between the two.
"""

from __future__ import annotations

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt8

REACH = 0.0045
"""How far on both sides of its edge a matte may be wrong, metres on the head: about two of the network's pixels."""
FEWEST_PIXELS = 2
"""The same in pixels, at least."""
NEIGHBOURHOOD = 3
"""Half the side of the square whose head and background are nearby, in reaches: the nearest of both lie two away."""
CONTRAST = (60.0, 120.0)
"""Difference of head and background, length in RGB of 0 to 255, from which colour says something, and all."""
EVEN = (0.25, 0.5)
"""Spread of the background nearby over that difference, up to which it says all, and from which nothing."""
MIXED = (0.12, 0.24)
"""How far a pixel may be from every mixture of the two, over that difference, likewise: an ear between dark hair and a
white wall is no mixture of these."""
SHARE = (0.2, 0.8)
"""Share of the head in a pixel's colour up to which it is background, and from which it is the head."""


def without_background(
    matte: UInt8[np.ndarray, "H W"], picture: UInt8[np.ndarray, "H W 3"], reach: float
) -> UInt8[np.ndarray, "H W"]:
    """The matte, 255 = person, without pixels along its edge that show the background. Nothing is added to it.

    Each pixel's colour is projected on the line from the background's nearby to the head's, as in two-colour matting.

    Args:
        picture: RGB.
        reach: how far inside its edge the matte may be wrong, pixels.
    """
    result, reach = matte.copy(), max(FEWEST_PIXELS, round(reach))
    shown = np.argwhere(matte > 0)
    if len(shown) == 0:
        return result
    margin = NEIGHBOURHOOD * reach
    low, high = np.maximum(shown.min(axis=0) - margin, 0), shown.max(axis=0) + margin + 1
    part = (slice(low[0], high[0]), slice(low[1], high[1]))
    level = _level(matte[part] > 127, picture[part].astype(np.float32), reach)
    result[part] = np.round(matte[part] * level)
    return result


def _level(
    person: Bool[np.ndarray, "h w"], colour: Float[np.ndarray, "h w 3"], reach: int
) -> Float[np.ndarray, "h w"]:
    """What is left of each pixel, 0 to 1."""
    depth, distance = (cv2.distanceTransform(side.astype(np.uint8), cv2.DIST_L2, 5) for side in (person, ~person))
    side = 2 * NEIGHBOURHOOD * reach + 1
    head, background = (_nearby(colour, far > reach, side) for far in (depth, distance))
    square = _nearby(_dot(colour, colour)[..., None], distance > reach, side)[..., 0]
    spread = np.sqrt(np.maximum(square - _dot(background, background), 0))
    between = head - background
    contrast = np.maximum(np.sqrt(_dot(between, between)), 1e-6)
    share = _dot(colour - background, between) / contrast**2
    beside = colour - background - np.clip(share, 0, 1)[..., None] * between
    trust = 1 - _ramp(np.sqrt(_dot(beside, beside)) / contrast, MIXED)
    trust *= _ramp(contrast, CONTRAST) * (1 - _ramp(spread / contrast, EVEN)) * (depth <= reach)
    return 1 - trust * (1 - _ramp(share, SHARE))


def _nearby(
    values: Float[np.ndarray, "h w C"], where: Bool[np.ndarray, "h w"], side: int
) -> Float[np.ndarray, "h w C"]:
    """Mean of what is nearby and counts; zero where nothing does."""
    counts = where.astype(np.float32)
    weight = np.maximum(cv2.blur(counts, (side, side)), 1e-6)[..., None]
    return cv2.blur(values * counts[..., None], (side, side)).reshape(values.shape) / weight


def _dot(first: Float[np.ndarray, "h w 3"], second: Float[np.ndarray, "h w 3"]) -> Float[np.ndarray, "h w"]:
    return np.einsum("hwc,hwc->hw", first, second)


def _ramp(value: Float[np.ndarray, "*s"], ends: tuple[float, float]) -> Float[np.ndarray, "*s"]:
    """0 up to the first end, 1 from the second on."""
    return np.clip((value - ends[0]) / (ends[1] - ends[0]), 0.0, 1.0)
