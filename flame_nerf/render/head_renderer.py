"""The one place where a sample becomes a colour: shell samples, the way into the canonical head, field, compositing."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Bool, Float, Int
from nerfstudio.data.scene_box import OrientedBox
from torch import Tensor

from flame_nerf.canonical import (
    CanonicalMapping,
    CanonicalPoints,
    EmptySpace,
    MappingConfig,
    PosedMesh,
    PosedMeshCache,
    ShellSamples,
)
from flame_nerf.canonical.shell import HAIR_REGIONS, INNER_REGIONS
from flame_nerf.canonical.surface_normals import surface_normals
from flame_nerf.field import FieldConfig, FlameNerfField, fitted_to_pixels
from flame_nerf.motion import PosedFrame, SubjectMotion
from flame_nerf.render.compositing import render_packed
from flame_nerf.render.falloff import Falloff
from flame_nerf.render.observed.backing import Backing
from flame_nerf.render.observed.expression_hull import ExpressionHull
from flame_nerf.render.observed.occupancy import OccupancyConfig, OccupancyGrid, select
from flame_nerf.render.observed.skipped_space import SkippedSpace
from flame_nerf.render.observed.view_cone import ViewCone
from flame_nerf.render.renderer import Renderer
from flame_nerf.render.shell_config import ShellConfig
from flame_nerf.render.step_rays import StepRays
from flame_nerf.runtime.old_runs import StoredConfig
from flame_nerf.subject import HeadTrack

BATCH_MULTIPLE = 512
"""Numbers of samples are rounded up to this where torch computes the field on the CPU."""

NEAR, FAR = 0.02, 20.0
"""Metres from the camera between which rays are sampled: no camera films a head from nearer or farther."""
MAX_SAMPLES_PER_RAY = 256
"""Samples a ray may have; the farthest are dropped. With the default steps a ray through the whole shell has fewer."""


@dataclass
class SamplingConfig(StoredConfig):
    """Where along a ray the field is queried. Lengths in metres."""

    shell: ShellConfig = field(default_factory=ShellConfig)
    """How far from the mesh there may be density."""
    falloff: float = 0.0
    """Density bias towards the mesh: before training it falls by exp(-falloff) from the mesh to the
    shell's edge, with the same total; not over the scalp and fur, where hair stands off the mesh. Larger values keep
    smooth skin from being learned in the air in front of the mesh and close sides that are seen only at a grazing
    angle; too large, glasses and loose clothes come out thin. 0: no bias."""
    step: float = 3**0.5 / 1024
    """Length of a sample along the ray (by default sqrt(3)/1024, the method's). A larger step has fewer samples and is
    faster in proportion; surfaces become softer and thin structures are missed."""
    behind: float = 0.02
    """Depth below the mesh, where it hits it first, that a ray goes to; inf: through the whole head. Larger values
    tolerate a mesh that lies too far out, and cost samples in proportion."""
    grazing: float = 0.05
    """Distance after that hit at which a ray ends though it is not `behind` deep yet. Smaller has fewer samples and
    specks along the outline of hair, where rays end in the middle of the surface; 0: every ray ends `behind` after its
    hit, as older versions had it."""
    occupancy: OccupancyConfig = field(default_factory=OccupancyConfig)
    """Skipping of space that is known to be empty."""
    observed_directions_only: bool = True
    """Views from outside the training cameras' directions use the nearest observed direction for the colour. Without,
    view-dependent colour is extrapolated, which can tint whole sides of the face. Costs a look-up per sample of a
    picture, nothing in training."""
    observed_expressions_only: bool = True
    """An expression far from all of the training video conditions the field as the nearest observed one; the mesh
    follows it fully. Without, unobserved expressions end in specks in the air and false colours."""
    mesh_memory: int = 1024**3
    """Bytes of posed meshes and search structures that are kept between steps, about 2 MB a frame. More saves posing
    them again, which matters for long videos; it is taken from main memory, or on CUDA from the GPU's."""


class HeadRenderer(Renderer):
    """Renders rays through posed heads.

    Attributes:
        field: what fills the canonical head.
        occupancy: where it is empty.
        view_cone: directions that colours were learned for; None: all.
        expression_hull: conditions that the field was trained on; None: it is queried for any.
        falloff: what densities are multiplied by; None: nothing.
        backing: the mesh behind the field, in pictures.
    """

    marches = True
    field: FlameNerfField
    shell_thickness: Float[Tensor, " F"]

    def __init__(
        self,
        track: HeadTrack,
        motion: SubjectMotion,
        mapping: MappingConfig,
        field: FieldConfig,
        sampling: SamplingConfig,
        pixel_size: float,
        condition_dim: int | None = None,
    ):
        """
        Args:
            track: the subject's head, stabilised.
            motion: its moments.
            mapping, field, sampling: see the configs.
            pixel_size: width of a pixel of the training pictures at the head, metres.
            condition_dim: length of what the field is told of a moment; by default the motion's condition.
        """
        super().__init__()
        self.config = sampling
        self._mapping_config = mapping
        self._track, self._motion = track, motion
        canonical = torch.from_numpy(track.canonical_vertices)
        shell = sampling.shell.thickness(torch.from_numpy(track.region), track.region_names)
        self.register_buffer("shell_thickness", shell, persistent=False)
        hair = torch.from_numpy(track.region_faces(*HAIR_REGIONS))
        self.falloff = Falloff(sampling.falloff, shell, hair) if sampling.falloff else None
        self.backing = Backing(len(canonical), torch.from_numpy(track.region_faces(*INNER_REGIONS)))
        margin = sampling.shell.thickest
        box = torch.stack([canonical.amin(dim=0) - margin, canonical.amax(dim=0) + margin])
        self.field = FlameNerfField(
            box,
            motion.condition_dim if condition_dim is None else condition_dim,
            fitted_to_pixels(field, box, pixel_size),
        )
        self.occupancy = OccupancyGrid(box, sampling.occupancy)
        self.view_cone: ViewCone | None = None
        self.expression_hull: ExpressionHull | None = None
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
                self._faces_of(self._mapping_config.blend_regions),
                self._faces_of(self._mapping_config.scale_regions),
            )
            self._skipped = SkippedSpace(self._mapping)
            self._meshes = PosedMeshCache(lambda row: self.pose(self._motion.at_timestep(row)), self.config.mesh_memory)
        return self._mapping

    def _faces_of(self, regions: tuple[str, ...]) -> Bool[Tensor, " F"] | None:
        """Faces in the named regions; None, for all, where none is named."""
        return torch.from_numpy(self._track.region_faces(*regions)) if regions else None

    @property
    def meshes(self) -> PosedMeshCache[PosedMesh]:
        """Posed meshes by row of the track."""
        self.mapping  # noqa: B018 -- which makes them
        return self._meshes

    def pose(self, frame: PosedFrame) -> PosedMesh:
        """Search structure and frames of a moment that is not stored; milliseconds."""
        return self.mapping.pose(frame.vertices)

    @property
    def shell(self) -> Float[Tensor, " F"]:
        return self.shell_thickness

    @property
    def in_kernels(self) -> bool:
        return self.field.is_compiled(self.shell_thickness)

    def set_training_views(self, c2w: Float[Tensor, "N 3 4"], conditions: Float[Tensor, "N C"]) -> None:
        if self.config.observed_directions_only:
            centre = torch.from_numpy(self._track.canonical_vertices).mean(dim=0)
            self.view_cone = ViewCone(c2w, centre)
        if self.config.observed_expressions_only:
            self.expression_hull = ExpressionHull(conditions)

    def set_surface(self, colours: Float[Tensor, "V 3"], solid: Bool[Tensor, " V"]) -> None:
        self.backing.learn(colours, solid, torch.from_numpy(self._track.faces).long())

    def nearest_seen(self, condition: Float[Tensor, "B C"]) -> Float[Tensor, "B C"]:
        if self.expression_hull is None:
            return condition
        return self.expression_hull.nearest(condition, self.condition_effect()[:, : self._motion.condition_dim])

    def networks_held(self) -> AbstractContextManager:
        return self.field.networks_held()

    def normals(self, rays: StepRays, depth: Float[Tensor, "R 1"]) -> Float[Tensor, "R 3"]:
        ends = rays.origins + rays.directions * depth
        return surface_normals(self.mapping, rays.moments.meshes, rays.mesh_index, ends, rays.directions)

    def canonical_position(self, rays: StepRays, depth: Float[Tensor, "R 1"]) -> Float[Tensor, "R 3"]:
        low, high = self.field.aabb
        return (self._ends(rays, depth).points - low) / (high - low)

    def region(self, rays: StepRays, depth: Float[Tensor, "R 1"]) -> Int[Tensor, " R"]:
        region = torch.from_numpy(self._track.region).long().to(self.device)
        return region[self._ends(rays, depth).face]

    def _ends(self, rays: StepRays, depth: Float[Tensor, "R 1"]) -> CanonicalPoints:
        ends = rays.origins + rays.directions * depth
        return self.mapping.to_canonical(rays.moments.meshes, rays.mesh_index, ends)

    def forward(
        self,
        rays: StepRays,
        condition: Float[Tensor, "B D"],
        step: int = 0,
        box: OrientedBox | None = None,
    ) -> dict[str, Tensor]:
        samples, canonical = rays.samples, rays.canonical
        assert samples is not None and canonical is not None, "rays are prepared first"
        points, looking = canonical.points, canonical.directions
        assert looking is not None
        if self.view_cone is not None and (rays.novel or not self.training):
            looking = self.view_cone.nearest(points, looking)
        sigma, rgb = self.query_field(points, looking, *self.conditioning(condition, samples))
        if rays.density_factor is not None:
            sigma = sigma * rays.density_factor
        if self.training and self.config.occupancy.enabled:
            self.occupancy.learn(self.occupancy.cells(points), sigma, self._exploring(step))
        if box is not None:
            sigma = sigma * box.within(samples.positions(rays.origins, rays.directions)).reshape(sigma.shape)
        background = rgb.new_zeros(3) if rays.background is None else rays.background
        rendered = render_packed(sigma, rgb, samples, len(rays), background)
        if not self.training and self.backing.is_known:
            rendered = self.backing.behind(rendered, rays, background, self.mapping, box)
        return {
            "rgb": rendered.rgb,
            "accumulation": rendered.accumulation,
            "depth": rendered.depth,
            "background": background,
            "num_samples": torch.tensor(float(len(samples))),
            "num_marched": torch.tensor(float(len(samples) + samples.skipped)),
        }

    def known_empty(self, step: int = 0, frozen: bool = False) -> EmptySpace | None:
        if not self.config.occupancy.enabled or self._exploring(step):
            return None
        # What training never met is the initial haze, in no colour of the person's: pictures leave it out.
        empty = self.occupancy.empty_space(self.config.step, unseen_too=not self.training)
        return self.occupancy.frozen(empty) if frozen else empty

    def march(
        self, rays: StepRays, empty: EmptySpace | None = None, generator: torch.Generator | None = None
    ) -> StepRays:
        """Samples inside the shells, and not where the head is known to be empty."""
        config = self.config
        # A march knows the meshes as they were tracked.
        in_march = empty is not None and rays.moments.shift is None and self.mapping.can_skip
        samples = self.mapping.sample_shell(
            rays.moments.meshes,
            rays.mesh_index,
            rays.origins,
            rays.directions,
            shell=self.shell_thickness,
            behind=config.behind,
            grazing=config.grazing,
            step=config.step,
            near=NEAR,
            far=FAR,
            jitter=self.training or generator is not None,
            max_samples=MAX_SAMPLES_PER_RAY,
            generator=generator,
            empty=self._skipped.added(empty, rays.moments.meshes, self.occupancy.version) if in_march else None,
        )
        marched = replace(rays, samples=samples)
        if empty is None or in_march:
            return marched
        with torch.no_grad():
            cells = self.occupancy.cells(self._to_canonical(marched).points)
        kept = self.occupancy.kept(cells, samples)
        if empty.unseen_too:
            kept = kept[~self.occupancy.unseen(cells[kept])]
        return replace(rays, samples=select(samples, kept))

    def carry(self, rays: StepRays) -> StepRays:
        canonical = self._to_canonical(rays)
        factor = None if self.falloff is None else self._expected(self.falloff, rays, canonical)
        return replace(rays, canonical=canonical, density_factor=factor)

    def _to_canonical(self, rays: StepRays) -> CanonicalPoints:
        """Middles and directions of samples in the canonical head."""
        meshes, shift, samples = rays.moments.meshes, rays.moments.shift, rays.samples
        assert samples is not None, "rays are marched first"
        if shift is None:
            return self.mapping.carry_samples(meshes, samples, rays.origins, rays.directions)
        points = samples.positions(rays.origins, rays.directions)
        points = points - shift.posed.flatten(0, 1)[samples.mesh_index * shift.posed.shape[1] + samples.face]
        along = rays.directions.index_select(0, samples.ray_index)
        carried = self.mapping.to_canonical(meshes, samples.mesh_index, points, samples.face, along)
        if shift.canonical is not None:
            carried = replace(carried, points=carried.points + shift.canonical[samples.face])
        return carried

    @torch.no_grad()
    def _expected(self, falloff: Falloff, rays: StepRays, canonical: CanonicalPoints) -> Float[Tensor, " N"]:
        """What densities are multiplied by where samples lie."""
        points, samples, shift = canonical.points, rays.samples, rays.moments.shift
        assert samples is not None
        if shift is not None and shift.canonical is not None:
            # The mapping's canonical mesh has not moved along.
            points = points - shift.canonical[samples.face]
        return falloff(self.mapping, points, samples.face, samples.distance)

    def condition_effect(self) -> Float[Tensor, "E C"]:
        """What the field makes of a moment's condition, a linear map."""
        return self.field.condition_effect()

    def conditioning(
        self, condition: Float[Tensor, "B D"], samples: ShellSamples
    ) -> tuple[Float[Tensor, "B D"], Int[Tensor, " N"]]:
        """Conditions that the field is given, and the row of them that belongs to each sample: its own moment's."""
        return condition, samples.mesh_index

    def query_field(
        self,
        points: Float[Tensor, "N 3"],
        directions: Float[Tensor, "N 3"],
        condition: Float[Tensor, "B C"],
        condition_index: Int[Tensor, " N"],
    ) -> tuple[Float[Tensor, " N"], Float[Tensor, "N 3"]]:
        """The field's density and colour."""
        count = len(points)
        if self.field.is_compiled(points) or self.device.type != "cpu":
            return self.field.canonical(points, directions, condition, condition_index)
        # In torch on the CPU every new matrix size costs a millisecond of set-up in each layer: sizes are rounded up.
        spare = -count % BATCH_MULTIPLE
        points, directions = (torch.nn.functional.pad(values, (0, 0, 0, spare)) for values in (points, directions))
        condition_index = torch.nn.functional.pad(condition_index, (0, spare))
        sigma, rgb = self.field.canonical(points, directions, condition, condition_index)
        return sigma[:count], rgb[:count]

    def _exploring(self, step: int) -> bool:
        """Whether this step looks everywhere in the shell."""
        config = self.config.occupancy
        return self.training and (step < config.start_step or step % config.explore_every == 0)
