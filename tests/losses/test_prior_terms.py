"""Depth order and meaning as terms of a training step: wanted when due, reaching the field, left out with one line."""

import copy
import json

import numpy as np
import pytest
import torch
from synthetic import DISTANCE, look_at_origin, make_subject

from flame_nerf import methods
from flame_nerf.geometry import matrix_to_axis_angle
from flame_nerf.losses.depth import DepthTerm, DepthTermConfig
from flame_nerf.losses.encoders import ImageEncoderConfig
from flame_nerf.losses.semantic import SemanticTerm, SemanticTermConfig


def sphere_patch(size: int = 8) -> tuple[dict, dict]:
    """Outputs and batch of one patch that looks at a ball: nearest in the middle. Three rays stand before it."""
    along = torch.linspace(-1, 1, size)
    depth = 0.5 + 0.02 * (along[:, None] ** 2 + along[None] ** 2)
    rays = 3 + size * size
    ones = torch.ones(rays, 1)
    outputs = {"depth": torch.zeros(rays, 1), "accumulation": ones, "directions_norm": ones}
    outputs["depth"][3:, 0] = depth.flatten()
    batch = {"mask": torch.ones(rays, 1), "image": torch.rand(rays, 3), "num_patches": 1, "patch_size": size}
    batch["depth_prior"] = 1 - (depth - depth.min())[None] / (depth.max() - depth.min())
    return outputs, batch


@pytest.mark.parametrize("kind", ["ranking", "hinge"])
def test_right_order_costs_less_than_wrong_order(kind):
    outputs, batch = sphere_patch()
    term = DepthTerm(DepthTermConfig(kind=kind, pairs=500))
    torch.manual_seed(0)
    right = float(term.loss(outputs, batch))
    wrong = float(term.loss(outputs | {"depth": 1.0 - outputs["depth"]}, batch))
    flat = float(term.loss(outputs | {"depth": torch.full_like(outputs["depth"], 0.5)}, batch))
    assert right < flat < wrong


def test_depth_is_compared_along_the_optical_axis():
    """Rays of a wide lens to a flat wall: the longer way to its corners is no order of depths."""
    outputs, batch = sphere_patch()
    norm = 1 + (outputs["depth"] - 0.5) * (outputs["depth"] > 0)
    wall = outputs | {"depth": 0.5 * norm, "directions_norm": norm}
    batch = batch | {"depth_prior": torch.full((1, 8, 8), 0.5)}
    batch["depth_prior"][0, 0, 0] = 0.501
    loss = DepthTerm(DepthTermConfig(kind="ranking")).loss(wall, batch)
    assert float(loss) < 1e-6


def test_what_is_transparent_or_outside_the_matte_has_no_depth():
    outputs, batch = sphere_patch()
    term = DepthTerm(DepthTermConfig(pairs=200))
    assert float(term.loss(outputs | {"accumulation": torch.zeros_like(outputs["accumulation"])}, batch)) == 0.0
    assert float(term.loss(outputs, batch | {"mask": torch.zeros_like(batch["mask"])})) == 0.0


def test_a_subject_without_depth_is_told_of_once_and_trains_on(capsys):
    outputs, batch = sphere_patch()
    batch.pop("depth_prior")
    term = DepthTerm(DepthTermConfig())
    assert term.loss(outputs, batch) is None
    assert term.loss(outputs, batch) is None
    assert capsys.readouterr().out.count("carries no depth maps") == 1
    assert DepthTerm(DepthTermConfig(kind="smoothness")).loss(outputs, batch) is not None, "it needs no prior"


def test_patches_come_every_nth_step():
    assert [step for step in range(12) if DepthTerm(DepthTermConfig(every=4)).wanted(step)] == [0, 4, 8]
    assert not any(DepthTerm(DepthTermConfig(kind="none")).wanted(step) for step in range(12))


@pytest.fixture(scope="module")
def tiny_clip(tmp_path_factory):
    """Weights of a small CLIP model in a file, as a user's own would be."""
    import open_clip

    folder = tmp_path_factory.mktemp("clip")
    text = {"context_length": 8, "vocab_size": 50, "width": 16, "heads": 2, "layers": 1}
    vision = {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 8}
    (folder / "tiny-terms.json").write_text(json.dumps({"embed_dim": 24, "vision_cfg": vision, "text_cfg": text}))
    open_clip.add_model_config(folder)
    torch.manual_seed(0)
    torch.save(open_clip.create_model("tiny-terms").state_dict(), folder / "tiny.pt")
    return ImageEncoderConfig(model="tiny-terms", weights=str(folder / "tiny.pt"))


def trainer_of(folder, subject, **settings):
    """A trainer of flame-nerf-cpu on a subject, not yet run."""
    config = copy.deepcopy(methods.flame_nerf_cpu.config)
    config.data = config.pipeline.datamanager.data = subject.root
    config.output_dir, config.vis, config.max_num_iterations = folder, "tensorboard", 30
    config.pipeline.datamanager.train_num_rays_per_batch = 256
    config.pipeline.datamanager.pixel_sampler.patch_size = 6
    model = config.pipeline.model
    model.loss_starts.depth_loss = model.loss_starts.semantic_loss = 2
    for name, value in settings.items():
        owner, _, field = name.rpartition("__")
        setattr(getattr(model, owner), field, value)
    trainer = config.setup(local_rank=0, world_size=1)
    trainer.setup()
    return trainer


