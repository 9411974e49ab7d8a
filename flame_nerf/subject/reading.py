"""Reading a subject back, with errors a person can act on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from flame_nerf.runtime.door import check_name, read_json, read_npz
from flame_nerf.subject.types import (
    INTRINSICS,
    LARGEST_NUMBER,
    REGISTRATIONS,
    TRACK_FILE,
    TRANSFORMS_FILE,
    Frame,
    HeadTrack,
    Registration,
    Subject,
    SubjectError,
)
from flame_nerf.subject.validation import validate_subject
from flame_nerf.subject.writing import FORMAT_VERSION

MAPPED_FROM = 64 * 1024**2
"""Bytes from which an array of the track stays on disk and is mapped: about a thousand frames' vertices."""

AGAIN = "Track the video again."

KNOWN_META = (
    "version", "units", "head_model", "fps", "source", "licence", "background", "pictures_left_out",
    "registration",
)  # fmt: skip
"""Keys of the "flame_nerf" block with a field of their own; the rest is `Subject.extra`."""


def load_subject(root: Path | str) -> Subject:
    """Read and validate a subject folder.

    Args:
        root: the folder, or its transforms.json.

    Returns:
        The subject, all paths absolute, frames in stored order.

    Raises:
        SubjectError: naming file, frame or field, and the fix.
    """
    root = Path(root).expanduser().absolute()
    if root.name == TRANSFORMS_FILE:
        root = root.parent
    path = root / TRANSFORMS_FILE
    meta = _read_json(root, path)
    ours = meta.get("flame_nerf")
    if not isinstance(ours, dict):
        raise SubjectError(
            f'{path}: it has no "flame_nerf" block, so it is a plain Nerfstudio capture without a head. '
            "Make a subject with `flame-nerf-data track VIDEO SUBJECT/`."
        )
    version = ours.get("version")
    if version != FORMAT_VERSION:
        raise SubjectError(
            f"{path}: format version {version!r}, this release reads version {FORMAT_VERSION}. "
            "Update flame-nerf, or track the video again."
        )
    frames = meta.get("frames")
    if not isinstance(frames, list):
        raise SubjectError(f"{path}: frames is missing or no list. Track the video again.")
    background = ours.get("background")
    # Where several cameras filmed, each frame names its own and the first one stands for the subject.
    shared = meta if "fl_x" in meta or not frames or not isinstance(frames[0], dict) else frames[0]
    subject = Subject(
        root=root,
        **{name: _number(path, shared, name) for name in INTRINSICS},
        width=_pixels(path, meta, "w"),
        height=_pixels(path, meta, "h"),
        frames=tuple(_frame(root, path, index, entry) for index, entry in enumerate(frames)),
        track=_read_track(root / TRACK_FILE),
        background=None if background is None else root / check_name(background, SubjectError, f"{path}: background"),
        fps=_number(path, ours, "fps"),
        head_model=check_name(ours.get("head_model", "anny"), SubjectError, f"{path}: head_model"),
        source=str(ours.get("source", "")),
        licence=str(ours.get("licence", "")),
        pictures_left_out=ours.get("pictures_left_out") is True,
        registration=_registration(path, ours.get("registration")),
        extra={key: value for key, value in ours.items() if key not in KNOWN_META},
    )
    validate_subject(subject)
    return subject


def _read_json(root: Path, path: Path) -> dict[str, Any]:
    reason = "does not exist" if not root.exists() else f"holds no {TRANSFORMS_FILE}"
    missing = (
        f"{root} {reason}, so it is no subject (or its making was interrupted). "
        "Make one with `flame-nerf-data track VIDEO SUBJECT/` and give that folder as --data."
    )
    meta = read_json(path, SubjectError, remedy=AGAIN, missing=missing)
    if not isinstance(meta, dict):
        raise SubjectError(f"{path}: expected a JSON object. {AGAIN}")
    return meta


def _number(path: Path | str, meta: dict[str, Any], name: str) -> float:
    value = meta.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise SubjectError(f"{path}: {name} is {value!r}, expected a number. Track the video again.")
    # Whole numbers may be larger than any float.
    if not abs(value) < LARGEST_NUMBER:
        raise SubjectError(f"{path}: {name} is {str(value)[:40]}, expected a number in range. Track the video again.")
    return float(value)


