"""metrical-tracker: checkpoint/*.frame with cameras and FLAME's parameters, mesh/*.ply; the head stands still."""

from __future__ import annotations

import codecs
import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from data_tools.importers.capture import Capture, Scratch, Shot, capture_of
from data_tools.importers.config import ImportConfig, ImportingError
from data_tools.importers.flame import FLAME_JOINTS, Flame, FlameMeshes, FlameParameters, open_flame
from data_tools.importers.inputs.cameras import AXES_WORDS, Camera, camera_of
from data_tools.importers.inputs.files import array, field, flat, version_hint
from data_tools.importers.inputs.mesh_files import MeshFiles
from data_tools.importers.inputs.places import Places, pictures_in, why_missing
from data_tools.importers.matching import refuse_shifted
from data_tools.runs.frame_names import match_by_name, natural
from flame_nerf.geometry import matrix_from_6d, matrix_to_axis_angle
from flame_nerf.heads.registry import remembered_heads
from flame_nerf.runtime.door import picture_size
from flame_nerf.runtime.door.tensors import read_torch

PICTURE_FOLDERS = ("input", "images", "image", "source", "frames")
MATTE_FOLDERS = ("matte", "mattes", "mask", "masks", "alpha", "matted")
LIDS_SEEN = 0.05
"""Share of a closed eyelid that is worth a word."""
_ARRAY_MAKERS = [
    (getattr(np._core.multiarray, name), f"numpy.{core}.multiarray.{name}")  # type: ignore[attr-defined]
    for core in ("core", "_core")
    for name in ("_reconstruct", "scalar")
]
_PLAIN = [
    *_ARRAY_MAKERS, np.ndarray, np.dtype, codecs.encode,
    *{type(np.dtype(kind)) for kind in "f2 f4 f8 i1 i2 i4 i8 u1 u2 u4 u8 ? U S".split()},
]  # fmt: skip
"""All that a frame file may name besides tensors: what numpy arrays are made of."""


def recognise(source: Path) -> str | None:
    """Why this folder is metrical-tracker's output; None if it is not."""
    frames = sorted((source / "checkpoint").glob("*.frame"))
    return f"checkpoint/ holds {len(frames)} .frame files" if frames else None


def read(source: Path, config: ImportConfig, scratch: Scratch) -> Capture:
    """Read metrical-tracker's output folder. Without meshes, FLAME is posed by the checkpoints' own parameters.

    Raises:
        ImportingError: naming the file.
    """
    paths = sorted((source / "checkpoint").glob("*.frame"), key=lambda path: natural(path.name))
    if not paths:
        raise ImportingError(f"{source}: {why_missing(source / 'checkpoint' / '00000.frame')}. Give the tracker's "
                             "output folder, which holds checkpoint/.")  # fmt: skip
    meshes = _meshes(source, paths)
    posed = not any(mesh is not None for mesh in meshes)
    flame = _flame(source, config, posed)
    left_out, kept, flames, cameras, signs = [], [], [], [], set()
    for path, mesh in zip(paths, meshes, strict=True):
        if mesh is None and not posed:
            left_out.append((path.stem, f"its mesh mesh/{path.stem}.ply does not exist"))
            continue
        payload = read_frame(path)
        flames.append(_parameters(field(payload, "flame", str(path)), f"{path}: flame"))
        camera, turned = _camera(path, payload)
        cameras.append(camera)
        signs.update(turned)
        kept.append((path, mesh))
    for (path, _), one in zip(kept, flames, strict=True):
        for name in ("exp", "shape"):
            if len(one[name]) != len(flames[0][name]):
                raise ImportingError(f"{path}: flame: {name} has {len(one[name])} values, {kept[0][0].name} has "
                                     f"{len(flames[0][name])}. One tracking has one number of them.")  # fmt: skip
    columns = {name: np.stack([flame[name] for flame in flames]) for name in flames[0]}
    shots = _shots(source, [path for path, _ in kept], cameras)
    shared = {
        "format": "metrical-tracker",
        "left_out": tuple(left_out),
        "facts": {
            "axes": f"world-to-camera, {AXES_WORDS['opencv']}",
            "signs": ", ".join(sorted(signs)) or "focal lengths positive",
            "scale": "metres",
        },
    }
    if posed:
        return _posed(flame, columns, shots, str(source / "checkpoint"), shared)
    files = MeshFiles([mesh for _, mesh in kept], workers=config.workers)
    canonical, said = _canonical(source, files, columns["exp"])
    fits = flame is not None and np.array_equal(flame.head.faces.numpy(), files.faces)
    shared["facts"]["canonical head"] = said
    return Capture(
        **shared,
        shots=shots,
        meshes=files,
        canonical=canonical,
        stabilised=False,
        expression=columns["exp"].astype(np.float32),
        expression_names=tuple(f"expr_{column:03d}" for column in range(columns["exp"].shape[1])),
        pose=columns["pose"].astype(np.float32),
        joint_names=FLAME_JOINTS,
        identity=flames[0]["shape"].astype(np.float32),
        region=flame.head.region.numpy() if fits else None,
        region_names=flame.head.region_names if fits else (),
        flame=flame if fits else None,
    )


