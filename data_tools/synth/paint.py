"""Colours of the synthetic person: skin, brows, lashes, lips, eyes, the mouth's inside, hair and shirt.

All are functions of the head at rest. Colours are sRGB values 0..1, taken to linear light where the texture is made.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from scipy.spatial import cKDTree

from data_tools.synth.hair import Hair, hairline
from data_tools.synth.noise import Noise, ramp
from data_tools.synth.texels import Texels, grid
from data_tools.synth.torso import Torso
from data_tools.tracking.masks.collar import SLOPE
from flame_nerf.heads import HeadModel

HEAD_STEPS, HAIR_STEPS, TORSO_STEPS = 10, 2, 3
"""Texels along an edge: about a third of a millimetre in the face."""
SHIRT_BELOW = 0.012
"""How far below the mask's collar the shirt begins, metres."""

# Mediapipe's numbers, of the subject's right side and its left; upper and lower border of each brow from the nose out.
_BROWS = (
    ((107, 66, 105, 63, 70), (55, 65, 52, 53, 46)),
    ((336, 296, 334, 293, 300), (285, 295, 282, 283, 276)),
)
_UPPER_LIDS = ((33, 246, 161, 160, 159, 158, 157, 173, 133), (263, 466, 388, 387, 386, 385, 384, 398, 362))
_LOWER_LIDS = ((33, 7, 163, 144, 145, 153, 154, 155, 133), (263, 249, 390, 373, 374, 380, 381, 382, 362))
_CHEEKS, _NOSE_TIP = (50, 280), 4

_SKINS = ((0.87, 0.70, 0.61), (0.82, 0.64, 0.53), (0.76, 0.57, 0.45), (0.62, 0.44, 0.33))
_HAIRS = ((0.24, 0.16, 0.11), (0.36, 0.23, 0.13), (0.17, 0.13, 0.11), (0.50, 0.36, 0.20))
_IRISES = ((0.27, 0.40, 0.50), (0.33, 0.22, 0.12), (0.30, 0.38, 0.24), (0.40, 0.29, 0.15))
_SHIRTS = ((0.20, 0.27, 0.40), (0.45, 0.18, 0.20), (0.25, 0.33, 0.27), (0.35, 0.35, 0.38))
_INSIDE = {"mouth": (0.50, 0.20, 0.19), "teeth": (0.93, 0.90, 0.82), "tongue": (0.74, 0.40, 0.38),
           "sockets": (0.70, 0.42, 0.38)}  # fmt: skip
_IRIS, _PUPIL = 0.0061, 0.0024
"""Radii on the eyeball, metres."""


@dataclass(frozen=True)
class Palette:
    """The person's colours, sRGB."""

    skin: np.ndarray
    hair: np.ndarray
    iris: np.ndarray
    shirt: np.ndarray

    @staticmethod
    def draw(random: np.random.Generator) -> Palette:
        """One of each, slightly varied."""
        skins = [np.array(colours[random.integers(len(colours))]) for colours in (_SKINS, _HAIRS, _IRISES, _SHIRTS)]
        return Palette(*(np.clip(colour + random.normal(0, 0.015, 3), 0.03, 0.97) for colour in skins))


def above_collar(rest: Float[np.ndarray, "*N 3"], neck: Float[np.ndarray, "3"]) -> Float[np.ndarray, "*N"]:
    """Height of points of the head at rest above the slanted plane where masks end, metres; `neck` is its joint."""
    return rest[..., 1] - neck[1] + SLOPE * (rest[..., 2] - neck[2])


def to_linear(colour: Float[np.ndarray, "*N 3"]) -> Float[np.ndarray, "*N 3"]:
    """sRGB to linear light (IEC 61966-2-1)."""
    return np.where(colour <= 0.04045, colour / 12.92, ((np.maximum(colour, 0) + 0.055) / 1.055) ** 2.4)


