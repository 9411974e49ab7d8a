"""A person's look learned from some hundred frames of the clip, in turns with where the head is and with who it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from data_tools.runs.pictures import load_grey
from data_tools.tracking.fit.energy import Seen, filled, mean_distance
from data_tools.tracking.fit.face.face_points import FacePoints
from data_tools.tracking.fit.outline import Outline
from data_tools.tracking.fit.pose_and_expression import motion_step
from data_tools.tracking.fit.residuals import GAZE, POSE, FaceState
from data_tools.tracking.fit.shape import KEYFRAMES, choose_keyframes
from data_tools.tracking.fit.stages import Observations
from data_tools.tracking.photometric.atlas import Atlas
from data_tools.tracking.photometric.bundle import bundle_step
from data_tools.tracking.photometric.residuals import PhotometricFrames
from data_tools.tracking.photometric.surfels import Visibility, spread_surfels
from flame_nerf.heads import HeadModel

ATLAS_FRAMES = 200
"""Frames that the look and the identity are taken from, at most."""
RIGID = ((4.0, 3), (2.0, 2))
"""Blurs of the crops in pixels, and steps at each: of the pose alone,"""
WHOLE = ((2.0, 3), (1.0, 3))
"""and then of pose and expressions."""
BUNDLE = (2.0, 1.0)
"""Blurs at which the identity is fitted, one step each, with"""
AFTER_BUNDLE = 2
"""steps of the frames after it."""
LEARN_STEPS = sum(steps for _, steps in RIGID + WHOLE) + len(BUNDLE) * (1 + AFTER_BUNDLE)
KEPT_BLURS = (4.0, 2.0, 1.0)
"""Blurs of the finished atlases: those that frames are laid against."""


@dataclass(frozen=True)
class Look:
    """What one clip's person looks like, learned from K of its frames."""

    state: FaceState
    """Of those frames, with the identity that was fitted."""
    atlases: dict[float, Atlas]
    """By blur."""
    usual: Float[np.ndarray, "3"]
    """Points, spreads and likeness of the usual frame at the sharpest blur; see `Agreement`."""
    before: float
    """Median difference between these frames and their atlas before registration, share of full scale."""

    @property
    def sharpest(self) -> Atlas:
        return self.atlases[min(self.atlases)]

    def arrays(self) -> dict[str, np.ndarray]:
        """Everything but the state, as plain arrays."""
        one = {
            f"{name}_{number}": getattr(atlas, name)
            for number, atlas in enumerate(self.atlases.values())
            for name in Atlas.__annotations__
        }
        return one | {"usual": self.usual, "before": np.array(self.before)}

    @staticmethod
    def of(state: FaceState, arrays: dict[str, np.ndarray]) -> Look:
        """The look that `arrays` took apart."""
        count = sum(name.startswith("blur_") for name in arrays)
        parts = [{name: arrays[f"{name}_{k}"] for name in Atlas.__annotations__} for k in range(count)]
        atlases = {float(part["blur"]): Atlas(**part | {"blur": float(part["blur"])}) for part in parts}
        return Look(state, atlases, arrays["usual"], float(arrays["before"]))


def choose_atlas_frames(points: FacePoints, state: FaceState, seen: Seen) -> Int[np.ndarray, " K"]:
    """Rows of frames that show all of the clip's time and of its poses; badly fitted ones are not among them."""
    error = mean_distance(points, state, seen).numpy() * state.shift[:, 2].numpy()
    good = np.flatnonzero(error <= 2 * np.median(error))
    if len(good) <= ATLAS_FRAMES:
        return good
    evenly = good[np.linspace(0, len(good) - 1, ATLAS_FRAMES // 2).round().astype(int)]
    # Of an hour's video, a frame of each second tells enough to choose from.
    others = np.setdiff1d(good, evenly)
    others = others[:: -(-len(others) // (10 * ATLAS_FRAMES))]
    differing = choose_keyframes(
        state.frames(others), filled(points, state, seen).frames(others), ATLAS_FRAMES - len(evenly)
    )
    return np.union1d(evenly, others[differing])


def learn_look(
    head: HeadModel,
    points: FacePoints,
    begin: FaceState,
    seen: Observations,
    rows: Int[np.ndarray, " K"],
    pictures: list[Path],
    workers: int,
    advance: Callable[[], None] = lambda: None,
) -> Look:
    """Learn the look and the identity from frames `rows`, all of which show the head well.

    Args:
        begin: all frames by their landmarks.
        pictures: of all frames.
        advance: called after each of `LEARN_STEPS` steps.
    """
    state, landmarks, slots = begin.frames(rows), seen.of_points(points).frames(rows), seen.slots[rows]
    surfels = spread_surfels(head, points, begin.identity)
    visibility = Visibility(head, points, surfels, seen.centre, seen.framing.stored)
    frames = PhotometricFrames(surfels, visibility, [pictures[row] for row in rows], state, seen.centre, workers)
    settled = np.zeros(len(rows), dtype=bool)
    before = frames.learn(state, WHOLE[-1][0]).residual

    def move(state: FaceState, blur: float, steps: int, size: int) -> FaceState:
        atlas = frames.learn(state, blur).atlas
        for _ in range(steps):
            hessian, gradient = frames.equations(state, atlas, size)
            state = motion_step(points, state, landmarks, slots, settled, None, (gradient, hessian), workers)
            advance()
        return state

    whole = GAZE.stop + points.expression.shape[-1]
    for blur, steps in RIGID:
        state = move(state, blur, steps, POSE.stop)
    frames.look_again(state)
    for blur, steps in WHOLE:
        state = move(state, blur, steps, whole)
    outlined = np.unique(np.linspace(0, len(rows) - 1, KEYFRAMES).astype(int))
    mattes = [load_grey(seen.mattes[rows[k]]) for k in outlined]
    outline = Outline(head, points, landmarks.frames(outlined), mattes)
    for blur in BUNDLE:
        atlas = frames.learn(state, blur).atlas
        state = bundle_step(points, state, landmarks, frames, surfels, atlas, outline, outlined)
        advance()
        surfels = surfels.of_identity(state.identity)
        frames.of(surfels)
        state = move(state, blur, AFTER_BUNDLE, whole)
    frames.look_again(state)
    atlases = {blur: frames.learn(state, blur).atlas for blur in KEPT_BLURS}
    agreement = frames.agreement(state, atlases[min(KEPT_BLURS)])
    usual = [np.median(getattr(agreement, name)) for name in ("points", "spreads", "likeness")]
    return Look(state, atlases, np.array(usual), before)
