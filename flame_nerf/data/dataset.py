"""The pictures of a subject: read with their mattes, shrunk by area."""

from __future__ import annotations

from typing import ClassVar

import cv2
import numpy as np
import torch
from jaxtyping import UInt8
from nerfstudio.data.datasets.base_dataset import InputDataset

from flame_nerf.data.face_boxes import chin_row, feature_boxes
from flame_nerf.data.foreground import foreground_colours
from flame_nerf.data.stored import read_mask, read_stored
from flame_nerf.subject import Frame, Subject, SubjectError


def read_rgba(frame: Frame, width: int, height: int) -> UInt8[np.ndarray, "H W 4"]:
    """One picture with its matte as alpha (opaque without a matte), shrunk by area to width x height. Along the matte's
    edge it has the person's colours alone (see `data.foreground`).

    Raises:
        SubjectError: naming the file that cannot be decoded.
    """
    matte = read_matte(frame, width, height)
    return np.concatenate([foreground_colours(read_picture(frame, width, height), matte), matte[:, :, None]], axis=2)


def read_picture(frame: Frame, width: int, height: int) -> UInt8[np.ndarray, "H W 3"]:
    """One picture as it was filmed, shrunk by area to width x height.

    Raises:
        SubjectError: naming the file that cannot be decoded.
    """
    colour = read_stored(frame.file_path, cv2.IMREAD_COLOR)
    return _shrink(cv2.cvtColor(colour, cv2.COLOR_BGR2RGB), width, height)


def read_matte(frame: Frame, width: int, height: int) -> UInt8[np.ndarray, "H W"]:
    """The matte of a picture alone (opaque without one), shrunk by area to width x height.

    Raises:
        SubjectError: naming the file that cannot be decoded.
    """
    if frame.mask_path is None:
        return np.full((height, width), 255, dtype=np.uint8)
    return _shrink(read_mask(frame.mask_path), width, height)


def read_plate(subject: Subject, width: int, height: int) -> UInt8[np.ndarray, "H W 3"]:
    """The subject's clean plate, shrunk by area to width x height.

    Raises:
        SubjectError: it cannot be decoded, or has another size than the pictures.
    """
    assert subject.background is not None, "asked for where there is a plate"
    colour = cv2.cvtColor(read_stored(subject.background, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
    if colour.shape[:2] != (subject.height, subject.width):
        raise SubjectError(
            f"{subject.background}: it is {colour.shape[1]}x{colour.shape[0]}, the pictures are "
            f"{subject.width}x{subject.height}. A plate must show what the camera saw, at the same size."
        )
    return _shrink(colour, width, height)


def _shrink(picture: np.ndarray, width: int, height: int) -> np.ndarray:
    if picture.shape[1] == width and picture.shape[0] == height:
        return picture
    return cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)


class FlameNerfDataset(InputDataset):
    """The frames of one split; pictures come composited on the evaluation background, the matte as a soft mask."""

    exclude_batch_keys_from_device: ClassVar[list[str]] = ["image", "mask"]

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
        fx, fy, cx, cy = (float(values[image_idx]) for values in (cameras.fx, cameras.fy, cameras.cx, cameras.cy))
        return fx, fy, cx, cy

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
