"""Colours for the inside of the mouth where no camera saw it: teeth as bright as the person's, and darker further in.

A clip of talking shows little of it, and the mesh's teeth stand seldom just where the person's are: what their vertices
show is lips as often as teeth.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from flame_nerf.geometry import vertex_normals
from flame_nerf.losses.silhouette import FRAMES_SAMPLED, picture_places
from flame_nerf.subject import Frame, HeadTrack

FRONT = 0.008
"""Metres behind the foremost tooth that front teeth reach: those that can be seen between lips."""
PALE = 0.7
"""Share of the skin's saturation that teeth have at most: no lip, gum or tongue has as little."""
BRIGHT = 0.8
"""Share of the lips' brightness that lit teeth have at least."""
FEWEST = 40
"""Pixels of teeth from which their colour is told."""
USUAL_BRIGHTNESS, USUAL_SATURATION = 1.0, 0.3
"""Of teeth that were never seen, shares of the skin's."""
DIMMED_OVER, DIMMEST = 0.02, 0.25
"""Metres into the mouth over which light falls to 1/e, and what is left of it at the back."""


def mouth_colours(
    track: HeadTrack,
    frames: Sequence[Frame],
    intrinsics: Callable[[int], tuple[float, float, float, float]],
    picture: Callable[[int], UInt8[np.ndarray, "H W 4"]],
    colours: Float[Tensor, "V 3"],
    known: Bool[Tensor, " V"],
    hidden: Bool[Tensor, " V"],
) -> Float[Tensor, "V 3"]:
    """Colours with those of hidden vertices inside the mouth set right; as given where there are no teeth or lips.

    Args:
        track, frames, intrinsics, picture: as of :func:`seen_colours`.
        colours: of all vertices, 0..1; inside the mouth those of what was seen beside them.
        known: vertices of whose colour cameras told.
        hidden: vertices that no camera saw.
    """
    lips, skin = (torch.from_numpy(track.region_vertices(name)) for name in ("lips", "skin"))
    if not ((lips & known).any() and (skin & known).any()):
        return colours
    depth, result = _depth(track, lips), colours.clone()
    for name in ("mouth", "tongue"):
        part = torch.from_numpy(track.region_vertices(name))
        if (part & known).any():
            unseen = part & hidden & ~lips
            result[unseen] = colours[unseen] * _light(depth[unseen] - depth[part & known].median())[:, None]
    teeth = torch.from_numpy(track.region_vertices("teeth"))
    if (teeth & hidden).any():
        usual, of_lips = (colours[part & known].median(dim=0).values for part in (skin, lips))
        own = tooth_colour(track, frames, intrinsics, picture, usual, of_lips)
        # Front teeth stand in the light.
        result[teeth & hidden] = own * _light(depth[teeth & hidden] - depth[teeth].min())[:, None]
    return result


def tooth_colour(
    track: HeadTrack,
    frames: Sequence[Frame],
    intrinsics: Callable[[int], tuple[float, float, float, float]],
    picture: Callable[[int], UInt8[np.ndarray, "H W 4"]],
    skin: Float[Tensor, " 3"],
    lips: Float[Tensor, " 3"],
) -> Float[Tensor, " 3"]:
    """Colour of the front teeth, 0..1: what is pale and bright among the pixels where the mesh has them, or paled skin
    if there is next to nothing of the kind."""
    at = np.flatnonzero(track.region_vertices("teeth"))
    depth = _depth(track, torch.from_numpy(track.region_vertices("lips")))[at]
    at = at[(depth < depth.min() + FRONT).numpy()]
    found = []
    for index in range(0, len(frames), max(1, len(frames) // FRAMES_SAMPLED)):
        vertices = torch.from_numpy(np.asarray(track.vertices[frames[index].timestep][at])).float()
        rgba = torch.from_numpy(np.ascontiguousarray(picture(index)))
        c2w = torch.from_numpy(frames[index].c2w[:3]).float()
        column, row, shown = picture_places(vertices, c2w, intrinsics(index), (rgba.shape[0], rgba.shape[1]))
        values = rgba[row, column][shown]
        found.append(values[values[:, 3] == 255][:, :3].float() / 255)
    pixels = torch.cat(found)
    pale = _saturation(pixels) < PALE * _saturation(skin)
    teeth = pixels[pale & (pixels.mean(dim=1) > BRIGHT * lips.mean())]
    if len(teeth) >= FEWEST:
        # Of many the lip's shadow falls on them.
        return teeth[teeth.mean(dim=1) >= teeth.mean(dim=1).median()].median(dim=0).values
    grey = skin.mean()
    return (USUAL_BRIGHTNESS * (grey + USUAL_SATURATION * (skin - grey))).clamp(0, 1)


def _light(depth: Float[Tensor, " N"]) -> Float[Tensor, " N"]:
    """Share of the light that is left so many metres further in."""
    return torch.exp(-depth.clamp_min(0) / DIMMED_OVER).clamp_min(DIMMEST)


def _depth(track: HeadTrack, lips: Bool[Tensor, " V"]) -> Float[Tensor, " V"]:
    """Metres that each vertex lies behind the lips' middle, the way that they face."""
    vertices = torch.from_numpy(np.asarray(track.canonical_vertices)).float()
    forward = vertex_normals(vertices, torch.from_numpy(track.faces).long())[lips].mean(dim=0)
    forward = forward / forward.norm().clamp_min(1e-9)
    return (vertices[lips].mean(dim=0) - vertices) @ forward


def _saturation(colours: Float[Tensor, "*N 3"]) -> Float[Tensor, "*N"]:
    most = colours.amax(dim=-1)
    return (most - colours.amin(dim=-1)) / most.clamp_min(1e-3)
