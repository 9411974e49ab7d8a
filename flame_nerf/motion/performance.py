"""A performance by itself: what a face and its head did, without the person who did it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from jaxtyping import Bool, Float
from scipy.spatial.transform import Rotation, Slerp

from flame_nerf.runtime.errors import MotionError

MAX_FRAMES = 2_000_000
"""Moments that a motion may have: nine hours at 60 a second. More is a damaged file."""
MAX_VALUE = 1e4
"""Size of a coefficient, a joint's turn (radians) or a place (metres) beyond which a number means something else."""
MAX_FPS = 1000.0
"""Moments a second that anything films."""
_NOT_GIVEN: Any = None
"""Default of what a motion always has once it is made."""


@dataclass(frozen=True)
class Provenance:
    """Where a motion is from, and what was taken for granted on the way."""

    source: str = ""
    """Name of the file or folder it was made of."""
    head_model: str = ""
    """Name of the head model whose expressions these are; empty where the names alone say it."""
    assumed: tuple[str, ...] = ()
    """What the source did not say, one sentence each."""
    sound: str = ""
    """Name of the video or sound file that belongs to it, looked for beside the motion; empty: none is known."""
    sound_start: float = 0.0
    """Seconds into `sound` at which the first moment was filmed."""
    turns_only: bool = False
    """Whether the head's turns are known but not its place: `head_to_world` then has no translation."""


@dataclass(frozen=True, eq=False)
class CameraTrack:
    """The camera that filmed a motion, in the motion's world."""

    c2w: Float[np.ndarray, "T 4 4"]
    """Camera-to-world, OpenGL axes, metres."""
    intrinsics: Float[np.ndarray, " 4"]
    """fl_x, fl_y, cx, cy in pixels."""
    size: tuple[int, int]
    """Width and height of the picture, pixels."""


