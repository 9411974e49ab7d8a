"""Whether a subject's head can be where, and move as, its cameras and coefficients say."""

from __future__ import annotations

import numpy as np

from data_tools.capture.poses import head_from_world
from flame_nerf.data.face_boxes import project
from flame_nerf.data.faults import (
    Finding,
    camera_findings,
    coefficient_findings,
    frame_findings,
    mesh_findings,
    some,
)
from flame_nerf.subject import Subject

FEWEST = 10
"""Frames below which nothing can be learned."""
POOR_FIT = 0.015
"""Mean landmark distance over the head's height in the picture."""
JUMP, JUMP_METRES = 12.0, 0.05
"""A camera that moves this many times its usual step, and this far, between neighbouring frames has jumped."""


def check_head(subject: Subject) -> list[Finding]:
    """Scale, axes, depth, topology and movement."""
    return [
        *_amount(subject),
        *frame_findings(subject),
        *mesh_findings(subject),
        *coefficient_findings(subject),
        *camera_findings(subject, subject.frames),
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
    if not any(frame.split in ("val", "test") for frame in subject.frames):
        return [Finding("note", "split", "No frame is held out, so evaluation has nothing new to look at.")]
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
