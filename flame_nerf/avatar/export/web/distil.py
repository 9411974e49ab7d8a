"""Textures of a layered head fitted to the avatar's own pictures, and what of them follows the face."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from flame_nerf.avatar.export.smooth_normals import neighbour_mean, smooth_normals
from flame_nerf.avatar.export.web.appearance import Appearance
from flame_nerf.avatar.export.web.config import FADE, LEAST_COSINE
from flame_nerf.avatar.export.web.layers import LayeredHead
from flame_nerf.avatar.export.web.views import View
from flame_nerf.geometry import homogeneous, world_to_camera

MOST_OPAQUE = 0.9995
"""Opacity that a texel may have: beyond it nothing shows through, and its logarithm ends."""
_RATE, _LAST_RATE, _BASE_RATE = 0.3, 0.03, 0.01
"""Adam's step for textures, at first and in the end, in logits; and for bases, in colour and opacity."""
_FEW, _BASE_FEW = 2e-3, 1e-2
"""Adam's epsilon: gradients much below it, of texels that are hardly seen, move them little."""
_PULL, _BASE_PULL = 2e-4, 2e-2
"""How much a texel is drawn to what was baked, and a base to nothing, beside a pixel's squared error."""
_NOTHING = 0.032
"""Root of the opacity that is none."""
_OPACITY_WEIGHT = 0.5
"""How much a pixel's opacity counts beside its colours."""


@dataclass(frozen=True, eq=False)
class Fragments:
    """What a camera sees of each of K layers: N pixels' worth."""

    layer: Int[Tensor, " N"]
    pixel: Int[Tensor, " N"]
    at: Float[Tensor, "N 2"]
    """Place in the atlas, 0..1."""
    cosine: Float[Tensor, " N"]
    changes: Bool[Tensor, " N"]
    """Whether bases are added there."""
    shown: Float[Tensor, " N"]
    """How much of the opacity is seen from there."""


class LayerView:
    """Finds fragments of a layered head from the meshes and cameras of views."""

    def __init__(self, layered: LayeredHead, triangles: Int[np.ndarray, "F 3"]) -> None:
        self._layered, self._triangles = layered, triangles
        self._mean = neighbour_mean(triangles, layered.offsets.shape[1])
        self._uv = layered.atlas.uv.astype(np.float64)
        self._corners = layered.atlas.triangles.astype(np.int64)

    def __call__(
        self, vertices: Float[np.ndarray, "V 3"], c2w: Float[np.ndarray, "3 4"], focal: float, size: int
    ) -> Fragments:
        """Fragments of a picture of size x size pixels whose principal point is its middle."""
        from flame_nerf.kernels.cpu.raster import fragments

        normals = smooth_normals(vertices, self._triangles, self._mean)
        count = size * size
        pixel, at, cosine = np.empty(count, np.int64), np.empty((count, 2)), np.empty(count)
        found_marks, depth = np.empty((count, 2)), np.empty((size, size))
        layered, eye = self._layered, np.ascontiguousarray(c2w[:, 3])
        shown = (
            np.ones_like(layered.offsets) if layered.clothes is None else layered.clothes.shown(layered.offsets, eye)
        )
        parts = []
        for layer, offset in enumerate(layered.offsets):
            marks = np.stack([layered.changes, shown[layer]], axis=1)
            points = vertices + normals * offset[:, None]
            picture = homogeneous(world_to_camera(points, c2w), focal, size / 2)
            found = fragments(
                picture, points, normals, self._triangles, self._corners, self._uv, marks,
                eye, pixel, at, cosine, found_marks, depth,
            )  # fmt: skip
            values = np.full(found, layer), pixel[:found], at[:found], cosine[:found], found_marks[:found]
            parts.append([torch.from_numpy(value.copy()) for value in values])
        layers, pixels, places, cosines, of_marks = (torch.cat(values) for values in zip(*parts, strict=True))
        return Fragments(layers, pixels, places.float(), cosines.float(), of_marks[:, 0] > 0, of_marks[:, 1].float())


def opacity_of(alpha: Tensor, cosine: Tensor) -> Tensor:
    """Opacity of a layer that is looked at obliquely, of that along its normal; the page's shader has the same."""
    cosine = cosine.abs()
    seen = 1 - (1 - alpha.clamp(max=MOST_OPAQUE)) ** (1 / cosine.clamp_min(LEAST_COSINE))
    fade = (cosine / FADE).clamp(max=1)
    return seen * fade * fade * (3 - 2 * fade)


