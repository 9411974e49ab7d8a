"""The outline of a projected mesh, and how well what it covers agrees with the matte between brow and chin."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, UInt8

SUBPIXEL_BITS = 4
"""cv2 takes corners in sixteenths of a pixel."""


class OuterTest:
    """Tells which points of the picture lie outside a projected mesh, from its outline alone: faster than covering."""

    def __init__(self, segments: Float[np.ndarray, "N 2 2"]) -> None:
        """
        Args:
            segments: edges in pixels that contain the outline: those between front and back, and open ones.
        """
        import cv2

        self._corner = np.floor(segments.reshape(-1, 2).min(axis=0)) - 2
        size = np.ceil(segments.reshape(-1, 2).max(axis=0) - self._corner).astype(int) + 3
        drawn = np.zeros((size[1], size[0]), dtype=np.uint8)
        fixed_point = np.round((segments - self._corner - 0.5) * 2**SUBPIXEL_BITS).astype(np.int32)
        cv2.polylines(drawn, list(fixed_point), False, 1, shift=SUBPIXEL_BITS)
        cv2.floodFill(drawn, None, (0, 0), 2)
        self._outside = drawn == 2

    def outside(self, points: Float[np.ndarray, "N 2"]) -> Bool[np.ndarray, " N"]:
        """Which points lie outside, exact to a pixel."""
        at = np.floor(points - self._corner).astype(int)
        limit = np.array(self._outside.shape[::-1]) - 1
        inside_box = ((at >= 0) & (at <= limit)).all(axis=1)
        at = np.clip(at, 0, limit)
        return ~inside_box | self._outside[at[:, 1], at[:, 0]]


def band_between(
    top: Float[np.ndarray, "2"], bottom: Float[np.ndarray, "2"], shape: tuple[int, int]
) -> Bool[np.ndarray, "H W"]:
    """Pixels between two points along the line that joins them, however far to the side."""
    rows, columns = np.mgrid[: shape[0], : shape[1]] + 0.5
    along = _along(np.stack([columns, rows], axis=-1), top, bottom)
    return (along >= 0) & (along <= 1)


def within_band(
    pixels: Float[np.ndarray, "N 2"], top: Float[np.ndarray, "2"], bottom: Float[np.ndarray, "2"]
) -> Bool[np.ndarray, " N"]:
    """Which of some points lie between two others along the line that joins them."""
    along = _along(pixels, top, bottom)
    return (along >= 0) & (along <= 1)


def is_above(
    pixels: Float[np.ndarray, "N 2"], top: Float[np.ndarray, "2"], bottom: Float[np.ndarray, "2"]
) -> Bool[np.ndarray, " N"]:
    """Which of some points lie past the first of two others, seen from the second."""
    return _along(pixels, top, bottom) < 0


def _along(
    pixels: Float[np.ndarray, "*N 2"], top: Float[np.ndarray, "2"], bottom: Float[np.ndarray, "2"]
) -> Float[np.ndarray, "*N"]:
    axis = bottom - top
    return ((pixels - top) @ axis) / max(float(axis @ axis), 1e-9)


def outline_iou(
    covered: Bool[np.ndarray, "H W"], matte: UInt8[np.ndarray, "H W"], band: Bool[np.ndarray, "H W"]
) -> float:
    """Intersection over union of the covered pixels and the matte (at half), inside a band."""
    person = matte > 127
    union = ((covered | person) & band).sum()
    return float((covered & person & band).sum() / union) if union else 0.0
