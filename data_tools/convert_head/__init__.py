"""Other people's heads made into the project's own: FLAME, SMPL's family, GNM, meshes."""

from data_tools.convert_head.config import ConvertConfig, ConvertSummary

__all__ = ["ConvertConfig", "ConvertSummary"]
