"""Who may open the viewer: this machine alone, unless the command line says otherwise."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from nerfstudio.utils.rich_utils import CONSOLE

from flame_nerf.training.viewer_visitors import HERE, guard_viewer

if TYPE_CHECKING:
    from nerfstudio.configs.base_config import ViewerConfig

LOCAL = "127.0.0.1"
EVERYWHERE = "0.0.0.0"
"""Nerfstudio's default: every address of the machine."""
OPTION = "websocket-host"


def keep_local(viewer: ViewerConfig) -> ViewerConfig:
    """A viewer's settings with Nerfstudio's default address made this machine's own.

    `ns-viewer` throws a run's own settings away and puts its defaults in their place. An address that was chosen is
    kept, and what it means is said.
    """
    guard_viewer(viewer.make_share_url)
    host = viewer.websocket_host
    if host in HERE:
        return viewer
    if host != EVERYWHERE or any(OPTION in argument.replace("_", "-") for argument in sys.argv[1:]):
        CONSOLE.print(
            f"[bold red]The viewer listens on {host}: whoever reaches this machine over the network can open it, see "
            "the head, and write files into the run's folder; nothing asks for a password."
        )
        return viewer
    viewer.websocket_host = LOCAL
    CONSOLE.print(f"The viewer listens on this machine alone ({LOCAL}); --viewer.{OPTION} {host} opens it to others.")
    return viewer
