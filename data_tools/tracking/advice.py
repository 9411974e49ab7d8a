"""What the person should know of their video before training on it."""

from __future__ import annotations

import numpy as np
from jaxtyping import Int

from data_tools.tracking.fit.face.face_points import Detector
from data_tools.tracking.observe.video import Sampled
from data_tools.tracking.photometric.stage import Registration
from data_tools.tracking.result import Quality

POOR_OUTLINE = 0.9
STILL_SHARE = 0.8


def warnings_of(
    sampled: Sampled,
    others: int,
    person: int,
    dropped: list[int],
    quality: Quality,
    detector: Detector,
) -> tuple[str, ...]:
    """One sentence for each thing that was left out or did not go well. What the footage lacks is `capture`'s to say.

    Args:
        sampled, others, person, dropped: as for `seen_warnings`.
        detector: what found the landmarks.
    """
    noun = detector.noun
    found = list(seen_warnings(sampled, others, person, dropped, noun))
    if quality.error.mean() > detector.poor:
        off = 100 * quality.error.mean()
        found.append(f"Landmarks are {off:.1f} % of the {noun}'s height off: see the report's pictures.")
    if quality.iou.mean() < POOR_OUTLINE:
        found.append(
            f"The head's outline agrees with the matte by {quality.iou.mean():.2f} only (long hair, or background that "
            "the matte takes along): see the report's pictures."
        )
    return tuple(found)


def seen_warnings(sampled: Sampled, others: int, person: int, dropped: list[int], noun: str) -> tuple[str, ...]:
    """What is known before anything is fitted, one sentence each.

    Args:
        others: how many other faces are in the video.
        person: which of them was followed, from 1.
        dropped: sampled frames that were left out.
        noun: what heads are looked for by.
    """
    found = list(sampled.warnings)
    total, elsewhere = len(sampled.slots), set(sampled.elsewhere)
    dropped = [index for index in dropped if index not in elsewhere]
    if dropped:
        found.append(
            f"{len(dropped)} of {total} frames hold no {noun} that could be fitted, left out: {_runs(dropped)}."
        )
    if others:
        who = "the largest, most central one" if person == 1 else f"number {person} by size"
        found.append(f"{others + 1} faces are in the video; {who} was followed (--person chooses).")
    if sampled.still > STILL_SHARE:
        found.append("The picture hardly ever changes: a still image shows one side and one expression only.")
    return tuple(found)


def registration_warnings(registration: Registration | None, kept: Int[np.ndarray, " T"]) -> tuple[str, ...]:
    """What did not go well with laying the frames against the person's own look.

    Args:
        kept: number of each frame among the sampled ones.
    """
    if registration is None:
        return ()
    if not registration.kept:
        return (
            "The frames do not agree on how the person looks (light that changes, a covered face, heavy compression): "
            "poses follow the landmarks alone.",
        )
    alone = kept[registration.alone & ~registration.off]
    found = []
    if len(alone):
        found.append(
            f"{len(alone)} frames do not show the person as the others do (overexposed, dark, covered, cut off) and "
            f"follow their landmarks alone, to where the frames around them have the head: {_runs(alone.tolist())}."
        )
    return tuple(found)


def doubt_warnings(registration: Registration | None, kept: Int[np.ndarray, " T"]) -> tuple[str, ...]:
    """Where tracking is probably wrong. The report has the same among what the footage lacks.

    Args:
        kept: number of each frame among the sampled ones.
    """
    if registration is None or not registration.kept:
        return ()
    off, covered = kept[registration.off], kept[registration.covered & ~registration.off]
    found = []
    if len(off):
        found.append(
            f"{len(off)} frames are hard to see (blurred, dark, covered, cut off), and their head is not where the "
            f"frames around them have it: tracking is probably wrong there: {_runs(off.tolist())}. Training "
            "leaves them out; film again what they show."
        )
    if len(covered):
        found.append(
            f"{len(covered)} frames show a part of the face as no others do, and may be wrong there (a hand, hair, "
            f"glasses that shine): {_runs(covered.tolist())}. Film them again if something covers the face."
        )
    return tuple(found)


def _runs(numbers: list[int]) -> str:
    """3, 7-9, 12: increasing numbers with runs drawn together."""
    parts, start = [], 0
    for position in range(1, len(numbers) + 1):
        if position == len(numbers) or numbers[position] != numbers[position - 1] + 1:
            first, last = numbers[start], numbers[position - 1]
            parts.append(str(first) if first == last else f"{first}-{last}")
            start = position
    return ", ".join(parts)
