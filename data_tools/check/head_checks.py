"""Whether a subject's head can be where, and move as, its cameras and coefficients say."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int

from flame_nerf.data.face_boxes import project
from flame_nerf.data.faults import Finding, camera_findings, frame_findings, mesh_findings, some
from flame_nerf.subject import Subject
from flame_nerf.subject.rigid import rigid_fit

FEWEST, FEW = 10, 100
"""Frames below which nothing, and little, can be learned."""
NARROW_YAW_DEG = 15.0
CLOSED_MOUTH, CLOSED_JAW = 0.15, 0.06
"""Largest jawOpen, and largest turn of the jaw joint (radians), of a mouth that never opens."""
POOR_FIT = 0.015
"""Mean landmark distance over the head's height in the picture."""
JUMP, JUMP_METRES = 12.0, 0.05
"""A camera that moves this many times its usual step, and this far, between neighbouring frames has jumped."""


def check_head(subject: Subject) -> list[Finding]:
    """Scale, axes, depth, topology, movement and coverage."""
    return [
        *_amount(subject),
        *frame_findings(subject),
        *mesh_findings(subject),
        *camera_findings(subject, subject.frames),
        *_turns(subject),
        *_expression(subject),
        *_fit(subject),
        *_jumps(subject),
    ]


def _amount(subject: Subject) -> list[Finding]:
    trained = sum(frame.split == "train" for frame in subject.frames)
    if trained == 0:
        return [Finding("error", "split", "No frame is for training: every split is val or test.")]
    if trained < FEWEST:
        return [Finding("warning", "frames", f"Only {trained} frames for training; at least {FEWEST} are needed.")]
    if trained < FEW:
        return [
            Finding(
                "warning",
                "frames",
                f"Only {trained} frames for training: expect little beyond what they show. A "
                "minute of video is a good length.",
            )
        ]
    if all(frame.split == "train" for frame in subject.frames):
        return [Finding("note", "split", "No frame is held out, so evaluation has nothing new to look at.")]
    return []


def head_from_world(subject: Subject) -> Float[np.ndarray, "T 4 4"]:
    """Rigid motion that lays each timestep's skull on the rest head's."""
    track = subject.track
    faces = track.region_faces("scalp", "ears")
    rows: Int[np.ndarray, " N"] = np.unique(track.faces[faces if faces.any() else slice(None)])
    return rigid_fit(track.vertices[:, rows].astype(np.float64), track.canonical_vertices[rows].astype(np.float64))


def _turns(subject: Subject) -> list[Finding]:
    motion = head_from_world(subject)
    towards = np.stack([motion[frame.timestep, :3, :3] @ frame.c2w[:3, 2] for frame in subject.frames])
    yaw = np.degrees(np.arctan2(towards[:, 0], towards[:, 2]))
    wrapped = yaw - np.degrees(np.angle(np.exp(1j * np.radians(yaw)).mean()))
    span = float(np.ptp((wrapped + 180) % 360 - 180))
    if span < NARROW_YAW_DEG:
        return [
            Finding(
                "warning",
                "turns",
                f"The head is seen over {span:.0f} degrees of yaw only: sides that are not seen will be guessed.",
            )
        ]
    return []


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
    opening = None
    if "jawOpen" in track.expression_names:
        opening = track.expression[:, track.expression_names.index("jawOpen")].max() / CLOSED_MOUTH
    elif "jaw" in track.joint_names:
        opening = np.abs(track.pose[:, track.joint_names.index("jaw")]).max() / CLOSED_JAW
    if opening is not None and opening < 1:
        findings.append(Finding("warning", "expression", "The mouth never opens: its inside cannot be learned."))
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
