"""Corrections of a track, learned with the field: the tracker looked at landmarks, the field looks at the pictures."""

from flame_nerf.refinement.pose import PoseRefinement, PoseRefinementConfig
from flame_nerf.refinement.track import TrackRefinement, TrackRefinementConfig

__all__ = ["PoseRefinement", "PoseRefinementConfig", "TrackRefinement", "TrackRefinementConfig"]
