"""Clothes of a layered head: layers that stand off the neck draw back to it seen from where no camera filmed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float, Int

if TYPE_CHECKING:
    from flame_nerf.render.observed.clothes import Clothes

_APART = 0.002
"""Metres by which a layer may lie outside of the shell."""


@dataclass(frozen=True, eq=False)
class LayeredClothes:
    """What `Clothes` says of samples, for the V vertices of layers."""

    rule: Clothes
    rest: Float[np.ndarray, " V"]
    """Metres off each vertex that are shown from everywhere."""
    room: float
    """Metres off the mesh at which there may be a layer."""

    @classmethod
    def of(
        cls,
        rule: Clothes | None,
        vertices: Float[np.ndarray, "V 3"],
        triangles: Int[np.ndarray, "F 3"],
        shell: Float[np.ndarray, " F"],
    ) -> LayeredClothes | None:
        """Of a renderer's rule; None where it has none or nothing is drawn back.

        Args:
            vertices: the canonical mesh, metres.
            shell: thickness of the shell over each triangle, metres.
        """
        if rule is None or not bool((rule.rest < rule.shell).any()):
            return None
        neck = (rule.rest < rule.shell).cpu().numpy()
        room = float(shell.max()) + _APART
        rest, count = np.zeros(len(vertices)), np.zeros(len(vertices))
        of_face = np.where(neck, rule.rest.cpu().double().numpy(), room)
        np.add.at(rest, triangles.reshape(-1), np.repeat(of_face, 3))
        np.add.at(count, triangles.reshape(-1), 1.0)
        rest = np.where(count > 0, rest / np.maximum(count, 1.0), room)
        return cls(rule, rest, room)

    def shown(self, offsets: Float[np.ndarray, "K V"], eye: Float[np.ndarray, " 3"]) -> Float[np.ndarray, "K V"]:
        """How much of the opacity of each layer is left at each vertex; the page's shader has the same.

        Args:
            offsets: of layers off the mesh, metres; below zero behind it.
            eye: the camera's place in the head's frame, metres.
        """
        from flame_nerf.render.observed.clothes import shown_share

        at = torch.from_numpy(np.asarray(eye)).to(self.rule.views.centre)
        drawn = float(self.rule.drawn_from(at[None]))
        off, rest = torch.from_numpy(offsets.clip(0)), torch.from_numpy(self.rest)
        return shown_share(off, self.room, rest, drawn).numpy()

    def document(self) -> dict[str, Any]:
        """The rule for the page's painter."""
        from flame_nerf.avatar.export.web.arrays import array
        from flame_nerf.render.observed.clothes import EDGE, TURN
        from flame_nerf.render.observed.view_cone import SLACK

        views = self.rule.views
        return {
            "rest": array(self.rest.astype(np.float32)),
            "room": self.room,
            "middle": views.centre.tolist(),
            "filmed": array(views.towards.cpu().numpy().astype(np.float32)),
            "slack": SLACK,
            "turn": TURN,
            "edge": EDGE,
        }
