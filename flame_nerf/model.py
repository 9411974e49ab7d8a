"""Which moment a camera sees, rendered by the head renderer; and the loss put together."""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.cameras.rays import RayBundle
from nerfstudio.configs.config_utils import to_immutable_dict
from nerfstudio.data.scene_box import OrientedBox
from nerfstudio.engine.callbacks import TrainingCallback, TrainingCallbackAttributes, TrainingCallbackLocation
from nerfstudio.model_components import renderers
from nerfstudio.models.base_model import Model, ModelConfig
from nerfstudio.utils import colormaps
from nerfstudio.utils.rich_utils import CONSOLE
from torch import Tensor, nn

from flame_nerf.canonical import MappingConfig, PosedMesh
from flame_nerf.field import FieldConfig
from flame_nerf.head_renderer import HeadRenderer, SamplingConfig
from flame_nerf.losses import color_loss, mask_loss, opacity_entropy_loss, weighted
from flame_nerf.metrics import image_metrics
from flame_nerf.motion import PosedFrame, SubjectMotion
from flame_nerf.pose_refinement import PoseRefinement, PoseRefinementConfig
from flame_nerf.subject import Frame, Subject


@dataclass
class FlameNerfModelConfig(ModelConfig):
    """A head avatar: what is sampled, what is learned and how it is weighted."""

    _target: type = dataclasses.field(default_factory=lambda: FlameNerfModel)
    """target class to instantiate"""
    enable_collider: bool = False
    """Rays are clipped to the head's shell, so no collider is needed."""
    mapping: MappingConfig = dataclasses.field(default_factory=MappingConfig)
    """How points near the posed mesh are carried to the canonical head."""
    field: FieldConfig = dataclasses.field(default_factory=FieldConfig)
    """The network that turns canonical points into density and colour."""
    sampling: SamplingConfig = dataclasses.field(default_factory=SamplingConfig)
    """Where along a ray the field is asked."""
    random_background: bool = True
    """Composite training rays on random colours, so that what is transparent is learned to be so."""
    eval_num_rays_per_chunk: int = 16384
    """Rays rendered at a time."""
    loss_coefficients: dict[str, float] = to_immutable_dict(
        {"color_loss": 1.0, "mask_loss": 0.02, "opacity_entropy_loss": 0.0, "camera_opt_regularizer": 1.0}
    )
    """Weight of each loss term, under the name it is logged by; terms of weight 0 are not computed."""
    pose_refinement: PoseRefinementConfig = dataclasses.field(default_factory=PoseRefinementConfig)
    """Correction of the training frames' head poses."""
    lpips: bool = False
    """Also report LPIPS in evaluation. Downloads a network at its first use."""


