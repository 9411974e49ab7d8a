"""All checks of a subject, from the files on disk to what the head does."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from data_tools.capture.measured import Measured, measure
from data_tools.capture.shortfalls import WEAK, shortfalls_of
from data_tools.check.depth_checks import check_depth
from data_tools.check.head_checks import check_head
from data_tools.check.picture_checks import check_pictures
from data_tools.importers.inputs.cameras import Camera
from data_tools.importers.overlay import Judged, OutlineTest
from flame_nerf.data.faults import Finding, overlap_findings, some
from flame_nerf.data.stored import read_mask
from flame_nerf.heads import HeadModelError, load_head
from flame_nerf.motion.live_head import LiveHead
from flame_nerf.runtime.door import picture_header, read_json
from flame_nerf.subject import Frame, Subject, SubjectError, load_subject
from flame_nerf.subject.types import TRANSFORMS_FILE

JUDGED = 12
"""Frames, evenly spread, on which the mesh's outline is compared with the mask."""
LONGEST = 80
"""Letters of a file's name that are shown."""
BROKEN_OVERLAY, LOW_OVERLAY = 0.5, 0.85
"""Outline agreement below which cameras or mesh are wrong, and below which they may be."""


def check_subject(subject: Subject | Path | str, on_picture: Callable[[], None] = lambda: None) -> list[Finding]:
    """Everything that can be said about a subject without training on it, the gravest first.

    Args:
        subject: a loaded subject, or its folder; of a folder that cannot be loaded what is wrong with it is said.
        on_picture: called for each picture that was looked at, twice.
    """
    return check_and_measure(subject, on_picture)[0]


def check_and_measure(
    subject: Subject | Path | str, on_picture: Callable[[], None] = lambda: None
) -> tuple[list[Finding], Measured | None]:
    """The same, and what was measured of the footage; None of a folder that cannot be loaded."""
    if not isinstance(subject, Subject):
        root = Path(subject)
        try:
            subject = load_subject(root)
        except SubjectError as error:
            return [Finding("error", "files", str(error)), *_missing_files(root)], None
    measured = measure(subject, on_picture)
    findings = [
        *_footage(measured),
        *check_head(subject),
        *check_pictures(subject, on_picture),
        *_overlay(subject),
        *check_depth(subject),
        *_background(subject),
        *_head_model(subject),
    ]
    if not subject.licence:
        findings.append(Finding("note", "licence", "It does not say under what terms the video may be used."))
    order = ("error", "warning", "note")
    return sorted(findings, key=lambda finding: order.index(finding.level)), measured


def _footage(measured: Measured) -> list[Finding]:
    """What falls short in the footage: a warning where it will show, else a note."""
    return [
        Finding(
            "warning" if shortfall.gravity >= WEAK else "note",
            shortfall.topic,
            f"{shortfall.found} {shortfall.cost}{_named(measured, shortfall.frames)}",
        )
        for shortfall in shortfalls_of(measured)
    ]


def _named(measured: Measured, rows: tuple[int, ...]) -> str:
    return f" At {some([measured.subject.frames[row].file_path.name for row in rows])}." if rows else ""


def overlay_iou(subject: Subject, frame: Frame) -> float:
    """Agreement of a frame's projected mesh with its mask between brow and chin, intersection over union.

    0 where the head is behind the camera or out of the picture.

    Raises:
        SubjectError: the frame has no mask, or it cannot be read.
    """
    track = subject.track
    return OutlineTest(track.faces, track.canonical_vertices).iou(_judged(subject, frame))


def _judged(subject: Subject, frame: Frame) -> Judged:
    if frame.mask_path is None:
        raise SubjectError(f"{frame.file_path}: has no mask to compare the mesh with.")
    matte = read_mask(frame.mask_path)
    camera = Camera(*subject.intrinsics_of(frame), subject.width, subject.height, frame.c2w)
    return Judged(subject.track.vertices[frame.timestep], camera, matte)


def _overlay(subject: Subject) -> list[Finding]:
    """Whether the mesh lies on the pictures, and which usual mistake would explain that it does not."""
    if not subject.has_masks:
        return []
    rows = np.unique(np.linspace(0, len(subject.frames) - 1, JUDGED).round().astype(int))
    judged = []
    for row in rows:
        try:
            judged.append(_judged(subject, subject.frames[row]))
        except SubjectError:
            # A damaged mask is said elsewhere.
            continue
    judged = [one for one in judged if one.matte.shape == (subject.height, subject.width) and (one.matte > 127).any()]
    if not judged:
        return []
    verdict = OutlineTest(subject.track.faces, subject.track.canonical_vertices).verdict(judged)
    cause = ""
    if verdict.better is not None:
        cause = f" It would be {verdict.better_iou:.2f} with {verdict.better.words}: that is the likely mistake."
    said = f"The mesh's outline agrees with the masks by {verdict.iou:.2f} (1 is perfect)"
    try:
        off = list(overlap_findings(subject))
    except SubjectError:
        off = []
    if off:
        return [replace(finding, text=f"{finding.text}{cause}") for finding in off]
    if verdict.iou < LOW_OVERLAY:
        advice = cause or (
            " Check the axes, signs and scale of the cameras: look at the report's pictures."
            if verdict.iou < BROKEN_OVERLAY
            else " Hair beside the face does this too: look at the report's pictures."
        )
        return [Finding("warning", "overlay", f"{said}.{advice}")]
    return [Finding("note", "overlay", f"{said}.")]


def _head_model(subject: Subject) -> list[Finding]:
    try:
        LiveHead(load_head(subject.head_model_source), subject.track)
    except (HeadModelError, ValueError) as error:
        return [Finding("warning", "head model", f"New expressions will not be possible, replay will: {error}.")]
    return []


def _missing_files(root: Path) -> list[Finding]:
    """Pictures and masks that are missing or damaged, of a subject that does not load: all of them, not the first."""
    root = root.parent if root.name == TRANSFORMS_FILE else root
    try:
        entries = read_json(root / TRANSFORMS_FILE, ValueError)["frames"]
        paths = [root / str(e[key]) for e in entries for key in ("file_path", "mask_path") if e.get(key) is not None]
    except (ValueError, KeyError, TypeError, AttributeError):
        return []
    findings = []
    there = {path: _is_file(path) for path in paths}
    missing = [os.path.relpath(path, root)[:LONGEST] for path in paths if not there[path]]
    if missing:
        findings.append(
            Finding(
                "error", "files", f"{len(missing)} of {len(paths)} pictures and masks are missing: {some(missing)}."
            )
        )
    damaged = []
    for path in paths:
        if there[path]:
            try:
                picture_header(path, OSError)
            except OSError:
                damaged.append(path.name)
    if damaged:
        findings.append(Finding("error", "files", f"{len(damaged)} are no readable pictures: {some(damaged)}."))
    return findings


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):
        # No file can have such a name.
        return False


def _background(subject: Subject) -> list[Finding]:
    if subject.background is None:
        return []
    try:
        size = picture_header(subject.root / subject.background, SubjectError).size
    except SubjectError as error:
        return [Finding("warning", "background", f"{error} Training cannot be asked for the plate.")]
    if size == (subject.width, subject.height):
        return []
    found, wanted = ("x".join(map(str, pair)) for pair in (size, (subject.width, subject.height)))
    text = f"{subject.background.name} is {found}, the pictures are {wanted}: training cannot be asked for the plate."
    return [Finding("warning", "background", text)]
