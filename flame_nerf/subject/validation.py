"""Checks that make a subject safe to train on. Each failure names the file, the frame or field, and the fix."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from flame_nerf.runtime.door import picture_header
from flame_nerf.subject.types import (
    LARGEST_NUMBER,
    SPLITS,
    TRACK_FILE,
    TRANSFORMS_FILE,
    Frame,
    HeadTrack,
    Subject,
    SubjectError,
)

ROTATION_TOLERANCE = 1e-3
"""Largest |R Rt - I| of a camera that still counts as a rotation: float32 text round trips stay below 1e-5."""


def validate_subject(subject: Subject) -> None:
    """Check a subject against its format and the pictures on disk.

    Raises:
        SubjectError: at the first thing that is wrong, naming file, frame or field, and the fix.
    """
    transforms = subject.root / TRANSFORMS_FILE
    for name in ("fl_x", "fl_y", "width", "height", "fps"):
        value = getattr(subject, name)
        if not (math.isfinite(value) and value > 0):
            raise SubjectError(f"{transforms}: {name} is {value}, expected a positive number. Track the video again.")
    for name in ("cx", "cy"):
        if not math.isfinite(getattr(subject, name)):
            raise SubjectError(f"{transforms}: {name} is not finite. Track the video again.")
    laid = subject.registration
    if laid is not None and not (math.isfinite(laid.residual) and laid.residual >= 0):
        raise SubjectError(
            f"{transforms}: registration: residual is {laid.residual}, expected 0 or more grey levels. Leave "
            "registration out, or track the video again."
        )
    validate_track(subject.track, str(subject.root / TRACK_FILE))
    if not subject.frames:
        raise SubjectError(f"{transforms}: it lists no frames. Track a video in which a face can be seen.")
    for frame in subject.frames:
        _validate_frame(subject, frame)
    _all_or_none(subject, "mask_path", "give every frame a mask, or remove mask_path from all of them")


def validate_track(track: HeadTrack, where: str) -> None:
    """Check shapes, ranges and finiteness of a track's arrays.

    Args:
        where: the file to name in errors.

    Raises:
        SubjectError: naming the array, the frame (timestep) where one is at fault, and the fix.
    """
    timesteps, vertex_count = _track_sizes(track, where)
    _shape(where, "canonical_vertices", track.canonical_vertices, (vertex_count, 3))
    _shape(where, "faces", track.faces, (None, 3))
    _shape(where, "region", track.region, (len(track.faces),))
    _shape(where, "expression", track.expression, (timesteps, len(track.expression_names)))
    _shape(where, "pose", track.pose, (timesteps, len(track.joint_names), 3))
    _shape(where, "identity", track.identity, (None,))
    if track.landmarks2d is not None:
        _shape(where, "landmarks2d", track.landmarks2d, (timesteps, None, 2))
    if track.reprojection_error is not None:
        _shape(where, "reprojection_error", track.reprojection_error, (timesteps,))
    for field in ("expression_names", "joint_names"):
        names = getattr(track, field)
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise SubjectError(f"{where}: {field} holds {twice!r} twice. Give each a name of its own.")
    for name in ("vertices", "expression", "pose"):
        _finite_rows(where, name, getattr(track, name))
    for name in ("canonical_vertices", "identity"):
        if not _sane(getattr(track, name)):
            raise SubjectError(f"{where}: {name} holds NaN, infinite or absurdly large values. Track the video again.")
    if len(track.faces) == 0:
        raise SubjectError(f"{where}: faces is empty. A head needs triangles; track the video again.")
    if track.faces.min() < 0 or track.faces.max() >= vertex_count:
        raise SubjectError(
            f"{where}: faces names vertex {int(track.faces.max())} (smallest {int(track.faces.min())}), but there are "
            f"{vertex_count} vertices. faces and vertices must come from the same head model."
        )
    if track.region.min() < 0 or track.region.max() >= len(track.region_names):
        raise SubjectError(
            f"{where}: region holds {int(track.region.max())}, but region_names has {len(track.region_names)} names."
        )


def _track_sizes(track: HeadTrack, where: str) -> tuple[int, int]:
    if track.vertices.ndim != 3 or track.vertices.shape[-1] != 3 or 0 in track.vertices.shape:
        raise SubjectError(f"{where}: vertices has shape {track.vertices.shape}, expected (timesteps, vertices, 3).")
    return track.vertices.shape[0], track.vertices.shape[1]


def _shape(where: str, name: str, array: np.ndarray, expected: tuple[int | None, ...]) -> None:
    matches = len(array.shape) == len(expected) and all(
        want is None or have == want for have, want in zip(array.shape, expected, strict=True)
    )
    if not matches:
        wanted = ", ".join("any" if size is None else str(size) for size in expected)
        raise SubjectError(
            f"{where}: {name} has shape {tuple(array.shape)}, expected ({wanted}). "
            "The arrays of one subject must come from one tracking run; track the video again."
        )


def _finite_rows(where: str, name: str, array: np.ndarray) -> None:
    # Row by row: of a long track not even one truth value for each number is held.
    sane = np.array([_sane(row) for row in array])
    if not sane.all():
        timestep = int(np.flatnonzero(~sane)[0])
        raise SubjectError(
            f"{where}: {name} of timestep {timestep} holds NaN, infinite or absurdly large values "
            f"({int((~sane).sum())} timesteps are affected). Leave those frames out, or track the video again."
        )


def _sane(values: np.ndarray) -> bool:
    """Whether all can be reckoned with: products of a few of them stay finite."""
    # NaN is below nothing.
    return bool((np.abs(values) < LARGEST_NUMBER).all())


def _validate_frame(subject: Subject, frame: Frame) -> None:
    where = f"{subject.root / TRANSFORMS_FILE}: frame {frame.file_path.name}"
    if frame.split not in SPLITS:
        raise SubjectError(f"{where}: split is {frame.split!r}, expected one of {', '.join(SPLITS)}.")
    if not 0 <= frame.timestep < subject.track.num_timesteps:
        raise SubjectError(
            f"{where}: timestep is {frame.timestep}, but {TRACK_FILE} has rows 0 to {subject.track.num_timesteps - 1}."
        )
    if frame.c2w.shape != (4, 4) or not np.isfinite(frame.c2w).all():
        raise SubjectError(f"{where}: transform_matrix must be 4x4 and finite. Track the video again.")
    rotation = frame.c2w[:3, :3]
    orthonormal = np.abs(rotation @ rotation.T - np.eye(3)).max() < ROTATION_TOLERANCE
    if not orthonormal or np.linalg.det(rotation) < 0:
        raise SubjectError(
            f"{where}: transform_matrix is no rigid camera pose (its 3x3 part is not a rotation). "
            "Remove scale or mirroring from it."
        )
    if np.abs(frame.c2w[3] - [0, 0, 0, 1]).max() > ROTATION_TOLERANCE:
        raise SubjectError(
            f"{where}: transform_matrix has the last row {frame.c2w[3].tolist()}, expected 0 0 0 1. Is it "
            "transposed, or a projection?"
        )
    fl_x, fl_y, cx, cy = subject.intrinsics_of(frame)
    if not (math.isfinite(fl_x + fl_y + cx + cy) and min(fl_x, fl_y) > 0):
        raise SubjectError(f"{where}: the camera ({fl_x}, {fl_y}, {cx}, {cy}) needs finite, positive focal lengths.")
    size = (subject.width, subject.height)
    for field in ("file_path", "mask_path"):
        path = getattr(frame, field)
        if path is not None and not (subject.pictures_left_out and not (subject.root / path).exists()):
            _picture(where, field, subject.root / path, size)


def _picture(where: str, field: str, path: Path, size: tuple[int, int]) -> None:
    missing = f"{where}: {field} {path} does not exist. Put the file back, or take the frame out of {TRANSFORMS_FILE}."
    try:
        found = picture_header(path, SubjectError, remedy="Write it again.", missing=missing).size
    except SubjectError as error:
        raise SubjectError(str(error) if str(error) == missing else f"{where}: {field} {error}") from None
    if found != size:
        raise SubjectError(
            f"{where}: {field} {path} is {found[0]}x{found[1]}, but the cameras say {size[0]}x{size[1]} (w, h)."
        )


def _all_or_none(subject: Subject, attribute: str, fix: str) -> None:
    missing = [frame for frame in subject.frames if getattr(frame, attribute) is None]
    if missing and len(missing) != len(subject.frames):
        raise SubjectError(
            f"{subject.root / TRANSFORMS_FILE}: frame {missing[0].file_path.name} has no {attribute} while others have "
            f"({len(missing)} of {len(subject.frames)} are without): {fix}."
        )
