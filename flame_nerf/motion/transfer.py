"""One person's performance on another's face: what moved from rest, not where it stood."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy.spatial.transform import Rotation

from flame_nerf.motion.arkit import BLINKS
from flame_nerf.motion.files.head_angles import turns, yaw_pitch_roll
from flame_nerf.motion.frame import CONDITION_JOINTS, Moments
from flame_nerf.motion.performance import Motion
from flame_nerf.runtime.errors import MotionError
from flame_nerf.runtime.film_options import TransferConfig

if TYPE_CHECKING:
    from flame_nerf.motion.subject_motion import SubjectMotion

REST_QUANTILE = 0.1
"""Share of moments below a blendshape's rest: what a face does not come under even while it talks is how it is made."""
REACH_QUANTILE = 0.99
"""Share of moments below what a coefficient reaches: single frames are the tracker's slips."""
FEWEST_SHUT = 2
"""Moments in which an eye that closes is shut: one who blinks twice a minute has shut lids in fewer than the share."""
BEYOND_SEEN = 1.25
"""How far past what the avatar's training showed a coefficient may go."""
LEAST_REACH = {"unit": 0.5, "codes": 1.0}
"""What every coefficient may reach however little of it training showed: the mesh follows it all the same."""
LEAST_SECONDS = 1.0
"""Length below which a performance does not tell how its face rests; it then rests at zero."""
A_BLINK = 0.25
"""Reach of a blink that closes the eye in somebody's coefficients, whatever number it is."""
EYES = ("left_eye", "right_eye")


@dataclass(frozen=True, eq=False)
class Performed:
    """A motion made ready for one avatar."""

    expression: Float[np.ndarray, "T E"]
    """Coefficients in the order of the avatar's `pose_names`."""
    joints: Float[np.ndarray, "T J 3"]
    """Axis-angle rotations in the order of its `pose_joints`."""
    head_movement: Float[np.ndarray, "T 4 4"]
    """Rigid movement of the head since the moment it starts from, in the head frame of that moment."""
    fps: float
    held: Bool[np.ndarray, " T"]
    """Moments in which nobody saw the performer."""

    def __len__(self) -> int:
        return len(self.expression)

    @property
    def head_moves(self) -> bool:
        """Whether the head does anything but stand still."""
        return bool(np.abs(self.head_movement - np.eye(4)).max() > 1e-9)

    def moments(self, avatar: SubjectMotion) -> Moments:
        """Its moments on the avatar's mesh, each posed when it is asked for."""
        expression = torch.from_numpy(self.expression).float()
        joints = torch.from_numpy(self.joints).float()
        return Moments(len(self), lambda index: avatar.pose(expression[index], joints[index]))


def transferred(
    motion: Motion, avatar: SubjectMotion, config: TransferConfig | None = None, head_model: str = ""
) -> Performed:
    """What an avatar does to perform a motion.

    Args:
        motion: the performer's.
        avatar: the avatar's own track, with its head model.
        config: how.
        head_model: name of the avatar's, where it is known.

    Raises:
        MotionError: no head model; no expression or joint shared by name; numbers of another head model's codes; or a
            setting that is none.
    """
    config = config or TransferConfig()
    config.check()
    if not avatar.can_pose:
        raise MotionError(f"new expressions cannot be posed: {avatar.why_no_head}")
    shared = [name for name in avatar.pose_names if name in motion.expression_names]
    _check_names(motion, avatar, shared, head_model)
    performer = motion.expression[:, [motion.expression_names.index(name) for name in shared]].astype(float)
    evened = np.array([name not in BLINKS for name in shared], bool)
    performer[:, evened] = _smooth(performer[:, evened], config.smoothing * motion.fps)
    expression = np.zeros((len(motion), len(avatar.pose_names)), np.float32)
    expression[:, [avatar.pose_names.index(name) for name in shared]] = _relative(
        shared, performer, _own_ranges(avatar, shared), config.strength, motion.seconds >= LEAST_SECONDS
    )
    joints, movement = _joints(motion, avatar, config), head_movement(motion, avatar, config)
    return Performed(expression, joints, movement, motion.fps, motion.held)


