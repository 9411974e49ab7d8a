"""Terms of the loss that render views of their own, beside the batch's rays."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from flame_nerf.data.dataset import FlameNerfDataset
from flame_nerf.losses.semantic import RenderView, SemanticTerm, SemanticTermConfig, ShownFace
from flame_nerf.losses.unseen_views import UnseenViews, UnseenViewsConfig
from flame_nerf.losses.weights import LossWeights, Term
from flame_nerf.subject import Frame, Subject


class ViewTerm(Protocol):
    """Interface of a term on whole views."""

    def wanted(self, step: int) -> bool:
        """True if a step is to have this term."""

    def loss(self, c2w: Float[Tensor, "N 3 4"], render: RenderView) -> Float[Tensor, ""]:
        """The term for one training frame; cameras of all in the head frame, OpenGL axes."""


def view_terms(
    semantic: SemanticTermConfig,
    unseen: UnseenViewsConfig,
    weights: LossWeights,
    subject: Subject,
    frames: tuple[Frame, ...],
    dataset: FlameNerfDataset,
    background: Float[Tensor, " 3"],
    shell: Float[Tensor, " F"] | None,
    open_mouth: Callable[[int], ShownFace | None] | None = None,
    set_surface: Callable[[Tensor, Tensor, Tensor], None] | None = None,
    set_detail: Callable[[Tensor], None] | None = None,
) -> dict[str, ViewTerm]:
    """The terms that have a weight and what they need, by the name they are logged by; of what is missing there is a
    line.

    Args:
        semantic, unseen: of the two terms there are.
        weights: a term of weight 0 is not prepared.
        subject, frames, dataset: what is trained on.
        background: what views are rendered on.
        shell: how far from each triangle there may be substance, metres; None for a renderer that knows no mesh.
        open_mouth: the face of a training frame with its mouth open; None where no face can be posed.
        set_surface: takes the colours of the mesh's vertices [V, 3], whether they are part of the person [V], and what
            stands off them, metres [V].
        set_detail: takes how many eighths of its levels, the finest, a field shall do without around each of them [V].
    """
    terms: dict[str, ViewTerm] = {}
    if weights.unseen_loss != 0.0 and subject.has_masks and shell is not None:
        views = UnseenViews(unseen, subject.track, frames, dataset, shell, open_mouth)
        if set_surface is not None:
            set_surface(views.colours, views.solid, views.standoff)
        if set_detail is not None:
            set_detail(views.left_out)
        terms["unseen_loss"] = views
    if weights.semantic_loss != 0.0:
        term = SemanticTerm(semantic, torch.from_numpy(subject.track.canonical_vertices).mean(dim=0))
        if term.prepare(dataset, tuple(background.tolist()), background.device):
            terms["semantic_loss"] = term
    return terms


def wanted_terms(
    terms: dict[str, ViewTerm], step: int, c2w: Float[Tensor, "N 3 4"], render: RenderView
) -> dict[str, Term]:
    """Those of the terms that a step of the training is to have, ready to be computed."""
    return {name: partial(term.loss, c2w, render) for name, term in terms.items() if term.wanted(step)}
