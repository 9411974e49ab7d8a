"""What rays see of meshes: a place on the nearest surface, and how much of their pixel lies on it.

Which triangle it is comes from a search without gradients; the place on it is then computed anew from the triangle's
corners and the ray, so that it is differentiable in both. Near the outline a ray covers its pixel in part, by its
distance from the outline in pixels; that is how the picture tells the outline where to go.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from flame_nerf.baselines.nha.surface import HeadSurface

REACH = 6.0
"""Distance from the outline, in softnesses, at which a ray sees all or nothing: coverage 0.998 and 0.002."""
STEEP = 0.1
"""Cosine of a ray and a normal below which the ray only grazes its triangle: the place it meets there depends on the
corners so strongly that its gradient is left out."""
NEAREST = 4
"""Outline edges, by the distance of their middles, among which a ray's nearest is looked for."""
MOST_VIEWS = 64
"""Views in a batch up to which outlines are looked for: rays of everywhere at once are nobody's picture."""
TINY = 1e-12


class Caster(Protocol):
    """Finds what rays meet first."""

    def __call__(
        self,
        vertices: Float[Tensor, "B V 3"],
        mesh_index: Int[Tensor, " R"],
        origins: Float[Tensor, "R 3"],
        directions: Float[Tensor, "R 3"],
    ) -> Int[Tensor, " R"]:
        """The triangle that each ray meets first, from either side; -1 where it meets none."""


@dataclass(frozen=True)
class Fragments:
    """N rays that see something of a surface."""

    ray: Int[Tensor, " N"]
    """Which they are."""
    face: Int[Tensor, " N"]
    """Triangle that is seen."""
    corners: Int[Tensor, "N 3"]
    """Vertices between which the place lies."""
    weights: Float[Tensor, "N 3"]
    """Barycentric coordinates there."""
    coverage: Float[Tensor, " N"]
    """Part of the pixel that lies on the surface."""

    def of(self, values: Float[Tensor, "V D"]) -> Float[Tensor, "N D"]:
        """Values of the vertices at the places, the same vertices for all moments."""
        return (values[self.corners] * self.weights[..., None]).sum(dim=1)

    def of_each(self, values: Float[Tensor, "B V D"], mesh_index: Int[Tensor, " R"]) -> Float[Tensor, "N D"]:
        """The same of each ray's own moment."""
        corners = self.corners + (mesh_index[self.ray] * values.shape[1])[:, None]
        return (values.flatten(0, 1)[corners] * self.weights[..., None]).sum(dim=1)


def fragments(
    surface: HeadSurface,
    vertices: Float[Tensor, "B V 3"],
    mesh_index: Int[Tensor, " R"],
    origins: Float[Tensor, "R 3"],
    directions: Float[Tensor, "R 3"],
    caster: Caster,
    pixel_angle: float,
    softness: float,
) -> Fragments:
    """What rays see. Differentiable in the vertices and in the rays.

    Args:
        surface: topology of the meshes.
        vertices: of the moments' meshes, world metres.
        mesh_index: moment of each ray.
        origins, directions: metres; unit length.
        caster: finds the triangles.
        pixel_angle: width of a pixel, radians.
        softness: pixels over which coverage rises from 0.27 to 0.73 at the outline.
    """
    fixed = vertices.detach()
    with torch.no_grad():
        face = caster(fixed, mesh_index, origins.detach(), directions.detach())
        near, edge = _near_outline(
            surface, fixed, mesh_index, origins.detach(), directions.detach(), face, caster, pixel_angle,
            REACH * softness,
        )  # fmt: skip
    hits = (face >= 0).nonzero()[:, 0]
    rims = ((face < 0) & near).nonzero()[:, 0]
    ray = torch.cat([hits, rims])
    # A ray beside the outline sees the nearest place on it.
    shift = mesh_index * vertices.shape[1]
    ends = surface.edges[edge]
    flat = vertices.flatten(0, 1)
    apart, along = _from_edge(flat[(ends + shift[:, None])[near]], origins[near], directions[near], pixel_angle)
    coverage = vertices.new_ones(len(face))
    inside = torch.where(face[near] >= 0, 1.0, -1.0)
    coverage = coverage.index_copy(0, near.nonzero()[:, 0], torch.sigmoid(inside * apart / softness))
    place = vertices.new_zeros(len(face)).index_copy(0, near.nonzero()[:, 0], along)[rims]

    corners = surface.faces[face[hits]]
    weights = _barycentric(flat[corners + shift[hits, None]], origins[hits], directions[hits])
    rim_corners = torch.cat([ends[rims], ends[rims, 1:]], dim=1)
    rim_weights = torch.stack([1 - place, place, torch.zeros_like(place)], dim=1)
    return Fragments(
        ray,
        torch.cat([face[hits], surface.edge_faces[edge[rims], 0]]),
        torch.cat([corners, rim_corners]),
        torch.cat([weights, rim_weights]),
        coverage[ray],
    )


