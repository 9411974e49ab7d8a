"""The pictures of a dataset as bytes in memory, and where in each of them there is something to learn."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from nerfstudio.utils.rich_utils import get_progress
from torch import Tensor

from flame_nerf.data.dataset import FlameNerfDataset
from flame_nerf.data.depth_maps import NEAREST, fill_depth_maps
from flame_nerf.data.face_boxes import feature_boxes, head_box
from flame_nerf.runtime.scratch import scratch_array
from flame_nerf.subject import SubjectError


class ImageCache:
    """All pictures of a dataset as bytes, and where in each of them there is something to learn.

    Filled at the first use, so that evaluation and rendering never read the training pictures. Beyond `memory_limit`
    bytes the pictures lie in a mapped temporary file (`runtime.scratch`): what stays in memory is about 20 kB a
    frame, whatever its size, for the places where its matte is.
    """

    def __init__(self, dataset: FlameNerfDataset, memory_limit: int, head_margin: float):
        self._dataset = dataset
        self._memory_limit = memory_limit
        self._head_margin = head_margin
        self._filled = False
        self._depths: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self._dataset)

    def fill(self) -> ImageCache:
        """Read everything that is not read yet; returns the cache itself."""
        if not self._filled:
            self._fill()
            self._filled = True
        return self

    def depth_prior(
        self, picture: Int[Tensor, "*R"], row: Int[Tensor, "*R"], column: Int[Tensor, "*R"]
    ) -> Float[Tensor, "*R"] | None:
        """Relative depth of pixels in 0..1, larger = nearer, NaN where unknown; None where no frame has a usable map.

        The maps are read at the first call, into memory of their own under the same limit as the pictures.
        """
        if self._depths is None:
            self._depths = self._read_depths()
        if len(self._depths) == 0:
            return None
        values = torch.from_numpy(self._depths[picture.numpy(), row.numpy(), column.numpy()].astype(np.float32))
        return torch.where(values > 0, values / NEAREST, torch.nan)

    def _read_depths(self) -> np.ndarray:
        frames = [self._dataset.frame(index) for index in range(len(self))]
        nothing = np.empty((0, 0, 0), dtype=np.uint16)
        if all(frame.depth_path is None for frame in frames):
            return nothing
        width, height = self._dataset.size()
        depths = scratch_array((len(frames), height, width), np.uint16, self._memory_limit)
        with _readers() as pool:
            usable = fill_depth_maps(depths, self._dataset.subject, frames, pool)
        return depths if usable else nothing

    def _fill(self) -> None:
        subject = self._dataset.subject
        if subject.pictures_left_out:
            raise SubjectError(
                f"{subject.root}: its pictures were left out when the avatar was packed, so there is nothing to learn "
                "from or to compare with. Use the subject that the avatar was trained on."
            )
        count, (width, height) = len(self._dataset), self._dataset.size()
        pictures = scratch_array((count, height, width, 4), np.uint8, self._memory_limit)

        def read(index: int) -> tuple[np.ndarray, np.ndarray]:
            pictures[index] = self._dataset.get_numpy_image(index)
            frame = self._dataset.frame(index)
            whole = head_box(self._dataset.subject, frame, width, height, self._head_margin)
            boxes = np.concatenate([whole[None], feature_boxes(self._dataset.subject, frame, width, height)])
            return _matte_blocks(pictures[index, :, :, 3], self.block), _without_empty(boxes, width, height)

        self.width, self.height = width, height
        self.block = max(1, max(width, height) // 64)
        with _readers() as pool, get_progress("Reading pictures") as bar:
            blocks, boxes = zip(*bar.track(pool.map(read, range(count)), total=count), strict=True)
        self.pictures: UInt8[Tensor, "N H W 4"] = torch.from_numpy(pictures)
        self.boxes: Int[Tensor, "N 4 4"] = torch.from_numpy(np.stack(boxes))
        self.blocks: Int[Tensor, "B 2"] = torch.from_numpy(np.concatenate(blocks))
        counts = torch.tensor([len(part) for part in blocks])
        self.block_count: Int[Tensor, " N"] = counts
        self.block_start: Int[Tensor, " N"] = counts.cumsum(0) - counts


def _readers() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max_workers=os.cpu_count() or 1)


def _matte_blocks(alpha: UInt8[np.ndarray, "H W"], block: int) -> Int[np.ndarray, "B 2"]:
    """Top left corners (row, column) of the square blocks that touch the matte or adjoin one that does."""
    height, width = alpha.shape
    padded = np.pad(alpha, ((0, -height % block), (0, -width % block)))
    touched = padded.reshape(padded.shape[0] // block, block, -1, block).max(axis=(1, 3)) > 0
    grown = cv2.dilate(touched.astype(np.uint8), np.ones((3, 3), np.uint8))
    found = np.argwhere(grown) if grown.any() else np.argwhere(grown == 0)
    return (found * block).astype(np.int16)


def _without_empty(boxes: Int[np.ndarray, "K 4"], width: int, height: int) -> Int[np.ndarray, "K 4"]:
    """Features out of the picture fall back to the head's box, and that to the whole picture."""
    empty = (boxes[:, 2] <= boxes[:, 0]) | (boxes[:, 3] <= boxes[:, 1])
    whole = np.array([0, 0, width, height]) if empty[0] else boxes[0]
    return np.where(empty[:, None], whole, boxes)
