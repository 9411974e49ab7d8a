"""A small head whose every number is known: an ellipsoid with a painted face that opens its mouth, filmed by a camera
that swings around it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import cv2
import numpy as np

from data_tools.ray_casting import MeshRays
from flame_nerf.subject import Frame, HeadTrack, Subject, write_subject

REGIONS = ("skin", "lips", "eyes", "scalp", "neck")
RADII = np.array([0.075, 0.105, 0.085])
MOUTH, EYE_X, EYE_Y = np.array([0.0, -0.045]), 0.03, 0.025
DISTANCE = 0.6


def ellipsoid(rings: int = 24, sectors: int = 32) -> tuple[np.ndarray, np.ndarray]:
    """Vertices [V, 3] and outward triangles [F, 3] of the rest head."""
    latitude = np.linspace(0, np.pi, rings + 1)[1:-1]
    longitude = np.linspace(0, 2 * np.pi, sectors, endpoint=False)
    lat, lon = np.meshgrid(latitude, longitude, indexing="ij")
    ring = np.stack([np.sin(lat) * np.sin(lon), np.cos(lat), np.sin(lat) * np.cos(lon)], axis=-1).reshape(-1, 3)
    vertices = np.concatenate([[[0, 1, 0]], ring, [[0, -1, 0]]]) * RADII
    top, bottom = 0, len(vertices) - 1
    faces = []
    for s in range(sectors):
        t = (s + 1) % sectors
        faces.append((top, 1 + s, 1 + t))
        for r in range(len(latitude) - 1):
            a, b = 1 + r * sectors, 1 + (r + 1) * sectors
            faces += [(a + s, b + s, b + t), (a + s, b + t, a + t)]
        last = 1 + (len(latitude) - 1) * sectors
        faces.append((last + s, bottom, last + t))
    return vertices, np.array(faces, dtype=np.int32)


def opened(vertices: np.ndarray, jaw_open: float) -> np.ndarray:
    """The rest head with its chin dropped by up to 2.5 cm."""
    chin = np.clip((MOUTH[1] - vertices[:, 1]) / 0.04, 0, 1) * (vertices[:, 2] > 1e-6)
    return vertices + jaw_open * chin[:, None] * np.array([0.0, -0.025, -0.004])


def regions(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    x, y, z = vertices[faces].mean(axis=1).T
    region = np.zeros(len(faces), dtype=np.int8)
    region[(np.hypot(x / 1.5, y - MOUTH[1]) < 0.02) & (z > 0)] = 1
    region[(np.hypot(np.abs(x) - EYE_X, y - EYE_Y) < 0.015) & (z > 0)] = 2
    region[(y > 0.06) | (z < 0)] = 3
    region[y < -0.085] = 4
    return region


def paint(points: np.ndarray, jaw_open: float) -> np.ndarray:
    """Colour [N, 3] of rest-head points: stripes, two eyes, and a mouth that darkens as it opens."""
    x, y, z = points.T
    wave = 0.5 + 0.25 * np.sin(70 * x) + 0.25 * np.cos(55 * y)
    colour = np.stack([0.55 + 0.4 * wave, 0.3 + 0.4 * wave, 0.25 + 0.2 * wave], axis=1)
    colour[(y > 0.06) | (z < 0)] = (0.25, 0.15, 0.1)
    front = z > 0
    colour[(np.hypot(np.abs(x) - EYE_X, y - EYE_Y) < 0.013) & front] = (0.1, 0.2, 0.5)
    mouth = (np.hypot(x / 1.7, y - MOUTH[1]) < 0.014) & front
    colour[mouth] = np.array([0.75, 0.2, 0.2]) * (1 - 0.85 * jaw_open)
    return colour


def look_at_origin(yaw: float, pitch: float) -> np.ndarray:
    """Camera-to-world [4, 4] (OpenGL axes) at `DISTANCE` from the origin."""
    backward = np.array([np.sin(yaw) * np.cos(pitch), np.sin(pitch), np.cos(yaw) * np.cos(pitch)])
    right = np.cross([0.0, 1.0, 0.0], backward)
    right /= np.linalg.norm(right)
    c2w = np.eye(4)
    c2w[:3, :3] = np.stack([right, np.cross(backward, right), backward], axis=1)
    c2w[:3, 3] = DISTANCE * backward
    return c2w


def render(posed, rest, faces, c2w, focal, size, jaw_open, supersample=3) -> tuple[np.ndarray, np.ndarray]:
    """Picture [size, size, 3] and coverage [size, size], both 0..1, by ray casting."""
    fine = size * supersample
    pixel = (np.arange(fine) + 0.5) / supersample
    x, y = np.meshgrid(pixel, pixel)
    directions = np.stack([(x - size / 2) / focal, -(y - size / 2) / focal, -np.ones_like(x)], axis=-1)
    directions = directions.reshape(-1, 3) @ c2w[:3, :3].T
    hit = MeshRays(posed, faces).cast(c2w[:3, 3], directions)
    covered = hit.face >= 0
    colour = np.zeros((len(covered), 3))
    points = (rest[faces[hit.face[covered]]] * hit.barycentric[covered, :, None]).sum(axis=1)
    colour[covered] = paint(points, jaw_open)

    def shrink(values: np.ndarray) -> np.ndarray:
        return values.reshape(size, supersample, size, supersample, -1).mean(axis=(1, 3))

    coverage = shrink(covered.astype(float))
    return shrink(colour) / np.maximum(coverage, 1e-6), coverage[..., 0]


def make_subject(root: Path, *, size: int = 72, count: int = 20, moving_head: bool = False) -> Subject:
    """Write a subject of `count` frames of size x size pixels.

    Args:
        moving_head: the camera stands still and the head turns, instead of the other way round.
    """
    rest, faces = ellipsoid()
    focal = 1.7 * size
    phase = np.arange(count) / count
    jaw = 0.5 - 0.5 * np.cos(2 * np.pi * 3 * phase)
    (root / "images").mkdir(parents=True)
    (root / "masks").mkdir()
    frames, vertices = [], []
    for i in range(count):
        c2w = look_at_origin(0.4 * np.sin(2 * np.pi * phase[i]), 0.1 * np.cos(4 * np.pi * phase[i]))
        posed = opened(rest, jaw[i])
        colour, coverage = render(posed, rest, faces, c2w, focal, size, jaw[i])
        backdrop = np.array([0.2, 0.6, 0.3])
        picture = colour * coverage[..., None] + backdrop * (1 - coverage[..., None])
        image, mask = root / "images" / f"{i:05d}.png", root / "masks" / f"{i:05d}.png"
        cv2.imwrite(str(image), np.rint(picture[..., ::-1] * 255).astype(np.uint8))
        cv2.imwrite(str(mask), np.rint(coverage * 255).astype(np.uint8))
        if moving_head:
            fixed = look_at_origin(0.0, 0.0)
            world_from_head = fixed @ np.linalg.inv(c2w)
            posed = posed @ world_from_head[:3, :3].T + world_from_head[:3, 3]
            c2w = fixed
        frames.append(Frame(image, mask, None, c2w, i, "test" if i % 5 == 2 else "train"))
        vertices.append(posed)
    joints = ("root", "neck", "head", "jaw", "left_eye", "right_eye")
    pose = np.zeros((count, len(joints), 3), dtype=np.float32)
    pose[:, joints.index("jaw"), 0] = 0.2 * jaw
    track = HeadTrack(
        faces=faces,
        canonical_vertices=opened(rest, 0.2).astype(np.float32),
        vertices=np.stack(vertices).astype(np.float32),
        expression=np.stack([jaw, 0 * jaw], axis=1).astype(np.float32),
        expression_names=("jawOpen", "mouthSmileLeft"),
        pose=pose,
        joint_names=joints,
        identity=np.zeros(3, dtype=np.float32),
        region=regions(rest, faces),
        region_names=REGIONS,
    )
    subject = Subject(
        root=root, fl_x=focal, fl_y=focal, cx=size / 2, cy=size / 2, width=size, height=size, frames=tuple(frames),
        track=track, source="tests/synthetic.py", licence="Apache-2.0",
    )  # fmt: skip
    write_subject(subject)
    return dataclasses.replace(subject, root=root.absolute())
