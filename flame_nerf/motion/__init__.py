"""Motion: the mesh and the expression an avatar shows, from stored frames, a time, or coefficients of one's own; and
performances by themselves, recorded, loaded, and carried from one person to another."""

from flame_nerf.motion.face_moves import face_moves
from flame_nerf.motion.files.sources import load_motion, save_motion
from flame_nerf.motion.frame import CONDITION_JOINTS, Moments, PosedFrame, condition_names, condition_vector
from flame_nerf.motion.live_head import LiveHead, head_of
from flame_nerf.motion.open_mouth import open_mouth
from flame_nerf.motion.own_motion import motion_of_poses, own_motion
from flame_nerf.motion.path_motion import filmed_path
from flame_nerf.motion.performance import CameraTrack, Motion, Provenance
from flame_nerf.motion.pose import Pose, pose_at
from flame_nerf.motion.shown import stored_row, unstored_frame, without_timestep
from flame_nerf.motion.subject_motion import SubjectMotion
from flame_nerf.motion.transfer import Performed, transferred
from flame_nerf.runtime.errors import MotionError
from flame_nerf.runtime.film_options import TransferConfig

__all__ = [
    "CONDITION_JOINTS",
    "CameraTrack",
    "LiveHead",
    "Moments",
    "Motion",
    "MotionError",
    "Performed",
    "Pose",
    "PosedFrame",
    "Provenance",
    "SubjectMotion",
    "TransferConfig",
    "condition_names",
    "condition_vector",
    "face_moves",
    "filmed_path",
    "head_of",
    "load_motion",
    "motion_of_poses",
    "open_mouth",
    "own_motion",
    "pose_at",
    "save_motion",
    "stored_row",
    "transferred",
    "unstored_frame",
    "without_timestep",
]
