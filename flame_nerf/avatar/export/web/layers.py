"""A head as layers: offset copies of its mesh, from inside out, each with a texture of colour and opacity.

The field has its substance in a shell around the mesh. Along each vertex's normal, layers lie where the opacity met
from outside passes given values: close together at hard skin, far apart in hair. Each texel of a layer has the colour
and opacity of what is nearer to it than to the next.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Bool, Float, Int

from flame_nerf.avatar.export.smooth_normals import neighbour_mean, smooth_normals

if TYPE_CHECKING:
    import scipy.sparse

    from flame_nerf.avatar.export.atlas import Atlas
    from flame_nerf.avatar.export.web.clothes import LayeredClothes
    from flame_nerf.avatar.export.web.substance import Substance

DEEPEST = 0.010
"""Metres behind the mesh at which looking for substance ends; shells thinner than that end it sooner."""
_PROBES = 48
"""Points along a normal at which a vertex looks for substance."""
_OUTERMOST, _INNERMOST, _NOTHING = 1e-5, 0.95, 0.1
"""Opacity met from outside at the outermost and at the innermost layer, as a share of all that a normal meets; and
opacity of a normal with so little on it that its layers are put at the mesh. What is hardly there along the normal is
what closes the outline for a grazing ray."""
_DENSER = 4.5
"""Power by which layers lie denser, in opacity, where a surface begins."""
_APART = 0.0004
"""Metres that layers lie apart at least."""
FOLDED = ("lips", "mouth", "teeth", "tongue", "eyes", "eyelids", "sockets")
"""Regions that lie in folds, where what a normal meets may belong to the other side."""
_OFFSET_SWEEPS = 4
"""How often offsets are averaged with their neighbours' there."""
_UNFOLDINGS, _LEAST_AREA, _MOST_AREA = 24, 0.1, 9.0
"""Rounds in which offsets are shortened, and how small and large a triangle may get by them, as a share of its area."""
_ROOM = 0.001
"""Metres beyond the outermost and the innermost layer in which a look is looked for."""
_LOOK_SAMPLES, _CHANGE, _CHANGING_SHARE = 8, 0.1, 0.1
"""Points along a normal that make its look, how far a colour must change for the look to be another, and at how many of
all vertices at most: where it changes most."""
_SLAB_SAMPLES = 3
"""Points along a normal that make a texel's slab."""
_KNOWN = 0.01
"""Opacity from which a texel has a colour of its own."""


@dataclass(frozen=True, eq=False)
class LayeredHead:
    """K layers of a mesh of V vertices, in an atlas of S x S texels."""

    atlas: Atlas
    offsets: Float[np.ndarray, "K V"]
    """Metres along the smoothed normal of each vertex at which layers lie, the innermost first; ascending."""
    textures: Float[np.ndarray, "K S S 4"]
    """Colour, not premultiplied, and square root of the opacity along the normal, 0..1; the innermost layer first. The
    root, because a thin haze that a grazing ray meets at length must survive eight bits."""

    changes: Float[np.ndarray, " V"]
    """1 at vertices around which the look follows the face, else 0."""
    bases: Float[np.ndarray, "K B T T 4"]
    """What is added to each texture for each unit of B weights, in the same atlas with T texels a side."""
    clothes: LayeredClothes | None = None
    """What is not shown from everywhere."""


def layer_offsets(
    substance: Substance,
    vertices: Float[np.ndarray, "V 3"],
    triangles: Int[np.ndarray, "F 3"],
    shell: Float[np.ndarray, " F"],
    count: int,
    folded: Bool[np.ndarray, " F"],
) -> Float[np.ndarray, "K V"]:
    """Where along the smoothed normals of a canonical mesh its layers lie.

    Args:
        substance: the field.
        vertices: the canonical mesh, metres.
        shell: thickness of the shell over each triangle, metres.
        count: of layers.
        folded: triangles in folds, as those of the regions in `FOLDED`.

    Returns:
        offset of each layer at each vertex, metres, the innermost first; below zero behind the mesh.
    """
    mean = neighbour_mean(triangles, len(vertices))
    normals = smooth_normals(vertices, triangles, mean)
    thickness = np.zeros(len(vertices))
    np.maximum.at(thickness, triangles.reshape(-1), np.repeat(shell, 3))
    deepest = -np.minimum(thickness, DEEPEST)
    share = np.linspace(0.0, 1.0, _PROBES)
    probe = thickness[:, None] + share * (deepest - thickness)[:, None]
    points = vertices[:, None] + normals[:, None] * probe[..., None]
    sigma, _ = substance(torch.from_numpy(points.reshape(-1, 3)))
    length = (thickness - deepest)[:, None] / (_PROBES - 1)
    opacity = 1 - np.exp(-np.cumsum(sigma.numpy().reshape(probe.shape) * length, axis=1))
    whole = opacity[:, -1:]
    # Evenly from the surface's beginning to where it is closed, and denser where it begins.
    depth = np.linspace(1.0, 0.0, count) if count > 1 else np.array([0.6])
    wanted = _OUTERMOST + (_INNERMOST - _OUTERMOST) * depth**_DENSER
    in_folds = np.zeros(len(vertices), bool)
    in_folds[triangles[folded]] = True
    offsets = []
    for value in wanted:
        after = (opacity >= value * whole).argmax(axis=1)[:, None]
        before = np.maximum(after - 1, 0)
        low, high = (np.take_along_axis(opacity, row, axis=1) for row in (before, after))
        between = np.clip((value * whole - low) / np.maximum(high - low, 1e-9), 0, 1)
        from_, to = (np.take_along_axis(probe, row, axis=1) for row in (before, after))
        offset = np.where(whole < _NOTHING, 0.0, from_ + between * (to - from_))[:, 0]
        # Evened out in folds alone: elsewhere that draws a layer in where it bulges, and cuts the outline off.
        for _ in range(_OFFSET_SWEEPS):
            offset = np.where(in_folds, mean @ offset, offset)
        offsets.append(offset)
    middle = count // 2
    offsets = [unfolded(offset, vertices, normals, triangles) for offset in offsets]
    for layer in range(middle + 1, count):
        offsets[layer] = np.maximum(offsets[layer], offsets[layer - 1] + _APART)
    for layer in range(middle - 1, -1, -1):
        offsets[layer] = np.minimum(offsets[layer], offsets[layer + 1] - _APART)
    return np.stack(offsets)


