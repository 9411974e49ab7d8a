"""The tab of motions: record a take, name it, save and send it, load motion files."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flame_nerf.motion import Motion, MotionError, save_motion
from flame_nerf.viewer.handles import by_hand, on_press, plain_text
from flame_nerf.viewer.recorder import Recorder
from flame_nerf.viewer.shelf import Shelf, file_name
from flame_nerf.viewer.stage import SLIDERS, VIDEO, Stage

if TYPE_CHECKING:
    from viser import GuiApi, GuiTabHandle

NOTHING = "none saved"


class MotionTab:
    """Handles of the tab, and what they do.

    Attributes:
        status: one line about what was done last, or why not.
    """

    def __init__(
        self, gui: GuiApi, tab: GuiTabHandle, stage: Stage, shelf: Shelf, subject: str, show: Callable[[str], None]
    ) -> None:
        """
        Args:
            gui, tab: where the handles are made.
            stage: what is recorded, and what shows motions.
            shelf: motion files.
            subject: name of the avatar's subject.
            show: shows a motion of the stage by its name.
        """
        self._stage, self._shelf, self._subject, self._show = stage, shelf, subject, show
        self.recorder = Recorder(stage.avatar)
        stage.watchers.append(self.recorder.note)
        self._takes = 0
        with tab:
            self.record = gui.add_button("Record", color="red", hint="Records what sliders and play do from now on")
            self.stop = gui.add_button("Stop recording", color="red", visible=False)
            self.name = gui.add_text("Name", "take 1", hint="What the shown take is called and saved as")
            self.keep = gui.add_button_group("Take", ("save", "download"))
            self.upload = gui.add_upload_button(
                "Load a motion file", hint="A motion's .npz, Live Link Face's or another CSV, LAM's JSON"
            )
            self.saved = gui.add_dropdown("Saved", self._saved(), hint="Motions beside the checkpoint")
            self.status = gui.add_markdown("Record what you do, or load a motion.")
        self.record.on_click(by_hand(self._reported(self.start)))
        self.stop.on_click(by_hand(self._reported(self.finish)))
        self.upload.on_upload(by_hand(self._reported(self._received)))
        self.saved.on_update(by_hand(self._reported(self._load)))
        on_press(self.keep, self._keep)

    def _saved(self) -> tuple[str, ...]:
        names = self._shelf.names()
        return ("choose one …", *names) if names else (NOTHING,)

    def _reported(self, action: Callable[[], str]) -> Callable[[], None]:
        """The action, with what it says or what stands in its way as the tab's line."""

        def run() -> None:
            try:
                self.say(action())
            except MotionError as error:
                self.say(str(error), wrong=True)

        return run

    def say(self, text: str, wrong: bool = False) -> None:
        """Set the tab's line."""
        self.status.content = f"**Not done.** {plain_text(text)}" if wrong else plain_text(text)

    def start(self) -> str:
        """Begin a take."""
        pose = self._stage.pose()
        if pose is None:
            raise MotionError(f"nothing can be recorded: {self._stage.avatar.why_no_head}")
        self.recorder.start(pose)
        self.record.visible, self.stop.visible = False, True
        return "Recording: move sliders, or play."

    def finish(self) -> str:
        """End the take, and show it."""
        take = self.recorder.stop(self._subject)
        self.record.visible, self.stop.visible = True, False
        self._takes += 1
        name = self._offer(take, f"take {self._takes}")
        return f"{name}: {take.seconds:.1f} s. Name it, and save it."

    def _offer(self, motion: Motion, name: str) -> str:
        """Put a motion on the stage under a name of its own, and show it."""
        name = f"{name} (motion)" if name in (VIDEO, SLIDERS) else name
        self._stage.motions[name] = motion
        self.name.value = name
        self._show(name)
        return name

    def _received(self) -> str:
        sent = self.upload.value
        return self._loaded(self._shelf.received(sent.name, sent.content), Path(sent.name).name)

    def _load(self) -> str:
        if self.saved.value not in self._shelf.names():
            return "Choose a motion."
        return self._loaded(self._shelf.load(self.saved.value), self.saved.value)

    def _loaded(self, motion: Motion, name: str) -> str:
        name = self._offer(motion, name)
        assumed = f" Assumed: {'; '.join(motion.provenance.assumed)}." if motion.provenance.assumed else ""
        return f"{name}: {len(motion)} moments at {motion.fps:g} a second.{assumed}"

    def _shown(self) -> Motion:
        motion = self._stage.motions.get(self._stage.source)
        if motion is None:
            raise MotionError("no take or motion is shown; record one, or choose one under Show")
        return motion

    def save(self) -> str:
        """Save the shown motion beside the checkpoint, under the name on the page."""
        path = self._shelf.save(self._shown(), self.name.value)
        self.saved.options = self._saved()
        return f"Saved: {path}"

    def _keep(self, what: str, client: Any) -> None:
        self._reported(self.save if what == "save" else lambda: self._download(client))()

    def _download(self, client: Any) -> str:
        name = file_name(self.name.value)
        with tempfile.TemporaryDirectory() as folder:
            lost = save_motion(self._shown(), Path(folder) / name)
            client.send_file_download(name, (Path(folder) / name).read_bytes())
        return f"Sent: {name}" + (f", without {'; '.join(lost)}" if lost else "")
