"""The canonical mapping: from points around a posed head to the same points around the canonical head.

Patent CN117115331B, claims 1, 8 and 9; :mod:`frames` and :mod:`neighbourhood` hold the two formulas.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from tyro.conf import Fixed

from flame_nerf.canonical.backends import Backend, make_carry, make_search
from flame_nerf.canonical.carry import carry_samples, carry_vectors
from flame_nerf.canonical.frames import face_transforms, nearest_rotation, triangle_frames
from flame_nerf.canonical.neighbourhood import Neighbourhood, blend_transforms, face_neighbours, is_exact_per_face
from flame_nerf.canonical.posed import CanonicalPoints, PosedMesh, checked_index
from flame_nerf.canonical.search import EmptySpace, MarchSettings, Shell, ShellSamples
from flame_nerf.canonical.shell import march_shell
from flame_nerf.runtime.old_runs import StoredConfig
from flame_nerf.subject import SubjectError

SCALE_LIMIT = 2.0
"""Scaling stays between 1/2 and 2: an eyelid that folds away would throw its surroundings far off."""
BLEND_TOLERANCE = 0.05
"""Relative change of a blend weight, anywhere near a face, up to which weights are computed once a face: then no
point is weighed noticeably wrong, and nearly all of the mapping's time is saved."""
BLEND_REACH = 0.06
"""Metres from a face's centre over which that is checked: the thickest shell (4.5 cm over the scalp) plus a face."""


@dataclass
class MappingConfig(StoredConfig):
    """How points are carried from a posed mesh to the canonical one. The defaults are the patent's."""

    neighbourhood: Neighbourhood = "edge"
    """Triangles whose transforms are blended at a point: only the nearest (face), also those across its edges (edge),
    or all that share a vertex with it (vertex). More triangles give a smoother mapping where the mesh bends, and take
    longer to pose a frame."""
    beta: float = 4.0
    """Fall-off of the blend weights exp(-beta d^2), d in metres from a triangle's centre. A larger value lets the
    nearest triangle dominate, so the mapping follows the mesh more closely and is less smooth; where weights vary
    within a face they are computed at every point, which is slower. At 4 all neighbours count alike."""
    squared: Fixed[bool] = True
    """exp(-beta d^2) as in the patent; off: exp(-beta d), as in INSTA's code."""
    scale: bool = True
    """Scale lengths by sqrt(area ratio) of posed and canonical triangle, as INSTA does. Without, skin that stretches
    is sampled outside of its canonical thickness. Costs nothing."""
    blend: Fixed[Literal["auto", "face", "point"]] = "auto"
    """Compute weights once per face (fast), at every point (exact), or per face where that is accurate enough."""
    blend_regions: Fixed[tuple[str, ...]] = ()
    """Regions whose triangles are blended with their neighbourhood; others use the nearest alone. None given: all."""
    scale_regions: Fixed[tuple[str, ...]] = ()
    """Regions whose triangles scale, where `scale` is on. None given: all."""
    backend: Fixed[Backend] = "auto"
    """Search structure: numba (CPU), warp (CUDA or CPU), auto: numba on the CPU and warp on CUDA."""