@dataclass(frozen=True, eq=False)
class Motion:
    """T moments of a head at one rate. Compared by identity; checked when it is made.

    Raises (at construction):
        MotionError: shapes that do not go together, a name twice, a number that is none, no moment, an odd rate.
    """

    expression: Float[np.ndarray, "T E"]
    """Expression coefficients, float32; zeros are neutral."""
    expression_names: tuple[str, ...]
    fps: float
    """Moments a second."""
    joints: Float[np.ndarray, "T J 3"] = _NOT_GIVEN
    """Axis-angle rotation of each joint against its parent, radians, float32. None becomes none [T, 0, 3]."""
    joint_names: tuple[str, ...] = ()
    """neck, head, jaw, left_eye, right_eye, or whatever the head model calls its joints."""
    head_to_world: Float[np.ndarray, "T 4 4"] | None = None
    """Rigid transform of the head frame (x to the person's left, y up, z out of the face; metres) into the world that
    the head moved in. None: not known."""
    camera: CameraTrack | None = None
    held: Bool[np.ndarray, " T"] = _NOT_GIVEN
    """Moments that nobody saw: drop-outs, or the face away. They are between their neighbours. None becomes all False.
    """
    provenance: Provenance = field(default_factory=Provenance)

    def __post_init__(self) -> None:
        count = len(self.expression)
        joints = np.zeros((count, 0, 3)) if self.joints is None else self.joints
        held = np.zeros(count, bool) if self.held is None else self.held
        for name, value in (("expression", self.expression), ("joints", joints)):
            object.__setattr__(self, name, np.ascontiguousarray(value, dtype=np.float32))
        object.__setattr__(self, "held", np.ascontiguousarray(held, dtype=bool))
        if self.head_to_world is not None:
            object.__setattr__(self, "head_to_world", np.ascontiguousarray(self.head_to_world, dtype=np.float64))
        self._check(count)

    def _check(self, count: int) -> None:
        what = self.provenance.source or "motion"
        if not 1 <= count <= MAX_FRAMES:
            raise MotionError(f"{what}: {count} moments; a motion has 1 to {MAX_FRAMES}")
        if not 0 < self.fps <= MAX_FPS:
            raise MotionError(f"{what}: {self.fps:g} moments a second; give a rate above 0 and up to {MAX_FPS:g}")
        shapes = {
            "expression": (self.expression, (count, len(self.expression_names))),
            "joints": (self.joints, (count, len(self.joint_names), 3)),
            "held": (self.held, (count,)),
        }
        if self.head_to_world is not None:
            shapes["head_to_world"] = (self.head_to_world, (count, 4, 4))
        if self.camera is not None:
            shapes["camera.c2w"] = (self.camera.c2w, (count, 4, 4))
            shapes["camera.intrinsics"] = (self.camera.intrinsics, (4,))
        for name, (values, shape) in shapes.items():
            if values.shape != shape:
                raise MotionError(f"{what}: {name} has shape {values.shape}, its names and moments ask for {shape}")
            wrong = ~np.isfinite(values) | (np.abs(values) > (1e6 if "intrinsics" in name else MAX_VALUE))
            if wrong.any():
                where = tuple(int(axis[0]) for axis in np.nonzero(wrong))
                column = _column(name, where, self.expression_names, self.joint_names)
                raise MotionError(
                    f"{what}: {name}{column} of moment {where[0]} is {values[where]:g}; mend it in the source, or "
                    "leave those moments out with --start and --end"
                )
        for kind, names in (("expression", self.expression_names), ("joint", self.joint_names)):
            twice = sorted({name for name in names if names.count(name) > 1})
            if twice:
                raise MotionError(f"{what}: {kind} {twice[0]!r} is there twice; leave one of the two out")
        if not self.expression_names and not self.joint_names and self.head_to_world is None:
            raise MotionError(f"{what}: nothing in it moves: no expression, no joint, no turn of the head")
        if self.head_to_world is not None:
            turns = self.head_to_world[:, :3, :3]
            apart = np.abs(turns @ turns.transpose(0, 2, 1) - np.eye(3)).max()
            if apart > 1e-3 or np.linalg.det(turns).min() < 0:
                raise MotionError(f"{what}: head_to_world is no rigid transform; write it with this release")

    def __len__(self) -> int:
        return len(self.expression)

    @property
    def seconds(self) -> float:
        """Length of the film that shows all of it once."""
        return len(self) / self.fps

    @property
    def summary(self) -> str:
        """How long it is and what is in it, for people."""
        parts = [f"{len(self)} moments at {self.fps:g} a second", f"{len(self.expression_names)} expressions"]
        parts += [f"turns of {', '.join(self.joint_names)}"] if self.joint_names else []
        parts += ["head movement"] if self.head_to_world is not None else []
        return ", ".join(parts)

    def column(self, name: str) -> Float[np.ndarray, " T"]:
        """Coefficients of one expression; KeyError where there is none of that name."""
        if name not in self.expression_names:
            raise KeyError(name)
        return self.expression[:, self.expression_names.index(name)]

    def assuming(self, *more: str) -> Motion:
        """The same motion with more sentences on what was assumed."""
        return replace(self, provenance=replace(self.provenance, assumed=(*self.provenance.assumed, *more)))

    def cropped(self, start: float | None = None, end: float | None = None) -> Motion:
        """The moments from `start` up to `end`, in seconds; None is the motion's own beginning or end.

        Raises:
            MotionError: nothing is left, or the times are outside.
        """
        first = 0 if start is None else round(start * self.fps)
        last = len(self) if end is None else min(len(self), round(end * self.fps))
        if not 0 <= first < last:
            span = f"from {start or 0:g} s to {self.seconds if end is None else end:g} s"
            raise MotionError(
                f"{self.provenance.source or 'motion'}: there is no moment {span}; it is {self.seconds:.2f} s long"
            )
        rows = slice(first, last)
        return replace(
            self,
            expression=self.expression[rows],
            joints=self.joints[rows],
            held=self.held[rows],
            head_to_world=None if self.head_to_world is None else self.head_to_world[rows],
            camera=None if self.camera is None else replace(self.camera, c2w=self.camera.c2w[rows]),
            provenance=replace(self.provenance, sound_start=self.provenance.sound_start + first / self.fps),
        )

    def resampled(self, fps: float) -> Motion:
        """The same performance at another rate: coefficients linear, rotations on the shortest arc in between.

        Raises:
            MotionError: a rate that nothing has.
        """
        if not 0 < fps <= MAX_FPS:
            raise MotionError(f"{fps:g} moments a second; give a rate above 0 and up to {MAX_FPS:g}")
        if fps == self.fps or len(self) == 1:
            return replace(self, fps=fps)
        last = (len(self) - 1) / self.fps
        count = int(np.floor(last * fps + 1e-6)) + 1
        if count > MAX_FRAMES:
            raise MotionError(f"{count} moments at {fps:g} a second; a motion has at most {MAX_FRAMES}")
        return replace(interpolated(self, np.arange(count) * (self.fps / fps)), fps=fps)


