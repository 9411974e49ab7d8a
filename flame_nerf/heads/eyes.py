"""Eyes of one person: how far a blink goes until the lids meet, and what `eyeLook…` expressions turn.

A head model's blink is one shape for everybody; how wide the eyes are open is not. So in a subject, and wherever a head
is posed by names, the coefficient 1 of a blink is measured for the person: the lids meet, neither open nor crossed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from flame_nerf.heads.model import HeadModel, LandmarkEmbedding

SIDES = ("Left", "Right")
"""The subject's, as the names of expressions have them."""
BLINKS = tuple(f"eyeBlink{side}" for side in SIDES)
LOOK = "eyeLook"


@dataclass(frozen=True)
class LidMarks:
    """An eye's marks among mediapipe's points, each row of lid marks from the outer to the inner corner."""

    corners: tuple[int, int]
    upper: tuple[int, ...]
    lower: tuple[int, ...]


LIDS = {
    "Left": LidMarks((263, 362), (388, 387, 386, 385, 384), (390, 373, 374, 380, 381)),
    "Right": LidMarks((33, 133), (161, 160, 159, 158, 157), (163, 144, 145, 153, 154)),
}
MIDDLE = slice(1, 4)
"""Of five marks on a lid, those that tell when it meets the other."""
WIDEST = 2.0
"""A blink that has not closed the eye by this coefficient is none."""
_CLOSED, _STILL = 2e-4, 1e-3
"""Metres that a derived blink may miss by at the lids, and that it may move another landmark by, for a unit of cost."""
_FRONT = 0.9
"""Cosine to straight ahead of what belongs to an eyeball's front: the iris and what is around it."""
_ENOUGH = 0.9
"""Share of the eye's opening that a derived blink must be able to close."""


def meeting_coefficient(
    upper: Float[np.ndarray, "K 3"],
    lower: Float[np.ndarray, "K 3"],
    upper_blink: Float[np.ndarray, "K 3"],
    lower_blink: Float[np.ndarray, "K 3"],
) -> float:
    """Coefficient of a blink at which the middle of the upper lid lies on the lower lid, on average.

    Args:
        upper, lower: marks of the lids at rest, from corner to corner, head frame, metres.
        upper_blink, lower_blink: how far each mark moves at a coefficient of 1.

    Returns:
        1 where the blink does not close this eye: it is left as it is.
    """
    middle = MIDDLE if len(upper) == 5 else slice(None)

    def gap(coefficient: float) -> float:
        up, down = upper + coefficient * upper_blink, lower + coefficient * lower_blink
        order = np.argsort(down[:, 0])
        below = np.interp(up[middle, 0], down[order, 0], down[order, 1])
        return float((up[middle, 1] - below).mean())

    low, high = 0.0, WIDEST
    if len(upper) == 0 or gap(low) <= 0 or gap(high) >= 0:
        return 1.0
    for _ in range(24):
        half = 0.5 * (low + high)
        low, high = (half, high) if gap(half) > 0 else (low, half)
    return 0.5 * (low + high)


def blink_units(head: HeadModel, rest: Float[Tensor, "V 3"]) -> dict[str, float]:
    """How much of the head model's own blink closes each eye of a person.

    Args:
        rest: the person's vertices with a neutral face, head frame, metres.

    Returns:
        The head model's coefficient at a person's coefficient of 1, for each of `BLINKS` that the model has.
    """
    units = {}
    for side in SIDES:
        name, rows = f"eyeBlink{side}", _rows(head, side)
        if name in head.expression_names and rows is not None:
            moved = head.landmark_points(head.exprdirs[..., head.expression_names.index(name)]).double().numpy()
            still = head.landmark_points(rest).double().numpy()
            units[name] = meeting_coefficient(*(array[lid] for array in (still, moved) for lid in rows))
    return units


def personal_head(head: HeadModel, rest: Float[Tensor, "V 3"]) -> HeadModel:
    """The head model whose coefficients are a person's: with a blink at 1 this person's lids meet.

    Posed with a subject's stored coefficients it gives the subject's meshes. Heads without named blinks are returned as
    they are.

    Args:
        rest: the person's vertices with a neutral face (a subject's `canonical_vertices`), head frame, metres.
    """
    units = blink_units(head, rest)
    if not units:
        return head
    scale = head.exprdirs.new_ones(head.exprdirs.shape[-1])
    for name, unit in units.items():
        scale[head.expression_names.index(name)] = unit
    return replace(head, exprdirs=head.exprdirs * scale)


