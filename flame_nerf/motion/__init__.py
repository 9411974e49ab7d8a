"""Motion: the mesh and the expression an avatar shows, from stored frames, a time, or coefficients of one's own."""

from flame_nerf.motion.frame import CONDITION_JOINTS, PosedFrame, condition_names, condition_vector
from flame_nerf.motion.live_head import LiveHead, head_of
from flame_nerf.motion.shown import stored_row, unstored_frame, without_timestep
from flame_nerf.motion.subject_motion import MotionError, SubjectMotion

__all__ = [
    "CONDITION_JOINTS",
    "LiveHead",
    "MotionError",
    "PosedFrame",
    "SubjectMotion",
    "condition_names",
    "condition_vector",
    "head_of",
    "stored_row",
    "unstored_frame",
    "without_timestep",
]
