"""Neural head avatars: what rays see of a mesh, how the outline is pulled, and what the two networks are told."""

from __future__ import annotations

import dataclasses

import canonical_oracle as oracle
import numpy as np
import pytest
import torch
from one_thread import one_thread  # noqa: F401
from synthetic import DISTANCE, make_subject

from flame_nerf import methods
from flame_nerf.baselines.nha.casters import Rasteriser, RayCaster, make_caster, uses_rasteriser
from flame_nerf.baselines.nha.networks import NhaFieldConfig
from flame_nerf.baselines.nha.renderer import NhaRenderer, NhaSurfaceConfig
from flame_nerf.baselines.nha.surface import HeadSurface
from flame_nerf.baselines.nha.visibility import fragments
from flame_nerf.geometry import axis_angle_to_matrix
from flame_nerf.losses.weights import LossWeights
from flame_nerf.motion import PosedFrame, SubjectMotion
from flame_nerf.render.step_rays import Moments, StepRays
from flame_nerf.subject import HeadTrack

RADIUS, PIXEL = 0.08, 0.004 / DISTANCE
SMALL = NhaFieldConfig(geometry_dim=16, texture_dim=16, texture_layers=2)


def sphere(n: int = 6, least_faces: int = 0) -> HeadSurface:
    vertices, faces = oracle.icosphere(n)
    return HeadSurface(torch.from_numpy(faces), RADIUS * torch.from_numpy(vertices).float(), least_faces)


def camera(size: int = 60) -> tuple[torch.Tensor, torch.Tensor]:
    """Rays of a picture of the head from the front, its pixels `PIXEL` wide in the middle."""
    along = (torch.arange(size) + 0.5 - size / 2) * PIXEL
    y, x = torch.meshgrid(-along, along, indexing="ij")
    directions = torch.stack([x, y, -torch.ones_like(x)], dim=-1).reshape(-1, 3)
    origins = torch.tensor([0.0, 0.0, DISTANCE]).expand_as(directions)
    return origins, torch.nn.functional.normalize(directions, dim=1)


def looked_at(surface, vertices, rays=None, softness=0.5, caster=None):
    origins, directions = camera() if rays is None else rays
    which = torch.zeros(len(origins), dtype=torch.long)
    caster = caster or RayCaster(surface)
    return fragments(surface, vertices[None], which, origins, directions, caster, PIXEL, softness)


# ------------------------------------------------------------------------------------------------ the mesh


def test_a_coarse_mesh_is_split_and_a_fine_one_is_not():
    coarse, fine = sphere(2), sphere(2, least_faces=300)
    assert (coarse.levels, fine.levels) == (0, 1) and len(fine.faces) == 4 * len(coarse.faces)
    assert len(fine.canonical) - len(fine.edges) + len(fine.faces) == 2, "Euler: still a closed ball"

    def areas(surface):
        a, b, c = surface.canonical[surface.faces].unbind(dim=1)
        return torch.linalg.cross(b - a, c - a)

    # The four of each triangle lie in it, and look the same way.
    torch.testing.assert_close(areas(fine).view(-1, 4, 3).sum(dim=1), areas(coarse))
    torch.testing.assert_close(fine.split(coarse.canonical), fine.canonical)
    # Each edge belongs to its two triangles.
    for edge in (0, 17, len(fine.edges) - 1):
        owners = [f for f, face in enumerate(fine.faces.tolist()) if set(fine.edges[edge].tolist()) <= set(face)]
        assert sorted(fine.edge_faces[edge].tolist()) == owners


def test_edges_of_an_open_mesh_have_one_triangle():
    surface = HeadSurface(torch.tensor([[0, 1, 2], [0, 2, 3]]), torch.rand(4, 3), 0)
    assert sorted(surface.edge_faces[:, 1].tolist()).count(-1) == 4
    inner = (surface.edge_faces[:, 1] >= 0).nonzero()[0, 0]
    assert surface.edges[inner].tolist() == [0, 2]


