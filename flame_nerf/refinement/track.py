"""All corrections of a track together: what the model asks for when it renders a stored frame."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from tyro.conf import Fixed

from flame_nerf.canonical.mesh_shift import MeshShift
from flame_nerf.heads import HeadModel
from flame_nerf.heads.eyes import personal_head
from flame_nerf.refinement.expression import ExpressionRefinement, ExpressionRefinementConfig
from flame_nerf.refinement.identity import IdentityRefinement, IdentityRefinementConfig
from flame_nerf.refinement.light import FrameGains
from flame_nerf.refinement.pose import PoseRefinement, PoseRefinementConfig
from flame_nerf.runtime.old_runs import StoredConfig
from flame_nerf.subject import Subject

START_STEP = 800
"""Training step at which corrections of expression and identity begin: before, the image is too blurred to read an
expression or the head's shape from."""


@dataclass
class TrackRefinementConfig(StoredConfig):
    """Corrections of the track that are learned together with the field."""

    pose: PoseRefinementConfig = field(default_factory=PoseRefinementConfig)
    """Head poses."""
    expression: ExpressionRefinementConfig = field(default_factory=ExpressionRefinementConfig)
    """Expressions over time."""
    identity: IdentityRefinementConfig = field(default_factory=IdentityRefinementConfig)
    """The one identity of all frames."""
    light: Fixed[bool] = False
    """Learn a gain of each colour over time, so that a light that drifts is not learned as colour of the skin."""


class TrackRefinement(nn.Module):
    """Corrections of pose, expression, identity and light; each with its parameters, a start step and a penalty."""

    def __init__(
        self,
        config: TrackRefinementConfig,
        subject: Subject,
        head: HeadModel | None,
        train_c2w: Float[Tensor, "N 3 4"],
        train_timesteps: Int[Tensor, " N"],
    ):
        """
        Args:
            config: see there.
            subject: whose track is corrected. Poses that it says were laid against the pictures are only corrected by
                the head's turn where that is asked for.
            head: the model that posed it; without one expressions and identity cannot move the mesh.
            train_c2w: cameras of the training frames, OpenGL axes, head frame.
            train_timesteps: timestep of the track that each shows.

        Raises:
            ValueError: expressions or identity are to be refined and there is no head model.
        """
        super().__init__()
        self.config = config
        track, registered = subject.track, subject.registration is not None
        centre = torch.from_numpy(track.canonical_vertices).mean(dim=0)
        self.pose = PoseRefinement(config.pose, train_c2w, train_timesteps, track.num_timesteps, centre, registered)
        self.gains = FrameGains(train_timesteps, track.num_timesteps) if config.light else None
        self.expression: ExpressionRefinement | None = None
        self.identity: IdentityRefinement | None = None
        if not (config.expression.enabled or config.identity.enabled):
            return
        if head is None:
            raise ValueError(
                "refining expressions or identity needs the head model that posed the subject, and it was not found: "
                "put it into the subject's folder as head_model.npz, or switch --pipeline.model.refinement off"
            )
        faces = torch.from_numpy(track.faces).long()
        if config.expression.enabled:
            rows = [head.expression_names.index(name) for name in track.expression_names]
            own = personal_head(head, torch.from_numpy(track.canonical_vertices).float())
            directions = own.exprdirs[:, :, rows][faces].mean(dim=1)
            expression = torch.from_numpy(track.expression).float()
            self.expression = ExpressionRefinement(config.expression, expression, directions, train_timesteps)
        if config.identity.enabled:
            self.identity = IdentityRefinement(config.identity, head.shapedirs[faces].mean(dim=1))

    @property
    def moves_meshes(self) -> bool:
        """True if corrections move meshes, not cameras alone."""
        return self.expression is not None or self.identity is not None

    def corrected(
        self, timesteps: Int[Tensor, " B"], condition: Float[Tensor, "B C"], step: int | None = None
    ) -> tuple[Float[Tensor, "B C"], MeshShift | None]:
        """Conditions of stored frames after correction, and what the corrections do to their meshes.

        Args:
            timesteps: timesteps of the track.
            condition: their conditions as tracked; the expression comes first in each.
            step: of the training; None: trained.
        """
        posed = canonical = None
        if self.expression is not None and (step is None or step >= START_STEP):
            offsets = self.expression.offsets(timesteps)
            condition = condition + torch.nn.functional.pad(offsets, (0, condition.shape[1] - offsets.shape[1]))
            posed = self.expression.face_shift(offsets)
        if self.identity is not None and (step is None or step >= START_STEP):
            canonical = self.identity.face_shift()
            posed = canonical.expand(len(timesteps), -1, -1) if posed is None else posed + canonical
        return condition, None if posed is None else MeshShift(posed, canonical)

    def gains_of(self, timesteps: Int[Tensor, " B"] | None) -> Float[Tensor, "B 3"] | None:
        """Gains of stored frames; None where there are none. Differentiable."""
        return None if self.gains is None or timesteps is None else self.gains(timesteps)

    def parameters_by_group(self) -> dict[str, list[nn.Parameter]]:
        """Learned parameters by the optimiser they belong to."""
        groups = self.pose.parameters_by_group()
        if self.expression is not None:
            groups["expression_opt"] = [self.expression.spline.knots]
        if self.gains is not None:
            groups["light_opt"] = list(self.gains.parameters())
        if self.identity is not None:
            groups["identity_opt"] = [self.identity.offset]
        return groups

    def penalties(self, step: int) -> dict[str, Callable[[], Float[Tensor, ""]]]:
        """Penalties on the corrections that have begun, by the name of the loss term."""
        penalties: dict[str, Callable[[], Float[Tensor, ""]]] = {}
        late = step >= self.config.pose.over_time_start_step
        if self.pose.over_time is not None and late and self.pose.learns(step):
            penalties["pose_regularizer"] = self.pose.penalty
        if self.gains is not None:
            penalties["light_regularizer"] = self.gains.penalty
        if self.expression is not None and step >= START_STEP:
            penalties["expression_regularizer"] = self.expression.penalty
        if self.identity is not None and step >= START_STEP:
            penalties["identity_regularizer"] = self.identity.penalty
        return penalties