class FlameNerfModel(Model):
    """A head that follows a tracked mesh.

    Attributes:
        motion: the moments the subject can show.
        override: the moment to show whatever the camera says; None follows the camera.
    """

    config: FlameNerfModelConfig

    def __init__(self, config: FlameNerfModelConfig, metadata: dict[str, Any], **kwargs):
        self._subject: Subject = metadata["subject"]
        self._train_frames: tuple[Frame, ...] = metadata["frames"]
        self._train_rows = torch.tensor([frame.timestep for frame in self._train_frames])
        self._background = metadata["background"]
        super().__init__(config, metadata=metadata, **kwargs)

    # ---------------------------------------------------------------------------------------------- modules

    def populate_modules(self) -> None:
        super().populate_modules()
        from flame_nerf.film.encoder import provide_ffmpeg
        from flame_nerf.viewer import HeadPanel

        # ns-render looks for ffmpeg on PATH after loading the model: the wheel's is made visible where none is.
        provide_ffmpeg()
        track = self._subject.track
        self.motion = SubjectMotion(track, _head_model(self._subject), fps=self._subject.fps)
        self.override: PosedFrame | None = None
        self.panel = HeadPanel(self)
        self._override_mesh: tuple[PosedFrame, PosedMesh] | None = None
        conditions = torch.stack([self.motion.frame(row).condition for row in range(track.num_timesteps)])
        self.register_buffer("_conditions", conditions, persistent=False)
        self.register_buffer("background_color", self._background, persistent=False)
        self.renderer = HeadRenderer(track, self.motion, self.config.mapping, self.config.field, self.config.sampling)
        self.pose_refinement: PoseRefinement = self.config.pose_refinement.setup(
            num_cameras=self.num_train_data, device="cpu"
        )
        train_c2w = torch.stack([torch.from_numpy(frame.c2w[:3]).float() for frame in self._train_frames])
        self.pose_refinement.set_frames(train_c2w, torch.from_numpy(track.canonical_vertices).mean(dim=0))
        self._step = 0
        self._throughput = Throughput()
        self._lpips: nn.Module | None = None

    def get_param_groups(self) -> dict[str, list[nn.Parameter]]:
        groups = self.renderer.field.get_param_groups()
        self.pose_refinement.get_param_groups(groups)
        return groups

    def get_training_callbacks(self, attributes: TrainingCallbackAttributes) -> list[TrainingCallback]:
        def remember(step: int) -> None:
            self._step = step

        return [TrainingCallback([TrainingCallbackLocation.BEFORE_TRAIN_ITERATION], remember)]

    # ---------------------------------------------------------------------------------------------- rendering

    def get_outputs(self, ray_bundle: RayBundle) -> dict[str, Tensor]:
        """Render rays of stored frames, as training and evaluation batches have them (`frame_idx` in the metadata)."""
        if self.training:
            self.pose_refinement.correct_training_rays(ray_bundle, self._step)
        rows, mesh_index = torch.unique(ray_bundle.metadata["frame_idx"][:, 0], return_inverse=True)
        meshes = self.renderer.meshes.get_many(rows.tolist())
        condition = self._conditions[rows]
        background = self.background_color
        if self.training and self.config.random_background:
            background = torch.rand(len(mesh_index), 3, device=self.device)
        return self.renderer(
            ray_bundle.origins, ray_bundle.directions, meshes, mesh_index, condition, background, self._step
        )

    @torch.no_grad()
    def get_outputs_for_camera(self, camera: Cameras, obb_box: OrientedBox | None = None) -> dict[str, Tensor]:
        """Render a whole picture; the frame's structures are built once.

        Args:
            camera: one camera. Which moment is shown: "frame_idx" in its metadata (a row of the track: a dataset's own
                picture), else `override`, else "expr" in the metadata (a `PosedFrame`), else its time, else "cam_idx"
                in the metadata (a training camera), else neutral.
            obb_box: nothing outside of it is rendered.

        Returns:
            rgb [H, W, 3], accumulation [H, W, 1], depth [H, W, 1] (metres along the ray, 0 where nothing is hit).
        """
        mesh, condition = self._moment(camera)
        rays = camera.to(self.device).generate_rays(camera_indices=0, keep_shape=True)
        height, width = rays.origins.shape[:2]
        origins, directions = rays.origins.reshape(-1, 3), rays.directions.reshape(-1, 3)
        if "frame_idx" in (camera.metadata or {}):
            c2w = camera.camera_to_worlds.reshape(3, 4).to(self.device)
            origins, directions = self.pose_refinement.correct_tracked_camera(c2w, origins, directions)
        background = self.background_color
        if isinstance(renderers.BACKGROUND_COLOR_OVERRIDE, Tensor):
            background = renderers.BACKGROUND_COLOR_OVERRIDE.to(self.device)
        parts = []
        for start in range(0, len(origins), self.config.eval_num_rays_per_chunk):
            chunk = slice(start, start + self.config.eval_num_rays_per_chunk)
            which = torch.zeros(len(origins[chunk]), dtype=torch.long, device=self.device)
            parts.append(
                self.renderer(
                    origins[chunk], directions[chunk], [mesh], which, condition[None], background, box=obb_box
                )
            )
        return {
            name: torch.cat([part[name] for part in parts]).view(height, width, -1).to(camera.device)
            for name in ("rgb", "accumulation", "depth")
        }

    def _moment(self, camera: Cameras) -> tuple[PosedMesh, Float[Tensor, " C"]]:
        """Mesh and condition that a camera is to see."""
        row = self._row(camera)
        if row is not None:
            frame = self.motion.frame(row)
            return self.renderer.meshes.get(row), frame.condition
        frame = (self.override or self._unstored(camera)).to(self.device)
        # A still moment is asked for again and again while the camera moves: its structures are kept.
        if self._override_mesh is None or self._override_mesh[0] is not frame:
            self._override_mesh = (frame, self.renderer.pose(frame))
        return self._override_mesh[1], frame.condition

    def _row(self, camera: Cameras) -> int | None:
        """Row of the track that a camera is bound to, or None where it shows another moment."""
        metadata = camera.metadata or {}
        if "frame_idx" in metadata:
            return int(torch.as_tensor(metadata["frame_idx"]).flatten()[0])
        # Every camera of the viewer carries a cam_idx, so it counts only where nothing else says what to show.
        if self.override is not None or "expr" in metadata or camera.times is not None or "cam_idx" not in metadata:
            return None
        index = int(torch.as_tensor(metadata["cam_idx"]).flatten()[0])
        return int(self._train_rows[max(0, min(index, len(self._train_rows) - 1))])

    def _unstored(self, camera: Cameras) -> PosedFrame:
        metadata = camera.metadata or {}
        if "expr" in metadata:
            return metadata["expr"]
        if camera.times is not None:
            return self.motion.at_time(float(camera.times.flatten()[0]))
        return self.motion.neutral()

    def get_rgba_image(self, outputs: dict[str, Tensor], output_name: str = "rgb") -> Tensor:
        """Colour without its background, and opacity: [H, W, 4]."""
        accumulation = outputs[output_name.replace("rgb", "accumulation")]
        rgb = outputs[output_name] - self.background_color.to(accumulation.device) * (1 - accumulation)
        return torch.cat([(rgb / accumulation.clamp_min(1e-6)).clamp(0, 1), accumulation], dim=-1)

    # ---------------------------------------------------------------------------------------------- losses, metrics

    def get_metrics_dict(self, outputs: dict[str, Tensor], batch: dict[str, Tensor]) -> dict[str, Tensor]:
        with torch.no_grad():
            error = torch.nn.functional.mse_loss(outputs["rgb"], self._target(outputs, batch))
            metrics = {"psnr": -10 * error.clamp_min(1e-10).log10()}
        if self.training:
            samples = float(outputs["num_samples"])
            metrics["samples_per_ray"] = torch.tensor(samples / len(outputs["rgb"]))
            marched = float(outputs["num_marched"])
            metrics["shell_samples_per_ray"] = torch.tensor(marched / len(outputs["rgb"]))
            per_sec = self._throughput.update(marched)
            metrics["shell_samples_per_sec"] = torch.tensor(per_sec)
            metrics["field_samples_per_sec"] = torch.tensor(per_sec * samples / max(marched, 1.0))
            self.pose_refinement.get_metrics_dict(metrics)
        return metrics

    def get_loss_dict(
        self, outputs: dict[str, Tensor], batch: dict[str, Tensor], metrics_dict: dict[str, Tensor] | None = None
    ) -> dict[str, Tensor]:
        weights = self.config.loss_coefficients
        accumulation, matte = outputs["accumulation"], batch["mask"].to(self.device)
        terms = {
            "color_loss": lambda: color_loss(outputs["rgb"], self._target(outputs, batch)),
            "mask_loss": lambda: mask_loss(accumulation, matte),
            "opacity_entropy_loss": lambda: opacity_entropy_loss(accumulation),
        }
        losses = {name: term() for name, term in terms.items() if weights.get(name, 0.0) != 0.0}
        if self.training and self._step >= self.config.pose_refinement.start_step:
            self.pose_refinement.get_loss_dict(losses)
        return weighted(losses, weights)

    def _target(self, outputs: dict[str, Tensor], batch: dict[str, Tensor]) -> Float[Tensor, "R 3"]:
        """The batch's colours on the background that the rays were rendered on."""
        image, matte = batch["image"].to(self.device), batch["mask"].to(self.device)
        return image * matte + outputs["background"] * (1 - matte)

    def get_image_metrics_and_images(
        self, outputs: dict[str, Tensor], batch: dict[str, Tensor]
    ) -> tuple[dict[str, float], dict[str, Tensor]]:
        truth, rgb = batch["image"].to(self.device), outputs["rgb"].to(self.device)
        accumulation, depth = outputs["accumulation"].to(self.device), outputs["depth"].to(self.device)
        metrics = image_metrics(rgb, truth, batch["mask"].to(self.device), batch["boxes"], batch["chin_row"])
        if self.config.lpips:
            metrics.update(self._lpips_metric(rgb, truth))
        images = {
            "img": torch.cat([truth, rgb], dim=1),
            "accumulation": colormaps.apply_colormap(accumulation),
            "depth": colormaps.apply_depth_colormap(depth, accumulation=accumulation),
        }
        return metrics, images

    def _lpips_metric(self, rgb: Float[Tensor, "H W 3"], truth: Float[Tensor, "H W 3"]) -> dict[str, float]:
        if self._lpips is None:
            try:
                from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity

                self._lpips = LearnedPerceptualImagePatchSimilarity(normalize=True).to(self.device)
            except Exception as error:  # whatever the download or the optional package fails with
                CONSOLE.log(f"[yellow]LPIPS is left out: its network could not be loaded ({error}).")
                self.config.lpips = False
                return {}
        pair = [picture.moveaxis(-1, 0)[None].clamp(0, 1) for picture in (rgb, truth)]
        return {"lpips": float(self._lpips(*pair))}


class Throughput:
    """Running mean of a rate, from the wall time between updates."""

    def __init__(self, smoothing: float = 0.95):
        self._smoothing = smoothing
        self._last: float | None = None
        self._amount = self._seconds = 0.0

    def update(self, amount: float) -> float:
        """Add what was done since the last call; returns the rate per second."""
        now = time.perf_counter()
        if self._last is not None:
            self._amount = self._smoothing * self._amount + amount
            self._seconds = self._smoothing * self._seconds + (now - self._last)
        self._last = now
        return self._amount / self._seconds if self._seconds > 0 else 0.0


def _head_model(subject: Subject) -> Any | None:
    """The head model that posed the subject, or None with one line: replay needs none."""
    from flame_nerf.heads import load_head

    try:
        return load_head(subject.head_model_source)
    except (OSError, ValueError) as error:
        CONSOLE.log(f"[yellow]Stored frames only, no new expressions: {error}")
        return None
