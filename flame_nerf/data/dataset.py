"""The pictures of a subject: read with their mattes, shrunk by area, kept as bytes."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from nerfstudio.data.datasets.base_dataset import InputDataset
from nerfstudio.utils.rich_utils import get_progress
from torch import Tensor

from flame_nerf.data.depth_maps import NEAREST, fill_depth_maps
from flame_nerf.data.face_boxes import chin_row, feature_boxes, head_box
from flame_nerf.runtime.scratch import scratch_array
from flame_nerf.subject import Frame, Subject, SubjectError


def read_rgba(frame: Frame, width: int, height: int) -> UInt8[np.ndarray, "H W 4"]:
    """One picture with its matte as alpha (opaque without a matte), shrunk by area to width x height.

    Raises:
        SubjectError: naming the file that cannot be decoded.
    """
    colour = _decode(frame.file_path, cv2.IMREAD_COLOR)
    colour = _shrink(cv2.cvtColor(colour, cv2.COLOR_BGR2RGB), width, height)
    return np.concatenate([colour, read_matte(frame, width, height)[:, :, None]], axis=2)


def read_matte(frame: Frame, width: int, height: int) -> UInt8[np.ndarray, "H W"]:
    """The matte of a picture alone (opaque without one), shrunk by area to width x height.

    Raises:
        SubjectError: naming the file that cannot be decoded.
    """
    if frame.mask_path is None:
        return np.full((height, width), 255, dtype=np.uint8)
    return _shrink(_decode(frame.mask_path, cv2.IMREAD_GRAYSCALE), width, height)


def read_plate(subject: Subject, width: int, height: int) -> UInt8[np.ndarray, "H W 3"]:
    """The subject's clean plate, shrunk by area to width x height.

    Raises:
        SubjectError: it cannot be decoded, or has another size than the pictures.
    """
    colour = cv2.cvtColor(_decode(subject.background, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
    if colour.shape[:2] != (subject.height, subject.width):
        raise SubjectError(
            f"{subject.background}: it is {colour.shape[1]}x{colour.shape[0]}, the pictures are "
            f"{subject.width}x{subject.height}. A plate must show what the camera saw, at the same size."
        )
    return _shrink(colour, width, height)


def _decode(path: Path, mode: int) -> np.ndarray:
    try:
        picture = cv2.imdecode(np.fromfile(path, dtype=np.uint8), mode)
    except (OSError, cv2.error) as error:
        raise SubjectError(
            f"{path}: cannot be read ({error}). Put the picture back, or track the video again."
        ) from error
    if picture is None:
        raise SubjectError(f"{path}: no readable picture (cut short?). Write it again, or track the video again.")
    return picture


def _shrink(picture: np.ndarray, width: int, height: int) -> np.ndarray:
    if picture.shape[1] == width and picture.shape[0] == height:
        return picture
    return cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)


class FlameNerfDataset(InputDataset):
    """The frames of one split; pictures come composited on the evaluation background, the matte as a soft mask."""

    exclude_batch_keys_from_device = ["image", "mask"]

    @property
    def subject(self) -> Subject:
        return self.metadata["subject"]

    def size(self) -> tuple[int, int]:
        """Width and height of every picture here."""
        return int(self.cameras.width[0]), int(self.cameras.height[0])

    def frame(self, image_idx: int) -> Frame:
        """The subject's frame behind a picture of this split."""
        return self.metadata["frames"][image_idx]

    def is_left_out(self, image_idx: int) -> bool:
        """Whether the subject came without this picture, as a packed avatar's does."""
        return self.subject.pictures_left_out and not self.frame(image_idx).file_path.exists()

    def get_numpy_image(self, image_idx: int) -> UInt8[np.ndarray, "H W 4"]:
        if self.is_left_out(image_idx):
            # Nobody in it: the background alone.
            return np.zeros((*self.size()[::-1], 4), dtype=np.uint8)
        return read_rgba(self.frame(image_idx), *self.size())

    def matte(self, image_idx: int) -> UInt8[np.ndarray, "H W"]:
        """How much of each pixel is the person, 0 to 255."""
        if self.is_left_out(image_idx):
            return np.zeros(self.size()[::-1], dtype=np.uint8)
        return read_matte(self.frame(image_idx), *self.size())

    def intrinsics(self, image_idx: int) -> tuple[float, float, float, float]:
        """fl_x, fl_y, cx, cy of a picture at the size it has here, pixels."""
        cameras = self.cameras
        return tuple(float(values[image_idx]) for values in (cameras.fx, cameras.fy, cameras.cx, cameras.cy))

    def get_data(self, image_idx: int, image_type: str = "float32") -> dict:
        """One picture as Nerfstudio's dataloaders hand it out.

        Returns:
            image [H, W, 3] on the evaluation background, mask [H, W, 1] in 0..1, the boxes [3, 4] of the features and
            the row below the chin.
        """
        rgba = torch.from_numpy(self.get_numpy_image(image_idx).astype(np.float32) / 255.0)
        alpha = rgba[..., 3:]
        plate = self.metadata["plate"]
        behind = self._dataparser_outputs.alpha_color if plate is None else plate
        image = rgba[..., :3] * alpha + behind * (1.0 - alpha)
        if image_type == "uint8":
            image = (image * 255.0).round().to(torch.uint8)
        frame, (width, height) = self.frame(image_idx), self.size()
        return {
            "image_idx": image_idx,
            "image": image,
            "mask": alpha,
            "boxes": torch.from_numpy(feature_boxes(self.subject, frame, width, height)),
            "chin_row": chin_row(self.subject, frame, height),
        }


class PictureCache:
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

    def fill(self) -> PictureCache:
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