def sampled(
    textures: Float[Tensor, "K S S C"], layer: Int[Tensor, " N"], at: Float[Tensor, "N 2"]
) -> Float[Tensor, "N C"]:
    """Bilinear look-ups, as WebGL does them: texel centres at half numbers, clamped to the edge."""
    size, channels = textures.shape[1], textures.shape[3]
    place = at * size - 0.5
    low = place.floor()
    share = place - low
    low = low.long()
    flat = textures.reshape(-1, channels)
    total = torch.zeros(len(at), channels)
    for dx in (0, 1):
        for dy in (0, 1):
            x, y = (low[:, 0] + dx).clamp(0, size - 1), (low[:, 1] + dy).clamp(0, size - 1)
            weight = (share[:, 0] if dx else 1 - share[:, 0]) * (share[:, 1] if dy else 1 - share[:, 1])
            total = total + weight[:, None] * flat.index_select(0, (layer * size + y) * size + x)
    return total


def composite(
    seen: Fragments,
    count: int,
    pixels: int,
    textures: Float[Tensor, "K S S 4"],
    bases: Float[Tensor, "KB T T 4"] | None,
    weights: Float[Tensor, " B"],
) -> Float[Tensor, "P 4"]:
    """Premultiplied colour and opacity of a view's pixels; differentiable in textures and bases.

    Args:
        seen: of one view. count: K. pixels: P.
        bases: layer by layer, B of each. weights: of the bases.
    """
    value = sampled(textures, seen.layer, seen.at)
    if bases is not None and len(weights):
        row = seen.changes.nonzero()[:, 0]
        layer, at = seen.layer[row], seen.at[row]
        changes = [weight * sampled(bases, layer * len(weights) + b, at) for b, weight in enumerate(weights)]
        value = value.index_add(0, row, torch.stack(changes).sum(dim=0)).clamp(0, 1)
    alpha = (opacity_of(value[:, 3].square(), seen.cosine) * seen.shown)[:, None]
    shade = torch.cat([value[:, :3] * alpha, alpha], dim=1)
    picture = torch.zeros(pixels, 4)
    for drawn in range(count):
        row = (seen.layer == drawn).nonzero()[:, 0]
        at = seen.pixel[row]
        picture = picture.index_copy(0, at, picture.index_select(0, at) * (1 - alpha[row]) + shade[row])
    return picture


def distil(
    layered: LayeredHead,
    triangles: Int[np.ndarray, "F 3"],
    views: Sequence[View],
    appearance: Appearance,
    steps: int,
    base_size: int,
    seed: int = 0,
) -> LayeredHead:
    """Fits textures, and bases of how they change with the face, to the avatar's own pictures; with a progress bar.

    Args:
        layered: as it was baked; where no view shows a texel, it stays so.
        triangles: the mesh's.
        appearance: weights of the bases in a moment.
        steps: of Adam, one view each.
        base_size: texels along a base's side.
    """
    from flame_nerf.film.rendering import progress_bar

    baked = torch.from_numpy(layered.textures)
    logits = torch.cat(
        [torch.logit(baked[..., :3].clamp(0.004, 0.996)), torch.logit(baked[..., 3:].clamp(0.03, 0.999))], -1
    )
    start = logits.clone()
    logits.requires_grad_(True)
    count, amount = len(baked), len(appearance.constant)
    bases = torch.zeros(count * amount, base_size, base_size, 4, requires_grad=True) if amount else None
    groups = [{"params": [logits], "eps": _FEW}]
    groups += [{"params": [bases], "eps": _BASE_FEW}] if bases is not None else []
    adam = torch.optim.Adam(groups, lr=_RATE, betas=(0.9, 0.99), fused=True)
    look, random, size = LayerView(layered, triangles), np.random.default_rng(seed), len(views[0].picture)
    order = np.concatenate([random.permutation(len(views)) for _ in range(-(-steps // len(views)))])[:steps]
    with progress_bar() as bar:
        for step in bar.track(range(steps), description="Fitting textures"):
            left = 1 - step / steps
            adam.param_groups[0]["lr"] = _RATE * left + _LAST_RATE
            if bases is not None:
                adam.param_groups[1]["lr"] = _BASE_RATE * left + 0.05 * _BASE_RATE
            view = views[order[step]]
            seen = look(view.vertices, view.c2w, view.focal, size)
            weights = torch.from_numpy(appearance.weights(view.condition)).float()
            picture = composite(seen, count, size * size, torch.sigmoid(logits), bases, weights)
            off = (picture - torch.from_numpy(view.picture).reshape(-1, 4)).square().sum(dim=0)
            loss = off[:3].sum() + _OPACITY_WEIGHT * off[3]
            adam.zero_grad(set_to_none=True)
            loss.backward()
            with torch.no_grad():
                torch.as_tensor(logits.grad).add_(logits - start, alpha=_PULL)
                if bases is not None:
                    torch.as_tensor(bases.grad).add_(bases, alpha=_BASE_PULL)
            adam.step()
    with torch.no_grad():
        textures = torch.sigmoid(logits)
        # What the fit began with where nothing was.
        textures[..., 3][textures[..., 3] < _NOTHING] = 0.0
    changed = np.zeros((0, base_size, base_size, 4), np.float32) if bases is None else bases.detach().numpy()
    return replace(layered, textures=textures.numpy(), bases=changed.reshape(count, amount, base_size, base_size, 4))
