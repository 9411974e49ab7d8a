"""What a subject is made of: frames with their cameras, and the head that moves in front of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from flame_nerf.runtime.errors import OneLine

UNUSED = "unused"
"""Split of frames whose track is doubted: they keep it, and are neither trained on nor scored, whatever the split."""
SPLITS = ("train", "val", "test", UNUSED)
"""Values a frame's `split` may have."""

LARGEST_NUMBER = 1e12
"""No size, place, focal length or rate is larger; NaN is not smaller either."""
TRANSFORMS_FILE = "transforms.json"
TRACK_FILE = "head.npz"
INTRINSICS = ("fl_x", "fl_y", "cx", "cy")
"""Names of a camera's numbers in transforms.json, for all frames or for each."""


class SubjectError(OneLine, ValueError):
    """A subject that cannot be used. The text names the file, the frame or field, and what to do."""


@dataclass(frozen=True)
class Frame:
    """One picture of the subject and the camera that took it."""

    file_path: Path
    """The picture, absolute or relative to the subject's root (absolute after loading)."""
    mask_path: Path | None
    """8-bit matte, 255 = head with hair; None if there is none."""
    depth_path: Path | None
    """16-bit relative depth, larger = nearer; None if there is none."""
    c2w: Float[np.ndarray, "4 4"]
    """Camera-to-world, OpenGL axes (x right, y up, -z forward), metres."""
    timestep: int
    """Row of the track this picture shows. Several cameras may share one."""
    split: str
    """train, val or test: the stored default, which the dataparser may overrule; or unused, which it may not."""
    intrinsics: tuple[float, float, float, float] | None = None
    """fl_x, fl_y, cx, cy of this picture's camera in pixels, where several cameras filmed; None: the subject's."""


@dataclass(frozen=True)
class HeadTrack:
    """The head over time: the contents of head.npz. World metres, radians."""

    faces: Int[np.ndarray, "F 3"]
    """Triangles, int32, counter-clockwise seen from outside."""
    canonical_vertices: Float[np.ndarray, "V 3"]
    """The rest head: the subject's identity, neutral, lips apart."""
    vertices: Float[np.ndarray, "T V 3"]
    """The posed head of each timestep, in the world the cameras are given in."""
    expression: Float[np.ndarray, "T E"]
    """Expression coefficients; zeros are neutral."""
    expression_names: tuple[str, ...]
    pose: Float[np.ndarray, "T J 3"]
    """Axis-angle rotation of each joint."""
    joint_names: tuple[str, ...]
    identity: Float[np.ndarray, " S"]
    """Identity coefficients of the head model; may be empty."""
    region: Int[np.ndarray, " F"]
    """Index into `region_names` of each triangle, int8."""
    region_names: tuple[str, ...]
    landmarks2d: Float[np.ndarray, "T L 2"] | None = None
    """Landmarks in pixels of the stored pictures, x right, y down; NaN where not found."""
    reprojection_error: Float[np.ndarray, " T"] | None = None
    """Mean landmark distance of each timestep, pixels."""

    @property
    def num_timesteps(self) -> int:
        return len(self.vertices)

    def region_faces(self, *names: str) -> np.ndarray:
        """Mask [F] of the triangles in any of the named regions; names the head does not have are ignored."""
        wanted = [index for index, name in enumerate(self.region_names) if name in names]
        return np.isin(self.region, wanted)

    def region_vertices(self, *names: str) -> np.ndarray:
        """Mask [V] of the vertices of those triangles."""
        of = np.zeros(len(self.canonical_vertices), dtype=bool)
        of[self.faces[self.region_faces(*names)]] = True
        return of


@dataclass(frozen=True)
class Registration:
    """How the poses of a track were laid against the pictures, beyond landmarks and outlines."""

    method: str
    """`photometric`: against the person's own look."""
    residual: float
    """Median difference left between pictures and look, grey levels of 255."""


REGISTRATIONS = ("photometric",)
"""Methods that a subject may name."""


@dataclass(frozen=True)
class Subject:
    """A tracked head: pictures, cameras, track and where it all came from."""

    root: Path
    fl_x: float
    """Focal lengths and principal point in pixels of the stored pictures; a frame may have its own."""
    fl_y: float
    cx: float
    cy: float
    width: int
    height: int
    frames: tuple[Frame, ...]
    track: HeadTrack
    background: Path | None = None
    """Clean plate without the subject, if there is one."""
    fps: float = 25.0
    head_model: str = "anny"
    """A shipped head model's name, or the path of a head model file (relative: to the root)."""
    source: str = ""
    licence: str = ""
    pictures_left_out: bool = False
    """Whether frames may lack their pictures: all cameras and the track are there, to show and film, not to learn."""
    registration: Registration | None = None
    """None: the poses are those of landmarks and outlines, or it is not known."""
    extra: Mapping[str, Any] = field(default_factory=dict)
    """Further metadata, JSON-compatible, kept under the "flame_nerf" key."""

    def __deepcopy__(self, memo: dict) -> Subject:
        # Nerfstudio deep-copies what a dataparser hands on, once a dataset; nothing here ever changes.
        return self

    @property
    def head_model_source(self) -> str | Path:
        """What to give the head-model loader: the file inside the subject if there is one, else the name or path."""
        inside = self.root / self.head_model
        return inside if inside.is_file() else self.head_model

    def intrinsics_of(self, frame: Frame) -> tuple[float, float, float, float]:
        """fl_x, fl_y, cx, cy of a frame's camera, pixels of the stored pictures."""
        return frame.intrinsics or (self.fl_x, self.fl_y, self.cx, self.cy)

    @property
    def has_masks(self) -> bool:
        return all(frame.mask_path is not None for frame in self.frames)