def _pixels(path: Path, meta: dict[str, Any], name: str) -> int:
    value = _number(path, meta, name)
    if not value.is_integer():
        raise SubjectError(f"{path}: {name} is {value}, expected a whole number of pixels. Track the video again.")
    return int(value)


def _registration(path: Path, value: Any) -> Registration | None:
    if value is None:
        return None
    where = f"{path}: registration"
    if not isinstance(value, dict) or value.get("method") not in REGISTRATIONS:
        method = value.get("method") if isinstance(value, dict) else value
        raise SubjectError(
            f"{where}: method is {str(method)[:40]!r}, expected {' or '.join(REGISTRATIONS)}. Leave "
            "registration out, or track the video again."
        )
    return Registration(value["method"], _number(where, value, "residual"))


def _frame(root: Path, path: Path, index: int, entry: Any) -> Frame:
    where = f"{path}: frame {index}"
    if not isinstance(entry, dict) or not isinstance(entry.get("file_path"), str):
        raise SubjectError(f"{where} has no file_path. Track the video again.")
    file_path = check_name(entry["file_path"], SubjectError, f"{where}: file_path")
    where = f"{where} ({file_path})"
    try:
        c2w = np.array(entry["transform_matrix"], dtype=np.float64)
    except KeyError:
        raise SubjectError(f"{where} has no transform_matrix. Track the video again.") from None
    except (ValueError, TypeError, OverflowError) as error:
        raise SubjectError(f"{where}: transform_matrix is not a 4x4 matrix of numbers ({error}).") from error
    timestep = entry.get("timestep")
    if isinstance(timestep, bool) or not isinstance(timestep, int):
        raise SubjectError(f"{where}: timestep is {timestep!r}, expected the row of {TRACK_FILE} it shows.")

    def optional(name: str) -> Path | None:
        given = entry.get(name)
        return None if given is None else root / check_name(given, SubjectError, f"{where}: {name}")

    own = any(name in entry for name in INTRINSICS)

    return Frame(
        file_path=root / file_path,
        mask_path=optional("mask_path"),
        depth_path=optional("depth_file_path"),
        c2w=c2w,
        timestep=timestep,
        split=str(entry.get("split", "train")),
        intrinsics=_intrinsics(where, entry) if own else None,
    )


def _intrinsics(where: str, entry: dict[str, Any]) -> tuple[float, float, float, float]:
    fl_x, fl_y, cx, cy = (_number(where, entry, name) for name in INTRINSICS)
    return fl_x, fl_y, cx, cy


def _read_track(path: Path) -> HeadTrack:
    arrays = _read_arrays(path)

    def floats(name: str) -> np.ndarray:
        return _typed(path, arrays, name, "fiu").astype(np.float32, copy=False)

    def integers(name: str, dtype: type) -> np.ndarray:
        return _typed(path, arrays, name, "iu").astype(dtype)

    def names(name: str) -> tuple[str, ...]:
        return tuple(str(item) for item in np.atleast_1d(_typed(path, arrays, name, "U")))

    return HeadTrack(
        faces=integers("faces", np.int32),
        canonical_vertices=floats("canonical_vertices"),
        vertices=floats("vertices"),
        expression=floats("expression"),
        expression_names=names("expression_names"),
        pose=floats("pose"),
        joint_names=names("joint_names"),
        identity=floats("identity"),
        region=integers("region", np.int8),
        region_names=names("region_names"),
        landmarks2d=floats("landmarks2d") if "landmarks2d" in arrays else None,
        reprojection_error=floats("reprojection_error") if "reprojection_error" in arrays else None,
    )


def _read_arrays(path: Path) -> dict[str, np.ndarray]:
    missing = f"{path} does not exist: {TRANSFORMS_FILE} names cameras but the head is missing. {AGAIN}"
    # Vertices, nearly all there is, become float32.
    return read_npz(path, SubjectError, remedy=AGAIN, missing=missing, number_bytes=4, mapped_from=MAPPED_FROM)


def _typed(path: Path, arrays: dict[str, np.ndarray], name: str, kinds: str) -> np.ndarray:
    if name not in arrays:
        raise SubjectError(f"{path}: array {name} is missing. Track the video again.")
    array = arrays[name]
    if array.dtype.kind not in kinds:
        raise SubjectError(f"{path}: array {name} has type {array.dtype}, expected kind {'/'.join(kinds)}.")
    return array
