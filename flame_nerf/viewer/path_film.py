"""Films of the page's camera path: what `ns-render camera-path` shows is what the page showed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from flame_nerf.motion import Motion, Pose, Provenance, motion_of_poses, pose_at
from flame_nerf.motion.files.motion_file import write_motion
from flame_nerf.motion.path_motion import AVATAR_KEY, MOTION_KEY, avatar_entry, motion_beside, path_motion
from flame_nerf.motion.performance import interpolated
from flame_nerf.motion.pose import copied_motion
from flame_nerf.runtime.door import read_json
from flame_nerf.runtime.errors import MotionError
from flame_nerf.runtime.files import complete_file
from flame_nerf.viewer.handles import by_hand, labelled
from flame_nerf.viewer.keyframes import FacePath
from flame_nerf.viewer.stage import VIDEO, Stage

if TYPE_CHECKING:
    from viser import GuiEvent, ViserServer

BLEND, PLAY = "blend the keyframes'", "play what is shown"
"""What a film's faces do."""


class PathFilm:
    """Faces of the Render tab's path: at keyframes, in its preview, and in the film that its command makes."""

    def __init__(self, server: ViserServer, path: FacePath, stage: Stage, folder: Path, provenance: Provenance) -> None:
        """
        Args:
            server: the page's.
            path: its camera path.
            stage: whose faces keyframes carry.
            folder: where Nerfstudio keeps the page's camera paths.
            provenance: whose motions the films' are.
        """
        self._server, self._path, self._stage, self._folder = server, path, stage, folder
        self._provenance = provenance
        path.avatar = stage.avatar
        path.face = lambda: (stage.pose(), stage.time)
        path.stored_face = self._stored_face
        self._name = labelled(server, "Render name")
        self.choice: Any = None
        time = labelled(server, "Default Time")
        if time is not None:
            # Keyframes carry their faces; a time for all of them would be of no effect.
            time.visible = False
        generate = labelled(server, "Generate Command")
        if generate is not None and stage.avatar.can_pose:
            generate.on_click(self._generated)
            self._add_choice(generate)

    def _add_choice(self, generate: Any) -> None:
        """A choice in the Render tab, above the button that makes the film."""
        gui = self._server.gui
        before = gui._get_container_id()
        gui._set_container_id(generate._impl.parent_container_id)
        try:
            hint, order = "What the film's faces do between its keyframes", generate.order - 0.5
            self.choice = gui.add_dropdown("Faces", (BLEND, PLAY), hint=hint, order=order)
        finally:
            gui._set_container_id(before)

    @property
    def plays(self) -> bool:
        """Whether a film plays what is shown, instead of blending the keyframes' faces."""
        return self.choice is not None and self.choice.value == PLAY

    def motion(self, normalized: np.ndarray) -> Motion:
        """The film's faces at positions from 0 to 1 along the path."""
        if not self.plays:
            return self._path.blended(normalized, self._provenance)
        shown = self._shown()
        rows = normalized * self._path.compute_duration() * shown.fps
        return interpolated(shown, rows % len(shown))

    def pose(self, position: float) -> Pose:
        """The film's face at a position from 0 to 1 along the path."""
        return pose_at(self.motion(np.array([position])), 0.0)

    def _shown(self) -> Motion:
        stage = self._stage
        if stage.source in stage.motions:
            return stage.motions[stage.source]
        avatar = stage.avatar
        rows = range(avatar.num_timesteps) if stage.source == VIDEO else ()
        poses = [avatar.pose_at_timestep(row) for row in rows] or [stage.pose()]
        return motion_of_poses(poses, avatar, avatar.fps, self._provenance)

    def _json(self) -> Path:
        return self._folder / "camera_paths" / f"{self._name.value if self._name is not None else ''}.json"

    def _generated(self, event: GuiEvent) -> None:
        """Nerfstudio has just written the path: its motion goes beside it, and its name into it."""
        if event.client is None:
            return
        path, count = self._json(), self._path.num_frames
        if self._path.num_keyframes < 2 or count < 1 or not path.is_file():
            return
        try:
            film = self.motion(np.arange(count) / count)
            write_motion(film, motion_beside(path))
            document = read_json(path, ValueError)
            document[MOTION_KEY] = motion_beside(path).name
            document[AVATAR_KEY] = avatar_entry(self._stage.avatar, self._provenance.source)
            for keyframe, time in zip(document["keyframes"], self._path.keyframe_times(), strict=True):
                keyframe |= {"render_time": time, "override_time_enabled": True}
            with complete_file(path, "camera path", MotionError) as spare:
                spare.write_text(json.dumps(document), encoding="utf-8")
        except (MotionError, OSError, ValueError, KeyError) as error:
            event.client.add_notification("The film's faces were not written", str(error), color="red")

    def _stored_face(self, time: float) -> Pose | None:
        """The face that the path of the page's name has at a time."""
        try:
            stored = path_motion(self._json())
            if stored is None or not self._stage.avatar.can_pose:
                return None
            own = copied_motion(stored, self._stage.avatar)
        except MotionError:
            return None
        return pose_at(own, time * (len(own) - 1))

    def follow_preview(self, viewer: Any) -> None:
        """Show the film's faces while the page previews the film."""

        def previewed(position: float) -> None:
            if viewer.render_tab_state.preview_render and self._stage.avatar.can_pose:
                self._stage.preview(self.pose(position))

        self._path.watcher = previewed
        stop = labelled(self._server, "Exit Render Preview")
        if stop is not None:
            stop.on_click(by_hand(self._stage.apply))
