"""The baselines from end to end on the synthetic head: train, save, resume, evaluate with Nerfstudio's own command."""

from __future__ import annotations

import copy
import json

import numpy as np
import pytest
import torch
from synthetic import make_subject

from flame_nerf import methods

STEPS = {"nerface": 400, "flame-nerf-insta": 260, "nha": 160}
RAYS = 192


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return make_subject(tmp_path_factory.mktemp("run") / "subject", size=32, count=10).root


def small(name):
    """A baseline's config at a size for a test; what makes it that baseline stays."""
    config = copy.deepcopy(
        {"nerface": methods.nerface, "flame-nerf-insta": methods.flame_nerf_insta, "nha": methods.nha}[name].config
    )
    model = config.pipeline.model
    if name == "nerface":
        model.field.hidden_dim, model.field.density_layers = 32, 4
        model.sampling.num_coarse = model.sampling.num_fine = 12
        model.eval_num_rays_per_chunk = 1024
        config.optimizers["network"]["optimizer"].lr = 5e-3
    elif name == "nha":
        model.field.geometry_dim, model.field.texture_dim, model.field.texture_layers = 32, 48, 3
        model.sampling.least_faces, model.sampling.sharpen_steps = 0, 100
        config.optimizers["network"]["optimizer"].lr = config.optimizers["geometry"]["optimizer"].lr = 2e-3
    else:
        model.field.n_levels, model.field.log2_hashmap_size = 8, 14
        model.sampling.step, model.sampling.occupancy.resolution = 0.004, 32
        config.optimizers["encoding"]["optimizer"].lr = config.optimizers["network"]["optimizer"].lr = 1e-2
    config.machine.device_type, config.vis = "cpu", "tensorboard"
    config.cpu_rays_per_batch = RAYS
    config.steps_per_eval_batch = config.steps_per_eval_image = config.steps_per_save = 10**6
    return config


@pytest.mark.slow
@pytest.mark.parametrize("name", ["nerface", "flame-nerf-insta", "nha"])
def test_train_resume_and_evaluate(name, root, tmp_path, monkeypatch):
    from nerfstudio.configs.method_configs import all_methods
    from nerfstudio.scripts.eval import ComputePSNR

    monkeypatch.setitem(all_methods, name, small(name))
    torch.set_num_threads(1)
    config = methods.with_steps(small(name), STEPS[name])
    config.pipeline.datamanager.data, config.output_dir, config.timestamp = root, tmp_path, "t"
    config.experiment_name = "e"
    config.save_config()
    torch.manual_seed(0)
    np.random.seed(0)
    trainer = config.setup()
    trainer.setup()
    model = trainer.pipeline.model
    assert trainer.pipeline.datamanager.get_train_rays_per_batch() == RAYS
    flat = held_out_psnr(trainer.pipeline, flat=True)
    trainer.train()
    own = [p.detach().clone() for p in model.get_param_groups()["network"]]

    ComputePSNR(load_config=config.get_base_dir() / "config.yml", output_path=tmp_path / "eval.json").main()
    results = json.loads((tmp_path / "eval.json").read_text())["results"]
    assert results["psnr_matte"] > flat + 0.8

    # What is evaluated is what the trained model shows, averaged weights and all.
    trainer.pipeline.eval()
    assert abs(held_out_psnr(trainer.pipeline) - results["psnr_matte"]) < 0.05
    for before, after in zip(own, model.get_param_groups()["network"], strict=True):
        assert torch.equal(before, after), "showing pictures left the weights that are trained alone"

    resumed = copy.deepcopy(config)
    resumed.load_dir, resumed.timestamp, resumed.max_num_iterations = config.get_checkpoint_dir(), "r", 1
    again = resumed.setup()
    again.setup()
    assert again._start_step == STEPS[name]
    for (key, a), (_, b) in zip(
        sorted(model.state_dict().items()), sorted(again.pipeline.model.state_dict().items()), strict=True
    ):
        assert torch.equal(a, b), key


def held_out_psnr(pipeline, flat: bool = False) -> float:
    """Mean PSNR inside the matte over the held-out frames: of the model, or of the best that one colour could score."""
    data = pipeline.datamanager
    scores = []
    for index in range(len(data.eval_dataset)):
        truth = data.eval_dataset.get_data(index)
        inside = truth["mask"][..., 0] > 0.5
        if flat:
            picture = truth["image"][inside].mean(dim=0).expand_as(truth["image"])
        else:
            picture = pipeline.model.get_outputs_for_camera(data.eval_dataset.cameras[index : index + 1])["rgb"]
        scores.append(float(-10 * (picture - truth["image"])[inside].square().mean().log10()))
    return float(np.mean(scores))
