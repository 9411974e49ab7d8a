"""The field of the canonical head as something to ask: what is there, and in which colour."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from flame_nerf.render.head_renderer import HeadRenderer
from flame_nerf.render.observed.occupancy import EMPTY_OPACITY
from flame_nerf.render.step_rays import Moments
from flame_nerf.runtime.errors import UserError

_CHUNK = 1 << 17
"""Points asked about at a time."""


class Substance:
    """Density and colour of the canonical head, as pictures show them: what training never met is empty.

    Colours are as seen from the middle of the training cameras: nothing is left of how they change with the view.
    """

    def __init__(self, model: Any) -> None:
        """
        Args:
            model: a trained flame-nerf model in evaluation mode.

        Raises:
            UserError: its method has no field around the head's mesh.
        """
        if not isinstance(model.renderer, HeadRenderer):
            raise UserError(
                "this avatar's method has no field around the head's mesh, so there is nothing to export; train "
                "flame-nerf or flame-nerf-cpu on its subject"
            )
        self._model, self._renderer = model, model.renderer
        mapping, device = self._renderer.mapping, self._renderer.device
        self._canonical = mapping.pose(mapping.canonical_vertices)
        self._eye = model.train_c2w[:, :, 3].mean(dim=0).to(device)
        if self._renderer.view_cone is not None:
            self._eye = self._renderer.view_cone.eye
        self.usual_condition: Float[Tensor, " C"] = model.motion.conditions[model.train_timesteps].mean(dim=0)
        """Mean condition of the training frames."""

    @torch.no_grad()
    def __call__(
        self, points: Float[Tensor, "N 3"], condition: Float[Tensor, " C"] | None = None
    ) -> tuple[Float[Tensor, " N"], Float[Tensor, "N 3"]]:
        """Density (1/m) and colour (0..1) at points of the canonical head, on the CPU; zeros where it is empty.

        Args:
            points: metres.
            condition: the moment's; None: the mean of training.
        """
        renderer, model = self._renderer, self._model
        condition = self.usual_condition if condition is None else condition
        told = model.conditioning(Moments([self._canonical], condition[None].to(renderer.device)))
        sigma, rgb = torch.zeros(len(points)), torch.zeros(len(points), 3)
        with model.shown_weights():
            for start in range(0, len(points), _CHUNK):
                part = points[start : start + _CHUNK].float().to(renderer.device).contiguous()
                row, density, colour = self._of_part(part, told)
                sigma[start + row], rgb[start + row] = density.cpu().float(), colour.cpu().float()
        return sigma, rgb

    def _of_part(self, points: Tensor, told: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Rows of points that are not empty, on the CPU, and what is there."""
        renderer = self._renderer
        index = torch.zeros(len(points), dtype=torch.long, device=points.device)
        reach = float(renderer.shell.max())
        near = renderer.mapping.to_canonical([self._canonical], index, points, max_distance=reach)
        face = near.face.clamp_min(0)
        distance = torch.as_tensor(near.distance)
        kept = (near.face >= 0) & (distance <= renderer.shell.index_select(0, face))
        if renderer.config.occupancy.enabled:
            highest = torch.as_tensor(renderer.occupancy.highest)[renderer.occupancy.cells(points)]
            kept &= (highest >= EMPTY_OPACITY / renderer.config.step) & ~highest.isinf()
        row = kept.nonzero()[:, 0]
        at = points[row].contiguous()
        looking = torch.nn.functional.normalize(at - self._eye, dim=1)
        # A method may condition each point by the face that it is near.
        where: Any = SimpleNamespace(mesh_index=index[row], face=face[row])
        sigma, rgb = renderer.query_field(at, looking, *renderer.conditioning(told, where))
        if renderer.falloff is not None:
            sigma = sigma * renderer.falloff(renderer.mapping, at, face[row].contiguous(), distance[row].contiguous())
        return row.cpu(), sigma, rgb
