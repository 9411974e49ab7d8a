"""The head panel: frames, named expressions, jaw and gaze in Nerfstudio's viewer."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float
from nerfstudio.utils.rich_utils import CONSOLE
from nerfstudio.viewer.viewer_elements import ViewerControl
from torch import Tensor

from flame_nerf.film.paths import mean_camera
from flame_nerf.motion.frame import EYE_JOINTS
from flame_nerf.runtime.compatibility import mend_two_keyframes
from flame_nerf.viewer.render_tab import set_field_of_view
from flame_nerf.viewer.sliders import ANGLE_RANGE_DEG, GAZE_LEFT, GAZE_UP, JAW_ANGLE, slider_groups

if TYPE_CHECKING:
    from nerfstudio.viewer.viewer import Viewer
    from viser import ClientHandle, GuiEvent, GuiInputHandle

    from flame_nerf.motion import PosedFrame, SubjectMotion

FOLLOW_TIME, FRAME, SLIDERS = "follow time", "timestep", "sliders"
"""Source of the shown pose: the viewer's own time, the timestep slider, or the expression sliders."""

CPU_RESOLUTION = 256
"""Longest side of the settled picture without a GPU, pixels."""
CPU_MOVING_FPS = 8
"""Pictures a second aimed at while something moves, without a GPU: Nerfstudio's 30 leave a postage stamp."""
FALLBACK_DISTANCE = 0.6
"""Metres from the head to the first view where there are no training cameras."""
FALLBACK_FOV = 0.5
"""Its field of view from top to bottom, radians."""


