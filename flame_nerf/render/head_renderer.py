"""The one place where a sample becomes a colour: shell samples, the way into the canonical head, field, compositing."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import replace

import torch
from jaxtyping import Bool, Float, Int, UInt8
from nerfstudio.data.scene_box import OrientedBox
from torch import Tensor

from flame_nerf.canonical import CanonicalMapping, CanonicalPoints, EmptySpace, MappingConfig, PosedMesh, ShellSamples
from flame_nerf.canonical.cache import PosedMeshCache
from flame_nerf.canonical.shell import HAIR_REGIONS, INNER_REGIONS
from flame_nerf.canonical.surface_normals import surface_normals
from flame_nerf.field import FieldConfig, FlameNerfField, fitted_to_pixels
from flame_nerf.motion import PosedFrame, SubjectMotion
from flame_nerf.render.compositing import render_packed
from flame_nerf.render.falloff import Falloff
from flame_nerf.render.observed.backing import Backing
from flame_nerf.render.observed.clothes import Clothes
from flame_nerf.render.observed.detail import Detail, in_order
from flame_nerf.render.observed.expression_hull import ExpressionHull
from flame_nerf.render.observed.occupancy import OccupancyGrid, select
from flame_nerf.render.observed.skipped_space import SkippedSpace
from flame_nerf.render.observed.unfilmed import Unfilmed
from flame_nerf.render.observed.view_cone import ViewCone
from flame_nerf.render.renderer import Renderer
from flame_nerf.render.sampling_config import SamplingConfig
from flame_nerf.render.step_rays import StepRays, to_canonical
from flame_nerf.subject import HeadTrack
from flame_nerf.training.recorded_steps import StepRecorder

BATCH_MULTIPLE = 512
"""Numbers of samples are rounded up to this where torch computes the field on the CPU."""
NEAR, FAR = 0.02, 20.0
"""Metres from the camera between which rays are sampled: none films a head from nearer or farther."""
MAX_SAMPLES_PER_RAY = 256
"""Samples a ray may have; the farthest are dropped. With the default steps a ray through the whole shell has fewer."""


class HeadRenderer(Renderer):
    """Renders rays through posed heads.

    Attributes:
        field, occupancy: what fills the canonical head, and where that is empty.
        view_cone: directions that colours were learned for; None: all.
        expression_hull: conditions that the field was trained on; None: it is queried for any.
        clothes, unfilmed: what is shown beyond the views that were filmed, of clothes and of the head; None: the field.
        falloff: what densities are multiplied by; None: nothing.
        backing, detail: the mesh behind the field, in pictures; how fine the field is where.
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
        self.detail = Detail(box, field.n_levels, field.features_per_level)
        self.occupancy = OccupancyGrid(box, sampling.occupancy)
        self.view_cone: ViewCone | None = None
        self.clothes: Clothes | None = None
        self.unfilmed: Unfilmed | None = None
        self.expression_hull: ExpressionHull | None = None
        self._mapping: CanonicalMapping | None = None
        self._recorder: StepRecorder | None = None

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
        config, centre = self.config, torch.from_numpy(self._track.canonical_vertices).mean(dim=0)
        self.view_cone = ViewCone(c2w, centre) if config.observed_directions_only else None
        self.clothes = Clothes(self._track, self.shell_thickness, c2w) if config.observed_clothes_only else None
        self.unfilmed = Unfilmed(self._track, c2w) if config.observed_sides_only else None
        self.expression_hull = ExpressionHull(conditions) if config.observed_expressions_only else None

    def set_detail(self, left_out: UInt8[Tensor, " V"]) -> None:
        self.detail.learn(left_out, torch.from_numpy(self._track.canonical_vertices))

    def set_surface(self, colours: Tensor, solid: Tensor, standoff: Tensor) -> None:
        self.backing.learn(colours, solid, standoff, torch.from_numpy(self._track.faces).long())

    def nearest_seen(self, condition: Float[Tensor, "B C"]) -> Float[Tensor, "B C"]:
        if self.expression_hull is None:
            return condition
        return self.expression_hull.nearest(condition, self.condition_effect()[:, : self._motion.condition_dim])

    def networks_held(self) -> AbstractContextManager:
        return self.field.networks_held()

    def normals(self, rays: StepRays, depth: Float[Tensor, "R 1"]) -> Float[Tensor, "R 3"]:
        where = rays.mesh_index, rays.origins + rays.directions * depth, rays.directions
        return surface_normals(self.mapping, rays.moments.meshes, *where)

    def canonical_position(self, rays: StepRays, depth: Float[Tensor, "R 1"]) -> Float[Tensor, "R 3"]:
        low, high = self.field.aabb
        return (self._ends(rays, depth).points - low) / (high - low)

    def region(self, rays: StepRays, depth: Float[Tensor, "R 1"]) -> Int[Tensor, " R"]:
        return torch.from_numpy(self._track.region).long().to(self.device)[self._ends(rays, depth).face]

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
        assert samples is not None and canonical is not None and canonical.directions is not None, "rays are prepared"
        points, looking = canonical.points, canonical.directions
        if self.view_cone is not None and (rays.novel or not self.training):
            looking = self.view_cone.nearest(points, looking)
        condition, row = self.conditioning(condition, samples)
        background = points.new_zeros(3) if rays.background is None else rays.background
        given = [points, looking, condition, row, samples.t_start, samples.t_end, samples.ray_index, samples.offsets]
        given += [background] if rays.density_factor is None else [background, rays.density_factor]
        if rays.recorded and self._recorder is not None and box is None:
            self.occupancy.note_change()
            rgb, accumulation, depth = self._recorder(*given)
        else:
            inside = None if box is None else box.within(samples.positions(rays.origins, rays.directions))
            exploring = self._exploring(step)
            rgb, accumulation, depth = self._shade(*given, inside=inside, paint=rays.paint, exploring=exploring)
        if not self.training and self.backing.is_known:
            shown = self.backing.behind(rgb, accumulation, depth, rays, background, self.mapping, box)
            if self.unfilmed is not None:
                shown = self.unfilmed.ended(*shown, rays, background, self.mapping, self.backing)
            rgb, accumulation, depth = shown
        return {
            "rgb": rgb,
            "accumulation": accumulation,
            "depth": depth,
            "background": background,
            "num_samples": torch.tensor(float(len(samples) - rays.spare)),
            "num_marched": torch.tensor(float(len(samples) - rays.spare + samples.skipped)),
        }

    def _shade(
        self,
        points: Float[Tensor, "N 3"],
        looking: Float[Tensor, "N 3"],
        condition: Float[Tensor, "B C"],
        row: Int[Tensor, " N"],
        t_start: Float[Tensor, " N"],
        t_end: Float[Tensor, " N"],
        ray_index: Int[Tensor, " N"],
        offsets: Int[Tensor, " R+1"],
        background: Float[Tensor, "R 3"] | Float[Tensor, " 3"],
        factor: Float[Tensor, " N"] | None = None,
        *,
        inside: Bool[Tensor, " N"] | None = None,
        paint: Float[Tensor, "N 4"] | None = None,
        exploring: bool = False,
    ) -> tuple[Float[Tensor, "R 3"], Float[Tensor, "R 1"], Float[Tensor, "R 1"]]:
        """Colour, opacity and depth of rays from their samples in the canonical head, by tensors alone."""
        sigma, rgb = self.query_field(points, looking, condition, row)
        sigma = sigma if factor is None else sigma * factor
        rgb = rgb if paint is None else torch.lerp(rgb, paint[:, :3], paint[:, 3:])
        if self.training and self.config.occupancy.enabled:
            self.occupancy.learn(self.occupancy.cells(points), sigma, exploring)
        if inside is not None:
            sigma = sigma * inside.reshape(sigma.shape)
        # Compositing asks only where they lie along which ray.
        samples = ShellSamples(ray_index, t_start, t_end, offsets, ray_index, ray_index, t_start)
        rendered = render_packed(sigma, rgb, samples, len(offsets) - 1, background)
        return rendered.rgb, rendered.accumulation, rendered.depth

    def record_steps(self) -> None:
        if self.field.grid.backend != "tcnn":  # which keeps memory of its own from call to call
            self._recorder = StepRecorder(self._shade, list(self.field.parameters()))

    def records(self, step: int) -> bool:
        # Steps that explore have other samples than the rest.
        return self._recorder is not None and self.training and not self._exploring(step)

    def _filled_up(self, rays: StepRays) -> StepRays:
        """Rays of a recorded step with as many samples as its recording has room for."""
        if not rays.recorded or self._recorder is None or rays.samples is None:
            return rays
        return rays.filled_up(self._recorder.room(len(rays), len(rays.samples)))

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
            through=not self.training,
            step=config.step,
            near=NEAR,
            far=FAR,
            jitter=self.training or generator is not None,
            max_samples=MAX_SAMPLES_PER_RAY,
            generator=generator,
            empty=self._skipped.added(empty, rays.moments.meshes, self.occupancy.version) if in_march else None,
        )
        rays = replace(rays, samples=samples)
        if empty is None or in_march:
            return self._filled_up(rays)
        with torch.no_grad():
            cells = self.occupancy.cells(to_canonical(rays, self.mapping).points)
        kept = self.occupancy.kept(cells, samples)
        if empty.unseen_too:
            kept = kept[~self.occupancy.unseen(cells[kept])]
        return self._filled_up(replace(rays, samples=select(samples, kept)))

    def carry(self, rays: StepRays) -> StepRays:
        canonical = to_canonical(rays, self.mapping)
        factor = None if self.falloff is None else self.falloff.of_rays(self.mapping, rays, canonical.points)
        rays = replace(rays, canonical=canonical)
        if self.clothes is not None and (rays.novel or not self.training):
            factor = self.clothes.narrowed(factor, self.mapping, rays)
        rays = replace(rays, density_factor=factor)
        if self.unfilmed is None or self.training:
            return rays
        return self.unfilmed.shaped(rays, self.mapping, self.shell_thickness, self.backing)

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
        condition, condition_index, scale = self.detail.of_points(points, condition, condition_index)
        if scale is not None and self.field.is_compiled(points):
            return in_order(self.field.canonical, points, directions, condition, condition_index, scale)
        if self.field.is_compiled(points) or self.device.type != "cpu":
            return self.field.canonical(points, directions, condition, condition_index, scale)
        # In torch on the CPU every new matrix size costs a millisecond of set-up in each layer: sizes are rounded up.
        spare = -count % BATCH_MULTIPLE
        points, directions = (torch.nn.functional.pad(values, (0, 0, 0, spare)) for values in (points, directions))
        condition_index = torch.nn.functional.pad(condition_index, (0, spare))
        sigma, rgb = self.field.canonical(points, directions, condition, condition_index, scale)
        return sigma[:count], rgb[:count]

    def _exploring(self, step: int) -> bool:
        """Whether this step looks everywhere in the shell."""
        config = self.config.occupancy
        return self.training and (step < config.start_step or step % config.explore_every == 0)
