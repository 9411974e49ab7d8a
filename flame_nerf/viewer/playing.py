"""What is shown and how it runs: the choice of source, the frame, play, speed and loop."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from flame_nerf.viewer.handles import by_hand
from flame_nerf.viewer.stage import SLIDERS, VIDEO, Stage

if TYPE_CHECKING:
    from viser import GuiApi, GuiFolderHandle, GuiInputHandle

SPEEDS = (0.1, 3.0)
MOST_RATE = 60.0
"""Moments a second that a player shows; it leaves out those in between."""


class Player:
    """The handles of what is shown, and the thread that plays it.

    Attributes:
        source, frame, play, speed, loop: the handles on the page.
    """

    def __init__(self, gui: GuiApi, folder: GuiFolderHandle, stage: Stage, watched: Callable[[], bool]) -> None:
        """
        Args:
            gui, folder: where the handles are made.
            stage: what is shown.
            watched: whether anybody looks; nothing plays for nobody.
        """
        self._gui, self._folder, self._stage, self._watched = gui, folder, stage, watched
        self._thread: threading.Thread | None = None
        still = stage.avatar.num_timesteps < 2
        with folder:
            self.source = gui.add_dropdown("Show", self._options(), initial_value=VIDEO, hint="What moves the face")
            self.frame = self._frame_slider(stage.count, 0)
            self.play = gui.add_checkbox("Play", False, hint="Plays the video, or the motion shown", disabled=still)
            self.speed = gui.add_slider("Speed", *SPEEDS, 0.1, 1.0, hint="Times its own speed")
            self.loop = gui.add_checkbox("Loop", True, hint="Begins anew at the end")
        self.source.on_update(by_hand(lambda: self.show(self.source.value)))
        self.play.on_update(by_hand(self._start))

    def _options(self) -> tuple[str, ...]:
        return (VIDEO, *([SLIDERS] if self._stage.avatar.can_pose else []), *self._stage.motions)

    def _frame_slider(self, count: int, value: int, order: float | None = None) -> GuiInputHandle:
        """viser cannot move a slider's ends: it is made anew for what has another length."""
        self._count = count
        hint = "A frame of the video or the motion"
        last, still = max(1, count - 1), count < 2
        slider = self._gui.add_slider("Frame", 0, last, 1, value, hint=hint, order=order, disabled=still)
        slider.on_update(by_hand(lambda: self._go(self.frame.value)))
        return slider

    def _go(self, frame: int) -> None:
        # The sliders stand on no frame: who moves this one wants to see the video.
        self._stage.go(VIDEO if self._stage.source == SLIDERS else None, frame)
        self.refresh()

    def show(self, source: str) -> None:
        """Show the video, the sliders or a motion."""
        self._stage.go(source)
        self.refresh()

    def refresh(self) -> None:
        """Set the handles to what the stage shows."""
        with self._stage.lock:
            stage, options = self._stage, self._options()
            if self.source.options != options:
                self.source.options = options
            if self.source.value != stage.source:
                self.source.value = stage.source
            if stage.count != self._count:
                old = self.frame
                with self._folder:
                    self.frame = self._frame_slider(stage.count, stage.frame, old.order)
                old.remove()
                self.play.disabled = stage.count < 2
            elif self.frame.value != stage.frame:
                self.frame.value = stage.frame

    def _start(self) -> None:
        # A box ticked again before the last player has noticed that it was unticked must not leave two of them.
        self._thread = threading.Thread(target=self._keep_playing, name="head-panel-play", daemon=True)
        if self.play.value:
            if self._stage.source == SLIDERS:
                self.show(VIDEO)
            self._thread.start()

    def _keep_playing(self) -> None:
        """Shows row after row until the box is unticked or the end is there, leaving out those it is late for."""
        stage, source = self._stage, self._stage.source
        last, position, now = stage.count - 1, float(stage.frame), time.monotonic()
        if not self.loop.value and position >= last:
            position = 0.0
        while self._thread is threading.current_thread() and self.play.value and self._watched():
            time.sleep(1.0 / min(MOST_RATE, max(1.0, stage.fps * self.speed.value)))
            before, now = now, time.monotonic()
            if stage.source != source:
                # Another source plays on from its beginning; sliders stop the play.
                source, last, position = stage.source, stage.count - 1, float(stage.frame)
                if source == SLIDERS:
                    break
            elif stage.frame != int(position):
                position = float(stage.frame)
            position += (now - before) * stage.fps * self.speed.value
            if position > last:
                if not self.loop.value:
                    stage.go(frame=last)
                    self.refresh()
                    break
                position %= last + 1
            if int(position) != stage.frame:
                stage.go(frame=int(position))
                self.refresh()
        if self._thread is threading.current_thread():
            self.play.value = False
