"""Any picture as 8-bit RGB with its alpha."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Shaped, UInt8

from flame_nerf.runtime.door import check_kind, decode_picture, open_picture, picture_header

ROWS_AT_ONCE = 256
"""Rows that are brought to 8 bits at a time: on the way each number takes eight bytes."""


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
    raw = eight_bits(raw, path, error)
    grey = raw.ndim == 2
    rgb = np.repeat(raw[..., None], 3, axis=2) if grey else raw[..., 2::-1]
    alpha = raw[..., 3] if not grey and raw.shape[2] == 4 else None
    if alpha is not None and (alpha == 255).all():
        alpha = None
    return Decoded(np.ascontiguousarray(rgb), alpha, mode == "RGB" and path.suffix.lower() in (".png", ".jpg"))


def eight_bits(raw: Shaped[np.ndarray, "H W *C"], path: Path, error: type[Exception]) -> UInt8[np.ndarray, "H W *C"]:
    """A decoded picture's numbers with 8 bits each.

    Args:
        path: its file, for errors.
        error: kind of error to raise.

    Raises:
        error: they have neither 8 bits nor 16.
    """
    if raw.dtype == np.uint8:
        return raw
    if raw.dtype != np.uint16:
        raise error(f"{path}: pixels of type {raw.dtype}; expected 8 or 16 bits. Save it as PNG.")
    out = np.empty(raw.shape, np.uint8)
    for start in range(0, len(raw), ROWS_AT_ONCE):
        rows = slice(start, start + ROWS_AT_ONCE)
        out[rows] = np.round(raw[rows] / 257.0)
    return out


def _raw(path: Path, error: type[Exception]) -> tuple[str, np.ndarray]:
    """The picture's mode and its pixels in cv2's order of channels (BGR, BGRA or grey)."""
    check_kind(path, error, "a picture")
    header = picture_header(path, error)
    if header.mode in ("CMYK", "YCbCr", "LAB", "HSV", "PA", "LA"):
        with open_picture(path, error) as picture:
            pixels = np.asarray(picture.convert("RGBA" if header.mode in ("PA", "LA") else "RGB"))
        return header.mode, np.concatenate([pixels[..., 2::-1], pixels[..., 3:]], axis=2)
    raw = decode_picture(path, error)
    return "deep" if header.deep or raw.dtype != np.uint8 else header.mode, raw
