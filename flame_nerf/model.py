"""The model of a head avatar, in Nerfstudio's verbs; each room's work stands in that room."""

from __future__ import annotations

import dataclasses
import sys
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.cameras.rays import RayBundle
from nerfstudio.data.scene_box import OrientedBox
from nerfstudio.engine.callbacks import TrainingCallback, TrainingCallbackAttributes, TrainingCallbackLocation
from nerfstudio.models.base_model import Model, ModelConfig
from torch import Tensor, nn
from tyro.conf import Fixed

from flame_nerf.canonical import MappingConfig
from flame_nerf.data.step_plan import StepPlan
from flame_nerf.field import FieldConfig
from flame_nerf.losses.depth import DepthTermConfig
from flame_nerf.losses.semantic import SemanticTermConfig
from flame_nerf.losses.terms import LossTerms, training_psnr
from flame_nerf.losses.unseen_views import UnseenViewsConfig
from flame_nerf.losses.view_terms import view_terms
from flame_nerf.losses.weights import LossStarts, LossWeights
from flame_nerf.motion import PosedFrame, SubjectMotion, filmed_path, head_of, open_mouth, without_timestep
from flame_nerf.refinement import TrackRefinement, TrackRefinementConfig
from flame_nerf.render.background import Background
from flame_nerf.render.compositing import lit
from flame_nerf.render.conditioning import Conditioning, LatentCodes
from flame_nerf.render.head_renderer import HeadRenderer
from flame_nerf.render.moments import Timeline
from flame_nerf.render.observed.trust_map import TrustMap
from flame_nerf.render.picture import TrainingViews, along_bundle, render_in_parts, render_picture, unit_rays
from flame_nerf.render.prefetch import TrainingRays
from flame_nerf.render.renderer import Renderer
from flame_nerf.render.sampling_config import SamplingConfig
from flame_nerf.runtime.command_line import prepare_export
from flame_nerf.runtime.old_runs import StoredConfig
from flame_nerf.subject import Frame, Subject
from flame_nerf.training.checkpoints import refuse_missing
from flame_nerf.training.ema import WeightAverage
from flame_nerf.training.metrics import ImageMetrics
from flame_nerf.training.recorded_steps import adds_up_gradients
from flame_nerf.training.throughput import Throughput


@dataclass
class FlameNerfModelConfig(StoredConfig, ModelConfig):
    """A head avatar: what is sampled, what is learned and how it is weighted."""

    _target: type = dataclasses.field(default_factory=lambda: FlameNerfModel)
    """target class to instantiate"""
    enable_collider: bool = False
    """Rays are clipped to the head's shell, so no collider is needed."""
    mapping: MappingConfig = dataclasses.field(default_factory=MappingConfig)
    """How points near the posed mesh are carried to the canonical head."""
    field: FieldConfig = dataclasses.field(default_factory=FieldConfig)
    """The network that turns canonical points into density and colour."""
    latent_dim: int = 0
    """Length of a code, learned for each training timestep, that conditions the field beside its expression; others get
    the mean. Longer ones explain more of what the expression does not (light, cloth), and generalise worse. 0: none."""
    sampling: SamplingConfig = dataclasses.field(default_factory=SamplingConfig)
    """Where along a ray the field is queried."""
    random_background: Fixed[bool] = True
    """Composite training rays on random colours, so that what is transparent is learned to be so."""
    eval_num_rays_per_chunk: int = 16384
    """Rays rendered at a time."""
    ema_decay: float = 0.0
    """Evaluation, films and the viewer show weights averaged over about 1 / (1 - ema_decay) steps; 0: the last ones.
    Nearer to 1 is smoother and lags behind training; costs a copy of the weights."""
    loss_coefficients: LossWeights = dataclasses.field(default_factory=LossWeights)
    """How much each term of the loss counts."""
    loss_starts: LossStarts = dataclasses.field(default_factory=LossStarts)
    """When terms of the loss begin."""
    depth: DepthTermConfig = dataclasses.field(default_factory=DepthTermConfig)
    """The depth term."""
    semantic: SemanticTermConfig = dataclasses.field(default_factory=SemanticTermConfig)
    """The semantic term."""
    unseen: UnseenViewsConfig = dataclasses.field(default_factory=UnseenViewsConfig)
    """Supervision of sides that the video never shows."""
    default_timestep: int | None = None
    """Timestep of the track that is shown where neither camera nor ray names one, and in all of ns-export; none:
    the neutral face. ns-export takes no options of the model: for a trained avatar change it in its config.yml."""
    refinement: TrackRefinementConfig = dataclasses.field(default_factory=TrackRefinementConfig)
    """Correction of the track while the field is learned."""
    cuda_graphs: bool = True
    """On CUDA, record once and replay as one launch what is the same work in every step: faster, for some memory."""
    lpips: bool = False
    """Report LPIPS in evaluation, too. Downloads a network at its first use, and takes longer per image."""


