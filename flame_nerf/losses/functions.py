"""The terms of the training loss, one function each. All are means (over rays, pixel pairs or pictures) and
differentiable in the prediction."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import normalize, softplus

HUBER_DELTA = 0.1
"""Colour error at which the loss turns from square to linear (patent CN117115331B, claim 7)."""


def color_loss(
    predicted: Float[Tensor, "R 3"],
    target: Float[Tensor, "R 3"],
    delta: float = HUBER_DELTA,
    weight: Float[Tensor, "R 1"] | None = None,
) -> Float[Tensor, ""]:
    """Huber loss of composited colours in 0..1, mean over channels and rays.

    Args:
        weight: relative weight of each ray; the mean stays a weighted mean.
    """
    error = torch.nn.functional.huber_loss(predicted, target, reduction="none", delta=delta)
    if weight is None:
        return error.mean()
    return (error * weight).sum() / (3 * weight.sum()).clamp_min(1e-12)


def mask_loss(accumulation: Float[Tensor, "R 1"], matte: Float[Tensor, "R 1"]) -> Float[Tensor, ""]:
    """Mean absolute difference of rendered opacity and soft matte: robust where the matte is cut wrongly."""
    return (accumulation - matte).abs().mean()


def latent_loss(codes: Float[Tensor, "T D"]) -> Float[Tensor, ""]:
    """Mean squared length of the moments' latent codes (NeRFace, 5e-4 of it): what they need not say, they don't."""
    return codes.square().sum(dim=-1).mean()


def opacity_entropy_loss(accumulation: Float[Tensor, "R 1"]) -> Float[Tensor, ""]:
    """Mean binary entropy of each ray's opacity, in nats: pulls haze towards either empty or solid."""
    opacity = accumulation.clamp(1e-5, 1 - 1e-5)
    return -(opacity * opacity.log() + (1 - opacity) * (1 - opacity).log()).mean()


class DepthPairs(NamedTuple):
    """Pairs of pixels of one patch each, by their places in the flattened patch."""

    first: Int[Tensor, "P N"]
    second: Int[Tensor, "P N"]


def draw_depth_pairs(
    patches: int,
    size: int,
    count: int,
    window: int | None = None,
    generator: torch.Generator | None = None,
    device: torch.device | str = "cpu",
) -> DepthPairs:
    """Random pixel pairs inside patches: half of them neighbours, half anywhere in a window around the first.

    Args:
        patches: P, how many patches.
        size: K, pixels along a patch's side, at least 2.
        count: N, pairs of each patch.
        window: how many pixels apart the second half's pairs may be, in each direction; None: anywhere in the patch.
        generator: source of the random numbers, on any device.
        device: where the result goes.
    """
    reach = size - 1 if window is None else min(window, size - 1)
    options: dict[str, Any] = {"generator": generator, "device": device if generator is None else generator.device}
    row, column = torch.randint(size, (2, patches, count), **options)
    offset = torch.randint(-reach, reach + 1, (2, patches, count), **options)
    near = count // 2
    downwards = torch.randint(2, (patches, near), **options)
    offset[0, :, :near], offset[1, :, :near] = downwards, 1 - downwards
    # What would leave the patch is mirrored back into it, so that a neighbour never becomes the pixel itself.
    other_row, other_column = _mirrored(row + offset[0], size), _mirrored(column + offset[1], size)
    return DepthPairs((row * size + column).to(device), (other_row * size + other_column).to(device))


def _mirrored(place: Int[Tensor, "..."], size: int) -> Int[Tensor, "..."]:
    last = size - 1
    return last - (last - place.abs()).abs()


def depth_ranking_loss(
    depth: Float[Tensor, "P K K"],
    prior: Float[Tensor, "P K K"],
    pairs: DepthPairs,
    weight: Float[Tensor, "P K K"] | None = None,
    *,
    tau: float = 0.003,
    equal_threshold: float = 0.003,
) -> Float[Tensor, ""]:
    """Violation of the prior's order by rendered depth (patent CN117115331B, claim 5).

    For each pair (i, j): log(1 + exp(-r (d_i - d_j) / τ)) with r = 1 where the prior says that i is farther than j and
    r = -1 where it says nearer; ((d_i - d_j) / τ)² where it says that they are equally far (r = 0). The patent leaves
    the unit of depth in the square open; τ makes both cases count alike.

    Only the prior's order counts, so any growing function of it gives the same loss at `equal_threshold` 0.

    Note:
        Differentiable in `depth`. A patch whose prior is constant says nothing and counts for nothing.

    Args:
        depth: rendered depth, metres, LARGER = FARTHER.
        prior: relative depth, LARGER = NEARER; pixels that are not finite count for nothing.
        pairs: as `draw_depth_pairs` draws them.
        weight: how much each pixel counts; a pair counts with the product of its two. Zero on background and, where
            the prior is the mesh's depth, on hair and cloth.
        tau: metres that a pair in right order must be apart to be left in peace.
        equal_threshold: difference of the prior below which two pixels are equally far.
    """
    apart, order, pair_weight = _compare(depth, prior, pairs, weight, equal_threshold)
    ordered = softplus(-order * apart / tau)
    equal = (apart / tau).square()
    return _mean(torch.where(order == 0, equal, ordered), pair_weight)


