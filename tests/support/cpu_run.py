"""A short training on the CPU, and all its numbers in one."""

from __future__ import annotations

import copy
import hashlib
import random
from pathlib import Path

import numpy as np
import torch

from flame_nerf.methods import flame_nerf_cpu


def digest(subject: Path, folder: Path, steps: int) -> str:
    """Of every step's loss, and of all weights and buffers after the last, to the last bit.

    On one thread: with more, the kernels sum the networks' gradients in as many parts, which rounds otherwise.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    config = copy.deepcopy(flame_nerf_cpu.config)
    config.data = config.pipeline.datamanager.data = subject
    config.output_dir, config.experiment_name, config.timestamp = folder, "cpu", "t"
    config.vis, config.max_num_iterations = "tensorboard", steps
    config.logging.local_writer.enable = False
    config.pipeline.datamanager.train_num_rays_per_batch = 128
    model = config.pipeline.model
    model.field.log2_hashmap_size, model.field.n_levels = 10, 4
    model.refinement.pose.calibration_start_step = model.loss_starts.unseen_loss = steps // 3
    model.unseen.every = 4
    for seeded in (random.seed, np.random.seed, torch.manual_seed):
        seeded(0)
    trainer = config.setup(local_rank=0, world_size=1)
    trainer.setup()
    begin = [callback for callback in trainer.callbacks if "BEFORE" in str(callback.where_to_run)]
    found = hashlib.sha256()
    for step in range(steps):
        for callback in begin:
            callback.run_callback(step)
        found.update(np.float64(float(trainer.train_iteration(step)[0].detach())).tobytes())
    for name, value in sorted(trainer.pipeline.state_dict().items()):
        found.update(name.encode() + value.detach().contiguous().numpy().tobytes())
    torch.set_num_threads(threads)
    return found.hexdigest()
