"""Compositing on the CPU as one autograd function."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

from flame_nerf.kernels.cpu.threads import run_in_chunks

_RAYS_PER_THREAD = 256
"""Rays below which a second thread costs more than it brings."""


def composite(
    sigma: Float[Tensor, " N"],
    rgb: Float[Tensor, "N 3"],
    t_start: Float[Tensor, " N"],
    t_end: Float[Tensor, " N"],
    offsets: Int[Tensor, " R+1"],
    background: Float[Tensor, "R 3"] | Float[Tensor, " 3"],
    most_depth: float,
    tiny: float,
) -> tuple[Float[Tensor, "R 3"], Float[Tensor, " R"], Float[Tensor, " R"], Float[Tensor, " N"]]:
    """Colour, accumulation, depth and weights, as `compositing.render_packed` computes them with torch.

    Note:
        Differentiable once, with respect to `sigma`, `rgb` and `background`.

    Args:
        most_depth: optical depth at which a sample counts as opaque.
        tiny: least accumulation that the depth is divided by.
    """
    return _Composite.apply(sigma, rgb, background, t_start, t_end, offsets, most_depth, tiny)


class _Composite(torch.autograd.Function):
    @staticmethod
    def forward(ctx, sigma, rgb, background, t_start, t_end, offsets, most_depth, tiny):
        from flame_nerf.kernels.cpu import compositing as kernels

        rays = len(offsets) - 1
        inputs = [x.detach().contiguous() for x in (offsets, sigma, rgb, t_start, t_end, background.reshape(-1, 3))]
        out = torch.empty(rays, 3), torch.empty(rays), torch.empty(rays), torch.empty(len(sigma))
        arrays = [x.numpy() for x in inputs], [x.numpy() for x in out]
        run_in_chunks(
            lambda begin, end: kernels.forward(begin, end, *arrays[0], most_depth, tiny, *arrays[1]),
            rays,
            _RAYS_PER_THREAD,
        )
        ctx.save_for_backward(*inputs)
        ctx.limits, ctx.background_shape = (most_depth, tiny), background.shape
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, *gradients):
        from flame_nerf.kernels.cpu import compositing as kernels

        inputs = ctx.saved_tensors
        rays, n = len(inputs[0]) - 1, len(inputs[1])
        out = torch.empty(n), torch.empty(n, 3), torch.empty(rays, 3)
        arrays = [x.numpy() for x in inputs], [x.contiguous().numpy() for x in gradients], [x.numpy() for x in out]
        run_in_chunks(
            lambda begin, end: kernels.backward(begin, end, *arrays[0], *ctx.limits, *arrays[1], *arrays[2]),
            rays,
            _RAYS_PER_THREAD,
        )
        to_background = None
        if ctx.needs_input_grad[2]:
            to_background = out[2] if ctx.background_shape == out[2].shape else out[2].sum(dim=0)
        return out[0], out[1], to_background, None, None, None, None, None
