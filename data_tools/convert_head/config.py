"""What a conversion is asked to do and what it answers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal


@dataclass(frozen=True)
class ConvertConfig:
    """Options of a conversion. For FLAME the defaults do."""

    kind: Literal["auto", "flame", "smpl", "gnm", "project"] = "auto"
    """What the source is; told from its contents. `project` is a head model of this project, to be worked over."""
    masks: Path | None = None
    """Vertex masks by name: FLAME_masks.pkl, or a .npz or .json. Not given: regions are found by the head's shape."""
    landmarks: str = "build"
    """Landmark embedding: a file (FLAME's mediapipe_landmark_embedding.npz is best), `build` to find mediapipe's points
    on pictures of the head (minutes), or `none` for heads that are not human or are only imported, never tracked."""
    head_joint: str | None = None
    """Joint that carries the skull, by number or name, where the model does not call one `head`."""
    jaw_joint: str | None = None
    """Joint that opens the mouth, likewise."""
    eye_joints: tuple[str, str] | None = None
    """The joints of the left and the right eye, likewise."""
    vertices: Path | None = None
    """Cut the model to these vertices: a .txt, .json or .npy of rows, or of one flag a vertex. Not given: models of a
    whole body are cut to what head and neck carry."""
    whole: bool = False
    """Keep the whole body instead of cutting it."""
    forward: Literal["+x", "-x", "+y", "-y", "+z", "-z"] = "+z"
    """The axis of the file along which the face looks."""
    up: Literal["+x", "-x", "+y", "-y", "+z", "-z"] = "+y"
    """The axis of the file that points up."""
    scale: float = 1.0
    """Metres in one unit of the file: 0.001 for millimetres."""
    remember: bool = False
    """Note the result, so that its name (`flame`) does for its path in `track --head` and elsewhere."""
    overwrite: bool = False
    """Replace a file that is already there."""


@dataclass(frozen=True)
class ConvertSummary:
    """What was read and written."""

    path: Path
    """The head model that was written."""
    name: str
    seen: str
    """File and version that was found, with its dimensions."""
    vertices: int
    faces: int
    regions: dict[str, int]
    """Faces of each region."""
    landmarks: str
    """Where the landmark embedding comes from and how many points it has."""
    licence: str
    remembered: Path | None = None
    """File in which the head was noted."""
    warnings: tuple[str, ...] = ()
