"""The whole objective: every term of the loss, its weight, and the step it begins at."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from flame_nerf.runtime.old_runs import StoredConfig


@dataclass
class LossWeights(StoredConfig):
    """Weight of each term, under the name it is logged by; a term of weight 0 is not computed."""

    color_loss: float = 1.0
    """Huber loss of the composited colours, delta 0.1 (patent, claim 7)."""
    coarse_color_loss: float = 0.0
    """Squared error of the first pass's colours (NeRFace)."""
    mask_loss: float = 0.02
    """Rendered opacity against the matte: carves the outline."""
    opacity_entropy_loss: float = 0.0
    """Pulls haze towards either empty or solid."""
    depth_loss: float = 0.0
    """Order of rendered depths against the subject's depth maps, on patches (patent, claim 5)."""
    semantic_loss: float = 0.0
    """Meaning of rendered pictures against the video's frames, by a pretrained encoder (patent, claims 1, 3, 4)."""
    unseen_loss: float = 0.1
    """Opacity and depth of the head's surface, seen from where no training camera looked: new views do not fray."""
    mesh_depth_loss: float = 0.0
    """Rendered depth against the posed mesh's own, metres, on skin (INSTA)."""
    latent_regularizer: float = 5e-4
    """Squared length of the moments' latent codes, where there are any (NeRFace)."""
    pose_regularizer: float = 1.0
    """Size of the head poses' corrections over time."""
    expression_regularizer: float = 0.5
    """Size of the expressions' corrections, squared deviations."""
    identity_regularizer: float = 0.5
    """Size of the identity's correction, squared deviations."""


@dataclass
class LossStarts(StoredConfig):
    """Training step at which a term begins; all others are there from the first step on. Corrections of the track have
    their own start steps."""

    depth_loss: int = 300
    """Before, a ray's depth is that of haze."""
    unseen_loss: int = 300
    """Before, it is not known yet where the head is empty."""
    semantic_loss: int = 1000
    """Before, the picture is too blurred to mean anything."""


Term = Callable[[], Float[Tensor, ""] | None]
"""Computes a term; None where a step has nothing to say about it."""


def is_on(name: str, step: int, weights: LossWeights, starts: LossStarts) -> bool:
    """Whether a term counts at a step.

    Raises:
        AttributeError: a term without a weight, which would otherwise count in full without anyone having said so.
    """
    return getattr(weights, name) != 0.0 and step >= getattr(starts, name, 0)


def objective(
    terms: Mapping[str, Term], step: int, weights: LossWeights, starts: LossStarts
) -> dict[str, Float[Tensor, ""]]:
    """The terms that count at a step, each times its weight, under their names: their sum is what training makes small.

    Raises:
        AttributeError: a term without a weight.
    """
    values = {name: term() for name, term in terms.items() if is_on(name, step, weights, starts)}
    return {name: value * getattr(weights, name) for name, value in values.items() if value is not None}
