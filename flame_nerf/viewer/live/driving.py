"""From a receiver's moments to the page: transfer onto the avatar, and the line that says how it goes."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np

from flame_nerf.motion import Motion, Pose, Provenance, SubjectMotion, TransferConfig, pose_at
from flame_nerf.motion.arkit import BLINKS
from flame_nerf.motion.own_motion import own_motion
from flame_nerf.runtime.door import said
from flame_nerf.viewer.handles import plain_text
from flame_nerf.viewer.live.moment import LiveMoment, Receiver
from flame_nerf.viewer.panel import HeadPanel

LIVE = "live"
"""Name of what is shown, beside the video, the sliders and motions."""
MOST_RATE = 30.0
"""Moments a second that are shown; of those in between the newest wins."""
SAY_EVERY = 1.0
"""Seconds between two lines about how it goes: a browser typesets each anew, while it has pictures to show."""
CLOSED = 0.8
"""What a blink reaches in a performer who has not closed their eyes yet."""


class LiveTransfer:
    """Moments as they come, onto one avatar: relative to the first one's head, blinks scaled by what was seen."""

    def __init__(self, avatar: SubjectMotion, config: TransferConfig | None = None) -> None:
        """
        Args:
            avatar: who performs.
            config: how; smoothing has no past to look at, and is left out.
        """
        self._avatar, self._config = avatar, config
        self._first_turn: np.ndarray | None = None
        self._reach: dict[str, float] = dict.fromkeys(BLINKS, CLOSED)

    def note(self, moment: LiveMoment) -> None:
        """Learn how the performer began, and how far they go; also from moments that are never shown."""
        if self._first_turn is None:
            self._first_turn = moment.head_turn
        self._reach |= {name: max(value, self._reach.get(name, 0.0)) for name, value in moment.expression.items()}

    def motion(self, moment: LiveMoment) -> Motion:
        """One moment in the avatar's own numbers.

        Raises:
            MotionError: no head model, or no name in common.
        """
        self.note(moment)
        names = tuple(moment.expression)
        # How far the performer goes stands before the moment, so that the transfer knows their range.
        values = np.array([[self._reach[name] for name in names], [moment.expression[name] for name in names]])
        world = np.tile(np.eye(4), (2, 1, 1))
        world[:, :3, :3] = self._first_turn, moment.head_turn
        joints = np.tile(np.array(list(moment.eyes.values())).reshape(1, -1, 3), (2, 1, 1))
        both = Motion(
            expression=values, expression_names=names, fps=MOST_RATE, joints=joints, joint_names=tuple(moment.eyes),
            head_to_world=world, provenance=Provenance(source=LIVE, turns_only=True),
        )  # fmt: skip
        return own_motion(both, self._avatar, "", "", self._config).cropped(start=1 / MOST_RATE)


class LiveDriver:
    """Shows a receiver's newest moment on a page, and says beside it how fast it goes.

    Attributes:
        shown: moments shown so far; several that come during one picture are one there.
        latency: seconds from a moment's arrival to its being given to the renderer, mean of the last that were drawn.
    """

    def __init__(self, panel: HeadPanel, receiver: Receiver, config: TransferConfig | None = None) -> None:
        """
        Args:
            panel: of a viewer that stands.
            receiver: where moments come from.
            config: of the transfer.
        """
        assert panel.stage is not None and panel.player is not None, "the viewer stands first"
        self._stage, self._player, self._receiver = panel.stage, panel.player, receiver
        tab = panel.motions
        self._is_recorded: Callable[[], bool] = lambda: tab is not None and tab.recorder.running
        self._newest: LiveMoment | None = None
        self._transfer = LiveTransfer(self._stage.avatar, config)
        self._line: Any = panel.viser_server.gui.add_markdown(receiver.status(), order=0)
        self._delays: deque[float] = deque(maxlen=30)
        self._times: deque[float] = deque(maxlen=30)
        self._said = time.monotonic()
        self.shown = 0
        self._stopped = threading.Event()

    @property
    def latency(self) -> float:
        """See the class."""
        return float(np.mean(self._delays)) if self._delays else 0.0

    def run(self) -> None:
        """Show moments until `stop`. An error is said on the page, which is where somebody looks, and raised."""
        try:
            self._follow()
        except Exception as error:
            self._line.content = f"**Live driving has ended**: {plain_text(said(error))}"
            raise
        finally:
            self._receiver.close()

    def _follow(self) -> None:
        while not self._stopped.is_set():
            began = time.monotonic()
            moment = self._receiver.newest(0.2)
            if moment is not None:
                self.show(moment)
            if time.monotonic() - self._said > SAY_EVERY:
                self._say()
            self._stopped.wait(max(0.0, began + 1 / MOST_RATE - time.monotonic()))

    def stop(self) -> None:
        """End `run`."""
        self._stopped.set()

    def show(self, moment: LiveMoment) -> None:
        """Show one moment, unless somebody chose to look at something else."""
        stage, self._newest = self._stage, moment
        self._transfer.note(moment)
        with stage.lock:
            if LIVE not in stage.motions:
                self._pose()
                self._player.show(LIVE)
            elif stage.source == LIVE:
                if self._is_recorded():
                    self._pose()
                    stage.apply()
                else:
                    stage.follow(self._pose)
        self._times.append(time.monotonic())
        self.shown += 1

    def _pose(self) -> Pose:
        """The newest moment on the avatar. Most packets bring none that is drawn: it is made when it is."""
        moment = self._newest
        assert moment is not None, "one was received"
        motion = self._stage.motions[LIVE] = self._transfer.motion(moment)
        self._delays.append(time.monotonic() - moment.seen)
        return pose_at(motion, 0)

    def _say(self) -> None:
        self._said = time.monotonic()
        text = f"**Live.** {self._receiver.status()}."
        recent = [when for when in self._times if self._said - when < 2]
        if len(recent) > 1:
            rate = (len(recent) - 1) / max(recent[-1] - recent[0], 1e-3)
            text += f" {rate:.0f} faces a second, {1000 * self.latency:.0f} ms behind."
        if self._line.content != text:
            self._line.content = text
