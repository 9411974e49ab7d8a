"""What a film of an avatar can be told: how it looks, and how another's performance becomes the avatar's.

Apart from what does it, so that a command line can show these options without loading torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from flame_nerf.runtime.errors import FilmError, MotionError

LARGEST, FINEST = 8192, 4
"""Most pixels of a side, and most rays along a pixel's side."""


@dataclass(frozen=True)
class LookConfig:
    """How a film looks."""

    background: str | None = None
    """white, black, transparent (a .webm or .mov film, or PNGs), plate (the clean plate of the avatar's video), or a
    picture's file; the avatar's own colour unless given."""
    width: int | None = None
    """Picture width in pixels; unless given, as many as the training pictures' longer side, at most 256."""
    height: int | None = None
    """Picture height in pixels; unless given, a square's (with --no-close that of the training pictures' shape)."""
    supersample: int = 1
    """Rays along a pixel's side: 2 takes four times as long, and hair and outlines come out smooth."""
    upright: bool = True
    """Hold the camera so that the head stands upright in the picture, however the video was tilted."""
    close: bool = True
    """Aim at the head and zoom in until it fills the picture, with room for hair and for all that it does in the film;
    --no-close keeps the video's framing. A plate is always filmed as the video was."""

    def check(self) -> None:
        """FilmError, in one line, where a number is none that a film can have."""
        for name, value in (("width", self.width), ("height", self.height)):
            if value is not None and not 1 <= value <= LARGEST:
                raise FilmError(f"--{name} is {value}; give 1 to {LARGEST} pixels")
        if not 1 <= self.supersample <= FINEST:
            raise FilmError(f"--supersample is {self.supersample}; give 1 to {FINEST} rays along a pixel's side")

    @property
    def transparent(self) -> bool:
        return self.background == "transparent"


@dataclass(frozen=True)
class TransferConfig:
    """How one person's performance becomes another's."""

    strength: float = 1.0
    """0 copies the performer's numbers as they are; 1 takes each expression relative to how the performer's face rests
    and how far it goes, puts it onto how the avatar's rests, and keeps it within what training showed. In between:
    both."""
    head_gain: float = 1.0
    """How much of the performer's head movement the head makes; 0: none, 0.5: half."""
    head_from: Literal["first", "mean"] = "first"
    """Moment that the head's movement starts from: the performer's first, or the mean of all."""
    smoothing: float = 0.0
    """Seconds over which movement is evened out, where the performer's track trembles; blinks stay quick."""

    def check(self) -> None:
        """MotionError, in one line, where a number is none that a transfer can have."""
        if not 0 <= self.strength <= 1:
            raise MotionError(f"--strength is {self.strength:g}; give 0 (a plain copy) to 1 (all relative)")
        if not -10 <= self.head_gain <= 10:
            raise MotionError(f"--head-gain is {self.head_gain:g}; give 0 (the head stands still) to 1 (all of it)")
        if not 0 <= self.smoothing <= 10:
            raise MotionError(f"--smoothing is {self.smoothing:g} seconds; give 0 to 10")