def to_srgb(light: Float[np.ndarray, "*N 3"]) -> Float[np.ndarray, "*N 3"]:
    """Linear light to sRGB (IEC 61966-2-1), what lies beyond white rolled off softly."""
    # A camera's shoulder: highlights keep some shape instead of being cut off.
    light = np.where(light > 0.8, 0.8 + 0.2 * (1 - np.exp(-(np.maximum(light, 0.8) - 0.8) / 0.2)), np.maximum(light, 0))
    return np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)


def paint(
    head: HeadModel,
    rest: Float[np.ndarray, "V 3"],
    neck: Float[np.ndarray, "3"],
    hair: Hair,
    torso: Torso,
    palette: Palette,
    random: np.random.Generator,
) -> Texels:
    """The texture of head, hair and torso, in this order.

    Args:
        rest: the person's head at rest, neutral.
        neck: their neck joint at rest; the collar is the slanted plane through it that cuts the masks of real videos.
    """
    return Texels.of(
        [
            (HEAD_STEPS, _paint_head(head, rest, neck, palette, random)),
            (HAIR_STEPS, _paint_hair(hair, palette, random)),
            (TORSO_STEPS, _paint_torso(torso, palette)),
        ]
    )


def _texels(colour: np.ndarray, shine: np.ndarray | float, gloss: np.ndarray | float) -> np.ndarray:
    rest = [np.broadcast_to(value, colour.shape[:-1])[..., None] for value in (shine, gloss)]
    return np.concatenate([to_linear(np.clip(colour, 0, 1)), *rest], axis=-1)


def _mix(colour: np.ndarray, other: np.ndarray | tuple, share: np.ndarray) -> np.ndarray:
    return colour + (np.asarray(other) - colour) * share[..., None]


def _paint_head(
    head: HeadModel, rest: np.ndarray, neck: np.ndarray, palette: Palette, random: np.random.Generator
) -> Float[np.ndarray, "F K C"]:
    faces = head.faces.numpy()
    points = grid(HEAD_STEPS).astype(np.float32) @ rest[faces]
    noise = Noise(random)
    colour = np.empty_like(points)
    shine, gloss = np.empty(points.shape[:2]), np.empty(points.shape[:2])
    outer = ~head.region_mask("eyes", *_INSIDE).numpy()
    marks = head.landmark_points(torch.from_numpy(rest)).numpy()[np.argsort(head.landmarks.index.numpy())]

    def share(*regions: str) -> np.ndarray:
        """1 inside the regions, 0 outside, soft over one triangle at their border."""
        mask = head.region_mask(*regions).numpy()
        total, count = np.zeros(len(rest)), np.zeros(len(rest))
        np.add.at(total, faces, mask[:, None].astype(float))
        np.add.at(count, faces, 1.0)
        return ramp((total / np.maximum(count, 1))[faces[outer]] @ grid(HEAD_STEPS).T, 0.15, 0.75)

    skin = points[outer]
    painted = _skin(skin, marks, palette, noise) * (1 - 0.10 * share("eyelids")[..., None])
    lips = share("lips")
    lip_colour = np.clip(palette.skin * [0.88, 0.60, 0.62], 0, 1) * (1 + 0.10 * noise(skin, 0.0025)[..., None])
    painted = _mix(painted, lip_colour, lips)
    shine[outer], gloss[outer] = 0.05 + 0.10 * lips, 14.0 + 18 * lips

    front = skin[..., 2] > 0.05
    painted[front] = _mix(painted[front], 0.5 * palette.hair, _lashes(skin[front], marks))
    for upper, lower in _BROWS:
        painted[front] = _mix(painted[front], palette.hair * 0.9, _brow(skin[front], marks, upper, lower, noise))
    scalp = head.region_mask("scalp").numpy()
    away = cKDTree(hairline(rest, faces, scalp)).query(skin, distance_upper_bound=0.01)[0].clip(max=0.01)
    inside = np.where(scalp[outer, None], away, -away) + 0.003 * noise(skin, 0.003, octaves=2)
    colour[outer] = _mix(painted, 0.8 * palette.hair, ramp(inside, -0.003, 0.002))

    for region, inner in _INSIDE.items():
        rows = head.region_mask(region).numpy()
        colour[rows] = np.array(inner) * (1 + 0.06 * noise(points[rows], 0.002, octaves=2)[..., None])
        shine[rows], gloss[rows] = 0.15, 40.0
    eyes = head.region_mask("eyes").numpy()
    colour[eyes] = _eyes(points[eyes], rest[np.unique(faces[eyes])], palette, noise)
    shine[eyes], gloss[eyes] = 0.9, 350.0

    level = above_collar(points, neck)
    shirt = ramp(level, -SHIRT_BELOW + 0.0015, -SHIRT_BELOW - 0.0015)
    colour, shine = _mix(colour, _cloth(points, palette), shirt), shine * (1 - shirt)
    return _texels(colour, shine, gloss)


