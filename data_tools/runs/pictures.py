"""Reading and writing pictures so that a full disk is noticed and a half-written file never keeps its name."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from jaxtyping import UInt8

from flame_nerf.runtime.door import decode_picture
from flame_nerf.runtime.files import whole

AGAIN = "Track the video again with --overwrite."
_SETTINGS = {
    # Level 1: five times faster than the default for a tenth more bytes. Repeats as runs alone: an eighth faster again,
    # and smaller, for mattes, depth and pictures alike.
    ".png": [cv2.IMWRITE_PNG_COMPRESSION, 1, cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_RLE],
    # Colour at full resolution: lips and eyes are a few pixels wide.
    ".jpg": [cv2.IMWRITE_JPEG_QUALITY, 97, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444],
}


def save_picture(path: Path, picture: UInt8[np.ndarray, "H W *C"]) -> None:
    """Write an RGB or grey picture as PNG or JPEG, by the name's ending.

    Raises:
        OSError: if the disk refuses; no file of that name is left then.
    """
    order = picture if picture.ndim == 2 else picture[..., ::-1]
    data = cv2.imencode(path.suffix, order, _SETTINGS[path.suffix])[1]
    with whole(path, alone=True, synced=False, size=len(data)) as spare:
        spare.write_bytes(data)


def load_picture(path: Path) -> UInt8[np.ndarray, "H W 3"]:
    """Read a picture as RGB.

    Raises:
        OSError: if it is missing or cannot be decoded.
    """
    return decode_picture(path, OSError, cv2.IMREAD_COLOR, remedy=AGAIN)[..., ::-1]


def load_grey(path: Path) -> UInt8[np.ndarray, "H W"]:
    """Read a picture as one channel.

    Raises:
        OSError: if it is missing or cannot be decoded.
    """
    return decode_picture(path, OSError, cv2.IMREAD_GRAYSCALE, remedy=AGAIN)
