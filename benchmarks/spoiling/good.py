"""Good material that bad inputs are made from: two people's films, and sound."""

from __future__ import annotations

import sys
from functools import cached_property
from pathlib import Path

import cv2
import numpy as np

sys.path.append(str(Path(__file__).resolve().parents[2] / "tests" / "support"))
from track_clips import carphone, ffmpeg, pictures_of, steady, write_video

COUNT = 14
"""Frames of a good clip: a few more than tracking needs."""


class GoodFilms:
    """A talking head of 176x144 and another person of the same size, made when they are first asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def make(self) -> None:
        """Make all of it now."""
        for name in ("person", "other", "clip", "sharp", "sound", "cover"):
            getattr(self, name)

    @cached_property
    def person(self) -> list[np.ndarray]:
        """Pictures of a man who talks in a car."""
        return _kept(pictures_of(carphone(), COUNT))

    @cached_property
    def other(self) -> list[np.ndarray]:
        """Pictures of a woman before whom the camera sways a little: the portrait that scikit-image carries."""
        from skimage.data import astronaut

        return _kept(
            [
                cv2.resize(astronaut()[20 + row : 290 + row, 50:380], (176, 144), interpolation=cv2.INTER_AREA)
                for row in np.rint(6 * np.sin(np.arange(COUNT))).astype(int) + 6
            ]
        )

    @cached_property
    def clip(self) -> Path:
        """The man's film."""
        return write_video(self.folder / "good.mp4", self.person, steady(COUNT))

    @cached_property
    def sharp(self) -> Path:
        """The man's film without any loss, for recoding."""
        return ffmpeg("-i", self.clip, "-c:v", "ffv1", self.folder / "good.mkv")

    @cached_property
    def sound(self) -> Path:
        """A tone of two seconds."""
        return ffmpeg("-f", "lavfi", "-i", "sine=d=2", self.folder / "sound.wav")

    @cached_property
    def cover(self) -> Path:
        """One picture."""
        return ffmpeg("-i", self.clip, "-frames:v", "1", self.folder / "cover.png")


def _kept(pictures: list[np.ndarray]) -> list[np.ndarray]:
    """The same, which nobody can draw on by mistake."""
    for picture in pictures:
        picture.setflags(write=False)
    return pictures
