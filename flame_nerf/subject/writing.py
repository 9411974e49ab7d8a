"""Writing a subject so that an interrupted write never leaves a folder that loads as whole."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from flame_nerf.subject.types import INTRINSICS, TRACK_FILE, TRANSFORMS_FILE, Frame, HeadTrack, Subject
from flame_nerf.subject.validation import validate_subject

FORMAT_VERSION = 1
"""Version of the layout; raised when an older reader could no longer make sense of it."""


def write_subject(subject: Subject, root: Path | None = None) -> Path:
    """Write transforms.json and head.npz beside the pictures, which must be there already.

    Both are written in full under other names first; then head.npz and, last, transforms.json take their names. A
    folder without transforms.json is never a subject, so an interruption or a full disk leaves none behind.

    Args:
        subject: picture paths absolute, or relative to the root.
        root: where to write; `subject.root` if not given.

    Returns:
        The path of transforms.json.

    Raises:
        SubjectError: if the subject would not load again.
        OSError: if the disk refuses; nothing half-written stays.
    """
    if root is not None:
        subject = dataclasses.replace(subject, root=Path(root))
    subject = dataclasses.replace(subject, root=subject.root.absolute())
    validate_subject(subject)

    transforms_path, track_path = subject.root / TRANSFORMS_FILE, subject.root / TRACK_FILE
    transforms_part, track_part = _part(transforms_path), _part(track_path)
    text = json.dumps(_transforms(subject), indent=1).encode()
    try:
        _write_through(track_part, lambda file: np.savez(file, **_track_arrays(subject.track)))
        _write_through(transforms_part, lambda file: file.write(text))
        transforms_path.unlink(missing_ok=True)
        os.replace(track_part, track_path)
        os.replace(transforms_part, transforms_path)
    finally:
        track_part.unlink(missing_ok=True)
        transforms_part.unlink(missing_ok=True)
    return transforms_path


def _part(path: Path) -> Path:
    return path.with_name(f".{path.name}.part")


def _write_through(path: Path, write: Callable[[BinaryIO], Any]) -> None:
    with open(path, "wb") as file:
        write(file)
        file.flush()
        # Otherwise a crash after the rename could leave an empty file under the final name.
        os.fsync(file.fileno())


def _transforms(subject: Subject) -> dict[str, Any]:
    # Nerfstudio's own parser heeds a frame's camera only where the file names none for all of them.
    several = any(frame.intrinsics is not None for frame in subject.frames)
    meta: dict[str, Any] = {
        "camera_model": "OPENCV",
        **({} if several else _intrinsics(subject)),
        "w": int(subject.width),
        "h": int(subject.height),
        "flame_nerf": {
            **subject.extra,
            "version": FORMAT_VERSION,
            "units": "metres",
            "head_model": subject.head_model,
            "fps": float(subject.fps),
            "source": subject.source,
            "licence": subject.licence,
        },
    }
    if subject.pictures_left_out:
        meta["flame_nerf"]["pictures_left_out"] = True
    if subject.background is not None:
        meta["flame_nerf"]["background"] = _relative(subject.root, subject.background)
    meta["frames"] = [
        _frame_entry(subject.root, frame) | (_intrinsics(subject, frame) if several else {}) for frame in subject.frames
    ]
    meta.update(_stock_splits(meta["frames"]))
    return meta


def _intrinsics(subject: Subject, frame: Frame | None = None) -> dict[str, float]:
    values = subject.intrinsics_of(frame) if frame is not None else (subject.fl_x, subject.fl_y, subject.cx, subject.cy)
    return dict(zip(INTRINSICS, map(float, values), strict=True))


def _frame_entry(root: Path, frame: Frame) -> dict[str, Any]:
    entry: dict[str, Any] = {"file_path": _relative(root, frame.file_path)}
    if frame.mask_path is not None:
        entry["mask_path"] = _relative(root, frame.mask_path)
    if frame.depth_path is not None:
        entry["depth_file_path"] = _relative(root, frame.depth_path)
    entry["transform_matrix"] = np.asarray(frame.c2w, dtype=np.float64).tolist()
    entry["timestep"] = int(frame.timestep)
    entry["split"] = frame.split
    return entry


def _stock_splits(frames: list[dict[str, Any]]) -> dict[str, list[str]]:
    """The split lists that Nerfstudio's own parser obeys, so that a stock method trains on the same frames."""
    files = {name: [f["file_path"] for f in frames if f["split"] == name] for name in ("train", "val", "test")}
    files["val"] = files["val"] or files["test"]
    files["test"] = files["test"] or files["val"]
    if not all(files.values()):
        return {}
    return {f"{name}_filenames": listed for name, listed in files.items()}


def _relative(root: Path, path: Path) -> str:
    absolute = (root / path).absolute()
    return absolute.relative_to(root).as_posix() if absolute.is_relative_to(root) else absolute.as_posix()


def _track_arrays(track: HeadTrack) -> dict[str, Any]:
    # Vertices may be mapped from disk and larger than memory: what has its type already is not copied.
    arrays = {
        "faces": np.asarray(track.faces, np.int32),
        "canonical_vertices": np.asarray(track.canonical_vertices, np.float32),
        "vertices": np.asarray(track.vertices, np.float32),
        "expression": np.asarray(track.expression, np.float32),
        "expression_names": _names(track.expression_names),
        "pose": np.asarray(track.pose, np.float32),
        "joint_names": _names(track.joint_names),
        "identity": np.asarray(track.identity, np.float32),
        "region": np.asarray(track.region, np.int8),
        "region_names": _names(track.region_names),
    }
    for name in ("landmarks2d", "reprojection_error"):
        value = getattr(track, name)
        if value is not None:
            arrays[name] = np.asarray(value, np.float32)
    return arrays


def _names(names: tuple[str, ...]) -> np.ndarray:
    # An explicit unicode type: an empty list would become float64 otherwise, an object array would need pickle.
    return np.array(list(names), dtype=np.str_)