class FlameNerfModel(Model):
    """A head that follows a tracked mesh.

    Attributes:
        subject: what was trained on, stabilised.
        head: the head model that posed it; None where it is not to be had.
        motion: the moments the subject can show, as tracked.
        override: the moment to show whatever the camera says; None follows the camera.
        timeline: those moments posed and corrected.
        conditioning: what the field is given of a moment.
        renderer: from rays to colours.
        losses: what training makes small.
    """

    config: FlameNerfModelConfig

    def __init__(self, config: FlameNerfModelConfig, metadata: dict[str, Any], **kwargs: Any):
        self.subject: Subject = metadata["subject"]
        self.train_frames: tuple[Frame, ...] = metadata["frames"]
        self.train_timesteps = torch.tensor([frame.timestep for frame in self.train_frames])
        self.pixel_size: float = metadata["pixel_size"]
        self._behind = metadata["background"], metadata["plate"]
        super().__init__(config, metadata=metadata, **kwargs)

    # ----------------------------------------------------------------------- what another method's model has

    def make_renderer(self) -> Renderer:
        """From rays to colours."""
        config = self.config
        return HeadRenderer(
            self.subject.track, self.motion, config.mapping, config.field, config.sampling, self.pixel_size,
            self.motion.condition_dim + config.latent_dim,
        )  # fmt: skip

    def make_losses(self, kind: type[LossTerms] = LossTerms, **options: Any) -> LossTerms:
        """What training makes small; `kind` with its `options` where a method has terms of its own."""
        config, codes, penalties = self.config, getattr(self.latents, "codes", None), self.refinement.penalties
        return kind(config.loss_coefficients, config.loss_starts, config.depth, codes, penalties, **options)

    # ----------------------------------------------------------------------- Nerfstudio's verbs: modules

    def populate_modules(self) -> None:
        super().populate_modules()
        from flame_nerf.film.encoder import provide_ffmpeg
        from flame_nerf.viewer import HeadPanel

        prepare_export(sys.argv)
        # ns-render looks for ffmpeg on PATH after loading the model: the wheel's is made visible where none is.
        provide_ffmpeg()
        track, config, shown = self.subject.track, self.config, self.train_timesteps
        self.head = head_of(self.subject)
        self.motion = SubjectMotion(track, self.head, fps=self.subject.fps)
        filmed_path(self.motion, sys.argv, self.subject.root.name)
        self.override: PosedFrame | None = None
        self.panel = HeadPanel(self)
        self.background = Background(*self._behind)
        self.latents = LatentCodes.of_timesteps(track.num_timesteps, config.latent_dim, shown)
        self.renderer = self.make_renderer()
        c2w = torch.stack([torch.from_numpy(frame.c2w[:3]).float() for frame in self.train_frames])
        self.register_buffer("train_c2w", c2w, persistent=False)
        self.renderer.set_training_views(c2w, self.motion.conditions[shown])
        self.refinement = TrackRefinement(config.refinement, self.subject, self.head, c2w, shown)
        self.timeline = Timeline(self.motion, self.renderer, self.refinement, shown, config.default_timestep)
        self.conditioning = Conditioning(self.renderer, self.latents, shown)
        behind = partial(self.background.of_rays, randomly=config.random_background)
        self.training_rays = TrainingRays(self.timeline, self.renderer, self.refinement.pose, behind)
        self.losses = self.make_losses()
        self.image_metrics, self._throughput = ImageMetrics(self.subject, config.lpips), Throughput()
        self.step, self._log_every = 0, 1
        self.weight_average = WeightAverage.of_groups(self.get_param_groups(), config.ema_decay)
        # Every process computes its buffers itself, and agrees with the others where it must (the occupancy grid);
        # DistributedDataParallel would send them all around before each step.
        self._ddp_params_and_buffers_to_ignore = [name for name, _ in self.named_buffers()]
        self.register_load_state_dict_post_hook(refuse_missing)

    def get_param_groups(self) -> dict[str, list[nn.Parameter]]:
        groups = self.renderer.field.get_param_groups()
        if self.latents is not None:
            groups["network"] = [*groups["network"], *self.latents.parameters()]
        return groups | self.refinement.parameters_by_group()

    def get_training_callbacks(self, attributes: TrainingCallbackAttributes) -> list[TrainingCallback]:
        config, color, data = self.config, self.background.color, attributes.pipeline.datamanager
        trainer, pose = attributes.trainer, self.refinement.pose
        if trainer is not None:
            self._log_every = trainer.config.logging.steps_per_log
        data.schedule = lambda step: StepPlan(step, patches=self.losses.wants_patches(step))
        # What moves meshes comes after the march. On a GPU the march runs where everything does.
        if self.renderer.marches and self.device.type == "cpu" and not self.refinement.moves_meshes:
            self.training_rays.prefetch(data.look_ahead)
        if config.cuda_graphs and self.device.type == "cuda" and not adds_up_gradients(trainer):
            self.renderer.record_steps()
        views = TrainingViews(self.timeline, self.renderer, self.conditioning, pose, self.train_c2w, color)
        terms = view_terms(
            config.semantic, config.unseen, config.loss_coefficients, self.subject, self.train_frames,
            data.train_dataset, color, self.renderer.shell,
            lambda frame: open_mouth(self.motion, int(self.train_timesteps[frame])),
            self.renderer.set_surface, self.renderer.set_detail,
        )  # fmt: skip
        self.losses.add_views(terms, self.train_c2w, views.render)

        def begin(step: int) -> None:
            self.step = step

        average = [] if self.weight_average is None else self.weight_average.callbacks()
        return [TrainingCallback([TrainingCallbackLocation.BEFORE_TRAIN_ITERATION], begin), *average]

    @property
    def trains_in_kernels(self) -> bool:
        """Whether this package's kernels do the heavy work of a training step, and torch only what is small."""
        return self.training_rays.prefetches and self.renderer.in_kernels

    # ----------------------------------------------------------------------- Nerfstudio's verbs: pictures

    def shown_weights(self) -> AbstractContextManager:
        """In this block the model has the weights that pictures are made with: their average, where one is kept."""
        return nullcontext() if self.weight_average is None else self.weight_average.applied()

    def get_outputs(self, ray_bundle: RayBundle) -> dict[str, Tensor]:
        """Render rays.

        Args:
            ray_bundle: in training, rays of stored frames (`frame_idx` in the metadata). Otherwise any, on the model's
                device; those without metadata see what a picture without metadata shows.

        Returns:
            rgb [R, 3], accumulation [R, 1], depth [R, 1] (times the direction: where the ray ends, 0 where nothing is
            hit) and background [R, 3]. In training also how many samples were taken, for the whole batch, and the
            background as it was given; otherwise also normals [R, 3] where the method has a mesh, from -1..1 to 0..1,
            and every output has one row a ray.
        """
        if self.training:
            rays = self.training_rays.prepare(ray_bundle, self.step)
            outputs = self.renderer(rays, self.conditioning(rays.moments), self.step)
            outputs = lit(outputs, rays.mesh_index, self.refinement.gains_of(rays.moments.timesteps))
            return outputs | {"directions_norm": ray_bundle.metadata["directions_norm"]}
        with self.shown_weights(), torch.no_grad():
            moments, mesh_index = self.timeline.of_rays(ray_bundle, self.override)
            rays, length = unit_rays(ray_bundle, moments, mesh_index, self.background.of_rays(ray_bundle))
            size, condition = self.config.eval_num_rays_per_chunk, self.conditioning(moments)
            return along_bundle(render_in_parts(self.renderer, rays, condition, size), self.renderer, rays, length)

    @torch.no_grad()
    def get_outputs_for_camera_ray_bundle(self, camera_ray_bundle: RayBundle) -> dict[str, Tensor]:
        """Render the rays of a whole picture as ns-export makes them [H, W]: of all training cameras for one mesh, so
        that those of a dataset's camera show no moment of their own, but what a picture without metadata shows."""
        if "frame_idx" in (camera_ray_bundle.metadata or {}):
            camera_ray_bundle = without_timestep(camera_ray_bundle)
        return super().get_outputs_for_camera_ray_bundle(camera_ray_bundle)

    @torch.no_grad()
    def get_outputs_for_camera(self, camera: Cameras, obb_box: OrientedBox | None = None) -> dict[str, Tensor]:
        """Render a whole picture, its outlines anti-aliased unless the viewer moves.

        Args:
            camera: one camera. Which moment is shown: "frame_idx" in its metadata (a row of the track: a dataset's own
                picture), else `override`, else "expr" in the metadata (a `PosedFrame`), else its time, else "cam_idx"
                in the metadata (a training camera), else `default_timestep`, else neutral.
            obb_box: nothing outside of it is rendered.

        Returns:
            rgb [H, W, 3], accumulation [H, W, 1], depth [H, W, 1] (metres along the ray, 0 where nothing is hit), and
            background [H, W, 3] where the subject's plate is behind the head. Where the method has a mesh also
            normals, canonical_position and region [H, W, 3], computed when they are looked at.
        """
        with self.shown_weights():
            moments = self.timeline.of_camera(camera, self.override)
            background = self.background.of_picture(camera, int(camera.height), int(camera.width))
            return render_picture(
                self.renderer, camera, moments, self.refinement.pose, background, self.conditioning(moments),
                self.config.eval_num_rays_per_chunk, obb_box, smooth=not self.panel.is_moving,
            )  # fmt: skip

    def get_rgba_image(self, outputs: dict[str, Tensor], output_name: str = "rgb") -> Tensor:
        """Colour without its background, and opacity: [H, W, 4]."""
        accumulation = outputs[output_name.replace("rgb", "accumulation")]
        background = outputs.get("background", self.background.color).to(accumulation.device)
        rgb = outputs[output_name] - background * (1 - accumulation)
        return torch.cat([(rgb / accumulation.clamp_min(1e-6)).clamp(0, 1), accumulation], dim=-1)

    @torch.no_grad()
    def trust_map(self) -> TrustMap:
        """How well training saw what one may ask to be shown: of the weights as they are now; some 0.3 s."""
        with self.shown_weights():
            effect = self.renderer.condition_effect()
        return TrustMap.of_training(self.motion, self.train_timesteps, self.train_c2w, effect)

    # ----------------------------------------------------------------------- Nerfstudio's verbs: losses, metrics

    def get_metrics_dict(self, outputs: dict[str, Tensor], batch: dict[str, Tensor]) -> dict[str, Tensor]:
        metrics = self._throughput.metrics(outputs) if self.training else {}
        # What nobody will log takes a twentieth of a step on the CPU.
        if self.training and self.step % self._log_every != 0:
            return metrics
        metrics["psnr"] = training_psnr(outputs, batch)
        return metrics | (self.refinement.pose.metrics() if self.training else {})

    def get_loss_dict(
        self, outputs: dict[str, Tensor], batch: dict[str, Tensor], metrics_dict: dict[str, Tensor] | None = None
    ) -> dict[str, Tensor]:
        return self.losses.losses(outputs, batch, self.step if self.training else None)

    def get_image_metrics_and_images(
        self, outputs: dict[str, Tensor], batch: dict[str, Tensor]
    ) -> tuple[dict[str, float], dict[str, Tensor]]:
        return self.image_metrics(outputs, batch, self.device)
