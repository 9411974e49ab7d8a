"""The moments a subject can show: replayed, interpolated, or posed anew by its head model."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from flame_nerf.motion.frame import EYE_JOINTS, PosedFrame, condition_names, condition_vector
from flame_nerf.motion.live_head import LiveHead
from flame_nerf.motion.performance import Motion
from flame_nerf.motion.pose import Pose, copied_motion, pose_at
from flame_nerf.runtime.errors import MotionError

if TYPE_CHECKING:
    from nerfstudio.cameras.cameras import Cameras

    from flame_nerf.heads import HeadModel
    from flame_nerf.subject import HeadTrack

Joints = Mapping[str, Sequence[float]]


class SubjectMotion:
    """A subject's track as a source of `PosedFrame`s.

    Replay needs the track alone. `pose` needs the head model as well. The stored meshes stay where the track has them,
    in main memory or mapped from disk, and are read one by one; what is returned lies on `device`.
    """

    def __init__(
        self,
        track: HeadTrack,
        head: HeadModel | None = None,
        device: torch.device | str = "cpu",
        fps: float = 25.0,
    ) -> None:
        """
        Args:
            track: the subject's track, stabilised: world is the head frame.
            head: the head model that posed it; None leaves replay only.
            device: where the returned tensors lie.
            fps: stored frames a second.

        A head model that does not fit the track is set aside; `why_no_head` then says why.
        """
        self.expression_names: tuple[str, ...] = tuple(track.expression_names)
        self.joint_names: tuple[str, ...] = tuple(track.joint_names)
        self.condition_names: tuple[str, ...] = condition_names(self.expression_names, self.joint_names)
        self.fps = fps
        self._device = torch.device(device)
        self._vertices = track.vertices
        self._canonical = torch.from_numpy(np.asarray(track.canonical_vertices, dtype=np.float32))
        self.of_head: Bool[Tensor, " V"] = torch.zeros(len(self._canonical), dtype=torch.bool)
        """Vertices above the neck."""
        self.of_head[torch.from_numpy(track.faces[~track.region_faces("neck")].astype(np.int64)).flatten()] = True
        self._expression = torch.from_numpy(np.array(track.expression, dtype=np.float32))
        self._pose = torch.from_numpy(np.array(track.pose, dtype=np.float32))
        self._condition = condition_vector(self._expression, self._pose, self.joint_names)
        self._rest_pose = self._mean_carriage()
        self._neutral: PosedFrame | None = None
        self._live: LiveHead | None = None
        self._played: Motion | None = None
        self.why_no_head: str = ""
        """Why new expressions cannot be posed; empty when they can."""
        if head is None:
            self.why_no_head = (
                "this subject's head model was not found: load it with flame_nerf.heads.load_head, or put it into the "
                "subject's folder as head_model.npz; stored frames can still be replayed"
            )
        else:
            try:
                self._live = LiveHead(head.to("cpu"), track)
            except ValueError as error:
                self.why_no_head = f"{error}; stored frames can still be replayed"

    @property
    def num_timesteps(self) -> int:
        """Number of stored timesteps T: rows of the track."""
        return len(self._vertices)

    @property
    def condition_dim(self) -> int:
        """Length C of a condition."""
        return self._condition.shape[-1]

    @property
    def conditions(self) -> Float[Tensor, "T C"]:
        """Conditions of all stored frames."""
        return self._condition.to(self._device, copy=True)

    @property
    def stored_expression(self) -> Float[Tensor, "T E"]:
        """Expression coefficients of all stored frames, in the order of `expression_names`; on the CPU, a copy."""
        return self._expression.clone()

    @property
    def stored_pose(self) -> Float[Tensor, "T J 3"]:
        """Axis-angle joint rotations of all stored frames, radians, in the order of `joint_names`; a copy."""
        return self._pose.clone()

    @property
    def can_pose(self) -> bool:
        """True if `pose`, and with it sliders and sweeps, are available."""
        return self._live is not None

    @property
    def live(self) -> LiveHead | None:
        """The subject's own head as its head model poses it; None where new expressions cannot be posed."""
        return self._live

    @property
    def pose_names(self) -> tuple[str, ...]:
        """Expressions that `pose` understands: the head model's and those derived from them; none without one."""
        return self._live.pose_names if self._live is not None else ()

    @property
    def pose_joints(self) -> tuple[str, ...]:
        """Joints that `pose` understands: the head model's; none without one."""
        return self._live.joint_names if self._live is not None else ()

    @property
    def centre(self) -> Float[Tensor, " 3"]:
        """Middle of the canonical mesh's bounding box, metres: what a camera path turns around."""
        return (0.5 * (self._canonical.amin(0) + self._canonical.amax(0))).to(self._device)

    @property
    def size(self) -> Float[Tensor, " 3"]:
        """Of the canonical mesh's bounding box, metres; on the CPU."""
        return self._canonical.amax(0) - self._canonical.amin(0)

    @property
    def turning_point(self) -> Float[Tensor, " 3"]:
        """Where the skull turns on the neck, metres, in the head frame: the head model's joint, else a third of the
        canonical mesh's height above its lower end."""
        if self._live is not None:
            return self._live.turning_point.to(self._device)
        low, high = self._canonical.amin(0), self._canonical.amax(0)
        return torch.stack([self.centre[0].cpu(), low[1] + (high[1] - low[1]) / 3, self.centre[2].cpu()]).to(
            self._device
        )

    def to(self, device: torch.device | str) -> SubjectMotion:
        """Sets where returned tensors lie; the stored meshes stay where they are."""
        self._device = torch.device(device)
        return self

    def at_timestep(self, timestep: int) -> PosedFrame:
        """The stored head of a timestep (a row of the track).

        Raises:
            IndexError: there is no such timestep.
        """
        if not 0 <= timestep < self.num_timesteps:
            raise IndexError(f"timestep {timestep} of a subject with timesteps 0 to {self.num_timesteps - 1}")
        return PosedFrame(self._stored(timestep).to(self._device), self._condition[timestep].to(self._device))

    def _stored(self, timestep: int) -> Float[Tensor, "V 3"]:
        # A copy: a mapped row is read-only, and need not be aligned.
        return torch.from_numpy(np.array(self._vertices[timestep], dtype=np.float32))

    def at_time(self, time: float) -> PosedFrame:
        """The moment at `time`, 0 the first and 1 the last stored frame (or moment of what `play` was given), linear
        between rows; clamped outside."""
        if math.isnan(time):
            raise MotionError("time is not a number; give a value from 0 (first frame) to 1 (last frame)")
        time = min(max(time, 0.0), 1.0)
        if self._played is not None:
            return self.shown(pose_at(self._played, time * (len(self._played) - 1)))
        position = time * (self.num_timesteps - 1)
        # Times travel as float32: a millionth of a frame is one and the same frame.
        nearest = round(position)
        if abs(position - nearest) < 1e-3:
            return self.at_timestep(nearest)
        row, weight = int(position), position - int(position)
        vertices = torch.lerp(self._stored(row), self._stored(row + 1), weight)
        condition = torch.lerp(self._condition[row], self._condition[row + 1], weight)
        return PosedFrame(vertices.to(self._device), condition.to(self._device))

    def play(self, motion: Motion | None) -> None:
        """Let times name moments of a motion from here on, copied number by number; None: the stored frames again.

        Raises:
            MotionError: no head model, or a name that it has not.
        """
        if motion is not None and self._live is None:
            raise MotionError(f"new expressions cannot be posed: {self.why_no_head}")
        self._played = None if motion is None else copied_motion(motion, self)

    def along(self, cameras: Cameras) -> list[PosedFrame]:
        """One moment for each camera of a path, by its `times`; neutral where the path has none."""
        times = cameras.times
        if times is None:
            neutral = self.neutral()
            return [neutral] * cameras.camera_to_worlds[..., 0, 0].numel()
        return [self.at_time(float(time)) for time in times.reshape(-1)]

    def neutral(self) -> PosedFrame:
        """Every coefficient zero, neck and eyes as the subject usually has them; without a head model the canonical
        mesh. The same object each time."""
        if self._neutral is None:
            # Posed with the head model it need not be the canonical mesh: that may have its jaw open.
            resting = PosedFrame(self._canonical, torch.zeros(self.condition_dim))
            self._neutral = resting if self._live is None else self.pose()
        self._neutral = self._neutral.to(self._device)
        return self._neutral

    def coefficients(self, timestep: int) -> tuple[dict[str, float], dict[str, tuple[float, float, float]]]:
        """Expression coefficients and joint rotations of a stored timestep, by name: what `pose` takes."""
        expression = dict(zip(self.expression_names, self._expression[timestep].tolist(), strict=True))
        joints = dict(zip(self.joint_names, map(tuple, self._pose[timestep].tolist()), strict=True))
        return expression, joints

    def pose(
        self,
        expression: Mapping[str, float] | Float[Tensor, " E"] | None = None,
        joints: Joints | Float[Tensor, "J 3"] | None = None,
    ) -> PosedFrame:
        """A moment of one's own, posed by the head model at the subject's identity.

        Args:
            expression: coefficients by name (the rest zero), or all of them in the order of `pose_names`.
            joints: axis-angle rotations in radians by joint name, or all of them in the order of `pose_joints`. By
                name, the jaw rests at zero, the neck as the subject carries it and the eyes where they usually look.

        Returns:
            mesh and condition; not differentiable.

        Raises:
            MotionError: no head model, an unknown name, a wrong length, or a value that is not a number.
        """
        if self._live is None:
            raise MotionError(f"new expressions cannot be posed: {self.why_no_head}")
        coefficients = self._by_name(expression, self._live.pose_names, "expression", ())
        rotations = self._by_name(joints, self._live.joint_names, "joint", (3,))
        if not isinstance(joints, Tensor):
            for row, name in enumerate(self._live.joint_names):
                if name not in (joints or {}) and name in self.joint_names:
                    rotations[row] = self._rest_pose[self.joint_names.index(name)]
        vertices, coefficients, rotations = self._live.pose(coefficients, rotations)
        shown = coefficients[[self._live.expression_names.index(name) for name in self.expression_names]]
        turned = rotations[[self._live.joint_names.index(name) for name in self.joint_names]]
        condition = condition_vector(shown, turned, self.joint_names)
        return PosedFrame(vertices.to(self._device), condition.to(self._device))

    def rest_pose(self) -> Pose:
        """The pose of which nothing is asked: `pose()` in numbers."""
        joints = np.array([self.rest_joint(name) for name in self.pose_joints], np.float64).reshape(-1, 3)
        return Pose(np.zeros(len(self.pose_names)), joints, np.eye(4))

    def pose_at_timestep(self, timestep: int) -> Pose:
        """A stored timestep by its coefficients; its mesh may have more than these say."""
        expression, joints = self.coefficients(timestep)
        values = np.array([expression.get(name, 0.0) for name in self.pose_names])
        turns = np.array([joints.get(name, (0.0, 0.0, 0.0)) for name in self.pose_joints]).reshape(-1, 3)
        return Pose(values, turns, np.eye(4))

    def shown(self, pose: Pose) -> PosedFrame:
        """The moment of a pose, the head moved as it says."""
        frame = self.pose(torch.from_numpy(pose.expression).float(), torch.from_numpy(pose.joints).float())
        if np.array_equal(pose.movement, np.eye(4)):
            return frame
        movement = torch.from_numpy(pose.movement)
        turn, shift = movement[:3, :3].to(frame.vertices), movement[:3, 3].to(frame.vertices)
        return PosedFrame(frame.vertices @ turn.T + shift, frame.condition, movement)

    def skull_movement(self, joints: Float[np.ndarray, "J 3"]) -> Float[np.ndarray, "4 4"]:
        """How the head moves where neck and head turn on shoulders that stay: rigid, in the head frame, metres.

        Args:
            joints: axis-angle rotations in the order of `pose_joints`, radians.
        """
        if self._live is None:
            return np.eye(4)
        return self._live.skull_movement(joints, self.rest_pose().joints)

    def expression_sweep(self, name: str, count: int, peak: float = 1.0) -> list[PosedFrame]:
        """One expression from 0 to `peak` and back to 0, eased at both ends, all else neutral.

        Args:
            name: one of `pose_names`.
            count: number of moments, at least 3; the largest of them is `peak` exactly.
            peak: coefficient in the middle.
        """
        if count < 3:
            raise MotionError(f"a sweep of {count} frames; give at least 3")
        rise = [0.5 - 0.5 * math.cos(2.0 * math.pi * step / (count - 1)) for step in range(count)]
        top = max(rise)
        return [self.pose({name: peak * value / top}) for value in rise]

    def _mean_carriage(self) -> Float[Tensor, "J 3"]:
        """Rotation a joint has by itself: the track's mean for neck and head, its median for the eyes, whose zero is
        the head model's and not where this person looks, and zero for the jaw, which makes an expression."""
        rest = self._pose.mean(0)
        for name in ("root", "jaw"):
            if name in self.joint_names:
                rest[self.joint_names.index(name)] = 0.0
        for name in EYE_JOINTS:
            if name in self.joint_names:
                row = self.joint_names.index(name)
                rest[row] = self._pose[:, row].median(dim=0).values
        return rest

    def rest_joint(self, name: str) -> tuple[float, float, float]:
        """Axis-angle turn, radians, of a joint that nobody turns; zero where the track has no such joint."""
        if name not in self.joint_names:
            return (0.0, 0.0, 0.0)
        return tuple(self._rest_pose[self.joint_names.index(name)].tolist())

    @staticmethod
    def _by_name(
        values: Mapping | Tensor | Iterable | None, names: tuple[str, ...], what: str, entry: tuple[int, ...]
    ) -> Tensor:
        """`values` as a tensor [len(names), *entry] in the order of `names`."""
        shape = (len(names), *entry)
        if values is None or isinstance(values, Mapping):
            out = torch.zeros(shape)
            for name, value in (values or {}).items():
                if name not in names:
                    close = difflib.get_close_matches(name, names, n=3) or list(names[:3]) + ["…"]
                    raise MotionError(f"the head model has no {what} {name!r}; it has {', '.join(close)}")
                out[names.index(name)] = torch.as_tensor(value, dtype=torch.float32)
        else:
            out = torch.as_tensor(values, dtype=torch.float32).detach().cpu()
            if out.shape != shape:
                raise MotionError(f"{what} values of shape {tuple(out.shape)}; the head model takes {shape}")
            out = out.clone()
        if not bool(torch.isfinite(out).all()):
            bad = names[int((~torch.isfinite(out)).reshape(len(names), -1).any(-1).nonzero()[0])]
            raise MotionError(f"{what} {bad!r} is not a finite number")
        return out
