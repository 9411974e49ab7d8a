"""What is wrong with a subject that loads: things that training cannot learn from, and those that it mends itself.

Training stops at the first error; `flame-nerf-data check` says all of them, and the warnings.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float, UInt8

from flame_nerf.data.face_boxes import head_box, project
from flame_nerf.data.overlap import overlap
from flame_nerf.data.stored import Covered, covered_by, read_mask, read_stored
from flame_nerf.kernels.availability import numba_problem
from flame_nerf.subject import Frame, Subject, SubjectError

Level = Literal["error", "warning", "note"]
"""error: training breaks or learns nothing right; warning: the result will suffer; note: good to know."""
NAMED = 6
"""Frames that are named before the rest are only counted."""
LOOKED_AT = 48
"""Frames, evenly spread, whose cameras and masks training looks at before it begins."""
HEAD_HEIGHT = (0.08, 1.2)
"""Height of a head's mesh, metres: a cat's to a horse's with its neck."""
BEYOND = 0.5
"""Share of the mesh out of the picture from which a frame shows no head."""
SMALL, TINY = 24, 8
"""Largest side of a head in the picture, pixels, below which little, and nothing, can be learned."""
SHAPE_CHANGE = 0.35
"""Largest relative difference in size between posed and rest mesh."""
EMPTY, FULL = 0.002, 0.97
"""Share of mask pixels that are on, beyond which a mask shows nothing or everything."""
MANY = 0.2
"""Share of bad masks from which training cannot go well."""
LAID_ON = 12
"""Frames, evenly spread, whose pictures are looked at before training, and on whose masks the mesh is laid."""
OFF = 0.5
"""Overlap of mesh and mask below which the mesh lies elsewhere."""
ONE_COLOUR = 2
"""Most that the grey levels of a picture of one colour differ by."""
LARGEST_COEFFICIENT = 1000.0
"""Expression and identity coefficients are of the order of one, FLAME's of ten."""
LARGEST_ANGLE = 6.3
"""Radians that a joint turns at most: once around."""
MOST_FLAT = 0.5
"""Share of triangles without area from which a mesh is no surface."""
FIELD_OF_VIEW_DEG = (1.0, 150.0)
"""Angle that the longer side of a picture can be across: a telescope's to a fisheye's."""


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong, weak, or good to know."""

    level: Level
    topic: str
    """What it is about, in a word or two."""
    text: str
    """What was found, and what to do."""


def some(names: Sequence[object]) -> str:
    """The first few names, and how many more there are."""
    shown = ", ".join(str(name) for name in names[:NAMED])
    return shown if len(names) <= NAMED else f"{shown} and {len(names) - NAMED} more"


def spread(frames: Sequence[Frame], count: int) -> list[Frame]:
    """So many frames, evenly spread."""
    rows = np.unique(np.linspace(0, len(frames) - 1, min(count, len(frames))).round().astype(int))
    return [frames[row] for row in rows]


def require_trainable(subject: Subject) -> list[str]:
    """Look at a subject before training on it.

    Returns:
        What training mends, to be said.

    Raises:
        SubjectError: at the first thing that training cannot learn from.
    """
    frames = spread(subject.frames, LOOKED_AT)
    findings = [
        *frame_findings(subject),
        *mesh_findings(subject),
        *coefficient_findings(subject),
        *camera_findings(subject, frames),
        *mask_findings(covered_by(frames)),
        *overlap_findings(subject),
        *colour_findings(_of_one_colour(subject)),
    ]
    for finding in findings:
        if finding.level == "error":
            raise SubjectError(
                f"{subject.root}: {finding.topic}: {finding.text} `flame-nerf-data check` on that folder says all "
                "that is wrong."
            )
    return [finding.text for finding in findings if finding.topic == "mended"]


def frame_findings(subject: Subject) -> Iterator[Finding]:
    """Whether there is more than one picture."""
    if len(subject.frames) < 2:
        yield Finding("error", "frames", "There is a single frame, of one side and one expression: track a video.")


def mesh_findings(subject: Subject) -> Iterator[Finding]:
    """Scale, axes and shape of the mesh."""
    track = subject.track
    size = np.ptp(track.canonical_vertices.astype(np.float64), axis=0)
    height = float(size[1])
    if not HEAD_HEIGHT[0] <= height <= HEAD_HEIGHT[1]:
        power = round(float(np.log10(0.3 / max(height, 1e-12))))
        yield Finding(
            "error",
            "scale",
            f"The rest head is {height:.3g} m high, a head is about 0.3 m: its unit is no metre. Scale mesh and "
            f"cameras by 1e{power:+d}, or so.",
        )
    posed = np.linalg.norm(np.ptp(track.vertices, axis=1).astype(np.float64), axis=1)
    posed /= max(float(np.linalg.norm(size)), 1e-12)
    odd = np.flatnonzero(np.abs(posed - 1) > SHAPE_CHANGE)
    if len(odd):
        yield Finding(
            "error" if len(odd) > 0.1 * len(posed) else "warning",
            "mesh",
            f"Timesteps {some(odd.tolist())} have a mesh {posed[odd].min():.2g} to {posed[odd].max():.2g} times the "
            "size of the rest head: another unit, or a fit that went wrong.",
        )
    corners = track.canonical_vertices[track.faces].astype(np.float64)
    area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
    if (flat := int((area < 1e-12).sum())) > 0.01 * len(area):
        yield Finding(
            "error" if flat > MOST_FLAT * len(area) else "warning",
            "mesh",
            f"{flat} of {len(area)} triangles of the rest head have no area: take the head model's own mesh.",
        )
    centre = corners.mean(axis=(0, 1))
    volume = np.einsum("fi,fi->f", corners[:, 0] - centre, np.cross(corners[:, 1] - centre, corners[:, 2] - centre))
    if volume.sum() < 0:
        yield Finding(
            "error",
            "mesh",
            "The triangles are inside out (clockwise seen from outside): swap two columns of faces, or one axis of "
            "the mesh is mirrored.",
        )
    yield from _axes(subject)


def coefficient_findings(subject: Subject) -> Iterator[Finding]:
    """Whether coefficients and angles are of the size that such numbers have."""
    track = subject.track
    for name in ("expression", "identity"):
        largest = float(np.abs(getattr(track, name)).max(initial=0.0))
        if largest > LARGEST_COEFFICIENT:
            yield Finding(
                "error",
                name,
                f"{name} reaches {largest:.3g}, where coefficients are of the order of one: training would drown in "
                "it. Divide it by its unit, or track the video again.",
            )
    largest = float(np.abs(track.pose).max(initial=0.0))
    if largest > LARGEST_ANGLE:
        yield Finding(
            "warning", "pose", f"pose reaches {largest:.3g}, more than once around: are these degrees, not radians?"
        )


def _axes(subject: Subject) -> Iterator[Finding]:
    """Head axes by where the regions lie: eyes above the lips, face before the scalp."""
    eyes, lips, back = _centre(subject, "eyes", "eyelids"), _centre(subject, "lips"), _centre(subject, "scalp", "ears")
    if eyes is not None and lips is not None and eyes[1] < lips[1]:
        yield Finding("error", "axes", "The eyes of the rest head lie below its lips: y must point up. Turn the axes.")
    face = eyes if eyes is not None else lips
    if face is not None and back is not None and face[2] < back[2]:
        yield Finding("error", "axes", "The face of the rest head lies behind its scalp: z must point out of the face.")


def _centre(subject: Subject, *names: str) -> Float[np.ndarray, "3"] | None:
    track = subject.track
    faces = track.region_faces(*names)
    return track.canonical_vertices[np.unique(track.faces[faces])].mean(axis=0) if faces.any() else None


def camera_findings(subject: Subject, frames: Sequence[Frame]) -> Iterator[Finding]:
    """Whether cameras see the head: before them, not around them, in the picture, large enough."""
    behind: list[str] = []
    within: list[str] = []
    outside: list[str] = []
    tiny: list[str] = []
    small: list[str] = []
    odd: list[str] = []
    for frame in frames:
        name = frame.file_path.name
        vertices = subject.track.vertices[frame.timestep].astype(np.float64)
        low, high = vertices.min(axis=0), vertices.max(axis=0)
        from_centre = (frame.c2w[:3, 3] - (low + high) / 2) / np.maximum((high - low) / 2, 1e-12)
        fl_x, fl_y, *_ = subject.intrinsics_of(frame)
        angle = np.degrees(2 * np.arctan(max(subject.width / fl_x, subject.height / fl_y) / 2))
        if not FIELD_OF_VIEW_DEG[0] <= angle <= FIELD_OF_VIEW_DEG[1]:
            odd.append(name)
        if np.linalg.norm(from_centre) < 1:
            within.append(name)
            continue
        if -((vertices - frame.c2w[:3, 3]) @ frame.c2w[:3, 2]).mean() <= 0:
            behind.append(name)
            continue
        with np.errstate(all="ignore"):
            pixels = project(subject, frame, vertices)
            inside = ((pixels >= 0) & (pixels < [subject.width, subject.height])).all(axis=1).mean()
            side = np.ptp(pixels[np.isfinite(pixels).all(axis=1)], axis=0).max(initial=0.0)
        if inside < 1 - BEYOND:
            outside.append(name)
        elif side < SMALL:
            (tiny if side < TINY else small).append(name)
    total = len(frames)
    found = (
        (within, 0.1, "depth", "The camera is inside the head in {}: cameras and mesh have other units or origins."),
        (behind, 0.1, "depth", "The head is behind the camera in {}: OpenCV's camera axes taken for OpenGL's, or "
         "world-to-camera for camera-to-world?"),
        (outside, 0.5, "framing", "More than half of the head is out of the picture in {}: wrong cameras, or frames to "
         "leave out."),
        (tiny, 0.5, "scale", f"The head is under {TINY} pixels large in {{}}: wrong scale or focal length."),
        (small, 1.0, "scale", f"The head is under {SMALL} pixels large in {{}}: wrong scale or focal length, or filmed "
         "from too far away."),
        (odd, 0.1, "focal length", "The picture's longer side is under 1 or over 150 degrees across in {}: no "
         "camera that is meant here has such a focal length (fl_x, fl_y, in pixels)."),
    )  # fmt: skip
    for names, share, topic, text in found:
        if names:
            told = f"{len(names)} of {total} frames ({some(names)})"
            yield Finding("error" if len(names) > share * total else "warning", topic, text.format(told))


def mask_findings(masks: Sequence[Covered]) -> Iterator[Finding]:
    """Empty and full masks, and those that are written with ones."""
    for word, names in (
        ("empty", [mask.name for mask in masks if mask.share < EMPTY]),
        ("full", [mask.name for mask in masks if mask.share > FULL]),
    ):
        if names:
            yield Finding(
                "error" if len(names) > MANY * len(masks) else "warning",
                "masks",
                f"{len(names)} of {len(masks)} are {word} ({some(names)}): leave those frames out, or make their masks "
                "again (white is head).",
            )
    ones = [mask.name for mask in masks if mask.of_ones]
    if ones:
        yield Finding("note", "mended", f"Masks hold 0 and 1 ({some(ones)}): read as 0 and 255.")


def overlap_findings(subject: Subject) -> Iterator[Finding]:
    """Whether the mesh lies where the masks show the head.

    Raises:
        SubjectError: naming a mask that cannot be decoded.
    """
    if numba_problem() is not None:
        # Nothing here draws the mesh then; training goes on without kernels, and so without this check.
        return
    found = []
    for frame in spread(subject.frames, LAID_ON):
        if frame.mask_path is None or not frame.mask_path.exists():
            continue
        mask = read_mask(frame.mask_path)
        if mask.shape == (subject.height, subject.width) and (mask > 127).any():
            found.append(overlap(subject, frame, mask))
    if found and (share := float(np.median(found))) < OFF:
        yield Finding(
            "error",
            "overlay",
            f"The mesh lies off the masks ({100 * share:.0f} % of the smaller of both is under the other): it does not "
            "lie where the pictures show the head. Check the axes, signs and scale of the cameras, and that the masks "
            "are of these pictures.",
        )


def is_of_one_colour(subject: Subject, frame: Frame, grey: UInt8[np.ndarray, "H W"]) -> bool:
    """Whether a picture shows nothing where the head should be; where that is out of the picture, anywhere."""
    left, top, right, bottom = head_box(subject, frame, grey.shape[1], grey.shape[0], 0.0)
    head = grey[top:bottom, left:right]
    return bool(np.ptp(head if head.size > 64 else grey) <= ONE_COLOUR)


def colour_findings(of_one_colour: Sequence[bool]) -> Iterator[Finding]:
    """Whether there is anything in the pictures.

    Args:
        of_one_colour: of each picture that was looked at, see `is_of_one_colour`.
    """
    if 2 * sum(of_one_colour) > len(of_one_colour):
        yield Finding(
            "error",
            "pictures",
            f"{sum(of_one_colour)} of {len(of_one_colour)} are of one colour where the head should be: write them "
            "again, or track the video again.",
        )


def _of_one_colour(subject: Subject) -> list[bool]:
    """Of some frames: whether they are of one colour.

    Raises:
        SubjectError: naming a picture that cannot be decoded.
    """
    import cv2

    if subject.pictures_left_out:
        return []
    return [
        is_of_one_colour(subject, frame, read_stored(frame.file_path, cv2.IMREAD_GRAYSCALE))
        for frame in spread(subject.frames, LAID_ON)
    ]
