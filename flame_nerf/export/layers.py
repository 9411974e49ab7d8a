"""A head as layers: offset copies of its mesh, from inside out, each with a texture of colour and opacity.

The field has its substance in a shell around the mesh. Each vertex knows between which offsets along its normal there
is any; K layers share that stretch, and each texel of a layer has the colour and opacity of its part of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float, Int

if TYPE_CHECKING:
    import scipy.sparse

    from flame_nerf.export.atlas import Atlas
    from flame_nerf.export.substance import Substance

NORMAL_SWEEPS = 3
"""How often normals are averaged with their neighbours': offsets along them then hardly cross."""
DEEPEST = 0.010
"""Metres behind the mesh at which looking for substance ends; shells thinner than that end it sooner."""
_PROBES = 48
"""Points along a normal at which a vertex looks for substance."""
_FIRST, _LAST, _NOTHING = 0.004, 0.97, 0.1
"""Opacity from outside at which substance begins, share of the whole at which it ends, and opacity of a normal with
so little on it that its extents are made up."""
_EMPTY_HALF, _THINNEST = 0.002, 0.001
"""Metres: made-up extents, to either side; and the least that layers span."""
_UNFOLDINGS, _LEAST_AREA, _MOST_AREA = 24, 0.1, 9.0
"""Rounds in which offsets are shortened, and how small and large a triangle may get by them, as a share of its area."""
_LOOK_SAMPLES, _CHANGE = 8, 0.05
"""Points along a normal that make its look, and how far a colour must change for the look to be another."""
_SLAB_SAMPLES = 3
"""Points along a normal that make a texel's slab."""


@dataclass(frozen=True, eq=False)
class LayeredHead:
    """K layers of a mesh of V vertices, in an atlas of S x S texels."""

    atlas: Atlas
    inner: Float[np.ndarray, " V"]
    """Metres along the smoothed normal at which the substance ends; below zero behind the mesh."""
    outer: Float[np.ndarray, " V"]
    """Where it begins; above `inner`."""
    textures: Float[np.ndarray, "K S S 4"]
    """Colour, not premultiplied, and opacity along the normal, 0..1; the innermost layer first."""

    changes: Float[np.ndarray, " V"]
    """1 at vertices around which the look follows the face, else 0."""
    bases: Float[np.ndarray, "K B T T 4"]
    """What is added to each texture for each unit of B weights, in the same atlas with T texels a side."""

    @property
    def offsets(self) -> Float[np.ndarray, "K V"]:
        """Of each layer's vertices along their normals, metres."""
        return layer_offsets(self.inner, self.outer, len(self.textures))


def layer_offsets(
    inner: Float[np.ndarray, " V"], outer: Float[np.ndarray, " V"], count: int
) -> Float[np.ndarray, "K V"]:
    """Offsets of the middles of `count` slabs between two extents, the innermost first."""
    share = (np.arange(count) + 0.5) / count
    return inner + (outer - inner) * share[:, None]


def neighbour_mean(triangles: Int[np.ndarray, "F 3"], count: int) -> scipy.sparse.csr_matrix:
    """Matrix that makes of each of `count` vertices' values the mean of its own and its neighbours'."""
    import scipy.sparse as sparse

    ends = np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]])
    ends = np.concatenate([ends, ends[:, ::-1]])
    linked = sparse.coo_matrix((np.ones(len(ends)), (ends[:, 0], ends[:, 1])), (count, count)).tocsr()
    linked.data[:] = 1.0
    linked = linked + sparse.eye(count)
    return (sparse.diags(1 / np.asarray(linked.sum(axis=1)).ravel()) @ linked).tocsr()


