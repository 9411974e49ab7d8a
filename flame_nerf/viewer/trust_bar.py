"""A bar on each browser's page: how well training saw what that browser looks at."""

from __future__ import annotations

import textwrap
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from flame_nerf.motion import PosedFrame
from flame_nerf.render.observed.trust_map import GOOD, Trust, TrustMap
from flame_nerf.viewer.handles import plain_text

if TYPE_CHECKING:
    from viser import ClientHandle, GuiApi

COLOURS = ("green", "orange", "red")
"""As filmed, in part, marked. viser cannot recolour a bar: there is one of each, and one of them shows."""
LINES, LINE_LETTERS = 2, 36
"""Lines of words that most faces and views need, and letters that fit in one."""
EVERY = 0.4
"""Seconds between two changes of a page's bar: a camera that is dragged asks sixty times a second, and a browser
typesets its words anew each time, while it has pictures to show."""


class TrustBar:
    """One browser's bar and the words under it.

    Attributes:
        bars: one of each of `COLOURS`, of which at most one is visible.
        words: the number and what is missing.
    """

    def __init__(self, gui: GuiApi, order: float) -> None:
        """
        Args:
            gui: the browser's own.
            order: where on its page.
        """
        self.bars = [gui.add_progress_bar(0, visible=False, color=colour, order=order) for colour in COLOURS]
        self.words = gui.add_markdown("", order=order + 0.01)

    def show(self, trust: Trust) -> None:
        """Show how far a picture is to be trusted; what the page shows already is not sent again."""
        chosen = 2 if trust.marked else 0 if trust.value >= GOOD else 1
        for index, bar in enumerate(self.bars):
            # Something of a red bar has to be seen.
            percent = max(3, round(100 * trust.value))
            if index == chosen and bar.value != percent:
                bar.value = percent
            bar.visible = index == chosen
        # Lines are kept free for the words: they must not push the sliders below about while somebody drags one.
        free = "\\\n&nbsp;" * (LINES - len(textwrap.wrap(trust.missing, LINE_LETTERS)))
        lines = f"\\\n{plain_text(trust.missing)}" if trust.missing else ""
        words = f"**Trust {trust.value:.2f}**{lines}{free}"
        if self.words.content != words:
            self.words.content = words


class TrustBars:
    """The bars of all browsers: they follow the face, which all share, and each browser's own camera.

    Attributes:
        why_none: why there are no bars; empty where there are.
        bars: by the number of the browser.
    """

    def __init__(self, make: Callable[[], TrustMap], scale: float, order: float) -> None:
        """
        Args:
            make: makes the avatar's map, or raises a ValueError that says why there is none.
            scale: the page's units a metre.
            order: where on the page.
        """
        self._scale, self._order = scale, order
        self._map: TrustMap | None = None
        self.why_none = ""
        try:
            self._map = make()
        except ValueError as error:
            self.why_none = str(error)
        self._face: PosedFrame | None = None
        self._lock = threading.Lock()
        self._cameras: dict[int, Any] = {}
        self._next: dict[int, float] = {}
        self.bars: dict[int, TrustBar] = {}

    def greet(self, client: ClientHandle) -> None:
        """Give a new browser its bar."""
        if self._map is None:
            return
        number = client.client_id
        self.bars[number], self._cameras[number] = TrustBar(client.gui, self._order), client.camera
        client.camera.on_update(lambda camera: self._ask(number))
        self._ask(number)

    def leave(self, number: int) -> None:
        """A browser is gone."""
        for known in (self.bars, self._cameras, self._next):
            known.pop(number, None)

    def show(self, frame: PosedFrame) -> None:
        """A face is shown."""
        self._face = frame
        for number in list(self.bars):
            self._ask(number)

    def _ask(self, number: int) -> None:
        """Bring a bar up to date: now, or when its time has come again, so that the last change always counts."""
        with self._lock:
            now = time.monotonic()
            due = self._next.get(number, now)
            if due > now + EVERY:
                # One is waiting already.
                return
            self._next[number] = max(now, due) + EVERY
        if due <= now:
            self._update(number)
            return
        later = threading.Timer(due - now, self._update, (number,))
        later.daemon = True
        later.start()

    def _update(self, number: int) -> None:
        bar, face = self.bars.get(number), self._face
        if bar is not None and face is not None and self._map is not None:
            bar.show(self._map.at(face, np.asarray(self._cameras[number].position) / self._scale))
