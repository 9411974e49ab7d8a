"""Any picture as 8-bit RGB with its alpha."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import UInt8
from PIL import Image, UnidentifiedImageError

from data_tools.runs.file_kinds import check_kind


@dataclass(frozen=True)
class Decoded:
    """A picture's content."""

    rgb: UInt8[np.ndarray, "H W 3"]
    alpha: UInt8[np.ndarray, "H W"] | None
    """None where the file has none, or one that is opaque everywhere."""
    plain: bool
    """Whether the file itself is 8-bit RGB, so that it can be copied as it is."""


def read_picture(path: Path, error: type[Exception]) -> Decoded:
    """Read a picture of 8 or 16 bits: grey, RGB, RGBA, palette or CMYK.

    Args:
        error: kind of error to raise.

    Raises:
        error: it is missing or cannot be decoded.
    """
    mode, raw = _raw(path, error)
    if raw.dtype == np.uint16:
        raw = np.round(raw / 257.0).astype(np.uint8)
    elif raw.dtype != np.uint8:
        raise error(f"{path}: pixels of type {raw.dtype}; expected 8 or 16 bits. Save it as PNG.")
    grey = raw.ndim == 2
    rgb = np.repeat(raw[..., None], 3, axis=2) if grey else raw[..., 2::-1]
    alpha = raw[..., 3] if not grey and raw.shape[2] == 4 else None
    if alpha is not None and (alpha == 255).all():
        alpha = None
    return Decoded(np.ascontiguousarray(rgb), alpha, mode == "RGB" and path.suffix.lower() in (".png", ".jpg"))


def _raw(path: Path, error: type[Exception]) -> tuple[str, np.ndarray]:
    """The picture's mode and its pixels in cv2's order of channels (BGR, BGRA or grey)."""
    check_kind(path, error, "a picture")
    try:
        with Image.open(path) as header:
            mode = header.mode
            if mode in ("CMYK", "YCbCr", "LAB", "HSV", "PA", "LA"):
                target = "RGBA" if mode in ("PA", "LA") else "RGB"
                pixels = np.asarray(header.convert(target))
                return mode, np.concatenate([pixels[..., 2::-1], pixels[..., 3:]], axis=2)
            bits = (getattr(header, "tile", None) or [()])[0]
        raw = cv2.imdecode(np.fromfile(path, dtype=np.uint8), cv2.IMREAD_UNCHANGED)
    except (UnidentifiedImageError, OSError, cv2.error, Image.DecompressionBombError) as problem:
        raise error(f"{path} cannot be read as a picture ({problem}).") from problem
    if raw is None:
        raise error(f"{path} cannot be decoded as a picture; it may be cut short.")
    # PIL calls 16-bit RGB "RGB" too.
    deep = raw.dtype != np.uint8 or (bits and "16" in str(bits[-1]))
    return "deep" if deep else mode, raw


def picture_size(path: Path, error: type[Exception]) -> tuple[int, int]:
    """Width and height, from the header alone.

    Args:
        error: kind of error to raise.

    Raises:
        error: it is missing or no picture.
    """
    check_kind(path, error, "a picture")
    try:
        with Image.open(path) as header:
            return header.size
    except (UnidentifiedImageError, OSError) as problem:
        raise error(f"{path} cannot be read as a picture ({problem}).") from problem
