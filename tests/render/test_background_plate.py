"""A clean plate behind the pictures: asked for, found or missing, and where it shows."""

from __future__ import annotations

import dataclasses
import json

import cv2
import numpy as np
import pytest
import torch
from nerfstudio.model_components import renderers
from synthetic import make_subject

from flame_nerf import methods
from flame_nerf.datamanager import FlameNerfDataManagerConfig
from flame_nerf.dataparser import FlameNerfDataParserConfig
from flame_nerf.subject import SubjectError

SIZE = 32


@pytest.fixture(scope="module")
def bare_root(tmp_path_factory):
    return make_subject(tmp_path_factory.mktemp("bare") / "subject", size=SIZE, count=8).root


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = make_subject(tmp_path_factory.mktemp("plate") / "subject", size=SIZE, count=8).root
    write_plate(root, np.random.default_rng(0).integers(0, 255, (SIZE, SIZE, 3), dtype=np.uint8))
    return root


def write_plate(root, rgb):
    cv2.imwrite(str(root / "background.png"), rgb[..., ::-1])
    path = root / "transforms.json"
    meta = json.loads(path.read_text())
    meta["flame_nerf"]["background"] = "background.png"
    path.write_text(json.dumps(meta))


def parse(root, color="plate", **config):
    config = FlameNerfDataParserConfig(data=root, background_color=color, **config)
    return config.setup().get_dataparser_outputs("train")


def manager(root, color="plate"):
    config = FlameNerfDataManagerConfig(
        data=root,
        dataparser=FlameNerfDataParserConfig(background_color=color),
        train_num_rays_per_batch=256,
        eval_num_rays_per_batch=64,
    )
    return config.setup(device="cpu", test_mode="val")


def test_plate_that_is_asked_for_and_missing(bare_root):
    with pytest.raises(SubjectError, match=r"transforms.json names none.*background-color white"):
        parse(bare_root)
    assert parse(bare_root, "plate-or-white").metadata["plate"] is None
    assert parse(bare_root, "white").metadata["plate"] is None


def test_plate_of_another_size_and_of_several_cameras(tmp_path):
    root = make_subject(tmp_path / "subject", size=SIZE, count=4).root
    write_plate(root, np.zeros((SIZE, SIZE + 2, 3), dtype=np.uint8))
    with pytest.raises(SubjectError, match="34x32.*32x32"):
        parse(root)
    write_plate(root, np.zeros((SIZE, SIZE, 3), dtype=np.uint8))
    meta = json.loads((root / "transforms.json").read_text())
    for frame in meta["frames"]:
        frame.update({name: meta[name] for name in ("fl_x", "fl_y", "cx", "cy")})
    (root / "transforms.json").write_text(json.dumps(meta))
    with pytest.raises(SubjectError, match="several cameras"):
        parse(root)


def test_plate_is_shrunk_with_the_pictures(root):
    plate = parse(root, downscale_factor=2).metadata["plate"]
    whole = cv2.imread(str(root / "background.png"))[..., ::-1] / 255.0
    mean = whole.reshape(SIZE // 2, 2, SIZE // 2, 2, 3).mean(axis=(1, 3))
    assert np.abs(plate.numpy() - mean).max() < 0.51 / 255


def test_rays_and_pictures_carry_it(root):
    data = manager(root)
    whole = torch.from_numpy(cv2.imread(str(root / "background.png"))[..., ::-1].copy()).float() / 255
    for bundle, batch in (data.next_train(0), data.next_eval(0)):
        _, row, column = batch["indices"].T
        torch.testing.assert_close(bundle.metadata["background"], whole[row, column])
    shown, alpha = data.train_dataset[0]["image"], data.train_dataset[0]["mask"]
    rgba = torch.from_numpy(data.train_dataset.get_numpy_image(0)).float() / 255
    torch.testing.assert_close(shown, rgba[..., :3] * alpha + whole * (1 - alpha))
    assert "background" not in manager(root, "white").next_train(0)[0].metadata


def test_it_shows_behind_tracked_views_alone(root):
    data = manager(root)
    config = methods.flame_nerf_cpu.config.pipeline.model
    config = dataclasses.replace(
        config, latent_dim=3, field=dataclasses.replace(config.field, n_levels=2, log2_hashmap_size=8)
    )
    outputs = data.train_dataparser_outputs
    model = config.setup(
        scene_box=outputs.scene_box, num_train_data=len(data.train_dataset), metadata=data.train_dataset.metadata,
        device="cpu", grad_scaler=None,
    )  # fmt: skip
    bundle, batch = data.next_train(0)
    model.train()
    out = model(bundle)
    assert torch.equal(out["background"], bundle.metadata["background"]), "no random colours"
    losses = model.get_loss_dict(out, batch)
    assert float(losses["latent_regularizer"]) > 0
    sum(losses.values()).backward()
    assert model.latents.codes.grad.abs().sum() > 0

    model.eval()
    # As if training had been everywhere; else nothing of the untrained head would show.
    model.renderer.occupancy.highest.fill_(1e3)
    camera = data.eval_dataset.cameras[0:1]
    plate = data.train_dataset.metadata["plate"]
    tracked = model.get_outputs_for_camera(camera)
    outside = tracked["accumulation"][..., 0] == 0
    with renderers.background_color_override_context(torch.ones(3)):
        on_white = model.get_outputs_for_camera(camera)["rgb"]
    through = (1 - tracked["accumulation"]) * (plate - 1)
    torch.testing.assert_close(tracked["rgb"] - on_white, through, atol=1e-5, rtol=0)
    assert (tracked["accumulation"] > 0.01).sum() > 100
    assert outside.sum() > 100 and torch.equal(tracked["rgb"][outside], plate[outside])
    assert torch.equal(tracked["background"], plate)
    free = camera[:]
    free.metadata = None
    seen = model.get_outputs_for_camera(free)
    assert "background" not in seen and (seen["rgb"][outside] == 1).all()
    with renderers.background_color_override_context(torch.tensor([1.0, 0.0, 0.0])):
        red = model.get_outputs_for_camera(camera)["rgb"][outside]
    assert torch.equal(red, torch.tensor([1.0, 0.0, 0.0]).expand_as(red))


def test_codes_of_trained_moments_and_the_mean_code_in_films(root):
    data = manager(root, "white")
    config = dataclasses.replace(methods.flame_nerf_cpu.config.pipeline.model, latent_dim=2)
    model = config.setup(
        scene_box=data.train_dataparser_outputs.scene_box, num_train_data=len(data.train_dataset),
        metadata=data.train_dataset.metadata, device="cpu", grad_scaler=None,
    )  # fmt: skip

    def code(camera) -> torch.Tensor:
        return model.conditioning(model.timeline.of_camera(camera))[0, -2:]

    trained = data.train_dataset.cameras[2:3]
    row = int(trained.metadata["frame_idx"])
    assert torch.equal(code(trained), model.latents.codes[row])
    held_out = data.eval_dataset.cameras[0:1]
    torch.testing.assert_close(code(held_out), model.latents.mean())
    free = trained[:]
    free.metadata, free.times = None, None
    torch.testing.assert_close(code(free), model.latents.mean())