def interpolated(motion: Motion, positions: Float[np.ndarray, " N"]) -> Motion:
    """Moments of a motion at row numbers that need not be whole; clamped to its ends. The rate is kept."""
    positions = np.clip(np.asarray(positions, float), 0, len(motion) - 1)
    # Whole rows come out as they are stored, not as an interpolation rounds them.
    nearest = np.round(positions)
    positions = np.where(np.abs(positions - nearest) < 1e-6, nearest, positions)
    low, high, weight = _neighbours(len(motion), positions)
    joints = np.zeros((len(positions), len(motion.joint_names), 3))
    for joint in range(len(motion.joint_names)):
        joints[:, joint] = _turned(Rotation.from_rotvec(motion.joints[:, joint]), positions).as_rotvec()
    return replace(
        motion,
        expression=_linear(motion.expression, positions),
        joints=joints,
        held=np.where(weight < 0.5, motion.held[low], motion.held[high]),
        head_to_world=None if motion.head_to_world is None else transforms_at(motion.head_to_world, positions),
        camera=None
        if motion.camera is None
        else replace(motion.camera, c2w=transforms_at(motion.camera.c2w, positions)),
    )


def _neighbours(count: int, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows before and after each position, and the later one's share."""
    low = np.minimum(positions.astype(int), max(0, count - 2))
    return low, np.minimum(low + 1, count - 1), positions - low


def _linear(values: np.ndarray, positions: np.ndarray) -> np.ndarray:
    low, high, weight = _neighbours(len(values), positions)
    share = weight.reshape(-1, *[1] * (values.ndim - 1))
    return values[low] * (1 - share) + values[high] * share


def _turned(rotations: Rotation, positions: np.ndarray) -> Rotation:
    if len(rotations) == 1:
        return rotations[np.zeros(len(positions), int)]
    return Slerp(np.arange(len(rotations)), rotations)(positions)


def transforms_at(
    matrices: Float[np.ndarray, "N 4 4"], positions: Float[np.ndarray, " M"]
) -> Float[np.ndarray, "M 4 4"]:
    """Rigid transforms at row numbers, 0 to N - 1, that need not be whole: translations linear, turns the short way."""
    out = _linear(matrices, positions)
    out[:, :3, :3] = _turned(Rotation.from_matrix(matrices[:, :3, :3]), positions).as_matrix()
    out[:, 3] = (0, 0, 0, 1)
    return out


def _column(name: str, where: tuple[int, ...], expressions: tuple[str, ...], joints: tuple[str, ...]) -> str:
    """The part of an array's name that says which expression or joint an index means."""
    if name == "expression":
        return f" {expressions[where[1]]!r}"
    return f" {joints[where[1]]!r}" if name == "joints" else ""
