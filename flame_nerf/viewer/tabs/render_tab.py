"""Nerfstudio's Render tab, set to the view that the page opens with."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from flame_nerf.viewer.handles import labelled

if TYPE_CHECKING:
    from viser import ViserServer

FIELD_OF_VIEW = "Default FOV"
"""Label of the Render tab's slider, degrees from top to bottom."""


def set_field_of_view(server: ViserServer, radians: float) -> bool:
    """Set what keyframes are filmed with: Nerfstudio's 75 degrees make a head a quarter of the picture.

    Args:
        server: the page's.
        radians: from top to bottom.

    Returns:
        whether the page has that slider.
    """
    slider = labelled(server, FIELD_OF_VIEW)
    if slider is None:
        return False
    slider.value = float(np.degrees(radians))
    return True
