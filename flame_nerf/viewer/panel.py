"""The head panel: faces, motions and films in Nerfstudio's viewer."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from nerfstudio.cameras.cameras import Cameras, CameraType
from nerfstudio.utils.rich_utils import CONSOLE
from nerfstudio.viewer.viewer_elements import ViewerControl
from torch import Tensor

from flame_nerf.film.paths import mean_camera
from flame_nerf.film.pictures import to_uint8
from flame_nerf.motion import PosedFrame, Provenance
from flame_nerf.runtime.compatibility import mend_two_keyframes
from flame_nerf.runtime.heap import give_back, share_heaps
from flame_nerf.runtime.words import escape
from flame_nerf.viewer.handles import by_hand, plain_text
from flame_nerf.viewer.keyframes import carry_faces, path_of
from flame_nerf.viewer.mesh_overlay import MeshOverlay
from flame_nerf.viewer.page import hide_time, hide_training, moving_pictures, shared_note
from flame_nerf.viewer.path_film import PathFilm
from flame_nerf.viewer.playing import Player
from flame_nerf.viewer.prompt import prompt_pictures
from flame_nerf.viewer.shelf import Shelf
from flame_nerf.viewer.stage import Stage
from flame_nerf.viewer.tabs.face_tab import FaceTab
from flame_nerf.viewer.tabs.kept_faces_tab import FacesTab
from flame_nerf.viewer.tabs.motion_tab import MotionTab
from flame_nerf.viewer.tabs.render_tab import set_field_of_view
from flame_nerf.viewer.trust_bar import TrustBars

if TYPE_CHECKING:
    from nerfstudio.viewer.viewer import Viewer
    from viser import ClientHandle

CPU_RESOLUTION = 384
"""Longest side of the settled picture without a GPU, pixels."""
CLOSER = 1.25
"""Times that small pictures are larger than the first view."""
WARM_UP = 16
"""Pixels of the width and height of the first picture, which nobody sees."""
CPU_MOVING_FPS = 10
"""Pictures a second aimed at while something moves, without a GPU: Nerfstudio's 30 leave a postage stamp, and fewer
larger ones come late."""
CPU_MOVING_WIDTH = 96
"""Pixels that they are wide at least."""
FALLBACK_DISTANCE = 0.6
"""Metres from the head to the first view where there are no training cameras."""
FALLBACK_FOV = 0.5
"""Its field of view from top to bottom, radians."""


class HeadPanel(ViewerControl):
    """A panel that says which moment the model shows, by setting ``model.override`` and asking for a new picture.

    Give the model an attribute of this type and Nerfstudio's viewer installs it. Without a head model for the subject
    the expression sliders are left out and a line says why.

    Attributes:
        stage: what is shown; None until a viewer installs the panel.
        player, face, motions, faces, film, trust: parts of the page; None where there is no such part.
    """

    def __init__(self, model: Any) -> None:
        """
        Args:
            model: has ``motion`` (a `SubjectMotion`), ``override`` (a `PosedFrame` or None), ``device`` and
                ``trust_map()``; where they are to be had, ``subject`` and ``head``, too.
        """
        self._model = model
        self.stage: Stage | None = None
        self.player: Player | None = None
        self.face: FaceTab | None = None
        self.motions: MotionTab | None = None
        self.faces: FacesTab | None = None
        self.film: PathFilm | None = None
        self.trust: TrustBars | None = None
        self._mesh: MeshOverlay | None = None
        self._note: Any = None
        self._browsers: set[int | None] = set()
        self._next: Callable[[], PosedFrame] | None = None
        self._bringing = threading.Lock()
        self._train_cameras_hidden = False
        # Before a viewer is made: its Render tab has the path that carries faces.
        carry_faces()

    def _setup(self, viewer: Viewer) -> None:
        """Called by the viewer once its own panels stand. Whatever goes wrong here costs the panel, not the viewer."""
        super()._setup(viewer)
        # Each browser that comes is rendered for on a thread of its own.
        share_heaps()
        try:
            if getattr(self._model, "motion", None) is None:
                return
            self.stage = Stage(self._model.motion, self._show)
            if torch.device(self._model.device).type == "cpu":
                viewer.control_panel._max_res.value = CPU_RESOLUTION
            hide_training(viewer)
            hide_time(viewer)
            # Nerfstudio breaks a rendering off wherever it is, were it in the middle of the kernels' first import,
            # which then fails for good. They are used once before anybody can move anything.
            self.picture(self._model.motion.at_timestep(0), WARM_UP)
            self._build()
            viewer.viser_server.scene.set_up_direction("+y")
            mend_two_keyframes()
            set_field_of_view(viewer.viser_server, self._first_view()[2])
            viewer.viser_server.on_client_connect(self.greet)
            viewer.viser_server.on_client_disconnect(self._leave)
            self.stage.apply()
        except Exception as error:
            CONSOLE.print(f"[bold yellow]The head panel could not be made: {type(error).__name__}: {escape(error)}")

    @property
    def is_moving(self) -> bool:
        """Whether the picture being rendered on this thread is one of the viewer's that a better one will follow."""
        viewer = getattr(self, "viewer", None)
        machines = list(viewer.render_statemachines.values()) if viewer is not None else []
        return any(
            machine is threading.current_thread() and getattr(machine, "state", "high") != "high"
            for machine in machines
        )

    def _show(self, moment: Callable[[], PosedFrame]) -> None:
        """Ask for a new picture of a moment, which is posed when a picture begins: between two there may come many."""
        self._next = moment
        if not self.viewer.render_statemachines:
            self.bring()
        # A client that is just connecting has no renderer yet; it renders as soon as it has one.
        with contextlib.suppress(KeyError):
            self.viewer._trigger_rerender()

    def bring(self) -> None:
        """Give the model the newest moment, where there is one that it has not."""
        with self._bringing:
            moment, self._next = self._next, None
            if moment is None:
                return
            try:
                frame = moment()
                self._model.override = frame.to(self._model.device)
                if self._mesh is not None:
                    self._mesh.show(frame)
                if self.trust is not None:
                    self.trust.show(frame)
            except Exception as error:
                CONSOLE.print(f"[bold yellow]Head panel: {type(error).__name__}: {escape(error)}")

    # The page.

    def _build(self) -> None:
        server, stage, viewer = self.viser_server, self.stage, self.viewer
        gui, order = server.gui, viewer.stats_markdown.order
        subject = self._model.subject if hasattr(self._model, "subject") else None
        name = subject.root.name if subject is not None else "avatar"
        provenance = Provenance(source=name)
        # Under the resolution, above Nerfstudio's tabs: this is what people come for.
        folder = gui.add_folder("Head", order=order + 0.4)
        with folder:
            self._note = gui.add_markdown("", visible=False)
        # Above it, and each browser's own.
        self.trust = TrustBars(self._model.trust_map, viewer.control_panel.viser_scale_ratio, order + 0.35)
        self.player = Player(gui, folder, stage, lambda: bool(server.get_clients()))
        if subject is not None:
            self._mesh = MeshOverlay(server, subject.track.faces, viewer.control_panel.viser_scale_ratio)
            with folder:
                mesh = gui.add_checkbox("Mesh", False, hint="The head model's mesh over the picture")
            mesh.on_update(by_hand(lambda: self._want_mesh(mesh.value)))
        if self.trust.why_none:
            with folder:
                gui.add_markdown(plain_text(f"No trust bar: {self.trust.why_none}."))
        if not stage.avatar.can_pose:
            with folder:
                gui.add_markdown(plain_text(f"No expression sliders: {stage.avatar.why_no_head}."))
        else:
            self._build_tabs(gui.add_tab_group(order=order + 0.5), name, Path(viewer.log_filename).parent)
        path = path_of(server)
        if path is not None:
            self.film = PathFilm(server, path, stage, Path(viewer.datapath), provenance)
            self.film.follow_preview(viewer)

    def _build_tabs(self, tabs: Any, subject: str, run: Path) -> None:
        gui, stage, player = self.viser_server.gui, self.stage, self.player
        head = getattr(self._model, "head", None)
        self.face = FaceTab(gui, tabs.add_tab("Face"), stage, player.refresh)
        shelf = Shelf(run / "motions", stage.avatar, subject, head.name if head is not None else "")
        self.motions = MotionTab(gui, tabs.add_tab("Motion"), stage, shelf, subject, player.show)

        def taken() -> None:
            self.face.refresh()
            player.refresh()

        self.faces = FacesTab(
            gui, tabs.add_tab("Kept faces"), stage, subject, run / "motions" / "kept faces.npz", self.picture, taken
        )

    def _want_mesh(self, wanted: bool) -> None:
        self._mesh.wanted = wanted
        # The picture's depth would hide what lies a hair behind the skin.
        self.viewer.control_panel._layer_depth.value = not wanted
        self.stage.apply()

    def picture(self, frame: PosedFrame, size: int) -> UInt8[np.ndarray, "S S 3"]:
        """A square picture of a moment from the first view, `size` pixels wide."""
        position, look_at, fov = self._first_view()
        backward = torch.nn.functional.normalize(position - look_at, dim=0)
        right = torch.linalg.cross(torch.tensor([0.0, 1.0, 0.0], dtype=backward.dtype), backward)
        right = torch.nn.functional.normalize(right, dim=0)
        up = torch.linalg.cross(backward, right)
        c2w = torch.stack([right, up, backward, position], dim=1).float()
        focal = 0.5 * size / float(np.tan(0.5 * fov)) * CLOSER
        camera = Cameras(c2w[None], focal, focal, size / 2, size / 2, size, size, camera_type=CameraType.PERSPECTIVE)
        model = self._model
        # No other picture begins with this one's moment.
        with self._bringing, self.viewer.train_lock or contextlib.nullcontext():
            before, training = model.override, model.training
            try:
                model.eval()
                model.override = frame.to(model.device)
                with torch.no_grad():
                    return to_uint8(model.get_outputs_for_camera(camera.to(model.device))["rgb"])
            finally:
                model.override = before
                model.train(training)

    def greet(self, client: ClientHandle) -> None:
        """Places a new client's camera in front of the face, and clears the training cameras out of its way."""
        try:
            self._place_camera(client)
            machine = self.viewer.render_statemachines.get(client.client_id)
            if machine is not None:
                prompt_pictures(machine, self.bring)
                if torch.device(self._model.device).type == "cpu":
                    moving_pictures(machine, CPU_MOVING_FPS, CPU_MOVING_WIDTH)
            if not self._train_cameras_hidden and getattr(self.viewer, "camera_handles", None):
                self._train_cameras_hidden = True
                self.viewer.set_camera_visibility(False)
                self.viewer.toggle_cameravis_button()
            self._count_browsers(coming=client.client_id)
            if self.trust is not None:
                self.trust.greet(client)
        except Exception as error:
            CONSOLE.print(
                f"[bold yellow]Head panel: the first view could not be set: {type(error).__name__}: {escape(error)}"
            )

    def _leave(self, client: ClientHandle) -> None:
        self._count_browsers(leaving=client.client_id)
        if self.trust is not None:
            self.trust.leave(client.client_id)
        give_back()

    def _count_browsers(self, coming: int | None = None, leaving: int | None = None) -> None:
        # viser's own list is locked while it greets a client.
        self._browsers = (self._browsers | {coming}) - {None, leaving}
        note = shared_note(len(self._browsers))
        self._note.content = note
        self._note.visible = bool(note)

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
