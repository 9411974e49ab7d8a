"""The tab of kept faces: small pictures of poses; a click puts the face back."""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
from jaxtyping import UInt8

from flame_nerf.film.pictures import labelled
from flame_nerf.motion import MotionError, Pose, PosedFrame, Provenance, motion_of_poses, own_motion, pose_at
from flame_nerf.motion.files.motion_file import read_motion, write_motion
from flame_nerf.viewer.handles import by_hand, on_press, plain_text
from flame_nerf.viewer.stage import Stage

if TYPE_CHECKING:
    from viser import GuiApi, GuiTabHandle

IN_A_ROW = 4
MOST_FACES = 24
"""Faces that are kept; each costs a picture when the page is made."""
THUMBNAIL = 96
"""Width and height of a small picture, pixels: as many of them as stand in a row are as wide as the panel."""
GAP = 4
KEPT_FPS = 1.0
"""Rate of the file that kept faces lie in, which is a motion: one face a second."""


class FacesTab:
    """Handles of the tab, and what they do.

    Attributes:
        poses: the kept faces.
    """

    def __init__(
        self,
        gui: GuiApi,
        tab: GuiTabHandle,
        stage: Stage,
        subject: str,
        file: Path,
        picture: Callable[[PosedFrame, int], UInt8[np.ndarray, "H W 3"]],
        taken: Callable[[], None],
    ) -> None:
        """
        Args:
            gui, tab: where the handles are made.
            stage: what is kept and put back.
            subject: name of the avatar's subject.
            file: where kept faces lie, a motion file.
            picture: renders a moment, so many pixels wide and high.
            taken: called after a face was put back.
        """
        self._gui, self._tab, self._stage, self._subject, self._file = gui, tab, stage, subject, file
        self._picture, self._taken = picture, taken
        self.poses: list[Pose] = []
        self._pictures: list[np.ndarray] = []
        self._handles: list = []
        with tab:
            self.keep = gui.add_button("Keep this face", hint="A small picture of it; a click on its number returns it")
            self.forget = gui.add_button("Forget the last one", color="gray")
            self.status = gui.add_markdown("No face is kept yet.")
        self.keep.on_click(by_hand(self._reported(self._keep)))
        self.forget.on_click(by_hand(self._reported(self._forget)))
        self._reported(self._read)()

    def _reported(self, action: Callable[[], str]) -> Callable[[], None]:
        def run() -> None:
            try:
                self.status.content = plain_text(action())
            except MotionError as error:
                self.status.content = f"**Not done.** {plain_text(str(error))}"

        return run

    def _read(self) -> str:
        if not self._file.is_file() or not self._stage.avatar.can_pose:
            return "No face is kept yet."
        kept = own_motion(read_motion(self._file), self._stage.avatar, self._subject, "")
        for row in range(min(len(kept), MOST_FACES)):
            self._append(pose_at(kept, row))
        self._build()
        return self._told()

    def _told(self) -> str:
        return "Press a number to put its face back." if self.poses else "No face is kept yet."

    def _keep(self) -> str:
        pose = self._stage.pose()
        if pose is None:
            raise MotionError(f"no face can be kept: {self._stage.avatar.why_no_head}")
        if len(self.poses) == MOST_FACES:
            raise MotionError(f"{MOST_FACES} faces are kept, which is the most; forget one first")
        self._append(pose)
        self._build()
        self._write()
        return self._told()

    def _append(self, pose: Pose) -> None:
        self.poses.append(pose)
        self._pictures.append(self._picture(self._stage.avatar.shown(pose), THUMBNAIL))

    def _forget(self) -> str:
        if self.poses:
            self.poses.pop()
            self._pictures.pop()
            self._build()
            self._write()
        return self._told()

    def _write(self) -> None:
        if self.poses:
            provenance = Provenance(source=self._subject)
            write_motion(motion_of_poses(self.poses, self._stage.avatar, KEPT_FPS, provenance), self._file)
        else:
            self._file.unlink(missing_ok=True)

    def _build(self) -> None:
        """Make the pictures and their buttons anew, a row of each after the other."""
        for handle in self._handles:
            handle.remove()
        self._handles = []
        with self._tab:
            for first in range(0, len(self.poses), IN_A_ROW):
                row = self._pictures[first : first + IN_A_ROW]
                url = _data_url(strip(row, first + 1))
                self._handles.append(self._gui.add_markdown(f"![kept faces]({url})", image_root=Path()))
                buttons = self._gui.add_button_group("Put back", [str(first + place + 1) for place in range(len(row))])
                on_press(buttons, lambda pressed, client: self._put_back(pressed))
                self._handles.append(buttons)

    def _put_back(self, label: str) -> None:
        if label.isdecimal() and int(label) <= len(self.poses):
            self._stage.take(self.poses[int(label) - 1])
            self._taken()


def strip(pictures: Sequence[UInt8[np.ndarray, "S S 3"]], first: int) -> UInt8[np.ndarray, "H W 4"]:
    """A row of small pictures with a gap between, as wide as a full one; see-through where there is none.

    Args:
        pictures: 1 to `IN_A_ROW` of them.
        first: number of the first, written above it; the others count on.
    """
    numbered = [labelled(picture, str(first + place)) for place, picture in enumerate(pictures)]
    out = np.zeros((len(numbered[0]), IN_A_ROW * THUMBNAIL + (IN_A_ROW - 1) * GAP, 4), np.uint8)
    for place, picture in enumerate(numbered):
        left = place * (THUMBNAIL + GAP)
        out[:, left : left + THUMBNAIL, :3] = picture
        out[:, left : left + THUMBNAIL, 3] = 255
    return out


def _data_url(picture: UInt8[np.ndarray, "H W 4"]) -> str:
    _, encoded = cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGBA2BGRA))
    return f"data:image/png;base64,{base64.b64encode(encoded.tobytes()).decode()}"
