"""Which moment a camera sees, rendered by the head renderer; and the loss put together."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.cameras.rays import RayBundle
from nerfstudio.data.scene_box import OrientedBox
from nerfstudio.engine.callbacks import TrainingCallback, TrainingCallbackAttributes, TrainingCallbackLocation
from nerfstudio.models.base_model import Model, ModelConfig
from nerfstudio.utils import colormaps
from torch import Tensor, nn
from tyro.conf import Fixed

from flame_nerf.canonical import MappingConfig, MeshShift, PosedMesh
from flame_nerf.field import FieldConfig
from flame_nerf.losses.depth import DepthTerm, DepthTermConfig
from flame_nerf.losses.functions import color_loss, latent_loss, mask_loss, opacity_entropy_loss
from flame_nerf.losses.semantic import SemanticTermConfig
from flame_nerf.losses.unseen_views import UnseenSidesConfig
from flame_nerf.losses.view_terms import ViewTerm, view_terms, wanted_terms
from flame_nerf.losses.weights import LossStarts, LossWeights, Term, is_on, objective
from flame_nerf.motion import PosedFrame, SubjectMotion, head_of, stored_row, unstored_frame, without_timestep
from flame_nerf.refinement import TrackRefinement, TrackRefinementConfig
from flame_nerf.render.background import Background
from flame_nerf.render.expression_hull import SeenConditions
from flame_nerf.render.head_renderer import HeadRenderer, SamplingConfig
from flame_nerf.render.latent_codes import LatentCodes
from flame_nerf.render.prefetch import MarchAhead, Marched, moments_of
from flame_nerf.render.surface_normals import surface_normals
from flame_nerf.render.view_cone import SeenDirections
from flame_nerf.runtime.command_line import prepare_export
from flame_nerf.runtime.old_runs import StoredConfig
from flame_nerf.runtime.transfer import to_device
from flame_nerf.subject import Frame, Subject
from flame_nerf.training.ema import WeightAverage
from flame_nerf.training.metrics import LazyLPIPS, image_metrics
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
    """Length of a latent code, learned for each training timestep, that conditions the field beside its expression;
    other timesteps get the mean code. Longer codes explain more of what the expression does not (light, cloth), fit the
    training frames better and generalise worse. 0: no codes."""
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
    unseen: UnseenSidesConfig = dataclasses.field(default_factory=UnseenSidesConfig)
    """Supervision of sides that the video never shows."""
    default_timestep: int | None = None
    """Timestep of the track that is shown where neither camera nor ray names one, and in all that ns-export makes;
    none: the neutral face. ns-export takes no options of the model: for an avatar that is trained already change
    `default_timestep` in its config.yml, under `model`."""
    refinement: TrackRefinementConfig = dataclasses.field(default_factory=TrackRefinementConfig)
    """Correction of the track while the field is learned."""
    lpips: bool = False
    """Report LPIPS in evaluation, too. Downloads a network at its first use, and takes longer per image."""


class FlameNerfModel(Model):
    """A head that follows a tracked mesh.

    Attributes:
        motion: the moments the subject can show.
        override: the moment to show whatever the camera says; None follows the camera.
        subject: what was trained on, stabilised.
        head: the head model that posed it; None where it is not to be had.
    """

    config: FlameNerfModelConfig

    def __init__(self, config: FlameNerfModelConfig, metadata: dict[str, Any], **kwargs):
        self.subject: Subject = metadata["subject"]
        self._train_frames: tuple[Frame, ...] = metadata["frames"]
        self._train_rows = torch.tensor([frame.timestep for frame in self._train_frames])
        self._behind = metadata["background"], metadata["plate"]
        self._pixel_size: float = metadata["pixel_size"]
        super().__init__(config, metadata=metadata, **kwargs)

    # ---------------------------------------------------------------------------------------------- modules

    def make_renderer(self) -> nn.Module:
        """What turns rays into pictures, with the interface of `HeadRenderer`: where another method's model differs."""
        config = self.config
        return HeadRenderer(
            self.subject.track, self.motion, config.mapping, config.field, config.sampling, self._pixel_size,
            self.condition_dim,
        )  # fmt: skip

    @property
    def condition_dim(self) -> int:
        """Length of what the renderer is told of a moment: the motion's condition and the moment's latent code."""
        return self.motion.condition_dim + self.config.latent_dim

    def populate_modules(self) -> None:
        super().populate_modules()
        from flame_nerf.film.encoder import provide_ffmpeg
        from flame_nerf.viewer import HeadPanel

        prepare_export(sys.argv)
        # ns-render looks for ffmpeg on PATH after loading the model: the wheel's is made visible where none is.
        provide_ffmpeg()
        track = self.subject.track
        default, last = self.config.default_timestep, track.num_timesteps - 1
        if default is not None and not 0 <= default <= last:
            raise SystemExit(f"pipeline.model.default_timestep is {default}: give one from 0 to {last}, or none.")
        self.head = head_of(self.subject)
        self.motion = SubjectMotion(track, self.head, fps=self.subject.fps)
        self.override: PosedFrame | None = None
        self.panel = HeadPanel(self)
        self._override_mesh: tuple[PosedFrame, PosedMesh] | None = None
        self.register_buffer("_conditions", self.motion.conditions, persistent=False)
        self.background = Background(*self._behind)
        self.latents: LatentCodes | None = None
        if self.config.latent_dim:
            self.latents = LatentCodes(track.num_timesteps, self.config.latent_dim, self._train_rows)
        self.renderer = self.make_renderer()
        train_c2w = torch.stack([torch.from_numpy(frame.c2w[:3]).float() for frame in self._train_frames])
        self.register_buffer("_train_c2w", train_c2w, persistent=False)
        self._seen_conditions: SeenConditions | None = None
        if isinstance(self.renderer, HeadRenderer) and self.config.sampling.observed_expressions_only:
            self._seen_conditions = SeenConditions(self.motion.conditions[self._train_rows])
        if isinstance(self.renderer, HeadRenderer) and self.config.sampling.observed_directions_only:
            self.renderer.seen = SeenDirections(train_c2w, torch.from_numpy(track.canonical_vertices).mean(dim=0))
        self.refinement = TrackRefinement(self.config.refinement, track, self.head, train_c2w, self._train_rows)
        self._depth_term = DepthTerm(self.config.depth)
        self._view_terms: dict[str, ViewTerm] = {}
        self._march_ahead: MarchAhead | None = None
        self._step, self._log_every = 0, 1
        self._throughput = Throughput()
        self._lpips = LazyLPIPS()
        self.weight_average: WeightAverage | None = None
        if self.config.ema_decay:
            learned = [parameter for group in self.get_param_groups().values() for parameter in group]
            self.weight_average = WeightAverage(learned, self.config.ema_decay)
        # Every process computes its buffers itself, and agrees with the others where it must (the occupancy grid);
        # DistributedDataParallel would send them all around before each step.
        self._ddp_params_and_buffers_to_ignore = [name for name, _ in self.named_buffers()]

    def get_param_groups(self) -> dict[str, list[nn.Parameter]]:
        groups = self.renderer.field.get_param_groups()
        if self.latents is not None:
            groups["network"] = [*groups["network"], *self.latents.parameters()]
        return groups | self.refinement.parameters_by_group()

    def get_training_callbacks(self, attributes: TrainingCallbackAttributes) -> list[TrainingCallback]:
        weights, starts = self.config.loss_coefficients, self.config.loss_starts
        data = attributes.pipeline.datamanager
        if attributes.trainer is not None:
            self._log_every = attributes.trainer.config.logging.steps_per_log
        marches = isinstance(self.renderer, HeadRenderer)
        self._view_terms = view_terms(
            self.config.semantic,
            self.config.unseen,
            weights,
            self.subject,
            self._train_frames,
            data.train_dataset,
            self.background.color,
            self.renderer.shell_thickness if marches else None,
        )

        def begin(step: int) -> None:
            self._step = step

        def with_patches(step: int) -> bool:
            return is_on("depth_loss", step, weights, starts) and self._depth_term.wanted(step)

        data.patches_at = with_patches
        # What moves meshes comes after the march. On a GPU the march runs where everything does.
        if marches and self.device.type == "cpu" and not self.refinement.moves_meshes:
            self._march_ahead = MarchAhead(self.renderer, self.refinement.pose, data.look_ahead)
        callbacks = [TrainingCallback([TrainingCallbackLocation.BEFORE_TRAIN_ITERATION], begin)]
        if self.weight_average is not None:
            update = self.weight_average.update
            callbacks.append(TrainingCallback([TrainingCallbackLocation.AFTER_TRAIN_ITERATION], lambda step: update()))
        return callbacks

    # ---------------------------------------------------------------------------------------------- rendering

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
            return self._render_training(ray_bundle)
        with self.shown_weights(), torch.no_grad():
            return self._render_rays(ray_bundle)

    def _render_training(self, ray_bundle: RayBundle) -> dict[str, Tensor]:
        marched = self._marched(ray_bundle) if self._march_ahead is not None else None
        # Only renderers that march take samples.
        known = {} if marched is None else {"samples": marched.samples, "placed": marched.placed}
        moments = moments_of(self.renderer, ray_bundle) if marched is None else marched.moments
        if known.get("placed") is not None:
            origins, directions = marched.origins, marched.directions
        else:
            origins, directions = self.refinement.pose.training_rays(ray_bundle, self._step)
        rows = to_device(moments.rows, self.device)
        condition, shift = self.refinement.corrected(rows, self._conditions[rows], self._step)
        outputs = self.renderer(
            origins,
            directions,
            moments.meshes,
            to_device(moments.of_ray, self.device),
            self._told(condition, rows),
            self.background.of_rays(ray_bundle, randomly=self.config.random_background),
            self._step,
            shift=shift,
            **known,
        )
        return outputs | {"directions_norm": ray_bundle.metadata["directions_norm"]}

    def _render_rays(self, ray_bundle: RayBundle) -> dict[str, Tensor]:
        """Rays that need not be of stored frames, nor of unit length; those without a direction meet nothing."""
        length = ray_bundle.directions.norm(dim=-1, keepdim=True)
        usable = (ray_bundle.origins.isfinite() & length.isfinite()).all(dim=-1, keepdim=True) & (length > 0)
        forward = torch.tensor([0.0, 0.0, 1.0], device=self.device)
        origins = ray_bundle.origins.where(usable, 0.0)
        directions = (ray_bundle.directions / length).where(usable, forward)
        meshes, of_ray, condition, shift = self._moments_of_rays(ray_bundle)
        background = self.background.of_rays(ray_bundle).expand(len(origins), 3)
        outputs = self._in_chunks(origins, directions, meshes, of_ray, condition, background, shift=shift)
        if isinstance(self.renderer, HeadRenderer):
            ends = origins + directions * outputs["depth"]
            normals = surface_normals(self.renderer.mapping, meshes, of_ray, ends, directions)
            outputs["normals"] = (0.5 + 0.5 * normals.where(outputs["accumulation"] > 0, 0.0)).clamp(0, 1)
        outputs["depth"] = outputs["depth"] / length
        missed = {"rgb": background, "accumulation": 0.0, "depth": 0.0}
        return outputs | {name: outputs[name].where(usable, value) for name, value in missed.items()}

    def _moments_of_rays(
        self, rays: RayBundle
    ) -> tuple[list[PosedMesh], Int[Tensor, " R"], Float[Tensor, "B D"], MeshShift | None]:
        """Meshes that rays see, which of them each one does, what the renderer is told of each, and their shift."""
        if "frame_idx" in (rays.metadata or {}):
            moments = moments_of(self.renderer, rays)
            rows = to_device(moments.rows, self.device)
            condition, shift = self.refinement.corrected(rows, self._conditions[rows])
            return moments.meshes, to_device(moments.of_ray, self.device), self._told(condition, rows), shift
        if rays.times is None or self.override is not None:
            mesh, condition, shift = self.moment(rays)
            return [mesh], torch.zeros(len(rays), dtype=torch.long, device=self.device), condition, shift
        times, of_ray = torch.unique(rays.times[:, 0], return_inverse=True)
        frames = [self.motion.at_time(time).to(self.device) for time in times.tolist()]
        condition = self._told(torch.stack([frame.condition for frame in frames]))
        return [self.renderer.pose(frame) for frame in frames], of_ray.to(self.device), condition, None

    def _in_chunks(
        self,
        origins: Float[Tensor, "R 3"],
        directions: Float[Tensor, "R 3"],
        meshes: Sequence[PosedMesh],
        of_ray: Int[Tensor, " R"],
        condition: Float[Tensor, "B D"],
        background: Float[Tensor, "R 3"] | Float[Tensor, " 3"],
        **options: Any,
    ) -> dict[str, Tensor]:
        """What the renderer gives of each ray, `eval_num_rays_per_chunk` at a time; what it counts is left out."""
        size, parts = self.config.eval_num_rays_per_chunk, []
        for start in range(0, max(1, len(origins)), size):
            rays = slice(start, start + size)
            behind = background if background.ndim == 1 else background[rays]
            parts.append(
                self.renderer(origins[rays], directions[rays], meshes, of_ray[rays], condition, behind, **options)
            )
        of_rays = [name for name, values in parts[0].items() if values.ndim == 2]
        return {name: torch.cat([part[name] for part in parts]) for name in of_rays}

    @torch.no_grad()
    def get_outputs_for_camera_ray_bundle(self, camera_ray_bundle: RayBundle) -> dict[str, Tensor]:
        """Render the rays of a whole picture as ns-export makes them [H, W]: of all training cameras for one mesh, so
        that those of a dataset's camera show no moment of their own, but what a picture without metadata shows."""
        if "frame_idx" in (camera_ray_bundle.metadata or {}):
            camera_ray_bundle = without_timestep(camera_ray_bundle)
        return super().get_outputs_for_camera_ray_bundle(camera_ray_bundle)

    @property
    def trains_in_kernels(self) -> bool:
        """Whether this package's kernels do the heavy work of a training step, and torch only what is small."""
        return self._march_ahead is not None and self.renderer.field.is_compiled(self.background.color)

    def _marched(self, ray_bundle: RayBundle) -> Marched | None:
        """This step's rays where they were marched ahead; the next step's march begins."""
        marched = self._march_ahead.take(ray_bundle)
        self._march_ahead.start(self._step + 1)
        return marched

    @torch.no_grad()
    def get_outputs_for_camera(self, camera: Cameras, obb_box: OrientedBox | None = None) -> dict[str, Tensor]:
        """Render a whole picture; the frame's structures are built once.

        Args:
            camera: one camera. Which moment is shown: "frame_idx" in its metadata (a row of the track: a dataset's own
                picture), else `override`, else "expr" in the metadata (a `PosedFrame`), else its time, else "cam_idx"
                in the metadata (a training camera), else `default_timestep`, else neutral.
            obb_box: nothing outside of it is rendered.

        Returns:
            rgb [H, W, 3], accumulation [H, W, 1], depth [H, W, 1] (metres along the ray, 0 where nothing is hit), and
            background [H, W, 3] where the subject's plate is behind the head.
        """
        with self.shown_weights():
            return self._render_picture(camera, obb_box)

    def _render_picture(self, camera: Cameras, obb_box: OrientedBox | None) -> dict[str, Tensor]:
        mesh, condition, shift = self.moment(camera)
        origins, directions = self.rays_of(camera, (camera.metadata or {}).get("pose_correction"))
        height, width = int(camera.height), int(camera.width)
        background = self.background.of_picture(camera, height, width)
        of_ray = torch.zeros(len(origins), dtype=torch.long, device=self.device)
        outputs = self._in_chunks(origins, directions, [mesh], of_ray, condition, background, box=obb_box, shift=shift)
        shown = [name for name in ("rgb", "accumulation", "depth", "background") if name in outputs]
        return {name: outputs[name].view(height, width, -1).to(camera.device) for name in shown}

    def _told(self, condition: Float[Tensor, "B C"], rows: Int[Tensor, " B"] | None = None) -> Float[Tensor, "B D"]:
        """What the renderer is told: conditions, in pictures near what was trained where `observed_expressions_only`
        has it so, with the latent codes of their rows, or the mean code without rows."""
        if self._seen_conditions is not None and not (self.training or self._are_trained(rows)):
            effect = self.renderer.condition_effect()[:, : self.motion.condition_dim]
            condition = self._seen_conditions.nearest(condition, effect)
        if self.latents is None:
            return condition
        codes = self.latents.mean().expand(len(condition), -1) if rows is None else self.latents(rows)
        return torch.cat([condition, codes], dim=-1)

    def _are_trained(self, rows: Int[Tensor, " B"] | None) -> bool:
        """Whether all rows were trained on: such moments are told what they were trained with, also where that was
        corrected meanwhile."""
        return rows is not None and bool(torch.isin(rows, self._train_rows.to(rows)).all())

    def rays_of(
        self, camera: Cameras, more: Float[Tensor, " 6"] | None = None
    ) -> tuple[Float[Tensor, "HW 3"], Float[Tensor, "HW 3"]]:
        """Origins (metres) and unit directions of a camera's pixels, row by row, the track's error corrected.

        Args:
            camera: one camera. Only a dataset's own ("frame_idx" in its metadata) is corrected, and with "as_tracked"
                there not even that.
            more: a further correction of the dataset's camera, as `PoseRefinement.correct_tracked_camera` takes it.
        """
        camera = camera.to(self.device)
        rays = camera.generate_rays(camera_indices=0, keep_shape=True)
        origins, directions = rays.origins.reshape(-1, 3), rays.directions.reshape(-1, 3)
        metadata = camera.metadata or {}
        if "frame_idx" not in metadata or "as_tracked" in metadata:
            return origins, directions
        c2w = camera.camera_to_worlds.reshape(3, 4)
        return self.refinement.pose.correct_tracked_camera(c2w, self._row(camera), origins, directions, more)

    def moment(self, camera: Cameras | RayBundle) -> tuple[PosedMesh, Float[Tensor, "1 D"], MeshShift | None]:
        """Mesh that a camera is to see, what the renderer is told of it, and how far the mesh is corrected."""
        row = self._row(camera)
        if row is not None:
            rows = torch.tensor([row], device=self.device)
            condition, shift = self._conditions[rows], None
            if "as_tracked" not in (camera.metadata or {}):
                condition, shift = self.refinement.corrected(rows, condition)
            return self.renderer.meshes.get(row), self._told(condition, rows), shift
        frame = (self.override or unstored_frame(camera, self.motion)).to(self.device)
        # A still moment is asked for again and again while the camera moves: its structures are kept.
        if self._override_mesh is None or self._override_mesh[0] is not frame:
            self._override_mesh = (frame, self.renderer.pose(frame))
        return self._override_mesh[1], self._told(frame.condition[None]), None

    def _row(self, camera: Cameras | RayBundle) -> int | None:
        overridden = self.override is not None
        return stored_row(camera, self._train_rows, overridden, default=self.config.default_timestep)

    def get_rgba_image(self, outputs: dict[str, Tensor], output_name: str = "rgb") -> Tensor:
        """Colour without its background, and opacity: [H, W, 4]."""
        accumulation = outputs[output_name.replace("rgb", "accumulation")]
        background = outputs.get("background", self.background.color).to(accumulation.device)
        rgb = outputs[output_name] - background * (1 - accumulation)
        return torch.cat([(rgb / accumulation.clamp_min(1e-6)).clamp(0, 1), accumulation], dim=-1)

    # ---------------------------------------------------------------------------------------------- losses, metrics

    def get_metrics_dict(self, outputs: dict[str, Tensor], batch: dict[str, Tensor]) -> dict[str, Tensor]:
        metrics = self._throughput.metrics(outputs) if self.training else {}
        # What nobody will log takes a twentieth of a step on the CPU.
        if self.training and self._step % self._log_every != 0:
            return metrics
        with torch.no_grad():
            error = torch.nn.functional.mse_loss(outputs["rgb"], self._target(outputs, batch))
        metrics["psnr"] = -10 * error.clamp_min(1e-10).log10()
        return metrics | (self.refinement.pose.metrics() if self.training else {})

    def get_loss_dict(
        self, outputs: dict[str, Tensor], batch: dict[str, Tensor], metrics_dict: dict[str, Tensor] | None = None
    ) -> dict[str, Tensor]:
        config, step = self.config, self._step if self.training else sys.maxsize
        return objective(self.loss_terms(outputs, batch), step, config.loss_coefficients, config.loss_starts)

    def loss_terms(self, outputs: dict[str, Tensor], batch: dict[str, Tensor]) -> dict[str, Term]:
        """Everything that training may make small, by the name it is logged by."""
        accumulation, matte = outputs["accumulation"], batch["mask"].to(self.device)
        terms: dict[str, Term] = {
            "color_loss": lambda: self._color_loss(outputs, batch),
            "mask_loss": lambda: mask_loss(accumulation, matte),
            "opacity_entropy_loss": lambda: opacity_entropy_loss(accumulation),
        }
        if self.latents is not None:
            terms["latent_regularizer"] = lambda: latent_loss(self.latents.codes)
        if self.training:
            terms["depth_loss"] = lambda: self._depth_term.loss(outputs, batch)
            terms |= wanted_terms(self._view_terms, self._step, self._train_c2w, self._render_view)
            terms |= self.refinement.penalties(self._step)
        return terms

    def _render_view(
        self, frame: int, origins: Float[Tensor, "R 3"], directions: Float[Tensor, "R 3"]
    ) -> dict[str, Tensor]:
        """A training frame's moment on the plain background, from anywhere, with the rays (origins, directions) after
        correction. Differentiable in the field alone; of one with a hash grid, in that alone."""
        number = int(self._train_rows[frame])
        row = torch.full((1,), number, device=self.device)
        c2w = self._train_c2w[frame]
        with torch.no_grad():
            rays = self.refinement.pose.correct_tracked_camera(c2w, number, origins, directions)
        condition, shift = self.refinement.corrected(row, self._conditions[row], self._step)
        # Terms on whole views are rare and steep. In the networks, which all of the head shares, they would fill Adam's
        # second moments, and slow down what the pictures teach.
        holding = self.renderer.field.networks_held() if isinstance(self.renderer, HeadRenderer) else nullcontext()
        with holding:
            outputs = self.renderer(
                *rays,
                [self.renderer.meshes.get(number)],
                row.new_zeros(len(origins)),
                self._told(condition, row).detach(),
                self.background.color,
                self._step,
                shift=shift and shift.detach(),
            )
        return outputs | dict(zip(("origins", "directions"), rays, strict=True))

    def _color_loss(self, outputs: dict[str, Tensor], batch: dict[str, Tensor]) -> Float[Tensor, ""]:
        return color_loss(outputs["rgb"], self._target(outputs, batch))

    def _target(self, outputs: dict[str, Tensor], batch: dict[str, Tensor]) -> Float[Tensor, "R 3"]:
        """The batch's colours on the background that the rays were rendered on."""
        image, matte = batch["image"].to(self.device), batch["mask"].to(self.device)
        return image * matte + outputs["background"] * (1 - matte)

    def get_image_metrics_and_images(
        self, outputs: dict[str, Tensor], batch: dict[str, Tensor]
    ) -> tuple[dict[str, float], dict[str, Tensor]]:
        if self.subject.pictures_left_out:
            # Nerfstudio's ns-eval has no word for it, and shows whatever else is raised with a traceback.
            raise SystemExit(
                f"{self.subject.root}: its pictures were left out when the avatar was packed, so there is nothing to "
                "compare with. Evaluate the run that it was packed from."
            )
        truth, rgb = batch["image"].to(self.device), outputs["rgb"].to(self.device)
        accumulation, depth = outputs["accumulation"].to(self.device), outputs["depth"].to(self.device)
        metrics = image_metrics(rgb, truth, batch["mask"].to(self.device), batch["boxes"], batch["chin_row"])
        if self.config.lpips:
            metrics.update(self._lpips(rgb, truth))
        images = {
            "img": torch.cat([truth, rgb], dim=1),
            "accumulation": colormaps.apply_colormap(accumulation),
            "depth": colormaps.apply_depth_colormap(depth, accumulation=accumulation),
        }
        return metrics, images
