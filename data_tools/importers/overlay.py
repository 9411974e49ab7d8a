"""Whether the meshes lie on the pictures, and if not, which other reading of the cameras would put them there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float, Int, UInt8

from data_tools.importers.inputs.cameras import READINGS, Camera, Reading
from data_tools.tracking.masks.collar import near
from data_tools.tracking.masks.silhouette import band_between, outline_iou
from flame_nerf.data.overlap import SIDE, cover

CHIN, BROW = 0.44, 0.78
"""Where chin and brow are between the lowest and the highest point of a head with a neck."""
SLAB = 0.03
"""Half height of the slab of vertices whose mean stands for such a level, same unit."""
NEAR = 0.15
"""How far from the mesh the matte is looked at, in heights of the mesh's front view: shoulders and long hair stand
farther out."""
LEAST_SHARE = 0.3
"""Part of the matte above the chin that a head covers at least, however much hair there is."""
SKY = 50.0
"""Distances from brow to chin that reach over the upper end of any picture."""
ENOUGH = 0.6
"""Outline agreement below this is no overlay."""
BETTER, SHARE = 0.03, 0.6
"""Another reading is believed if it agrees better by so much and leaves at most this share of the disagreement."""


@dataclass(frozen=True)
class Judged:
    """One picture that is compared."""

    vertices: Float[np.ndarray, "V 3"]
    camera: Camera
    matte: UInt8[np.ndarray, "H W"]


@dataclass(frozen=True)
class Verdict:
    """How well the cameras fit as they were read."""

    iou: float
    """Median over the judged pictures."""
    each: tuple[float, ...]
    better: Reading | None
    """A reading that fits clearly better."""
    better_iou: float


class OutlineTest:
    """Measures how well a projected head's outline agrees with a matte, from brow to chin."""

    def __init__(self, faces: Int[np.ndarray, "F 3"], canonical: Float[np.ndarray, "V 3"]) -> None:
        self._faces = faces
        height = canonical[:, 1]
        low, high = height.min(), height.max()
        relative = (height - low) / max(high - low, 1e-9)
        self._levels = [np.abs(relative - level) < SLAB for level in (BROW, CHIN)]
        self._levels = [slab if slab.any() else np.abs(relative - level) == np.abs(relative - level).min()
                        for slab, level in zip(self._levels, (BROW, CHIN), strict=True)]  # fmt: skip

    def iou(self, judged: Judged, reading: Callable[[Camera], Camera] = lambda camera: camera) -> float:
        """Intersection over union inside the band; 0 where the head is behind the camera or out of the picture."""
        camera = reading(judged.camera)
        scale = min(1.0, SIDE / max(camera.width, camera.height))
        size = max(1, round(camera.width * scale)), max(1, round(camera.height * scale))
        camera = camera.resized(size)
        pixels = camera.project(judged.vertices.astype(np.float64))
        if not np.isfinite(pixels).all() or np.abs(pixels).max() > 50 * SIDE:
            return 0.0
        extent = np.ptp(pixels, axis=0)
        seen = (pixels.max(axis=0) > 0).all() and (pixels.min(axis=0) < size).all()
        if not seen or extent.max() < 4:
            return 0.0
        inside = ((pixels >= 0) & (pixels < size)).all(axis=1)
        if not inside.any():
            return 0.0
        top, bottom = (
            camera.project(judged.vertices[slab].mean(axis=0, keepdims=True).astype(np.float64))[0]
            for slab in self._levels
        )
        matte = cv2.resize(judged.matte, size, interpolation=cv2.INTER_AREA)
        covered = cover(pixels, self._faces, matte.shape)
        band = band_between(top, bottom, matte.shape)
        band &= near(matte.shape, pixels, NEAR * float(extent.max()))
        # A mesh far too small fits in anywhere; but a head is most of what stands above its own chin.
        above = (matte > 127) & band_between(bottom + SKY * (top - bottom), bottom, matte.shape)
        share = (covered & above).sum() / max(1, above.sum())
        return outline_iou(covered, matte, band) * min(1.0, float(share) / LEAST_SHARE)

    def verdict(self, judged: list[Judged]) -> Verdict:
        """Compare the cameras as they are with all other readings."""
        each = tuple(self.iou(one) for one in judged)
        stated = float(np.median(each))
        best, best_iou = None, stated
        probe = int(np.argsort(each)[len(each) // 2])
        for reading in READINGS:
            # One look first: most readings put the head nowhere, and the right one fits every picture.
            if self.iou(judged[probe], reading.apply) < each[probe]:
                continue
            found = float(np.median([self.iou(one, reading.apply) for one in judged]))
            if found > best_iou:
                best, best_iou = reading, found
        believed = best is not None and best_iou - stated > BETTER and 1 - best_iou < SHARE * (1 - stated)
        return Verdict(stated, each, best if believed and best_iou >= ENOUGH else None, best_iou)
