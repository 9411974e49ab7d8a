"""The posed mesh drawn over the picture."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Int

from flame_nerf.motion import PosedFrame

NODE = "/head_mesh"
COLOUR = (90, 220, 160)
OPACITY = 0.3
"""Of the wires, so that thousands of them leave the picture in sight."""


class MeshOverlay:
    """A wire mesh in the scene that follows the face while it is wanted."""

    def __init__(self, server: Any, faces: Int[np.ndarray, "F 3"], scale: float) -> None:
        """
        Args:
            server: the page's.
            faces: vertices of each triangle.
            scale: the page's units a metre.
        """
        self._server, self._faces, self._scale = server, np.asarray(faces), scale
        self._node: Any = None
        self.wanted = False

    def show(self, frame: PosedFrame | None) -> None:
        """Draw a moment's mesh, or none where it is not wanted."""
        if frame is None or not self.wanted:
            if self._node is not None:
                self._node.remove()
                self._node = None
            return
        vertices = frame.vertices.detach().cpu().numpy() * self._scale
        self._node = self._server.scene.add_mesh_simple(
            NODE, vertices, self._faces, color=COLOUR, wireframe=True, opacity=OPACITY
        )
