"""A texture of an avatar: what its field looks like from in front of each texel.

A neutral face hides the inside of its mouth and the folds of its lids. So each texel has the colour that it has in the
first of a few moments in which a camera of the video would see it: the one asked for, then those of the video that show
most of what is still hidden. What is seen in none takes the colour of its nearest neighbours that are.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from nerfstudio.cameras.rays import RayBundle

from flame_nerf.avatar.export.atlas import Atlas
from flame_nerf.avatar.export.fill import filled
from flame_nerf.avatar.export.smooth_normals import neighbour_mean, smooth_normals
from flame_nerf.canonical import PosedMesh
from flame_nerf.film.rendering import progress_bar
from flame_nerf.geometry import vertex_normals
from flame_nerf.motion import PosedFrame
from flame_nerf.render.head_renderer import NEAR, HeadRenderer
from flame_nerf.runtime.errors import UserError

MOST_MOMENTS = 5
"""Moments that a texture is put together of, at most."""
WORTHWHILE = 0.002
"""Share of the vertices that a further moment must show for the first time."""
LOOKED_AT = 60
"""Moments of the video that are tried."""
EYES = 12
"""Training cameras from which it is found out what is seen."""
GRAZING = 0.15
"""Cosine between a surface and the way to the eye below which it is not seen."""
OPAQUE = 0.5
"""Opacity below which nothing is there."""
_LIFT = 3e-4
"""Metres above a surface from which rays leave it, so that they do not meet it."""
_RAYS = 1 << 14


def bake_texture(model: Any, atlas: Atlas, moment: PosedFrame) -> UInt8[np.ndarray, "size size 3"]:
    """Colours of an avatar in the texels of an atlas of its mesh; says how far it is.

    Args:
        model: a trained model that has a mesh, in evaluation mode.
        atlas: of the mesh's vertices and triangles.
        moment: whose colours are wanted; others show what it hides.

    Raises:
        UserError: the avatar's method has no field around the mesh.
    """
    if not isinstance(model.renderer, HeadRenderer):
        raise UserError(
            "this avatar's method has no field around the head's mesh, so there is no texture to bake; train "
            "flame-nerf or flame-nerf-cpu on its subject"
        )
    triangles = np.asarray(model.subject.track.faces, np.int64)
    moments, seen = _moments(model, triangles, moment)
    count = int(atlas.covered.sum())
    colour, weight = np.zeros((count, 3)), np.zeros(count)
    wanted = []
    for sees in seen:
        shown = np.clip(2 * atlas.at_texels(sees.astype(float), triangles) - 0.5, 0, 1) * (1 - weight)
        shown[shown < 0.02] = 0.0
        wanted.append(shown)
        weight = weight + shown
    weight[:] = 0.0
    with _shown(model), progress_bar() as progress:
        task = progress.add_task("texture", total=int(sum((shown > 0).sum() for shown in wanted)))
        for posed, shown in zip(moments, wanted, strict=True):
            rows = np.flatnonzero(shown)
            points, normals = _surface(atlas, triangles, posed)
            reach = _reach(model, atlas, triangles, posed, points, normals)
            for start in range(0, len(rows), _RAYS):
                part = rows[start : start + _RAYS]
                rgb, opacity = _look(model, posed, points[part], normals[part], reach[part])
                there = shown[part] * (opacity > OPAQUE)
                colour[part] += there[:, None] * rgb
                weight[part] += there
                progress.advance(task, len(part))
    np.divide(colour, weight[:, None], out=colour, where=weight[:, None] > 0)
    track = model.subject.track
    canonical = np.asarray(track.canonical_vertices, np.float64)
    colour = filled(atlas, canonical, triangles, track.region, colour, weight)
    return np.round(255 * np.clip(atlas.picture(colour), 0, 1)).astype(np.uint8)


def fitting_size(model: Any) -> int:
    """Rows and columns of a texture that holds what the training pictures show: a power of two, 512 to 2048."""
    cameras = model.subject
    pixels = max(cameras.width, cameras.height)
    return int(np.clip(2 ** math.ceil(math.log2(max(pixels, 1))) * 2, 512, 2048))


def _moments(
    model: Any, triangles: Int[np.ndarray, "F 3"], first: PosedFrame
) -> tuple[list[PosedFrame], list[Bool[np.ndarray, " V"]]]:
    """The moment asked for and those that show what it hides, and the vertices seen in each."""
    motion, timesteps = model.motion, model.train_timesteps.unique()
    tried = timesteps[torch.linspace(0, len(timesteps) - 1, min(LOOKED_AT, len(timesteps))).round().long()].tolist()
    eyes = _spread_eyes(model.train_c2w[:, :, 3].cpu())
    shows = [_seen(model, triangles, motion.at_timestep(row), eyes) for row in tried]
    chosen, seen = [first], [_seen(model, triangles, first, eyes)]
    known = seen[0].copy()
    while len(chosen) < MOST_MOMENTS:
        gains = [(sees & ~known).sum() for sees in shows]
        best = int(np.argmax(gains))
        if gains[best] < WORTHWHILE * len(known):
            break
        chosen.append(motion.at_timestep(tried[best]))
        seen.append(shows[best])
        known |= shows[best]
    return chosen, seen


def _spread_eyes(eyes: Float[torch.Tensor, "N 3"]) -> Float[torch.Tensor, "K 3"]:
    """A few of the cameras' places, each as far as can be from those before it."""
    chosen = [int((eyes - eyes.mean(0)).norm(dim=1).argmin())]
    distance = (eyes - eyes[chosen[0]]).norm(dim=1)
    while len(chosen) < min(EYES, len(eyes)) and float(distance.max()) > 0.01:
        chosen.append(int(distance.argmax()))
        distance = torch.minimum(distance, (eyes - eyes[chosen[-1]]).norm(dim=1))
    return eyes[chosen]


