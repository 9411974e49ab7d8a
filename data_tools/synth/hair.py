"""Hair as a layer of its own over the scalp: centimetres thick, in locks, combed away from the crown.

It is no part of the head mesh: a tracked head is bald, and a method that learns it must find the hair by itself.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy.sparse import csr_matrix, identity, vstack
from scipy.spatial import cKDTree

from data_tools.synth.noise import Noise, ramp
from flame_nerf.geometry import vertex_normals

HALVINGS = 3
"""How often the scalp's triangles are split in four: edges of about 1.5 mm."""
ROOM = 0.002
"""Height of the layer above the skin at the hairline, metres."""
CROWN = np.array([0.0, 0.105, -0.035])
"""Where the hair is combed away from, head frame."""


@dataclass(frozen=True)
class Hair:
    """The layer at rest, and how it hangs on the scalp."""

    vertices: Float[np.ndarray, "H 3"]
    faces: Int[np.ndarray, "G 3"]
    roots: csr_matrix
    """(H, V): the point of the head under each vertex, as a mixture of the head's vertices."""
    strand: Float[np.ndarray, "H 3"]
    """Coordinates that hardly change along a strand: what its texture and its locks are functions of."""
    lock: Float[np.ndarray, " H"]
    """-1 between locks, 1 on top of one."""


def hairline(
    vertices: Float[np.ndarray, "V 3"], faces: Int[np.ndarray, "F 3"], on_scalp: np.ndarray
) -> Float[np.ndarray, "B 3"]:
    """Points along the border of the scalp, at most a millimetre or two apart, the zigzag of its triangles smoothed."""
    border = _border(faces[on_scalp])
    smooth = vertices.copy()
    for _ in range(6):
        total, count = np.zeros_like(vertices), np.zeros(len(vertices))
        for a, b in (border.T, border.T[::-1]):
            np.add.at(total, a, smooth[b])
            np.add.at(count, a, 1)
        moved = count > 0
        smooth[moved] = 0.5 * smooth[moved] + 0.5 * total[moved] / count[moved, None]
    share = np.linspace(0, 1, 12)[:, None, None]
    return (smooth[border[:, 0]] * (1 - share) + smooth[border[:, 1]] * share).reshape(-1, 3)


def grow_hair(
    vertices: Float[np.ndarray, "V 3"],
    faces: Int[np.ndarray, "F 3"],
    on_scalp: np.ndarray,
    length: float,
    random: np.random.Generator,
) -> Hair:
    """Hair for a head at rest.

    Args:
        on_scalp: mask of the faces that bear hair.
        length: thickness of the layer on top of the head, metres; less at the sides and the nape.
    """
    noise = Noise(random)
    wisps = Noise(random)
    roots, split = _split(faces[on_scalp], len(vertices))
    base = roots @ vertices
    normal = roots @ vertex_normals(vertices, faces)
    normal /= np.linalg.norm(normal, axis=1, keepdims=True)
    inside = cKDTree(hairline(vertices, faces, on_scalp)).query(base)[0]

    away = base - CROWN
    along = away - normal * (away * normal).sum(1, keepdims=True)
    along /= np.maximum(np.linalg.norm(along, axis=1, keepdims=True), 1e-6)
    strand = _strand_coordinates(base)
    locks = noise(strand, 0.35, octaves=2)
    fine = wisps(strand, 0.06, octaves=2)

    height = length * (0.35 + 0.65 * ramp(base[:, 1], -0.03, 0.09))
    rise = 1 - np.exp(-inside / 0.014)
    # At the crown all strands meet: locks there would be needles.
    relief = ramp(np.linalg.norm(base - CROWN, axis=1), 0.01, 0.05)
    thick = ROOM + height * rise * (1 + relief * (0.40 * locks + 0.12 * fine))
    # A fringe: over the forehead locks hang beyond the line they grow from.
    front = ramp(base[:, 2], 0.03, 0.07)
    overhang = (0.003 + 0.010 * front) * (1.2 + locks) * np.exp(-inside / 0.015)
    shaped = base + normal * thick[:, None] + along * overhang[:, None]
    return Hair(shaped, split, roots, strand, np.clip(locks + 0.5 * fine, -1, 1))


def _strand_coordinates(points: Float[np.ndarray, "H 3"]) -> Float[np.ndarray, "H 3"]:
    """Direction from the crown on a circle (so that there is no seam), and a slow third along the strand."""
    away = points - CROWN
    around = np.arctan2(away[:, 0], away[:, 2])
    distance = np.linalg.norm(away, axis=1)
    return np.stack([4 * np.cos(around), 4 * np.sin(around), distance / 0.15], axis=1)


def _border(faces: Int[np.ndarray, "F 3"]) -> Int[np.ndarray, "B 2"]:
    half = np.sort(np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]), axis=1)
    edges, count = np.unique(half, axis=0, return_counts=True)
    return edges[count == 1]


def _split(faces: Int[np.ndarray, "F 3"], count: int) -> tuple[csr_matrix, Int[np.ndarray, "G 3"]]:
    """Split triangles in four, `HALVINGS` times; returns the matrix that makes the new vertices and the new faces."""
    mix = identity(count, format="csr")
    for _ in range(HALVINGS):
        half = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
        edges, row = np.unique(np.sort(half, axis=1), axis=0, return_inverse=True)
        middle = mix.shape[0] + row.reshape(3, -1).T
        mix = vstack([mix, 0.5 * (mix[edges[:, 0]] + mix[edges[:, 1]])], format="csr")
        a, b, c = faces.T
        ab, bc, ca = middle.T
        faces = np.stack([a, ab, ca, ab, b, bc, ca, bc, c, ab, bc, ca], axis=1).reshape(-1, 3)
    used, compact = np.unique(faces, return_inverse=True)
    return mix[used].tocsr(), compact.reshape(-1, 3)
