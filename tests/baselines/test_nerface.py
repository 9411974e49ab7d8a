"""NeRFace: its box, its encodings and its rendering, each against a version written from its formula."""

from __future__ import annotations

import copy
import dataclasses

import pytest
import torch
from baseline_models import build
from nerfstudio.data.scene_box import SceneBox
from nerfstudio.engine.callbacks import TrainingCallbackAttributes, TrainingCallbackLocation
from one_thread import one_thread  # noqa: F401
from synthetic import make_subject
from torch.nn.functional import normalize

from flame_nerf import methods
from flame_nerf.baselines.nerface import (
    NerfaceField,
    NerfaceFieldConfig,
    NerfaceNetwork,
    NerfaceRenderer,
    NerfaceSamplingConfig,
    way_through_box,
)
from flame_nerf.losses.weights import LossWeights
from flame_nerf.render.step_rays import Moments, StepRays


@pytest.fixture(scope="module")
def subject_root(tmp_path_factory):
    return make_subject(tmp_path_factory.mktemp("baselines") / "subject", size=32, count=8).root


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
    origins = 0.5 * normalize(torch.randn(200, 3, generator=generator))
    directions = normalize(0.2 * torch.randn(200, 3, generator=generator) - origins)
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
    directions = normalize(torch.randn(5, 3))
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
    directions = normalize(torch.tensor([[0.0, 0.0, -1.0], [0.0, 0.1, -1.0], [0.0, 0.0, -1.0]]))
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
