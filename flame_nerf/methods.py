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
from tyro.conf import Fixed

from flame_nerf.baselines import InstaModelConfig, NerfaceModelConfig, NhaModelConfig
from flame_nerf.canonical import MappingConfig
from flame_nerf.data.pixel_sampler import HeadPixelSamplerConfig
from flame_nerf.datamanager import FlameNerfDataManagerConfig
from flame_nerf.dataparser import FlameNerfDataParserConfig
from flame_nerf.field import FieldConfig
from flame_nerf.losses.weights import LossWeights
from flame_nerf.model import FlameNerfModelConfig
from flame_nerf.refinement import PoseRefinementConfig, TrackRefinementConfig
from flame_nerf.render.observed.occupancy import OccupancyConfig
from flame_nerf.render.sampling_config import SamplingConfig
from flame_nerf.runtime.old_runs import StoredConfig
from flame_nerf.training.trainer import DecaySchedulerConfig, FlameNerfTrainerConfig
from flame_nerf.training.viewer_address import LOCAL


@dataclass
class FusedAdamConfig(StoredConfig, OptimizerConfig):
    """Adam as one kernel: ten times faster on the CPU for a hash table."""

    _target: type = torch.optim.Adam
    """The optimizer class to use."""
    betas: Fixed[tuple[float, float]] = (0.9, 0.99)
    """Decay of the running means."""
    eps: float = 1e-15
    """Small: most of a hash table's entries have tiny gradients that must count."""
    fused: Fixed[bool] = True
    """One kernel for the whole step."""
    weight_decay: float = 0.0
    """Part of each weight that is added to its gradient (l2)."""


def _refining(lr: float) -> dict[str, Any]:
    optimizer = FusedAdamConfig(lr=lr, betas=(0.9, 0.999))
    return {"optimizer": optimizer, "scheduler": DecaySchedulerConfig(final_factor=0.1)}


def _optimizers(lr: float, pose_lr: float) -> dict[str, dict[str, Any]]:
    return {
        "encoding": {"optimizer": FusedAdamConfig(lr=lr), "scheduler": DecaySchedulerConfig(final_factor=0.05)},
        "network": {"optimizer": FusedAdamConfig(lr=lr / 4), "scheduler": DecaySchedulerConfig(final_factor=0.05)},
        "camera_opt": _refining(pose_lr),
        "expression_opt": _refining(1e-2),
        "identity_opt": _refining(1e-2),
        "light_opt": _refining(1e-2),
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
                field=FieldConfig(
                    n_levels=16, log2_hashmap_size=19, max_resolution=2048, pixels_per_cell=1.0, hidden_dim=64
                ),
                sampling=SamplingConfig(falloff=4.0),
                # The patent's whole objective (claim 7), at weights that cost the front nothing that could be shown.
                loss_coefficients=LossWeights(depth_loss=1e-3, semantic_loss=1e-5),
                eval_num_rays_per_chunk=1 << 16,
            ),
        ),
        optimizers=_optimizers(lr=5e-3, pose_lr=1e-4),
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
                field=FieldConfig(
                    n_levels=8, log2_hashmap_size=18, max_resolution=512, pixels_per_cell=1.0, hidden_dim=32
                ),
                sampling=SamplingConfig(falloff=4.0, step=0.0025, behind=0.012),
            ),
        ),
        optimizers=_optimizers(lr=2e-2, pose_lr=1e-4),
        logging=LoggingConfig(steps_per_log=100),
        viewer=ViewerConfig(num_rays_per_chunk=1 << 13, websocket_host=LOCAL),
        vis="tensorboard",
    ),
    description="The same on two processor cores: an avatar in two to four minutes, no GPU needed.",
)


UNREFINED = TrackRefinementConfig(pose=PoseRefinementConfig(calibrate=False, over_time=False))
"""The published baselines take the track as it is."""


def _unweighted_pixels() -> HeadPixelSamplerConfig:
    """Pixels anywhere in the box of the head, as NeRFace draws nearly all of its own and INSTA all but the far ones."""
    return HeadPixelSamplerConfig(
        frames_per_batch=32, matte_share=0.0, surroundings_share=1.0, mouth_share=0.0, eyes_share=0.0
    )


