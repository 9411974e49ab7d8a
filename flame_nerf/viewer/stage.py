"""What the page shows: the video, a motion, or what the sliders say. No page is needed for it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy.spatial.transform import Rotation

from flame_nerf.motion import Motion, Pose, PosedFrame, SubjectMotion, pose_at
from flame_nerf.motion.frame import EYE_JOINTS
from flame_nerf.viewer.sliders import GAZE_LEFT, GAZE_UP, JAW_ANGLE, TURNED_JOINTS, TURNS

VIDEO, SLIDERS = "video", "sliders"
"""Sources of what is shown, beside the names of motions."""
_TURN_ORDER = "YXZ"


class Stage:
    """The pose that all browsers share. Safe to be used from several threads.

    Attributes:
        source: `VIDEO`, `SLIDERS`, or a name in `motions`.
        frame: row of the video or the motion.
        expression: coefficients of the sliders.
        angles: of the sliders that turn joints, degrees.
        motions: those that may be shown, in the avatar's own numbers.
    """

    def __init__(self, avatar: SubjectMotion, show: Callable[[Callable[[], PosedFrame]], Any]) -> None:
        """
        Args:
            avatar: what it can do.
            show: shows a moment. It is given what poses it: moments may come faster than pictures.
        """
        self.lock = threading.RLock()
        self.avatar = avatar
        self.source, self.frame = VIDEO, 0
        self.expression = dict.fromkeys(avatar.pose_names, 0.0)
        self.angles: dict[str, float] = {}
        self.motions: dict[str, Motion] = {}
        self.watchers: list[Callable[[Pose], None]] = []
        """Called with every pose that is shown."""
        self._show = show
        self._base = avatar.rest_pose()

    @property
    def count(self) -> int:
        """Rows of what is shown; the sliders' are the video's."""
        shown = self.motions.get(self.source)
        return self.avatar.num_timesteps if shown is None else len(shown)

    @property
    def fps(self) -> float:
        """Rows a second of what is shown."""
        shown = self.motions.get(self.source)
        return self.avatar.fps if shown is None else shown.fps

    def go(self, source: str | None = None, frame: int | None = None) -> None:
        """Show another source or row, which is clamped to those there are."""
        with self.lock:
            if source is not None and (source in (VIDEO, SLIDERS) or source in self.motions):
                self.frame = 0 if source not in (self.source, SLIDERS) else self.frame
                self.source = source
            if frame is not None:
                self.frame = frame
            self.frame = int(np.clip(self.frame, 0, self.count - 1))
            self.apply()

    def set_sliders(self, expression: dict[str, float] | None = None, angles: dict[str, float] | None = None) -> None:
        """Change some of the sliders, and show them."""
        with self.lock:
            self.expression |= expression or {}
            self.angles |= angles or {}
            self.go(SLIDERS)

    def reset(self, names: set[str] | None = None) -> None:
        """Put sliders back to neutral and show them: all and what they stand on, or those of the given names."""
        with self.lock:
            if names is None:
                self._base = self.avatar.rest_pose()
            self.expression = {name: 0.0 if names is None or name in names else value
                               for name, value in self.expression.items()}  # fmt: skip
            self.angles = {name: 0.0 if names is None or name in names else value
                           for name, value in self.angles.items()}  # fmt: skip
            self.go(SLIDERS)

    def take(self, pose: Pose) -> None:
        """Set the sliders to a pose, and show it by them."""
        with self.lock:
            self._base = pose
            self.expression = dict(zip(self.avatar.pose_names, map(float, pose.expression), strict=True))
            self.angles = self._angles_of(pose)
            self.go(SLIDERS)

    def pose(self) -> Pose | None:
        """What is shown, by its coefficients; None where the avatar has no head model."""
        with self.lock:
            if not self.avatar.can_pose:
                return None
            if self.source == VIDEO:
                return self.avatar.pose_at_timestep(self.frame)
            if self.source == SLIDERS:
                return self._slider_pose()
            return pose_at(self.motions[self.source], self.frame)

    @property
    def time(self) -> float:
        """The video's frame as a camera's time, 0 to 1."""
        return self.frame / max(1, self.avatar.num_timesteps - 1)

    def apply(self) -> None:
        """Show what the stage stands at."""
        with self.lock:
            pose = self.pose()
            # The track's own mesh may have more than its coefficients say.
            if self.source == VIDEO or pose is None:
                self._show(partial(self.avatar.at_timestep, self.frame))
            else:
                self._show(partial(self.avatar.shown, pose))
            if pose is not None:
                for watcher in self.watchers:
                    watcher(pose)

    def follow(self, pose: Callable[[], Pose]) -> None:
        """Show the pose that stands when a picture begins. No watcher hears of it."""
        self._show(lambda: self.avatar.shown(pose()))

    def preview(self, pose: Pose) -> None:
        """Show a pose without standing at it; `apply` goes back."""
        self._show(partial(self.avatar.shown, pose))

    # What the sliders mean. Head axes: +x is the subject's left, +y up, +z out of the face.

    def _slider_pose(self) -> Pose:
        avatar = self.avatar
        joints = self._base.joints.copy()
        rest = avatar.rest_pose().joints
        row = {name: index for index, name in enumerate(avatar.pose_joints)}
        angle = {name: np.radians(value) for name, value in self.angles.items()}
        if "jaw" in row:
            # About +x what points forward is lowered: the jaw opens.
            joints[row["jaw"], 0] = angle.get(JAW_ANGLE, 0.0)
        for eye in EYE_JOINTS:
            if eye in row:
                # Counted from where the person usually looks.
                gaze = (-angle.get(GAZE_UP, 0.0), angle.get(GAZE_LEFT, 0.0), 0.0)
                joints[row[eye]] = rest[row[eye]] + gaze
        for name in TURNED_JOINTS:
            if name in row:
                turned = Rotation.from_euler(_TURN_ORDER, [angle.get(f"{name} {turn}", 0.0) for turn in TURNS])
                joints[row[name]] = (turned * Rotation.from_rotvec(rest[row[name]])).as_rotvec()
        before = avatar.skull_movement(self._base.joints)
        movement = self._base.movement @ np.linalg.inv(before) @ avatar.skull_movement(joints)
        if np.allclose(movement, np.eye(4), atol=1e-9):
            movement = np.eye(4)
        values = np.array([self.expression[name] for name in avatar.pose_names])
        return Pose(values, joints, movement)

    def _angles_of(self, pose: Pose) -> dict[str, float]:
        """The sliders' angles that come nearest to a pose, degrees."""
        row = {name: index for index, name in enumerate(self.avatar.pose_joints)}
        rest = self.avatar.rest_pose().joints
        radians: dict[str, float] = {}
        if "jaw" in row:
            radians[JAW_ANGLE] = pose.joints[row["jaw"], 0]
        eyes = [pose.joints[row[eye]] - rest[row[eye]] for eye in EYE_JOINTS if eye in row]
        if eyes:
            gaze: Float[np.ndarray, " 3"] = np.mean(eyes, axis=0)
            radians |= {GAZE_LEFT: gaze[1], GAZE_UP: -gaze[0]}
        for name in TURNED_JOINTS:
            if name in row:
                turned = Rotation.from_rotvec(pose.joints[row[name]]) * Rotation.from_rotvec(rest[row[name]]).inv()
                angles = turned.as_euler(_TURN_ORDER)
                radians |= {f"{name} {turn}": value for turn, value in zip(TURNS, angles, strict=True)}
        return {name: float(np.degrees(value)) for name, value in radians.items()}
