"""Every frame of a clip laid against the person's look, window by window.

Landmarks, priors and smoothness stay in the energy. A frame that does not show what the atlas expects (too bright, too
dark, covered, cut off), or whose landmarks would come to lie much farther off, follows its landmarks alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float

from data_tools.tracking.fit.energy import Seen, mean_distance, mean_face_px
from data_tools.tracking.fit.face.face_points import FacePoints
from data_tools.tracking.fit.pose_and_expression import motion_step
from data_tools.tracking.fit.residuals import GAZE, POSE, FaceState
from data_tools.tracking.photometric.look import Look
from data_tools.tracking.photometric.residuals import Agreement, PhotometricFrames
from data_tools.tracking.photometric.surfels import Surfels, Visibility

RIGID, WHOLE = ((4.0, 2), (2.0, 2)), ((2.0, 2), (1.0, 3))
"""Blurs of the crops in pixels, and steps at each: of the pose alone, then of pose and expressions."""
WINDOW, LOOKAHEAD = 200, 20
"""Frames registered together, and those beyond that only steady the window's end: bounds memory."""
FEWEST_POINTS, FEWEST_SHARE = 80, 0.25
"""A frame that shows fewer known points, or less of them than this share of the usual, is cut off or turned away."""
UNLIKE_SPREADS = 2.0
"""Median residual against the usual frame's from which a frame is covered or blurred: it does not show this skin."""
NORMAL_SPREADS = 0.67
"""The usual frame's median residual, spreads, at least: that of a frame whose differences are spread as the atlas says.
Of a head that hardly moves before a good camera all frames are far more alike, and one that turns looked foreign."""
DIMMEST, GLARING = 0.35, 2.5
"""Brightness against the atlas, between which a frame's light is believed,"""
LEAST_LIKENESS = 0.6
"""and share of the usual correlation with the atlas that it must have: overexposed skin has no features left."""
LANDMARKS_WORSE = 0.4
"""By how much a frame's landmarks may come to lie farther off than by landmarks alone: this share of the outlier
distance of what found them."""
ALONE_STEPS = 3
"""Steps of frames that go back to their landmarks."""


@dataclass(frozen=True)
class Registered:
    """T frames after registration."""

    state: FaceState
    alone: Bool[np.ndarray, " T"]
    """Frames that follow their landmarks alone."""
    off: Float[np.ndarray, " T"]
    """Median difference of each frame to the atlas, share of full scale."""
    strange: Float[np.ndarray, " T"]
    """Share of each frame's points that show something else than the atlas."""


@dataclass(frozen=True)
class Clip:
    """What all windows of a clip share."""

    points: FacePoints
    landmarks: Seen
    """Of all frames."""
    slots: Float[np.ndarray, " T"]
    """Time of each frame in ticks of the sampling clock."""
    pictures: list[Path]
    look: Look
    surfels: Surfels
    """Of the look's identity."""
    visibility: Visibility
    workers: int = 1


def register_window(
    clip: Clip,
    begin: FaceState,
    old: FaceState,
    which: slice,
    settled: int,
    placed: bool,
    on_step: Callable[[], None] = lambda: None,
) -> Registered:
    """Register the frames of one window.

    Args:
        begin: all frames as they start, with the look's identity.
        old: all frames by their landmarks alone, with the identity that fitted them then.
        which: the window's frames.
        settled: how many of them, the first ones, are done.
        placed: whether they all stand where they stood when the look was learned, so that their pose is known.
        on_step: called after each of `window_steps` steps.
    """
    points, look = clip.points, clip.look
    state, landmarks, slots = begin.frames(which), clip.landmarks.frames(which), clip.slots[which]
    centre = landmarks.centre.numpy()
    frames = PhotometricFrames(clip.surfels, clip.visibility, clip.pictures[which], state, centre, clip.workers)
    done = np.arange(len(frames)) < settled
    alone = np.zeros(len(frames), dtype=bool)
    whole = GAZE.stop + points.expression.shape[-1]

    def move(state: FaceState, blur: float, steps: int, size: int) -> FaceState:
        for _ in range(steps):
            hessian, gradient = frames.equations(state, look.atlases[blur], size)
            hessian[alone], gradient[alone] = 0, 0
            state = motion_step(points, state, landmarks, slots, done, None, (gradient, hessian), clip.workers)
            on_step()
        return state

    for blur, steps in () if placed else RIGID:
        state = move(state, blur, steps, POSE.stop)
    if not placed:
        frames.look_again(state)
    # What does not show the head at all must not bend the face.
    alone = unlike(frames.agreement(state, look.sharpest), look.usual, 2 * UNLIKE_SPREADS)
    for blur, steps in WHOLE:
        state = move(state, blur, steps, whole)
    agreement = frames.agreement(state, look.sharpest)
    alone = unlike(agreement, look.usual, UNLIKE_SPREADS)
    alone |= landmark_error(points, state, landmarks) > _landmark_bound(points, old.frames(which), landmarks)
    if alone.any():
        state = _let_go(points, state, old.frames(which), landmarks, slots, alone & ~done)
    return Registered(state, alone, agreement.off, agreement.strange)


def window_steps(placed: bool) -> int:
    """Steps that `register_window` takes."""
    return sum(steps for _, steps in (WHOLE if placed else RIGID + WHOLE))


def _let_go(
    points: FacePoints,
    state: FaceState,
    old: FaceState,
    landmarks: Seen,
    slots: Float[np.ndarray, " T"],
    alone: Bool[np.ndarray, " T"],
) -> FaceState:
    """Put some frames back to where their landmarks had them, and fit them to these again, tied to their neighbours."""
    names = ("rotation", "shift", "gaze", "expression")
    state = replace(state, **{name: getattr(state, name).clone() for name in names})
    for name in names:
        getattr(state, name)[alone] = getattr(old, name)[alone]
    for _ in range(ALONE_STEPS):
        state = motion_step(points, state, landmarks, slots, ~alone)
    return state


def landmark_error(points: FacePoints, state: FaceState, seen: Seen) -> Float[np.ndarray, " T"]:
    """Mean landmark distance of each frame, fraction of the mean face's height: the unit of the detector's outliers."""
    return (mean_distance(points, state, seen) / mean_face_px(points, state)).numpy()


def _landmark_bound(points: FacePoints, old: FaceState, seen: Seen) -> Float[np.ndarray, " T"]:
    return landmark_error(points, old, seen) + LANDMARKS_WORSE * points.detector.outlier


def unlike(agreement: Agreement, usual: Float[np.ndarray, "3"], most_spreads: float) -> Bool[np.ndarray, " T"]:
    """Frames that do not show what the atlas expects.

    Args:
        usual: points, spreads and likeness of the usual frame.
        most_spreads: median residual against the usual frame's from which a frame is another picture.
    """
    points, spreads, likeness = usual
    return (
        (agreement.points < max(FEWEST_POINTS, FEWEST_SHARE * points))
        | ~(agreement.spreads <= most_spreads * max(spreads, NORMAL_SPREADS))
        | (agreement.gain < DIMMEST)
        | (agreement.gain > GLARING)
        | ~(agreement.likeness >= LEAST_LIKENESS * likeness)
    )