def test_offsets_turn_with_the_head():
    surface = sphere(3)
    turn, shift = axis_angle_to_matrix(torch.tensor([[0.2, -0.5, 0.3]]))[0], torch.tensor([0.1, 0.0, -0.2])
    offsets = 0.01 * torch.randn(1, len(surface.canonical), 3)
    mesh = surface.pose(surface.canonical @ turn.T + shift)
    moved = surface.moved([mesh], offsets)
    expected = (surface.canonical + offsets[0]) @ turn.T + shift
    torch.testing.assert_close(moved.vertices[0], expected, atol=1e-6, rtol=0)
    flat = surface.moved([mesh], torch.zeros_like(offsets))
    out = torch.nn.functional.normalize(surface.canonical, dim=1) @ turn.T
    assert ((flat.normals[0] * out).sum(dim=1) > 0.99).all()


def test_a_linear_field_is_smooth_and_a_spike_is_not():
    surface = sphere(4)
    spike = torch.zeros(len(surface.canonical), 1)
    spike[7] = 1.0
    rough = surface.roughness(spike)
    assert float(rough[7]) == 1.0 and int((rough != 0).sum()) == 1 + int(surface.degree[7])
    assert float(surface.roughness(torch.full_like(spike, 3.0)).abs().max()) < 1e-6


# ------------------------------------------------------------------------------------------------ what rays see


def test_places_on_the_surface_are_where_rays_meet_it():
    surface = sphere(8)
    origins, directions = camera()
    seen = looked_at(surface, surface.canonical)
    # |o + t d| = r
    along, rest = (origins * directions).sum(1), (origins * origins).sum(1) - RADIUS**2
    inside = along.square() - rest
    well_inside = inside.sqrt().nan_to_num() > 0.3 * RADIUS
    exact = origins + (-along - inside.clamp_min(0).sqrt())[:, None] * directions
    places = torch.full_like(origins, torch.nan).index_copy(0, seen.ray, seen.of(surface.canonical))
    assert int(well_inside.sum()) > 900
    assert float((places - exact)[well_inside].norm(dim=1).max()) < 1.5e-3, "triangles are chords"
    torch.testing.assert_close(seen.weights.sum(dim=1), torch.ones(len(seen.ray)))


def test_coverage_adds_up_to_the_outline_s_area_and_its_gradient_to_its_length():
    surface = sphere(8)
    scale = torch.ones((), requires_grad=True)
    seen = looked_at(surface, scale * surface.canonical)
    area = seen.coverage.sum()
    # The ball's outline is the cone that touches it.
    radius = RADIUS / (DISTANCE**2 - RADIUS**2) ** 0.5 / PIXEL
    assert float(area) == pytest.approx(np.pi * radius**2, rel=0.01)
    area.backward()
    grown = radius * (1 + RADIUS**2 / (DISTANCE**2 - RADIUS**2))
    assert float(scale.grad) == pytest.approx(2 * np.pi * radius * grown, rel=0.05)
    assert float(seen.coverage.detach().max()) == 1.0
    assert ((seen.coverage > 0.1) & (seen.coverage < 0.9)).sum() > 50, "the rim is soft"


def test_a_fold_in_front_of_the_head_is_no_outline():
    """A small ball before a large one: its rim hides nothing but more of the head."""
    small, faces = oracle.icosphere(4)
    both = np.concatenate([RADIUS * small, 0.02 * small + [0.0, 0.0, 0.09]])
    surface = HeadSurface(
        torch.from_numpy(np.concatenate([faces, faces + len(small)])), torch.from_numpy(both).float(), 0
    )
    seen = looked_at(surface, surface.canonical)
    shown = torch.zeros(len(camera()[0])).index_copy(0, seen.ray, seen.coverage).view(60, 60)
    assert float(shown[20:40, 20:40].min()) == 1.0 and float(shown[0, 0]) == 0.0


