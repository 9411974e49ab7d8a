"""Beyond what was filmed skin ends at the mesh, without thorns, and what was seen at a slant has no specks."""

import math

import pytest
import torch
from synthetic import make_subject
from test_head_renderer import renderer
from test_view_cone import camera

from flame_nerf.methods import flame_nerf_cpu, flame_nerf_insta
from flame_nerf.render.observed.unfilmed import EDGE, OFF, TURN, seen_cosine
from flame_nerf.render.observed.view_cone import SLACK, FilmedViews
from flame_nerf.render.step_rays import Moments, StepRays

FILMED = 10.0
"""Degrees to either side from which there was a camera."""
MESH = torch.tensor([0.6, 0.4, 0.3])
OPAQUE = 4e3
"""1/m."""


@pytest.fixture(scope="module")
def track(tmp_path_factory):
    return make_subject(tmp_path_factory.mktemp("subject") / "subject", size=32, count=5).track


def filmed(track, on=True):
    """A head whose field is opaque in all of its shell, and in its colours nothing but noise."""
    found = renderer(track, observed_sides_only=on)

    def noise(points, *told):
        return torch.full((len(points),), OPAQUE), torch.rand(
            len(points), 3, generator=torch.Generator().manual_seed(0)
        )

    found.query_field = noise
    found.set_training_views(
        torch.stack([camera(a) for a in (-FILMED, 0.0, FILMED)]), torch.zeros(3, found.field.condition_dim)
    )
    count = len(track.canonical_vertices)
    found.set_surface(MESH.expand(count, 3), torch.ones(count, dtype=torch.bool), torch.zeros(count))
    return found


def shown(found, yaw_deg, targets):
    """Outputs of rays from beside the head to places of the head at rest, with the rays."""
    origins = camera(yaw_deg)[:, 3].expand(len(targets), 3).contiguous()
    directions = torch.nn.functional.normalize(targets - origins, dim=1)
    condition = torch.zeros(1, found.field.condition_dim)
    rays = StepRays(
        Moments([found.meshes.get(0)], condition), torch.zeros(len(targets), dtype=torch.long), origins, directions
    )
    with torch.no_grad():
        return found(found.prepare(rays), condition), origins, directions


def skin(track, towards):
    """Middles of faces of the skin that look that way, to 40 degrees."""
    corners = torch.from_numpy(track.vertices[0]).float()[torch.from_numpy(track.faces).long()]
    normal = torch.nn.functional.normalize(
        torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), dim=1
    )
    kept = torch.from_numpy(track.region_faces("skin")) & (normal @ torch.tensor(towards) > 0.77)
    assert kept.sum() > 5
    return corners[kept].mean(dim=1)


@pytest.mark.parametrize("yaw", [0.0, FILMED, -FILMED])
def test_filmed_views_are_as_they_were(track, yaw):
    places = skin(track, [0.0, 0.0, 1.0])
    found, before = (shown(filmed(track, on), yaw, places)[0] for on in (True, False))
    for name in ("rgb", "accumulation", "depth"):
        assert torch.equal(found[name], before[name])


def test_seen_from_beside_no_matter_stands_before_the_skin(track, monkeypatch):
    """The measure of a thorn: metres by which rays end before the mesh."""
    # A small head is all near its hair.
    monkeypatch.setattr("flame_nerf.render.observed.unfilmed.HAIR_REACH", 0.0)
    places = skin(track, [1.0, 0.0, 0.0])

    def before_mesh(on):
        outputs, origins, _ = shown(filmed(track, on), 90.0, places)
        return (places - origins).norm(dim=1) - outputs["depth"][:, 0]

    assert before_mesh(False).median() > OFF + EDGE
    assert before_mesh(True).max() < OFF + EDGE + 0.003


def test_what_was_seen_at_a_slant_has_no_specks(track):
    """The measure of speckle: variation among pixels of a surface that has one colour."""
    vertices, faces = torch.from_numpy(track.canonical_vertices).float(), torch.from_numpy(track.faces).long()
    views = torch.stack([camera(a) for a in (-FILMED, 0.0, FILMED)])
    cosine = seen_cosine(vertices, faces, views)[faces].mean(dim=1)
    slant = torch.from_numpy(track.region_faces("skin")) & ((cosine - 0.35).abs() < 0.1)
    middles = torch.from_numpy(track.vertices[0]).float()[faces[slant]].mean(dim=1)
    middles = middles[middles[:, 0] > 0]
    assert len(middles) > 3
    after, before = (shown(filmed(track, on), 60.0, middles)[0]["rgb"] for on in (True, False))
    assert before.std(dim=0).mean() > 2 * after.std(dim=0).mean()
    torch.testing.assert_close(after.mean(dim=0), MESH, atol=0.12, rtol=0)


def test_clothes_keep_the_colours_of_the_field_and_a_bare_neck_has_the_mesh_s(track):
    neck = torch.from_numpy(track.region_vertices("neck"))
    found = filmed(track)
    bare = found.unfilmed.paint(found.backing)[neck, 3]
    assert bare.max() > 0.2
    count = len(neck)
    smoke = torch.where(neck[:, None], MESH + 0.1, MESH.expand(count, 3))
    found.set_surface(smoke, torch.ones(count, dtype=torch.bool), torch.zeros(count))
    painted = found.unfilmed.paint(found.backing)
    assert painted[neck, 3].max() == 0 and painted[~neck, 3].max() > 0.2


def test_views_beside_the_nearest_that_were_filmed():
    views = torch.stack([camera(a) for a in (-4.0, 0.0, 4.0)])
    beyond = FilmedViews(views, camera(0.0)[:, 3] * torch.tensor([1.0, 1.0, 0.0]))
    eyes = torch.stack([camera(a)[:, 3] for a in (-4.0, 3.0, 30.0)])
    expected = torch.tensor([0.0, 1.0, 26.0]) * math.pi / 180 - SLACK
    torch.testing.assert_close(beyond.beyond(eyes), expected, atol=1e-4, rtol=0)


def test_a_single_far_frame_of_many_does_not_count_as_filmed():
    views = torch.stack([camera(0.0)] * 99 + [camera(30.0)])
    beyond = FilmedViews(views, camera(0.0)[:, 3] * torch.tensor([1.0, 1.0, 0.0]))
    assert float(beyond.beyond(camera(30.0)[None, :, 3])) > TURN


def test_methods():
    assert flame_nerf_cpu.config.pipeline.model.sampling.observed_sides_only
    assert not flame_nerf_insta.config.pipeline.model.sampling.observed_sides_only
