"""The whole objective: every term of the loss, its weight, and the step it begins at."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor
from tyro.conf import Fixed

from flame_nerf.runtime.old_runs import StoredConfig


@dataclass
class LossWeights(StoredConfig):
    """Weight of each term, under the name it is logged by; a term of weight 0 is not computed. A larger weight serves
    its term at the expense of the others, and only ratios count."""

    color_loss: Fixed[float] = 1.0
    """Huber loss of the composited colours, delta 0.1 (patent, claim 7). The unit of all other weights."""
    coarse_color_loss: Fixed[float] = 0.0
    """Squared error of the first pass's colours (NeRFace)."""
    mask_loss: float = 0.02
    """Rendered opacity against the matte. Larger gives a cleaner outline, and copies the matte's own errors along
    hair."""
    opacity_entropy_loss: float = 0.0
    """Entropy of the rendered opacity. Larger leaves less semi-transparent density; too large, it eats soft hair."""
    depth_loss: float = 0.0
    """Order of rendered depths against the subject's depth maps, on patches (patent, claim 5). Larger shapes the
    surface more like them, at the expense of sharp colours; any weight adds patches, which make those steps longer."""
    semantic_loss: float = 0.0
    """Embedding of rendered images against that of the video's frames, by a pretrained encoder (patent, claims 1, 3,
    4). Larger changes unobserved views and expressions more and may blur the front; any weight costs the encoder's
    time."""
    unseen_loss: float = 0.1
    """Opacity and depth of the head's surface from where no training camera looked. Larger closes sides and outlines
    more firmly, at the expense of detail that stands off the mesh."""
    mesh_depth_loss: Fixed[float] = 0.0
    """Rendered depth against the posed mesh's own, metres, on skin (INSTA)."""
    normal_loss: Fixed[float] = 0.0
    """Angles between the moved mesh's triangles and the tracked one's, 1 - cosine, on skin (NHA)."""
    laplacian_loss: Fixed[float] = 0.0
    """Roughness of the mesh's offsets, squared Laplacian in lengths of an edge (NHA)."""
    latent_regularizer: float = 5e-4
    """Squared length of the latent codes, if there are any (NeRFace). Larger leaves less to the codes, so that
    held-out frames, which have none of their own, look more like training frames."""
    pose_regularizer: float = 1.0
    """Size of the corrections of the head pose over time. Larger keeps poses closer to the track."""
    expression_regularizer: float = 0.5
    """Size of the corrections of the expression, squared deviations. Larger keeps expressions closer to the track."""
    identity_regularizer: float = 0.5
    """Size of the correction of the identity, squared deviations. Larger keeps the head's shape closer to the track."""
    light_regularizer: Fixed[float] = 1.0
    """Size and speed of the frames' gains, squared logarithms."""


@dataclass
class LossStarts(StoredConfig):
    """Training step at which a term begins; all others are there from the first step on. Corrections of the track have
    their own start steps."""

    depth_loss: Fixed[int] = 300
    """Before, a ray has no surface yet, so its depth means nothing."""
    unseen_loss: Fixed[int] = 300
    """Before, it is not known yet where the head is empty."""
    semantic_loss: Fixed[int] = 1000
    """Before, the image is too blurred to mean anything."""


Term = Callable[[], Float[Tensor, ""] | None]
"""Computes a term; None where a step has nothing to say about it."""


def is_on(name: str, step: int, weights: LossWeights, starts: LossStarts) -> bool:
    """True if a term counts at a step.

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
