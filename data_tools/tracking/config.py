"""What a tracking run is asked to do, what it answers, and how it fails."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal


class TrackingError(RuntimeError):
    """A video that cannot be tracked. The text names the file, what is wrong with it and what to do."""


@dataclass(frozen=True)
class TrackConfig:
    """Options of a tracking run. The defaults suit one person talking to the camera."""

    fps: float = 25.0
    """Frames taken from each second of video. Sources with fewer keep what they have."""
    head: str = "anny"
    """Head model: `anny`, the open one that is shipped, or the path of a head model file."""
    resolution: int = 1024
    """Longest side of the stored pictures in pixels; larger videos are scaled down, smaller ones left as they are."""
    focal_px: float | None = None
    """Focal length in pixels of the original video. Not given: estimated, held near 1.35 times the longer side."""
    torso: Literal["cut", "keep"] = "cut"
    """`cut` ends the mask at the collar, so that the head alone is learned; `keep` leaves the body in."""
    max_frames: int | None = None
    """Stop after this many sampled frames. Not given: the whole video."""
    picture_format: Literal["jpg", "png"] = "jpg"
    """`jpg` at quality 97 with full colour, or `png` without any loss, three times larger and ten times slower."""
    licence: str = ""
    """Licence or terms of the video, kept with the subject."""
    workers: int = 2
    """Threads that read, detect and cut out pictures side by side."""
    overwrite: bool = False
    """Replace a subject that is already in the folder."""
    keep_work: bool = False
    """Keep the intermediate results, so that a later run with other options need not redo all stages."""


@dataclass(frozen=True)
class TrackSummary:
    """How a tracking run went."""

    subject: Path
    """The folder to train on."""
    report: Path
    """The capture report, one HTML page."""
    frames: int
    """Frames in the subject."""
    dropped: tuple[int, ...]
    """Sampled frames that were left out: no face, or one that could not be fitted."""
    reprojection_px: float
    """Mean distance between detected landmarks and the fitted head's, pixels of the stored pictures."""
    reprojection_fraction: float
    """The same as a fraction of the face's height (brow line to chin)."""
    outline_iou: float
    """Agreement of the head's outline with the matte from brow to chin, intersection over union."""
    yaw_range_deg: tuple[float, float]
    """How far the head turns; negative is to the subject's right."""
    pitch_range_deg: tuple[float, float]
    """How far the head nods; negative is downwards."""
    frames_per_second: float
    """Video frames tracked per second of wall time, all stages that were run."""
    warnings: tuple[str, ...] = ()
    """What the person should know before training."""
