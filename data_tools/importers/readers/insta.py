"""INSTA: transforms_{train,val,test}.json, one OBJ a frame, OpenCV camera-to-world, RGBA pictures, metres.

VHAP exports meshes in files of the same names; its frames have a timestep_index, OpenGL cameras and intrinsics of their
own, and several of them may show one mesh.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from data_tools.importers.capture import Capture, Scratch, Shot
from data_tools.importers.config import ImportConfig, ImportingError
from data_tools.importers.flame import Flame, open_flame
from data_tools.importers.inputs.cameras import AXES_WORDS, Axes, camera_of
from data_tools.importers.inputs.files import array, field, number, version_hint
from data_tools.importers.inputs.mattes import Segmentation
from data_tools.importers.inputs.mesh_files import MeshFiles
from data_tools.importers.inputs.places import Places, why_missing
from data_tools.importers.inputs.transforms import Listed, listed_frames, why_transforms
from data_tools.runs.frame_names import natural
from flame_nerf.runtime.door import read_text

CLOTH = 90
"""Class of clothes in the segmentation's red channel."""


def recognise(source: Path) -> str | None:
    """Why this folder is INSTA's; None if it is not."""
    return why_transforms(source, "mesh_path", "names a mesh for each frame (mesh_path)")


def read(source: Path, config: ImportConfig, scratch: Scratch) -> Capture:
    """Read INSTA's folder.

    Raises:
        ImportingError: naming file and frame.
    """
    frames, places = listed_frames(source)
    entries = [_Entry(places, frame) for frame in frames]
    left_out = tuple((entry.picture.stem, f"its mesh {entry.mesh.name} does not exist") for entry in entries
                     if not entry.mesh.is_file())  # fmt: skip
    there = sorted((entry for entry in entries if entry.mesh.is_file()), key=_Entry.order)
    if not there:
        raise ImportingError(
            f"{source}: none of its {len(entries)} frames has its mesh: {why_missing(entries[0].mesh)}."
        )
    first_of: dict[Path, _Entry] = {}
    for entry in there:
        first_of.setdefault(entry.mesh, entry)
    row_of = {path: row for row, path in enumerate(first_of)}
    meshes = MeshFiles(list(first_of), workers=config.workers)
    expression, warnings = _expressions([entry.expression for entry in first_of.values()])
    shots = tuple(entry.shot(row_of[entry.mesh]) for entry in there)
    canonical, said = _canonical(source, meshes, expression)
    flame = _flame(config, meshes)
    signs = sorted({sign for entry in entries for sign in entry.signs})
    found_axes = sorted({entry.axes for entry in entries})
    return Capture(
        format="INSTA",
        shots=shots,
        meshes=meshes,
        canonical=canonical,
        stabilised=False,
        expression=expression,
        expression_names=tuple(f"expr_{column:03d}" for column in range(expression.shape[1])),
        pose=np.zeros((len(meshes), 0, 3), np.float32),
        joint_names=(),
        identity=np.zeros(0, np.float32),
        region=None if flame is None else flame.head.region.numpy(),
        region_names=() if flame is None else flame.head.region_names,
        background=_background(source),
        facts={
            "axes": "camera-to-world, " + " and ".join(AXES_WORDS[axes] for axes in found_axes),
            "signs": ", ".join(signs) or "focal lengths positive",
            "scale": "metres",
            "canonical head": said,
        },
        left_out=left_out,
        warnings=warnings,
    )


class _Entry:
    """One frame of a transforms file, checked."""

    def __init__(self, places: Places, listed: Listed) -> None:
        frame, where, content = listed.frame, listed.where, listed.content
        if "mesh_path" not in frame:
            raise ImportingError(f"{where}: mesh_path is missing; {version_hint(frame)}")
        self.picture, self.split = listed.picture, listed.split
        self.mesh = places.path(frame["mesh_path"], f"{where}: mesh_path")
        named = frame.get("exp_path")
        self.expression = None if named is None else places.path(named, f"{where}: exp_path")
        named = frame.get("seg_mask_path")
        segmentation = None if named is None else places.picture(named, f"{where}: seg_mask_path")
        self.segmentation = segmentation if segmentation is not None and segmentation.is_file() else None
        named = frame.get("fg_mask_path")
        self.matte = None if named is None else places.picture(named, f"{where}: fg_mask_path")
        of_vhap = "timestep_index" in frame
        self._clock = number(frame, "timestep_index", where) if of_vhap else 0.0
        self.axes: Axes = "opengl" if of_vhap else "opencv"
        c2w = array(field(content, "transform_matrix", where), (4, 4), f"{where}: transform_matrix")
        intrinsics = tuple(number(content, name, where) for name in ("fl_x", "fl_y", "cx", "cy"))
        size = int(number(content, "w", where)), int(number(content, "h", where))
        if abs(np.linalg.det(c2w)) < 1e-9:
            raise ImportingError(f"{where}: transform_matrix is singular.")
        self.camera, self.signs = camera_of(intrinsics, size, np.linalg.inv(c2w), self.axes, where)

    def order(self) -> tuple[Any, ...]:
        """By the data's own clock where they have one, else by the picture's name."""
        return self._clock, natural(self.picture)

    def shot(self, row: int) -> Shot:
        segmentation = None if self.segmentation is None else Segmentation(self.segmentation, frozenset({CLOTH}))
        return Shot(
            name=self.picture.stem,
            picture=self.picture,
            camera=self.camera,
            timestep=row,
            split=self.split,
            matte=self.matte,
            segmentation=segmentation,
        )


def _expressions(paths: list[Path | None]) -> tuple[np.ndarray, tuple[str, ...]]:
    """Coefficients of each frame, one a line in its file; none where the data have none. And what to say of it."""
    lost = [path for path in paths if path is None or not path.is_file()]
    if lost:
        named = next((path for path in lost if path is not None), None)
        said = f": {why_missing(named)}" if named is not None else ""
        return np.zeros((len(paths), 0), np.float32), (
            f"{len(lost)} of {len(paths)} frames have no file of expression coefficients, so none were taken{said}.",
        )
    rows = [array(read_text(path, ImportingError).split(), (None,), str(path)) for path in paths]
    for path, row in zip(paths, rows, strict=True):
        if len(row) != len(rows[0]):
            raise ImportingError(f"{path} has {len(row)} coefficients, {paths[0].name} has {len(rows[0])}.")
    return np.stack(rows).astype(np.float32), ()


def _canonical(source: Path, meshes: MeshFiles, expression: np.ndarray) -> tuple[np.ndarray, str]:
    path = source / "canonical.obj"
    if path.is_file():
        found = meshes.canonical(path)
        if found is not None:
            return found, "canonical.obj"
    row = int(np.linalg.norm(expression, axis=1).argmin()) if expression.shape[1] else 0
    return meshes.vertices([row])[0].astype(np.float64), f"the most neutral frame ({row})"


def _flame(config: ImportConfig, meshes: MeshFiles) -> Flame | None:
    """The user's FLAME, for its regions, if the meshes have its topology."""
    if config.flame is None:
        return None
    flame = open_flame(config, "INSTA")
    return flame if np.array_equal(flame.head.faces.numpy(), meshes.faces) else None


def _background(source: Path) -> Path | None:
    """A clean plate beside the data."""
    path = source / "background.png"
    return path if path.is_file() else None
