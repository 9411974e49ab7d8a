"""Nerfstudio's own parts of the page, fitted to a head: what a finished avatar has no use for goes."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nerfstudio.viewer.viewer import Viewer

_SIZE = re.compile(r"\d+x\d+px")


def hide_training(viewer: Viewer) -> None:
    """Leave out the training's step, pause and speed on the page of an avatar that is trained already."""
    if getattr(viewer, "trainer", None) is not None:
        return
    for button in (viewer.pause_train, viewer.resume_train):
        button.visible = False
    for name in ("_train_speed", "_train_util"):
        getattr(viewer.control_panel, name).set_hidden(True)
    kept = "0x0px"

    def resolution(step: int | None, size: str | None) -> str:
        nonlocal kept
        kept = kept if size is None else size
        return f"Resolution: {kept}"

    viewer.make_stats_markdown = resolution
    viewer.stats_markdown.content = resolution(None, None)
    viewer.stats_markdown = _SaidOnce(viewer.stats_markdown)


class _SaidOnce:
    """Words on a page that are sent when they are others: Nerfstudio writes them anew with every picture, and a browser
    typesets them anew each time."""

    def __init__(self, handle: Any) -> None:
        self._handle = handle

    def __getattr__(self, name: str) -> Any:
        return getattr(self._handle, name)

    @property
    def content(self) -> str:
        return self._handle.content

    @content.setter
    def content(self, content: str) -> None:
        if content != self._handle.content:
            self._handle.content = content


def hide_time(viewer: Viewer) -> None:
    """Leave out Nerfstudio's own time slider: the panel has one over frames."""
    panel: Any = viewer.control_panel
    if hasattr(panel, "_time"):
        panel._time_enabled = False
        panel._time.set_hidden(True)


def shared_note(count: int) -> str:
    """What a page says where several browsers look at it; empty for one."""
    if count < 2:
        return ""
    return f"{count} browsers show this head: each has its own camera, the face is the same in all."


def moving_pictures(machine: Any, per_second: float, least_width: int) -> None:
    """Fit a browser's pictures of what moves to a slow renderer.

    Nerfstudio makes them as small as 30 a second ask for. And it counts what a picture costs whatever its size as a
    cost of its rays, so that small pictures lead to smaller ones.

    Args:
        machine: the browser's render state machine.
        per_second: pictures aimed at.
        least_width: of a picture, pixels.
    """
    machine.target_fps = per_second
    stock = machine._calculate_image_res

    def at_least(aspect_ratio: float) -> tuple[int, int]:
        height, width = stock(aspect_ratio)
        if width >= least_width:
            return height, width
        return max(1, round(least_width / aspect_ratio)), least_width

    machine._calculate_image_res = at_least
