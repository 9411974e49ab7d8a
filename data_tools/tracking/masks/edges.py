"""The background along a matte's edge, told by its colour.

A network's matte is as fine as the network's own pixels, and takes a rim of background along: blue around a head that
was filmed before a blue screen, white before a window. The field learns that rim as the colour of the head's sides.
Where head and background differ in colour, each pixel near the edge is placed between the two.
"""

from __future__ import annotations

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from flame_nerf.data.mixtures import Mixtures, mixtures_of

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
    left, top, width, height = cv2.boundingRect(matte)
    if not width:
        return result
    margin = NEIGHBOURHOOD * reach
    part = np.s_[max(top - margin, 0) : top + height + margin, max(left - margin, 0) : left + width + margin]
    near = matte[part]
    person = (near > 127).astype(np.uint8)
    depth, distance = (cv2.distanceTransform(side, cv2.DIST_L2, 5) for side in (person, 1 - person))
    # Of what is as near as this on both sides, where there is anything to lose.
    edge = np.nonzero((depth <= reach) & (near > 0))
    level = _level(mixtures_of(picture[part], depth > reach, distance > reach, edge, margin))
    result[part][edge] = np.round(near[edge] * level)
    return result


def _level(mixtures: Mixtures) -> Float[np.ndarray, " N"]:
    """What is left of each pixel, 0 to 1."""
    contrast, spread = mixtures.contrast, np.sqrt(mixtures.behind.variance.sum(axis=1))
    trust = _ramp(contrast, CONTRAST) * (1 - _ramp(spread / contrast, EVEN))
    trust *= 1 - _ramp(mixtures.beside / contrast, MIXED)
    return 1 - trust * (1 - _ramp(mixtures.share, SHARE))


def _ramp(value: Float[np.ndarray, "*s"], ends: tuple[float, float]) -> Float[np.ndarray, "*s"]:
    """0 up to the first end, 1 from the second on."""
    return np.clip((value - ends[0]) / (ends[1] - ends[0]), 0.0, 1.0)
