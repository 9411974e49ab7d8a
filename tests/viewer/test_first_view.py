"""Where a page first looks from: the mean training camera's place and field of view."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.viewer.render_state_machine import RenderStateMachine
from panel_stand_ins import FakeModel, FakeViewer, install
from synthetic import DISTANCE, look_at_origin
from synthetic_head import make_head, make_track

from flame_nerf.motion import SubjectMotion
from flame_nerf.viewer import HeadPanel
from flame_nerf.viewer.panel import CPU_MOVING_FPS, CPU_RESOLUTION
from flame_nerf.viewer.tabs.render_tab import set_field_of_view


@pytest.fixture(scope="module")
def track():
    head = make_head(turning_jaw=True)
    return make_track(head, head)


def test_the_picture_is_small_without_a_gpu(server, track):
    _, _, viewer = install(server, SubjectMotion(track))
    assert viewer.control_panel._max_res.value == CPU_RESOLUTION == 384


class FakeCamera(SimpleNamespace):
    pass


def greeted(server, track, cameras):
    panel = HeadPanel(FakeModel(SubjectMotion(track)))
    viewer = FakeViewer(server)
    if cameras is not None:

        class Dataset:
            def __len__(self):
                return len(cameras)

        dataset = Dataset()
        dataset.cameras = cameras
        viewer.pipeline.datamanager.train_dataset = dataset
    panel._setup(viewer)
    from contextlib import nullcontext

    client = SimpleNamespace(client_id=5, camera=FakeCamera(), atomic=nullcontext)
    machine = RenderStateMachine(viewer, 10.0, client)
    machine._calculate_image_res = lambda aspect: (30, 45)
    viewer.render_statemachines[5] = machine
    viewer.camera_handles, viewer.hidden = {0: None}, []
    viewer.set_camera_visibility = viewer.hidden.append
    viewer.toggle_cameravis_button = lambda: viewer.hidden.append("button")
    panel.greet(client)
    panel.greet(client)
    return client.camera, viewer


def test_the_first_view_is_the_mean_training_camera_s(server, track):
    poses = torch.from_numpy(np.stack([look_at_origin(0.2, 0.1)[:3]] * 3)).float()
    camera, viewer = greeted(server, track, Cameras(poses, 100.0, 100.0, 32.0, 32.0, width=64, height=64))
    np.testing.assert_allclose(camera.position, 10 * poses[0, :, 3], atol=1e-5)
    looking = camera.look_at - camera.position
    np.testing.assert_allclose(looking / np.linalg.norm(looking), -poses[0, :, 2], atol=1e-6)
    assert 0.5 * DISTANCE < np.linalg.norm(looking) / 10 < 1.5 * DISTANCE
    assert camera.fov == pytest.approx(2 * np.arctan(0.32))
    assert viewer.hidden == [False, "button"], "the training cameras stand in the way, and are cleared once"
    assert viewer.render_statemachines[5].target_fps == CPU_MOVING_FPS
    assert viewer.render_statemachines[5]._calculate_image_res(1.5) == (64, 96), "never a postage stamp"


def test_without_training_cameras_the_view_is_from_the_front(server, track):
    camera, _ = greeted(server, track, None)
    assert camera.position[2] > camera.look_at[2]
    np.testing.assert_allclose(camera.position[:2], camera.look_at[:2])


def test_keyframes_are_filmed_with_the_page_s_field_of_view(server, track):
    slider = server.gui.add_slider("Default FOV", min=0.1, max=175.0, step=0.01, initial_value=75.0)
    poses = torch.from_numpy(np.stack([look_at_origin(0.2, 0.1)[:3]] * 3)).float()
    camera, _ = greeted(server, track, Cameras(poses, 100.0, 100.0, 32.0, 32.0, width=64, height=64))
    assert slider.value == pytest.approx(np.degrees(camera.fov)) == pytest.approx(2 * np.degrees(np.arctan(0.32)))
    slider.remove()
    assert not set_field_of_view(server, 0.5), "another viewer's page has no such slider"
