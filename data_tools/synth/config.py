"""What a synthetic subject is asked to be, and how its making fails."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from flame_nerf.runtime.errors import OneLine


class SynthError(OneLine, RuntimeError):
    """A synthetic subject that cannot be made. The text names the option or folder and what to do."""


@dataclass(frozen=True)
class SynthConfig:
    """Options of a synthetic subject. The same options give the same files."""

    frames: int = 300
    """Length of the training film, at 25 frames a second. The face's whole range is played in about 300."""
    size: int = 256
    """Side of the square pictures in pixels."""
    seed: int = 0
    """Who it is and what they do: shape, colours, hair, expressions and head turns all follow from it."""
    take: int = 0
    """Which performance of that person: with another number the same person says, does and looks at something else."""
    view_moments: int = 10
    """Moments of the training film that every one of the twelve other cameras takes a picture of; all, if fewer."""
    novel_frames: int = 48
    """Length of the film of expressions that the training film never shows."""
    turn_deg: float = 25.0
    """How far the head turns to each side, degrees; it nods and leans in proportion. The swaying body adds up to 5."""
    light: Literal["head", "room"] = "head"
    """What the light is fixed to. `head`: it turns with the head, so that a point of the skin looks the same in every
    frame but for its expression, and views from other sides are exactly defined; `room`: as in real films."""
    overwrite: bool = False
    """Replace a synthetic subject that is already in the folder. Nothing else is ever replaced."""


@dataclass(frozen=True)
class SynthSummary:
    """What was made."""

    subject: Path
    """The folder to train on; novel_view/ and novel_expression/ lie in it."""
    train_frames: int
    view_frames: int
    expression_frames: int
    yaw_range_deg: tuple[float, float]
    """From where the training camera sees the head; positive is the subject's left."""
    pitch_range_deg: tuple[float, float]
    """The same up (positive) and down."""
    seconds: float
    """Wall time; 0 where it was there already."""
