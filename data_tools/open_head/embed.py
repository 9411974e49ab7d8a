"""Where mediapipe's 478 face landmarks lie on a head model, found by showing the detector pictures of it.

Many identities are rendered from many sides and marked by the detector. Each mark is cast back onto the mesh, the marks
of one landmark are gathered at their median on the template, and the point is then slid along the surface until it
projects onto the marks best over all pictures. Works for any head model with the regions named in flame_nerf.heads: the
open one or a user's own.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from scipy.optimize import linear_sum_assignment

from data_tools.open_head.detection import (
    IRISES,
    LANDMARK_COUNT,
    detect,
    detection_albedo,
    inner_lips,
    landmark_set,
    open_detector,
    pose_with_jaw,
)
from data_tools.open_head.render import MeshView, camera_around
from data_tools.open_head.surface import Surface, named, nearest_on_edges
from flame_nerf.geometry import vertex_normals
from flame_nerf.heads import HeadModel, LandmarkEmbedding

logger = logging.getLogger(__name__)

# Least number of marks that place a landmark.
_MIN_MARKS = 8
# Reprojection residuals beyond this (metres in the face's plane) count linearly, not squared.
_HUBER = 0.0015
# A point this far from its marks, typically, weighs half; metres.
_HALF_WEIGHT = 0.003


@dataclass(frozen=True)
class EmbedConfig:
    """Options of the landmarks' embedding in the open head."""

    identities: int = 16
    """People shown, the mean head among them."""
    identity_spread: float = 0.8
    """Standard deviation of their identity coefficients."""
    yaws_deg: tuple[float, ...] = (-40.0, -20.0, 0.0, 20.0, 40.0)
    pitches_deg: tuple[float, ...] = (-18.0, 0.0, 18.0)
    jaw_openings: tuple[float, ...] = (0.0, 0.25, 0.5)
    """Each person is shown with one of these jawOpen values in turn."""
    open_mouth: float = 0.2
    """Lips are placed by pictures with the jaw at least this open, everything else by the others."""
    size: int = 400
    """Side of the pictures, pixels."""
    distance: float = 0.7
    """Camera to head, metres."""
    focal: float = 1.8
    """In picture sides."""
    min_facing: float = 0.35
    """A mark counts only where the surface faces the camera: least cosine between normal and view ray. Lips, whose
    edges are visible lines, may turn away almost altogether."""
    rounds: int = 3
    """Times that the points are slid along the surface and made symmetric."""
    oval_weight: float = 0.15
    """Most that a point of the face oval may weigh: those slide along the silhouette."""
    seed: int = 3


@dataclass(frozen=True)
class _Picture:
    view: MeshView
    jaw_open: float
    pixels: Float[np.ndarray, "478 2"]
    normals: Float[np.ndarray, "V 3"]


def picture_count(config: EmbedConfig) -> int:
    """Pictures that the detector is shown."""
    return config.identities * len(config.yaws_deg) * len(config.pitches_deg)


def embed_landmarks(
    head: HeadModel, config: EmbedConfig, on_picture: Callable[[], None] = lambda: None
) -> LandmarkEmbedding:
    """Embeds mediapipe's 478 landmarks (irises included) in a head model; deterministic.

    Landmarks that the detector hardly ever put on a visible part of the mesh are left out.

    Args:
        on_picture: called after each of `picture_count` pictures.

    Raises:
        ImportError: mediapipe is not installed.
        ValueError: the detector finds no face in any picture.
    """
    pictures = _gather(head, config, on_picture)
    if not pictures:
        raise ValueError(f"the detector found no face in any picture of head model '{head.name}'")
    surface = Surface(head)
    index, places = _first_places(head, pictures, config)
    mirror = _mirror_partners(pictures)
    paired = np.isin(mirror[index], index) & (mirror[mirror[index]] == index)
    index, places = index[paired], places[paired]
    partner = np.searchsorted(index, mirror[index])
    face, barycentric = surface.snap(index, _symmetric(places, partner))
    for _ in range(config.rounds):
        places = _at(head.template.numpy(), head.faces.numpy()[face], barycentric)
        slide, _ = _slide(head, pictures, index, face, barycentric, config)
        face, barycentric = surface.snap(index, _symmetric(places + slide, partner))
    _, error = _slide(head, pictures, index, face, barycentric, config)
    error = 0.5 * (error + error[partner])
    weight = 1 / (1 + (error / _HALF_WEIGHT) ** 2)
    oval = np.isin(index, list(landmark_set("FACE_OVAL")))
    weight[oval] = np.minimum(weight[oval], config.oval_weight)
    logger.info("embedded %d landmarks, median reprojection error %.2f mm", len(index), 1e3 * np.median(error))
    return LandmarkEmbedding(
        index=torch.from_numpy(index),
        face=torch.from_numpy(face),
        barycentric=torch.from_numpy(barycentric.astype(np.float32)),
        weight=torch.from_numpy(weight.astype(np.float32)),
    )


