"""The fitting stages of a run, each behind its bar and kept in the workspace."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from data_tools.runs.blocks import blocks_of, run_blocks
from data_tools.runs.workspace import path_key, stage_key
from data_tools.tracking.fit import stages
from data_tools.tracking.fit.face.face_points import FacePoints
from data_tools.tracking.fit.fit_result import state_from
from data_tools.tracking.fit.head_flow import SeenMotion, Skull, seen_motion
from data_tools.tracking.fit.residuals import FaceState
from data_tools.tracking.fit.stages import Observations
from data_tools.tracking.photometric.stage import Registration, register
from data_tools.tracking.run import Run
from flame_nerf.heads import HeadModel


def fit(
    run: Run, key: str, head: HeadModel, seen: Observations, pictures: list[Path]
) -> tuple[str, FaceState, Registration | None]:
    """Identity from keyframes, then all frames; with `config.flow` followed by optical flow in between, and with
    `config.photometric` registered with the person's own look in the end.

    Args:
        key: of the stage before.
        pictures: those that show the head, as stored.

    Returns:
        The key of what comes after, the state of all frames, and how the registration went if there was one.
    """
    prior = stages.focal_prior(seen, run.config)
    key = stage_key(
        key,
        {
            "stage": "fit",
            "head": run.config.head,
            "file": path_key(Path(run.config.head)),
            "focal": run.config.focal_px,
            "skull": True,
        },
    )

    def shape(advance: Callable[..., None]) -> dict[str, Any]:
        fitted = stages.shape(head, seen, prior, run.config.focal_px is None, advance)
        run.workspace.save("shape", "state", **fitted)
        return {}

    run.workspace.run(run.bars, "shape", "Fitting the shape", key, stages.SHAPE_STEPS, shape)

    points, begin = stages.start(head, seen, prior, run.workspace.load("shape", "state"))

    flow = None
    if run.config.flow:
        key, begin, flow = _follow(run, key, head, points, begin, seen, pictures)

    def motion(advance: Callable[..., None]) -> dict[str, Any]:
        run.workspace.save("motion", "state", **stages.motion(points, begin, seen, flow, advance, run.config.workers))
        return {}

    run.workspace.run(run.bars, "motion", "Fitting the motion", key, len(seen.slots), motion)
    state = state_from(run.workspace.load("motion", "state"))
    if not run.config.photometric:
        return key, state, None
    return register(run, key, head, points, seen, pictures, state)


def _follow(
    run: Run,
    key: str,
    head: HeadModel,
    points: FacePoints,
    begin: FaceState,
    seen: Observations,
    pictures: list[Path],
) -> tuple[str, FaceState, SeenMotion]:
    """Where the head is by its landmarks, and how it moved between frames by optical flow."""

    def place(advance: Callable[..., None]) -> dict[str, Any]:
        run.workspace.save("place", "state", **stages.place(points, begin, seen, advance, run.config.workers))
        return {}

    run.workspace.run(run.bars, "place", "Placing the head", key, len(seen.slots), place)
    placed = state_from(run.workspace.load("place", "state"))
    key = stage_key(key, {"stage": "flow", "workers": run.config.workers})
    blocks = blocks_of(len(pictures) - 1, run.config.workers)

    def work(advance: Callable[..., None]) -> dict[str, Any]:
        skull = Skull.of(head, points, placed)

        def one(block: range) -> None:
            if run.workspace.load("flow", f"{block.start:06d}") is not None:
                advance(len(block))
                return
            found = seen_motion(skull, points, placed, pictures, seen.centre, block.start, block.stop, advance)
            run.workspace.save("flow", f"{block.start:06d}", moved=found.moved, sure=found.sure)

        run_blocks(blocks, one, run.config.workers)
        return {}

    run.workspace.run(run.bars, "flow", "Following the head", key, len(pictures) - 1, work)
    parts = [run.workspace.load("flow", f"{block.start:06d}") for block in blocks]
    return key, placed, SeenMotion(*(np.concatenate([part[name] for part in parts]) for name in ("moved", "sure")))