def smooth_normals(
    vertices: Float[np.ndarray, "V 3"], triangles: Int[np.ndarray, "F 3"], mean: scipy.sparse.csr_matrix
) -> Float[np.ndarray, "V 3"]:
    """Unit normals of a posed mesh, averaged `NORMAL_SWEEPS` times by `neighbour_mean`. The page computes the same."""
    corners = vertices[triangles]
    faces = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals = np.zeros_like(vertices)
    for corner in range(3):
        for axis in range(3):
            normals[:, axis] += np.bincount(triangles[:, corner], faces[:, axis], len(vertices))
    normals = _unit(normals)
    for _ in range(NORMAL_SWEEPS):
        normals = mean @ normals
    return _unit(normals)


def extents(
    substance: Substance,
    vertices: Float[np.ndarray, "V 3"],
    triangles: Int[np.ndarray, "F 3"],
    shell: Float[np.ndarray, " F"],
) -> tuple[Float[np.ndarray, " V"], Float[np.ndarray, " V"]]:
    """Between which offsets along the smoothed normals of a canonical mesh there is substance.

    Args:
        substance: the field.
        vertices: the canonical mesh, metres.
        shell: thickness of the shell over each triangle, metres.

    Returns:
        inner and outer offset of each vertex, metres.
    """
    mean = neighbour_mean(triangles, len(vertices))
    normals = smooth_normals(vertices, triangles, mean)
    thickness = np.zeros(len(vertices))
    np.maximum.at(thickness, triangles.reshape(-1), np.repeat(shell, 3))
    deepest = -np.minimum(thickness, DEEPEST)
    share = np.linspace(0.0, 1.0, _PROBES)
    offset = thickness[:, None] + share * (deepest - thickness)[:, None]
    points = vertices[:, None] + normals[:, None] * offset[..., None]
    sigma, _ = substance(torch.from_numpy(points.reshape(-1, 3)))
    length = (thickness - deepest)[:, None] / (_PROBES - 1)
    opacity = 1 - np.exp(-np.cumsum(sigma.numpy().reshape(offset.shape) * length, axis=1))
    whole = opacity[:, -1]
    first = np.where(whole > _FIRST, (opacity > _FIRST).argmax(axis=1), _PROBES - 1)
    last = np.where(whole > _FIRST, (opacity >= _LAST * whole[:, None]).argmax(axis=1), _PROBES - 1)
    row = np.arange(len(vertices))
    outer, inner = offset[row, first], offset[row, last]
    outer[whole < _NOTHING], inner[whole < _NOTHING] = _EMPTY_HALF, -_EMPTY_HALF
    outer, inner = _spread(outer, mean, np.maximum), _spread(inner, mean, np.minimum)
    for _ in range(4):
        outer, inner = mean @ outer, mean @ inner
    outer, inner = (_unfolded(values, vertices, normals, triangles) for values in (outer, inner))
    return inner, np.maximum(outer, inner + _THINNEST)


def changing(
    substance: Substance,
    vertices: Float[np.ndarray, "V 3"],
    triangles: Int[np.ndarray, "F 3"],
    inner: Float[np.ndarray, " V"],
    outer: Float[np.ndarray, " V"],
    conditions: Float[np.ndarray, "N C"],
) -> Float[np.ndarray, " V"]:
    """1 at vertices whose look, from outside, is another under any of some conditions, and at their neighbours; else 0.

    Args:
        inner, outer: of `extents`.
        conditions: beside the mean of training.
    """
    mean = neighbour_mean(triangles, len(vertices))
    normals = smooth_normals(vertices, triangles, mean)
    share = (np.arange(_LOOK_SAMPLES) + 0.5) / _LOOK_SAMPLES
    offset = outer[:, None] + (inner - outer)[:, None] * share
    points = torch.from_numpy((vertices[:, None] + normals[:, None] * offset[..., None]).reshape(-1, 3))
    length = ((outer - inner) / _LOOK_SAMPLES)[:, None]

    def look(condition: torch.Tensor | None) -> Float[np.ndarray, "V 3"]:
        sigma, colour = substance(points, condition)
        clear = np.exp(-sigma.numpy().reshape(offset.shape) * length)
        through = np.concatenate([np.ones((len(clear), 1)), np.cumprod(clear, axis=1)[:, :-1]], axis=1)
        return ((through * (1 - clear))[..., None] * colour.numpy().reshape(*offset.shape, 3)).sum(axis=1)

    usual, most = look(None), np.zeros(len(vertices))
    for condition in conditions:
        change = np.abs(look(torch.from_numpy(condition).float()) - usual).max(axis=1)
        most = np.maximum(most, change)
    return _spread((most > _CHANGE).astype(np.float64), mean, np.maximum)


