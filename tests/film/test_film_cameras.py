"""Cameras of films: the mean of a clip's, orbits about the head, camera paths as Nerfstudio reads them, and times."""

import json
import math

import numpy as np
import pytest
import torch
from camera_ring import ring
from nerfstudio.cameras.camera_paths import get_path_from_json
from synthetic import DISTANCE, look_at_origin

from flame_nerf.film import (
    FilmError,
    mean_camera,
    orbit_cameras,
    play_times,
    write_camera_path,
)


def test_mean_of_one_camera_is_that_camera():
    camera = ring(yaws=(0.3,))
    mean = mean_camera(camera)
    torch.testing.assert_close(mean.camera_to_worlds, camera.camera_to_worlds)
    assert float(mean.fy[0]) == pytest.approx(1.7 * 64)


def test_mean_camera_of_a_symmetric_ring_looks_from_its_middle():
    mean = mean_camera(ring())
    backward = mean.camera_to_worlds[0, :, 2]
    expected = torch.from_numpy(look_at_origin(0.0, math.atan2(math.sin(0.1), math.cos(0.1) * np.cos(0.3))))
    assert float(backward[0]) == pytest.approx(0.0, abs=1e-6)
    assert float(backward @ expected[:3, 2].float()) > 0.999
    assert torch.det(mean.camera_to_worlds[0, :, :3]) == pytest.approx(1.0, abs=1e-5)


def test_a_principal_point_off_the_centre_becomes_a_turn():
    camera = ring(yaws=(0.2,), cx=25.0, cy=40.0)
    seen = camera.generate_rays(camera_indices=0, coords=torch.tensor([[32.0, 32.0]])).directions[0]
    mean = mean_camera(camera)
    assert float(-mean.camera_to_worlds[0, :, 2] @ seen) == pytest.approx(1.0, abs=1e-6)
    assert float(mean.cx[0]) == 32.0


def test_orbit_starts_at_the_mean_camera_and_turns_rigidly_about_the_centre():
    cameras, centre = ring(), torch.tensor([0.01, -0.02, 0.03])
    path = orbit_cameras(cameras, centre, 120, yaw_deg=40, pitch_deg=8)
    poses = path.camera_to_worlds.double()
    torch.testing.assert_close(poses[0], mean_camera(cameras).camera_to_worlds[0].double(), atol=1e-6, rtol=0)
    offset = poses[:, :, 3] - centre
    torch.testing.assert_close(offset.norm(dim=-1), offset[0].norm().expand(120), atol=1e-6, rtol=0)
    seen = torch.einsum("nij,ni->nj", poses[:, :, :3], -offset)
    torch.testing.assert_close(seen, seen[0].expand(120, 3), atol=1e-6, rtol=0)
    yaw = torch.atan2(offset[:, 0], offset[:, 2]) - torch.atan2(offset[0, 0], offset[0, 2])
    assert float(torch.rad2deg(yaw.max())) == pytest.approx(40, abs=0.1)
    assert float(torch.rad2deg(yaw.min())) == pytest.approx(-40, abs=0.1)
    elevation = torch.asin(offset[:, 1] / offset[0].norm())
    assert float(torch.rad2deg(elevation.max() - elevation[0])) == pytest.approx(8, abs=0.1)
    steps = (poses - poses.roll(1, 0))[:, :, 3].norm(dim=-1)
    assert float(steps[0]) < 1.2 * float(steps[1]), "the loop closes without a jump"


def test_orbit_of_another_size_keeps_the_head_in_the_picture():
    wide = orbit_cameras(ring(), torch.zeros(3), 4, width=320, height=180)
    assert (int(wide.width[0]), int(wide.height[0])) == (320, 180)
    assert float(wide.fy[0]) == pytest.approx(1.7 * 180)
    assert int(orbit_cameras(ring(), torch.zeros(3), 4, width=128).height[0]) == 128


def test_camera_path_round_trip_through_nerfstudio(tmp_path):
    times = [0.0, 0.25, 0.5, 1.0]
    path = orbit_cameras(ring(), torch.zeros(3), 4, width=96, height=64, times=times)
    written = write_camera_path(path, tmp_path / "paths" / "orbit.json", fps=8)
    document = json.loads(written.read_text())
    assert document["seconds"] == 0.5
    read = get_path_from_json(document)
    torch.testing.assert_close(read.camera_to_worlds, path.camera_to_worlds)
    torch.testing.assert_close(read.fy.float(), path.fy, rtol=1e-5, atol=0)
    torch.testing.assert_close(read.fx.float(), path.fx, rtol=1e-5, atol=0)
    assert (int(read.image_width[0]), int(read.image_height[0])) == (96, 64)
    assert read.times.reshape(-1).tolist() == times


def test_camera_path_without_times_has_none(tmp_path):
    written = write_camera_path(orbit_cameras(ring(), torch.zeros(3), 3), tmp_path / "orbit.json", fps=25)
    assert get_path_from_json(json.loads(written.read_text())).times is None


def test_times_and_cameras_must_be_as_many():
    with pytest.raises(FilmError, match="2 times for a camera path of 3"):
        orbit_cameras(ring(), torch.zeros(3), 3, times=[0.0, 1.0])


def test_play_times_go_there_and_back_at_the_clip_s_speed():
    assert play_times(5, 10) == [0, 0.25, 0.5, 0.75, 1, 0.75, 0.5, 0.25, 0, 0.25]
    assert play_times(1, 3) == [0.0, 0.0, 0.0]


def test_the_ring_is_at_the_distance_the_oracles_assume():
    assert ring().camera_to_worlds[:, :, 3].norm(dim=-1).tolist() == pytest.approx([DISTANCE] * 3)
