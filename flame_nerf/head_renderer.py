"""The one place where a sample becomes a colour: shell samples, the way into the canonical head, field, compositing."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int
from nerfstudio.data.scene_box import OrientedBox
from torch import Tensor, nn

from flame_nerf.canonical import CanonicalMapping, MappingConfig, PosedMesh, PosedMeshCache
from flame_nerf.field import FieldConfig, FlameNerfField
from flame_nerf.motion import PosedFrame, SubjectMotion
from flame_nerf.occupancy import OccupancyConfig, OccupancyGrid, select
from flame_nerf.rendering import render_packed
from flame_nerf.shell_config import ShellConfig
from flame_nerf.subject import HeadTrack

BATCH_MULTIPLE = 512
"""Numbers of samples are rounded up to this on the CPU."""


@dataclass
class SamplingConfig:
    """Where along a ray the field is asked. Lengths in metres."""

    shell: ShellConfig = field(default_factory=ShellConfig)
    """How far from the mesh there may be substance."""
    step: float = 3**0.5 / 1024
    """Length of a sample along the ray (the method's sqrt(3)/1024 of a metre cube)."""
    behind: float = 0.02
    """How far a ray goes on behind its first hit of the mesh; inf: through the whole head."""
    max_samples_per_ray: int = 256
    """Samples a ray may have; those farthest from the camera are dropped."""
    near: float = 0.02
    """Nothing nearer to the camera is seen."""
    far: float = 20.0
    """Nothing farther from the camera is seen."""
    occupancy: OccupancyConfig = field(default_factory=OccupancyConfig)
    """Skipping of what is known to be empty."""
    mesh_memory: int = 1024**3
    """Bytes of posed meshes and search structures kept between steps."""


class HeadRenderer(nn.Module):
    """Renders rays through posed heads.

    Attributes:
        field: what fills the canonical head.
        occupancy: where it is empty.
    """

    def __init__(
        self,
        track: HeadTrack,
        motion: SubjectMotion,
        mapping: MappingConfig,
        field: FieldConfig,
        sampling: SamplingConfig,
    ):
        super().__init__()
        self.config = sampling
        self._mapping_config = mapping
        self._track, self._motion = track, motion
        canonical = torch.from_numpy(track.canonical_vertices)
        shell = sampling.shell.thickness(torch.from_numpy(track.region), track.region_names)
        self.register_buffer("shell_thickness", shell, persistent=False)
        margin = sampling.shell.thickest
        box = torch.stack([canonical.amin(dim=0) - margin, canonical.amax(dim=0) + margin])
        self.field = FlameNerfField(box, motion.condition_dim, field)
        self.occupancy = OccupancyGrid(box, sampling.occupancy)
        self._mapping: CanonicalMapping | None = None

    @property
    def device(self) -> torch.device:
        """Where everything runs."""
        return self.shell_thickness.device

    @property
    def mapping(self) -> CanonicalMapping:
        """From posed meshes to the canonical head; built at the first use, when the device is known."""
        if self._mapping is None or self._mapping.device != self.device:
            self._motion.to(self.device)
            self._mapping = CanonicalMapping(
                torch.from_numpy(self._track.faces),
                torch.from_numpy(self._track.canonical_vertices),
                self._mapping_config,
                self.device,
            )
            self._meshes = PosedMeshCache(lambda row: self.pose(self._motion.frame(row)), self.config.mesh_memory)
        return self._mapping

    @property
    def meshes(self) -> PosedMeshCache:
        """Posed meshes by row of the track."""
        return self.mapping and self._meshes

    def pose(self, frame: PosedFrame) -> PosedMesh:
        """Search structure and frames of a moment that is not stored; milliseconds."""
        return self.mapping.pose(frame.vertices)

    def forward(
        self,
        origins: Float[Tensor, "R 3"],
        directions: Float[Tensor, "R 3"],
        meshes: list[PosedMesh],
        mesh_index: Int[Tensor, " R"],
        condition: Float[Tensor, "B C"],
        background: Float[Tensor, "R 3"] | Float[Tensor, " 3"],
        step: int = 0,
        box: OrientedBox | None = None,
    ) -> dict[str, Tensor]:
        """March rays through the shells of their meshes. Differentiable in the field, and in origins and directions.

        Args:
            origins: metres, in the head's world.
            directions: unit length.
            meshes: the B moments' meshes.
            mesh_index: moment of each ray.
            condition: expression, jaw and gaze of each moment.
            background: what is behind.
            step: of the training.
            box: nothing outside of it is rendered.

        Returns:
            rgb [R, 3], accumulation [R, 1], depth [R, 1] (metres along the ray, 0 where nothing is hit), background,
            and how many samples lay in the shell and were asked of the field.
        """
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
        exploring = self._exploring(step)
        if config.occupancy.enabled:
            cells = self.occupancy.cells(p_canonical)
            if not exploring:
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
            self.occupancy.learn(cells, sigma, exploring)
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

    def _exploring(self, step: int) -> bool:
        """Whether this step looks everywhere in the shell."""
        config = self.config.occupancy
        return self.training and (step < config.start_step or step % config.explore_every == 0)
