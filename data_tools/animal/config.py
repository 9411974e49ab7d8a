"""What the made-up animal's film is asked to be, and how making it fails."""

from __future__ import annotations

from dataclasses import dataclass

from flame_nerf.runtime.errors import OneLine


class AnimalError(OneLine, RuntimeError):
    """A film that cannot be made as asked. The text says why and what to do."""


@dataclass(frozen=True)
class AnimalConfig:
    """Options of the made-up animal's film."""

    frames: int = 200
    """Pictures in the film, at 25 a second."""
    size: int = 192
    """Side of the square pictures in pixels; even."""
    noise_px: float = 0.8
    """Standard deviation of a keypoint that can be seen, pixels in each direction."""
    seed: int = 0
    """Another number: an animal of other proportions and another coat."""
