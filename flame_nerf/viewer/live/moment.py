"""One moment of a performer, as a receiver hands it on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from jaxtyping import Float


@dataclass(frozen=True, eq=False)
class LiveMoment:
    """What a face does at one time."""

    expression: Mapping[str, float]
    """Coefficients by ARKit's names, 0 to 1."""
    head_turn: Float[np.ndarray, "3 3"]
    """Rotation of the head frame (x to the person's left, y up, z out of the face) in the sender's world."""
    seen: float
    """`time.monotonic()` when it was received, or its picture taken."""
    eyes: Mapping[str, Float[np.ndarray, " 3"]] = field(default_factory=dict)
    """Axis-angle turns of `left_eye` and `right_eye`, radians."""


class Receiver(Protocol):
    """Where moments come from."""

    def newest(self, timeout: float) -> LiveMoment | None:
        """The newest moment that was not yet handed out; None after `timeout` seconds without any."""

    def status(self) -> str:
        """One line for people: whether anything comes, how often, and what is wrong."""

    def close(self) -> None:
        """Stop receiving."""
