"""Pictures and masks of a subject as they are stored, and how much of a mask is on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from flame_nerf.runtime.door import decode_picture
from flame_nerf.subject import Frame, SubjectError


def read_stored(path: Path, flags: int) -> UInt8[np.ndarray, "H W *C"]:
    """A picture of a subject, decoded as OpenCV's flags say.

    Raises:
        SubjectError: naming the file that is missing or cannot be decoded.
    """
    remedy = "Put the picture back, or track the video again."
    return decode_picture(path, SubjectError, flags, remedy=remedy, missing=f"{path} does not exist. {remedy}")


def read_mask(path: Path) -> UInt8[np.ndarray, "H W"]:
    """A mask as 8 bits, 255 = head; one of zeros and ones is brought to that.

    Raises:
        SubjectError: naming the file that cannot be decoded.
    """
    import cv2

    mask = read_stored(path, cv2.IMREAD_GRAYSCALE)
    return mask * 255 if _of_ones(mask) else mask


def _of_ones(mask: UInt8[np.ndarray, "H W"]) -> bool:
    return int(mask.max()) == 1


@dataclass(frozen=True)
class Covered:
    """How much of a mask is on."""

    name: str
    share: float
    of_ones: bool = False
    """Whether it holds 0 and 1 where 0 and 255 are meant."""


def covered_by(frames: Sequence[Frame]) -> list[Covered]:
    """Of each frame that has a mask, and whose file is there: how much of it is on.

    Raises:
        SubjectError: naming a file that cannot be decoded.
    """
    masks = [frame.mask_path for frame in frames if frame.mask_path is not None]
    return [covered_of(path) for path in masks if path.exists()]


def covered_of(path: Path) -> Covered:
    """How much of a mask is on.

    Raises:
        SubjectError: naming the file that cannot be decoded.
    """
    import cv2

    stored = decode_picture(path, SubjectError, cv2.IMREAD_GRAYSCALE)
    of_ones = _of_ones(stored)
    return Covered(path.name, float((stored > (0 if of_ones else 127)).mean()), of_ones)
