"""Rays to pictures: shell samples, the way into the canonical head, field, compositing; and the loss put together."""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
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

from flame_nerf.canonical import CanonicalMapping, MappingConfig, PosedMesh, PosedMeshCache
from flame_nerf.field import FieldConfig, FlameNerfField
from flame_nerf.losses import color_loss, mask_loss, opacity_entropy_loss, weighted
from flame_nerf.metrics import image_metrics
from flame_nerf.motion import PosedFrame, SubjectMotion
from flame_nerf.occupancy import OccupancyConfig, OccupancyGrid, select
from flame_nerf.pose_refinement import PoseRefinement, PoseRefinementConfig
from flame_nerf.rendering import render_packed
from flame_nerf.shell_config import ShellConfig
from flame_nerf.subject import Frame, Subject

BATCH_MULTIPLE = 512
"""Numbers of samples are rounded up to this on the CPU."""


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
    shell: ShellConfig = dataclasses.field(default_factory=ShellConfig)
    """How far from the mesh there may be substance."""
    step: float = 3**0.5 / 1024
    """Length of a sample along the ray, metres (the method's sqrt(3)/1024 of a metre cube)."""
    behind: float = 0.02
    """Metres a ray goes on behind its first hit of the mesh; inf: through the whole head."""
    max_samples_per_ray: int = 256
    """Samples a ray may have; those farthest from the camera are dropped."""
    near: float = 0.02
    """Nothing nearer to the camera is seen, metres."""
    far: float = 20.0
    """Nothing farther from the camera is seen, metres."""
    occupancy: OccupancyConfig = dataclasses.field(default_factory=OccupancyConfig)
    """Skipping of what is known to be empty."""
    random_background: bool = True
    """Composite training rays on random colours, so that what is transparent is learned to be so."""
    mesh_memory: int = 1024**3
    """Bytes of posed meshes and search structures kept between steps."""
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
        canonical = torch.from_numpy(track.canonical_vertices)
        shell = self.config.shell.thickness(torch.from_numpy(track.region), track.region_names)
        self.register_buffer("shell_thickness", shell, persistent=False)
        self.register_buffer("background_color", self._background, persistent=False)
        margin = self.config.shell.thickest
        box = torch.stack([canonical.amin(dim=0) - margin, canonical.amax(dim=0) + margin])
        self.field = FlameNerfField(box, self.motion.condition_dim, self.config.field)
        self.occupancy = OccupancyGrid(box, self.config.occupancy)
        self.pose_refinement: PoseRefinement = self.config.pose_refinement.setup(
            num_cameras=self.num_train_data, device="cpu"
        )
        train_c2w = torch.stack([torch.from_numpy(frame.c2w[:3]).float() for frame in self._train_frames])
        self.pose_refinement.set_frames(train_c2w, canonical.mean(dim=0))
        self._mapping: CanonicalMapping | None = None
        self._step = 0
        self._throughput = Throughput()
        self._lpips: nn.Module | None = None

    @property
    def mapping(self) -> CanonicalMapping:
        """From posed meshes to the canonical head; built at the first use, when the model's device is known."""
        if self._mapping is None or self._mapping.device != self.device:
            track = self._subject.track
            self.motion.to(self.device)
            self._mapping = CanonicalMapping(
                torch.from_numpy(track.faces),
                torch.from_numpy(track.canonical_vertices),
                self.config.mapping,
                self.device,
            )
            self._meshes = PosedMeshCache(
                lambda row: self._mapping.pose(self.motion.frame(row).vertices), self.config.mesh_memory
            )
        return self._mapping

    @property
    def meshes(self) -> PosedMeshCache:
        """Posed meshes by row of the track."""
        return self.mapping and self._meshes

    def get_param_groups(self) -> dict[str, list[nn.Parameter]]:
        groups = self.field.get_param_groups()
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
        meshes = self.meshes.get_many(rows.tolist())
        condition = self._conditions[rows]
        background = self.background_color
        if self.training and self.config.random_background:
            background = torch.rand(len(mesh_index), 3, device=self.device)
        return self._render(ray_bundle.origins, ray_bundle.directions, meshes, mesh_index, condition, background)

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
                self._render(origins[chunk], directions[chunk], [mesh], which, condition[None], background, obb_box)
            )
        return {
            name: torch.cat([part[name] for part in parts]).view(height, width, -1).to(camera.device)
            for name in ("rgb", "accumulation", "depth")
        }

    def _render(
        self,
        origins: Float[Tensor, "R 3"],
        directions: Float[Tensor, "R 3"],
        meshes: list[PosedMesh],
        mesh_index: Int[Tensor, " R"],
        condition: Float[Tensor, "B C"],
        background: Float[Tensor, "R 3"] | Float[Tensor, " 3"],
        box: OrientedBox | None = None,
    ) -> dict[str, Tensor]:
        """March rays through the shells of their meshes. Differentiable in the field, and in origins and directions."""
        config = self.config
        samples = self.mapping.sample_shell(
            meshes,
            mesh_index,
            origins,
            directions,
            shell=self.shell_thickness,
            behind=config.behind,
            step=config.step,
            near=config.near,
            far=config.far,
            jitter=self.training,
            max_samples=config.max_samples_per_ray,
        )
        points = samples.positions(origins, directions)
        p_canonical = self.mapping.to_canonical(meshes, samples.mesh_index, points, samples.face).points
        cells, marched = None, len(samples)
        if config.occupancy.enabled:
            cells = self.occupancy.cells(p_canonical)
            if not self._exploring:
                kept = self.occupancy.kept(cells, samples)
                if not self.training:
                    # What training never met is the initial haze, in no colour of the person's: left out.
                    kept = kept[~self.occupancy.unseen(cells[kept])]
                samples, cells = select(samples, kept), cells[kept]
                points, p_canonical = points[kept], p_canonical[kept]
        along = directions.index_select(0, samples.ray_index)
        d_canonical = self.mapping.to_canonical(meshes, samples.mesh_index, points, samples.face, along).directions
        sigma, rgb = self._ask_field(p_canonical, d_canonical, condition, samples.mesh_index)
        if self.training and cells is not None:
            self.occupancy.learn(cells, sigma, self._exploring)
        if box is not None:
            sigma = sigma * box.within(points).reshape(sigma.shape)
        rendered = render_packed(sigma, rgb, samples, len(origins), background)
        return {
            "rgb": rendered.rgb,
            "accumulation": rendered.accumulation,
            "depth": rendered.depth,
            "background": background,
            "num_samples": torch.tensor(float(len(samples))),
            "num_marched": torch.tensor(float(marched)),
        }

    def _ask_field(
        self,
        points: Float[Tensor, "N 3"],
        directions: Float[Tensor, "N 3"],
        condition: Float[Tensor, "B C"],
        condition_index: Int[Tensor, " N"],
    ) -> tuple[Float[Tensor, " N"], Float[Tensor, "N 3"]]:
        """The field's density and colour."""
        count = len(points)
        # On the CPU every new matrix size costs a millisecond of set-up in each layer, so the sizes are rounded up.
        spare = -count % BATCH_MULTIPLE if self.device.type == "cpu" else 0
        points, directions = (torch.nn.functional.pad(values, (0, 0, 0, spare)) for values in (points, directions))
        condition_index = torch.nn.functional.pad(condition_index, (0, spare))
        sigma, rgb = self.field.canonical(points, directions, condition, condition_index)
        return sigma[:count], rgb[:count]

    def _moment(self, camera: Cameras) -> tuple[PosedMesh, Float[Tensor, " C"]]:
        """Mesh and condition that a camera is to see."""
        row = self._row(camera)
        if row is not None:
            frame = self.motion.frame(row)
            return self.meshes.get(row), frame.condition
        frame = (self.override or self._unstored(camera)).to(self.device)
        # A still moment is asked for again and again while the camera moves: its structures are kept.
        if self._override_mesh is None or self._override_mesh[0] is not frame:
            self._override_mesh = (frame, self.mapping.pose(frame.vertices))
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

    @property
    def _exploring(self) -> bool:
        """Whether this step looks everywhere in the shell."""
        config = self.config.occupancy
        return self.training and (self._step < config.start_step or self._step % config.explore_every == 0)

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
