"""The mesh behind the field: a head whose field has holes is closed by it, and one without is left as it is."""

import numpy as np
import pytest
import torch
from nerfstudio.data.scene_box import OrientedBox
from synthetic import RADII, ellipsoid, regions

from flame_nerf.canonical import MappingConfig
from flame_nerf.field import FieldConfig
from flame_nerf.motion import SubjectMotion
from flame_nerf.render.head_renderer import HeadRenderer, SamplingConfig
from flame_nerf.render.observed.backing import DEEP, Backing
from flame_nerf.render.observed.occupancy import OccupancyConfig
from flame_nerf.render.step_rays import Moments, StepRays
from flame_nerf.subject import HeadTrack

COLOUR = torch.tensor([0.8, 0.4, 0.2])
FIELD = torch.tensor([0.1, 0.2, 0.9])
WALL = torch.tensor([0.0, 1.0, 0.0])


def track_of(vertices, faces, region, names) -> HeadTrack:
    return HeadTrack(
        faces=faces.astype(np.int32), canonical_vertices=vertices.astype(np.float32),
        vertices=vertices[None].astype(np.float32), expression=np.zeros((1, 1), np.float32),
        expression_names=("jawOpen",), pose=np.zeros((1, 1, 3), np.float32), joint_names=("head",),
        identity=np.zeros(0, np.float32), region=region.astype(np.int8), region_names=names,
    )  # fmt: skip


@pytest.fixture(scope="module")
def track():
    """The ellipsoid, filmed once."""
    vertices, faces = ellipsoid(48, 64)
    return track_of(vertices, faces, regions(vertices, faces), ("skin", "lips", "eyes", "scalp", "neck"))


def renderer(track, sigma: float, solid=None) -> HeadRenderer:
    """One whose field has a density everywhere in its shell, and whose mesh has one colour."""
    config = SamplingConfig(step=0.002, occupancy=OccupancyConfig(enabled=False))
    field = FieldConfig(n_levels=2, log2_hashmap_size=8, max_resolution=32)
    found = HeadRenderer(track, SubjectMotion(track), MappingConfig(), field, config, pixel_size=0.002).eval()
    found.query_field = lambda points, *told: (torch.full((len(points),), sigma), FIELD.expand(len(points), 3))
    count = len(track.canonical_vertices)
    found.set_surface(
        COLOUR.expand(count, 3), torch.ones(count, dtype=torch.bool) if solid is None else solid, torch.zeros(count)
    )
    return found


def shown(found, origins, directions, box=None) -> dict[str, torch.Tensor]:
    which, condition = torch.zeros(len(origins), dtype=torch.long), torch.zeros(1, found.field.condition_dim)
    rays = StepRays(Moments([found.meshes.get(0)], condition), which, origins, directions, WALL)
    return found(found.prepare(rays), condition, box=box)


def parallel(x: torch.Tensor, y: float = 0.0) -> tuple[torch.Tensor, torch.Tensor]:
    """Rays from in front, along -z."""
    origins = torch.stack([x, torch.full_like(x, y), torch.full_like(x, 0.5)], dim=1)
    return origins, torch.tensor([[0.0, 0.0, -1.0]]).repeat(len(x), 1)


def test_where_the_field_is_empty_the_mesh_is_seen(track):
    x = torch.linspace(0.0, 0.95, 20) * float(RADII[0]) * 0.8
    outputs = shown(renderer(track, 0.0), *parallel(x, 0.01))
    torch.testing.assert_close(outputs["rgb"], COLOUR.expand(20, 3), atol=1e-4, rtol=0)
    torch.testing.assert_close(outputs["accumulation"], torch.ones(20, 1))
    # The ellipsoid's own formula says where.
    height = RADII[2] * torch.sqrt(1 - (x / RADII[0]) ** 2 - (0.01 / RADII[1]) ** 2)
    torch.testing.assert_close(outputs["depth"][:, 0], (0.5 - height).float(), atol=5e-4, rtol=0)


def test_at_the_outline_and_beside_the_head_the_field_alone_says_what_is_there(track):
    edge = float(RADII[0])
    x = torch.tensor([edge - 0.001, edge + 0.001, edge + 0.1, edge - 2 * DEEP])
    outputs = shown(renderer(track, 0.0), *parallel(x))
    torch.testing.assert_close(outputs["rgb"][:3], WALL.expand(3, 3))
    assert not outputs["accumulation"][:3].any() and float(outputs["accumulation"][3]) > 0.9


def test_an_opaque_field_hides_it_and_a_thin_one_lets_it_through(track):
    rays = parallel(torch.zeros(1))
    opaque = shown(renderer(track, 1e5), *rays)
    torch.testing.assert_close(opaque["rgb"][0], FIELD)
    bare = renderer(track, 20.0)
    bare.backing.surface.zero_()
    without, thin = shown(bare, *rays), shown(renderer(track, 20.0), *rays)
    through = 1 - float(without["accumulation"])
    assert 0.1 < through < 0.9
    torch.testing.assert_close(thin["rgb"][0], FIELD * (1 - through) + COLOUR * through, atol=1e-5, rtol=0)
    assert float(thin["accumulation"]) == pytest.approx(1.0, abs=1e-5)
    expected = float(without["depth"]) * (1 - through) + (0.5 - RADII[2]) * through
    assert float(thin["depth"]) == pytest.approx(expected, abs=1e-3)


