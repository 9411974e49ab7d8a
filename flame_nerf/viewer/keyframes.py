"""Keyframes of Nerfstudio's Render tab that carry the face that stood when they were set."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from nerfstudio.viewer import render_panel

from flame_nerf.motion import Motion, Pose, Provenance, SubjectMotion, motion_of_poses
from flame_nerf.motion.performance import interpolated

_PATHS: WeakKeyDictionary[Any, FacePath] = WeakKeyDictionary()
_STOCK: type = render_panel.CameraPath


class FacePath(_STOCK):
    """Nerfstudio's camera path, with a face at each keyframe. As Nerfstudio's own until a panel sets `face`.

    Attributes:
        face: gives the pose that is shown now and the video's time that it is at.
        stored_face: gives the pose that a loaded path has at a time from 0 to 1; None where it has none.
        avatar: whose poses they are.
        watcher: called with a position from 0 to 1 whenever the path is asked about it.
    """

    def __init__(self, server: Any, *arguments: Any, **options: Any) -> None:
        super().__init__(server, *arguments, **options)
        _PATHS[server] = self
        self.face: Callable[[], tuple[Pose | None, float]] | None = None
        self.stored_face: Callable[[float], Pose | None] = lambda time: None
        self.avatar: SubjectMotion | None = None
        self.watcher: Callable[[float], None] = lambda position: None
        self._faces: dict[int, tuple[Pose | None, float]] = {}
        self._loaded: dict[int, float] = {}

    def add_camera(self, keyframe: Any, keyframe_index: int | None = None) -> None:
        new = self._keyframe_counter if keyframe_index is None else None
        if new is not None and self.face is not None:
            self._faces[new] = self.face()
            if keyframe.override_time_enabled and keyframe.override_time_val is not None:
                # Of a path that is being loaded: its file is known once all keyframes stand.
                self._loaded[new] = float(keyframe.override_time_val)
        super().add_camera(keyframe, keyframe_index)

    def reset(self) -> None:
        self._faces.clear()
        super().reset()

    def update_spline(self) -> None:
        for index, time in list(self._loaded.items()):
            pose = self.stored_face(time)
            if pose is not None:
                self._faces[index] = pose, time
        self._loaded.clear()
        super().update_spline()

    def interpolate_pose_and_fov_rad(self, normalized_t: float) -> Any:
        found = super().interpolate_pose_and_fov_rad(normalized_t)
        if found is None or self.face is None or len(found) < 3:
            return found
        self.watcher(normalized_t)
        if self.avatar is not None and self.avatar.can_pose:
            count = self.num_frames
            return (*found[:2], float(np.clip(normalized_t * count / max(1, count - 1), 0.0, 1.0)))
        return (*found[:2], self._time_at(normalized_t))

    @property
    def num_frames(self) -> int:
        """Pictures of the film."""
        return int(self.framerate * self.compute_duration())

    @property
    def num_keyframes(self) -> int:
        """Keyframes that stand."""
        return len(self._keyframes)

    def keyframe_times(self) -> list[float]:
        """Where the keyframes are in the film's motion, from 0 to 1."""
        seconds = self.compute_transition_times_cumsum()[: self.num_keyframes]
        last = max(1e-9, (self.num_frames - 1) / self.framerate)
        return [float(value) for value in np.clip(seconds / last, 0.0, 1.0)]

    def _positions(self, normalized: np.ndarray) -> np.ndarray:
        """Numbers of keyframes, which need not be whole, that the camera is at."""
        return self.spline_t_from_t_sec(self.compute_duration() * normalized)

    def _carried(self) -> list[tuple[Pose | None, float]]:
        now = self.face() if self.face is not None else (None, 0.0)
        faces = [self._faces.get(index, now) for index in self._keyframes]
        return [*faces, faces[0]] if self.loop else faces

    def _time_at(self, normalized_t: float) -> float:
        times = [time for _, time in self._carried()]
        position = float(self._positions(np.array([normalized_t]))[0])
        return float(np.interp(position, np.arange(len(times)), times))

    def blended(self, normalized: np.ndarray, provenance: Provenance) -> Motion:
        """The faces between the keyframes, at positions from 0 to 1 along the path; as the camera, they slow down
        and speed up with the keyframes' own times."""
        avatar = self.avatar
        assert avatar is not None, "a path that carries faces has been told whose"
        poses = [pose or avatar.rest_pose() for pose, _ in self._carried()]
        keys = motion_of_poses(poses, avatar, max(1.0, self.framerate), provenance)
        return interpolated(keys, self._positions(normalized))


def carry_faces() -> None:
    """Let the viewers that this process makes from here on have paths that carry faces."""
    render_panel.CameraPath = FacePath


def path_of(server: Any) -> FacePath | None:
    """The camera path of a page; None where its viewer was made without."""
    return _PATHS.get(server)
