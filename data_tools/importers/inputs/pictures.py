"""Any picture as 8-bit RGB with its alpha, and segmentations turned into mattes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import UInt8
from PIL import Image, UnidentifiedImageError

from data_tools.importers.config import ImportingError
from data_tools.importers.inputs.kinds import check_kind

CUT_MEDIAN, CUT_GROW = 5, 3
"""A cut-away class is cleaned by a median of this side and grown by so many pixels, as its border mixes colours."""


@dataclass(frozen=True)
class Decoded:
    """A picture's content."""

    rgb: UInt8[np.ndarray, "H W 3"]
    alpha: UInt8[np.ndarray, "H W"] | None
    """None where the file has none, or one that is opaque everywhere."""
    plain: bool
    """Whether the file itself is 8-bit RGB, so that it can be copied as it is."""


def read_picture(path: Path) -> Decoded:
    """Read a picture of 8 or 16 bits: grey, RGB, RGBA, palette or CMYK.

    Raises:
        ImportingError: it is missing or cannot be decoded.
    """
    mode, raw = _raw(path)
    if raw.dtype == np.uint16:
        raw = np.round(raw / 257.0).astype(np.uint8)
    elif raw.dtype != np.uint8:
        raise ImportingError(f"{path}: pixels of type {raw.dtype}; expected 8 or 16 bits. Save it as PNG.")
    grey = raw.ndim == 2
    rgb = np.repeat(raw[..., None], 3, axis=2) if grey else raw[..., 2::-1]
    alpha = raw[..., 3] if not grey and raw.shape[2] == 4 else None
    if alpha is not None and (alpha == 255).all():
        alpha = None
    return Decoded(np.ascontiguousarray(rgb), alpha, mode == "RGB" and path.suffix.lower() in (".png", ".jpg"))


def _raw(path: Path) -> tuple[str, np.ndarray]:
    """The picture's mode and its pixels in cv2's order of channels (BGR, BGRA or grey)."""
    check_kind(path, "a picture")
    try:
        with Image.open(path) as header:
            mode = header.mode
            if mode in ("CMYK", "YCbCr", "LAB", "HSV", "PA", "LA"):
                target = "RGBA" if mode in ("PA", "LA") else "RGB"
                pixels = np.asarray(header.convert(target))
                return mode, np.concatenate([pixels[..., 2::-1], pixels[..., 3:]], axis=2)
            bits = (getattr(header, "tile", None) or [()])[0]
        raw = cv2.imdecode(np.fromfile(path, dtype=np.uint8), cv2.IMREAD_UNCHANGED)
    except (UnidentifiedImageError, OSError, cv2.error, Image.DecompressionBombError) as error:
        raise ImportingError(f"{path} cannot be read as a picture ({error}).") from error
    if raw is None:
        raise ImportingError(f"{path} cannot be decoded as a picture; it may be cut short.")
    # PIL calls 16-bit RGB "RGB" too.
    deep = raw.dtype != np.uint8 or (bits and "16" in str(bits[-1]))
    return "deep" if deep else mode, raw


def picture_size(path: Path) -> tuple[int, int]:
    """Width and height, from the header alone.

    Raises:
        ImportingError: it is missing or no picture.
    """
    check_kind(path, "a picture")
    try:
        with Image.open(path) as header:
            return header.size
    except (UnidentifiedImageError, OSError) as error:
        raise ImportingError(f"{path} cannot be read as a picture ({error}).") from error


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
        red = read_picture(self.path).rgb[..., 0]
        return red if red.shape[1::-1] == size else cv2.resize(red, size, interpolation=cv2.INTER_NEAREST)


def matte_of(
    decoded: Decoded, matte: Path | None, segmentation: Segmentation | None
) -> UInt8[np.ndarray, "H W"] | None:
    """What of a picture belongs to the head, 255 = head: a matte file, else the alpha, else the segmentation's classes.

    Clothes are cut away where a segmentation tells. None if nothing tells anything.
    """
    size = decoded.rgb.shape[1::-1]
    if matte is not None:
        read = read_picture(matte)
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
