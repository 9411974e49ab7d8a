"""Directions that colours are asked for stay where training cameras looked from."""

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from synthetic import make_subject

from flame_nerf.dataparser import FlameNerfDataParserConfig
from flame_nerf.methods import flame_nerf_cpu
from flame_nerf.render.observed.view_cone import SLACK, ViewCone

CENTRE = torch.tensor([0.0, 0.1, 0.0])


def camera(yaw_deg: float, distance: float = 0.6) -> torch.Tensor:
    """A camera beside the head; only where it stands matters."""
    yaw = torch.deg2rad(torch.tensor(yaw_deg))
    c2w = torch.eye(4)[:3].clone()
    c2w[:, 3] = CENTRE + distance * torch.stack([yaw.sin(), yaw.new_zeros(()), yaw.cos()])
    return c2w


def looking(yaw_deg: float, at: torch.Tensor = CENTRE) -> torch.Tensor:
    return torch.nn.functional.normalize(at - camera(yaw_deg)[:, 3], dim=0)


@pytest.mark.parametrize("yaw", [-60.0, -21.0, -10.0, 0.0, 15.0, 22.0, 75.0])
def test_what_was_seen_stays_and_the_rest_goes_to_the_border(yaw):
    seen = ViewCone(torch.stack([camera(angle) for angle in (-20.0, -5.0, 5.0, 20.0)]), CENTRE)
    found = seen.nearest(CENTRE[None], looking(yaw)[None])[0]
    limit = 20.0 + float(torch.rad2deg(torch.tensor(SLACK)))
    expected = looking(max(-limit, min(limit, yaw)))
    torch.testing.assert_close(found, expected, atol=2e-4, rtol=0)


def test_each_point_has_its_own_cone():
    seen = ViewCone(torch.stack([camera(-10.0), camera(10.0)]), CENTRE)
    # Seen from a training camera, a point at the side is seen under another angle than the centre, and that stays.
    at = CENTRE + torch.tensor([-0.1, 0.05, 0.05])
    direction = looking(10.0, at)
    assert float(torch.rad2deg(torch.acos(direction @ looking(0.0)))) > 15
    torch.testing.assert_close(seen.nearest(at[None], direction[None])[0], direction)


@given(st.integers(0, 2**32), st.floats(0.3, 3.0))
def test_directions_stay_of_unit_length_and_in_the_cone(seed, distance):
    generator = torch.Generator().manual_seed(seed)
    cameras = torch.stack([camera(angle, distance) for angle in (-25.0, 0.0, 9.0)])
    seen = ViewCone(cameras, CENTRE)
    points = CENTRE + 0.1 * torch.randn(50, 3, generator=generator)
    directions = torch.nn.functional.normalize(torch.randn(50, 3, generator=generator), dim=1)
    found = seen.nearest(points, directions)
    torch.testing.assert_close(found.norm(dim=1), torch.ones(50), atol=1e-4, rtol=0)
    torch.testing.assert_close(seen.nearest(points, found), found, atol=2e-3, rtol=0)


def test_one_camera_and_cameras_all_around():
    one = ViewCone(camera(0.0)[None], CENTRE)
    straight = looking(0.0)[None]
    torch.testing.assert_close(one.nearest(CENTRE[None], straight), straight)
    around = ViewCone(torch.stack([camera(angle) for angle in range(0, 360, 20)]), CENTRE)
    behind = looking(170.0)[None]
    assert torch.equal(around.nearest(CENTRE[None], behind), behind)


def test_the_model_asks_so_in_pictures_and_not_in_training(tmp_path):
    config = copy.deepcopy(flame_nerf_cpu.config.pipeline)
    root = make_subject(tmp_path / "subject", size=48, count=6).root
    config.datamanager.data, config.datamanager.train_num_rays_per_batch = root, 128
    config.datamanager.dataparser = FlameNerfDataParserConfig(data=root)
    pipeline = config.setup(device="cpu", test_mode="val", world_size=1, local_rank=0)
    model, asked = pipeline.model, []
    model.renderer.view_cone.nearest = lambda points, directions: asked.append(len(points)) or directions
    model.train()(pipeline.datamanager.next_train(0)[0])
    assert not asked
    model.eval().get_outputs_for_camera(pipeline.datamanager.eval_dataset.cameras[:1])
    assert sum(asked) > 100
