"""From where the training cameras saw the head: beyond that, view-dependent colour is invented."""

from __future__ import annotations

import math

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from flame_nerf.kernels.availability import cpu_kernels_cover
from flame_nerf.kernels.cpu.threads import run_in_chunks

SLACK = 0.05
"""Radians added to what the cameras span: triangles turn a little against the head, and directions with them."""
ALL_AROUND = 0.5
"""Cameras whose mean direction is shorter than this, for unit directions, surround the head: nothing is outside."""
KEPT = 256
"""Training cameras that say what was filmed, spread over the video."""
FEW = 0.02
"""Share of them near which a view counts as filmed: what one turn of the head showed for a moment, few rays of training
met."""
_LEAST = 4096
"""Points below which a second thread costs more than it brings."""


class ViewCone(nn.Module):
    """The cone of directions in which training cameras saw each point of the canonical head.

    A colour network that knows the viewing direction has learned it inside that cone; outside it tints whole sides of
    the face. There a point is given the colour that it has at the cone's border.
    """

    eye: Float[Tensor, " 3"]

    def __init__(self, c2w: Float[Tensor, "N 3 4"], centre: Float[Tensor, " 3"]):
        """
        Args:
            c2w: training cameras in the head's frame.
            centre: of the head, metres.
        """
        super().__init__()
        towards = centre - c2w[:, :, 3]
        distance = towards.norm(dim=1)
        unit = towards / distance[:, None]
        mean = unit.mean(dim=0)
        axis = torch.nn.functional.normalize(mean, dim=0)
        # Where the cameras' mean stands: a point beside the centre is seen under other angles, by all of them.
        self.register_buffer("eye", centre - axis * distance.mean(), persistent=False)
        farthest = float(torch.acos((unit @ axis).clamp(-1.0, 1.0)).max())
        self.limit = math.pi if float(mean.norm()) < ALL_AROUND else min(farthest + SLACK, math.pi)

    def nearest(self, points: Float[Tensor, "N 3"], directions: Float[Tensor, "N 3"]) -> Float[Tensor, "N 3"]:
        """Unit directions (from the eye on) at canonical points (metres); those outside moved to the border."""
        cosine, sine = math.cos(self.limit), math.sin(self.limit)
        learned = torch.is_grad_enabled() and (points.requires_grad or directions.requires_grad)
        if not learned and cpu_kernels_cover(points, directions, self.eye):
            from flame_nerf.kernels.cpu import view_cone as kernels

            arrays = [values.detach().contiguous().numpy() for values in (points, directions, self.eye)]
            out = torch.empty(points.shape)
            known = np.float32(cosine), np.float32(sine), out.numpy()
            run_in_chunks(lambda begin, end: kernels.nearest(begin, end, *arrays, *known), len(points), _LEAST)
            return out
        axis = torch.nn.functional.normalize(points - self.eye, dim=1)
        along = (directions * axis).sum(dim=1, keepdim=True)
        across = torch.nn.functional.normalize(directions - along * axis, dim=1)
        border = cosine * axis + sine * across
        return torch.where(along < cosine, border, directions)


class FilmedViews(nn.Module):
    """How far a camera stands beside what was filmed: a matter of its nearest neighbours, whatever their shape.

    Attributes:
        towards: unit directions from the head's middle to cameras that filmed it.
        centre: the head's middle, metres.
    """

    towards: Float[Tensor, "K 3"]
    centre: Float[Tensor, " 3"]

    def __init__(self, c2w: Float[Tensor, "N 3 4"], centre: Float[Tensor, " 3"]):
        """
        Args:
            c2w: training cameras in the head's frame.
            centre: of the head, metres.
        """
        super().__init__()
        kept = c2w[:: math.ceil(len(c2w) / KEPT), :, 3]
        centre = centre.to(c2w.device)
        self.register_buffer("centre", centre, persistent=False)
        self.register_buffer("towards", torch.nn.functional.normalize(kept - centre, dim=1), persistent=False)

    def beyond(self, eyes: Float[Tensor, "R 3"], few: float = FEW) -> Float[Tensor, " R"]:
        """Radians, seen from the head's middle, by which eyes in its frame (metres) stand beside what was filmed;
        negative where they do not.

        Args:
            few: share of the cameras near which a view counts as filmed; 0: one of them is enough.
        """
        # On a GPU one would have to wait for the answer.
        one = not eyes.is_cuda and len(eyes) > 0 and bool((eyes == eyes[:1]).all())
        towards = torch.nn.functional.normalize((eyes[:1] if one else eyes) - self.centre, dim=1)
        # A sine's root is exact where cosines of small angles are not.
        apart = 2 * torch.asin((0.5 * torch.cdist(towards, self.towards)).clamp_max(1.0))
        nearest = max(1, math.ceil(few * len(self.towards)))
        return (apart.kthvalue(nearest, dim=1).values - SLACK).expand(len(eyes))
