"""INSTA: transforms_{train,val,test}.json, one OBJ a frame, OpenCV camera-to-world, RGBA pictures, metres.

VHAP exports meshes in files of the same names; its frames have a timestep_index, OpenGL cameras and intrinsics of their
own, and several of them may show one mesh.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from data_tools.importers.cameras import AXES_WORDS, Axes, camera_of
from data_tools.importers.capture import Capture, Scratch, Shot
from data_tools.importers.config import ImportConfig, ImportingError
from data_tools.importers.files import array, field, frames_of, inside, natural, number, read_json, version_hint
from data_tools.importers.flame import Flame, open_flame
from data_tools.importers.mesh_files import MeshFiles
from data_tools.importers.pictures import Segmentation

CLOTH = 90
"""Class of clothes in the segmentation's red channel."""
SPLIT_FILES = {"train": "transforms_train.json", "val": "transforms_val.json", "test": "transforms_test.json"}


def recognise(source: Path) -> str | None:
    """Why this folder is INSTA's; None if it is not."""
    for name in (*SPLIT_FILES.values(), "transforms.json"):
        if (source / name).is_file():
            frames = read_json(source / name).get("frames")
            if isinstance(frames, list) and frames and isinstance(frames[0], dict) and "mesh_path" in frames[0]:
                return f"{name} names a mesh for each frame (mesh_path)"
    return None


def read(source: Path, config: ImportConfig, scratch: Scratch) -> Capture:
    """Read INSTA's folder.

    Raises:
        ImportingError: naming file and frame.
    """
    entries = _entries(source)
    left_out = tuple((name, f"its mesh {entry.mesh.name} does not exist") for name, entry in entries.items()
                     if not entry.mesh.is_file())  # fmt: skip
    names = sorted((name for name, entry in entries.items() if entry.mesh.is_file()), key=natural)
    if not names:
        raise ImportingError(f"{source}: none of its {len(entries)} frames has its mesh; is the folder meshes/ there?")
    first_of = {}
    for name in names:
        first_of.setdefault(entries[name].mesh, entries[name])
    row_of = {path: row for row, path in enumerate(first_of)}
    meshes = MeshFiles(list(first_of), workers=config.workers)
    expression = _expressions([entry.expression for entry in first_of.values()])
    shots = tuple(entries[name].shot(row_of[entries[name].mesh]) for name in names)
    canonical, said = _canonical(source, meshes, expression)
    flame = _flame(config, meshes)
    signs = sorted({sign for entry in entries.values() for sign in entry.signs})
    found_axes = sorted({entry.axes for entry in entries.values()})
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
    )


class _Entry:
    """One frame of a transforms file, checked."""

    def __init__(self, source: Path, content: dict[str, Any], frame: dict[str, Any], where: str, split: str) -> None:
        self.picture = inside(source, field(frame, "file_path", where), f"{where}: file_path")
        self.mesh = inside(source, field(frame, "mesh_path", where), f"{where}: mesh_path")
        named = frame.get("exp_path")
        self.expression = None if named is None else inside(source, named, f"{where}: exp_path")
        named = frame.get("seg_mask_path")
        segmentation = None if named is None else inside(source, named, f"{where}: seg_mask_path")
        self.segmentation = segmentation if segmentation is not None and segmentation.is_file() else None
        named = frame.get("fg_mask_path")
        self.matte = None if named is None else inside(source, named, f"{where}: fg_mask_path")
        of_vhap = "timestep_index" in frame
        self.axes: Axes = "opengl" if of_vhap else "opencv"
        content = content | frame if of_vhap else content
        c2w = array(field(frame, "transform_matrix", where), (4, 4), f"{where}: transform_matrix")
        intrinsics = tuple(number(content, name, where) for name in ("fl_x", "fl_y", "cx", "cy"))
        size = int(number(content, "w", where)), int(number(content, "h", where))
        if abs(np.linalg.det(c2w)) < 1e-9:
            raise ImportingError(f"{where}: transform_matrix is singular.")
        self.camera, self.signs = camera_of(intrinsics, size, np.linalg.inv(c2w), self.axes, where)
        self.split = split

    def shot(self, row: int) -> Shot:
        segmentation = None if self.segmentation is None else Segmentation(self.segmentation, frozenset({CLOTH}))
        return Shot(
            name=self.picture.stem,
            picture=self.picture,
            camera=self.camera,
            timestep=row,
            split=self.split,
            matte=self.matte if self.matte is not None and self.matte.is_file() else None,
            segmentation=segmentation,
        )


def _entries(source: Path) -> dict[str, _Entry]:
    """All frames of the split files by their pictures; a frame of several (INSTA's val is part of its test) counts as
    test, then val."""
    files = {split: source / name for split, name in SPLIT_FILES.items() if (source / name).is_file()}
    if not files:
        files = {"": source / "transforms.json"}
    entries: dict[str, _Entry] = {}
    for split, path in files.items():
        content = read_json(path)
        for index, frame in enumerate(frames_of(content, path)):
            where = f"{path}: frame {index}"
            if "mesh_path" not in frame:
                raise ImportingError(f"{where}: mesh_path is missing; {version_hint(frame)}")
            entries[str(frame.get("file_path"))] = _Entry(source, content, frame, where, split)
    if not entries:
        raise ImportingError(f"{source}: its transforms files list no frames.")
    return entries


def _expressions(paths: list[Path | None]) -> np.ndarray:
    """Coefficients of each frame, one a line in its file; none where the data have none."""
    if any(path is None or not path.is_file() for path in paths):
        return np.zeros((len(paths), 0), np.float32)
    rows = [array(path.read_text().split(), (None,), str(path)) for path in paths]
    for path, row in zip(paths, rows, strict=True):
        if len(row) != len(rows[0]):
            raise ImportingError(f"{path} has {len(row)} coefficients, {paths[0].name} has {len(rows[0])}.")
    return np.stack(rows).astype(np.float32)


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
