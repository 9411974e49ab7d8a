"""Texture atlases: a mesh cut into charts that lie flat beside each other in one square picture.

Coordinates. u goes right and v down, both 0..1, as glTF has it: the texel in row r and column c of a picture with
`size` rows has its centre at u = (c + 0.5) / size, v = (r + 0.5) / size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from flame_nerf.runtime.errors import UserError

PADDING = 3
"""Texels that charts stay apart: what a texture filter mixes in on either side, and one more."""
REGION_SCALES = {
    "lips": 1.8, "eyelids": 1.8, "eyes": 1.8, "teeth": 1.6, "skin": 1.3, "scalp": 0.8, "neck": 0.8, "ears": 0.7,
    "mouth": 0.7, "tongue": 0.7, "sockets": 0.3,
}  # fmt: skip
"""How much longer a millimetre of a region is in the atlas than elsewhere: faces are looked at, sockets are not."""
_CANDIDATES = 1 << 22
"""Texels that are tried against triangles at a time."""


@dataclass(frozen=True, eq=False)
class Atlas:
    """A mesh of W vertices and F triangles laid out in a picture. Vertices on a seam are there once for each side."""

    size: int
    """Rows and columns of the picture."""
    source: Int[np.ndarray, " W"]
    """Vertex of the original mesh that each vertex is."""
    uv: Float[np.ndarray, "W 2"]
    """float32; see the module's docstring."""
    triangles: Int[np.ndarray, "F 3"]
    """Rows of `source`, int32: the original triangles, in their order, corner by corner."""
    texel_triangle: Int[np.ndarray, "size size"]
    """Triangle that covers each texel's centre, int32; -1 where none does."""
    texel_barycentric: Float[np.ndarray, "size size 3"]
    """Weights of that triangle's three corners at the texel's centre, float32; zeros where there is none."""

    @property
    def covered(self) -> Bool[np.ndarray, "size size"]:
        """Texels that lie on the mesh."""
        return self.texel_triangle >= 0

    def at_texels(self, values: Float[np.ndarray, "V ..."], triangles: Int[np.ndarray, "F 3"]) -> np.ndarray:
        """Values of the original vertices at the covered texels, row by row: [N, ...].

        Args:
            values: of the V vertices of the original mesh.
            triangles: the original triangles.
        """
        covered = self.covered
        weights = self.texel_barycentric[covered]
        corners = values[triangles[self.texel_triangle[covered]]]
        return np.einsum("nk,nk...->n...", weights, corners)

    def picture(
        self, values: Float[np.ndarray, "N ..."], known: Bool[np.ndarray, " N"] | None = None
    ) -> Float[np.ndarray, "size size ..."]:
        """A whole picture of what the covered texels have; all others take what the nearest of them has.

        Args:
            values: of the covered texels, row by row.
            known: those whose value counts; None: all. A picture of which nothing is known is zero.
        """
        from scipy.ndimage import distance_transform_edt

        out = np.zeros((self.size, self.size, *values.shape[1:]), values.dtype)
        covered = self.covered
        out[covered] = values
        if known is not None:
            covered[covered] = known
        if not covered.any():
            return np.zeros_like(out)
        rows, columns = distance_transform_edt(~covered, return_distances=False, return_indices=True)
        return out[rows, columns]


def unwrap(
    vertices: Float[np.ndarray, "V 3"],
    triangles: Int[np.ndarray, "F 3"],
    scale_by_triangle: Float[np.ndarray, " F"] | None = None,
    size: int = 1024,
) -> Atlas:
    """Cuts a mesh into charts with little distortion and packs them (xatlas).

    Args:
        vertices: metres; any unit does, as only proportions count.
        triangles: counter-clockwise seen from outside. Those without an area get no texel.
        scale_by_triangle: how much longer than others a triangle's edges shall be in the atlas; seams run between
            different scales, so give a few values only. None: the same everywhere.
        size: rows and columns of the picture.

    Raises:
        UserError: xatlas is not installed.
        ValueError: no triangle has an area.
    """
    vertices, triangles = np.asarray(vertices, np.float64), np.asarray(triangles, np.int64)
    scales = np.ones(len(triangles)) if scale_by_triangle is None else np.asarray(scale_by_triangle, np.float64)
    flat = _areas(vertices[triangles]) <= 0
    if flat.all():
        raise ValueError("a mesh none of whose triangles has an area cannot be laid out")
    parts = [np.flatnonzero((scales == scale) & ~flat) for scale in np.unique(scales)]
    parts = [part for part in parts if len(part)]
    charts = [_part(vertices, triangles[part], scales[part[0]]) for part in parts]
    packed = _pack([(points, corners) for points, corners, _ in charts], size)
    source, uv, wired, count = [], [], np.zeros_like(triangles), 0
    for part, (_, _, used), (kept, corners, coordinates) in zip(parts, charts, packed, strict=True):
        source.append(used[kept])
        uv.append(coordinates)
        wired[part] = corners.astype(np.int64) + count
        count += len(kept)
    # Triangles without an area keep their corners, each of which stands somewhere already or is put at the origin.
    lost, place = np.unique(triangles[flat], return_inverse=True)
    source.append(lost)
    uv.append(np.zeros((len(lost), 2)))
    wired[flat] = place.reshape(-1, 3) + count
    coordinates = np.concatenate(uv)
    face, barycentric = _rasterise(coordinates * size, np.where(flat[:, None], -1, wired), size)
    return Atlas(
        size,
        np.concatenate(source).astype(np.int32),
        coordinates.astype(np.float32),
        wired.astype(np.int32),
        face,
        barycentric,
    )