def _seen(
    model: Any, triangles: Int[np.ndarray, "F 3"], posed: PosedFrame, eyes: Float[torch.Tensor, "K 3"]
) -> Bool[np.ndarray, " V"]:
    """Vertices of a posed mesh that any of the eyes sees, with nothing between."""
    vertices = posed.vertices.cpu()
    normals = torch.from_numpy(vertex_normals(vertices.double().numpy(), triangles)).float()
    start = vertices + _LIFT * normals
    mesh, seen = model.renderer.pose(posed.to(model.renderer.device)), np.zeros(len(vertices), bool)
    for eye in eyes:
        way = torch.nn.functional.normalize(eye - start, dim=1)
        rows = ((way * normals).sum(dim=1) > GRAZING) & ~torch.from_numpy(seen)
        distance = _first_hit(model, mesh, start[rows], way[rows])
        seen[rows.numpy()] = ~np.isfinite(distance)
    return seen


def _first_hit(model: Any, mesh: PosedMesh, origins: torch.Tensor, directions: torch.Tensor) -> np.ndarray:
    """Metres to the first triangle of a posed mesh; inf where a ray meets none."""
    mapping = model.renderer.mapping
    index = torch.zeros(len(origins), dtype=torch.long, device=mapping.device)
    rays = (values.to(mapping.device).float().contiguous() for values in (origins, directions))
    distance, _ = mapping.first_hit([mesh], index, *rays)
    return distance.cpu().numpy()


def _surface(
    atlas: Atlas, triangles: Int[np.ndarray, "F 3"], posed: PosedFrame
) -> tuple[Float[np.ndarray, "N 3"], Float[np.ndarray, "N 3"]]:
    """Places and smoothed unit normals of the covered texels on a posed mesh."""
    vertices = posed.vertices.cpu().double().numpy()
    mean = neighbour_mean(triangles, len(vertices))
    normals = atlas.at_texels(smooth_normals(vertices, triangles, mean), triangles)
    length = np.linalg.norm(normals, axis=1, keepdims=True)
    unit = np.divide(normals, length, out=np.zeros_like(normals), where=length > 0)
    return atlas.at_texels(vertices, triangles), unit


def _reach(
    model: Any,
    atlas: Atlas,
    triangles: Int[np.ndarray, "F 3"],
    posed: PosedFrame,
    points: Float[np.ndarray, "N 3"],
    normals: Float[np.ndarray, "N 3"],
) -> Float[np.ndarray, " N"]:
    """Metres in front of texels at which looking begins: the shell's thickness, or half the way to what is there."""
    thickness = np.zeros(len(posed.vertices))
    np.maximum.at(thickness, triangles.ravel(), np.repeat(model.renderer.shell.cpu().double().numpy(), 3))
    start = torch.from_numpy(points + _LIFT * normals)
    mesh, room = model.renderer.pose(posed.to(model.renderer.device)), np.zeros(len(points))
    for begin in range(0, len(points), _RAYS * 8):
        rows = slice(begin, begin + _RAYS * 8)
        room[rows] = _first_hit(model, mesh, start[rows], torch.from_numpy(normals[rows]))
    return np.minimum(atlas.at_texels(thickness, triangles), 0.5 * room)


@torch.no_grad()
def _look(
    model: Any, posed: PosedFrame, points: np.ndarray, normals: np.ndarray, reach: np.ndarray
) -> tuple[Float[np.ndarray, "N 3"], Float[np.ndarray, " N"]]:
    """Colour and opacity along rays that come in against the normals."""
    device = model.renderer.device
    # Nothing is sampled nearer to an eye than that.
    origins = torch.from_numpy(points + (reach + NEAR)[:, None] * normals).float().to(device)
    directions = torch.from_numpy(-normals).float().to(device)
    one = torch.ones(len(origins), 1, device=device)
    model.override = posed.to(device)
    outputs = model.get_outputs(RayBundle(origins=origins, directions=directions, pixel_area=one))
    opacity = outputs["accumulation"]
    rgb = (outputs["rgb"] - outputs["background"] * (1 - opacity)) / opacity.clamp_min(1e-6)
    return rgb.clamp(0, 1).cpu().double().numpy(), opacity[:, 0].cpu().double().numpy()


@contextmanager
def _shown(model: Any) -> Iterator[None]:
    """The model in evaluation mode; as it was afterwards."""
    training, override = model.training, model.override
    model.eval()
    try:
        yield
    finally:
        model.override = override
        model.train(training)
