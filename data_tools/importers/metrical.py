"""metrical-tracker: checkpoint/*.frame with cameras and FLAME's parameters, mesh/*.ply; the head stands still."""

from __future__ import annotations

import codecs
import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.spatial.transform import Rotation

from data_tools.importers.cameras import AXES_WORDS, camera_of
from data_tools.importers.capture import Capture, Scratch, Shot
from data_tools.importers.config import ImportConfig, ImportingError
from data_tools.importers.files import array, existing, field, natural, version_hint
from data_tools.importers.flame import FLAME_JOINTS, open_flame
from data_tools.importers.mesh_files import MeshFiles

PICTURE_FOLDERS = ("input", "images", "image", "source", "frames")
MATTE_FOLDERS = ("matte", "mattes", "mask", "masks", "alpha", "matted")
_ARRAY_MAKERS = [
    (getattr(np._core.multiarray, name), f"numpy.{core}.multiarray.{name}")
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
    """Read metrical-tracker's output folder.

    Raises:
        ImportingError: naming the file.
    """
    paths = sorted((source / "checkpoint").glob("*.frame"), key=natural)
    if not paths:
        raise ImportingError(f"{source}: checkpoint/ holds no .frame files. Give the tracker's output folder.")
    left_out, shots, meshes, flames = [], [], [], []
    signs: set[str] = set()
    for path in paths:
        mesh = source / "mesh" / f"{path.stem}.ply"
        if not mesh.is_file():
            left_out.append((path.stem, f"its mesh mesh/{mesh.name} does not exist"))
            continue
        payload = read_frame(path)
        flames.append(_parameters(field(payload, "flame", str(path)), f"{path}: flame"))
        shot, turned = _shot(source, path, payload, len(meshes))
        signs.update(turned)
        shots.append(shot)
        meshes.append(mesh)
    if not meshes:
        raise ImportingError(f"{source}: none of its {len(paths)} frames has its mesh in mesh/.")
    files = MeshFiles(meshes, workers=config.workers)
    columns = {name: np.stack([flame[name] for flame in flames]) for name in flames[0]}
    canonical, said = _canonical(source, files, columns["exp"])
    flame = None if config.flame is None else open_flame(config, "metrical-tracker")
    fits = flame is not None and np.array_equal(flame.head.faces.numpy(), files.faces)
    return Capture(
        format="metrical-tracker",
        shots=tuple(shots),
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
        facts={
            "axes": f"world-to-camera, {AXES_WORDS['opencv']}",
            "signs": ", ".join(sorted(signs)) or "focal lengths positive",
            "scale": "metres",
            "canonical head": said,
        },
        left_out=tuple(left_out),
    )


def read_frame(path: Path) -> dict[str, Any]:
    """A .frame file, a torch pickle, of which only arrays, tensors and plain values are read.

    Raises:
        ImportingError: it is damaged, or asks for code to be run.
    """
    try:
        with torch.serialization.safe_globals(_PLAIN):
            payload = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        named = re.search(r"GLOBAL (\S+)|class (\S+)|Unsupported operand|global (\S+)", str(error))
        what = next((group for group in (named.groups() if named else ()) if group), "more than arrays")
        raise ImportingError(
            f"{path} asks for {what}, which is no part of a tracking result. A pickle can run any program when it is "
            "opened, so this one was refused. Get the file from its original source."
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, AttributeError, IndexError, TypeError) as error:
        raise ImportingError(f"{path} is damaged or no torch file ({error}). Copy it again.") from error
    if not isinstance(payload, dict):
        raise ImportingError(f"{path} holds a {type(payload).__name__}, expected named arrays.")
    return payload


def _shot(source: Path, path: Path, payload: dict[str, Any], row: int) -> tuple[Shot, tuple[str, ...]]:
    where = f"{path}: opencv"
    camera = field(payload, "opencv", str(path))
    if not isinstance(camera, dict) or not {"R", "t", "K"} <= camera.keys():
        raise ImportingError(f"{where}: R, t and K are expected; {version_hint(camera)}")
    rotation, shift, matrix = (np.asarray(camera[name], dtype=np.float64) for name in ("R", "t", "K"))
    w2c = np.eye(4)
    w2c[:3, :3] = array(rotation.reshape(-1)[:9].reshape(3, 3), (3, 3), f"{where}: R")
    w2c[:3, 3] = array(shift.reshape(-1), (3,), f"{where}: t")
    matrix = array(matrix.reshape(-1, 3)[:3], (3, 3), f"{where}: K")
    height, width = array(np.asarray(field(payload, "img_size", str(path))).reshape(-1), (2,), f"{path}: img_size")
    intrinsics = matrix[0, 0], matrix[1, 1], matrix[0, 2], matrix[1, 2]
    made, signs = camera_of(intrinsics, (int(width), int(height)), w2c, "opencv", where)
    picture = _beside(source, PICTURE_FOLDERS, path.stem)
    if picture is None:
        picture = existing(source / PICTURE_FOLDERS[0] / path.stem)
    return Shot(path.stem, picture, made, row, matte=_beside(source, MATTE_FOLDERS, path.stem)), signs


def _beside(source: Path, folders: tuple[str, ...], stem: str) -> Path | None:
    for folder in folders:
        path = existing(source / folder / stem)
        if path.is_file():
            return path
    return None


def _parameters(flame: Any, where: str) -> dict[str, np.ndarray]:
    """Expression, shape, and axis-angles of the joints; the tracker turns neither root nor neck."""
    if not isinstance(flame, dict):
        raise ImportingError(f"{where} is a {type(flame).__name__}, expected named arrays.")
    pose = np.zeros((5, 3))
    pose[2:3] = _axis_angle(field(flame, "jaw", where), 1, f"{where}: jaw")
    pose[3:5] = _axis_angle(field(flame, "eyes", where), 2, f"{where}: eyes")
    values = {name: np.asarray(field(flame, name, where)).reshape(-1) for name in ("exp", "shape")}
    return {name: array(value, (None,), f"{where}: {name}") for name, value in values.items()} | {"pose": pose}


def _axis_angle(values: Any, count: int, where: str) -> np.ndarray:
    """From the first two rows of each rotation matrix, one after the other (Zhou et al. 2019)."""
    rows = array(np.asarray(values).reshape(-1), (6 * count,), where).reshape(count, 2, 3)
    first = rows[:, 0] / np.linalg.norm(rows[:, 0], axis=1, keepdims=True)
    second = rows[:, 1] - (first * rows[:, 1]).sum(axis=1, keepdims=True) * first
    second = second / np.linalg.norm(second, axis=1, keepdims=True)
    return Rotation.from_matrix(np.stack([first, second, np.cross(first, second)], axis=1)).as_rotvec()


def _canonical(source: Path, meshes: MeshFiles, expression: np.ndarray) -> tuple[np.ndarray, str]:
    path = source / "canonical.obj"
    found = meshes.canonical(path) if path.is_file() else None
    if found is not None:
        return found, "canonical.obj"
    row = int(np.linalg.norm(expression, axis=1).argmin())
    return meshes.vertices([row])[0].astype(np.float64), f"the most neutral frame ({row})"
