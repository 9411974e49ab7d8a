"""Whether a subject's head can be where, and move as, its cameras and coefficients say."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from data_tools.capture.poses import head_from_world
from data_tools.check.findings import Finding, some
from flame_nerf.data.face_boxes import project
from flame_nerf.subject import Subject

HEAD_HEIGHT = (0.08, 1.2)
"""Height of a head's mesh, metres: a cat's to a horse's with its neck."""
BEYOND = 0.5
"""Share of the mesh out of the picture from which a frame shows no head."""
FEWEST = 10
"""Frames below which nothing can be learned."""
SHAPE_CHANGE = 0.35
"""Largest relative difference in size between posed and rest mesh."""
POOR_FIT = 0.015
"""Mean landmark distance over the head's height in the picture."""
JUMP, JUMP_METRES = 12.0, 0.05
"""A camera that moves this many times its usual step, and this far, between neighbouring frames has jumped."""


def check_head(subject: Subject) -> list[Finding]:
    """Scale, axes, depth, topology and movement."""
    return [
        *_amount(subject),
        *_mesh(subject),
        *_axes(subject),
        *_in_pictures(subject),
        *_expression(subject),
        *_fit(subject),
        *_jumps(subject),
    ]


def _amount(subject: Subject) -> list[Finding]:
    trained = sum(frame.split == "train" for frame in subject.frames)
    if trained == 0:
        return [Finding("error", "split", "No frame is for training: every split is val or test.")]
    if trained < FEWEST:
        return [Finding("error", "frames", f"Only {trained} frames for training; at least {FEWEST} are needed.")]
    if all(frame.split == "train" for frame in subject.frames):
        return [Finding("note", "split", "No frame is held out, so evaluation has nothing new to look at.")]
    return []


def _mesh(subject: Subject) -> list[Finding]:
    track, findings = subject.track, []
    size = np.ptp(track.canonical_vertices, axis=0)
    height = float(size[1])
    if not HEAD_HEIGHT[0] <= height <= HEAD_HEIGHT[1]:
        power = round(float(np.log10(0.3 / max(height, 1e-12))))
        findings.append(
            Finding(
                "error",
                "scale",
                f"The rest head is {height:.3g} m high, a head is about 0.3 m: its unit is no "
                f"metre. Scale mesh and cameras by 1e{power:+d}, or so.",
            )
        )
    posed = np.linalg.norm(np.ptp(track.vertices, axis=1), axis=1) / max(float(np.linalg.norm(size)), 1e-12)
    odd = np.flatnonzero(np.abs(posed - 1) > SHAPE_CHANGE)
    if len(odd):
        findings.append(
            Finding(
                "error" if len(odd) > 0.1 * len(posed) else "warning",
                "mesh",
                f"Timesteps {some(odd.tolist())} have a mesh {posed[odd].min():.2g} to {posed[odd].max():.2g} times "
                "the size of the rest head: another unit, or a fit that went wrong.",
            )
        )
    corners = track.canonical_vertices[track.faces].astype(np.float64)
    area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
    if (flat := int((area < 1e-12).sum())) > 0.01 * len(area):
        findings.append(Finding("warning", "mesh", f"{flat} of {len(area)} triangles of the rest head have no area."))
    centre = corners.mean(axis=(0, 1))
    volume = np.einsum("fi,fi->f", corners[:, 0] - centre, np.cross(corners[:, 1] - centre, corners[:, 2] - centre))
    if volume.sum() < 0:
        findings.append(
            Finding(
                "error",
                "mesh",
                "The triangles are inside out (clockwise seen from outside): swap two columns of "
                "faces, or one axis of the mesh is mirrored.",
            )
        )
    return findings


def _centre(subject: Subject, *names: str) -> Float[np.ndarray, "3"] | None:
    track = subject.track
    faces = track.region_faces(*names)
    return track.canonical_vertices[np.unique(track.faces[faces])].mean(axis=0) if faces.any() else None


def _axes(subject: Subject) -> list[Finding]:
    """Head axes by where the regions lie: eyes above the lips, face before the scalp."""
    findings = []
    eyes, lips, back = _centre(subject, "eyes", "eyelids"), _centre(subject, "lips"), _centre(subject, "scalp", "ears")
    if eyes is not None and lips is not None and eyes[1] < lips[1]:
        findings.append(
            Finding("error", "axes", "The eyes of the rest head lie below its lips: y must point up. Turn the axes.")
        )
    face = eyes if eyes is not None else lips
    if face is not None and back is not None and face[2] < back[2]:
        findings.append(
            Finding("error", "axes", "The face of the rest head lies behind its scalp: z must point out of the face.")
        )
    return findings