def changing(
    substance: Substance,
    vertices: Float[np.ndarray, "V 3"],
    triangles: Int[np.ndarray, "F 3"],
    offsets: Float[np.ndarray, "K V"],
    conditions: Float[np.ndarray, "N C"],
) -> Float[np.ndarray, " V"]:
    """1 at vertices whose look, from outside, is another under any of some conditions, and at their neighbours; else 0.

    Args:
        offsets: of `layer_offsets`.
        conditions: beside the mean of training.
    """
    mean = neighbour_mean(triangles, len(vertices))
    normals = smooth_normals(vertices, triangles, mean)
    outer, inner = offsets[-1] + _ROOM, offsets[0] - _ROOM
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
    least = max(_CHANGE, float(np.quantile(most, 1 - _CHANGING_SHARE)))
    return _with_neighbours((most > least).astype(np.float64), mean)


def bake(
    substance: Substance,
    atlas: Atlas,
    vertices: Float[np.ndarray, "V 3"],
    triangles: Int[np.ndarray, "F 3"],
    offsets: Float[np.ndarray, "K V"],
) -> LayeredHead:
    """Textures of layers, each texel the composite of what is nearer to it than to the next layer; what lies beyond the
    outermost and behind the innermost counts to these.

    Args:
        vertices: the canonical mesh, metres.
        offsets: of `layer_offsets`.
    """
    count, middles = len(offsets), (offsets[1:] + offsets[:-1]) / 2
    lowest = np.minimum(offsets[:1] - _ROOM, -DEEPEST)
    bounds = np.concatenate([lowest, middles, offsets[-1:] + np.maximum(offsets[-1:] - offsets[0], 2 * _ROOM)])
    normals = smooth_normals(vertices, triangles, neighbour_mean(triangles, len(vertices)))
    at, along = atlas.at_texels(vertices, triangles), atlas.at_texels(normals, triangles)
    textures = np.zeros((count, atlas.size, atlas.size, 4), np.float32)
    for layer in _with_bar(count):
        low, high = (atlas.at_texels(values, triangles) for values in bounds[layer : layer + 2])
        # A thick slab, in front of skin or behind it, is looked at more closely.
        samples = _SLAB_SAMPLES if 0 < layer < count - 1 else 3 * _SLAB_SAMPLES
        through, colour = np.ones(len(at)), np.zeros((len(at), 3))
        for sample in range(samples):
            offset = high + (low - high) * (sample + 0.5) / samples
            sigma, rgb = substance(torch.from_numpy(at + along * offset[:, None]))
            opacity = 1 - np.exp(-sigma.numpy() * (high - low) / samples)
            colour += (through * opacity)[:, None] * rgb.numpy()
            through *= 1 - opacity
        opacity = 1 - through
        colour /= np.maximum(opacity, 1e-6)[:, None]
        values = np.concatenate([colour, opacity[:, None]], axis=1).astype(np.float32)
        textures[layer, ..., :3] = atlas.picture(values[:, :3], known=opacity > _KNOWN)
        textures[layer, ..., 3] = atlas.picture(np.sqrt(values[:, 3]))
    still = np.zeros((count, 0, 1, 1, 4), np.float32)
    return LayeredHead(atlas, offsets, textures, np.zeros(len(vertices)), still)


def backed(layered: LayeredHead, surface: Float[np.ndarray, "V 4"], triangles: Int[np.ndarray, "F 3"]) -> LayeredHead:
    """The same head with its own mesh behind the innermost layer, as pictures have it behind the field: the page's
    background does not shine through where training left a hole, in an open mouth above all.

    Args:
        layered: as it was baked.
        surface: of `Backing`: colour of each vertex, 0..1, and how far it is part of the person.
        triangles: the mesh's.
    """
    atlas, textures = layered.atlas, layered.textures.copy()
    colour, root = textures[0][atlas.covered][:, :3], textures[0][atlas.covered][:, 3:]
    behind = atlas.at_texels(surface.astype(np.float64), triangles)
    added = (1 - root**2) * np.clip(behind[:, 3:], 0, 1)
    opacity = root**2 + added
    colour = (colour * root**2 + behind[:, :3] * added) / np.maximum(opacity, 1e-6)
    textures[0, ..., :3] = atlas.picture(colour.astype(np.float32), known=opacity[:, 0] > _KNOWN)
    textures[0, ..., 3] = atlas.picture(np.sqrt(opacity[:, 0]).astype(np.float32))
    return replace(layered, textures=textures)


def _with_bar(count: int) -> Iterator[int]:
    from flame_nerf.film.rendering import progress_bar

    with progress_bar() as bar:
        yield from bar.track(range(count), description="Baking layers")


def unfolded(
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


def _with_neighbours(values: np.ndarray, mean: scipy.sparse.csr_matrix) -> np.ndarray:
    """The largest of each vertex's value and those of its neighbours."""
    row, out = np.repeat(np.arange(len(values)), np.diff(mean.indptr)), values.copy()
    np.maximum.at(out, row, values[mean.indices])
    return out