def _barycentric(
    corners: Float[Tensor, "N 3 3"], origins: Float[Tensor, "N 3"], directions: Float[Tensor, "N 3"]
) -> Float[Tensor, "N 3"]:
    """Where rays meet triangles that they are known to meet; differentiable but where they graze them."""
    a, b, c = corners.unbind(dim=1)
    along, across, to = b - a, c - a, origins - a
    normal = torch.linalg.cross(along, across)
    slope = (normal * directions).sum(dim=1)
    steep = slope.abs() > STEEP * normal.norm(dim=1)
    slope = torch.where(slope.abs() < TINY, TINY, slope)
    moment = torch.linalg.cross(directions, to)
    v = (moment * across).sum(dim=1) / slope
    w = -(moment * along).sum(dim=1) / slope
    weights = torch.stack([1 - v - w, v, w], dim=1).clamp(0.0, 1.0)
    weights = weights / weights.sum(dim=1, keepdim=True).clamp_min(TINY)
    return torch.where(steep[:, None], weights, weights.detach())


def _from_edge(
    ends: Float[Tensor, "N 2 3"],
    origins: Float[Tensor, "N 3"],
    directions: Float[Tensor, "N 3"],
    pixel_angle: float,
) -> tuple[Float[Tensor, " N"], Float[Tensor, " N"]]:
    """Distance of rays from edges as a picture sees it, pixels, and the nearest place from 0 to 1 along the edge.
    Differentiable but for the place."""
    to = ends - origins[:, None]
    depth = (to * directions[:, None]).sum(dim=2, keepdim=True).clamp_min(1e-3)
    seen = to / depth - directions[:, None]
    first, second = seen.unbind(dim=1)
    step = second - first
    place = (-(first * step).sum(dim=1) / (step * step).sum(dim=1).clamp_min(TINY)).clamp(0, 1).detach()
    apart = first + place[:, None] * step
    return (apart.square().sum(dim=1) + TINY).sqrt() / pixel_angle, place


