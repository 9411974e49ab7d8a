"""A subject is a plain static capture too: a method of Nerfstudio's own trains on it."""

import copy

import pytest
import torch
from synthetic import make_subject

STEPS = 40


class NoPerceptualMetric(torch.nn.Module):
    """In place of LPIPS, whose network would be downloaded when nerfacto is built; training does not use it."""

    def __init__(self, **kwargs):
        super().__init__()


@pytest.mark.slow
def test_nerfacto_learns_from_a_subject(tmp_path, monkeypatch):
    from nerfstudio.configs.method_configs import all_methods
    from torchmetrics.image import lpip

    monkeypatch.setattr(lpip, "LearnedPerceptualImagePatchSimilarity", NoPerceptualMetric)
    root = make_subject(tmp_path / "subject", size=48, count=15).root
    config = copy.deepcopy(all_methods["nerfacto"])
    config.machine.device_type = "cpu"
    config.max_num_iterations = STEPS
    config.output_dir, config.vis = tmp_path / "outputs", "tensorboard"
    data, model = config.pipeline.datamanager, config.pipeline.model
    data.data = config.data = root
    data.train_num_rays_per_batch = data.eval_num_rays_per_batch = 256
    model.implementation = "torch"
    # Small, so that the CPU needs seconds.
    model.num_levels, model.max_res, model.log2_hashmap_size = 4, 64, 12
    model.num_proposal_samples_per_ray, model.num_nerf_samples_per_ray = (16, 12), 8
    config.mixed_precision = False

    torch.manual_seed(0)
    trainer = config.setup(local_rank=0, world_size=1)
    trainer.setup()
    trainer.pipeline.train()
    losses = [float(trainer.train_iteration(step)[1]["rgb_loss"].detach()) for step in range(STEPS)]
    assert sum(losses[-8:]) / 8 < 0.75 * losses[0], losses