nerface = MethodSpecification(
    config=FlameNerfTrainerConfig(
        method_name="nerface",
        max_num_iterations=200_000,
        steps_per_save=2000,
        steps_per_eval_batch=1000,
        steps_per_eval_image=10_000,
        steps_per_eval_all_images=1_000_000,
        cpu_rays_per_batch=128,
        pipeline=VanillaPipelineConfig(
            datamanager=FlameNerfDataManagerConfig(
                dataparser=FlameNerfDataParserConfig(background_color="plate-or-white"),
                train_num_rays_per_batch=2048,
                eval_num_rays_per_batch=2048,
                pixel_sampler=_unweighted_pixels(),
            ),
            model=NerfaceModelConfig(refinement=UNREFINED),
        ),
        optimizers={
            "network": {
                "optimizer": FusedAdamConfig(lr=5e-4, betas=(0.9, 0.999), eps=1e-8),
                "scheduler": DecaySchedulerConfig(final_factor=0.1),
            }
        },
        logging=LoggingConfig(steps_per_log=50),
        viewer=ViewerConfig(num_rays_per_chunk=1 << 12, websocket_host=LOCAL),
        vis="viewer",
    ),
    description="Baseline: NeRFace, a NeRF conditioned on the expression, in the head's frame. Slow on a processor.",
)

flame_nerf_insta = MethodSpecification(
    config=FlameNerfTrainerConfig(
        method_name="flame-nerf-insta",
        max_num_iterations=33000,
        steps_per_save=2000,
        steps_per_eval_batch=500,
        steps_per_eval_image=2000,
        steps_per_eval_all_images=1_000_000,
        cpu_rays_per_batch=1024,
        pipeline=VanillaPipelineConfig(
            datamanager=FlameNerfDataManagerConfig(
                train_num_rays_per_batch=8192,
                eval_num_rays_per_batch=4096,
                pixel_sampler=_unweighted_pixels(),
            ),
            model=InstaModelConfig(
                refinement=UNREFINED,
                # Weighed once a face: within the shell, exp(-4 d) with d in metres changes by less than a tenth.
                mapping=MappingConfig(
                    squared=False,
                    blend="face",
                    blend_regions=("skin", "lips", "eyelids"),
                    scale_regions=("eyes", "eyelids", "sockets"),
                ),
                field=FieldConfig(
                    n_levels=16,
                    features_per_level=8,
                    log2_hashmap_size=18,
                    max_resolution=2048,
                    hidden_dim=64,
                    density_layers=2,
                    color_layers=3,
                    direction_degree=3,
                    modulate_features=False,
                    condition_gain=1.0,
                ),
                sampling=SamplingConfig(
                    occupancy=OccupancyConfig(resolution=128),
                    observed_directions_only=False,
                    observed_expressions_only=False,
                    observed_clothes_only=False,
                    observed_sides_only=False,
                ),
            ),
        ),
        optimizers={
            group: {
                "optimizer": FusedAdamConfig(lr=1.75e-3, weight_decay=weight_decay),
                "scheduler": DecaySchedulerConfig(final_factor=0.33),
            }
            for group, weight_decay in (("encoding", 0.0), ("network", 1e-6))
        },
        logging=LoggingConfig(steps_per_log=50),
        viewer=ViewerConfig(num_rays_per_chunk=1 << 15, websocket_host=LOCAL),
        vis="viewer",
    ),
    description="Baseline: INSTA's choices of mapping, condition, sizes and losses over this package's renderer.",
)

nha = MethodSpecification(
    config=FlameNerfTrainerConfig(
        method_name="nha",
        max_num_iterations=30000,
        steps_per_save=2000,
        steps_per_eval_batch=500,
        steps_per_eval_image=2000,
        steps_per_eval_all_images=1_000_000,
        cpu_rays_per_batch=2048,
        pipeline=VanillaPipelineConfig(
            datamanager=FlameNerfDataManagerConfig(
                train_num_rays_per_batch=16384,
                eval_num_rays_per_batch=4096,
                pixel_sampler=HeadPixelSamplerConfig(frames_per_batch=4),
            ),
            model=NhaModelConfig(),
        ),
        optimizers={
            "network": {
                "optimizer": FusedAdamConfig(lr=2e-3, betas=(0.9, 0.999), eps=1e-8),
                "scheduler": DecaySchedulerConfig(final_factor=0.05),
            },
            "geometry": {
                "optimizer": FusedAdamConfig(lr=1e-3, betas=(0.9, 0.999), eps=1e-8),
                "scheduler": DecaySchedulerConfig(final_factor=0.05),
            },
            "camera_opt": _refining(1e-4),
            "expression_opt": _refining(1e-2),
            "identity_opt": _refining(1e-2),
        },
        logging=LoggingConfig(steps_per_log=50),
        viewer=ViewerConfig(num_rays_per_chunk=1 << 15, websocket_host=LOCAL),
        vis="viewer",
    ),
    description="Baseline: Neural Head Avatars, the head model's mesh moved and coloured by two networks.",
)


def with_steps(config: FlameNerfTrainerConfig, steps: int) -> FlameNerfTrainerConfig:
    """A copy of a method's config for a run of `steps` steps; learning rates decay over just that many."""
    config = copy.deepcopy(config)
    config.max_num_iterations = steps
    return config