def detection_views(head: HeadModel, config: EmbedConfig) -> Iterator[tuple[MeshView, float]]:
    """The posed, framed heads that the detector is shown, with each one's jawOpen."""
    generator = torch.Generator().manual_seed(config.seed)
    for person in range(config.identities):
        identity = torch.randn(head.shapedirs.shape[-1], generator=generator) * config.identity_spread * (person > 0)
        jaw_open = config.jaw_openings[person % len(config.jaw_openings)]
        vertices = pose_with_jaw(head, identity, jaw_open).numpy()
        target = (0.0, float(vertices[:, 1].max()) - 0.14, 0.0)
        for yaw in config.yaws_deg:
            for pitch in config.pitches_deg:
                c2w = camera_around(yaw, pitch, config.distance, target)
                yield MeshView(vertices, head.faces.numpy(), c2w, config.focal * config.size, config.size), jaw_open


def _gather(head: HeadModel, config: EmbedConfig, on_picture: Callable[[], None]) -> list[_Picture]:
    """Shows all views to the detector."""
    albedo = detection_albedo(head)
    pictures, shown = [], 0
    with open_detector() as detector:
        for view, jaw_open in detection_views(head, config):
            shown += 1
            pixels = detect(detector, view.lambert(albedo))
            if pixels is not None:
                pictures.append(_Picture(view, jaw_open, pixels, vertex_normals(view.vertices, view.faces)))
            on_picture()
    logger.info("the detector found the face in %d of %d pictures", len(pictures), shown)
    return pictures


def _first_places(
    head: HeadModel, pictures: list[_Picture], config: EmbedConfig
) -> tuple[Int[np.ndarray, " L"], Float[np.ndarray, "L 3"]]:
    """Landmarks that were seen often enough, and the median of where their marks fall on the template."""
    faces, template = head.faces.numpy(), head.template.numpy()
    eyes = head.region_mask("eyes").numpy()
    inside = head.region_mask(*named(head, "mouth", "teeth", "tongue", "eyes", "sockets")).numpy()
    irises = np.array([i for eye in IRISES.values() for i in eye])
    lip_ring = np.array(sorted(inner_lips()))
    everything = np.arange(LANDMARK_COUNT)
    places = np.full((len(pictures), LANDMARK_COUNT, 3), np.nan)
    for row, picture in enumerate(pictures):
        hits = picture.view.pick(picture.pixels)
        corners = faces[hits.face]
        facing = _facing(picture, corners, hits.barycentric)
        good = (hits.face >= 0) & ~inside[hits.face] & _trusted(picture, everything, facing, config)
        places[row, good] = _at(template, corners[good], hits.barycentric[good])
        # The detector draws the whole iris, lids or no lids: look through them.
        places[row, irises] = np.nan
        behind = picture.view.only(eyes).pick(picture.pixels[irises])
        on_eye = behind.face >= 0
        corners = faces[eyes][behind.face[on_eye]]
        places[row, irises[on_eye]] = _at(template, corners, behind.barycentric[on_eye])
        # Marks of the inner lips fall through the open mouth: the lip nearest in the picture is theirs.
        if picture.jaw_open >= config.open_mouth:
            places[row, lip_ring] = _nearest_lip(head, picture, picture.pixels[lip_ring])
    index = np.nonzero(np.isfinite(places[..., 0]).sum(0) >= _MIN_MARKS)[0]
    return index, np.nanmedian(places[:, index], axis=0)


def _nearest_lip(head: HeadModel, picture: _Picture, pixels: Float[np.ndarray, "N 2"]) -> Float[np.ndarray, "N 3"]:
    """The place on the template of the visible lip edge that is nearest in the picture."""
    corners = head.faces[head.region_mask("lips")].numpy()
    centre = np.full((len(corners), 3), 1 / 3)
    corners = corners[_facing(picture, corners, centre) > 0]
    edges = np.concatenate([corners[:, [0, 1]], corners[:, [1, 2]], corners[:, [2, 0]]])
    edge, share = nearest_on_edges(picture.view.project(picture.view.vertices[edges]), pixels)
    ends = head.template.numpy()[edges[edge]]
    return ends[:, 0] * (1 - share[:, None]) + ends[:, 1] * share[:, None]


def _at(
    values: Float[np.ndarray, "V D"], corners: Int[np.ndarray, "N 3"], barycentric: Float[np.ndarray, "N 3"]
) -> Float[np.ndarray, "N D"]:
    return (values[corners] * barycentric[:, :, None]).sum(1)


