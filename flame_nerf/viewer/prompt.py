"""A browser's pictures soon after what they show: Nerfstudio's render state machine, fitted to a face that moves."""

from __future__ import annotations

from collections.abc import Callable
from types import FrameType
from typing import Any

from nerfstudio.viewer_legacy.server.viewer_utils import IOChangeException

BREAKS_IN = ("flame_nerf.render.", "flame_nerf.baselines.")
"""Modules at whose calls a picture is broken off: they hold no lock and import nothing."""


def prompt_pictures(machine: Any, begin: Callable[[], None]) -> None:
    """Shorten a browser's way from a change to its picture.

    - `begin` is called as each picture begins, on the thread that renders it: it brings the newest face, and those in
      between need not be posed.
    - What moves ends in the sharp picture at once. Nerfstudio first renders the small one once more.
    - A picture is broken off for a newer one at calls of this package's rendering alone. Nerfstudio looks at each line
      that Python runs, which takes a good part of a small picture's time, and stops in the middle of anything.
    - An order to break off that came after the picture was done does not break off the next one.
    - A picture leaves when it is there, and does not wait for others to leave with it.

    Args:
        machine: the browser's render state machine.
        begin: what is done first.
    """
    render, send = machine._render_img, machine._send_output_to_viewer

    def render_newest(camera_state: Any) -> dict[str, Any]:
        begin()
        if machine.state != "high":
            machine.interrupt_render_flag = False
        return render(camera_state)

    def send_at_once(*outputs: Any, **options: Any) -> None:
        send(*outputs, **options)
        machine.client.flush()

    def broken_off(frame: FrameType, event: str, _: Any) -> None:
        if not machine.interrupt_render_flag or frame.f_code.co_name == "<module>":
            return
        if frame.f_globals.get("__name__", "").startswith(BREAKS_IN):
            machine.interrupt_render_flag = False
            raise IOChangeException

    machine._render_img, machine._send_output_to_viewer = render_newest, send_at_once
    machine.check_interrupt = broken_off
    machine.transitions["low_move"]["static"] = "high"