def depth_hinge_loss(
    depth: Float[Tensor, "P K K"],
    prior: Float[Tensor, "P K K"],
    pairs: DepthPairs,
    weight: Float[Tensor, "P K K"] | None = None,
    *,
    head_size: float = 0.2,
    margin: float = 0.002,
    equal_threshold: float = 0.003,
) -> Float[Tensor, ""]:
    """Hinge form of the ranking (SparseNeRF, equation 7): max(d_near - d_far + m, 0), zero for equally far pairs.

    Note:
        Differentiable in `depth`.

    Args:
        depth: rendered depth, metres, LARGER = FARTHER.
        prior: relative depth, LARGER = NEARER; pixels that are not finite count for nothing.
        pairs: as `draw_depth_pairs` draws them.
        weight: how much each pixel counts, as for `depth_ranking_loss`.
        head_size: metres that count as 1, so that the loss does not depend on the unit.
        margin: m, as a fraction of the head's size.
        equal_threshold: difference of the prior below which two pixels are equally far.
    """
    apart, order, pair_weight = _compare(depth, prior, pairs, weight, equal_threshold)
    return _mean((margin - order * apart / head_size).clamp_min(0.0), pair_weight * (order != 0))


def depth_smoothness_loss(
    depth: Float[Tensor, "P K K"],
    image: Float[Tensor, "P K K 3"],
    weight: Float[Tensor, "P K K"] | None = None,
    *,
    head_size: float = 0.2,
    edge_sensitivity: float = 10.0,
) -> Float[Tensor, ""]:
    """Edge-aware smoothness, |∇d| exp(-s |∇I|): depth may jump only where the picture does. Needs no prior.

    Note:
        Differentiable in `depth`.

    Args:
        depth: rendered depth, metres.
        image: the picture's colours in 0..1.
        weight: how much each pixel counts; a step counts with the product of its two pixels'.
        head_size: metres that count as 1.
        edge_sensitivity: s; at 10 a step of a tenth of the colours' range lets depth jump at a third of the price.
    """
    weight = torch.ones_like(depth) if weight is None else weight
    total, amount = depth.new_zeros(()), depth.new_zeros(())
    for axis in (1, 2):
        step = depth.diff(dim=axis).abs() / head_size
        edge = image.diff(dim=axis).abs().mean(dim=-1)
        length = depth.shape[axis]
        both = weight.narrow(axis, 0, length - 1) * weight.narrow(axis, 1, length - 1)
        total = total + (both * step * torch.exp(-edge_sensitivity * edge)).sum()
        amount = amount + both.sum()
    return total / amount.clamp_min(1e-12)


def _compare(
    depth: Float[Tensor, "P K K"],
    prior: Float[Tensor, "P K K"],
    pairs: DepthPairs,
    weight: Float[Tensor, "P K K"] | None,
    equal_threshold: float,
) -> tuple[Float[Tensor, "P N"], Float[Tensor, "P N"], Float[Tensor, "P N"]]:
    """Of each pair: d_i - d_j, the sign it should have (0: equally far) and how much the pair counts."""
    known = prior.isfinite()
    counted = known.to(depth.dtype) if weight is None else weight * known
    counted = counted * _varied(prior, counted > 0)[:, None, None]
    depth, prior, counted = (values.flatten(1) for values in (depth, prior.nan_to_num(0.0, 0.0, 0.0), counted))
    apart = depth.gather(1, pairs.first) - depth.gather(1, pairs.second)
    nearer = prior.gather(1, pairs.second) - prior.gather(1, pairs.first)
    order = torch.where(nearer.abs() > equal_threshold, nearer.sign(), torch.zeros_like(nearer)).to(depth.dtype)
    different = pairs.first != pairs.second
    return apart, order, counted.gather(1, pairs.first) * counted.gather(1, pairs.second) * different


def _varied(prior: Float[Tensor, "P K K"], counted: Bool[Tensor, "P K K"]) -> Bool[Tensor, " P"]:
    """Patches in which the prior takes more than one value."""
    lowest = prior.where(counted, torch.inf).flatten(1).amin(dim=1)
    highest = prior.where(counted, -torch.inf).flatten(1).amax(dim=1)
    return highest > lowest


def _mean(values: Float[Tensor, "..."], weight: Float[Tensor, "..."]) -> Float[Tensor, ""]:
    """Weighted mean; 0 where nothing counts."""
    return (values * weight).sum() / weight.sum().clamp_min(1e-12)


def semantic_vector(code: Float[Tensor, "B D"], pose: Float[Tensor, "B Q"], gamma: float) -> Float[Tensor, "B D+Q"]:
    """Embedding of an image joined with the head's pose in it: normalise([φ, γ P]) (claims 3 and 4).

    Args:
        code: φ, the encoder's code of the picture; made unit length here.
        pose: P, the head's pose as the camera sees it.
        gamma: how much the pose counts beside the code.
    """
    return normalize(torch.cat([normalize(code, dim=-1), gamma * pose], dim=-1), dim=-1)


def semantic_loss(
    code_render: Float[Tensor, "B D"],
    pose_render: Float[Tensor, "B Q"],
    code_target: Float[Tensor, "B D"],
    pose_target: Float[Tensor, "B Q"],
    gamma: float = 0.1,
) -> Float[Tensor, ""]:
    """One minus the cosine of rendered and prior vector, mean over pictures: 0 for the same meaning and pose.

    The patent (claim 14) prints the product itself; as something to make small it is one minus it.

    Note:
        Differentiable in all four tensors.

    Args:
        code_render: the encoder's code of the rendered picture.
        pose_render: the head's pose in it, radians.
        code_target: the code of the frame's picture.
        pose_target: the head's pose there.
        gamma: how much pose counts; 0 leaves it out.
    """
    rendered, target = (
        semantic_vector(code, pose, gamma) for code, pose in ((code_render, pose_render), (code_target, pose_target))
    )
    return (1.0 - (rendered * target).sum(dim=-1)).mean()