def _slide(
    head: HeadModel,
    pictures: list[_Picture],
    index: Int[np.ndarray, " L"],
    face: Int[np.ndarray, " L"],
    barycentric: Float[np.ndarray, "L 3"],
    config: EmbedConfig,
) -> tuple[Float[np.ndarray, "L 3"], Float[np.ndarray, " L"]]:
    """One robust Gauss-Newton step of each point in its tangent plane, and its median distance from its marks.

    Residuals are measured in metres in the plane through the point that is parallel to the picture.
    """
    corners = head.faces.numpy()[face]
    normal = _at(vertex_normals(head.template.numpy(), head.faces.numpy()), corners, barycentric)
    across = np.cross(np.array([0.0, 1.0, 0.0]), normal)
    across /= np.maximum(np.linalg.norm(across, axis=1, keepdims=True), 1e-9)
    tangent = np.stack([across, np.cross(normal, across)], axis=2)
    hessian = np.broadcast_to(1e-9 * np.eye(2), (len(index), 2, 2)).copy()
    gradient = np.zeros((len(index), 2))
    distances = np.full((len(pictures), len(index)), np.nan)
    for row, picture in enumerate(pictures):
        view = picture.view
        point = _at(view.vertices, corners, barycentric)
        depth = -((point - view.c2w[:3, 3]) @ view.c2w[:3, 2])
        residual = (picture.pixels[index] - view.project(point)) * (depth / view.focal_px)[:, None]
        seen = _trusted(picture, index, _facing(picture, corners, barycentric), config)
        distance = np.linalg.norm(residual, axis=1)
        distances[row, seen] = distance[seen]
        # Picture axes are right and down.
        screen = np.stack([view.c2w[:3, 0], -view.c2w[:3, 1]])
        jacobian = screen @ tangent
        weight = seen * np.minimum(1, _HUBER / np.maximum(distance, 1e-9))
        hessian += weight[:, None, None] * jacobian.transpose(0, 2, 1) @ jacobian
        gradient += weight[:, None] * np.einsum("lij,li->lj", jacobian, residual)
    step = np.linalg.solve(hessian, gradient[:, :, None])[:, :, 0]
    length = np.linalg.norm(step, axis=1, keepdims=True)
    step *= np.minimum(1, 0.005 / np.maximum(length, 1e-9))
    # Points that no picture faces have no distance: infinitely far, so that they weigh nothing.
    distances[:, np.isnan(distances).all(0)] = np.inf
    return np.einsum("lij,lj->li", tangent, step), np.nanmedian(distances, axis=0)


def _trusted(
    picture: _Picture,
    index: Int[np.ndarray, " L"],
    facing: Float[np.ndarray, " L"],
    config: EmbedConfig,
) -> Bool[np.ndarray, " L"]:
    """Whether this picture may place these landmarks, whose surface faces the camera so far.

    Lips want an open mouth, everything else a nearly closed one.
    """
    lips = np.isin(index, list(landmark_set("LIPS")))
    opened = picture.jaw_open >= config.open_mouth
    nearly_closed = picture.jaw_open <= config.open_mouth + 0.1
    return np.where(lips, opened & (facing > 0), nearly_closed & (facing > config.min_facing))


def _facing(
    picture: _Picture, corners: Int[np.ndarray, "L 3"], barycentric: Float[np.ndarray, "L 3"]
) -> Float[np.ndarray, " L"]:
    """Cosine between a surface point's normal and the way to the camera."""
    normal = _at(picture.normals, corners, barycentric)
    ray = picture.view.c2w[:3, 3] - _at(picture.view.vertices, corners, barycentric)
    return (normal * ray).sum(1) / np.maximum(np.linalg.norm(ray, axis=1) * np.linalg.norm(normal, axis=1), 1e-12)


def _mirror_partners(pictures: list[_Picture]) -> Int[np.ndarray, "478"]:
    """For each landmark the one on the other side, itself on the midline.

    Found by assignment: where marks lie in pictures from the left, from ahead and from the right, on average, against
    the same with left and right exchanged.
    """
    side = np.array([np.sign(np.round(picture.view.c2w[0, 2], 3)) for picture in pictures])
    centred = np.stack([picture.pixels - picture.view.size / 2 for picture in pictures])
    left, ahead, right = (centred[side == s].mean(0) for s in (1, 0, -1))
    seen = np.concatenate([left, ahead, right], axis=1)
    exchanged = np.concatenate([right, ahead, left], axis=1) * np.tile([-1.0, 1.0], 3)
    return linear_sum_assignment(np.linalg.norm(seen[:, None] - exchanged[None], axis=-1) ** 2)[1]


def _symmetric(places: Float[np.ndarray, "L 3"], partner: Int[np.ndarray, " L"]) -> Float[np.ndarray, "L 3"]:
    """Each place averaged with its partner's mirror image."""
    return 0.5 * (places + places[partner] * [-1.0, 1.0, 1.0])