def _meshes(source: Path, paths: list[Path]) -> list[Path | None]:
    """The mesh of each checkpoint, which the tracker calls by the same number.

    Raises:
        ImportingError: they are numbered from another start, so it cannot be told which is whose.
    """
    folder = source / "mesh"
    found = sorted((path.name for path in folder.glob("*") if path.suffix.lower() in (".ply", ".obj")), key=natural)
    if not found:
        return [None] * len(paths)
    names = [path.name for path in paths]
    refuse_shifted(names, found, str(source / "checkpoint"), "mesh in mesh/")
    matched = match_by_name(names, found, what=("checkpoint/", str(folder)), error=ImportingError)
    return [None if row < 0 else folder / found[row] for row in matched.rows]


def _flame(source: Path, config: ImportConfig, posed: bool) -> Flame | None:
    """The user's FLAME: for regions, or to be posed.

    Raises:
        ImportingError: it is needed and there is none.
    """
    if not posed:
        return None if config.flame is None else open_flame(config, "metrical-tracker")
    try:
        return open_flame(config, "metrical-tracker")
    except ImportingError as error:
        if config.flame is not None or "flame" in remembered_heads():
            raise
        raise ImportingError(
            f"{source}: {why_missing(source / 'mesh' / '00000.ply')}. Copy the tracker's mesh/ there, or give your "
            "FLAME file with --flame PATH (FLAME2020's generic_model.pkl, which the tracker uses, or the npz that "
            "`flame-nerf-data convert-head` made of it): the checkpoints then pose it."
        ) from error


def _posed(flame: Flame, columns: dict[str, np.ndarray], shots: tuple[Shot, ...], where: str, shared: dict) -> Capture:
    """FLAME itself, posed by the checkpoints."""
    zeros = np.zeros((len(columns["pose"]), 3))
    # One shape for all: the tracker fits it once, and later checkpoints hold the same.
    parameters = FlameParameters(columns["shape"][-1], columns["exp"], columns["pose"], zeros)
    meshes = FlameMeshes(flame, parameters, where)
    head_from_world = np.linalg.inv(meshes.world_from_head())
    moved = tuple(dataclasses.replace(shot, camera=shot.camera.in_world(head_from_world[shot.timestep]))
                  for shot in shots)  # fmt: skip
    warnings = []
    if np.abs(columns["eyelids"]).max(initial=0.0) > LIDS_SEEN:
        warnings.append(
            "The meshes were posed with your FLAME file, which does not hold the tracker's two shapes that close the "
            "eyelids: blinks are missing from the mesh. The tracker's own mesh/ has them."
        )
    shared["facts"]["meshes"] = "none in the data: FLAME posed by the checkpoints"
    return capture_of(meshes, flame, shots=moved, warnings=tuple(warnings), **shared)


