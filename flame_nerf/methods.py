"""The methods that Nerfstudio finds through this package's entry points."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import torch
from nerfstudio.configs.base_config import LoggingConfig, MachineConfig, ViewerConfig
from nerfstudio.engine.optimizers import OptimizerConfig
from nerfstudio.pipelines.base_pipeline import VanillaPipelineConfig
from nerfstudio.plugins.types import MethodSpecification

from flame_nerf.datamanager import FlameNerfDataManagerConfig
from flame_nerf.field import FieldConfig
from flame_nerf.head_renderer import SamplingConfig
from flame_nerf.model import FlameNerfModelConfig
from flame_nerf.pixel_sampler import HeadPixelSamplerConfig
from flame_nerf.trainer import DecaySchedulerConfig, FlameNerfTrainerConfig

LOCAL = "127.0.0.1"
"""Who may open the viewer: this machine alone, unless --viewer.websocket-host says otherwise."""


@dataclass
class FusedAdamConfig(OptimizerConfig):
    """Adam as one kernel: ten times faster on the CPU for a hash table."""

    _target: type = torch.optim.Adam
    """The optimizer class to use."""
    betas: tuple[float, float] = (0.9, 0.99)
    """Decay of the running means."""
    eps: float = 1e-15
    """Small: most of a hash table's entries have tiny gradients that must count."""
    fused: bool = True
    """One kernel for the whole step."""


def _optimizers(lr: float, pose_lr: float) -> dict[str, dict[str, Any]]:
    return {
        "encoding": {"optimizer": FusedAdamConfig(lr=lr), "scheduler": DecaySchedulerConfig(final_factor=0.05)},
        "network": {"optimizer": FusedAdamConfig(lr=lr / 4), "scheduler": DecaySchedulerConfig(final_factor=0.05)},
        "camera_opt": {
            "optimizer": FusedAdamConfig(lr=pose_lr, betas=(0.9, 0.999)),
            "scheduler": DecaySchedulerConfig(final_factor=0.1),
        },
    }


flame_nerf = MethodSpecification(
    config=FlameNerfTrainerConfig(
        method_name="flame-nerf",
        max_num_iterations=33000,
        steps_per_save=2000,
        steps_per_eval_batch=500,
        steps_per_eval_image=2000,
        steps_per_eval_all_images=33000,
        pipeline=VanillaPipelineConfig(
            datamanager=FlameNerfDataManagerConfig(
                train_num_rays_per_batch=8192,
                eval_num_rays_per_batch=4096,
                pixel_sampler=HeadPixelSamplerConfig(frames_per_batch=16),
            ),
            model=FlameNerfModelConfig(
                field=FieldConfig(n_levels=16, log2_hashmap_size=19, max_resolution=2048, hidden_dim=64),
                eval_num_rays_per_chunk=1 << 16,
            ),
        ),
        optimizers=_optimizers(lr=5e-3, pose_lr=5e-5),
        logging=LoggingConfig(steps_per_log=50),
        viewer=ViewerConfig(num_rays_per_chunk=1 << 15, websocket_host=LOCAL),
        vis="viewer",
    ),
    description="A head avatar from a tracked talking-head video; for a CUDA device.",
)

flame_nerf_cpu = MethodSpecification(
    config=FlameNerfTrainerConfig(
        method_name="flame-nerf-cpu",
        max_num_iterations=6000,
        steps_per_save=1000,
        steps_per_eval_batch=1000,
        steps_per_eval_image=2000,
        steps_per_eval_all_images=1_000_000,
        machine=MachineConfig(device_type="cpu"),
        pipeline=VanillaPipelineConfig(
            datamanager=FlameNerfDataManagerConfig(
                train_num_rays_per_batch=1024,
                eval_num_rays_per_batch=1024,
                pixel_sampler=HeadPixelSamplerConfig(frames_per_batch=8),
            ),
            model=FlameNerfModelConfig(
                field=FieldConfig(n_levels=8, log2_hashmap_size=16, max_resolution=512, hidden_dim=32),
                sampling=SamplingConfig(step=0.0025, behind=0.012),
            ),
        ),
        optimizers=_optimizers(lr=2e-2, pose_lr=5e-5),
        logging=LoggingConfig(steps_per_log=100),
        viewer=ViewerConfig(num_rays_per_chunk=1 << 13, websocket_host=LOCAL),
        vis="tensorboard",
    ),
    description="The same on two processor cores: a usable avatar in ten minutes, no GPU needed.",
)


def with_steps(config: FlameNerfTrainerConfig, steps: int) -> FlameNerfTrainerConfig:
    """A copy of a method's config for a run of `steps` steps; learning rates decay over just that many."""
    config = copy.deepcopy(config)
    config.max_num_iterations = steps
    return config
