"""What the pictures and masks of a subject look like."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import UInt8

from flame_nerf.data.faults import (
    Finding,
    colour_findings,
    is_of_one_colour,
    mask_findings,
    some,
    spread,
)
from flame_nerf.data.stored import Covered, covered_of, read_stored
from flame_nerf.runtime.door import picture_header
from flame_nerf.subject import Frame, Subject

LOOKED_AT = 240
"""Pictures that are opened, evenly spread; every one of a short clip."""
SIDE = 256
"""Longest side at which they are compared."""
SAME = 0.35
"""Mean grey difference of neighbours that show the same picture, of 255."""
STILL_SHARE = 0.6
GOOD_MODES = ("RGB", "RGBA", "L", "P", "LA")


@dataclass(frozen=True)
class _Look:
    frame: Frame
    grey: UInt8[np.ndarray, "h w"]
    covered: Covered | None
    """How much of the mask is on; None without a mask."""
    of_one_colour: bool


def check_pictures(subject: Subject, on_picture: Callable[[], None] = lambda: None) -> list[Finding]:
    """Damaged, odd, empty and repeated pictures; empty and full masks."""
    frames = spread(subject.frames, LOOKED_AT)
    findings, looks, damaged, modes = [], [], [], {}
    for frame in frames:
        try:
            modes.setdefault(picture_header(frame.file_path, OSError).mode, []).append(frame.file_path.name)
            looks.append(_look(subject, frame))
        except (OSError, ValueError) as error:
            damaged.append(f"{frame.file_path.name} ({error})")
        on_picture()
    if damaged:
        findings.append(
            Finding("error", "pictures", f"Damaged, training stops at them: {some(damaged)}. Write them again.")
        )
    for mode, names in modes.items():
        if mode not in GOOD_MODES:
            findings.append(
                Finding(
                    "warning",
                    "pictures",
                    f"{some(names)}: stored as {mode}, colours may come out wrong; save as 8-bit RGB.",
                )
            )
    if not looks:
        return findings
    findings += colour_findings([look.of_one_colour for look in looks])
    return findings + _masks(looks) + _repeats(looks)


def _look(subject: Subject, frame: Frame) -> _Look:
    # As training decodes it: what one cannot read, the other must not pass.
    grey = read_stored(frame.file_path, cv2.IMREAD_GRAYSCALE)
    scale = min(1.0, SIDE / max(grey.shape))
    width, height = max(1, round(grey.shape[1] * scale)), max(1, round(grey.shape[0] * scale))
    covered = None
    if frame.mask_path is not None:
        covered = covered_of(frame.mask_path)
    small = cv2.resize(grey, (width, height), interpolation=cv2.INTER_AREA)
    return _Look(frame, small, covered, is_of_one_colour(subject, frame, grey))


def _masks(looks: list[_Look]) -> list[Finding]:
    masked = [look.covered for look in looks if look.covered is not None]
    if not masked:
        return [Finding("warning", "masks", "There are none: the background will be learned as part of the head.")]
    return list(mask_findings(masked))


def _repeats(looks: list[_Look]) -> list[Finding]:
    pairs = [
        (first, second)
        for first, second in itertools.pairwise(looks)
        if first.grey.shape == second.grey.shape and first.frame.timestep != second.frame.timestep
    ]
    if len(pairs) < 4:
        return []
    same = [
        second.frame.file_path.name
        for first, second in pairs
        if np.abs(first.grey.astype(int) - second.grey.astype(int)).mean() < SAME
    ]
    if len(same) > STILL_SHARE * len(pairs):
        return [
            Finding(
                "warning",
                "repeats",
                f"{len(same)} of {len(pairs)} pictures are the same as the one before: a "
                "still image shows one side and one expression only.",
            )
        ]
    if len(same) > 0.1 * len(pairs):
        return [
            Finding(
                "note",
                "repeats",
                f"{len(same)} of {len(pairs)} pictures repeat the one before ({some(same)}): "
                "sampled faster than the video runs?",
            )
        ]
    return []