def _check_names(motion: Motion, avatar: SubjectMotion, shared: list[str], head_model: str) -> None:
    what = motion.provenance.source or "the motion"
    theirs = motion.provenance.head_model
    if shared and all(map(is_code, shared)) and theirs and head_model and theirs != head_model:
        raise MotionError(
            f"{what}: its expressions are numbers of the head model {theirs!r}, the avatar's of {head_model!r}, "
            "where the same numbers mean other faces; track the performer's video with the avatar's head model (--head)"
        )
    if motion.expression_names and not shared:
        raise MotionError(
            f"{what}: its expressions ({_some(motion.expression_names)}) and those of the avatar's head model "
            f"({_some(avatar.pose_names)}) have no name in common; drive it with one that has the avatar's names, or "
            "track the performer's video with the avatar's head model (--head)"
        )


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:2]) + (", …" if len(names) > 2 else "")


@dataclass(frozen=True, eq=False)
class _Ranges:
    """How N coefficients are carried and how far they go from there, counted as a blendshape's and as a code's."""

    least: Float[np.ndarray, " N"]
    rest: Float[np.ndarray, "2 N"]
    """When the face does nothing with them: blendshapes in the first row, codes in the second."""
    reach: Float[np.ndarray, "2 N"]
    shut: Float[np.ndarray, "2 N"]
    """The same of lids, which close for moments."""

    @classmethod
    def of(cls, values: Float[np.ndarray, "T N"], tells_rest: bool = True) -> _Ranges:
        """Of a performance; where it does not tell how the face rests, that is at zero."""
        rest = tells_rest * np.stack([np.quantile(values, REST_QUANTILE, axis=0), values.mean(axis=0)])
        moved = np.abs(values - rest[:, None])
        reach = np.quantile(moved, REACH_QUANTILE, axis=1)
        return cls(values.min(axis=0), rest, reach, np.sort(moved, axis=1)[:, -min(FEWEST_SHUT, len(values))])

    def picked(self, columns: list[int]) -> _Ranges:
        return _Ranges(self.least[columns], self.rest[:, columns], self.reach[:, columns], self.shut[:, columns])


_KNOWN: WeakKeyDictionary[SubjectMotion, _Ranges] = WeakKeyDictionary()
"""Ranges of avatars' own tracks: a face that is driven live asks for them with every moment."""


def _own_ranges(avatar: SubjectMotion, names: list[str]) -> _Ranges:
    """Of the avatar's own track; names that it has not stay at zero."""
    if avatar not in _KNOWN:
        own = avatar.stored_expression.numpy().astype(float)
        _KNOWN[avatar] = _Ranges.of(np.concatenate([own, np.zeros((len(own), 1))], axis=1))
    known, none = avatar.expression_names, len(avatar.expression_names)
    return _KNOWN[avatar].picked([known.index(name) if name in known else none for name in names])


def _relative(
    names: list[str], performer: Float[np.ndarray, "T N"], own: _Ranges, strength: float, tells_rest: bool
) -> Float[np.ndarray, "T N"]:
    """Coefficients on the avatar: `strength` between a copy and what moved from rest, within the avatar's reach."""
    driver = _Ranges.of(performer, tells_rest)
    code = np.array([is_code(name) for name in names], bool) | (np.minimum(driver.least, own.least) < -1e-3)
    row = code.astype(int), np.arange(len(names))
    lids = np.isin(names, BLINKS)
    driver_reach, own_reach = (np.where(lids, one.shut[row], one.reach[row]) for one in (driver, own))
    allowed = np.maximum(BEYOND_SEEN * own_reach, np.where(code, LEAST_REACH["codes"], LEAST_REACH["unit"]))
    # A closed eye is a closed eye, whatever number either tracker gives it.
    closes = lids & (np.minimum(driver_reach, own_reach) > A_BLINK)
    wanted = np.where(closes, own_reach, np.minimum(allowed, driver_reach))
    scale = np.divide(wanted, driver_reach, out=np.ones(len(names)), where=driver_reach > 0)
    relative = own.rest[row] + scale * (performer - driver.rest[row])
    out = performer + strength * (relative - performer)
    return np.where(code, out, np.clip(out, 0.0, 1.0))


