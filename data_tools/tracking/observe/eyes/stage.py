"""Irises as a stage of a run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from data_tools.runs.blocks import blocks_of, run_blocks
from data_tools.runs.workspace import stage_key
from data_tools.tracking.observe.eyes.irises import find_irises, learn_irises, with_irises
from data_tools.tracking.run import Run

OFTEN_ENOUGH = 0.5
"""Share of the frames in which an iris must be found; else what was found is not believed."""
SELDOM = 0.1
"""Share of frames in which none is found, from which it is said. Everybody blinks."""


def locate_irises(
    run: Run, key: str, pictures: list[Path], landmarks: Float[np.ndarray, "T 478 3"]
) -> tuple[str, Float[np.ndarray, "T 478 3"], Bool[np.ndarray, "T 2"] | None]:
    """Find the irises in the pictures.

    Args:
        key: of the stage before.
        pictures: those that show the face.
        landmarks: of these, all finite.

    Returns:
        Key of what comes after, the landmarks with irises where the pictures show them, and whether each eye's was
        found. Where they are not to be told the landmarks are as they were, and None.
    """
    key = stage_key(key, {"stage": "irises"})

    def work(advance: Callable[..., None]) -> dict[str, Any]:
        look = learn_irises(pictures, landmarks)
        if look is None:
            return {"found": False}
        shift, found = np.zeros((len(pictures), 2, 2)), np.zeros((len(pictures), 2), dtype=bool)

        def one(block: range) -> None:
            rows = slice(block.start, block.stop)
            shift[rows], found[rows] = find_irises(pictures[rows], landmarks[rows], look, advance)

        run_blocks(blocks_of(len(pictures), run.config.workers), one, run.config.workers)
        run.workspace.save("irises", "shift", shift=shift, found=found)
        return {"found": bool(found.any(axis=1).mean() >= OFTEN_ENOUGH)}

    note = run.workspace.run(run.bars, "irises", "Finding the irises", key, len(pictures), work)
    if not note["found"]:
        return key, landmarks, None
    part = run.workspace.load("irises", "shift")
    return key, with_irises(landmarks, part["shift"]), part["found"]


def gaze_notes(found: Bool[np.ndarray, "T 2"] | None) -> tuple[str, ...]:
    """What is said of a clip in which gaze is a guess for a while.

    Args:
        found: whether each eye's iris was found, as `locate_irises` gives it.
    """
    if found is None:
        return (
            "the irises are not to be told in the pictures (too small, too dark, behind glasses): gaze follows the "
            "face mesh, which sees eyes look up and down by a half of what they do.",
        )
    unseen = int((~found.any(axis=1)).sum())
    if unseen < SELDOM * len(found):
        return ()
    return (f"no iris is seen in {unseen} of {len(found)} frames: gaze there is that of the frames around.",)
