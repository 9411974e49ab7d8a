"""The baselines: what is their own in them, each against a version written from its formula."""

from __future__ import annotations

import copy
import dataclasses

import canonical_oracle as oracle
import numpy as np
import pytest
import torch
from nerfstudio.data.scene_box import SceneBox
from nerfstudio.engine.callbacks import TrainingCallbackAttributes, TrainingCallbackLocation
from synthetic import DISTANCE, RADII, make_subject

from flame_nerf import methods
from flame_nerf.baselines.insta import conditioning_columns, mesh_depth_loss
from flame_nerf.baselines.nerface import (
    NerfaceField,
    NerfaceFieldConfig,
    NerfaceNetwork,
    NerfaceRenderer,
    NerfaceSamplingConfig,
    way_through_box,
)
from flame_nerf.canonical import CanonicalMapping, MappingConfig
from flame_nerf.dataparser import FlameNerfDataParserConfig
from flame_nerf.losses.functions import color_loss
from flame_nerf.losses.weights import LossWeights
from flame_nerf.render.step_rays import Moments, StepRays

BACKENDS = ["numba", "warp"]


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def tensor(array: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32))


def unit(vectors: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.normalize(vectors, dim=-1)


# -------------------------------------------------------------------------------------------- the mesh: hits and masks


@pytest.mark.parametrize("backend", BACKENDS)
def test_first_hit_against_open3d(backend):
    o3d = pytest.importorskip("open3d", exc_type=ImportError)
    rest, faces = oracle.head_like(6)
    posed = [oracle.deformed(rest, seed).astype(np.float32) for seed in (0, 1)]
    mapping = CanonicalMapping(torch.from_numpy(faces), tensor(rest), MappingConfig(backend=backend))
    generator = torch.Generator().manual_seed(0)
    origins = 0.4 * unit(torch.randn(600, 3, generator=generator))
    # Towards the head, past it and (from the last hundred, inside of it) out of it.
    directions = unit(0.12 * torch.randn(600, 3, generator=generator) - origins)
    origins[500:] *= 0.05
    # Whole packets of one mesh, and cut ones.
    which = torch.arange(600) // 13 % 2
    distance, face = mapping.first_hit([mapping.pose(tensor(v)) for v in posed], which, origins, directions)

    for mesh, vertices in enumerate(posed):
        scene = o3d.t.geometry.RaycastingScene()
        scene.add_triangles(o3d.core.Tensor(vertices), o3d.core.Tensor(faces.astype(np.uint32)))
        own = which == mesh
        rays = torch.cat([origins, directions], dim=1)[own].numpy()
        truth = scene.cast_rays(o3d.core.Tensor(rays))
        expected = torch.from_numpy(truth["t_hit"].numpy())
        assert 20 < expected.isinf().sum() < 250
        torch.testing.assert_close(distance[own], expected, atol=2e-6, rtol=1e-5)
        ids = truth["primitive_ids"].numpy().astype(np.int64)
        ids[~np.isfinite(expected.numpy())] = -1
        assert (face[own].numpy() == ids).mean() > 0.995, "all but hits on an edge"
        assert ((face[own] < 0) == expected.isinf()).all()


def test_first_hit_of_no_rays_and_wrong_mesh():
    rest, faces = oracle.head_like(2)
    mapping = CanonicalMapping(torch.from_numpy(faces), tensor(rest))
    posed, none = [mapping.pose(tensor(rest))], torch.empty(0, 3)
    distance, face = mapping.first_hit(posed, torch.empty(0, dtype=torch.long), none, none)
    assert len(distance) == len(face) == 0
    with pytest.raises(ValueError, match="mesh_index"):
        mapping.first_hit(posed, torch.tensor([1]), torch.zeros(1, 3), torch.ones(1, 3))


@pytest.mark.parametrize("blend", ["face", "point"])
def test_blending_and_scaling_of_some_faces_alone(blend):
    rest, faces = oracle.head_like(4)
    config = MappingConfig(squared=False, blend=blend)
    mask = torch.arange(len(faces)) % 3 == 0
    points = tensor(oracle.deformed(rest, 0)[faces].mean(axis=1) * 1.03)
    face, one = torch.arange(len(faces)), torch.zeros(len(faces), dtype=torch.long)

    def carried(config: MappingConfig, **masks) -> torch.Tensor:
        mapping = CanonicalMapping(torch.from_numpy(faces), tensor(rest), config, **masks)
        return mapping.to_canonical([mapping.pose(tensor(oracle.deformed(rest, 0)))], one, points, face).points

    alone = carried(dataclasses.replace(config, neighbourhood="face"))
    together, unscaled = carried(config), carried(dataclasses.replace(config, scale=False))
    assert (alone - together).abs().max() > 1e-4
    torch.testing.assert_close(carried(config, blended=mask), torch.where(mask[:, None], together, alone))
    # A scaled face's unscaled neighbour takes part in its blend, so scaling is compared face by face.
    by_face = dataclasses.replace(config, neighbourhood="face")
    unscaled = carried(dataclasses.replace(by_face, scale=False))
    assert (alone - unscaled).abs().max() > 1e-4
    torch.testing.assert_close(carried(by_face, scaled=mask), torch.where(mask[:, None], alone, unscaled))


# -------------------------------------------------------------------------------------------- INSTA


@pytest.fixture(scope="module")
def subject_root(tmp_path_factory):
    return make_subject(tmp_path_factory.mktemp("baselines") / "subject", size=32, count=8).root


def build(root, spec, **model):
    """A method's model on a subject, as the pipeline builds it."""
    outputs = FlameNerfDataParserConfig(data=root).setup().get_dataparser_outputs("train")
    config = dataclasses.replace(spec.config.pipeline.model, **model)
    torch.manual_seed(0)
    built = config.setup(
        scene_box=outputs.scene_box,
        num_train_data=len(outputs.image_filenames),
        metadata=outputs.metadata,
        device="cpu",
        grad_scaler=None,
    )
    return built, outputs


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
    return origins, unit(targets - origins)


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


# -------------------------------------------------------------------------------------------- NeRFace


def nerface_outputs(renderer, origins, directions, background):
    """Of a moment with zeros for a condition."""
    condition, which = torch.zeros(1, 2), torch.zeros(len(origins), dtype=torch.long)
    rays = StepRays(Moments([None], condition), which, origins, directions, background)
    return renderer(renderer.prepare(rays), condition)


def test_nerface_fills_in_no_sides(subject_root):
    with pytest.raises(ValueError, match="unseen-loss"):
        build(subject_root, methods.nerface, loss_coefficients=LossWeights(unseen_loss=0.2))


def test_nerface_trains_without_a_mesh(subject_root):
    config = copy.deepcopy(methods.nerface.config.pipeline)
    config.datamanager.data, config.datamanager.train_num_rays_per_batch = subject_root, 16
    pipeline = config.setup(device="cpu", test_mode="val", world_size=1, local_rank=0).train()
    for callback in pipeline.get_training_callbacks(TrainingCallbackAttributes(None, None, pipeline, None)):
        callback.run_callback_at_location(0, TrainingCallbackLocation.BEFORE_TRAIN_ITERATION)
    assert "coarse_color_loss" in pipeline.get_train_loss_dict(0)[1]


def test_way_through_the_box_by_marching():
    box = torch.tensor([[-0.1, -0.2, -0.1], [0.1, 0.1, 0.2]])
    generator = torch.Generator().manual_seed(0)
    origins = 0.5 * unit(torch.randn(200, 3, generator=generator))
    directions = unit(0.2 * torch.randn(200, 3, generator=generator) - origins)
    directions[0], origins[0] = torch.tensor([0.0, 0.0, -1.0]), torch.tensor([0.05, 0.0, 0.5])
    near, far = way_through_box(box, origins, directions, near=0.02)
    t = torch.arange(0.02, 1.2, 2e-4)
    points = origins[:, None] + t[:, None] * directions[:, None]
    inside = ((points >= box[0]) & (points <= box[1])).all(dim=-1)
    meets = inside.sum(dim=1) > 1
    assert meets[0] and 30 < meets.sum() < 190
    assert (far > near)[meets].all() and (far - near)[~meets].max() < 1e-3
    first = t[inside.float().argmax(dim=1)]
    last = t[len(t) - 1 - inside.flip(1).float().argmax(dim=1)]
    torch.testing.assert_close(near[meets], first[meets], atol=3e-4, rtol=0)
    torch.testing.assert_close(far[meets], last[meets], atol=3e-4, rtol=0)


def test_points_and_directions_are_encoded_in_octaves():
    config = NerfaceFieldConfig(hidden_dim=16, density_layers=4)
    network = NerfaceNetwork(condition_dim=3, config=config)
    seen = {}
    network.trunk.register_forward_hook(lambda module, given, out: seen.update(trunk=given[0]))
    network.color.register_forward_hook(lambda module, given, out: seen.update(color=given[0]))
    points, condition = torch.randn(5, 7, 3), torch.randn(5, 3)
    directions = unit(torch.randn(5, 3))
    sigma, rgb = network(points, condition, directions)
    assert sigma.shape == (5, 7, 1) and rgb.shape == (5, 7, 3) and (sigma > 0).all()

    def octaves(x, count):
        angles = torch.stack([2.0**k * x for k in range(count)], dim=-1).flatten(-2)
        return torch.cat([angles.sin(), angles.cos()], dim=-1)

    torch.testing.assert_close(seen["trunk"][..., :60], octaves(points, 10), atol=2e-3, rtol=0)
    torch.testing.assert_close(seen["trunk"][..., -3:], condition[:, None].expand(-1, 7, -1))
    torch.testing.assert_close(
        seen["color"][..., 16:40], octaves(directions, 4)[:, None].expand(-1, 7, -1), atol=1e-5, rtol=0
    )
    wide = [layer.in_features for layer in network.trunk.layers]
    assert len(wide) == 4 and wide[2] == 16 + wide[0], "the input enters again in the middle"


def test_rendering_of_a_homogeneous_block():
    box = torch.tensor([[-0.1, -0.1, -0.1], [0.1, 0.1, 0.1]])
    field = NerfaceField(2, 0, NerfaceFieldConfig(hidden_dim=8, density_layers=2))
    renderer = NerfaceRenderer(box, field, NerfaceSamplingConfig()).eval()
    sigma, color = 6.0, torch.tensor([0.2, 0.5, 0.9])

    def block(points, condition, directions):
        return torch.full((*points.shape[:-1], 1), sigma), color.expand_as(points)

    field.coarse.forward = field.fine.forward = block
    origins = torch.tensor([[0.0, 0.0, 0.6], [0.03, 0.02, 0.6], [0.5, 0.0, 0.6]])
    directions = unit(torch.tensor([[0.0, 0.0, -1.0], [0.0, 0.1, -1.0], [0.0, 0.0, -1.0]]))
    background = torch.rand(3, 3)
    out = nerface_outputs(renderer, origins, directions, background)
    length = torch.tensor([0.2, 0.2 / -float(directions[1, 2]), 0.0])[:, None]
    # The second ray leaves through the far side as well.
    opacity = 1 - torch.exp(-sigma * length)
    expected = opacity * color + (1 - opacity) * background
    for name in ("rgb", "rgb_coarse"):
        torch.testing.assert_close(out[name], expected, atol=2e-5, rtol=0)
    torch.testing.assert_close(out["accumulation"], opacity, atol=2e-5, rtol=0)
    # Mean of t over the block, weighted by transmittance.
    depth = 0.5 + 1 / sigma - 0.2 * float(1 / opacity[0] - 1)
    assert abs(float(out["depth"][0]) - depth) < 1e-3 and float(out["depth"][2]) == 0
    assert torch.equal(out["rgb"][2], background[2])


@pytest.mark.parametrize("count", [0, 5])
def test_rays_that_all_miss_the_head_show_what_is_behind(count):
    box = torch.tensor([[-0.1, -0.1, -0.1], [0.1, 0.1, 0.1]])
    renderer = NerfaceRenderer(box, NerfaceField(2, 0, NerfaceFieldConfig(hidden_dim=8)), NerfaceSamplingConfig())
    origins = torch.tensor([0.5, 0.0, 0.6]).expand(count, 3)
    directions = torch.tensor([0.0, 0.0, -1.0]).expand(count, 3)
    background = torch.rand(count, 3)
    out = nerface_outputs(renderer, origins, directions, background)
    assert torch.equal(out["rgb"], background) and torch.equal(out["rgb_coarse"], background)
    assert float(out["accumulation"].sum()) == float(out["depth"].sum()) == 0


def test_only_the_expression_and_the_code_tell_moments_apart(subject_root):
    small = NerfaceFieldConfig(hidden_dim=16, density_layers=2, precision="float32")
    sampling = NerfaceSamplingConfig(num_coarse=8, num_fine=8)
    spec = methods.nerface
    for use_expression in (True, False):
        field = dataclasses.replace(small, use_expression=use_expression)
        model, outputs = build(subject_root, spec, field=field, sampling=sampling, latent_dim=3)
        model.eval()
        camera = outputs.cameras[0:1]
        camera.metadata = None
        pictures = []
        for row in (0, 1, 2):
            model.override = model.motion.at_timestep(row)
            pictures.append(model.get_outputs_for_camera(camera)["rgb"])
        assert ((pictures[0] - pictures[2]).abs().max() > 1e-4) == use_expression
        assert model.latents.codes.shape == (8, 3) and pictures[0].shape == (32, 32, 3)
        assert any(p is model.latents.codes for p in model.get_param_groups()["network"])


def test_scene_box_is_where_nerface_looks(subject_root):
    model, outputs = build(subject_root, methods.nerface, field=NerfaceFieldConfig(hidden_dim=8, density_layers=2))
    assert isinstance(outputs.scene_box, SceneBox)
    torch.testing.assert_close(model.renderer.box, outputs.scene_box.aabb)


def test_every_parameter_has_an_optimiser():
    for spec in (methods.nerface, methods.flame_nerf_insta):
        assert spec.config.method_name and spec.config.cpu_rays_per_batch < 2048
        assert not spec.config.pipeline.model.refinement.pose.calibrate
    assert methods.flame_nerf_insta.config.optimizers["network"]["optimizer"].weight_decay == 1e-6
    assert methods.flame_nerf_insta.config.pipeline.model.ema_decay == 0.95
