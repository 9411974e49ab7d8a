"""A head model frozen at one subject's identity, so that a new expression is a matter of milliseconds."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float
from nerfstudio.utils.rich_utils import CONSOLE
from torch import Tensor

from flame_nerf.runtime.words import escape

if TYPE_CHECKING:
    from flame_nerf.heads import HeadModel
    from flame_nerf.subject import HeadTrack, Subject

RESIDUAL_FRAMES = 8
"""Frames of the track that the residual is averaged over."""
RESIDUAL_SWEEPS = 5
"""Fixed-point sweeps of the residual; each leaves about as much of the rest as joints turn a vertex, in radians."""
MAX_RESIDUAL = 0.02
"""Root-mean-square metres between track and model above which the model cannot be the one that posed the track."""


def head_of(subject: Subject) -> HeadModel | None:
    """The head model that posed a subject, or None with one line: replay needs none."""
    from flame_nerf.heads import load_head

    try:
        return load_head(subject.head_model_source)
    except (OSError, ValueError) as error:
        CONSOLE.log(f"[yellow]Stored frames only, no new expressions: {escape(error)}")
        return None


class LiveHead:
    """The subject's own head, posed by a head model.

    Its coefficients are the person's (`personal_head`): a blink at 1 closes this person's eyes. A head without blinks
    by name has them derived from its other expressions. Eyeballs are turned by their joints alone: `eyeLook…` is a turn
    of the joint, and moves the lids along.

    The identity is applied once. What the tracked mesh has beyond the model (a refined shape, hair volume, a tracker's
    vertex offsets) is measured on a few frames and added to the template, so that it moves with the skin.
    """

    def __init__(self, head: HeadModel, track: HeadTrack) -> None:
        """
        Args:
            head: the model that posed the track. Axes, units and head frame as the track's.
            track: the subject's track; its identity, a few of its frames and its topology are read.

        Raises:
            ValueError: the model cannot be the one that posed the track (other triangles, other names, far away).
        """
        _check_topology(head, track)
        identity = torch.zeros(head.shapedirs.shape[-1], dtype=head.template.dtype)
        if len(track.identity) > len(identity):
            raise ValueError(
                f"the track has {len(track.identity)} identity coefficients, the head model {head.name!r} only "
                f"{len(identity)}; give the head model that the subject was tracked with"
            )
        identity[: len(track.identity)] = torch.from_numpy(np.asarray(track.identity, dtype=np.float32))
        template, joint_template = head.rest(identity)
        shaped = replace(
            head,
            template=template,
            shapedirs=head.shapedirs[..., :0],
            joint_template=joint_template,
            joint_shapedirs=head.joint_shapedirs[..., :0],
        )
        from flame_nerf.heads.eyes import derived_blinks, look_turns, personal_head, with_still_balls

        rest = torch.from_numpy(np.asarray(track.canonical_vertices, dtype=np.float32))
        shaped = personal_head(shaped, rest)
        self._derived = derived_blinks(shaped, rest)
        # A track that moves eyeballs by expressions means what the model says.
        self._turns = {} if _looks_by_expression(track) else look_turns(head)
        shaped = with_still_balls(shaped) if self._turns else shaped
        self._no_identity = torch.zeros(0, dtype=head.template.dtype)
        self.expression_names: tuple[str, ...] = tuple(head.expression_names)
        self.pose_names: tuple[str, ...] = (*self.expression_names, *self._derived)
        """Expressions that `pose` takes: the model's, then those derived from them."""
        self.joint_names: tuple[str, ...] = tuple(head.joint_names)
        self._head = shaped
        self.turning_point: Float[Tensor, " 3"] = joint_template[head.head_joint].clone()
        """Where the skull turns on the neck, metres, in the head frame."""
        self.residual: Float[Tensor, "V 3"] = self._measure_residual(track)
        """Offsets of the tracked head from the model at rest, metres."""
        rms = float(self.residual.square().sum(-1).mean().sqrt())
        if not rms <= MAX_RESIDUAL:
            raise ValueError(
                f"the head model {head.name!r} lies {1000 * rms:.0f} mm from the tracked mesh (at most "
                f"{1000 * MAX_RESIDUAL:.0f} mm expected); give the head model that the subject was tracked with"
            )

    @property
    def head(self) -> HeadModel:
        """The person's own head as a model without identity: its template is the person, its coefficients theirs."""
        return self._head

    @property
    def derived(self) -> dict[str, Float[Tensor, " E"]]:
        """Mixtures of expressions that stand for the names that `pose_names` has beyond `expression_names`."""
        return dict(self._derived)

    @property
    def turns(self) -> dict[str, tuple[str, Float[Tensor, " 3"]]]:
        """Joint and its axis-angle turn, radians at a coefficient of 1, of expressions that turn eyeballs."""
        return dict(self._turns)

    @torch.no_grad()
    def vertices(self, expression: Float[Tensor, "*T E"], pose: Float[Tensor, "*T J 3"]) -> Float[Tensor, "*T V 3"]:
        """The subject's mesh in the head frame, metres, for the model's own expression and joint order."""
        return self._head.vertices(self._no_identity, expression, pose)

    @torch.no_grad()
    def pose(
        self, expression: Float[Tensor, " N"], pose: Float[Tensor, "J 3"]
    ) -> tuple[Float[Tensor, "V 3"], Float[Tensor, " E"], Float[Tensor, "J 3"]]:
        """One moment by the coefficients that people set.

        Args:
            expression: in the order of `pose_names`.
            pose: axis-angle turn of each joint, radians.

        Returns:
            The mesh, and what a track would have stored of it: expressions in the model's order, and turns of joints.
        """
        count = len(self.expression_names)
        named, turned = expression[:count].clone(), pose.clone()
        for mixture, value in zip(self._derived.values(), expression[count:], strict=True):
            named += value * mixture
        shown = named.clone()
        for name, (joint, turn) in self._turns.items():
            column = self.expression_names.index(name)
            turned[self.joint_names.index(joint)] += named[column] * turn
            shown[column] = 0.0
        return self.vertices(named, turned), shown, turned

    @torch.no_grad()
    def skull_movement(
        self, joints: Float[np.ndarray, "J 3"], rest: Float[np.ndarray, "J 3"]
    ) -> Float[np.ndarray, "4 4"]:
        """Rigid movement of the skull from `rest` to `joints` about a root that stands still."""
        turns = torch.from_numpy(np.stack([joints, rest])).to(self._head.template)
        turned, rested = self._head.placement(self._no_identity, turns).double()
        return (torch.linalg.inv(rested) @ turned).numpy()

    def _measure_residual(self, track: HeadTrack) -> Float[Tensor, "V 3"]:
        """Adds to the template what the stored frames show beyond the model, and returns it.

        Rest offset o with  model(template + o; E_t, pose_t) ≈ stored_t  in the mean over t. The map from template to
        posed mesh is near the identity in the head frame, so o ← o + mean_t(stored_t − posed_t) converges at once.
        """
        rows = np.unique(np.linspace(0, len(track.vertices) - 1, RESIDUAL_FRAMES).round().astype(int))
        expression = _columns(track.expression[rows], track.expression_names, self.expression_names)
        pose = _columns(track.pose[rows].swapaxes(1, 2), track.joint_names, self.joint_names).transpose(-1, -2)
        stored = torch.from_numpy(np.asarray(track.vertices[rows], dtype=np.float32))
        residual = torch.zeros_like(self._head.template)
        for _ in range(RESIDUAL_SWEEPS):
            step = (stored - self.vertices(expression, pose)).mean(0)
            residual = residual + step
            self._head = replace(self._head, template=self._head.template + step)
        return residual


