"""Encodings of positions and directions: multi-resolution hash grid and spherical harmonics."""

from flame_nerf.encodings.hash_grid import HashGrid, Implementation
from flame_nerf.encodings.spherical_harmonics import spherical_harmonics

__all__ = ["HashGrid", "Implementation", "spherical_harmonics"]