def test_places_move_with_the_mesh_and_the_ray():
    surface = sphere(5)
    origins, directions = (values[1696:1724].clone().requires_grad_() for values in camera())
    vertices = surface.canonical.clone().requires_grad_()
    depth = lambda v, o: (looked_at(surface, v, (o, directions)).of(v)[:, 2]).sum()  # noqa: E731
    moved = torch.autograd.grad(depth(vertices, origins), [vertices, origins])
    step = torch.tensor([0.0, 1e-4, 0.0])
    with torch.no_grad():
        by_mesh = (depth(vertices + step, origins) - depth(vertices - step, origins)) / 2e-4
        by_ray = (depth(vertices, origins + step) - depth(vertices, origins - step)) / 2e-4
    assert float(moved[0][:, 1].sum()) == pytest.approx(float(by_mesh), rel=0.1, abs=0.3)
    assert float(moved[1][:, 1].sum()) == pytest.approx(float(by_ray), rel=0.1, abs=0.3)


@pytest.mark.parametrize("count", [0, 5])
def test_rays_that_see_nothing(count):
    surface = sphere(2)
    rays = torch.tensor([0.5, 0.0, 0.6]).expand(count, 3), torch.tensor([0.0, 0.0, -1.0]).expand(count, 3)
    assert len(looked_at(surface, surface.canonical, rays).ray) == 0


def test_rays_of_everywhere_have_no_outline():
    surface = sphere(4)
    generator = torch.Generator().manual_seed(0)
    origins = torch.nn.functional.normalize(torch.randn(300, 3, generator=generator), dim=1)
    directions = torch.nn.functional.normalize(0.05 * torch.randn(300, 3, generator=generator) - origins, dim=1)
    coverage = looked_at(surface, surface.canonical, (origins, directions)).coverage
    assert len(coverage) > 100 and (coverage == 1).all()


def test_the_rasteriser_sees_what_rays_see(monkeypatch):
    pytest.importorskip("pytorch3d")
    monkeypatch.setattr("flame_nerf.baselines.nha.casters.RASTER_SIZE", 400)
    surface = sphere(6)
    origins, directions = camera(40)
    which = torch.arange(1600) // 800
    vertices = torch.stack([surface.canonical, surface.canonical + torch.tensor([0.01, -0.02, 0.0])])
    by_rays = RayCaster(surface)(vertices, which, origins, directions)
    by_raster = Rasteriser(surface)(vertices, which, origins, directions)
    assert (by_rays >= 0).sum() > 700
    assert ((by_rays >= 0) == (by_raster >= 0)).float().mean() > 0.995
    assert (by_rays == by_raster).float().mean() > 0.97, "all but hits on an edge"


def test_without_pytorch3d_rays_are_cast_and_asking_for_it_says_what_to_do(monkeypatch):
    assert uses_rasteriser("auto", on_cuda=True, installed=True)
    assert not uses_rasteriser("auto", on_cuda=False, installed=True)
    assert not uses_rasteriser("auto", on_cuda=True, installed=False)
    assert not uses_rasteriser("rays", on_cuda=True, installed=True)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"flame-nerf\[pytorch3d\]"):
        make_caster(sphere(1), "pytorch3d")


# ------------------------------------------------------------------------------------------------ the renderer


def track(expressions: int = 2, names=("skin", "neck")) -> HeadTrack:
    """A ball whose lower quarter is neck, of two moments."""
    vertices, faces = oracle.icosphere(4)
    vertices = (RADIUS * vertices).astype(np.float32)
    low = vertices[faces].mean(axis=1)[:, 1] < -RADIUS / 2
    return HeadTrack(
        faces.astype(np.int32), vertices, np.stack([vertices] * 2), np.zeros((2, expressions), np.float32),
        tuple(f"move{i}" for i in range(expressions)), np.zeros((2, 0, 3), np.float32), (), np.zeros(0, np.float32),
        low.astype(np.int8), names,
    )  # fmt: skip


