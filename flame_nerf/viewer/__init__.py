"""The page where a head is turned and driven: a panel for Nerfstudio's viewer."""

from flame_nerf.viewer.panel import HeadPanel

__all__ = ["HeadPanel"]