class CanonicalMapping:
    """Carries points of any posed mesh of one topology to the canonical mesh. Built once per subject.

    Args:
        faces: vertex indices, the same for all frames.
        canonical_vertices: metres. Their device is where everything runs.
        config: see :class:`MappingConfig`.
        device: where everything runs, if not where the vertices are.
        blended: triangles whose neighbourhood takes part; the others go by themselves alone. None: all.
        scaled: triangles whose scale takes part, where the config scales at all. None: all.

    Raises:
        ValueError: wrong shapes, a face that names no vertex, or vertices that are not finite.
    """

    def __init__(
        self,
        faces: Int[Tensor, "F 3"],
        canonical_vertices: Float[Tensor, "V 3"],
        config: MappingConfig | None = None,
        device: torch.device | str | None = None,
        blended: Bool[Tensor, " F"] | None = None,
        scaled: Bool[Tensor, " F"] | None = None,
    ):
        self.config = config or MappingConfig()
        self.device = torch.device(device) if device is not None else canonical_vertices.device
        if faces.ndim != 2 or faces.shape[1] != 3 or len(faces) == 0:
            raise ValueError(f"faces must have shape (F, 3) with F > 0, got {tuple(faces.shape)}")
        self._vertex_count = len(canonical_vertices)
        if int(faces.min()) < 0 or int(faces.max()) >= self._vertex_count:
            raise ValueError(
                f"faces name vertices {int(faces.min())} to {int(faces.max())}, but there are {self._vertex_count}"
            )
        self.faces = faces.to(self.device, torch.int64)
        self.canonical_vertices = self._checked(canonical_vertices, "canonical vertices")
        self.canonical_frames = triangle_frames(self.canonical_vertices, self.faces)
        normals = self.canonical_frames.rotation[:, :, 2]
        heights = (normals * self.canonical_frames.centre).sum(dim=1, keepdim=True)
        self.planes = torch.cat([normals, heights], dim=1)
        self.neighbours = face_neighbours(self.faces, self.config.neighbourhood)
        if blended is not None:
            self.neighbours[~blended.to(self.device), 1:] = -1
        self._scale_limit = torch.full((len(self.faces),), SCALE_LIMIT, device=self.device)
        if scaled is not None:
            self._scale_limit[~scaled.to(self.device)] = 1.0
        self.blend = self._choose_blend()
        self._search = make_search(self.faces, self.canonical_vertices, self.config.backend)
        self._carrying = make_carry(self.config.backend, self.device)
        self._shell: tuple[Tensor, int, Shell] | None = None

    def _checked(self, vertices: Tensor, what: str) -> Tensor:
        if vertices.shape != (self._vertex_count, 3):
            raise ValueError(f"{what} must have shape ({self._vertex_count}, 3), got {tuple(vertices.shape)}")
        vertices = vertices.detach().to(self.device, torch.float32).contiguous()
        if not bool(torch.isfinite(vertices.sum())):
            bad = int((~torch.isfinite(vertices).all(dim=1)).nonzero()[0, 0]) if len(vertices) else -1
            raise ValueError(f"{what} are not finite, first at vertex {bad}: leave the frame out or track it again")
        return vertices

    def _choose_blend(self) -> Literal["face", "point"]:
        config = self.config
        if config.blend != "auto":
            return config.blend
        exact = is_exact_per_face(
            self.canonical_frames.centre, self.neighbours, BLEND_REACH, BLEND_TOLERANCE,
            beta=config.beta, squared=config.squared,
        )  # fmt: skip
        return "face" if exact else "point"

    @torch.no_grad()
    def is_inside(self, points: Float[Tensor, "N 3"], face: Int[Tensor, " N"]) -> Bool[Tensor, " N"]:
        """True if canonical points lie behind the planes of their nearest faces: in the head, but for sharp edges.

        Args:
            points: metres, in canonical space.
            face: nearest faces.
        """
        planes = self.planes.index_select(0, face)
        return (points * planes[:, :3]).sum(dim=1) < planes[:, 3]

    @torch.no_grad()
    def pose(self, vertices: Float[Tensor, "V 3"]) -> PosedMesh:
        """Structures of one frame: search tree, tangent frames, blended transforms. A few milliseconds.

        Args:
            vertices: posed, world metres.

        Raises:
            ValueError: wrong shape, not finite; SubjectError: all triangles collapsed.
        """
        vertices = self._checked(vertices, "posed vertices")
        posed = triangle_frames(vertices, self.faces)
        transforms = face_transforms(
            posed, self.canonical_frames, scale=self.config.scale, scale_limit=self._scale_limit
        )
        if not bool(posed.valid.any()):
            raise SubjectError("head.npz: a mesh has no triangle with an area: leave the frame out, or track again")
        usable = (posed.valid & self.canonical_frames.valid).to(torch.float32)
        if self.blend == "face":
            transforms = self._blend(posed.centre, self.neighbours, transforms, posed.centre, usable)
        rotations = nearest_rotation(transforms[:, :, :3]).contiguous()
        search = self._search.build(vertices)
        tensors = (vertices, transforms, rotations, posed.centre, usable)
        nbytes = sum(tensor.nbytes for tensor in tensors) + self._search.handle_bytes(search)
        return PosedMesh(*tensors, search, nbytes)

    def _blend(self, points: Tensor, members: Tensor, transforms: Tensor, centres: Tensor, usable: Tensor) -> Tensor:
        return blend_transforms(
            points, members, transforms, centres, usable, beta=self.config.beta, squared=self.config.squared
        )

    def to_canonical(
        self,
        posed: Sequence[PosedMesh],
        mesh_index: Int[Tensor, " N"],
        points: Float[Tensor, "N 3"],
        face: Int[Tensor, " N"] | None = None,
        directions: Float[Tensor, "N 3"] | None = None,
        max_distance: float = float("inf"),
    ) -> CanonicalPoints:
        """Carry points (and directions) of several frames to canonical space.

        Args:
            posed: the frames' meshes.
            mesh_index: which of them a point belongs to.
            points: world metres, in the posed frame.
            face: nearest faces where they are known already (:meth:`sample_shell` gives them); -1: leave the point.
            directions: turned by the rotation of the point's transform; lengths are kept.
            max_distance: points farther than this from their mesh stay where they are, with face -1.

        Note: differentiable with respect to ``points`` and ``directions``, the choice of the face held fixed. With the
        blend per face the Jacobian is the linear part of the face's transform.
        """
        distance = None
        mesh_index = checked_index(mesh_index, len(posed), "mesh_index", 0)
        if face is None:
            at = points.detach().to(torch.float32).contiguous()
            handles = [mesh.search for mesh in posed]
            face, distance = self._search.nearest(handles, mesh_index, at, max_distance)
        face = checked_index(face, len(self.faces), "face", -1)
        if len(points) == 0:
            return CanonicalPoints(points, directions, face, distance)
        if self.blend == "point":
            carried, turned = self._carry_exactly(posed, mesh_index, points, face, directions)
        else:
            carried = self._carry(posed, mesh_index, face, points, "transforms")
            turned = None if directions is None else self._carry(posed, mesh_index, face, directions, "rotations")
        return CanonicalPoints(carried, turned, face, distance)

    def _carry(
        self, posed: Sequence[PosedMesh], mesh_index: Tensor, face: Tensor, vectors: Tensor, table: str
    ) -> Tensor:
        """Apply the rows of one of the posed meshes' tables."""
        return carry_vectors(self._carrying, vectors, [getattr(mesh, table) for mesh in posed], mesh_index, face)

    def _carry_exactly(
        self,
        posed: Sequence[PosedMesh],
        mesh_index: Tensor,
        points: Tensor,
        face: Tensor,
        directions: Tensor | None,
    ) -> tuple[Tensor, Tensor | None]:
        """The blend with weights taken at every point."""
        astray = (face < 0)[:, None]
        members = self.neighbours.index_select(0, face.clamp_min(0))
        members = torch.where(members < 0, members, members + (mesh_index * len(self.faces))[:, None])
        transforms, centres, usable = (
            torch.cat([getattr(mesh, name) for mesh in posed]) for name in ("transforms", "centres", "usable")
        )
        blended = self._blend(points, members, transforms, centres, usable)
        carried = (blended[:, :, :3] * points[:, None, :]).sum(dim=2) + blended[:, :, 3]
        # Chosen afterwards: to select points first, the host would have to wait for how many there are.
        carried = torch.where(astray, points, carried)
        if directions is None:
            return carried, None
        rotation = nearest_rotation(blended[:, :, :3])
        return carried, torch.where(astray, directions, (rotation * directions[:, None, :]).sum(dim=2))

    @property
    def can_skip(self) -> bool:
        """True if :meth:`sample_shell` can leave out empty space: with the blend per face."""
        return self.blend == "face"

    def carry_samples(
        self,
        posed: Sequence[PosedMesh],
        samples: ShellSamples,
        origins: Float[Tensor, "R 3"],
        directions: Float[Tensor, "R 3"],
    ) -> CanonicalPoints:
        """Middles of a march's samples and their rays' directions: :meth:`to_canonical` in one piece.

        Note: differentiable with respect to ``origins`` and ``directions``, the choice of the face held fixed.
        """
        if self.blend == "face" and len(posed):
            tables = [mesh.transforms for mesh in posed], [mesh.rotations for mesh in posed]
            points, turned = carry_samples(self._carrying, origins, directions, samples, *tables)
            return CanonicalPoints(points, turned, samples.face, samples.distance)
        along = directions.index_select(0, samples.ray_index)
        points = samples.positions(origins, directions)
        return self.to_canonical(posed, samples.mesh_index, points, samples.face, along)

    def sample_shell(
        self,
        posed: Sequence[PosedMesh],
        mesh_index: Int[Tensor, " R"],
        origins: Float[Tensor, "R 3"],
        directions: Float[Tensor, "R 3"],
        *,
        shell: Float[Tensor, " F"] | float,
        step: float,
        behind: float = float("inf"),
        grazing: float = 0.0,
        through: bool = False,
        near: float = 0.0,
        far: float = 1e3,
        max_samples: int = 1024,
        jitter: bool = False,
        generator: torch.Generator | None = None,
        empty: EmptySpace | None = None,
    ) -> ShellSamples:
        """Samples of constant length inside the shell around the posed meshes, packed. See :func:`march_shell`.

        Raises:
            ValueError: also for ``empty`` where this mapping cannot skip.
        """
        if empty is not None:
            if not self.can_skip:
                raise ValueError("this mapping cannot leave out empty space while it marches; select samples later")
            empty = replace(empty, transforms=[mesh.transforms for mesh in posed])
        thickness = torch.full((len(self.faces),), shell) if isinstance(shell, (int, float)) else shell
        return march_shell(
            self._search,
            [mesh.search for mesh in posed],
            checked_index(mesh_index, len(posed), "mesh_index", 0),
            origins,
            directions,
            shell=self._prepared_shell(thickness, isinstance(shell, (int, float))),
            settings=MarchSettings(step, behind, grazing, through, near, far, max_samples),
            jitter=jitter,
            generator=generator,
            empty=empty,
        )

    @torch.no_grad()
    def first_hit(
        self,
        posed: Sequence[PosedMesh],
        mesh_index: Int[Tensor, " R"],
        origins: Float[Tensor, "R 3"],
        directions: Float[Tensor, "R 3"],
    ) -> tuple[Float[Tensor, " R"], Int[Tensor, " R"]]:
        """The first triangle that each ray meets, from either side: the mesh's depth. Not differentiable.

        Args:
            posed: the frames' meshes.
            mesh_index: which of them a ray looks at.
            origins: world metres.
            directions: of unit length, if distances are to be metres.

        Returns:
            distance along the ray (inf where it meets nothing) and the face (-1 there).
        """
        mesh_index = checked_index(mesh_index, len(posed), "mesh_index", 0)
        rays = (values.detach().to(torch.float32).contiguous() for values in (origins, directions))
        return self._search.first_hit([mesh.search for mesh in posed], mesh_index, *rays)

    def _prepared_shell(self, thickness: Tensor, is_constant: bool) -> Shell:
        """What the search derives from a shell, kept while the same tensor comes again."""
        kept = self._shell
        if kept is not None and (kept[0] is thickness and kept[1] == thickness._version):
            return kept[2]
        if kept is not None and is_constant and kept[2].least == kept[2].most == float(thickness[0]):
            return kept[2]
        if thickness.shape != (len(self.faces),):
            raise ValueError(
                f"shell must have one thickness per face ({len(self.faces)}), got {tuple(thickness.shape)}"
            )
        if not bool((thickness >= 0).all()):
            raise ValueError("shell thickness must be a number >= 0 metres for every face")
        shell = self._search.make_shell(thickness.to(torch.float32))
        self._shell = (thickness, thickness._version, shell)
        return shell
