"""Smoothing over time without lag: kernels that look both ways and know the true time of each sample."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float


def smooth_over_time(
    values: Float[np.ndarray, "T D"], time: Float[np.ndarray, " T"], sigma: float
) -> Float[np.ndarray, "T D"]:
    """Gaussian-weighted local straight line through each sample's neighbours.

    A line, not a mean: a mean would pull the ends of a movement inwards.

    Args:
        time: increasing, any unit.
        sigma: width of the window, in the unit of `time`.
    """
    result = np.empty_like(values)
    for row, now in enumerate(time):
        first, last = np.searchsorted(time, [now - 3 * sigma, now + 3 * sigma])
        offset = time[first:last] - now
        weight = np.exp(-0.5 * (offset / sigma) ** 2)
        total, slope, square = weight.sum(), (weight * offset).sum(), (weight * offset**2).sum()
        determinant = total * square - slope**2
        window = values[first:last]
        level, tilt = weight @ window, (weight * offset) @ window
        if determinant <= 1e-9 * total * max(square, 1e-12):
            result[row] = level / total
        else:
            result[row] = (square * level - slope * tilt) / determinant
    return result
