"""What one step of the training asks of those who take part in it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class StepPlan:
    """A step of the training, planned before its rays are drawn."""

    step: int
    """Its number, from 0."""
    patches: bool = False
    """Bring whole patches beside its rays: a term of the loss compares pixels with their neighbours."""
