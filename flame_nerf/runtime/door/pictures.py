"""Pictures that others made: their header is looked at, and their size held against a limit, before a pixel is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, UnidentifiedImageError

from flame_nerf.runtime.door.opening import check_kind, foreign, open_file

MOST_PIXELS = 1 << 26
"""8192 x 8192: twice a frame of 8K."""
LONGEST_SIDE = 1 << 16
LARGEST_PICTURE = 512 << 20
"""Bytes of a picture's file."""
FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "WEBP", "GIF", "PPM")
"""What is read. Pillow knows more, among them PostScript, for which it would run a program."""
AS_IT_IS = -1
"""OpenCV's IMREAD_UNCHANGED."""
WANTED, AGAIN = "a picture", "Write it again, as PNG or JPEG."


@dataclass(frozen=True)
class Header:
    """What a picture's file says of itself."""

    size: tuple[int, int]
    """Width and height."""
    mode: str
    """Pillow's name of the kind of pixels."""
    deep: bool
    """Whether its numbers have 16 bits; Pillow calls 16-bit RGB "RGB" too."""


@contextmanager
def open_picture(
    path: Path, error: type[Exception], *, remedy: str = AGAIN, missing: str = ""
) -> Iterator[Image.Image]:
    """A picture as Pillow opens it, its header read and its pixels not yet. What goes wrong inside the block is told
    as a fault of the file.

    Args:
        error: kind of error to raise.
        remedy: what to do about a damaged one.
        missing: what to say where there is none.

    Raises:
        error: it is missing, no picture, or larger than any that is meant.
    """
    with (
        open_file(path, error, "a picture", largest=LARGEST_PICTURE, missing=missing) as stream,
        foreign(error, path, WANTED, remedy),
        _opened(stream) as picture,
    ):
        width, height = picture.size
        # Of 16 bits a frame of 8K, so that it takes no more memory.
        most = MOST_PIXELS // 2 if _deep(picture) else MOST_PIXELS
        if not 0 < width < LONGEST_SIDE or not 0 < height < LONGEST_SIDE or width * height > most:
            raise error(
                f"{path}: has {width}x{height} pixels; at most {most / 1e6:.0f} million are read. Save it smaller."
            )
        yield picture


def _opened(stream: BinaryIO) -> Image.Image:
    try:
        return Image.open(stream, formats=FORMATS)
    except UnidentifiedImageError:
        # Pillow's words name an object of Python's.
        raise ValueError(f"it begins as none of {', '.join(FORMATS)} does") from None


def picture_header(path: Path, error: type[Exception], *, remedy: str = AGAIN, missing: str = "") -> Header:
    """Size and kind of a picture, from its header alone: a few tens of microseconds; errors as for `open_picture`."""
    with open_picture(path, error, remedy=remedy, missing=missing) as picture:
        return Header(picture.size, picture.mode, _deep(picture))


def _deep(picture: Image.Image) -> bool:
    bits = (getattr(picture, "tile", None) or [()])[0]
    return picture.mode in ("I", "F") or (bool(bits) and "16" in str(bits[-1]))


def picture_size(path: Path, error: type[Exception]) -> tuple[int, int]:
    """Width and height, from the header alone.

    Args:
        error: kind of error to raise.

    Raises:
        error: it is missing or no picture.
    """
    check_kind(path, error, "a picture")
    return picture_header(path, error).size


def decode_picture(
    path: Path, error: type[Exception], flags: int = AS_IT_IS, *, remedy: str = AGAIN, missing: str = ""
) -> np.ndarray:
    """A picture's pixels as OpenCV decodes them, channels in its order (BGR, BGRA or grey).

    Args:
        error: kind of error to raise.
        flags: OpenCV's, which say what to make of it.
        remedy: what to do about a damaged one.
        missing: what to say where there is none.

    Returns:
        [H,W] or [H,W,C], of the type in the file.

    Raises:
        error: it is missing, no picture, too large, or cannot be decoded.
    """
    import cv2

    picture_header(path, error, remedy=remedy, missing=missing)
    with (
        open_file(path, error, "a picture", largest=LARGEST_PICTURE, missing=missing) as stream,
        foreign(error, path, WANTED, remedy),
    ):
        data = stream.read()
        if data.startswith(b"\xff\xd8") and data.rfind(b"\xff\xd9") < data.rfind(b"\xff\xda"):
            # OpenCV would fill with grey what is missing.
            raise ValueError("it is cut short")
        pixels = cv2.imdecode(np.frombuffer(data, dtype=np.uint8), flags)
    if pixels is None:
        raise error(f"{path}: no readable picture, perhaps cut short. {remedy}")
    return pixels
