"""Which part of a video's pictures is stored, and how large: of large pictures the head's neighbourhood only."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float, Shaped

CROPPED_SIDE, WHOLE_SIDE = 512, 1024
"""Longest side of stored pictures unless asked for otherwise, pixels: of a cropped head, and of whole frames."""
LARGEST_SHARE = 0.6
"""Share of the frame from which the head fills it, so that cutting it out would spare little."""


@dataclass(frozen=True)
class Framing:
    """A part of a film's pictures, and the size at which it is stored."""

    film: tuple[int, int]
    """Width and height of the film's pictures as displayed."""
    left: int
    top: int
    width: int
    height: int
    """The part, pixels of the film."""
    stored: tuple[int, int]
    """Width and height of the stored pictures; never more than the part's."""

    @property
    def cropped(self) -> bool:
        """Whether anything is left out."""
        return (self.width, self.height) != self.film

    @property
    def scale(self) -> float:
        """Stored size over the film's."""
        return max(self.stored) / max(self.width, self.height)

    @property
    def centre(self) -> Float[np.ndarray, "2"]:
        """Middle of the film's picture, where its optical axis is taken to be, in pixels of the stored pictures."""
        return self.to_stored(np.array(self.film) / 2)

    def to_stored(self, points: Float[np.ndarray, "*N 2"]) -> Float[np.ndarray, "*N 2"]:
        """Pixels of the film, 0 at its edge, as pixels of the stored pictures."""
        each = np.array(self.stored) / np.array([self.width, self.height])
        return (points - np.array([self.left, self.top])) * each

    def cut(self, picture: Shaped[np.ndarray, "H W *C"]) -> Shaped[np.ndarray, "h w *C"]:
        """A picture of the film, at any size, as it is stored."""
        if self.cropped:
            picture = resized(picture, self.film)
            picture = picture[self.top : self.top + self.height, self.left : self.left + self.width]
            # A copy: the film's large picture must not live on behind a small part of it.
            picture = np.ascontiguousarray(picture)
        return resized(picture, self.stored)

    def words(self) -> str:
        """What was done, in a line."""
        part, film, stored = (f"{w}x{h}" for w, h in ((self.width, self.height), self.film, self.stored))
        return f"Head cropped to {part} of {film}, kept at {stored} (--no-crop keeps whole frames)."

    def record(self) -> dict[str, object]:
        """What a subject says of it, so that results can be put back into the film."""
        box = [self.left, self.top, self.width, self.height]
        return {"video_size": list(self.film), "box": box, "scale": self.scale}


def resized(picture: Shaped[np.ndarray, "H W *C"], size: tuple[int, int]) -> Shaped[np.ndarray, "h w *C"]:
    """A picture at another size (width, height); itself where it has that size."""
    if picture.shape[1::-1] == size:
        return picture
    resample = cv2.INTER_AREA if picture.shape[1] > size[0] else cv2.INTER_LINEAR
    return cv2.resize(picture, size, interpolation=resample)


def limited(size: tuple[int, int], longest_side: int) -> tuple[int, int]:
    """A size (width, height) scaled down so that its longer side is at most so long."""
    scale = min(1.0, longest_side / max(size))
    return (max(1, round(size[0] * scale)), max(1, round(size[1] * scale)))


def whole_frames(film: tuple[int, int], longest_side: int | None) -> Framing:
    """All of the film's picture."""
    return Framing(film, 0, 0, *film, limited(film, longest_side or WHOLE_SIDE))


def head_framing(
    film: tuple[int, int],
    low: Float[np.ndarray, "2"],
    high: Float[np.ndarray, "2"],
    longest_side: int | None,
) -> Framing:
    """A square around what the head and its surroundings take up over the whole film, or the whole frame where the film
    is small already or the head fills it.

    Args:
        film: width and height of its pictures.
        low, high: corners of what must be seen, pixels of the film; may lie outside.
        longest_side: of the stored pictures; None: the defaults.
    """
    whole = whole_frames(film, longest_side)
    if max(film) <= min(CROPPED_SIDE, longest_side or CROPPED_SIDE):
        return whole
    size = np.array(film)
    low, high = np.clip(low, 0, size), np.clip(high, 0, size)
    # Even, as films want it.
    side = 2 * math.ceil(float((high - low).max()) / 2)
    width, height = (min(side, all_of_it) for all_of_it in film)
    if width < 2 or height < 2 or width * height > LARGEST_SHARE * film[0] * film[1]:
        return whole
    corner = np.clip(np.round((low + high - [width, height]) / 2), 0, size - [width, height]).astype(int)
    stored = limited((width, height), longest_side or CROPPED_SIDE)
    return Framing(film, int(corner[0]), int(corner[1]), width, height, stored)
