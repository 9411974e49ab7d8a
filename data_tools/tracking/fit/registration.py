"""Registration of all frames with the person's own look.

First the look is learned from some hundred frames at most, in turns with where the head is in them and with who it is;
then every frame of the clip is laid against it, window by window. Landmarks, priors and smoothness stay in the energy.
A frame that does not show what the atlas expects (too bright, too dark, covered, cut off) follows its landmarks alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, Int

from data_tools.tracking.energy import Seen, filled, mean_distance
from data_tools.tracking.face_points import FacePoints
from data_tools.tracking.fit.atlas import Atlas, Learned
from data_tools.tracking.fit.bundle import bundle_step
from data_tools.tracking.fit.photometric import Agreement, PhotometricFrames
from data_tools.tracking.fit.surfels import Surfels, Visibility, spread_surfels
from data_tools.tracking.fit_motion import motion_step, put_frames, windows
from data_tools.tracking.fit_shape import KEYFRAMES, choose_keyframes
from data_tools.tracking.fit_stages import Observations
from data_tools.tracking.outline import Outline
from data_tools.tracking.pictures import load_grey
from data_tools.tracking.residuals import POSE, FaceState
from flame_nerf.heads import HeadModel

ATLAS_FRAMES = 200
"""Frames that the look and the identity are taken from, at most."""
RIGID = ((4.0, 4), (2.0, 3), (1.0, 3))
"""Blurs of the crops in pixels, and steps at each: of the pose alone,"""
WHOLE = ((2.0, 4), (1.0, 4))
"""and then of pose and expressions."""
BUNDLE = (2.0, 1.0)
"""Blurs at which the identity is fitted, one step each, with"""
AFTER_BUNDLE = 2
"""steps of the frames after it."""
ALL_RIGID, ALL_WHOLE = ((4.0, 2), (2.0, 2)), ((2.0, 2), (1.0, 3))
"""The same for every frame of the clip, against the finished atlas."""
WINDOW, LOOKAHEAD = 200, 20
"""Frames registered together, and those beyond that only steady the window's end."""
LEARN_STEPS = sum(n for _, n in RIGID + WHOLE) + len(BUNDLE) * (1 + AFTER_BUNDLE)
FEWEST_POINTS, FEWEST_SHARE = 80, 0.25
"""A frame that shows fewer known points, or less of them than this share of the usual, is cut off or turned away."""
UNLIKE_SPREADS = 2.0
"""Median residual against the usual frame's from which a frame is covered or blurred: it does not show this skin."""
DIMMEST, GLARING = 0.35, 2.5
"""Brightness against the atlas, between which a frame's light is believed,"""
LEAST_LIKENESS = 0.6
"""and share of the usual correlation with the atlas that it must have: overexposed skin has no features left."""
LANDMARKS_WORSE = 0.008
"""By how much a frame's landmarks may come to lie farther off than by landmarks alone, fraction of the face's height."""
ALONE_STEPS = 3
"""Steps of frames that go back to their landmarks."""


@dataclass(frozen=True)
class Look:
    """What one clip's person looks like, as learned from some of its frames."""

    surfels: Surfels
    """With the identity that was fitted."""
    atlases: dict[float, Atlas]
    """By blur."""
    usual: tuple[float, float, float]
    """Points, spreads and likeness of the usual frame, at the sharpest blur."""


def choose_atlas_frames(points: FacePoints, state: FaceState, seen: Seen) -> Int[np.ndarray, "K"]:
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
    rows: Int[np.ndarray, "K"],
    pictures: list[Path],
    workers: int,
    advance: Callable[[], None] = lambda: None,
) -> tuple[FaceState, list[Atlas], float, float]:
    """Learn the look and the identity from frames `rows`.

    Args:
        begin: all frames by their landmarks.
        pictures: of all frames.
        advance: called after each of `LEARN_STEPS` steps.

    Returns:
        State of those frames; atlases at the blurs that registration needs; median difference to the atlas before and
        after, as shares of full scale.
    """
    state, landmarks, slots = begin.frames(rows), seen.of_points(points).frames(rows), seen.slots[rows]
    surfels = spread_surfels(head, points, begin.identity)
    visibility = Visibility(head, points, surfels, seen.centre, (seen.width, seen.height))
    frames = PhotometricFrames(surfels, visibility, [pictures[row] for row in rows], state, seen.centre, workers)
    settled = np.zeros(len(rows), dtype=bool)
    before = frames.learn(state, WHOLE[-1][0]).residual

    def move(state: FaceState, blur: float, steps: int, size: int) -> FaceState:
        atlas = frames.learn(state, blur).atlas
        for _ in range(steps):
            hessian, gradient = frames.equations(state, atlas, size)
            state = motion_step(points, state, landmarks, slots, settled, more=(gradient, hessian))
            advance()
        return state

    whole = POSE.stop + 4 + points.expression.shape[-1]
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
    learned = [frames.learn(state, blur) for blur in blurs_of_clip()]
    return state, [one.atlas for one in learned], before, learned[-1].residual


def blurs_of_clip() -> tuple[float, ...]:
    """Blurs at which frames are laid against the atlas, the sharpest last."""
    return tuple(sorted({blur for blur, _ in ALL_RIGID + ALL_WHOLE}, reverse=True))


def usual_frame(
    head: HeadModel, points: FacePoints, look: Look, state: FaceState, frames: PhotometricFrames
) -> tuple[float, float, float]:
    agreement = frames.agreement(state, look.atlases[min(look.atlases)])
    return tuple(float(np.median(getattr(agreement, name))) for name in ("points", "spreads", "likeness"))


def unlike(agreement: Agreement, usual: tuple[float, float, float]) -> Bool[np.ndarray, "T"]:
    """Frames that do not show what the atlas expects.

    Args:
        usual: points, spreads and likeness of the usual frame.
    """
    points, spreads, likeness = usual
    return (
        (agreement.points < max(FEWEST_POINTS, FEWEST_SHARE * points))
        | ~(agreement.spreads <= UNLIKE_SPREADS * spreads)
        | (agreement.gain < DIMMEST)
        | (agreement.gain > GLARING)
        | ~(agreement.likeness >= LEAST_LIKENESS * likeness)
    )
