"""Which expressions the training frames showed: beyond them, what the field makes of a condition is invented."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from scipy.optimize import nnls
from torch import Tensor

SLACK = 0.15
"""How far beyond what was seen a condition may act, as a share of how far the seen ones act from their mean."""
MOST = 2000
"""Seen conditions that are kept, evenly from all: a video's neighbouring frames hardly differ."""
_SUM_WEIGHT = 100.0
"""How much weights that sum to one count beside an effect that is met; effects are of size one."""


class ExpressionHull:
    """The convex hull of the conditions that the field was trained on, in what they do to it.

    Inside, the field knows the look of a moment, or blends looks that it knows. Outside it extrapolates, and as a
    condition scales the features of the hash grid, what comes out soon is specks in the air and false colours. A moment
    out there is posed by its mesh all the same, but the field is conditioned on what acts like the nearest blend.

    Distances are between effects, not between conditions: an expression that training never moved does nothing, and
    one that changes the mouth much is worth more than one that shades a cheek.
    """

    def __init__(self, conditions: Float[Tensor, "N C"]):
        """
        Args:
            conditions: of the training frames.
        """
        seen = conditions.detach().cpu().double().numpy()
        seen = seen[:: -(-len(seen) // MOST)]
        self._mean = seen.mean(axis=0)
        self._apart = seen - self._mean

    def nearest(self, condition: Float[Tensor, "B C"], effect: Float[Tensor, "E C"]) -> Float[Tensor, "B C"]:
        """Conditions that act as far from the seen ones as `SLACK` lets them.

        Args:
            condition: any.
            effect: what the field makes of a condition, a linear map.

        Returns:
            The conditions themselves where that is so; others moved towards the blend of seen ones that acts most
            alike, until it is. What they do is continuous in what was asked. Not differentiable.
        """
        linear = effect.detach().cpu().double().numpy()
        acts = self._apart @ linear.T
        reach = float(np.linalg.norm(acts, axis=1).mean())
        if reach < 1e-9:
            return condition
        system = np.vstack([acts.T / reach, np.full((1, len(acts)), _SUM_WEIGHT)])
        moved = condition.detach().cpu().double().numpy().copy()
        for row, apart in enumerate(moved - self._mean):
            wanted = linear @ apart / reach
            weights, _ = nnls(system, np.append(wanted, _SUM_WEIGHT), maxiter=100 * max(system.shape))
            weights /= weights.sum()
            distance = float(np.linalg.norm(wanted - system[:-1] @ weights))
            if distance > SLACK:
                blend = self._mean + self._apart.T @ weights
                moved[row] = blend + (moved[row] - blend) * (SLACK / distance)
        return condition.new_tensor(moved)
