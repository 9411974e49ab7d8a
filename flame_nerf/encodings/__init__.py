"""Encodings of positions and directions: multi-resolution hash grid and spherical harmonics."""

from flame_nerf.encodings.hash_grid import HashGrid, Implementation, numba_problem
from flame_nerf.encodings.spherical_harmonics import spherical_harmonics
from flame_nerf.kernels.grid_layout import GridLayout

__all__ = ["GridLayout", "HashGrid", "Implementation", "numba_problem", "spherical_harmonics"]
