"""What stands in for Nerfstudio's viewer, a model and a person's hand where the panel is tested without a browser."""

from pathlib import Path
from types import SimpleNamespace

import torch

from flame_nerf.viewer import HeadPanel

CLIENT = SimpleNamespace()


class FakeViewer:
    """What of Nerfstudio's viewer the panel touches."""

    def __init__(self, server, cameras=(), folder=Path("nowhere")):
        self.viser_server = server
        self.stats_markdown = SimpleNamespace(order=3, content="Step: 7  \nResolution: 3x4px")
        hideable = SimpleNamespace(set_hidden=lambda hidden: None)
        self.control_panel = SimpleNamespace(
            _max_res=SimpleNamespace(value=512), viser_scale_ratio=10.0, _train_speed=hideable, _train_util=hideable,
            _layer_depth=SimpleNamespace(value=True),
        )  # fmt: skip
        self.trainer, self.train_lock = None, None
        self.pause_train, self.resume_train = SimpleNamespace(visible=True), SimpleNamespace(visible=False)
        self.log_filename, self.datapath = folder / "viewer.log", folder
        dataset = SimpleNamespace(cameras=cameras, __len__=lambda: len(cameras))
        self.pipeline = SimpleNamespace(
            datamanager=SimpleNamespace(train_dataset=None if not len(cameras) else dataset)
        )
        self.render_statemachines = {}
        self.renders = 0

    def _trigger_rerender(self):
        self.renders += 1


class FakeModel(SimpleNamespace):
    """What of a model the panel touches; its pictures are black."""

    def __init__(self, motion, **more):
        super().__init__(motion=motion, override=None, device="cpu", training=False, **more)

    def trust_map(self):
        raise ValueError("no training camera is known")

    def eval(self):
        return self

    def train(self, mode):
        return self

    def get_outputs_for_camera(self, camera):
        return {"rgb": torch.zeros(int(camera.height), int(camera.width), 3)}


def install(server, motion, folder=Path("nowhere"), **more):
    model = FakeModel(motion, **more)
    panel, viewer = HeadPanel(model), FakeViewer(server, folder=folder)
    panel._setup(viewer)
    return model, panel, viewer


def move(handle, value):
    """What the viewer does when a person moves something on the page."""
    handle._impl.value = value
    for callback in handle._impl.update_cb:
        callback(SimpleNamespace(client_id=0, client=CLIENT, target=handle))


def labelled(server, label):
    """The newest handle of the page that has this label."""
    handles = reversed(server.gui._gui_input_handle_from_id.values())
    return next(handle for handle in handles if handle._impl.label == label)


def press(handle, value=True):
    """What the viewer does when a person presses a button, or one of a group."""
    move(handle, value)
