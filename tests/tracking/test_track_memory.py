"""Memory of a track does not grow with its frames but for what is asked of each: parameters and landmarks."""

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from data_tools.tracking import result
from data_tools.tracking.camera import FLIP
from data_tools.tracking.config import TrackConfig
from data_tools.tracking.fit.closures import lid_curves
from data_tools.tracking.fit.energy import fitted_pixels, mean_distance
from data_tools.tracking.fit.face.face_points import face_points
from data_tools.tracking.fit.fit_result import pose_head
from data_tools.tracking.fit.residuals import FaceState
from data_tools.tracking.fit.stages import Observations
from data_tools.tracking.observe.framing import whole_frames
from data_tools.tracking.observe.landmarks import FoundFace
from flame_nerf.heads import load_head

FEW, MANY = 60, 240
LANDMARKS = 478 * 3 * 8
"""Bytes of a frame's landmarks."""


class _LargestTensor(TorchDispatchMode):
    """Bytes of the largest tensor that is made meanwhile."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        made = operation(*args, **(kwargs or {}))
        known = {one.untyped_storage().data_ptr() for one in tree_leaves((args, kwargs)) if torch.is_tensor(one)}
        new = (one for one in tree_leaves(made) if torch.is_tensor(one))
        sizes = [one.nbytes for one in new if one.untyped_storage().data_ptr() not in known]
        self.bytes = max([self.bytes, *sizes])
        return made


def _fit(frames: int, points) -> FaceState:
    turn = torch.from_numpy(FLIP).expand(frames, -1, -1).clone()
    expression = torch.linspace(0, 0.5, frames, dtype=torch.float64)[:, None].repeat(1, points.expression.shape[-1])
    return FaceState(
        rotation=turn,
        shift=torch.tensor([[0.0, 0.0, 0.9]], dtype=torch.float64).repeat(frames, 1),
        gaze=torch.zeros(frames, 2, 2, dtype=torch.float64),
        expression=expression,
        identity=torch.zeros(points.shape.shape[-1], dtype=torch.float64),
        focal=500.0,
    )


def _seen(landmarks: np.ndarray) -> Observations:
    frame = np.arange(len(landmarks))
    return Observations(frame, frame.astype(float), frame / 25, landmarks, [], whole_frames((256, 256), 512))


def _peak(work) -> int:
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("judged", ["the head", "the lids"])
def test_judging_a_fit_holds_a_few_frames_meshes_and_derivatives(judged):
    head = load_head()
    points = face_points(head)

    def largest(frames: int) -> int:
        state = _fit(frames, points)
        landmarks = np.zeros((frames, 478, 3))
        landmarks[:, points.index.numpy(), :2] = fitted_pixels(points, state, torch.full((2,), 128.0).double())
        seen = _seen(landmarks)
        with _LargestTensor() as made:
            if judged == "the head":
                fitted = pose_head(head, points, state, seen.seconds, seen.centre)
                assert np.isfinite([fitted.pixels_per_metre(frame) for frame in range(frames)]).all()
            else:
                mean_distance(points, state, seen.of_points(points))
                assert lid_curves(points, state, seen.of_points(points)).shown.all()
        return made.bytes

    assert largest(MANY) - largest(FEW) <= 1.1 * (MANY - FEW) * LANDMARKS


def test_meshes_of_a_long_track_wait_on_disk_to_be_written(monkeypatch):
    head = load_head()
    points = face_points(head)
    monkeypatch.setattr(result, "POSED_MEMORY", 2**20)

    def peak(frames: int) -> int:
        state = _fit(frames, points)
        seen = _seen(np.zeros((frames, 478, 3)))
        fitted = pose_head(head, points, state, seen.seconds, seen.centre)
        zeros, names = np.zeros(frames), [Path(f"{frame:05d}.png") for frame in range(frames)]
        quality = result.Quality(zeros, zeros, zeros, np.zeros((frames, 3)), (), np.zeros(0))
        kept = np.arange(frames)[1:]

        def put_together() -> None:
            subject = result.subject_of(
                Path(), Path("v.mp4"), TrackConfig(), head, fitted, seen, quality, kept, names, names, 100
            )
            assert np.array_equal(subject.track.vertices[-1], fitted.vertices[frames - 1])

        return _peak(put_together)

    assert peak(MANY) - peak(FEW) <= 2 * (MANY - FEW) * LANDMARKS


def test_a_face_is_followed_through_a_long_video_frame_by_frame():
    def peak(frames: int) -> int:
        number = np.arange(0, frames, 5)
        centre, size = np.full((len(number), 2), 128.0), np.full(len(number), 60.0)
        found = FoundFace(np.array([256, 256]), number, centre, size, 0)
        return _peak(lambda: found.boxes(range(frames), whole_frames((256, 256), 512)))

    assert peak(16 * FEW) - peak(4 * FEW) <= 12 * FEW * LANDMARKS / 10


def test_a_face_that_is_away_is_present_as_long_as_a_search_may_have_missed_it():
    number = np.array([0, 5, 100])
    found = FoundFace(np.array([256, 256]), number, np.full((3, 2), 128.0), np.full(3, 60.0), 0)
    present = found.boxes(range(120), whole_frames((256, 256), 512)).present
    assert np.flatnonzero(np.diff(present.astype(int))).tolist() == [15, 89, 110]