class HeadPanel(ViewerControl):
    """A panel that says which moment the model shows, by setting ``model.override`` and asking for a new picture.

    Give the model an attribute of this type and Nerfstudio's viewer installs it. Without a head model for the subject
    the expression sliders are left out and a line says why.
    """

    def __init__(self, model: Any) -> None:
        """
        Args:
            model: has ``motion`` (a `SubjectMotion`), ``override`` (a `PosedFrame` or None) and ``device``.
        """
        self._model = model
        self._lock = threading.RLock()
        self.mode_choice: GuiInputHandle | None = None
        self.frame_slider: GuiInputHandle | None = None
        self._play: GuiInputHandle | None = None
        self.expression_sliders: dict[str, GuiInputHandle] = {}
        self.angle_sliders: dict[str, GuiInputHandle] = {}
        self._base_joints: dict[str, tuple[float, float, float]] = {}
        self._player: threading.Thread | None = None
        self._train_cameras_hidden = False

    def _setup(self, viewer: Viewer) -> None:
        """Called by the viewer once its own panels stand. Whatever goes wrong here costs the panel, not the viewer."""
        super()._setup(viewer)
        try:
            motion: SubjectMotion | None = getattr(self._model, "motion", None)
            if motion is None:
                return
            self._build(motion)
            if torch.device(self._model.device).type == "cpu":
                viewer.control_panel._max_res.value = CPU_RESOLUTION
            viewer.viser_server.scene.set_up_direction("+y")
            mend_two_keyframes()
            set_field_of_view(viewer.viser_server, self._first_view()[2])
            viewer.viser_server.on_client_connect(self.greet)
        except Exception as error:
            CONSOLE.print(f"[bold yellow]The head panel could not be made: {type(error).__name__}: {error}")

    # What the panel can be told, by its own sliders or from outside.

    @property
    def mode(self) -> str:
        """`FOLLOW_TIME`, `FRAME` or `SLIDERS`."""
        return FOLLOW_TIME if self.mode_choice is None else self.mode_choice.value

    @property
    def is_moving(self) -> bool:
        """Whether the picture being rendered on this thread is one of the viewer's that a better one will follow."""
        viewer = getattr(self, "viewer", None)
        machines = list(viewer.render_statemachines.values()) if viewer is not None else []
        return any(machine is threading.current_thread() and machine.state != "high" for machine in machines)

    def show_frame(self, index: int) -> None:
        """Shows a stored frame; clamped to those there are."""
        with self._lock:
            self.frame_slider.value = int(np.clip(index, 0, self._model.motion.num_frames - 1))
            self._switch(FRAME)

    def show_expression(self, values: dict[str, float]) -> None:
        """Shows an expression of one's own: these coefficients, everything else neutral."""
        with self._lock:
            self._base_joints = {}
            self._set_sliders(values)
            self._switch(SLIDERS)

    def take_frame(self) -> None:
        """Sets the sliders to the current frame's coefficients and shows them, posed by the head model."""
        with self._lock:
            expression, joints = self._model.motion.coefficients(self.frame_slider.value)
            self._base_joints = {name: turn for name, turn in joints.items() if name in self._model.motion.pose_joints}
            self._set_sliders(expression)
            self._switch(SLIDERS)

    # Making the moment.

    def _switch(self, mode: str) -> None:
        with self._lock:
            if self.mode_choice.value != mode:
                self.mode_choice.value = mode
            self._apply()

    def _apply(self) -> None:
        """Gives the model the moment the panel stands at, and asks for a new picture."""
        try:
            with self._lock:
                posed = self._posed()
                self._model.override = None if posed is None else posed.to(self._model.device)
            self.viewer._trigger_rerender()
        except KeyError:
            # A client that is just connecting has no renderer yet; it renders as soon as it has one.
            return
        except Exception as error:
            CONSOLE.print(f"[bold yellow]Head panel: {type(error).__name__}: {error}")

    def _posed(self) -> PosedFrame | None:
        motion = self._model.motion
        if self.mode == FRAME:
            return motion.frame(self.frame_slider.value)
        if self.mode == SLIDERS:
            values = {name: slider.value for name, slider in self.expression_sliders.items()}
            return motion.pose(values, self._joint_rotations())
        return None

    def _joint_rotations(self) -> dict[str, tuple[float, float, float]]:
        """Joint rotations of the sliders over those of the frame they were taken from.

        Head axes: turning about +x lowers what points forward (opens the jaw), about +y turns it to the subject's left.
        """
        turns = dict(self._base_joints)
        radians = {label: float(np.radians(slider.value)) for label, slider in self.angle_sliders.items()}
        if JAW_ANGLE in radians:
            _, y, z = turns.get("jaw", (0.0, 0.0, 0.0))
            turns["jaw"] = (radians[JAW_ANGLE], y, z)
        for eye in EYE_JOINTS:
            if GAZE_LEFT in radians and eye in self._model.motion.pose_joints:
                x, y, z = self._model.motion.rest_joint(eye)
                turns[eye] = (x - radians[GAZE_UP], y + radians[GAZE_LEFT], z)
        return turns

    def _set_sliders(self, expression: dict[str, float]) -> None:
        """Moves the sliders to these coefficients and to the base joints' angles; does not show them yet."""
        for name, slider in self.expression_sliders.items():
            slider.value = expression.get(name, 0.0)
        jaw = self._base_joints.get("jaw", (0.0, 0.0, 0.0))
        rest = self._model.motion.rest_joint
        # Sliders at zero look where the person usually does.
        eyes = [np.subtract(self._base_joints[e], rest(e)) for e in EYE_JOINTS if e in self._base_joints]
        gaze = np.mean(eyes, axis=0) if eyes else np.zeros(3)
        for label, angle in ((JAW_ANGLE, jaw[0]), (GAZE_LEFT, gaze[1]), (GAZE_UP, -gaze[0])):
            if label in self.angle_sliders:
                self.angle_sliders[label].value = float(np.degrees(angle))

    # The page.

    def _build(self, motion: SubjectMotion) -> None:
        gui = self.viser_server.gui
        # Under the training statistics, above the tabs: this is what people come for.
        with gui.add_folder("Head", order=self.viewer.stats_markdown.order + 0.5):
            modes = (FOLLOW_TIME, FRAME, SLIDERS) if motion.can_pose else (FOLLOW_TIME, FRAME)
            self.mode_choice = gui.add_dropdown("Show", modes, initial_value=FOLLOW_TIME, hint="What moves the head")
            still, last = motion.num_frames < 2, max(1, motion.num_frames - 1)
            self.frame_slider = gui.add_slider("Frame", 0, last, 1, 0, hint="A frame of the video", disabled=still)
            self._play = gui.add_checkbox("Play", False, hint="Play the frames", disabled=still)
            if motion.can_pose:
                neutral = gui.add_button("Neutral face", hint="All sliders to zero")
                neutral.on_click(lambda _: self.show_expression({}))
                take = gui.add_button("Sliders from frame", hint="Sets the sliders to the frame's expression")
                take.on_click(lambda _: self.take_frame())
                self._build_sliders(motion)
            else:
                gui.add_markdown(f"No expression sliders: {motion.why_no_head}.")
        self.mode_choice.on_update(self._by_hand(lambda: self._apply()))
        self.frame_slider.on_update(self._by_hand(lambda: self.show_frame(self.frame_slider.value)))
        self._play.on_update(self._by_hand(self._start_playing))

    def _build_sliders(self, motion: SubjectMotion) -> None:
        gui = self.viser_server.gui
        for group in slider_groups(motion.pose_names, motion.pose_joints):
            with gui.add_folder(group.label, expand_by_default=group.label == "Jaw"):
                for name in group.expressions:
                    self.expression_sliders[name] = gui.add_slider(name, *group.expression_range, 0.01, 0.0)
                for name in group.angles:
                    self.angle_sliders[name] = gui.add_slider(name, *ANGLE_RANGE_DEG[name], 0.5, 0.0, hint="degrees")
        for slider in (*self.expression_sliders.values(), *self.angle_sliders.values()):
            slider.on_update(self._by_hand(lambda: self._switch(SLIDERS)))

    @staticmethod
    def _by_hand(action: Any) -> Any:
        """A callback for what a person does on the page; values that the panel sets itself carry no client."""

        def callback(event: GuiEvent) -> None:
            if event.client_id is not None:
                action()

        return callback

    def _start_playing(self) -> None:
        # A box ticked again before the last player has noticed that it was unticked must not leave two of them.
        self._player = threading.Thread(target=self._keep_playing, name="head-panel-play", daemon=True)
        if self._play.value:
            self._player.start()

    def _keep_playing(self) -> None:
        """Shows frame after frame at the video's speed until the box is unticked, leaving out those it is late for."""
        count, begun, first = self._model.motion.num_frames, time.monotonic(), self.frame_slider.value
        fps = self._model.motion.fps
        while self._player is threading.current_thread() and self._play.value and self.viser_server.get_clients():
            index = (first + int((time.monotonic() - begun) * fps)) % count
            if index != self.frame_slider.value or self.mode != FRAME:
                self.show_frame(index)
            time.sleep(1.0 / fps)

    def greet(self, client: ClientHandle) -> None:
        """Places a new client's camera in front of the face, and clears the training cameras out of its way."""
        try:
            self._place_camera(client)
            if torch.device(self._model.device).type == "cpu" and client.client_id in self.viewer.render_statemachines:
                self.viewer.render_statemachines[client.client_id].target_fps = CPU_MOVING_FPS
            if not self._train_cameras_hidden and getattr(self.viewer, "camera_handles", None):
                self._train_cameras_hidden = True
                self.viewer.set_camera_visibility(False)
                self.viewer.toggle_cameravis_button()
        except Exception as error:
            CONSOLE.print(f"[bold yellow]Head panel: the first view could not be set: {type(error).__name__}: {error}")

    def _first_view(self) -> tuple[Float[Tensor, " 3"], Float[Tensor, " 3"], float]:
        """Where the first view is from and what it looks at, metres, and its field of view from top to bottom, radians:
        the mean training camera's."""
        centre = self._model.motion.centre.cpu().double()
        dataset = getattr(self.viewer.pipeline.datamanager, "train_dataset", None)
        if dataset is None or len(dataset) == 0:
            return centre + torch.tensor([0.0, 0.0, FALLBACK_DISTANCE], dtype=torch.float64), centre, FALLBACK_FOV
        camera = mean_camera(dataset.cameras)
        c2w = camera.camera_to_worlds[0].double()
        position, forward = c2w[:, 3], -c2w[:, 2]
        # The orbit controls turn about the point looked at: the one on the view axis that is level with the head.
        look_at = position + forward * ((centre - position) @ forward)
        return position, look_at, 2.0 * float(torch.atan(0.5 * camera.height[0] / camera.fy[0]))

    def _place_camera(self, client: ClientHandle) -> None:
        """Viser's units are Nerfstudio's times ten."""
        position, look_at, fov = self._first_view()
        scale = self.viewer.control_panel.viser_scale_ratio
        with client.atomic():
            client.camera.up_direction = (0.0, 1.0, 0.0)
            client.camera.position = (position * scale).numpy()
            client.camera.look_at = (look_at * scale).numpy()
            client.camera.fov = fov