def step(trainer, index: int) -> dict[str, torch.Tensor]:
    """One training step as Nerfstudio's loop does it; returns the loss terms."""
    trainer.pipeline.train()
    for callback in trainer.callbacks:
        if "BEFORE_TRAIN_ITERATION" in [place.name for place in callback.where_to_run]:
            callback.run_callback(index)
    return trainer.train_iteration(index)[1]


@pytest.mark.slow
def test_both_terms_reach_the_field(tmp_path, tiny_clip):
    import cv2

    subject = make_subject(tmp_path / "subject", size=48, count=8)
    (subject.root / "depths").mkdir()
    meta = json.loads((subject.root / "transforms.json").read_text())
    for frame in meta["frames"]:
        frame["depth_file_path"] = frame["file_path"].replace("images", "depths")
        ramp = np.tile(np.linspace(100, 60000, 48), (48, 1)).astype(np.uint16)
        cv2.imwrite(str(subject.root / frame["depth_file_path"]), ramp)
    (subject.root / "transforms.json").write_text(json.dumps(meta))
    trainer = trainer_of(
        tmp_path, subject, loss_coefficients__depth_loss=0.01, loss_coefficients__semantic_loss=0.01,
        semantic__encoder=tiny_clip, semantic__every=3, semantic__size=16,
    )  # fmt: skip
    logged = [set(step(trainer, index)) for index in range(9)]
    assert [index for index, names in enumerate(logged) if "depth_loss" in names] == [4, 8]
    assert [index for index, names in enumerate(logged) if "semantic_loss" in names] == [3, 6]
    model = trainer.pipeline.model
    model.zero_grad()
    bundle, batch = trainer.pipeline.datamanager.next_train(9)
    model.losses.terms(model(bundle), batch, 9)["semantic_loss"]().backward()
    assert model.renderer.field.grid.table.grad.abs().max() > 0
    others = [*model.refinement.parameters(), *model.renderer.field.get_param_groups()["network"]]
    assert all(p.grad is None or p.grad.abs().max() == 0 for p in others)
    assert not any("encoder" in name for name in model.state_dict()), "the encoder is no part of the checkpoint"


@pytest.mark.slow
def test_without_weights_or_network_training_goes_on(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    subject = make_subject(tmp_path / "subject", size=48, count=8)
    # The CUDA method's own weights: all terms are asked for.
    asked = methods.flame_nerf.config.pipeline.model.loss_coefficients
    assert min(asked.color_loss, asked.depth_loss, asked.semantic_loss, asked.unseen_loss) > 0
    weights = {f"loss_coefficients__{name}": getattr(asked, name) for name in ("depth_loss", "semantic_loss")}
    trainer = trainer_of(tmp_path, subject, **weights)
    patches = []
    for index in range(9):
        patches.append(trainer.pipeline.model.losses.wants_patches(index))
        names = set(step(trainer, index))
        assert "color_loss" in names and not names & {"semantic_loss", "depth_loss"}
    said = capsys.readouterr().out
    assert said.count("without the semantic loss") == said.count("without the depth loss") == 1
    assert patches == [False, False, False, False, True, False, False, False, False], "no more of what nothing knows of"


def test_every_other_view_is_the_frames_own_and_targets_are_frames_seen_alike(monkeypatch):
    from flame_nerf.losses import semantic

    yaws = torch.deg2rad(torch.tensor([-40.0, -20.0, 0.0, 20.0, 40.0]))
    c2w = torch.stack([torch.from_numpy(look_at_origin(float(yaw), 0.0)[:3]).float() for yaw in yaws])
    seen, targets = [], []

    class Views:
        target = None

        def rays(self, frame, camera, jitter):
            seen.append(camera)
            return torch.zeros(16, 3), torch.zeros(16, 3)

    class Prior:
        def loss(self, rgb, frames, pose_render, pose_target):
            (target,) = frames
            targets.append(target)
            assert torch.allclose(pose_render, matrix_to_axis_angle(seen[-1][None, :, :3]))
            assert torch.allclose(pose_target, matrix_to_axis_angle(c2w[target][None, :, :3]))
            assert rgb.shape == (1, 4, 4, 3)
            return rgb.sum()

    monkeypatch.setattr(semantic, "HeadViews", lambda *options: Views())
    monkeypatch.setattr(semantic, "SemanticPrior", lambda *options: Prior())
    monkeypatch.setattr(semantic, "load_image_encoder", lambda *options: None)
    term = SemanticTerm(SemanticTermConfig(size=4, max_angle_deg=40.0), torch.zeros(3))
    term.prepare(None, (0.0, 0.0, 0.0), torch.device("cpu"))
    rendered = []

    def render(frame, origins, directions):
        rendered.append(frame)
        return {"rgb": torch.zeros(16, 3)}

    for _ in range(40):
        term.loss(c2w, render)
    own = [torch.equal(camera, c2w[frame]) for camera, frame in zip(seen, rendered, strict=True)]
    assert own == [True, False] * 20
    for camera, frame, target, is_own in zip(seen, rendered, targets, own, strict=True):
        # The head's centre stays where it is in the picture.
        expected = torch.tensor([0.0, 0.0, -DISTANCE])
        assert torch.allclose(camera[:, :3].T @ -camera[:, 3], expected, atol=1e-6)
        apart = (camera[:, 3] - c2w[:, :, 3]).norm(dim=1)
        assert target == (frame if is_own else int(apart.argmin()))
    assert any(target != frame for target, frame in zip(targets, rendered, strict=True))