def _joints(motion: Motion, avatar: SubjectMotion, config: TransferConfig) -> Float[np.ndarray, "T J 3"]:
    """Joint rotations: the performer's away from its mean, onto the avatar's own; what the performer lacks rests."""
    neutral, own = {}, avatar.stored_pose.numpy()
    for row, name in enumerate(avatar.joint_names):
        neutral[name] = own[:, row].mean(axis=0)
    out = np.zeros((len(motion), len(avatar.pose_joints), 3))
    for row, name in enumerate(avatar.pose_joints):
        if name not in motion.joint_names:
            # The neck as the avatar carries it; jaw and eyes at zero, as `SubjectMotion.pose` has them.
            out[:, row] = avatar.rest_joint(name)
            continue
        turned = motion.joints[:, motion.joint_names.index(name)].astype(float)
        if name in EYES and not _ever_turned(own, avatar, name):
            # Its look follows the expressions; the eyeball never turned in training, so what it shows is unknown.
            out[:, row] = avatar.rest_joint(name)
            continue
        turned = _smooth(turned, config.smoothing * motion.fps)
        # Jaw and eyes rest at zero in a moment alone; how it carries its neck nobody knows.
        rests = motion.seconds >= LEAST_SECONDS or name not in CONDITION_JOINTS
        relative = neutral.get(name, np.zeros(3)) + turned - rests * turned.mean(axis=0)
        out[:, row] = turned + config.strength * (relative - turned)
    return out


def _ever_turned(own: np.ndarray, avatar: SubjectMotion, name: str) -> bool:
    return name in avatar.joint_names and bool(np.abs(own[:, avatar.joint_names.index(name)]).max() > 1e-3)


def head_movement(motion: Motion, avatar: SubjectMotion, config: TransferConfig) -> Float[np.ndarray, "T 4 4"]:
    """Rigid movement of the head since the moment that it starts from, in the head frame of that moment; none where a
    motion does not know it."""
    out = np.tile(np.eye(4), (len(motion), 1, 1))
    if motion.head_to_world is None or config.head_gain == 0:
        return out
    rotations = Rotation.from_matrix(motion.head_to_world[:, :3, :3])
    frames = config.smoothing * motion.fps
    if motion.provenance.turns_only:
        # A phone's yaw, pitch and roll each count from where that one began: the head may begin in any turn, and must
        # not tilt sideways on the avatar where it only turned on the performer, as turns about a tilted head would.
        angles = yaw_pitch_roll(rotations)
        first = angles.mean(axis=0) if config.head_from == "mean" else angles[0]
        turn = turns(_smooth(angles - first, frames) * config.head_gain, "radians")
        # About the top of the neck, where a head turns; the head frame's own origin may be anywhere.
        pivot = avatar.turning_point.double().cpu().numpy()
        moved = pivot - turn.apply(pivot)
    else:
        place = motion.head_to_world[:, :3, 3]
        start = rotations.mean() if config.head_from == "mean" else rotations[0]
        origin = place.mean(axis=0) if config.head_from == "mean" else place[0]
        turn = Rotation.from_rotvec(_smooth((start.inv() * rotations).as_rotvec(), frames) * config.head_gain)
        moved = _smooth(start.inv().apply(place - origin), frames) * config.head_gain
    out[:, :3, :3], out[:, :3, 3] = turn.as_matrix(), moved
    return out


def _smooth(values: np.ndarray, frames: float) -> np.ndarray:
    """Evened out over time; `frames` is the whole width of the window, four standard deviations."""
    if frames < 1 or len(values) < 2:
        return values
    # Loaded where it is used: every ns-train imports this module.
    from scipy.ndimage import gaussian_filter1d

    return gaussian_filter1d(values, frames / 4, axis=0, mode="nearest")


def is_code(name: str) -> bool:
    """Whether a name is the number of a statistical component, as `expr_012`, which two head models may both have."""
    return re.fullmatch(r"[a-z]+_\d+", name) is not None