def _lashes(points: np.ndarray, marks: np.ndarray) -> np.ndarray:
    """How dark the lids' edges are at points of the skin, 0..1."""
    dark = np.zeros(points.shape[:-1])
    for lids, reach, strength in ((_UPPER_LIDS, 0.0017, 0.85), (_LOWER_LIDS, 0.0010, 0.5)):
        for lid in lids:
            distance = cKDTree(_polyline(marks[list(lid)])).query(points, distance_upper_bound=2 * reach)[0]
            dark = np.maximum(dark, strength * ramp(np.minimum(distance, 2 * reach), reach, 0.3 * reach))
    return dark


def _skin(points: np.ndarray, marks: np.ndarray, palette: Palette, noise: Noise) -> np.ndarray:
    blotches, mottle, pores = noise(points, 0.022, 2), noise(points, 0.006, 2), noise(points + 1.0, 0.0016)
    colour = palette.skin * (1 + 0.05 * blotches + 0.045 * mottle + 0.04 * pores)[..., None]
    blood = np.zeros(points.shape[:-1])
    for number, reach, strength in ((_CHEEKS[0], 0.022, 0.8), (_CHEEKS[1], 0.022, 0.8), (_NOSE_TIP, 0.016, 0.7)):
        blood += strength * np.exp(-(((points - marks[number]) / reach) ** 2).sum(-1))
    blood += 0.6 * ramp(np.abs(points[..., 0]), 0.070, 0.082) * ramp(points[..., 1], -0.07, -0.04)
    colour *= 1 + (blood * (1 + 0.4 * blotches))[..., None] * np.array([0.02, -0.10, -0.09])
    # Freckles: the tops of a fine noise, on nose and cheeks more than elsewhere.
    spots = ramp(noise(points + 2.0, 0.0024), 0.50, 0.70) * (0.15 + 0.85 * np.minimum(blood, 1))
    return _mix(colour, palette.skin * [0.74, 0.60, 0.50], 0.6 * spots)


def _polyline(points: Float[np.ndarray, "N 3"], per_piece: int = 12) -> Float[np.ndarray, "M 3"]:
    at = np.arange(len(points))
    fine = np.linspace(0, len(points) - 1, (len(points) - 1) * per_piece + 1)
    return np.stack([np.interp(fine, at, points[:, axis]) for axis in range(3)], axis=1)


