"""Relative depth for a subject's frames, from a monocular estimator or from the tracked mesh."""

from data_tools.depth.config import DepthConfig, DepthError, DepthSummary

__all__ = ["DepthConfig", "DepthError", "DepthSummary"]
