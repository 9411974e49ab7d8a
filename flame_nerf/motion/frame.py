"""One moment of a head: the posed mesh and the condition the field is given with it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import overload

import torch
from jaxtyping import Float
from torch import Tensor

EYE_JOINTS = ("left_eye", "right_eye")
CONDITION_JOINTS = ("jaw", *EYE_JOINTS)
"""Joints whose rotation changes the look of the face beyond moving the mesh; those a head lacks are left out."""


@dataclass(frozen=True, eq=False)
class PosedFrame:
    """One moment of a head. Compared by identity, so that a model can keep what it derived from the last one."""

    vertices: Float[Tensor, "V 3"]
    """Posed mesh in the head frame, metres."""
    condition: Float[Tensor, " C"]
    """Expression coefficients followed by the axis-angle rotations of `CONDITION_JOINTS`; zeros are neutral."""
    movement: Float[Tensor, "4 4"] | None = None
    """Rigid movement of the whole head that `vertices` have made from where it rests, on the CPU; None: it rests."""

    def to(self, device: torch.device | str) -> PosedFrame:
        """The same moment with its tensors on `device`; itself when they are there already."""
        device = torch.device(device)
        if self.vertices.device == device and self.condition.device == device:
            return self
        return replace(self, vertices=self.vertices.to(device), condition=self.condition.to(device))


class Moments(Sequence[PosedFrame]):
    """Moments that are posed when they are asked for: those of a long performance need not lie in memory at once."""

    def __init__(self, count: int, at: Callable[[int], PosedFrame]) -> None:
        self._rows: Sequence[int] = range(count)
        self._at = at

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, index: int) -> PosedFrame: ...

    @overload
    def __getitem__(self, index: slice) -> Moments: ...

    def __getitem__(self, index: int | slice) -> PosedFrame | Moments:
        if isinstance(index, slice):
            return self.picked(range(len(self))[index])
        return self._at(self._rows[index])

    def picked(self, rows: Sequence[int]) -> Moments:
        """Those of the given rows alone."""
        return Moments(len(rows), lambda index: self[rows[index]])


def condition_vector(
    expression: Float[Tensor, "*T E"], pose: Float[Tensor, "*T J 3"], joint_names: Sequence[str]
) -> Float[Tensor, "*T C"]:
    """Condition of the field: expression, then jaw and eye rotations.

    Args:
        expression: coefficients; zeros are neutral.
        pose: axis-angle rotation of each joint, radians.
        joint_names: name of each row of `pose`.

    Returns:
        `[*T, E + 3·k]`, k the number of `CONDITION_JOINTS` among `joint_names`. Differentiable.
    """
    parts = [expression]
    parts += [pose[..., joint_names.index(name), :] for name in CONDITION_JOINTS if name in joint_names]
    return torch.cat(parts, dim=-1)


def condition_names(expression_names: Sequence[str], joint_names: Sequence[str]) -> tuple[str, ...]:
    """Name of each entry of `condition_vector`'s result, as `jawOpen` or `jaw.x`."""
    joints = [f"{name}.{axis}" for name in CONDITION_JOINTS if name in joint_names for axis in "xyz"]
    return (*expression_names, *joints)