def _shots(source: Path, paths: list[Path], cameras: list[Camera]) -> tuple[Shot, ...]:
    """Each checkpoint with the picture and the matte that are called like it; whether they are is settled later."""
    places, size = Places(source), (cameras[0].width, cameras[0].height)
    pictures, mattes = _folder(source, PICTURE_FOLDERS, size), _folder(source, MATTE_FOLDERS, None)
    return tuple(
        Shot(
            path.stem,
            places.picture_in(pictures or source / PICTURE_FOLDERS[0], path.stem),
            camera,
            row,
            matte=None if mattes is None else places.picture_in(mattes, path.stem),
        )
        for row, (path, camera) in enumerate(zip(paths, cameras, strict=True))
    )


def _folder(source: Path, names: tuple[str, ...], size: tuple[int, int] | None) -> Path | None:
    """The first folder of those names that holds pictures, of the size that was tracked if any does: the tracker leaves
    the uncropped ones beside them."""
    found = [(folder, listed) for name in names if (listed := pictures_in(folder := source / name))]
    fitting = [
        folder
        for folder, listed in found
        if size is not None and picture_size(folder / listed[0], ImportingError) == size
    ]
    return next(iter(fitting or [folder for folder, _ in found]), None)


def read_frame(path: Path) -> dict[str, Any]:
    """A .frame file, a torch pickle, of which only arrays, tensors and plain values are read.

    Raises:
        ImportingError: it is damaged, or asks for code to be run.
    """
    payload = read_torch(path, ImportingError, _PLAIN)
    if not isinstance(payload, dict):
        raise ImportingError(f"{path} holds a {type(payload).__name__}, expected named arrays.")
    return payload


def _camera(path: Path, payload: dict[str, Any]) -> tuple[Camera, tuple[str, ...]]:
    """A checkpoint's camera, and what signs were turned."""
    where = f"{path}: opencv"
    camera = field(payload, "opencv", str(path))
    if not isinstance(camera, dict) or not {"R", "t", "K"} <= camera.keys():
        raise ImportingError(f"{where}: R, t and K are expected; {version_hint(camera)}")
    w2c = np.eye(4)
    # One camera's, though there may be a batch of them.
    nine = {name: array(flat(camera, name, where)[:9], (9,), f"{where}: {name}") for name in ("R", "K")}
    w2c[:3, :3], matrix = nine["R"].reshape(3, 3), nine["K"].reshape(3, 3)
    w2c[:3, 3] = flat(camera, "t", where, 3)
    height, width = flat(payload, "img_size", str(path), 2)
    intrinsics = matrix[0, 0], matrix[1, 1], matrix[0, 2], matrix[1, 2]
    return camera_of(intrinsics, (int(width), int(height)), w2c, "opencv", where)


def _parameters(flame: Any, where: str) -> dict[str, np.ndarray]:
    """Expression, shape, and axis-angles of the joints; the tracker turns neither root nor neck."""
    if not isinstance(flame, dict):
        raise ImportingError(f"{where} is a {type(flame).__name__}, expected named arrays.")
    pose = np.zeros((5, 3))
    for name, first, count in (("jaw", 2, 1), ("eyes", 3, 2)):
        # The first two rows of each rotation matrix, one after the other (Zhou et al. 2019).
        rows = flat(flame, name, where, 6 * count).reshape(count, 2, 3)
        pose[first : first + count] = matrix_to_axis_angle(matrix_from_6d(rows))
    given = {"eyelids": np.zeros(2)} | flame
    return {name: flat(given, name, where) for name in ("exp", "shape", "eyelids")} | {"pose": pose}


def _canonical(source: Path, meshes: MeshFiles, expression: np.ndarray) -> tuple[np.ndarray, str]:
    path = source / "canonical.obj"
    found = meshes.canonical(path) if path.is_file() else None
    if found is not None:
        return found, "canonical.obj"
    row = int(np.linalg.norm(expression, axis=1).argmin())
    return meshes.vertices([row])[0].astype(np.float64), f"the most neutral frame ({row})"