def _in_pictures(subject: Subject) -> list[Finding]:
    behind, outside, small = [], [], []
    for frame in subject.frames:
        vertices = subject.track.vertices[frame.timestep]
        depth = -((vertices - frame.c2w[:3, 3]) @ frame.c2w[:3, 2])
        if depth.mean() <= 0:
            behind.append(frame.file_path.name)
            continue
        pixels = project(subject, frame, vertices)
        inside = ((pixels >= 0) & (pixels < [subject.width, subject.height])).all(axis=1).mean()
        if inside < 1 - BEYOND:
            outside.append(frame.file_path.name)
        elif np.nanmax(np.ptp(pixels, axis=0)) < 24:
            small.append(frame.file_path.name)
    total = len(subject.frames)
    found = (
        (behind, 0.1, "depth", "The head is behind the camera in {}: OpenCV's camera axes taken for OpenGL's, or "
         "world-to-camera for camera-to-world?"),
        (outside, 0.5, "framing", "More than half of the head is out of the picture in {}: wrong cameras, or frames to "
         "leave out."),
        (small, 0.5, "scale", "The head is under 24 pixels large in {}: wrong scale or focal length, or filmed from "
         "too far away."),
    )  # fmt: skip
    return [
        Finding("error" if len(names) > share * total else "warning", topic, text.format(_frames(names, total)))
        for names, share, topic, text in found
        if names
    ]


def _frames(names: list[str], total: int) -> str:
    return f"{len(names)} of {total} frames ({some(names)})"


def _expression(subject: Subject) -> list[Finding]:
    track, findings = subject.track, []
    if track.expression.shape[1] == 0:
        findings.append(
            Finding(
                "warning",
                "expression",
                "There are no expression coefficients: the head can be replayed, but what "
                "mesh and pictures do not share (wrinkles, the inside of the mouth) will blur.",
            )
        )
    elif len(track.expression) > 1 and np.ptp(track.expression, axis=0).max() < 1e-6:
        findings.append(Finding("warning", "expression", "The expression never changes."))
    for feature, names in (("mouth", ("lips",)), ("eyes", ("eyes", "eyelids"))):
        if not track.region_faces(*names).any():
            findings.append(
                Finding(
                    "note",
                    "regions",
                    f"The mesh has no region {' or '.join(names)}: the {feature} gets no extra attention in training.",
                )
            )
    return findings


def _fit(subject: Subject) -> list[Finding]:
    error = subject.track.reprojection_error
    if error is None:
        return []
    shown = [frame.timestep for frame in subject.frames]
    error = error[np.unique(shown)]
    if not np.isfinite(error).any():
        return []
    heights = [np.ptp(project(subject, frame, subject.track.canonical_vertices)[:, 1]) for frame in subject.frames[:50]]
    height = float(np.nanmedian(heights)) if np.isfinite(heights).any() else float(subject.height)
    mean = float(np.nanmean(error))
    findings = []
    if mean > POOR_FIT * height:
        findings.append(
            Finding(
                "warning",
                "fit",
                f"Landmarks are {mean:.1f} pixels off, {100 * mean / height:.1f} % of the head's "
                "height: fine detail will blur.",
            )
        )
    bad = np.flatnonzero(error > max(4 * np.nanmedian(error), POOR_FIT * height))
    if len(bad):
        findings.append(
            Finding(
                "warning",
                "fit",
                f"Timesteps {some(bad.tolist())} are fitted far worse than the others: leave them out.",
            )
        )
    return findings


def _jumps(subject: Subject) -> list[Finding]:
    # In the head frame, so that a still camera before a jumping head shows too. One camera a timestep: rigs do jump.
    steps = [frame.timestep for frame in subject.frames]
    if len(steps) != len(set(steps)) or len(steps) < 8:
        return []
    motion = head_from_world(subject)
    ordered = sorted(subject.frames, key=lambda frame: frame.timestep)
    places = np.stack([motion[f.timestep, :3, :3] @ f.c2w[:3, 3] + motion[f.timestep, :3, 3] for f in ordered])
    moved = np.linalg.norm(np.diff(places, axis=0), axis=1)
    far = np.flatnonzero(moved > max(JUMP * float(np.median(moved)), JUMP_METRES))
    if len(far) == 0:
        return []
    names = [ordered[row + 1].file_path.name for row in far]
    return [
        Finding(
            "warning",
            "motion",
            f"The head jumps against the camera before {some(names)}: cuts in the video, or "
            "frames that were fitted wrongly.",
        )
    ]
