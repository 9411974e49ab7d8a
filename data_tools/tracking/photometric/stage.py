"""Photometric registration as a stage of a run: the look first, then all frames, each window kept in the workspace."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from data_tools.runs.workspace import stage_key
from data_tools.tracking.fit.energy import Seen, face_height_px
from data_tools.tracking.fit.face.face_points import FacePoints
from data_tools.tracking.fit.fit_result import state_arrays, state_from
from data_tools.tracking.fit.pose_and_expression import put_frames, windows
from data_tools.tracking.fit.residuals import FaceState
from data_tools.tracking.fit.stages import Observations
from data_tools.tracking.photometric.atlas import SMALLEST_SPREAD
from data_tools.tracking.photometric.course import off_course
from data_tools.tracking.photometric.look import LEARN_STEPS, Look, choose_atlas_frames, learn_look
from data_tools.tracking.photometric.registration import (
    LOOKAHEAD,
    NORMAL_SPREADS,
    WINDOW,
    Clip,
    landmark_error,
    register_window,
    window_steps,
)
from data_tools.tracking.photometric.residuals import STRANGE_OFF
from data_tools.tracking.photometric.surfels import Surfels, Visibility, spread_surfels
from data_tools.tracking.run import Run
from flame_nerf import subject
from flame_nerf.geometry import perspective
from flame_nerf.heads import HeadModel

FEWEST_FRAMES = 10
"""A look is learned from so many well-fitted frames at least."""
LANDMARKS_WORSE = 0.2
"""By how much the clip's mean landmark error may grow, as a share of the detector's outlier distance, before the whole
registration is not believed. Detectors err alike in all frames, so some growth is right."""
PARTS = ("alone", "off", "strange")
"""What is kept of each window beside its state."""
MOST_STRANGE = 0.09
"""Share of a frame's points that show something else, beyond the clip's usual share, from which it is covered: a hand
on mouth and cheek or a mask makes 0.11 and more, a mouth as it is opened once in a clip and a face that is grave
once 0.085."""
UNCLEAR, UNCLEAR_STRANGE = 1.2, 0.03
"""Median difference to the atlas against the usual one, and share of strange points beyond it, from which a frame's
place is compared with the frames around: five of six of frames that are seen well stay below."""
CUT_OFF = 0.3
"""Share of a face's landmarks beyond the picture's edge from which its place is guessed: at 0.2 it is 0.4 % of the
face's height off, at 0.5 2 %."""
COMPARED = 16
"""One point of the face in so many says where it is."""
LEAST_LIKENESS = 0.7
"""Correlation of the usual frame with the atlas: below it the frames have no look in common."""
MOST_ALONE = 0.5
"""Share of frames that do not agree with the atlas, from which it is not this clip's."""


@dataclass(frozen=True)
class Registration:
    """How the registration of a clip went."""

    kept: bool
    """Whether its result is used; otherwise the landmarks' is."""
    alone: Bool[np.ndarray, " T"]
    """Frames that follow their landmarks alone."""
    covered: Bool[np.ndarray, " T"]
    """Others in which something lies before a part of the face."""
    off: Bool[np.ndarray, " T"]
    """Frames of both kinds, or others that are cut off or less clear than most, that lie off the course of those
    around: the head is not followed there."""
    before: float
    """Median difference between frames and atlas by landmarks alone, and"""
    after: float
    """after registration, shares of full scale."""
    old: FaceState
    """All frames by their landmarks."""

    @staticmethod
    def unused(before: float, after: float, old: FaceState) -> Registration:
        """One that is not believed: all frames follow their landmarks."""
        every = np.ones(len(old.shift), dtype=bool)
        return Registration(False, every, ~every, ~every, before, after, old)

    def record(self) -> subject.Registration | None:
        """What the subject says of it: None where it is not used."""
        return subject.Registration("photometric", 255 * self.after) if self.kept else None

    def summary(self, kept: Int[np.ndarray, " T"]) -> dict[str, Any]:
        """What a run's summary says of it.

        Args:
            kept: number of each frame among the sampled ones.
        """
        if not self.kept:
            return {}
        return {
            "registered": int((~self.alone).sum()),
            "by_landmarks": tuple(kept[self.alone].tolist()),
            "covered": tuple(kept[self.covered].tolist()),
            "off_course": tuple(kept[self.off].tolist()),
            "look_before": 255 * self.before,
            "look_after": 255 * self.after,
        }