def renderer_of(head: HeadTrack, **config) -> NhaRenderer:
    torch.manual_seed(0)
    made = NhaRenderer(head, SubjectMotion(head), SMALL, NhaSurfaceConfig(least_faces=0, **config), 0.004, 0)
    c2w = torch.eye(4)[None, :3].clone()
    c2w[:, 2, 3] = DISTANCE
    made.set_training_views(c2w, torch.zeros(1, head.expression.shape[1]))
    return made


def rays_of(renderer: NhaRenderer, condition: torch.Tensor, background=None) -> StepRays:
    origins, directions = camera()
    which = torch.zeros(len(origins), dtype=torch.long)
    moments = Moments(renderer.meshes.get_many([0]), condition)
    return StepRays(moments, which, origins, directions, torch.ones(3) if background is None else background)


def test_training_begins_with_the_tracked_mesh_and_moves_it_with_the_expression():
    renderer = renderer_of(track()).eval()
    still, moved = torch.zeros(1, 2), torch.tensor([[1.0, 0.0]])
    for condition in (still, moved):
        surfaces, offsets = renderer.moved(Moments(renderer.meshes.get_many([0]), condition))
        assert float(offsets.detach().abs().max()) == 0.0
        torch.testing.assert_close(surfaces.vertices[0], renderer.surface.canonical)
    torch.nn.init.normal_(renderer.field.geometry.out.weight, std=0.5)
    _, at_rest = renderer.moved(Moments(renderer.meshes.get_many([0]), still))
    _, speaking = renderer.moved(Moments(renderer.meshes.get_many([0]), moved))
    assert float((at_rest - speaking).detach().abs().max()) > 2e-4
    # However far a slider is drawn, no vertex leaves the room that its region has.
    _, wild = renderer.moved(Moments(renderer.meshes.get_many([0]), 1e4 * moved))
    skin = renderer.surface.canonical[:, 1] > 0
    assert float(wild[0, skin].detach().abs().max()) <= 0.01 + 1e-6


def test_a_picture_of_a_ball():
    renderer = renderer_of(track()).eval()
    with torch.no_grad():
        renderer.field.texture.out.weight.zero_()
        renderer.field.texture.out.bias.copy_(torch.tensor([-20.0, 20.0, -20.0]))
    background = torch.rand(3600, 3)
    rays = rays_of(renderer, torch.zeros(1, 2), background)
    outputs = renderer(rays, torch.zeros(1, 2))
    opacity, rgb = outputs["accumulation"], outputs["rgb"]
    torch.testing.assert_close(rgb, opacity * torch.tensor([0.0, 1.0, 0.0]) + (1 - opacity) * background)
    middle = 30 * 60 + 30
    assert float(outputs["depth"][middle]) == pytest.approx(DISTANCE - RADIUS, abs=2e-3)
    assert float(opacity[middle]) == 1.0 and float(opacity[0]) == 0.0 and float(outputs["depth"][0]) == 0.0
    normals = renderer.normals(rays, outputs["depth"])
    assert normals[middle].tolist() == pytest.approx([0, 0, 1], abs=0.1) and float(normals[0].abs().sum()) == 0.0
    places, region = renderer.canonical_position(rays, outputs["depth"]), renderer.region(rays, outputs["depth"])
    assert places[middle].tolist() == pytest.approx([0.5, 0.5, 1.0], abs=0.05)
    assert int(region[middle]) == 0 and int(region[48 * 60 + 30]) == 1, "the neck lies below"


def test_the_neck_alone_learns_where_it_ends():
    renderer = renderer_of(track()).train()
    with torch.no_grad():
        renderer.field.presence.fill_(-1.0)
    outputs = renderer(rays_of(renderer, torch.zeros(1, 2)), torch.zeros(1, 2))
    opacity = outputs["accumulation"].view(60, 60)
    assert float(opacity[30, 30]) == 1.0 and float(opacity[48, 30]) < 1e-6
    # A vertex that no image shows goes where all those around it are gone.
    with torch.no_grad():
        renderer.field.presence[-1] = 0.04
    renderer(rays_of(renderer, torch.zeros(1, 2)), torch.zeros(1, 2))["roughness"].backward()
    assert float(renderer.field.presence.grad[-1]) > 0
    assert renderer_of(track(names=("skin", "ears"))).field.presence.numel() == 0


