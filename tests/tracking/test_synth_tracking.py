"""The tracker and the face detector on the synthetic person, whose every number is known."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from data_tools.synth import SynthConfig, synthesise
from data_tools.tracking import pipeline, track
from flame_nerf.subject import Subject, load_subject
from flame_nerf.subject.rigid import rigid_fit

pytest.importorskip("mediapipe", reason="mediapipe is not installed: pip install 'flame-nerf[track]'")
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("synth") / "subject"
    synthesise(folder, SynthConfig(frames=50, view_moments=1, novel_frames=6), silent=True)
    return folder


def test_the_face_mesh_finds_the_face(root):
    from data_tools.open_head.detection import detect, open_detector
    from data_tools.runs.pictures import load_picture

    subject, error = load_subject(root), []
    with open_detector() as detector:
        for frame in subject.frames:
            found = detect(detector, np.ascontiguousarray(load_picture(frame.file_path)))
            if found is not None:
                error.append(np.linalg.norm(found - subject.track.landmarks2d[frame.timestep], axis=1))
    assert len(error) >= 0.95 * len(subject.frames)
    # Found where it is: the median point within about a hundredth of the face's height.
    assert np.median(error) < 2.5


@dataclass(frozen=True)
class Comparison:
    """A track against the truth, frame by frame."""

    pose_deg: np.ndarray
    """Angle between tracked and true head rotations, one constant rotation of the head frame taken out."""
    rigid_mm: np.ndarray
    """Mean distance of the face's vertices after the best rigid alignment, and"""
    similar_mm: np.ndarray
    """after the best one with a scale: one camera cannot tell a small head from a far one."""
    scale: np.ndarray
    """That scale: of the true head over the tracked one."""


def compare(truth: Subject, tracked: Subject) -> Comparison:
    rows = [int(frame.file_path.stem) for frame in tracked.frames]
    exact = np.stack([truth.frames[row].c2w[:3, :3] for row in rows])
    found = np.stack([frame.c2w[:3, :3] for frame in tracked.frames])
    turned = found @ exact.transpose(0, 2, 1)
    u, _, vt = np.linalg.svd(turned.sum(axis=0))
    left = (u @ vt).T @ turned
    pose = np.degrees(np.arccos(np.clip((np.trace(left, axis1=1, axis2=2) - 1) / 2, -1, 1)))
    face = np.unique(truth.track.faces[truth.track.region_faces("skin", "lips", "eyelids")])
    rigid, similar, scales = [], [], []
    for row, frame in zip(rows, tracked.frames, strict=True):
        goal = truth.track.vertices[row, face].astype(float)
        mesh = tracked.track.vertices[frame.timestep, face].astype(float)
        place = rigid_fit(mesh[None], goal)[0]
        laid = mesh @ place[:3, :3].T + place[:3, 3]
        goal_spread, spread = goal - goal.mean(axis=0), laid - laid.mean(axis=0)
        scale = (goal_spread * spread).sum() / (spread * spread).sum()
        rigid.append(np.linalg.norm(laid - goal, axis=1).mean())
        scales.append(scale)
        similar.append(np.linalg.norm(scale * spread - goal_spread, axis=1).mean())
    return Comparison(pose, 1000 * np.array(rigid), 1000 * np.array(similar), np.array(scales))


@pytest.mark.parametrize(
    "landmarks, pose_deg, rigid_mm, similar_mm", [("detected", 1.8, 5.0, 4.0), ("exact", 0.9, 4.0, 2.5)]
)
def test_the_tracker_against_the_truth(root, tmp_path, monkeypatch, landmarks, pose_deg, rigid_mm, similar_mm):
    """From the film alone; and with true landmarks, which leaves the fit's own error."""
    truth = load_subject(root)

    def true_landmarks(pictures, boxes, block, on_frame, cuts):
        points = truth.track.landmarks2d[block.start : block.stop]
        return np.concatenate([points, np.zeros_like(points[..., :1])], axis=-1)

    if landmarks == "exact":
        monkeypatch.setattr(pipeline, "find_landmarks", true_landmarks)
    summary = track(root / "film.mp4", tmp_path / "tracked", silent=True)
    assert summary.frames == 50 and not summary.dropped
    result = compare(truth, load_subject(tmp_path / "tracked"))
    for name in ("pose_deg", "rigid_mm", "similar_mm", "scale"):
        print(f"{name}: mean {getattr(result, name).mean():.2f}, worst frame {getattr(result, name).max():.2f}")
    assert result.pose_deg.mean() < pose_deg
    assert result.rigid_mm.mean() < rigid_mm
    assert result.similar_mm.mean() < similar_mm
    # Tracked heads have the mean head's size, and this person's own is near it.
    np.testing.assert_allclose(result.scale, 1.0, atol=0.08)


def test_the_comparison_itself(root):
    """A track that is the truth in a turned, shifted head frame has no error; one that is turned in a frame has it."""
    import dataclasses

    from torch import tensor

    from flame_nerf.geometry import axis_angle_to_matrix

    truth = load_subject(root)
    turn = np.eye(4)
    turn[:3, :3], turn[:3, 3] = axis_angle_to_matrix(tensor([0.1, -0.2, 0.05])).double().numpy(), (0.01, 0.02, 0.03)
    moved = dataclasses.replace(
        truth,
        frames=tuple(dataclasses.replace(frame, c2w=turn @ frame.c2w) for frame in truth.frames),
        track=dataclasses.replace(truth.track, vertices=1.2 * (truth.track.vertices @ turn[:3, :3].T + turn[:3, 3])),
    )
    result = compare(truth, moved)
    assert result.pose_deg.max() < 0.05 and result.similar_mm.max() < 1e-2 and result.rigid_mm.min() > 3
    np.testing.assert_allclose(result.scale, 1 / 1.2, rtol=1e-4)
    nod = np.eye(4)
    nod[:3, :3] = axis_angle_to_matrix(tensor([np.radians(3.0), 0.0, 0.0])).double().numpy()
    frames = (dataclasses.replace(truth.frames[0], c2w=nod @ truth.frames[0].c2w), *truth.frames[1:])
    assert compare(truth, dataclasses.replace(truth, frames=frames)).pose_deg[0] == pytest.approx(3.0, abs=0.1)