def region_scales(region: Int[np.ndarray, " F"], region_names: Sequence[str]) -> Float[np.ndarray, " F"]:
    """`REGION_SCALES` of each triangle of a head; 1 for regions that are not in the table."""
    return np.array([REGION_SCALES.get(name, 1.0) for name in region_names] or [1.0])[np.asarray(region)]


def _areas(corners: Float[np.ndarray, "F 3 D"]) -> Float[np.ndarray, " F"]:
    edges = corners[:, 1:] - corners[:, :1]
    return np.linalg.norm(np.cross(edges[:, 0], edges[:, 1]), axis=-1) / 2


def _part(vertices: np.ndarray, triangles: np.ndarray, scale: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Vertices of some triangles, enlarged; the triangles in them; and which vertices those are."""
    used, corners = np.unique(triangles, return_inverse=True)
    return vertices[used] * scale, corners.reshape(-1, 3), used


def _pack(meshes: list[tuple[np.ndarray, np.ndarray]], size: int) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Of each mesh: rows of its vertices, its triangles in those, and their places in the picture, 0..1."""
    try:
        import xatlas
    except ImportError:
        raise UserError(
            "textures are laid out by the PyPI package xatlas, which is not installed: "
            '`pip install "flame-nerf[export]"`'
        ) from None
    atlas = xatlas.Atlas()
    # Xatlas has tolerances of its own, and takes a millimetre for nothing where a unit is a metre.
    unit = 1.0 / max(float(np.abs(points).max()) for points, _ in meshes)
    for points, corners in meshes:
        atlas.add_mesh((points * unit).astype(np.float32), corners.astype(np.uint32))
    charting, packing = xatlas.ChartOptions(), xatlas.PackOptions()
    charting.max_iterations, charting.max_cost = 4, 8.0
    packing.padding, packing.bilinear, packing.rotate_charts = PADDING, True, True
    # One picture whose size comes out as it will, near the one asked for.
    packing.resolution, packing.texels_per_unit = 0, _density(meshes, unit, size)
    atlas.generate(charting, packing)
    # The binding's coordinates are of each axis; texels are square.
    stretch = np.array([atlas.width, atlas.height], np.float64) / max(atlas.width, atlas.height)
    return [(kept, corners, uv * stretch) for kept, corners, uv in (atlas[row] for row in range(len(meshes)))]


def _density(meshes: list[tuple[np.ndarray, np.ndarray]], unit: float, size: int) -> float:
    """Texels along a unit's length with which three quarters of the picture are covered."""
    area = sum(_areas(points[corners]).sum() for points, corners in meshes) * unit**2
    return size * (0.75 / area) ** 0.5


def _rasterise(
    points: Float[np.ndarray, "W 2"], triangles: Int[np.ndarray, "F 3"], size: int
) -> tuple[Int[np.ndarray, "size size"], Float[np.ndarray, "size size 3"]]:
    """Triangle and barycentric weights at each texel's centre.

    Args:
        points: in texels, 0 at the picture's corner.
        triangles: -1 instead of corners where a triangle is not drawn.
    """
    face, weights = np.full((size, size), -1, np.int32), np.zeros((size, size, 3), np.float32)
    drawn = np.flatnonzero(triangles[:, 0] >= 0)
    corners = points[triangles[drawn]]
    a, b, c = corners[:, 0], corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    doubled = b[:, 0] * c[:, 1] - b[:, 1] * c[:, 0]
    low = np.clip(np.ceil(corners.min(1) - 0.5), 0, size).astype(np.int64)
    high = np.clip(np.floor(corners.max(1) - 0.5) + 1, 0, size).astype(np.int64)
    extent = np.maximum(high - low, 0)
    count = np.where(doubled != 0, extent.prod(1), 0)
    block = np.cumsum(count) // _CANDIDATES
    for rows in np.split(np.arange(len(drawn)), np.flatnonzero(np.diff(block)) + 1):
        which = np.repeat(rows, count[rows])
        within = np.arange(len(which)) - np.repeat(np.cumsum(count[rows]) - count[rows], count[rows])
        column = low[which, 0] + within % np.maximum(extent[which, 0], 1)
        row = low[which, 1] + within // np.maximum(extent[which, 0], 1)
        p = np.stack([column, row], axis=1) + 0.5 - a[which]
        second = (p[:, 0] * c[which, 1] - p[:, 1] * c[which, 0]) / doubled[which]
        third = (b[which, 0] * p[:, 1] - b[which, 1] * p[:, 0]) / doubled[which]
        inside = (second >= 0) & (third >= 0) & (second + third <= 1)
        at = row[inside], column[inside]
        face[at] = drawn[which[inside]]
        weights[at] = np.stack([1 - second - third, second, third], axis=1)[inside]
    return face, weights
