"""Spherical harmonics of directions."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from flame_nerf.encodings import spherical_harmonics


@pytest.mark.parametrize("degree", [1, 2, 3])
def test_harmonics_are_orthonormal(degree: int) -> None:
    # Gauss-Legendre in z times equal steps in azimuth integrates these products exactly.
    z, weight = np.polynomial.legendre.leggauss(12)
    azimuth = np.arange(24) * 2 * np.pi / 24
    z, azimuth = (a.ravel() for a in np.meshgrid(z, azimuth, indexing="ij"))
    r = np.sqrt(1 - z**2)
    directions = torch.from_numpy(np.stack([r * np.cos(azimuth), r * np.sin(azimuth), z], axis=1))
    code = spherical_harmonics(directions, degree)
    assert code.shape == (len(directions), (degree + 1) ** 2 - 1)
    weights = torch.from_numpy(np.repeat(weight, 24) * 2 * np.pi / 24)
    gram = (code * weights[:, None]).T @ code
    torch.testing.assert_close(gram, torch.eye(code.shape[1], dtype=torch.float64))
    assert (code * weights[:, None]).sum(dim=0).abs().max() < 1e-12


def test_harmonics_edges() -> None:
    assert spherical_harmonics(torch.randn(5, 3), 0).shape == (5, 0)
    assert spherical_harmonics(torch.randn(0, 3), 2).shape == (0, 8)
    with pytest.raises(ValueError, match="7"):
        spherical_harmonics(torch.randn(5, 3), 7)
