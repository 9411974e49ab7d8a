"""The head's neighbourhood out of each picture, at any blur."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from data_tools.runs.blocks import blocks_of, run_blocks
from data_tools.runs.pictures import load_grey

LONGEST_SIDE = 384
"""Larger crops are scaled down: bounds time and memory, and leaves a face of some 250 pixels."""
MARGIN = 0.08
"""Room around the points for the fit to move in, as a share of their extent."""


class Crops:
    """Grey crops of T frames, each with the camera that took it."""

    def __init__(
        self,
        pictures: Sequence[Path],
        pixels: Sequence[Float[np.ndarray, "n 2"]],
        focal: float,
        centre: Float[np.ndarray, "2"],
        workers: int = 1,
    ) -> None:
        """
        Args:
            pixels: where points of the head are in each picture.
            focal, centre: intrinsics of the pictures, pixels.

        Raises:
            OSError: a picture is missing or cannot be decoded.
        """
        self._workers = workers
        self.focal = np.full(len(pictures), focal)
        self.centre = np.tile(np.asarray(centre, dtype=np.float64), (len(pictures), 1))
        self._crop: list[UInt8[np.ndarray, "h w"]] = [np.zeros((2, 2), np.uint8)] * len(pictures)
        self._blur: float | None = None
        self._blurred: list[Float[np.ndarray, "h w"]] = []

        def cut(block: range) -> None:
            for row in block:
                self._cut(row, load_grey(pictures[row]), pixels[row])

        run_blocks(blocks_of(len(pictures), workers), cut, workers)

    def _cut(self, row: int, picture: UInt8[np.ndarray, "H W"], pixels: Float[np.ndarray, "n 2"]) -> None:
        size = np.array(picture.shape[::-1])
        low, high = np.zeros(2), size.astype(float)
        if len(pixels):
            low, high = pixels.min(axis=0), pixels.max(axis=0)
        margin = MARGIN * (high - low).max() + 8
        low = np.clip(np.floor(low - margin), 0, size - 2).astype(int)
        high = np.clip(np.ceil(high + margin), low + 2, size).astype(int)
        crop = picture[low[1] : high[1], low[0] : high[0]]
        scale = min(1.0, LONGEST_SIDE / max(crop.shape))
        if scale < 1:
            target = np.maximum(np.round(np.array(crop.shape[::-1]) * scale), 2).astype(int)
            # One scale for both axes keeps one focal length; what rounding cuts off is less than a pixel.
            enlarge = np.array([[scale, 0, 0.5 * scale - 0.5], [0, scale, 0.5 * scale - 0.5]])
            crop = cv2.GaussianBlur(crop, (0, 0), 0.5 * np.sqrt(1 / scale**2 - 1) + 1e-3)
            crop = cv2.warpAffine(crop, enlarge, tuple(map(int, target)), borderMode=cv2.BORDER_REPLICATE)
        self._crop[row] = np.ascontiguousarray(crop)
        self.focal[row] *= scale
        self.centre[row] = (self.centre[row] - low) * scale

    def __len__(self) -> int:
        return len(self._crop)

    def blurred(self, blur: float) -> list[Float[np.ndarray, "h w"]]:
        """The crops after a Gaussian of so many of their pixels, float32, full scale 1. The last blur is kept."""
        if self._blur != blur:
            result = [np.zeros((2, 2), np.float32)] * len(self)

            def soften(block: range) -> None:
                for row in block:
                    result[row] = cv2.GaussianBlur(self._crop[row].astype(np.float32) / 255, (0, 0), blur)

            run_blocks(blocks_of(len(self), self._workers), soften, self._workers)
            self._blur, self._blurred = blur, result
        return self._blurred
