"""Writing a subject so that an interrupted write never leaves a folder that loads as whole."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np

from flame_nerf.runtime.files import to_disk, whole
from flame_nerf.subject.types import INTRINSICS, TRACK_FILE, TRANSFORMS_FILE, Frame, HeadTrack, Subject
from flame_nerf.subject.validation import validate_subject

FORMAT_VERSION = 1
"""Version of the layout; raised when an older reader could no longer make sense of it."""


def write_subject(subject: Subject, root: Path | None = None) -> Path:
    """Write transforms.json and head.npz beside the pictures, which must be there already.

    Both are written in full under other names first; then head.npz and, last, transforms.json take their names. A
    folder without transforms.json is never a subject, so an interruption or a full disk leaves none behind.

    Args:
        subject: picture paths absolute, relative to the root, or, like a relative root itself, to the working folder.
        root: where to write; `subject.root` if not given.

    Returns:
        The path of transforms.json.

    Raises:
        SubjectError: if the subject would not load again.
        OSError: if the disk refuses; nothing half-written stays.
    """
    subject = _with_absolute_paths(subject, subject.root if root is None else Path(root))
    validate_subject(subject)

    transforms_path, track_path = subject.root / TRANSFORMS_FILE, subject.root / TRACK_FILE
    arrays, text = _track_arrays(subject.track), json.dumps(_transforms(subject), indent=1)
    size = sum(np.asarray(array).nbytes for array in arrays.values())
    # The inner one takes its name first: head.npz, then transforms.json. Both are on the disk before the old one goes.
    with (
        whole(transforms_path, alone=True, synced=False, size=len(text)) as transforms_spare,
        whole(track_path, alone=True, synced=False, size=size) as track_spare,
    ):
        with track_spare.open("wb") as file:
            np.savez(file, **arrays)
        transforms_spare.write_text(text, encoding="utf-8")
        to_disk(track_spare)
        to_disk(transforms_spare)
        transforms_path.unlink(missing_ok=True)
    return transforms_path


def _with_absolute_paths(subject: Subject, root: Path) -> Subject:
    def absolute(path: Path | None) -> Path | None:
        if path is None or (root / path).exists():
            return None if path is None else (root / path).absolute()
        # `root / "images" / name` begins with the root already, and is meant from where the root is.
        begun = any(not start.is_absolute() and path.is_relative_to(start) for start in (root, subject.root))
        return path.absolute() if begun else (root / path).absolute()

    frames = tuple(
        dataclasses.replace(
            frame,
            file_path=absolute(frame.file_path) or frame.file_path,
            mask_path=absolute(frame.mask_path),
            depth_path=absolute(frame.depth_path),
        )
        for frame in subject.frames
    )
    background = absolute(subject.background)
    return dataclasses.replace(subject, root=root.absolute(), frames=frames, background=background)


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
    if subject.registration is not None:
        meta["flame_nerf"]["registration"] = dataclasses.asdict(subject.registration)
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
