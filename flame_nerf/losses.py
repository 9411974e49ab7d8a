"""The terms of the training loss, one function each. All are means over rays and differentiable in the prediction."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor

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


def opacity_entropy_loss(accumulation: Float[Tensor, "R 1"]) -> Float[Tensor, ""]:
    """Mean binary entropy of each ray's opacity, in nats: pulls haze towards either empty or solid."""
    opacity = accumulation.clamp(1e-5, 1 - 1e-5)
    return -(opacity * opacity.log() + (1 - opacity) * (1 - opacity).log()).mean()


def weighted(terms: Mapping[str, Tensor], weights: Mapping[str, float]) -> dict[str, Tensor]:
    """Each term times the weight of its name.

    Raises:
        KeyError: a term without a weight, which would otherwise count in full without anyone having said so.
    """
    missing = terms.keys() - weights.keys()
    if missing:
        raise KeyError(f"loss_coefficients has no weight for {', '.join(sorted(missing))}")
    return {name: term * weights[name] for name, term in terms.items()}
