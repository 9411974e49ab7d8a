"""How the field's two networks lie in a block's workspace: which rows each layer reads and writes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

WIDTH = 4
"""Numbers of rows that layers read and write are multiples of this."""

MAX_LOG_DENSITY = 15.0
"""exp() beyond this is opaque at any step length and only endangers float32."""

# Columns of `Plan.layers`.
FIRST_IN, N_IN, FIRST_OUT, N_OUT = 0, 1, 2, 3
"""Rows that a layer reads and writes, padded."""
WEIGHTS, BIAS = 4, 5
"""Where its weights [out, in] and biases begin in the array of all weights."""
HIDDEN, SHIFT = 6, 7
"""1 where ReLU follows; first column of the frames' shifts of its outputs, or -1."""


def padded(width: int) -> int:
    """The next multiple of WIDTH."""
    return -(-width // WIDTH) * WIDTH


@dataclass(frozen=True)
class Plan:
    """Rows and weights of one architecture."""

    layers: Int[np.ndarray, "layers 8"]
    """The density network's layers, then the colour network's."""
    n_rows: int
    """Rows of the workspace."""
    density_row: int
    """Row of the density network's first output; its others follow."""
    harmonics_row: int
    """First row of the direction's harmonics."""
    color_row: int
    """First row of the colour network's outputs."""
    n_weights: int
    """Length of the array of all weights."""


@lru_cache(maxsize=16)
def make_plan(
    n_features: int, density_widths: tuple[int, ...], n_harmonics: int, color_widths: tuple[int, ...], color_shift: bool
) -> Plan:
    """Lay out two networks.

    Args:
        n_features: of the grid.
        density_widths: outputs of each layer of the density network.
        n_harmonics: of the direction.
        color_widths: outputs of each layer of the colour network.
        color_shift: frames shift the colour network's first layer, too.
    """
    layers: list[list[int]] = []
    row, weight = padded(n_features), 0
    shift = padded(n_features)

    def add(first_in: int, n_in: int, first_out: int, n_out: int, hidden: bool, shifted: bool) -> None:
        nonlocal weight, shift
        bias = weight + n_in * n_out
        layers.append([first_in, n_in, first_out, n_out, weight, bias, int(hidden), shift if shifted else -1])
        weight = bias + n_out
        shift += n_out if shifted else 0

    first_in, n_in = 0, padded(n_features)
    for index, width in enumerate(density_widths):
        hidden = index < len(density_widths) - 1
        add(first_in, n_in, row, padded(width), hidden, index == 0)
        first_in, n_in = row, padded(width)
        row += padded(width)
    density_row = first_in
    harmonics_row = density_row + density_widths[-1]
    first_in, n_in = density_row + 1, padded(density_widths[-1] - 1 + n_harmonics)
    # The colour network reads from an odd row on, and its padding reaches beyond the harmonics.
    row = padded(max(density_row + padded(density_widths[-1]), first_in + n_in))
    for index, width in enumerate(color_widths):
        hidden = index < len(color_widths) - 1
        add(first_in, n_in, row, padded(width), hidden, color_shift and index == 0)
        first_in, n_in = row, padded(width)
        row += padded(width)
    return Plan(np.array(layers, np.int64), row, density_row, harmonics_row, first_in, weight)


def pack_weights(layers: Sequence[nn.Linear]) -> Float[Tensor, " P"]:
    """All weights and biases in one array, each matrix padded with zeros; float32, on the CPU.

    Note:
        Differentiable once.
    """
    return _PackWeights.apply(*(values for layer in layers for values in (layer.weight, layer.bias)))


class _PackWeights(torch.autograd.Function):
    """Copies through numpy: as a dozen differentiable operations of torch it took a fiftieth of a training step."""

    @staticmethod
    def forward(ctx, *parameters: Tensor) -> Float[Tensor, " P"]:
        ctx.shapes = [tuple(values.shape) for values in parameters]
        packed = np.zeros(sum(math.prod(map(padded, shape)) for shape in ctx.shapes), np.float32)
        for place, values in zip(_places(packed, ctx.shapes), parameters, strict=True):
            place[...] = values.detach().numpy()
        return torch.from_numpy(packed)

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient: Float[Tensor, " P"]) -> tuple[Tensor, ...]:
        return tuple(map(torch.from_numpy, _places(gradient.numpy(), ctx.shapes)))


def _places(packed: Float[np.ndarray, " P"], shapes: Sequence[tuple[int, ...]]) -> Iterator[np.ndarray]:
    """Views of an array of all weights: where those of each shape lie."""
    begin = 0
    for shape in shapes:
        wide = tuple(map(padded, shape))
        end = begin + math.prod(wide)
        yield packed[begin:end].reshape(wide)[tuple(map(slice, shape))]
        begin = end


def pack_frames(
    scale: Float[Tensor, "B LF"] | None, shifts: Sequence[Float[Tensor, "B W"]], n_features: int
) -> Float[Tensor, "B K"]:
    """What frames add, side by side and padded: scales of the features, shifts of layers. Differentiable."""
    if scale is None:
        scale = shifts[0].new_ones(len(shifts[0]), n_features)
    return torch.cat([_pad(values, padded(values.shape[1]) - values.shape[1]) for values in (scale, *shifts)], dim=1)


def _pad(values: Tensor, columns: int) -> Tensor:
    """Zeros to the right."""
    return torch.nn.functional.pad(values, (0, columns)) if columns else values
