"""How a film's camera is held: upright, and close to the head."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from flame_nerf.geometry import rotation_between
from flame_nerf.motion import PosedFrame

ROOM = 0.2
"""Around the mesh of the head, as a share of its largest extent: for hair, and so that nothing touches the edge."""
LOOKED_AT = 16
"""Moments of a film, evenly spread, by which it is framed."""
NEAREST = 0.05
"""Metres before the camera from which on a point counts; no head comes nearer."""

Cameras34 = Float[Tensor, "N 3 4"]


def upright(c2w: Cameras34) -> Cameras34:
    """Cameras turned about their optical axes, so that the head's up is the picture's."""
    backward = c2w[:, :, 2]
    up = torch.tensor([0.0, 1.0, 0.0], dtype=c2w.dtype).expand_as(backward)
    right = torch.linalg.cross(up, backward)
    right = right / right.norm(dim=-1, keepdim=True).clamp_min(1e-9)
    return torch.stack([right, torch.linalg.cross(backward, right), backward, c2w[:, :, 3]], dim=-1)


def close_up(
    c2w: Cameras34,
    moments: Sequence[PosedFrame],
    of_head: Bool[Tensor, " V"],
    size: tuple[int, int],
    hold: Callable[[Cameras34], Cameras34],
    carry: Callable[[Cameras34], Cameras34],
) -> tuple[Cameras34, float]:
    """Cameras aimed at the head, all by the same turn, and the focal length at which it fills the picture.

    Args:
        c2w: one camera for all moments, or one for each, in double precision.
        of_head: vertices that shall be seen.
        size: width and height of the picture, pixels.
        hold: what else is asked of how cameras are held, such as `upright`.
        carry: from cameras as they are held to those that see the head, which may move.

    Returns:
        the cameras as they are held, and the focal length in pixels. Nothing of the head that the film shows at
        `LOOKED_AT` of its moments is outside of the picture.
    """
    rows = np.unique(np.linspace(0, len(moments) - 1, LOOKED_AT).round().astype(int)).tolist()
    heads = [moments[row].vertices.detach().cpu().double()[of_head] for row in rows]
    room = ROOM * float((heads[0].amax(dim=0) - heads[0].amin(dim=0)).max())

    def extent(cameras: Cameras34) -> tuple[Float[Tensor, " 2"], Float[Tensor, " 2"]]:
        placed = carry(cameras)
        low, high = [], []
        for row, head in zip(rows, heads, strict=True):
            pose = placed[row if len(placed) > 1 else 0]
            seen = (head - pose[:, 3]) @ pose[:, :3]
            depth = (-seen[:, 2:]).clamp_min(NEAREST)
            low.append(((seen[:, :2] - room) / depth).amin(dim=0))
            high.append(((seen[:, :2] + room) / depth).amax(dim=0))
        return torch.stack(low).amin(dim=0), torch.stack(high).amax(dim=0)

    forward = torch.tensor([0.0, 0.0, -1.0], dtype=torch.float64)
    # Twice: holding the camera turns the picture about its new middle.
    for _ in range(2):
        low, high = extent(c2w)
        middle = torch.cat([(low + high) / 2, forward[2:]])
        turn = rotation_between(forward, middle / middle.norm())
        c2w = hold(torch.cat([c2w[:, :, :3] @ turn, c2w[:, :, 3:]], dim=-1))
    low, high = extent(c2w)
    reach = torch.maximum(low.abs(), high.abs()).clamp_min(1e-3)
    return c2w, float((torch.tensor(size, dtype=torch.float64) / 2 / reach).min())
