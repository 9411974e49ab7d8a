"""The person cut out from behind: a soft matte from a segmentation of the head's surroundings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8

from data_tools.runs.pictures import load_picture, save_picture
from data_tools.tracking.observe.landmarks import solutions

REGION = 2.5
"""Side of the segmented square, in widths of the face's points: on the whole picture the matte leaks into the
background, on a tighter one it loses the body."""
DROP = 0.1
"""How far the square's centre lies below the face's, in the same unit."""
PIXELS = 256
"""Side of the segmentation network's input."""
UNSURE = 0.3
"""Nobody is where the network is less sure than this, and somebody where it is as sure of that. What it half believes
of a bright window beside the neck would be learned as smoke in the air."""


def find_mattes(
    pictures: Sequence[Path],
    targets: Sequence[Path],
    centre: Float[np.ndarray, "T 2"],
    size: Float[np.ndarray, " T"],
    frames: Sequence[int],
    whole: bool,
    on_frame: Callable[[], None] = lambda: None,
) -> None:
    """Write the person's matte of a run of pictures, 8 bit, 255 = person. Mattes that are there are left alone.

    Args:
        pictures, targets: all pictures of the video and where their mattes go.
        centre, size: steady centre and width of the face in pixels: a square that jumps makes the edge flicker.
        frames: which to cut out.
        whole: cut out the body beyond the square too, more coarsely.
    """
    model = solutions().selfie_segmentation.SelfieSegmentation
    with model(model_selection=0) as square, model(model_selection=1) as wide:
        for index in frames:
            if not targets[index].exists():
                picture = load_picture(pictures[index])
                save_picture(targets[index], _matte_of((square, wide), picture, centre[index], size[index], whole))
            on_frame()


def _matte_of(
    networks: tuple, picture: UInt8[np.ndarray, "H W 3"], centre: Float[np.ndarray, "2"], size: float, whole: bool
) -> UInt8[np.ndarray, "H W"]:
    import cv2

    height, width = picture.shape[:2]
    scale = PIXELS / (REGION * size)
    corner = centre + np.array([0.0, DROP * size]) - REGION * size / 2
    offset = scale * (0.5 - corner) - 0.5
    to_square = np.array([[scale, 0.0, offset[0]], [0.0, scale, offset[1]]])
    if scale < 0.5:
        # Prevents the network from seeing the aliasing of a plain warp.
        picture = cv2.GaussianBlur(picture, (0, 0), 0.4 / scale)
    square = cv2.warpAffine(picture, to_square, (PIXELS, PIXELS), borderMode=cv2.BORDER_REPLICATE)
    # Two networks seldom take the same piece of background along.
    person = sum(network.process(square).segmentation_mask for network in networks) / len(networks)
    back = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    soft = cv2.warpAffine(person, to_square, (width, height), flags=back)
    if whole:
        trust = cv2.warpAffine(_trust(), to_square, (width, height), flags=back)
        small = cv2.resize(picture, (PIXELS, PIXELS), interpolation=cv2.INTER_AREA)
        coarse = cv2.resize(networks[0].process(small).segmentation_mask, (width, height))
        soft = soft * trust + coarse * (1 - trust)
    return (decided(soft) * 255 + 0.5).astype(np.uint8)


def decided(belief: Float[np.ndarray, "H W"]) -> Float[np.ndarray, "H W"]:
    """A matte from how sure the network is of a person, both 0 to 1. The outline stays where it is, and soft."""
    return np.clip((belief - UNSURE) / (1 - 2 * UNSURE), 0.0, 1.0)


def _trust() -> Float[np.ndarray, "S S"]:
    """1 inside the square, falling to 0 at its border, so that the fine and the coarse matte meet without a seam."""
    inward = np.minimum(np.arange(PIXELS), np.arange(PIXELS)[::-1]) / (PIXELS / 8)
    edge = np.clip(inward, 0.0, 1.0).astype(np.float32)
    return np.minimum(edge[:, None], edge[None, :])