def _brow(points: np.ndarray, marks: np.ndarray, upper: tuple, lower: tuple, noise: Noise) -> np.ndarray:
    """How densely hair covers points near a brow, 0..1: single hairs that lean outwards and up."""
    top, bottom = marks[list(upper)], marks[list(lower)]
    middle = _polyline((top + bottom) / 2)
    half = np.interp(np.linspace(0, 4, len(middle)), np.arange(5), np.linalg.norm(top - bottom, axis=1) / 2)
    half *= np.linspace(1.0, 0.5, len(middle)) * 0.85
    distance, nearest = cKDTree(middle).query(points, distance_upper_bound=0.03)
    near, nearest = np.isfinite(distance), np.minimum(nearest, len(middle) - 1)
    outwards = middle[-1] - middle[0]
    outwards /= np.linalg.norm(outwards)
    lean = outwards * 0.85 + np.array([0, 0.5, 0])
    along = (points[near] @ lean)[:, None] * lean
    hairs = noise((points[near] - along) + along * 0.15, 0.0016, octaves=2)
    dense = np.zeros(len(points))
    edge = distance[near] / half[nearest[near]] + 0.35 * hairs
    dense[near] = ramp(edge, 1.15, 0.55) * np.clip(0.80 + 0.45 * hairs, 0, 1)
    return dense


def _eyes(points: np.ndarray, vertices: np.ndarray, palette: Palette, noise: Noise) -> np.ndarray:
    """White with faint veins, an iris of fibres with a dark rim, and the pupil; both eyes look straight ahead."""
    side = np.sign(points[..., :1])
    left, right = (vertices[chosen] for chosen in (vertices[:, 0] > 0, vertices[:, 0] < 0))
    centres = [(ball.min(axis=0) + ball.max(axis=0)) / 2 for ball in (left, right)]
    away = points - np.where(side > 0, *centres)
    radius = np.where(away[..., 2] > 0, np.linalg.norm(away[..., :2], axis=-1), 1.0)
    white = np.array([0.93, 0.91, 0.89]) * (1 + 0.02 * noise(points, 0.004)[..., None])
    veins = ramp(np.abs(noise(points, 0.003, 2)), 0.10, 0.0) * ramp(radius, 0.006, 0.011)
    colour = _mix(white, (0.80, 0.48, 0.45), 0.35 * veins)
    angle = np.arctan2(away[..., 1], away[..., 0])
    fibres = noise(np.stack([9 * np.cos(angle), 9 * np.sin(angle), radius / 0.004], axis=-1), 1.0, 2)
    iris = palette.iris * (1 + 0.35 * fibres)[..., None] * (1.25 - 0.5 * (radius / _IRIS).clip(0, 1))[..., None]
    colour = _mix(colour, iris, ramp(radius, _IRIS + 0.0003, _IRIS - 0.0003))
    rim = ramp(radius, _IRIS - 0.0014, _IRIS - 0.0002) * ramp(radius, _IRIS + 0.0005, _IRIS - 0.0002)
    colour = _mix(colour, 0.25 * palette.iris, 0.8 * rim)
    return _mix(colour, (0.02, 0.02, 0.02), ramp(radius, _PUPIL + 0.0002, _PUPIL - 0.0002))


def _paint_hair(hair: Hair, palette: Palette, random: np.random.Generator) -> Float[np.ndarray, "G K C"]:
    weights = grid(HAIR_STEPS)
    noise = Noise(random)
    strand = weights @ hair.strand[hair.faces]
    lock = np.einsum("kc,fc->fk", weights, hair.lock[hair.faces])
    fine = noise(strand, 0.05, octaves=3)
    tone = 1 + 0.30 * lock + 0.45 * fine
    streaks = ramp(noise(strand + 3.0, 0.16), 0.25, 0.7)
    colour = palette.hair * np.maximum(tone, 0.25)[..., None]
    return _texels(_mix(colour, colour * [1.5, 1.4, 1.25], 0.6 * streaks), 0.10 + 0.06 * fine, 18.0)


def _paint_torso(torso: Torso, palette: Palette) -> Float[np.ndarray, "G K C"]:
    size = (len(torso.faces), len(grid(TORSO_STEPS)))
    return _texels(np.broadcast_to(palette.shirt, (*size, 3)).copy(), 0.0, 10.0)


def _cloth(points: np.ndarray, palette: Palette) -> np.ndarray:
    return palette.shirt * (1 + 0.06 * np.sin(points[..., :1] * 2500) * np.sin(points[..., 1:2] * 2500))