def _near_outline(
    surface: HeadSurface,
    vertices: Float[Tensor, "B V 3"],
    mesh_index: Int[Tensor, " R"],
    origins: Float[Tensor, "R 3"],
    directions: Float[Tensor, "R 3"],
    face: Int[Tensor, " R"],
    caster: Caster,
    pixel_angle: float,
    reach: float,
) -> tuple[Bool[Tensor, " R"], Int[Tensor, " R"]]:
    """Which rays pass within `reach` pixels of the outline, and the outline's edge nearest to them (0 for others)."""
    near = torch.zeros(len(face), dtype=torch.bool, device=face.device)
    edge = torch.zeros_like(face)
    if len(face) == 0:
        return near, edge
    # Rays of one view lie together.
    changes = (mesh_index[1:] != mesh_index[:-1]) | (origins[1:] != origins[:-1]).any(dim=1)
    first = torch.nn.functional.pad(changes.nonzero()[:, 0] + 1, (1, 0))
    if len(first) > MOST_VIEWS:
        return near, edge
    moments, eyes = mesh_index[first], origins[first]
    counts = torch.nn.functional.pad(first, (0, 1), value=len(face)).diff()
    outlines = _outlines(surface, vertices[moments], moments, eyes, vertices, caster, pixel_angle)
    end = 0
    for (edges, middles), count, moment in zip(outlines, counts.tolist(), moments.tolist(), strict=True):
        start, end = end, end + count
        if len(edges) == 0:
            continue
        part = directions[start:end]
        # Half of the longest edges' length on top: of an edge only the middle is known here.
        ends = vertices[moment][surface.edges[edges]]
        span = 0.5 * (ends[:, 0] - ends[:, 1]).norm(dim=1).amax() / (ends[0, 0] - origins[start]).norm()
        apart = torch.cdist(part, middles)
        candidates = (apart.amin(dim=1) < reach * pixel_angle + span).nonzero()[:, 0]
        if len(candidates) == 0:
            continue
        chosen = edges[apart[candidates].topk(min(NEAREST, len(edges)), largest=False).indices]
        corners = vertices[moment][surface.edges[chosen]]
        width = chosen.shape[1]
        rays = candidates.repeat_interleave(width) + start
        exact, _ = _from_edge(corners.flatten(0, 1), origins[rays], directions[rays], pixel_angle)
        best = exact.view(-1, width).min(dim=1)
        within = best.values < reach
        taken = candidates[within] + start
        near[taken] = True
        edge[taken] = chosen.gather(1, best.indices[:, None])[within, 0]
    return near, edge


def _outlines(
    surface: HeadSurface,
    shown: Float[Tensor, "G V 3"],
    moments: Int[Tensor, " G"],
    eyes: Float[Tensor, "G 3"],
    vertices: Float[Tensor, "B V 3"],
    caster: Caster,
    pixel_angle: float,
) -> list[tuple[Int[Tensor, " S"], Float[Tensor, "S 3"]]]:
    """For each view the edges of the mesh's outline, and the unit directions of their middles.

    An edge between a triangle that faces the view and one that does not is on the outline if nothing is met a pixel
    beside it: others are folds in front of more of the head.
    """
    a, b, c = shown[:, surface.faces].unbind(dim=2)
    front = ((eyes[:, None] - a) * torch.linalg.cross(b - a, c - a)).sum(dim=2) > 0
    first, second = surface.edge_faces.unbind(dim=1)
    open_edge = second < 0
    rim = (front[:, first] != front[:, second.clamp_min(0)]) | open_edge
    view, edge = rim.nonzero().unbind(dim=1)
    facing = torch.where(open_edge[edge] | front[view, first[edge]], first[edge], second[edge].clamp_min(0))
    ends = shown[view[:, None], surface.edges[edge]]
    eye, middle = eyes[view], ends.mean(dim=1)
    distance = (middle - eye).norm(dim=1, keepdim=True).clamp_min(TINY)
    looking = (middle - eye) / distance
    across = torch.linalg.cross(looking, ends[:, 1] - ends[:, 0])
    outwards = torch.nn.functional.normalize(across, dim=1)
    inside = shown[view[:, None], surface.faces[facing]].mean(dim=1)
    outwards = torch.where(((inside - middle) * outwards).sum(dim=1, keepdim=True) > 0, -outwards, outwards)
    probe = torch.nn.functional.normalize(looking + pixel_angle * outwards, dim=1)
    clear = caster(vertices, moments[view], eye, probe) < 0
    edge, view, looking = edge[clear], view[clear], looking[clear]
    counts = torch.bincount(view, minlength=len(eyes)).tolist()
    return list(zip(edge.split(counts), looking.split(counts), strict=True))
