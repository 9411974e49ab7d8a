"""What the pictures and masks of a subject look like."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import UInt8
from PIL import Image, UnidentifiedImageError

from data_tools.check.findings import Finding, some
from flame_nerf.data.face_boxes import head_box
from flame_nerf.subject import Frame, Subject

LOOKED_AT = 240
"""Pictures that are opened, evenly spread; every one of a short clip."""
SIDE = 256
"""Longest side at which they are compared."""
EMPTY, FULL = 0.002, 0.97
"""Share of mask pixels that are on, beyond which a mask shows nothing or everything."""
MANY = 0.2
"""Share of bad masks from which training cannot go well."""
SAME = 0.35
"""Mean grey difference of neighbours that show the same picture, of 255."""
STILL_SHARE = 0.6
GOOD_MODES = ("RGB", "RGBA", "L", "P", "LA")


@dataclass(frozen=True)
class _Look:
    frame: Frame
    grey: UInt8[np.ndarray, "h w"]
    covered: float | None
    """Share of the mask that is on; None without a mask."""
    plain: bool
    """Whether the head's box is of one colour."""


def check_pictures(subject: Subject, on_picture: Callable[[], None] = lambda: None) -> list[Finding]:
    """Damaged, odd, empty and repeated pictures; empty and full masks."""
    frames = _spread(subject.frames)
    findings, looks, damaged, modes = [], [], [], {}
    for frame in frames:
        try:
            modes.setdefault(_mode(frame.file_path), []).append(frame.file_path.name)
            looks.append(_look(subject, frame))
        except (OSError, UnidentifiedImageError, ValueError) as error:
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
    if 2 * sum(look.plain for look in looks) > len(looks):
        findings.append(Finding("error", "pictures", "The pictures are of one colour where the head should be."))
    return findings + _masks(looks) + _repeats(looks)


def _spread(frames: tuple[Frame, ...]) -> list[Frame]:
    rows = np.unique(np.linspace(0, len(frames) - 1, min(LOOKED_AT, len(frames))).round().astype(int))
    return [frames[row] for row in rows]


def _mode(path: Path) -> str:
    with Image.open(path) as picture:
        return picture.mode


def _look(subject: Subject, frame: Frame) -> _Look:
    grey = read_grey(frame.file_path)
    scale = min(1.0, SIDE / max(grey.shape))
    width, height = max(1, round(grey.shape[1] * scale)), max(1, round(grey.shape[0] * scale))
    left, top, right, bottom = head_box(subject, frame, grey.shape[1], grey.shape[0], 0.0)
    head = grey[top:bottom, left:right]
    covered = None
    if frame.mask_path is not None:
        covered = float((read_grey(frame.mask_path) > 127).mean())
    small = cv2.resize(grey, (width, height), interpolation=cv2.INTER_AREA)
    return _Look(frame, small, covered, bool(np.ptp(head if head.size > 64 else grey) == 0))


def read_grey(path: Path) -> UInt8[np.ndarray, "H W"]:
    """A picture as one channel, decoded to its end.

    Raises:
        OSError: it is missing or cut short.
    """
    # OpenCV fills what a cut file lacks with grey; Pillow says that it is cut.
    with Image.open(path) as picture:
        picture.load()
        return np.asarray(picture.convert("L"))


def _masks(looks: list[_Look]) -> list[Finding]:
    masked = [look for look in looks if look.covered is not None]
    if not masked:
        return [Finding("warning", "masks", "There are none: the background will be learned as part of the head.")]
    findings = []
    for word, bad in (
        ("empty", [look for look in masked if look.covered < EMPTY]),
        ("full", [look for look in masked if look.covered > FULL]),
    ):
        if bad:
            level = "error" if len(bad) > MANY * len(masked) else "warning"
            names = some([look.frame.mask_path.name for look in bad])
            findings.append(
                Finding(
                    level,
                    "masks",
                    f"{len(bad)} of {len(masked)} are {word} ({names}): leave those frames out, or "
                    "make their masks again (white is head).",
                )
            )
    return findings


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
