"""Camera paths of the viewer's Render tab (or of `write_camera_path`), for films of any motion along them."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from nerfstudio.cameras.cameras import Cameras, CameraType

from flame_nerf.motion import Motion, SubjectMotion
from flame_nerf.motion.path_motion import AVATAR_KEY, path_motion
from flame_nerf.motion.performance import transforms_at
from flame_nerf.runtime.door import read_json
from flame_nerf.runtime.errors import FilmError

Timing = Literal["stretch", "hold"]
REMEDY = "Press Generate Command on the page again."
MOST_CAMERAS = 100_000
SAME_HEAD = 2e-4
"""Metres by which the sizes of one head may differ."""
_RIGID = 1e-3
"""How far the axes of a camera may be from a rotation's."""
_FARTHEST = 1e3
"""Metres from the head at which no camera stands."""


@dataclass(frozen=True, eq=False)
class CameraPath:
    """A camera that moves, in the head frame: N cameras, `fps` of them a second."""

    file: Path
    c2w: Float[np.ndarray, "N 4 4"]
    """Camera-to-world, OpenGL axes, metres."""
    fov_deg: Float[np.ndarray, " N"]
    """Vertical field of view."""
    aspect: float
    """Width of the picture over its height."""
    fps: float
    looped: bool
    """Whether the first camera follows the last."""
    times: Float[np.ndarray, " N"] | None
    """Moment of each camera, from 0 to 1 of `motion`, or of the avatar's own performance; None: it has none."""
    motion: Motion | None
    """Faces of its keyframes; None: it has none."""
    made_with: tuple[str, tuple[float, ...] | None] | None = None
    """Name of the avatar it was made with, and its head's size, metres, where that is known; None: nothing is."""
    cropped: bool = False
    """Whether it was made with a crop box, which films leave out."""
    timing: Timing = "stretch"
    """How it goes with a film of another length: see `positions`."""

    def __len__(self) -> int:
        return len(self.c2w)

    @property
    def without_times(self) -> str:
        """What to say where it has no times, and nothing else says what the face does."""
        return (
            f"{self.file}: its cameras have no times (render_time), so it does not say what the face does; give "
            "--motion or --sweep, or press Generate Command on the page again"
        )

    def first(self, count: int) -> CameraPath:
        """The path as far as its first `count` cameras."""
        times = None if self.times is None else self.times[:count]
        return replace(self, c2w=self.c2w[:count], fov_deg=self.fov_deg[:count], times=times)

    def positions(self, count: int, fps: float) -> Float[np.ndarray, " count"]:
        """Numbers of cameras, which need not be whole, that a film of `count` pictures at `fps` is seen from.

        "stretch": from the first at its first picture to the last at its last. "hold": at the path's own rate, then the
        last for as long as the film goes on; a looped path starts over instead.
        """
        if self.timing == "stretch":
            return np.linspace(0.0, len(self) - 1, count)
        rows = np.arange(count) * (self.fps / fps)
        # A loop's way from its last camera to its first is not in the file.
        return rows % len(self) if self.looped else np.minimum(rows, len(self) - 1)

    def cameras(self, positions: Float[np.ndarray, " count"], width: int, height: int) -> Cameras:
        """Cameras at positions on the path, between two of them turned the short way; pictures of width x height."""
        c2w = transforms_at(self.c2w, np.clip(positions, 0, len(self) - 1))
        fov = np.interp(positions, np.arange(len(self)), self.fov_deg)
        focal = torch.from_numpy(0.5 * height / np.tan(np.radians(fov) / 2)).float()[:, None]
        return Cameras(
            torch.from_numpy(c2w[:, :3]).float(), focal, focal, width / 2, height / 2, width, height,
            camera_type=CameraType.PERSPECTIVE,
        )  # fmt: skip

    def check_avatar(self, avatar: SubjectMotion, name: str, motion_given: bool) -> None:
        """See that the path was made with this avatar.

        Args:
            name: of the avatar's subject.
            motion_given: another motion than the path's own is filmed.

        Raises:
            FilmError: it was not, and its own faces are to be filmed. With another motion it is said in one line: its
                cameras stand around another head.
        """
        if self.made_with is None:
            return
        theirs, size = self.made_with
        if theirs == name if size is None else np.abs(np.array(size) - avatar.size.numpy()).max() < SAME_HEAD:
            return
        what = f"{self.file}: made with another avatar ({theirs!r}, this one is {name!r})"
        if not motion_given:
            raise FilmError(f"{what}: make a path on this one's page, or say with --motion or --sweep what it does")
        print(f"{what}; the cameras stand around another head")


