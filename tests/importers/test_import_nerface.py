"""NeRFace's data with the real tracker: the mesh is found again, the cameras stay NeRFace's."""

import json
import math

import numpy as np
import pytest
from import_writers import save
from track_clips import carphone, pictures_of, steady, write_video

from data_tools.importers import ImportConfig, import_data
from data_tools.runs.pictures import load_picture
from data_tools.tracking import TrackConfig, track
from flame_nerf.subject import load_subject

pytest.importorskip("mediapipe", reason="mediapipe is not installed: pip install 'flame-nerf[track]'")
UNIT = 1.7


@pytest.mark.slow
def test_nerface_s_frames_are_tracked_and_its_cameras_kept(tmp_path):
    """A clip tracked once stands for NeRFace's own tracking, in another unit and with a negative focal length."""
    clip = write_video(tmp_path / "clip.mp4", pictures_of(carphone(), 24), steady(24))
    track(clip, tmp_path / "first", TrackConfig(picture_format="png"), silent=True)
    first = load_subject(tmp_path / "first")
    frames = []
    for row, frame in enumerate(first.frames):
        save(tmp_path / "src" / "images" / f"f_{row:04d}.png", load_picture(frame.file_path))
        c2w = frame.c2w.copy()
        c2w[:3, 3] *= UNIT
        c2w[:, 0] *= -1
        frames.append(
            {"file_path": f"./images/f_{row:04d}", "transform_matrix": c2w.tolist(), "expression": [0.1 * row] * 76}
        )
    top = {
        "camera_angle_x": 2 * math.atan(first.width / first.fl_x / 2),
        "intrinsics": [-first.fl_x, first.fl_y, first.cx / first.width, first.cy / first.height],
    }
    for name, part in (("train", frames[:-4]), ("val", frames[-4:-2]), ("test", frames[-2:])):
        (tmp_path / "src" / f"transforms_{name}.json").write_text(json.dumps(top | {"frames": part}))

    summary = import_data("auto", tmp_path / "src", tmp_path / "dst", ImportConfig(), silent=True)
    subject = load_subject(tmp_path / "dst")
    assert summary.format == "NeRFace" and summary.outline_iou > 0.8
    assert float(summary.facts["scale"].split()[0]) == pytest.approx(UNIT, rel=0.1)
    assert subject.has_masks and subject.track.expression.shape[1] == 76
    assert len(subject.frames) == len(frames) and summary.facts["head"] == "stands still"
    # Against each other the cameras are NeRFace's.
    scale = float(summary.facts["scale"].split()[0]) / UNIT
    ours = np.linalg.inv(subject.frames[0].c2w) @ subject.frames[9].c2w
    theirs = np.linalg.inv(first.frames[0].c2w) @ first.frames[9].c2w
    assert np.abs(theirs - np.eye(4)).max() > 5e-3
    assert np.abs(ours[:3, :3] - theirs[:3, :3]).max() < 1e-5
    assert np.abs(scale * ours[:3, 3] - theirs[:3, 3]).max() < 1e-4
