"""How a face's look follows what it does, in a few numbers: weights of texture bases."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

if TYPE_CHECKING:
    from flame_nerf.motion import LiveHead, SubjectMotion

BEYOND = 0.1
"""How far weights may leave the range that training showed, as a share of it: the field does not know more."""
_LEAST_EFFECT = 1e-6
"""Effects of the condition that are weaker than this, in the field's own units, are none."""


@dataclass(frozen=True)
class Appearance:
    """B weights as a linear map of the condition, held in a range; training has mean 0 and deviation 1 of each."""

    matrix: Float[np.ndarray, "B C"]
    constant: Float[np.ndarray, " B"]
    low: Float[np.ndarray, " B"]
    high: Float[np.ndarray, " B"]

    def weights(self, condition: Float[np.ndarray, " C"]) -> Float[np.ndarray, " B"]:
        """Weights of a moment's bases."""
        return np.clip(self.matrix @ condition + self.constant, self.low, self.high)

    def documents(self, motion: SubjectMotion, live: LiveHead) -> list[dict[str, Any]]:
        """The map of each base for a program that has all of a head model's expressions and turns of joints."""
        return [
            {
                "constant": float(constant),
                "range": [float(low), float(high)],
                "expression": _by_name(row, motion.condition_names, live.expression_names),
                "joints": _by_name(row, motion.condition_names, [f"{j}.{a}" for j in live.joint_names for a in "xyz"]),
            }
            for row, constant, low, high in zip(self.matrix, self.constant, self.low, self.high, strict=True)
        ]


def extreme_conditions(appearance: Appearance, conditions: Float[np.ndarray, "N C"]) -> Float[np.ndarray, "M C"]:
    """Of some conditions, those with the smallest and the largest weight of each base."""
    weights = conditions @ appearance.matrix.T + appearance.constant
    if not weights.size:
        return conditions[:0]
    return conditions[np.unique(np.concatenate([weights.argmin(axis=0), weights.argmax(axis=0)]))]


def main_effects(model: Any, count: int) -> Appearance:
    """The directions in which training's conditions change the field most, at most `count` of them.

    Args:
        model: a trained model.
    """
    conditions = model.motion.conditions[model.train_timesteps].cpu().double().numpy()
    effect = model.renderer.condition_effect().detach().cpu().double().numpy()[:, : conditions.shape[1]]
    mean = conditions.mean(axis=0)
    apart = (conditions - mean) @ effect.T
    _, strength, directions = np.linalg.svd(apart, full_matrices=False)
    deviation = strength / np.sqrt(len(conditions))
    kept = np.flatnonzero(deviation > max(_LEAST_EFFECT, 0.02 * deviation.max(initial=0.0)))[:count]
    matrix = (directions[kept] / deviation[kept, None]) @ effect
    seen = (conditions - mean) @ matrix.T
    low, high = (extreme(seen, axis=0) if len(seen) else np.zeros(len(kept)) for extreme in (np.min, np.max))
    room = BEYOND * (high - low)
    return Appearance(matrix, -matrix @ mean, low - room, high + room)


def _by_name(row: np.ndarray, names: tuple[str, ...], wanted: Any) -> list[float]:
    place = {name: at for at, name in enumerate(names)}
    return [float(row[place[name]]) if name in place else 0.0 for name in wanted]