def derived_blinks(head: HeadModel, rest: Float[Tensor, "V 3"]) -> dict[str, Float[Tensor, " E"]]:
    """Blinks of a head that has none by name (FLAME), as mixtures of its statistical expressions.

    Of all mixtures that bring this person's lids together, the most plausible one that moves the rest of the face
    least: ridge regression, then scaled so that the lids meet.

    Returns:
        Coefficients by name; empty where the model has blinks of its own, tells of no lids, or cannot close them.
    """
    if head.expression_range != "gaussian" or head.landmarks is None or not head.expression_names:
        return {}
    rows = {side: pair for side in SIDES if (pair := _rows(head, side)) is not None}
    if len(rows) < len(SIDES) or any(name in head.expression_names for name in BLINKS):
        return {}
    still, moved = head.landmark_points(rest).double(), _landmark_directions(head, head.landmarks)
    lids = np.concatenate([rows[side][lid] for side in SIDES for lid in (0, 1)])
    others = np.setdiff1d(np.arange(len(still)), lids)
    quiet = moved[others].flatten(0, 1) / _STILL
    result = {}
    for side in SIDES:
        wanted, by = [], []
        for eye in SIDES:
            upper, lower = rows[eye]
            gap = still[upper, 1] - still[lower, 1]
            wanted.append(-gap if eye == side else torch.zeros_like(gap))
            by.append(moved[upper, 1] - moved[lower, 1])
        change, gaps = torch.cat(by) / _CLOSED, torch.cat(wanted) / _CLOSED
        normal = change.T @ change + quiet.T @ quiet / len(others) + torch.eye(change.shape[1], dtype=change.dtype)
        mixture = torch.linalg.solve(normal, change.T @ gaps)
        closing = moved @ mixture
        upper, lower = rows[side]
        closed = (closing[lower, 1] - closing[upper, 1]).mean() / (still[upper, 1] - still[lower, 1]).mean()
        if closed < _ENOUGH:
            return {}
        arrays = (still[upper], still[lower], closing[upper], closing[lower])
        result[f"eyeBlink{side}"] = (mixture * meeting_coefficient(*(array.numpy() for array in arrays))).float()
    return result


def look_turns(head: HeadModel) -> dict[str, tuple[str, Float[Tensor, "3"]]]:
    """What each `eyeLook…` expression does to an eyeball, as a turn of the eye's joint.

    Returns:
        Joint and its axis-angle turn in radians at a coefficient of 1, by expression; of heads with eye joints.
    """
    turns = {}
    for column, name in enumerate(head.expression_names):
        joint = next((f"{side.lower()}_eye" for side in SIDES if name.endswith(side)), None)
        if not name.startswith(LOOK) or joint not in head.joint_names:
            continue
        row = head.joint_names.index(joint)
        arm = (head.template - head.joint_template[row]).double()
        # An expression may stretch the ball; what is seen of it is its front.
        ball = (head.skinning_weights[:, row] > 0.5) & (arm[:, 2] > _FRONT * arm.norm(dim=1))
        if not ball.any():
            continue
        # The turn that moves the vertices most like the expression does.
        arm = arm[ball]
        inertia = (arm.square().sum(-1)[:, None, None] * torch.eye(3) - arm[:, :, None] * arm[:, None, :]).sum(0)
        moment = torch.linalg.cross(arm, head.exprdirs[ball, :, column].double()).sum(0)
        turns[name] = (joint, torch.linalg.solve(inertia.double(), moment).float())
    return turns


def with_still_balls(head: HeadModel) -> HeadModel:
    """The head whose `eyeLook…` expressions move the lids alone: eyeballs are turned by their joints."""
    columns = [column for column, name in enumerate(head.expression_names) if name in look_turns(head)]
    if not columns:
        return head
    joints = [row for row, name in enumerate(head.joint_names) if name in ("left_eye", "right_eye")]
    balls = head.skinning_weights[:, joints].sum(dim=1) > 0.5
    exprdirs = head.exprdirs.clone()
    exprdirs[balls.nonzero(), :, torch.tensor(columns)] = 0.0
    return replace(head, exprdirs=exprdirs)


def _rows(head: HeadModel, side: str) -> tuple[np.ndarray, np.ndarray] | None:
    """Rows of a head's landmarks on an eye's upper and lower lid, pair by pair; None where it has none."""
    if head.landmarks is None or head.landmarks.names:
        return None
    row = {int(number): at for at, number in enumerate(head.landmarks.index.tolist())}
    pairs = [(u, d) for u, d in zip(LIDS[side].upper, LIDS[side].lower, strict=True) if u in row and d in row]
    if not pairs:
        return None
    upper, lower = (np.array([row[number] for number in lid]) for lid in zip(*pairs, strict=True))
    return upper, lower


def _landmark_directions(head: HeadModel, landmarks: LandmarkEmbedding) -> Float[Tensor, "L 3 E"]:
    corners = head.exprdirs[head.faces[landmarks.face]].double()
    return torch.einsum("lc,lcde->lde", landmarks.barycentric.double(), corners)
