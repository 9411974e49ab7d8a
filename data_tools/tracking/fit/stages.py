"""The two fits as stages: from what was seen in the pictures to the state of all frames."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, Int

from data_tools.runs.pictures import load_grey
from data_tools.tracking.config import TrackConfig
from data_tools.tracking.fit.energy import Seen, filled
from data_tools.tracking.fit.face.face_points import FACE_MESH, FacePoints, face_points
from data_tools.tracking.fit.face.lid_points import usual_openings
from data_tools.tracking.fit.fit_result import state_arrays
from data_tools.tracking.fit.head_flow import SeenMotion
from data_tools.tracking.fit.initial_pose import FOCAL_PRIOR, first_guess
from data_tools.tracking.fit.outline import Outline
from data_tools.tracking.fit.pose_and_expression import PLACING_STEPS, fit_motion
from data_tools.tracking.fit.residuals import FaceState
from data_tools.tracking.fit.shape import choose_keyframes, fit_shape
from data_tools.tracking.observe.framing import Framing
from data_tools.tracking.observe.video import Sampled
from data_tools.tracking.observe.video_clock import even_rate
from flame_nerf.heads import HeadModel

LANDMARK_STEPS, OUTLINE_STEPS = 5, 4
SHAPE_STEPS = LANDMARK_STEPS + OUTLINE_STEPS


@dataclass(frozen=True)
class Observations:
    """What was seen in the kept frames."""

    kept: Int[np.ndarray, " T"]
    """Number of each frame among the sampled ones."""
    slots: Float[np.ndarray, " T"]
    """Time of each in ticks of the sampling clock."""
    seconds: Float[np.ndarray, " T"]
    landmarks: Float[np.ndarray, "T N 3"]
    """Pixels of all the detector's points; the third is depth in the same unit, or, for keypoints, likelihood. NaN
    where a keypoint was not found."""
    mattes: list[Path]
    framing: Framing
    """What the pictures show of the video's, and at what size."""
    irises: Bool[np.ndarray, "T 2"] | None = None
    """Whether each eye's iris was found in the picture; the landmarks have it there. None: they have the detector's."""
    fps: float = 25.0
    """Sampled pictures a second: those of the sampling clock, or of a slower video its own."""

    @staticmethod
    def of(
        sampled: Sampled,
        config: TrackConfig,
        kept: Int[np.ndarray, " T"],
        landmarks: Float[np.ndarray, "T N 3"],
        mattes: list[Path],
        irises: Bool[np.ndarray, "T 2"] | None = None,
    ) -> Observations:
        slots = np.asarray(sampled.slots, dtype=np.float64)[kept]
        rate = even_rate(sampled.slots, sampled.sources, config.fps)
        return Observations(kept, slots, slots / config.fps, landmarks, mattes, sampled.framing, irises, rate)

    @property
    def centre(self) -> Float[np.ndarray, "2"]:
        """Principal point: the middle of the video's picture, which need not be in the stored one."""
        return self.framing.centre

    def of_points(self, points: FacePoints) -> Seen:
        """The landmarks that a head model has."""
        found = torch.from_numpy(self.landmarks[:, points.index.numpy()])
        trust = None if points.detector is FACE_MESH else torch.nan_to_num(found[..., 2], nan=0.0)
        pixels = torch.nan_to_num(found[..., :2], nan=0.0)
        usual = None if points.lids is None else usual_openings(points.lids, pixels)
        irises = None if self.irises is None else torch.from_numpy(self.irises).to(pixels)
        size = pixels.new_tensor(self.framing.stored)
        return Seen(pixels, torch.from_numpy(self.centre), trust, usual, irises, size)

    def points_of(self, head: HeadModel) -> FacePoints:
        """A head model's landmark points as they are seen here: irises in the pictures move as far as the eyes do."""
        points = face_points(head)
        return points if self.irises is None else replace(points, gaze_seen=(1.0, 1.0))


def focal_prior(seen: Observations, config: TrackConfig) -> float:
    """Focal length to hold on to, pixels of the stored pictures."""
    if config.focal_px is not None:
        return config.focal_px * seen.framing.scale
    return FOCAL_PRIOR * max(seen.framing.film) * seen.framing.scale


def shape(
    head: HeadModel, seen: Observations, prior: float, focal_free: bool, advance: Callable[[], None]
) -> dict[str, np.ndarray]:
    """Identity and focal length from keyframes: by landmarks first, then by the outline too.

    Returns:
        The state of the keyframes as arrays.
    """
    points = seen.points_of(head)
    landmarks = seen.of_points(points)
    guess = first_guess(points, landmarks, prior)
    if landmarks.trust is not None:
        # With few points a frame for itself may go wrong; its neighbours put it right.
        guess = fit_motion(points, guess, landmarks, seen.slots)
    keys = choose_keyframes(guess, filled(points, guess, landmarks))
    state, landmarks = guess.frames(keys), landmarks.frames(keys)
    state = fit_shape(points, state, landmarks, prior, focal_free, LANDMARK_STEPS, on_step=advance)
    outline = Outline(head, points, landmarks, [load_grey(seen.mattes[key]) for key in keys])
    state = fit_shape(points, state, landmarks, prior, focal_free, OUTLINE_STEPS, outline.evidence, advance)
    return state_arrays(state)


def start(
    head: HeadModel, seen: Observations, prior: float, keyframes: dict[str, np.ndarray]
) -> tuple[FacePoints, FaceState]:
    """The head's landmark points, and where the head is in each frame to begin with, with the keyframes' shape."""
    points = seen.points_of(head)
    guess = first_guess(points, seen.of_points(points), prior)
    focal = float(keyframes["focal"])
    # The guess was made with the prior's focal length: the distance goes with it.
    shift = guess.shift * torch.tensor([1.0, 1.0, focal / prior], dtype=guess.shift.dtype)
    return points, replace(guess, shift=shift, identity=torch.from_numpy(keyframes["identity"]), focal=focal)


def place(
    points: FacePoints, begin: FaceState, seen: Observations, advance: Callable[[int], None], workers: int = 1
) -> dict[str, np.ndarray]:
    """The head in all frames, well enough to tell what of it is seen where."""
    fitted = fit_motion(
        points, begin, seen.of_points(points), seen.slots, advance, steps=PLACING_STEPS, workers=workers
    )
    return state_arrays(fitted)


def motion(
    points: FacePoints,
    begin: FaceState,
    seen: Observations,
    flow: SeenMotion | None,
    advance: Callable[[int], None],
    workers: int = 1,
) -> dict[str, np.ndarray]:
    """Pose, gaze and expressions of all frames, with the shape of the keyframes."""
    return state_arrays(fit_motion(points, begin, seen.of_points(points), seen.slots, advance, flow, workers=workers))