@pytest.mark.parametrize(("expressions", "names"), [(0, ("skin", "neck")), (2, ("fur", "muzzle"))])
def test_heads_without_expressions_and_animals_train(expressions, names):
    renderer = renderer_of(track(expressions, names)).train()
    condition = torch.zeros(1, expressions)
    outputs = renderer(rays_of(renderer, condition), condition, step=0)
    loss = (outputs["rgb"] - 0.3).square().mean() + outputs["roughness"] + outputs["normal_error"]
    loss.backward()
    geometry, texture = renderer.field.geometry.out.weight.grad, renderer.field.texture.out.weight.grad
    assert float(geometry.abs().max()) > 0 and float(texture.abs().max()) > 0
    assert float(outputs["roughness"].detach()) < 1e-3 and float(outputs["normal_error"].detach()) < 1e-6


def test_the_silhouette_pulls_the_mesh_out_to_the_matte():
    """A ball that is a tenth too small grows to the outline that it is shown, by the silhouette alone."""
    renderer = renderer_of(track(), sharpen_steps=40).train()
    target = looked_at(renderer.surface, 1.1 * renderer.surface.canonical)
    matte = torch.zeros(3600).index_copy(0, target.ray, target.coverage)
    optimiser = torch.optim.Adam(renderer.field.geometry.parameters(), lr=5e-3)
    errors = []
    for step in range(40):
        rays = rays_of(renderer, torch.zeros(1, 2))
        outputs = renderer(rays, torch.zeros(1, 2), step)
        loss = (outputs["accumulation"][:, 0] - matte).abs().mean() + 0.05 * outputs["roughness"]
        errors.append(float((outputs["accumulation"][:, 0] - matte).abs().detach().mean()))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert errors[-1] < 0.4 * errors[0]


def test_sides_cannot_be_filled_in_and_the_loss_names_its_terms(tmp_path):
    from flame_nerf.dataparser import FlameNerfDataParserConfig

    root = make_subject(tmp_path / "subject", size=24, count=4).root
    outputs = FlameNerfDataParserConfig(data=root).setup().get_dataparser_outputs("train")

    def build(**model):
        config = dataclasses.replace(methods.nha.config.pipeline.model, field=SMALL, **model)
        return config.setup(
            scene_box=outputs.scene_box, num_train_data=len(outputs.image_filenames), metadata=outputs.metadata,
            device="cpu", grad_scaler=None,
        )  # fmt: skip

    with pytest.raises(ValueError, match="unseen-loss"):
        build(loss_coefficients=LossWeights(unseen_loss=0.2))
    model = build(latent_dim=3)
    assert set(model.get_param_groups()) <= set(methods.nha.config.optimizers)
    one = torch.ones(5, 1)
    given = {"rgb": one.expand(5, 3), "accumulation": one, "background": torch.ones(3)}
    given |= {"normal_error": torch.tensor(0.5), "roughness": torch.tensor(2.0)}
    losses = model.losses.losses(given, {"image": one.expand(5, 3), "mask": one}, 0)
    weights = model.config.loss_coefficients
    assert float(losses["normal_loss"]) == pytest.approx(0.5 * weights.normal_loss)
    assert float(losses["laplacian_loss"]) == pytest.approx(2.0 * weights.laplacian_loss)
    frame = model.motion.at_timestep(1)
    assert isinstance(frame, PosedFrame)
    model.eval().override = frame
    assert model.get_outputs_for_camera(outputs.cameras[0:1][:])["rgb"].shape == (24, 24, 3)
