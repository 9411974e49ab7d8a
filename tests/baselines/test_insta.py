"""INSTA: what is its own, each against a version written from its formula."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from baseline_models import build
from one_thread import one_thread  # noqa: F401
from synthetic import DISTANCE, RADII, make_subject
from torch.nn.functional import normalize

from flame_nerf import methods
from flame_nerf.baselines.insta import conditioning_columns, mesh_depth_loss
from flame_nerf.dataparser import FlameNerfDataParserConfig
from flame_nerf.losses.functions import color_loss
from flame_nerf.render.step_rays import Moments, StepRays


@pytest.fixture(scope="module")
def subject_root(tmp_path_factory):
    return make_subject(tmp_path_factory.mktemp("baselines") / "subject", size=32, count=8).root


@pytest.mark.parametrize("spec", [methods.flame_nerf, methods.flame_nerf_cpu, methods.flame_nerf_insta])
def test_the_grid_is_as_fine_as_the_pictures(subject_root, spec):
    field = dataclasses.replace(spec.config.pipeline.model.field, log2_hashmap_size=10)
    model, outputs = build(subject_root, spec, field=field)
    side = float((model.renderer.field.aabb[1] - model.renderer.field.aabb[0]).max())
    in_pixels = side / outputs.metadata["pixel_size"]
    assert 16 < in_pixels < 200
    published = spec is methods.flame_nerf_insta
    expected = field.max_resolution if published else round(in_pixels)
    assert model.renderer.field.grid.layout.max_resolution == expected
    coarser = dataclasses.replace(field, pixels_per_cell=2.0)
    layout = build(subject_root, spec, field=coarser)[0].renderer.field.grid.layout
    assert layout.max_resolution == max(16, round(in_pixels / 2))


@pytest.fixture(scope="module")
def insta(subject_root):
    spec = methods.flame_nerf_insta
    small = dataclasses.replace(
        spec.config.pipeline.model.field, n_levels=4, log2_hashmap_size=10, max_resolution=64, precision="float32"
    )
    sampling = spec.config.pipeline.model.sampling
    sampling = dataclasses.replace(sampling, occupancy=dataclasses.replace(sampling.occupancy, enabled=False))
    model, _ = build(subject_root, spec, field=small, sampling=sampling)
    for name, parameter in model.renderer.field.named_parameters():
        if name.startswith("condition_"):
            torch.nn.init.normal_(parameter)
    torch.nn.init.uniform_(model.renderer.field.grid.table, -0.5, 0.5)
    return model


def frontal_rays(count: int = 24) -> tuple[torch.Tensor, torch.Tensor]:
    """Rays from the camera straight in front of the head to a grid of points in the plane through its middle."""
    x, y = torch.meshgrid(torch.linspace(-0.09, 0.09, count), torch.linspace(-0.12, 0.12, count), indexing="xy")
    targets = torch.stack([x, y, torch.zeros_like(x)], dim=-1).reshape(-1, 3)
    origins = torch.tensor([0.0, 0.0, DISTANCE]).expand_as(targets)
    return origins, normalize(targets - origins)


def test_sixteen_values_that_vary_most_or_come_first(subject_root):
    track = (
        FlameNerfDataParserConfig(data=subject_root).setup().get_dataparser_outputs("train").metadata["subject"].track
    )
    rng = np.random.default_rng(0)
    spread = rng.permutation(np.arange(1, 21)) / 20
    expression = (rng.normal(size=(track.num_timesteps, 20)) * spread).astype(np.float32)
    # A frame that is not trained on varies most of all in what would otherwise come last.
    expression[5] += 100 * (spread == 0.05)
    names = tuple(f"move{'abcdefghijklmnopqrst'[i]}" for i in range(20))
    named = dataclasses.replace(track, expression=expression, expression_names=names)
    rows = torch.tensor([0, 1, 2, 3, 4, 6, 7])
    chosen = conditioning_columns(named, rows, 16)
    assert sorted(chosen) == chosen and len(chosen) == 16
    left = set(range(20)) - set(chosen)
    deviation = expression[rows.numpy()].std(axis=0)
    assert deviation[list(left)].max() < deviation[chosen].min()
    statistical = dataclasses.replace(named, expression_names=tuple(f"expr_{i:03d}" for i in range(20)))
    assert conditioning_columns(statistical, rows, 16) == list(range(16))
    assert conditioning_columns(statistical, rows, 40) == list(range(20))


def test_expression_changes_nothing_off_the_lips(insta):
    renderer, frame = insta.renderer.eval(), insta.motion.at_timestep(2)
    origins, directions = frontal_rays()
    mesh, which = [renderer.pose(frame)], torch.zeros(len(origins), dtype=torch.long)

    def seen(condition):
        with torch.no_grad():
            rays = StepRays(Moments(mesh, condition[None]), which, origins, directions, torch.ones(3))
            return renderer(renderer.prepare(rays, renderer.known_empty()), condition[None])

    shut, opened = (seen(torch.full_like(frame.condition, value)) for value in (0.0, 0.7))
    samples = renderer.mapping.sample_shell(
        mesh, which, origins, directions, shell=renderer.shell_thickness, behind=renderer.config.behind,
        grazing=renderer.config.grazing, step=renderer.config.step,
    )  # fmt: skip
    lips = torch.from_numpy(insta.subject.track.region_faces("lips"))
    near_lips = torch.zeros(len(origins), dtype=torch.bool)
    near_lips[samples.ray_index[lips[samples.face]]] = True
    changed = (shut["rgb"] - opened["rgb"]).abs().amax(dim=1) > 1e-6
    assert 5 < near_lips.sum() < 150
    assert not changed[~near_lips].any() and changed[near_lips].float().mean() > 0.8
    # Elsewhere it is told ones.
    told, index = renderer.conditioning(torch.full((1, len(frame.condition)), 0.3), samples)
    assert torch.equal(told[1], torch.ones(2)) and torch.equal(index == 0, lips[samples.face])


def test_mesh_depth_of_an_ellipsoid(insta):
    renderer, frame = insta.renderer, insta.motion.at_timestep(0)
    origins, directions = frontal_rays()
    which = torch.zeros(len(origins), dtype=torch.long)
    moments = Moments([renderer.pose(frame)], frame.condition[None])
    found = renderer.mesh_depth(StepRays(moments, which, origins, directions))
    # |(o + t d) / r| = 1 for the head at rest; its jaw is shut in frame 0.
    radii = torch.from_numpy(RADII).float()
    o, d = origins / radii, directions / radii
    a, b, c = (d * d).sum(1), (o * d).sum(1), (o * o).sum(1) - 1
    discriminant = b * b - a * c
    exact = torch.where(discriminant > 0, (-b - discriminant.clamp_min(0).sqrt()) / a, torch.inf)
    inside = (exact.isfinite() & found["mesh_depth"][:, 0].isfinite()) & (discriminant > 0.3 * discriminant.max())
    assert inside.sum() > 150
    assert (exact - found["mesh_depth"][:, 0])[inside].abs().max() < 3e-3, "triangles are chords"
    hit = origins + directions * found["mesh_depth"].nan_to_num(posinf=0.0)
    mouth, bare = found["on_mouth"][:, 0], found["bare"][:, 0]
    assert mouth.sum() >= 5 and ((hit[mouth][:, 1] + 0.045).abs() < 0.03).all()
    assert not bare[hit[:, 1] > 0.075].any() and bare[inside & (hit[:, 1].abs() < 0.04)].all()
    assert not bare[found["mesh_depth"][:, 0].isinf()].any()


def test_mouth_counts_forty_times_after_its_start(insta):
    rng = torch.Generator().manual_seed(0)
    batch = {"image": torch.rand(50, 3, generator=rng), "mask": torch.ones(50, 1)}
    on_mouth = torch.arange(50)[:, None] < 5
    outputs = {"rgb": torch.rand(50, 3, generator=rng), "background": torch.ones(3), "on_mouth": on_mouth}
    plain = insta.losses.color_loss(outputs, batch, 499)
    torch.testing.assert_close(plain, color_loss(outputs["rgb"], batch["image"]))
    each = torch.stack([color_loss(outputs["rgb"][i : i + 1], batch["image"][i : i + 1]) for i in range(50)])
    weighted = insta.losses.color_loss(outputs, batch, 500)
    torch.testing.assert_close(weighted, (each * torch.where(on_mouth[:, 0], 40, 1)).mean())
    torch.testing.assert_close(insta.losses.color_loss(outputs, batch, None), plain)


def test_mesh_depth_loss_by_hand():
    depth = torch.tensor([[0.5], [0.6], [0.4], [0.3]], requires_grad=True)
    mesh = torch.tensor([[0.52], [torch.inf], [0.3], [0.31]])
    counted = torch.tensor([[True], [False], [True], [False]])
    loss = mesh_depth_loss(depth, mesh, counted)
    torch.testing.assert_close(loss, torch.tensor((0.02 + 0.1) / 4))
    loss.backward()
    torch.testing.assert_close(depth.grad[:, 0], torch.tensor([-0.25, 0.0, 0.25, 0.0]))


def test_insta_has_no_latent_codes(subject_root):
    with pytest.raises(ValueError, match="latent-dim"):
        build(subject_root, methods.flame_nerf_insta, latent_dim=4)


def test_every_parameter_has_an_optimiser():
    for spec in (methods.nerface, methods.flame_nerf_insta):
        assert spec.config.method_name and spec.config.cpu_rays_per_batch < 2048
        assert not spec.config.pipeline.model.refinement.pose.calibrate
    assert methods.flame_nerf_insta.config.optimizers["network"]["optimizer"].weight_decay == 1e-6
    assert methods.flame_nerf_insta.config.pipeline.model.ema_decay == 0.95
