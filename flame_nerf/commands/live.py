"""``flame-nerf live``: an avatar that does what somebody's face does right now."""

from __future__ import annotations

import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from flame_nerf.runtime.errors import UserError
from flame_nerf.runtime.film_options import TransferConfig

if TYPE_CHECKING:
    from flame_nerf.viewer.live.moment import Receiver

SWITCH = 0.001
"""Seconds that a thread may keep the interpreter while others want it."""

AvatarPath = Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="CONFIG|AVATAR.zip")]


@dataclass
class Live:
    """Drive a trained avatar live on the viewer's page, by a phone's Live Link Face, a camera or a video.

    The page is for this machine alone. The port for the phone is, too, unless --listen says otherwise.

    Examples:
      flame-nerf live avatar.zip --udp-port 11111 --listen 192.168.1.20
      flame-nerf live avatar.zip --camera 0
      flame-nerf live avatar.zip --video me.mp4
    """

    config: AvatarPath
    """The config.yml of a training run, or a file that `flame-nerf pack` wrote."""
    udp_port: int | None = None
    """Listen for Live Link Face's packets at this UDP port; the app's own habit is 11111."""
    listen: str = "127.0.0.1"
    """Address of this machine that packets are heard at. A phone needs the one it reaches: name it knowingly, for
    anybody in that network can then send."""
    camera: int | None = None
    """Look at this camera, 0 the first. Keep a relaxed face for the first two seconds."""
    video: Path | None = None
    """Look at this video instead of a camera, in real time."""
    data: Path | None = None
    """The subject's folder, where it was moved and is not found beside or above the run."""
    port: int = 7007
    """Of the page."""
    transfer: tyro.conf.OmitArgPrefixes[TransferConfig] = field(default_factory=TransferConfig)

    def run(self) -> None:
        from flame_nerf.avatar.loading import open_avatar

        if sum(source is not None for source in (self.udp_port, self.camera, self.video)) != 1:
            raise UserError("what drives the avatar? give one of --udp-port 11111, --camera 0 and --video FILE")
        if self.udp_port is not None and not 0 <= self.udp_port <= 65535:
            raise UserError(f"--udp-port is {self.udp_port}; give 1 to 65535")
        self.transfer.check()
        receiver = self._receiver()
        try:
            with open_avatar(self.config, self.data) as avatar:
                self._serve(avatar.config, avatar.load(), receiver)
        finally:
            receiver.close()

    def _receiver(self) -> Receiver:
        if self.udp_port is not None:
            from flame_nerf.viewer.live.udp import LiveLinkReceiver

            receiver = LiveLinkReceiver(self.udp_port, self.listen)
            print(f"listening for Live Link Face: {self.listen} port {receiver.port}", flush=True)
            return receiver
        from flame_nerf.commands.tracked import live_face, played
        from flame_nerf.viewer.live.camera import CameraReceiver
        from flame_nerf.viewer.live.pictures import Camera, Footage

        if self.video is not None:
            return CameraReceiver(Footage(self.video.name, played(self.video)), live_face())
        assert self.camera is not None, "one of three is given"
        return CameraReceiver(Camera(self.camera), live_face())

    def _serve(self, config: Any, pipeline: Any, receiver: Receiver) -> None:
        from nerfstudio.scripts.viewer.run_viewer import _start_viewer

        model = pipeline.model
        if not model.motion.can_pose:
            raise UserError(f"{self.config}: {model.motion.why_no_head}")
        config.vis, config.viewer.quit_on_train_completion = "viewer", False
        # Each camera of the training costs the browser something with every picture, though it is hidden; and without
        # them nothing stands in the picture that its depth would have to hide, which takes as long to show again.
        config.viewer.max_num_display_images, config.viewer.default_composite_depth = 0, False
        config.viewer.websocket_host, config.viewer.websocket_port = "127.0.0.1", self.port
        # A picture is hundreds of small steps: after each the interpreter is waited for while another thread has it.
        sys.setswitchinterval(SWITCH)
        # The viewer's log lies there; a run that was copied elsewhere need not have the folder.
        config.get_base_dir().mkdir(parents=True, exist_ok=True)
        threading.Thread(target=_drive, args=(model, receiver, self.transfer), name="live", daemon=True).start()
        _start_viewer(config, pipeline, 0)


def _drive(model: Any, receiver: Receiver, transfer: TransferConfig) -> None:
    from nerfstudio.utils.rich_utils import CONSOLE

    from flame_nerf.runtime.door import said
    from flame_nerf.viewer.live.driving import LiveDriver

    # A video that plays before anybody looks is over when the page opens.
    while model.panel.player is None or not model.panel.viser_server.get_clients():
        time.sleep(0.1)
    try:
        LiveDriver(model.panel, receiver, transfer).run()
    except Exception as error:
        CONSOLE.print(f"flame-nerf: live driving has ended: {said(error)}", style="bold red", markup=False)
