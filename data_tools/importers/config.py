"""What an import is asked to do, what it answers, and how it fails."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from flame_nerf.runtime.errors import OneLine

FormatName = Literal["auto", "metrical-tracker", "insta", "nerface", "imavatar", "nha", "vhap", "deca"]


class ImportingError(OneLine, RuntimeError):
    """Data that cannot be imported. The text names the file, what is wrong with it and what to do."""


@dataclass(frozen=True)
class ImportConfig:
    """Options of an import. None is needed where the data say everything themselves."""

    flame: Path | None = None
    """Your FLAME file (generic_model.pkl, flame2023.pkl or the npz that `convert-head` makes). Formats that store
    FLAME's parameters need it, metrical-tracker where its mesh/ is missing; formats that store meshes do not."""
    focal_px: float | None = None
    """Focal length in pixels where the data have none (deca). Not given: found from landmarks, or 1.35 times the
    longer side."""
    camera_fix: str | None = None
    """Read the cameras another way, by the name that a stopped import suggests (such as `opencv-axes`, `inverse` or
    `scale-4`)."""
    unchecked: bool = False
    """Write the subject even if its mesh does not lie on the pictures."""
    fps: float = 25.0
    """Pictures a second of the recording: how fast a film of it plays."""
    max_frames: int | None = None
    """Import only the first so many moments."""
    picture_format: Literal["png", "jpg"] = "png"
    """How pictures are stored that cannot be copied as they are."""
    licence: str = ""
    """Licence or terms of the recording, kept with the subject."""
    workers: int = 2
    """Threads that convert pictures side by side."""
    overwrite: bool = False
    """Replace a subject that is already in the folder."""
    keep_work: bool = False
    """Keep the intermediate results."""


@dataclass(frozen=True)
class ImportSummary:
    """How an import went."""

    subject: Path
    """The folder to train on."""
    report: Path
    """The import report, one HTML page."""
    format: str
    """What was read."""
    why: str
    """By what the format was recognised, if it was not named."""
    pictures: int
    """Pictures in the subject."""
    timesteps: int
    """Moments that they show; several cameras may show one."""
    outline_iou: float | None
    """Agreement of the mesh's outline with the matte from brow to chin; None if there is no matte."""
    facts: dict[str, str] = field(default_factory=dict)
    """Axes, signs, scale, topology and dimensions that were found."""
    left_out: tuple[tuple[str, str], ...] = ()
    """Frames that were left out, and why."""
    warnings: tuple[str, ...] = ()
    """What the person should know before training."""
