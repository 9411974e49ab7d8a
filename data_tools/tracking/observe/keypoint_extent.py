"""How much of a film's pictures a head takes up, by its keypoints."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from data_tools.tracking.observe.keypoint_readers.record import KeypointFile
from data_tools.tracking.observe.keypoints import FEWEST_POINTS, in_film_pixels
from flame_nerf.heads import HeadModel

ROOM = 1.15
"""How far hair and the fit's identity may reach beyond the head model, in its radii."""
USUAL = 0.98
"""Share of the frames whose spread of keypoints is believed: single points are guesses."""


def head_extent(
    file: KeypointFile, head: HeadModel, film: tuple[int, int], units: str, least_likelihood: float
) -> tuple[Float[np.ndarray, "2"], Float[np.ndarray, "2"]] | None:
    """Corners of what the head takes up over the whole film, pixels of the film; None where too few points tell.

    Args:
        file: its columns are the head's landmarks, in their order.
        film: width and height of its pictures.
        units, least_likelihood: as for `on_video`.
    """
    sure = file.points[..., 2] >= least_likelihood
    if not sure.any():
        return None
    points, _ = in_film_pixels(file, film, units, sure)
    telling = np.flatnonzero(sure.sum(axis=1) >= FEWEST_POINTS)
    if len(telling) == 0:
        return None
    middle = np.stack([points[row, sure[row]].mean(axis=0) for row in telling])
    spread = [
        np.linalg.norm(points[row, sure[row]] - at, axis=1).max() for row, at in zip(telling, middle, strict=True)
    ]
    on_head = head.landmark_points(head.template)
    centre = on_head.mean(dim=0)
    larger = float((head.template - centre).norm(dim=1).max() / (on_head - centre).norm(dim=1).max())
    reach = ROOM * max(larger, 1.0) * float(np.quantile(spread, USUAL))
    return middle.min(axis=0) - reach, middle.max(axis=0) + reach