def register(
    run: Run, key: str, head: HeadModel, points: FacePoints, seen: Observations, pictures: list[Path], old: FaceState
) -> tuple[str, FaceState, Registration]:
    """Register all frames with the person's own look.

    Args:
        key: of the stage before.
        pictures: of all frames, as stored.
        old: all frames by their landmarks.

    Returns:
        Key of what comes after, state of all frames, and how it went. The state is `old` where registration would have
        made it worse.
    """
    key = stage_key(key, {"stage": "photometric", "parts": PARTS, "strange": STRANGE_OFF})
    landmarks = seen.of_points(points)
    rows = choose_atlas_frames(points, old, landmarks)
    if len(rows) < FEWEST_FRAMES:
        return key, old, Registration.unused(np.nan, np.nan, old)
    workers = run.config.workers

    def learn(advance: Callable[..., None]) -> dict[str, Any]:
        look = learn_look(head, points, old, seen, rows, pictures, workers, advance)
        run.workspace.save("look", "state", **state_arrays(look.state))
        run.workspace.save("look", "look", **look.arrays())
        return {}

    run.workspace.run(run.bars, "look", "Learning the look", key, LEARN_STEPS, learn)
    look = Look.of(state_from(run.workspace.load("look", "state")), run.workspace.load("look", "look"))
    surfels = spread_surfels(head, points, old.identity).of_identity(look.state.identity)
    visibility = Visibility(head, points, surfels, seen.centre, seen.framing.stored)
    clip = Clip(points, landmarks, seen.slots, pictures, look, surfels, visibility, workers)
    begin = put_frames(replace(old, identity=look.state.identity, focal=look.state.focal), look.state, rows)

    def lay(advance: Callable[..., None]) -> dict[str, Any]:
        state = begin
        for which, settled, stop in windows(len(pictures), WINDOW, LOOKAHEAD):
            name, count = f"{which.start:06d}", stop - which.start - settled
            part = run.workspace.load("registered", name)
            if part is None:
                placed = bool(np.isin(np.arange(len(pictures))[which], rows).all())
                steps = _shares(count, window_steps(placed), advance)
                found = register_window(clip, state, old, which, settled, placed, steps)
                part = state_arrays(found.state) | {name: getattr(found, name) for name in PARTS}
                run.workspace.save("registered", name, **part)
            else:
                advance(count)
            state = put_frames(state, _state_of(part), which)
        return {}

    run.workspace.run(run.bars, "registered", "Registering frames", key, len(pictures), lay)
    state, alone, (off, strange) = begin, np.zeros(len(pictures), dtype=bool), np.zeros((2, len(pictures)))
    for which, settled, stop in windows(len(pictures), WINDOW, LOOKAHEAD):
        part = run.workspace.load("registered", f"{which.start:06d}")
        state = put_frames(state, _state_of(part), which)
        fresh = slice(which.start + settled, stop)
        alone[fresh], off[fresh], strange[fresh] = (part[name][settled : stop - which.start] for name in PARTS)
    after = float(np.median(off[~alone])) if (~alone).any() else np.inf
    believed = look.usual[2] >= LEAST_LIKENESS and after < look.before and alone.mean() <= MOST_ALONE
    kept = believed and _landmarks_agree(points, state, old, landmarks)
    if not kept:
        return key, old, Registration.unused(look.before, after, old)
    covered = covered_frames(strange, alone)
    doubtful = alone | covered | cut_off_frames(landmarks)
    astray = off_course(
        partial(surfels_in_picture, surfels.of_identity(state.identity), state, seen.centre),
        face_height_px(points, state).numpy(),
        seen.seconds,
        doubtful,
        unclear_frames(off, strange) & ~doubtful,
    )
    return key, state, Registration(True, alone, covered, astray, look.before, after, old)


def covered_frames(strange: Float[np.ndarray, " T"], alone: Bool[np.ndarray, " T"]) -> Bool[np.ndarray, " T"]:
    """Frames in which something lies before a part of the face.

    Args:
        strange: share of each frame's points that show something else than the atlas.
        alone: frames that do not show the person at all, which are told of already.
    """
    return ~alone & (strange > np.median(strange) + MOST_STRANGE)


def cut_off_frames(landmarks: Seen) -> Bool[np.ndarray, " T"]:
    """Frames in which much of the face is beyond the picture's edge."""
    return landmarks.outside().double().mean(dim=1).numpy() > CUT_OFF


def unclear_frames(off: Float[np.ndarray, " T"], strange: Float[np.ndarray, " T"]) -> Bool[np.ndarray, " T"]:
    """Frames that are less like the atlas than most: blurred, noisy, coarse.

    Args:
        off: median difference of each frame to the atlas.
        strange: share of each frame's points that show something else.
    """
    usual = max(float(np.median(off)), NORMAL_SPREADS * SMALLEST_SPREAD)
    return (off > UNCLEAR * usual) | (strange > np.median(strange) + UNCLEAR_STRANGE)


def surfels_in_picture(
    surfels: Surfels, state: FaceState, centre: Float[np.ndarray, "2"], row: int
) -> Float[np.ndarray, "N 2"]:
    """Pixels of some of the surfels, evenly spread, in one frame."""
    places = surfels.places(state.expression[row : row + 1])[0, ::COMPARED]
    camera = places @ state.rotation[row].numpy().T + state.shift[row].numpy()
    return perspective(camera, state.focal, centre)


def _state_of(part: dict[str, np.ndarray]) -> FaceState:
    return state_from({name: value for name, value in part.items() if name not in PARTS})


def _landmarks_agree(points: FacePoints, state: FaceState, old: FaceState, landmarks: Seen) -> bool:
    now, then = (landmark_error(points, one, landmarks).mean() for one in (state, old))
    return now <= then + LANDMARKS_WORSE * points.detector.outlier


def _shares(count: int, steps: int, advance: Callable[[int], None]) -> Callable[[], None]:
    """A function to be called `steps` times that moves a bar on by `count` in all."""
    called = 0

    def step() -> None:
        nonlocal called
        called += 1
        advance(count * called // steps - count * (called - 1) // steps)

    return step
