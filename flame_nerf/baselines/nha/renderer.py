"""Renders rays that look at the moved and coloured mesh of a head."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float, Int
from nerfstudio.data.scene_box import OrientedBox
from torch import Tensor
from tyro.conf import Fixed

from flame_nerf.baselines.nha.casters import Visibility, make_caster
from flame_nerf.baselines.nha.networks import GeometryNetwork, NhaField, NhaFieldConfig, TextureNetwork
from flame_nerf.baselines.nha.surface import HeadSurface, SurfaceMesh, Surfaces
from flame_nerf.baselines.nha.visibility import Caster, Fragments, fragments
from flame_nerf.canonical import PosedMeshCache
from flame_nerf.motion import PosedFrame, SubjectMotion
from flame_nerf.render.renderer import Renderer
from flame_nerf.render.shell_config import ShellConfig
from flame_nerf.render.step_rays import Moments, StepRays
from flame_nerf.runtime.old_runs import StoredConfig
from flame_nerf.subject import HeadTrack

MESH_MEMORY = 1024**3
"""Bytes of posed meshes that are kept between steps, 240 KB a frame."""


@dataclass
class NhaSurfaceConfig(StoredConfig):
    """The mesh, and what rays see of it."""

    offset: ShellConfig = field(default_factory=ShellConfig)
    """How far a vertex may move along each axis, by region."""
    least_faces: Fixed[int] = 8000
    """Triangles below which a mesh is too coarse, and each of them is split in four. More follow finer shapes, and a
    step takes longer."""
    softness: Fixed[float] = 0.4
    """Pixels of the training images over which opacity rises at the outline. Smaller is sharper, and jagged below
    0.3."""
    first_softness: Fixed[float] = 3.0
    """The same when training begins: wide, so that pixels farther from it pull the outline towards them."""
    sharpen_steps: Fixed[int] = 2000
    """Training steps until the outline is as sharp as in the end."""
    visibility: Fixed[Visibility] = "auto"
    """Search for the surface that a ray sees: by casting rays, or by PyTorch3D's rasteriser. auto: the rasteriser on
    CUDA where it is installed, else rays."""


class NhaRenderer(Renderer):
    """Renders rays that see a surface, each by one query of the texture."""

    field: NhaField
    limit: Float[Tensor, " G"]
    region_of_face: Int[Tensor, " G"]
    bare: Float[Tensor, " F"]
    box: Float[Tensor, "2 3"]

    def __init__(
        self,
        track: HeadTrack,
        motion: SubjectMotion,
        field: NhaFieldConfig,
        config: NhaSurfaceConfig,
        pixel_size: float,
        latent_dim: int,
    ):
        """
        Args:
            track: the subject's head, stabilised.
            motion: its moments.
            field, config: see there.
            pixel_size: width of a pixel of the training pictures at the head, metres.
            latent_dim: length of the latent codes that follow each condition.
        """
        super().__init__()
        self.config, self._motion = config, motion
        self._told = float(field.use_expression)
        self.surface = HeadSurface(
            torch.from_numpy(track.faces).long(), torch.from_numpy(track.canonical_vertices).float(), config.least_faces
        )
        region = torch.from_numpy(track.region)
        self.register_buffer("limit", config.offset.thickness(region, track.region_names), persistent=False)
        self.register_buffer("region_of_face", region.long(), persistent=False)
        bare = torch.from_numpy(~track.region_faces("scalp", "fur", "neck"))
        self.register_buffer("bare", bare.repeat_interleave(4**self.surface.levels).float(), persistent=False)
        canonical = self.surface.canonical
        self._edge_length = float(
            (canonical[self.surface.edges[:, 0]] - canonical[self.surface.edges[:, 1]]).norm(dim=1).mean()
        )
        box = torch.stack([canonical.amin(dim=0), canonical.amax(dim=0)])
        self.register_buffer("box", box, persistent=False)
        limit = self.surface.of_faces(self.limit[:, None])[:, 0]
        self.field = NhaField(
            GeometryNetwork(canonical, limit, motion.condition_dim, field),
            TextureNetwork(box.mean(dim=0), motion.condition_dim + latent_dim, field),
            self.surface.of_faces(torch.from_numpy(track.region_faces("neck")).float()[:, None])[:, 0] > 0,
        )
        self.pixel_size = pixel_size
        self._pixel_angle = 0.0
        self._caster: Caster | None = None
        self._meshes: PosedMeshCache[SurfaceMesh] | None = None

    @property
    def device(self) -> torch.device:
        return self.limit.device

    @property
    def shell(self) -> Float[Tensor, " G"]:
        return self.limit

    @property
    def meshes(self) -> PosedMeshCache[SurfaceMesh]:
        """Posed meshes by row of the track; made at the first use, when the device is known."""
        if self._meshes is None:
            self._motion.to(self.device)
            self._meshes = PosedMeshCache(lambda row: self.pose(self._motion.at_timestep(row)), MESH_MEMORY)
        return self._meshes

    @property
    def caster(self) -> Caster:
        """What finds the triangles that rays see; made at the first use, too."""
        if self._caster is None:
            self._caster = make_caster(self.surface, self.config.visibility)
        return self._caster

    def pose(self, frame: PosedFrame) -> SurfaceMesh:
        return self.surface.pose(frame.vertices)

    def set_training_views(self, c2w: Float[Tensor, "N 3 4"], conditions: Float[Tensor, "N C"]) -> None:
        distance = (c2w[:, :, 3] - self.box.mean(dim=0).cpu()).norm(dim=1).median()
        self._pixel_angle = self.pixel_size / max(float(distance), 1e-3)

    def softness(self, step: int) -> float:
        """Pixels over which opacity rises at the outline, in a step of the training or in a picture."""
        config = self.config
        if not self.training:
            return config.softness
        left = max(0.0, 1 - step / config.sharpen_steps)
        return config.softness + left * (config.first_softness - config.softness)

    def moved(self, moments: Moments) -> tuple[Surfaces, Float[Tensor, "B V 3"]]:
        """The meshes of moments as the geometry network moves them, and by how much (canonical head, metres)."""
        offsets = self.field.geometry(moments.condition * self._told)
        meshes: list[Any] = list(moments.meshes)
        if moments.shift is not None:
            shift = self.surface.of_faces(moments.shift.posed)
            meshes = [SurfaceMesh(mesh.vertices + more, mesh.frames) for mesh, more in zip(meshes, shift, strict=True)]
        return self.surface.moved(meshes, offsets), offsets

    def seen(self, rays: StepRays, surfaces: Surfaces, softness: float) -> Fragments:
        """What rays see of the moved meshes."""
        return fragments(
            self.surface, surfaces.vertices, rays.mesh_index, rays.origins, rays.directions, self.caster,
            self._pixel_angle, softness,
        )  # fmt: skip

    def forward(
        self, rays: StepRays, condition: Float[Tensor, "B D"], step: int = 0, box: OrientedBox | None = None
    ) -> dict[str, Tensor]:
        """As `Renderer.forward`; in training with `normal_error` and `roughness` [] of the meshes besides."""
        surfaces, offsets = self.moved(rays.moments)
        seen = self.seen(rays, surfaces, self.softness(step))
        normals = torch.nn.functional.normalize(seen.of_each(surfaces.normals, rays.mesh_index), dim=1)
        points = seen.of_each(surfaces.vertices, rays.mesh_index)
        coverage = seen.coverage[:, None] * seen.of(self.field.opacity())
        if box is not None:
            coverage = coverage * box.within(points).reshape(coverage.shape)
        looking = rays.directions[seen.ray]
        rgb = self.field.texture(
            seen.of(self.surface.canonical), normals, looking, condition * self._told, rays.mesh_index[seen.ray]
        )
        background = rgb.new_zeros(3) if rays.background is None else rays.background
        behind = background.expand(len(rays), 3)
        along = ((points - rays.origins[seen.ray]) * looking).sum(dim=1, keepdim=True)
        values = torch.cat([coverage * (rgb - behind[seen.ray]), coverage, along], dim=1)
        values = values.new_zeros(len(rays), 5).index_copy(0, seen.ray, values)
        outputs = {
            "rgb": behind + values[:, :3],
            "accumulation": values[:, 3:4],
            "depth": values[:, 4:],
            "background": background,
            "num_samples": torch.tensor(float(len(seen.ray))),
            "num_marched": torch.tensor(float(len(rays))),
        }
        return outputs | self.bends(rays.moments, surfaces, offsets, step) if self.training else outputs

    def bends(
        self, moments: Moments, surfaces: Surfaces, offsets: Float[Tensor, "B V 3"], step: int
    ) -> dict[str, Float[Tensor, ""]]:
        """How far a moved mesh, another moment's in each step, is from a smooth one: `normal_error`, one minus the
        cosine of its triangles' normals and the tracked mesh's, mean where no hair or cloth lies; `roughness`, mean
        squared Laplacian of the offsets in lengths of an edge, and of the opacity."""
        which = step % len(moments.meshes)
        before, after = (
            self._face_normals(vertices) for vertices in (moments.meshes[which].vertices, surfaces.vertices[which])
        )
        error = (1 - (before * after).sum(dim=1)) * self.bare
        rough = (self.surface.roughness(offsets[which]) / self._edge_length).square().sum(dim=1)
        # What no image shows of the neck ends where its surroundings do.
        rough = rough + self.surface.roughness(self.field.opacity())[:, 0].square()
        return {"normal_error": error.sum() / self.bare.sum().clamp_min(1), "roughness": rough.mean()}

    def _face_normals(self, vertices: Float[Tensor, "V 3"]) -> Float[Tensor, "F 3"]:
        a, b, c = vertices[self.surface.faces].unbind(dim=1)
        return torch.nn.functional.normalize(torch.linalg.cross(b - a, c - a), dim=1)

    @torch.no_grad()
    def _looked_up(self, rays: StepRays) -> tuple[Fragments, Surfaces]:
        surfaces, _ = self.moved(rays.moments)
        return self.seen(rays, surfaces, self.config.softness), surfaces

    def normals(self, rays: StepRays, depth: Float[Tensor, "R 1"]) -> Float[Tensor, "R 3"]:
        seen, surfaces = self._looked_up(rays)
        normals = torch.nn.functional.normalize(seen.of_each(surfaces.normals, rays.mesh_index), dim=1)
        towards = (normals * rays.directions[seen.ray]).sum(dim=1, keepdim=True) <= 0
        return torch.zeros_like(rays.directions).index_copy(0, seen.ray, normals.where(towards, -normals))

    def canonical_position(self, rays: StepRays, depth: Float[Tensor, "R 1"]) -> Float[Tensor, "R 3"]:
        seen, _ = self._looked_up(rays)
        low, high = self.box
        places = (seen.of(self.surface.canonical) - low) / (high - low)
        return torch.zeros_like(rays.directions).index_copy(0, seen.ray, places)

    def region(self, rays: StepRays, depth: Float[Tensor, "R 1"]) -> Int[Tensor, " R"]:
        seen, _ = self._looked_up(rays)
        regions = self.region_of_face[seen.face // 4**self.surface.levels]
        return torch.zeros_like(rays.mesh_index).index_copy(0, seen.ray, regions)
