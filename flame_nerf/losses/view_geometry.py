"""Coarse views of the head for whole-picture losses: which rays to render, and the picture cut out to match."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from flame_nerf.geometry import axis_angle_to_matrix
from flame_nerf.runtime.to_device import to_device

Window = tuple[float, float, float]
"""A square of a picture: left edge, top edge, side, in pixels."""


def square_window(alpha: UInt8[np.ndarray, "H W"], margin: float = 0.05) -> Window:
    """The square around a matte, grown by `margin` of its side all round, moved and if need be shrunk into the picture.

    Raises:
        ValueError: the matte is empty.
    """
    rows, columns = np.flatnonzero(alpha.max(axis=1) > 127), np.flatnonzero(alpha.max(axis=0) > 127)
    if len(rows) == 0:
        raise ValueError("the matte is empty: there is no head to look at.")
    height, width = alpha.shape
    low, high = np.array([columns[0], rows[0]]), np.array([columns[-1], rows[-1]]) + 1.0
    side = min(float((high - low).max()) * (1 + 2 * margin), width, height)
    corner = np.clip((low + high - side) / 2, 0, np.array([width, height]) - side)
    return float(corner[0]), float(corner[1]), side


def crop_image(
    rgba: UInt8[np.ndarray, "H W 4"], window: Window, size: int, background: tuple[float, float, float]
) -> Float[Tensor, "3 S S"]:
    """A square of a picture on a background, resized to size x size by area, colours in 0..1."""
    pixels = rgba.astype(np.float32) / 255.0
    colour, alpha = pixels[..., :3], pixels[..., 3:]
    composed = colour * alpha + np.array(background, dtype=np.float32) * (1 - alpha)
    left, top, side = window
    # First the square at about its own resolution with sub-pixel edges, then the mean over areas.
    fine = size * max(1, round(side / size))
    scale = side / fine
    into = np.array([[scale, 0, left + 0.5 * scale - 0.5], [0, scale, top + 0.5 * scale - 0.5]])
    square = cv2.warpAffine(
        composed, into, (fine, fine), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, borderMode=cv2.BORDER_REPLICATE
    )
    shrunk = cv2.resize(square, (size, size), interpolation=cv2.INTER_AREA)
    return torch.from_numpy(np.ascontiguousarray(shrunk.transpose(2, 0, 1)))


def window_rays(
    window: Window,
    size: int,
    focal: Float[Tensor, " 2"],
    centre: Float[Tensor, " 2"],
    c2w: Float[Tensor, "3 4"],
    jitter: torch.Generator | bool = False,
) -> tuple[Float[Tensor, "N 3"], Float[Tensor, "N 3"]]:
    """Rays through the middles of size x size cells of a window, row by row: as the picture from `crop_image`.

    Note:
        Differentiable in `c2w`.

    Args:
        focal, centre: of the camera, in the pixels that the window is given in.
        c2w: camera-to-world, OpenGL axes.
        jitter: draw each ray at a random place in its cell instead (True, or the generator to draw from): the mean
            over steps then is the area's mean, as in the picture.

    Returns:
        Origins and unit directions, N = size².
    """
    left, top, side = window
    place = torch.arange(size, device=c2w.device, dtype=c2w.dtype)
    row, column = torch.meshgrid(place, place, indexing="ij")
    cell = torch.stack([column, row], dim=-1).reshape(-1, 2)
    within: Tensor | float
    if jitter is False:
        within = 0.5
    else:
        generator = jitter if isinstance(jitter, torch.Generator) else None
        within = to_device(torch.rand(cell.shape, generator=generator), c2w.device).to(c2w.dtype)
    corner = torch.tensor([left, top], device=centre.device, dtype=centre.dtype) - centre
    corner, focal = to_device(torch.stack([corner, focal]), c2w.device).to(c2w.dtype)
    x, y = ((corner + (cell + within) * (side / size)) / focal).unbind(dim=1)
    directions = torch.nn.functional.normalize(x[:, None] * c2w[:, 0] - y[:, None] * c2w[:, 1] - c2w[:, 2], dim=-1)
    return c2w[:, 3].expand_as(directions), directions


def perturb_camera(
    c2w: Float[Tensor, "3 4"],
    centre: Float[Tensor, " 3"],
    max_angle_deg: float,
    generator: torch.Generator | None = None,
    max_pitch_deg: float | None = None,
) -> Float[Tensor, "3 4"]:
    """The camera carried around the head by a random angle, so that the head's centre stays where it is in the picture.

    Turns about the head's upright axis (y) by up to `max_angle_deg` to either side, and about the camera's own
    horizontal axis by up to `max_pitch_deg`.

    Args:
        c2w: camera-to-world in the head's frame, OpenGL axes.
        centre: middle of the head, metres.
        max_angle_deg: 0 returns the camera as it is.
        max_pitch_deg: by default half of `max_angle_deg`.
    """
    random = to_device(torch.rand(2, generator=generator), c2w.device).to(c2w.dtype) * 2 - 1
    yaw = random[0] * np.radians(max_angle_deg)
    pitch = random[1] * np.radians(0.5 * max_angle_deg if max_pitch_deg is None else max_pitch_deg)
    upright = torch.eye(3, device=c2w.device, dtype=c2w.dtype)[1]
    turn = axis_angle_to_matrix(upright * yaw) @ axis_angle_to_matrix(c2w[:, 0] * pitch)
    return torch.cat([turn @ c2w[:, :3], (centre + turn @ (c2w[:, 3] - centre))[:, None]], dim=1)


def nearest_view(c2w: Float[Tensor, "N 3 4"], centre: Float[Tensor, " 3"], camera: Float[Tensor, "3 4"]) -> int:
    """Number of the camera that stands most nearly where another does, as seen from the head.

    Args:
        c2w: cameras to choose from, in the head's frame.
        centre: middle of the head, metres.
        camera: camera-to-world of the other.
    """
    stands = torch.nn.functional.normalize(torch.cat([c2w, camera[None]])[:, :, 3] - centre, dim=1)
    return int((stands[:-1] @ stands[-1]).argmax())
