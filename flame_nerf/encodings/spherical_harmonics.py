"""Real spherical harmonics of a direction: a smooth, low-frequency code of where a point is seen from."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

MAX_DEGREE = 3


def spherical_harmonics(directions: Float[Tensor, "N 3"], degree: int) -> Float[Tensor, "N S"]:
    """Orthonormal real spherical harmonics of bands 1 to `degree`.

    The constant band is left out: the layer that reads the code has a bias of its own. Polynomials after
    Sloan, "Stupid Spherical Harmonics Tricks", appendix A2, without the Condon-Shortley sign.

    Note:
        Differentiable with respect to `directions`.

    Args:
        directions: unit vectors, in the frame in which appearance should be smooth (the canonical head).
        degree: last band, 0 to 3; S = (degree + 1)² − 1 columns.

    Raises:
        ValueError: degree outside 0..3.
    """
    if not 0 <= degree <= MAX_DEGREE:
        raise ValueError(f"Spherical harmonics are written out for degrees 0 to {MAX_DEGREE}, not {degree}.")
    if degree == 0:
        return directions.new_empty(len(directions), 0)
    # y, z, x; a list of columns would be copied to a GPU, and waited for.
    bands = [directions.roll(-1, dims=1) * 0.4886025119029199]
    x, y, z = directions.unbind(dim=-1)
    if degree >= 2:
        bands.append(
            torch.stack(
                [
                    1.0925484305920792 * x * y,
                    1.0925484305920792 * y * z,
                    0.9461746957575601 * z * z - 0.31539156525252,
                    1.0925484305920792 * x * z,
                    0.5462742152960396 * (x * x - y * y),
                ],
                dim=-1,
            )
        )
    if degree >= 3:
        bands.append(
            torch.stack(
                [
                    0.5900435899266435 * y * (3 * x * x - y * y),
                    2.890611442640554 * x * y * z,
                    0.4570457994644658 * y * (5 * z * z - 1),
                    0.3731763325901154 * z * (5 * z * z - 3),
                    0.4570457994644658 * x * (5 * z * z - 1),
                    1.445305721320277 * z * (x * x - y * y),
                    0.5900435899266435 * x * (x * x - 3 * y * y),
                ],
                dim=-1,
            )
        )
    return torch.cat(bands, dim=-1)
