"""Head models: a linear model with skinning, its file format and the open head that ships with the package."""

from flame_nerf.heads.io import HeadModelError, load_head, save_head
from flame_nerf.heads.model import HeadModel, LandmarkEmbedding

__all__ = ["HeadModel", "HeadModelError", "LandmarkEmbedding", "load_head", "save_head"]
