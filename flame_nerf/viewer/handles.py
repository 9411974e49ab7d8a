"""Small help with viser's and Nerfstudio's handles."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from nerfstudio.utils.rich_utils import CONSOLE

from flame_nerf.runtime.words import escape, printable

if TYPE_CHECKING:
    from viser import GuiEvent, ViserServer


def by_hand(action: Callable[[], Any]) -> Callable[[GuiEvent], None]:
    """A callback for what a person does on the page; values that the panel sets itself carry no client.

    What goes wrong is said in the terminal: it must not end the thread that hears the page.
    """

    def callback(event: GuiEvent) -> None:
        if event.client_id is None:
            return
        try:
            action()
        except Exception as error:
            CONSOLE.print(f"[bold yellow]Head panel: {type(error).__name__}: {escape(error)}")

    return callback


def on_press(group: Any, action: Callable[[str, Any], Any]) -> None:
    """Call `action` with the words of the pressed button of a group, and the client, at every press.

    viser takes a group for a choice, and hears no second press of one button, nor the first of the first.
    """
    group._impl.value = ""

    def callback(event: GuiEvent) -> None:
        pressed, client = group.value, event.client
        group._impl.value = ""
        by_hand(lambda: action(pressed, client))(event)

    group.on_click(callback)


def labelled(server: ViserServer, label: str) -> Any | None:
    """The input or button with this label, wherever on the page it is; None where there is none."""
    handles = list(server.gui._gui_input_handle_from_id.values())
    return next((handle for handle in handles if handle._impl.label == label), None)


def plain_text(text: str) -> str:
    """A line as viser's pages show it: they read what looks like tags or braces as a program's text."""
    return re.sub(r"([\\`*_{}\[\]<>#|~&])", r"\\\1", printable(" ".join(text.split())))
