"""Pixels along an edge as mixtures of what lies to both sides of it.

The compositing equation, I = share F + (1 - share) B, with one F and one B for each pixel: the mean colours nearby,
well inside and well outside. The share is where the pixel's colour lies on the line between them.
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Bool, Float, Int, UInt8


class Colours(NamedTuple):
    """Colours around each of N pixels; zeros where there are none."""

    mean: Float[np.ndarray, "N 3"]
    variance: Float[np.ndarray, "N 3"]
    known: Bool[np.ndarray, " N"]
    """Whether there are any."""


class Mixtures(NamedTuple):
    """N pixels between two colours; levels of 0 to 255."""

    person: Colours
    behind: Colours
    contrast: Float[np.ndarray, " N"]
    """Difference of the two, length in RGB; above zero."""
    share: Float[np.ndarray, " N"]
    """Of the person; below 0 and above 1 where a pixel is beyond either."""
    beside: Float[np.ndarray, " N"]
    """Difference to the nearest mixture of the two."""


def mixtures_of(
    picture: UInt8[np.ndarray, "H W 3"],
    inside: Bool[np.ndarray, "H W"],
    outside: Bool[np.ndarray, "H W"],
    pixels: tuple[Int[np.ndarray, " N"], Int[np.ndarray, " N"]],
    near: int,
) -> Mixtures:
    """Some pixels as mixtures of the colours around them.

    Args:
        inside, outside: pixels that show the person alone, and what is behind alone.
        pixels: rows and columns of the mixtures.
        near: half the side of the square in which both are looked for, pixels.
    """
    picture = np.ascontiguousarray(picture)
    person, behind = (_colours_near(picture, where, pixels, near) for where in (inside, outside))
    apart, beyond = person.mean - behind.mean, picture[pixels] - behind.mean
    square = _dot(apart, apart) + np.float32(1e-3)
    share = _dot(beyond, apart) / square
    beside = beyond - np.clip(share, 0, 1)[:, None] * apart
    return Mixtures(person, behind, np.sqrt(square), share, np.sqrt(_dot(beside, beside)))


def _colours_near(
    picture: UInt8[np.ndarray, "H W 3"],
    where: Bool[np.ndarray, "H W"],
    pixels: tuple[Int[np.ndarray, " N"], Int[np.ndarray, " N"]],
    near: int,
) -> Colours:
    """Mean and variance of the colours that count, within a square around each pixel."""
    counts, side = where.astype(np.uint8), 2 * near + 1
    colours = cv2.bitwise_and(picture, picture, mask=counts)
    squares = cv2.multiply(colours, colours, dtype=cv2.CV_32F)
    at = np.ravel_multi_index(pixels, where.shape)
    # Sums of bytes are exact, and quicker than means of floats.
    sums = (cv2.boxFilter(one, cv2.CV_32F, (side, side), normalize=False) for one in (counts, colours, squares))
    count, total, square = (one.reshape(where.size, -1).take(at, axis=0) for one in sums)
    mean = total / np.maximum(count, 1)
    return Colours(mean, np.maximum(square / np.maximum(count, 1) - mean * mean, 0), count[:, 0] > 0)


def _dot(first: Float[np.ndarray, "N 3"], second: Float[np.ndarray, "N 3"]) -> Float[np.ndarray, " N"]:
    return np.einsum("nc,nc->n", first, second)