def test_training_does_without(track):
    found = renderer(track, 0.0).train()
    assert not shown(found, *parallel(torch.zeros(1)))["accumulation"].any()


def test_what_the_mattes_cut_off_and_what_touches_it_is_left_out(track):
    rest = torch.from_numpy(track.canonical_vertices)
    found = renderer(track, 0.0, solid=rest[:, 1] > -0.04)
    outputs = shown(found, *parallel(torch.zeros(1), -0.045))
    assert not outputs["accumulation"].any()
    assert float(shown(found, *parallel(torch.zeros(1), 0.0))["accumulation"]) == 1.0


def test_through_a_gap_rays_are_stopped_inside_of_the_head(track):
    middle = track.canonical_vertices[track.faces].mean(axis=1)
    gap = (np.abs(middle[:, :2]).max(axis=1) < 0.01) & (middle[:, 2] > 0)
    holed = track_of(track.canonical_vertices, track.faces[~gap], track.region[~gap], track.region_names)
    outputs = shown(renderer(holed, 0.0), *parallel(torch.zeros(1)))
    torch.testing.assert_close(outputs["rgb"][0], COLOUR, atol=1e-4, rtol=0)
    assert float(outputs["depth"]) == pytest.approx(0.5 + RADII[2], abs=1e-3)


@pytest.mark.parametrize("name, stopped", [("teeth", True), ("skin", False)])
def test_a_thin_part_stops_rays_only_inside_of_the_face(name, stopped):
    # A plate of 2 mm: a tooth, or a lock's.
    x, y, z = np.meshgrid([-0.03, 0.03], [-0.03, 0.03], [-0.001, 0.001], indexing="ij")
    corners = np.stack([x, y, z], axis=-1).reshape(-1, 3)
    quads = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]
    faces = np.array([(a, b, c) for a, b, c, _ in quads] + [(a, c, d) for a, _, c, d in quads])
    plate = track_of(corners, faces, np.zeros(len(faces)), (name,))
    outputs = shown(renderer(plate, 0.0), *parallel(torch.tensor([0.004])))
    assert float(outputs["accumulation"]) == float(stopped)


def test_the_far_side_of_a_neck_that_was_cut_off_is_not_seen_from_inside(track):
    middle = track.canonical_vertices[track.faces].mean(axis=1)
    open_below = middle[:, 1] > -0.07
    neck = track_of(track.canonical_vertices, track.faces[open_below], track.region[open_below], track.region_names)
    rest = torch.from_numpy(neck.canonical_vertices)
    found = renderer(neck, 1e5, solid=rest[:, 1] > -0.03)

    def towards(y: float, origin: tuple[float, float, float]) -> dict[str, torch.Tensor]:
        place = torch.tensor([0.0, y, -float(RADII[2] * np.sqrt(1 - (y / RADII[1]) ** 2))])
        start = torch.tensor([origin])
        return shown(found, start, torch.nn.functional.normalize(place - start, dim=1))

    below, behind = (0.0, -0.3, 0.15), (0.0, -0.02, -0.5)
    from_inside = towards(-0.04, below)
    torch.testing.assert_close(from_inside["rgb"][0], WALL)
    assert not from_inside["accumulation"].any() and not from_inside["depth"].any()
    # The same place from outside, and from inside of the head what is far above the cut: a mouth's depth, say.
    for seen in (towards(-0.04, behind), towards(0.02, (0.0, -0.3, 0.03))):
        torch.testing.assert_close(seen["rgb"][0], FIELD)


def test_outside_of_a_box_nothing_is_shown(track):
    box = OrientedBox(torch.eye(3), torch.tensor([0.0, 0.05, 0.0]), torch.tensor([1.0, 0.1, 1.0]))
    found = renderer(track, 0.0)
    for y, inside in ((0.03, 1.0), (-0.03, 0.0)):
        assert float(shown(found, *parallel(torch.zeros(1), y), box)["accumulation"]) == inside


def test_pictures_stay_differentiable_in_the_field(track):
    found = renderer(track, 0.0)
    sigma = torch.tensor(20.0, requires_grad=True)
    found.query_field = lambda points, *told: (sigma.expand(len(points)), FIELD.expand(len(points), 3))
    rgb = shown(found, *parallel(torch.zeros(1)))["rgb"]
    (slope,) = torch.autograd.grad(rgb[0, 2], sigma)
    # More of the field is more of its blue, before a mesh that is less so.
    assert float(slope) > 0


def test_a_run_from_before_is_shown_as_it_was():
    backing = Backing(4, torch.zeros(2, dtype=torch.bool))
    backing.surface.fill_(0.5)
    assert backing.is_known
    missing = Backing(4, torch.zeros(2, dtype=torch.bool)).load_state_dict({}, strict=True)
    assert not missing.missing_keys
    again = Backing(4, torch.zeros(2, dtype=torch.bool))
    assert not again.is_known
    again.load_state_dict(backing.state_dict())
    # A pipeline loads its model, and then what is beside it, where this is not.
    again.load_state_dict({}, strict=False)
    assert again.is_known and torch.equal(again.surface, backing.surface)
