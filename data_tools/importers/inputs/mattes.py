"""Mattes out of alpha channels, matte files and segmentations."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import UInt8

from data_tools.importers.config import ImportingError
from data_tools.runs.picture_files import Decoded, read_picture

CUT_MEDIAN, CUT_GROW = 5, 3
"""A cut-away class is cleaned by a median of this side and grown by so many pixels, as its border mixes colours."""


def resized(picture: UInt8[np.ndarray, "h w *C"], size: tuple[int, int]) -> UInt8[np.ndarray, "H W *C"]:
    """The picture at width x height."""
    if picture.shape[1::-1] == size:
        return picture
    smaller = size[0] < picture.shape[1]
    return cv2.resize(picture, size, interpolation=cv2.INTER_AREA if smaller else cv2.INTER_LINEAR)


@dataclass(frozen=True)
class Segmentation:
    """A picture of classes, and which of them belong to the head."""

    path: Path
    cut: frozenset[int]
    """Classes that are no part of the head although a matte holds them (clothes)."""
    background: frozenset[int] = frozenset({0})

    def classes(self, size: tuple[int, int]) -> UInt8[np.ndarray, "H W"]:
        """Class of each pixel: the red channel."""
        red = read_picture(self.path, ImportingError).rgb[..., 0]
        return red if red.shape[1::-1] == size else cv2.resize(red, size, interpolation=cv2.INTER_NEAREST)


def matte_of(
    decoded: Decoded, matte: Path | None, segmentation: Segmentation | None
) -> UInt8[np.ndarray, "H W"] | None:
    """What of a picture belongs to the head, 255 = head: a matte file, else the alpha, else the segmentation's classes.

    Clothes are cut away where a segmentation tells. None if nothing tells anything.
    """
    size = decoded.rgb.shape[1::-1]
    if matte is not None:
        read = read_picture(matte, ImportingError)
        mask = resized(read.rgb[..., 0] if read.alpha is None else read.alpha, size)
    else:
        mask = decoded.alpha
    if segmentation is None:
        return mask
    classes = segmentation.classes(size)
    if mask is None:
        mask = np.where(np.isin(classes, list(segmentation.background)), 0, 255).astype(np.uint8)
    cut = cv2.medianBlur(np.isin(classes, list(segmentation.cut)).astype(np.uint8), CUT_MEDIAN)
    cut = cv2.dilate(cut, np.ones((3, 3), np.uint8), iterations=CUT_GROW)
    return np.where(cut > 0, 0, mask).astype(np.uint8)