def bake(
    substance: Substance,
    atlas: Atlas,
    vertices: Float[np.ndarray, "V 3"],
    triangles: Int[np.ndarray, "F 3"],
    inner: Float[np.ndarray, " V"],
    outer: Float[np.ndarray, " V"],
    count: int,
) -> LayeredHead:
    """Textures of `count` layers, each texel the composite of its slab; what lies deeper counts to the innermost.

    Args:
        vertices: the canonical mesh, metres.
        inner, outer: of `extents`.
    """
    normals = smooth_normals(vertices, triangles, neighbour_mean(triangles, len(vertices)))
    at, along = atlas.at_texels(vertices, triangles), atlas.at_texels(normals, triangles)
    textures = np.zeros((count, atlas.size, atlas.size, 4), np.float32)
    for layer in range(count):
        low = inner + (outer - inner) * layer / count
        high = inner + (outer - inner) * (layer + 1) / count
        if layer == 0:
            low = np.minimum(low, -DEEPEST)
        low, high = (atlas.at_texels(values, triangles) for values in (low, high))
        through, colour = np.ones(len(at)), np.zeros((len(at), 3))
        for sample in range(_SLAB_SAMPLES):
            offset = high + (low - high) * (sample + 0.5) / _SLAB_SAMPLES
            sigma, rgb = substance(torch.from_numpy(at + along * offset[:, None]))
            opacity = 1 - np.exp(-sigma.numpy() * (high - low) / _SLAB_SAMPLES)
            colour += (through * opacity)[:, None] * rgb.numpy()
            through *= 1 - opacity
        opacity = 1 - through
        colour /= np.maximum(opacity, 1e-6)[:, None]
        values = np.concatenate([colour, opacity[:, None]], axis=1).astype(np.float32)
        textures[layer, ..., :3] = atlas.picture(values[:, :3], known=opacity > 0.01)
        textures[layer, ..., 3] = atlas.picture(values[:, 3])
    still = np.zeros((count, 0, 1, 1, 4), np.float32)
    return LayeredHead(atlas, inner, outer, textures, np.zeros(len(vertices)), still)


def _unit(vectors: Float[np.ndarray, "N 3"]) -> Float[np.ndarray, "N 3"]:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


def _unfolded(
    offset: Float[np.ndarray, " V"],
    vertices: Float[np.ndarray, "V 3"],
    normals: Float[np.ndarray, "V 3"],
    triangles: Int[np.ndarray, "F 3"],
) -> Float[np.ndarray, " V"]:
    """Offsets shortened until no triangle of the layer at that offset is turned over, or blown up."""

    def doubled(points: np.ndarray) -> np.ndarray:
        corners = points[triangles]
        return np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])

    rest = doubled(vertices)
    area = np.maximum((rest * rest).sum(axis=1), 1e-20)
    offset = offset.copy()
    for _ in range(_UNFOLDINGS):
        ratio = (doubled(vertices + normals * offset[:, None]) * rest).sum(axis=1) / area
        bad = (ratio < _LEAST_AREA) | (ratio > _MOST_AREA)
        if not bad.any():
            break
        offset[np.unique(triangles[bad])] *= 0.8
    return offset


def _spread(values: np.ndarray, mean: scipy.sparse.csr_matrix, extreme: np.ufunc) -> np.ndarray:
    """The extreme of each vertex's value and those of its neighbours' neighbours."""
    row = np.repeat(np.arange(len(values)), np.diff(mean.indptr))
    for _ in range(2):
        out = values.copy()
        extreme.at(out, row, values[mean.indices])
        values = out
    return values