def read_camera_path(file: Path, timing: Timing = "stretch") -> CameraPath:
    """A camera path, and the motion beside it where it names one.

    Raises:
        FilmError: missing, cut short, no camera path, one without cameras, or with a camera that cannot be.
        MotionError: the motion that it names is missing or damaged.
    """
    missing = f"{file}: no such camera path; the viewer writes one under Render, Generate Command"
    document = read_json(file, FilmError, remedy=REMEDY, missing=missing)
    entries = document.get("camera_path") if isinstance(document, dict) else None
    if not isinstance(entries, list):
        raise FilmError(f"{file}: no camera path: it has no list 'camera_path'. {REMEDY}")
    if not 1 <= len(entries) <= MOST_CAMERAS:
        none = "no cameras: add keyframes under Render" if not entries else f"{len(entries)} cameras: shorten it"
        raise FilmError(f"{file}: a camera path of {none}, and press Generate Command again")
    kind = document.get("camera_type", "perspective")
    if kind != "perspective":
        raise FilmError(f"{file}: camera_type is {kind!r}; films have perspective cameras. Choose that on the page")
    for number, entry in enumerate(entries):
        if not isinstance(entry, dict):
            raise FilmError(f"{file}: camera {number} is no camera. {REMEDY}")
    times, fov_deg = (
        [_number(file, f"{name} of camera {number}", entry[name], *range_) for number, entry in enumerate(entries)]
        if all(entry.get(name) is not None for entry in entries)
        else None
        # A spline's times may overshoot a little.
        for name, range_ in (("render_time", (-1.0, 2.0)), ("fov", (1e-3, 179.0)))
    )
    if fov_deg is None:
        raise FilmError(f"{file}: a camera without 'fov'. {REMEDY}")
    motion = path_motion(file)
    return CameraPath(
        file=file,
        c2w=np.stack([_pose(file, number, entry) for number, entry in enumerate(entries)]),
        fov_deg=np.array(fov_deg),
        aspect=_aspect(file, document, entries[0]),
        fps=_number(file, "fps", document.get("fps", 24.0), 1e-3, 1000.0),
        looped=document.get("is_cycle") is True,
        times=None if times is None else np.array(times).clip(0, 1),
        motion=motion,
        made_with=_made_with(file, document.get(AVATAR_KEY), motion),
        cropped=document.get("crop") is not None,
        timing=timing,
    )


def _made_with(file: Path, entry: Any, motion: Motion | None) -> tuple[str, tuple[float, ...] | None] | None:
    if entry is None:
        # Of a release that did not write it.
        return None if motion is None or not motion.provenance.source else (motion.provenance.source, None)
    size = entry.get("size") if isinstance(entry, dict) else None
    if not isinstance(size, list) or len(size) != 3:
        raise FilmError(f"{file}: {AVATAR_KEY} has no size of three numbers. {REMEDY}")
    return str(entry.get("name"))[:80], tuple(_number(file, "size of avatar", side, 0.0, 10.0) for side in size)


def _pose(file: Path, number: int, entry: dict[str, Any]) -> Float[np.ndarray, "4 4"]:
    values = entry.get("camera_to_world")
    if not isinstance(values, list) or len(values) != 16:
        raise FilmError(f"{file}: camera_to_world of camera {number} is no list of 16 numbers. {REMEDY}")
    where = f"camera_to_world of camera {number}"
    pose = np.array([_number(file, where, value, -_FARTHEST, _FARTHEST) for value in values]).reshape(4, 4)
    apart = np.abs(pose[:3, :3] @ pose[:3, :3].T - np.eye(3)).max()
    if apart > _RIGID or np.linalg.det(pose[:3, :3]) < 0 or not np.allclose(pose[3], (0, 0, 0, 1)):
        raise FilmError(f"{file}: {where} is no rigid transform. {REMEDY}")
    return pose


def _aspect(file: Path, document: dict[str, Any], entry: dict[str, Any]) -> float:
    if "render_width" not in document and "render_height" not in document:
        return _number(file, "aspect", entry.get("aspect", 1.0), 0.01, 100.0)
    width, height = (_number(file, name, document.get(name), 1.0, 1e5) for name in ("render_width", "render_height"))
    return _number(file, "render_width over render_height", width / height, 0.01, 100.0)


def _number(file: Path, what: str, value: Any, least: float, most: float) -> float:
    """FilmError unless `value` is a number in [least, most]."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise FilmError(f"{file}: {what} is {str(value)[:40]!r}, no number. {REMEDY}")
    if not least <= value <= most:
        raise FilmError(f"{file}: {what} is {value:g}; {least:g} to {most:g} can be filmed. {REMEDY}")
    return float(value)