def _looks_by_expression(track: HeadTrack) -> bool:
    columns = [column for column, name in enumerate(track.expression_names) if name.startswith("eyeLook")]
    return bool(np.any(np.asarray(track.expression)[:, columns]))


def _columns(values: np.ndarray, names: tuple[str, ...], wanted: tuple[str, ...]) -> Tensor:
    """Last axis of `values` reordered from `names` to `wanted`; zeros where `names` lacks one."""
    out = np.zeros((*values.shape[:-1], len(wanted)), dtype=np.float32)
    for column, name in enumerate(wanted):
        if name in names:
            out[..., column] = values[..., names.index(name)]
    return torch.from_numpy(out)


def _check_topology(head: HeadModel, track: HeadTrack) -> None:
    if len(head.template) != track.vertices.shape[1] or not np.array_equal(
        head.faces.cpu().numpy().astype(np.int64), np.asarray(track.faces, dtype=np.int64)
    ):
        raise ValueError(
            f"the head model {head.name!r} has {len(head.template)} vertices and {len(head.faces)} faces, the track "
            f"{track.vertices.shape[1]} and {len(track.faces)}, or they are wired differently; give the head model "
            "that the subject was tracked with"
        )
    missing = [name for name in track.expression_names if name not in head.expression_names]
    missing += [name for name in track.joint_names if name not in head.joint_names]
    if missing:
        raise ValueError(
            f"the head model {head.name!r} does not know {', '.join(missing[:5])}"
            f"{' …' if len(missing) > 5 else ''} of the track; give the head model that the subject was tracked with"
        )
