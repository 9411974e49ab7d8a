"""The head panel against a real viser server, without a browser: what a hand on a slider makes the model show."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import viser
from nerfstudio.cameras.cameras import Cameras
from synthetic import DISTANCE, look_at_origin
from synthetic_head import make_head, make_track

from flame_nerf.heads import load_head
from flame_nerf.motion import SubjectMotion
from flame_nerf.motion.frame import EYE_JOINTS
from flame_nerf.viewer import HeadPanel
from flame_nerf.viewer.panel import FOLLOW_TIME, FRAME, SLIDERS
from flame_nerf.viewer.render_tab import set_field_of_view
from flame_nerf.viewer.sliders import GAZE_LEFT, GAZE_UP, JAW_ANGLE, slider_groups

COUNT = 11
ARKIT_SAMPLE = ("browInnerUp", "cheekPuff", "eyeBlinkLeft", "jawOpen", "mouthSmileLeft", "noseSneerLeft", "tongueOut")


@pytest.fixture(scope="module")
def server():
    server = viser.ViserServer(host="127.0.0.1", port=0, verbose=False)
    yield server
    server.stop()


@pytest.fixture(scope="module")
def head():
    return make_head(turning_jaw=True)


@pytest.fixture(scope="module")
def track(head):
    return make_track(head, head)


class FakeViewer:
    """What of Nerfstudio's viewer the panel touches."""

    def __init__(self, server, cameras=()):
        self.viser_server = server
        self.stats_markdown = SimpleNamespace(order=3)
        self.control_panel = SimpleNamespace(_max_res=SimpleNamespace(value=512), viser_scale_ratio=10.0)
        dataset = SimpleNamespace(cameras=cameras, __len__=lambda: len(cameras))
        self.pipeline = SimpleNamespace(
            datamanager=SimpleNamespace(train_dataset=None if not len(cameras) else dataset)
        )
        self.render_statemachines = {}
        self.renders = 0

    def _trigger_rerender(self):
        self.renders += 1


def install(server, motion):
    model = SimpleNamespace(motion=motion, override=None, device="cpu")
    panel, viewer = HeadPanel(model), FakeViewer(server)
    panel._setup(viewer)
    return model, panel, viewer


def move(handle, value):
    """What the viewer does when a person moves something on the page."""
    handle._impl.value = value
    for callback in handle._impl.update_cb:
        callback(SimpleNamespace(client_id=0, client=None, target=handle))


def test_expressions_are_grouped_by_part_of_the_face():
    groups = slider_groups((*ARKIT_SAMPLE, "component_7"), ("root", "jaw", "left_eye"))
    assert [group.label for group in groups] == ["Jaw", "Mouth", "Eyes", "Brows", "Cheeks, nose, tongue", "Expressions"]
    named = {name for group in groups for name in group.expressions}
    assert named == {*ARKIT_SAMPLE, "component_7"}
    assert groups[0].angles == (JAW_ANGLE,) and groups[2].angles == (GAZE_LEFT, GAZE_UP)
    assert groups[0].expression_range == (0, 1) and groups[-1].expression_range == (-3, 3)
    assert slider_groups((), ("jaw",))[0].angles == (JAW_ANGLE,)
    assert slider_groups((), ()) == []


def test_moving_the_frame_slider_shows_that_frame(server, track, head):
    model, panel, viewer = install(server, SubjectMotion(track, head))
    assert model.override is None and panel.mode == FOLLOW_TIME
    before = viewer.renders
    move(panel.frame_slider, 7)
    assert torch.equal(model.override.vertices, torch.from_numpy(track.vertices[7]))
    assert panel.mode == FRAME and viewer.renders == before + 1
    move(panel.mode_choice, FOLLOW_TIME)
    assert model.override is None


def test_moving_an_expression_slider_poses_the_head(server, track, head):
    motion = SubjectMotion(track, head)
    model, panel, _ = install(server, motion)
    assert set(panel.expression_sliders) == {"jawOpen", "mouthSmileLeft"}
    move(panel.expression_sliders["jawOpen"], 0.7)
    move(panel.angle_sliders[JAW_ANGLE], 10.0)
    move(panel.angle_sliders[GAZE_LEFT], 20.0)
    move(panel.angle_sliders[GAZE_UP], 5.0)
    # Turns are counted from where the person usually looks.
    eyes = {name: np.add(motion.rest_joint(name), (-np.radians(5), np.radians(20), 0.0)) for name in EYE_JOINTS}
    expected = motion.pose({"jawOpen": 0.7}, {"jaw": (np.radians(10), 0.0, 0.0)} | eyes)
    assert panel.mode == SLIDERS
    torch.testing.assert_close(model.override.vertices, expected.vertices)
    torch.testing.assert_close(model.override.condition, expected.condition)


def test_jaw_opens_downwards_and_gaze_left_is_the_subject_s_left():
    """The angle sliders' signs, on the head that ships: +x of the head is the subject's left, +y up, +z forward."""
    head = load_head()
    identity, neutral = torch.zeros(head.shapedirs.shape[-1]), torch.zeros(len(head.expression_names))

    def moved(joint, turn):
        """How the half of the joint's vertices that lies foremost moves."""
        pose = torch.zeros(len(head.joint_names), 3)
        rest = head.vertices(identity, neutral, pose)
        pose[head.joint_names.index(joint)] = torch.tensor(turn)
        carried = head.skinning_weights[:, head.joint_names.index(joint)] > 0.9
        front = carried & (rest[:, 2] > rest[carried, 2].median())
        return (head.vertices(identity, neutral, pose) - rest)[front].mean(0)

    assert moved("jaw", (0.3, 0.0, 0.0))[1] < -0.005
    for eye in ("left_eye", "right_eye"):
        assert moved(eye, (0.0, 0.3, 0.0))[0] > 0.001
        assert moved(eye, (-0.3, 0.0, 0.0))[1] > 0.001


def test_sliders_from_frame_and_neutral_face(server, track, head):
    turned = np.zeros_like(track.pose)
    turned[:, 3, 0], turned[:, 1, 1] = 0.2, 0.1
    quiet = replace(
        track,
        pose=turned,
        vertices=head.vertices(
            torch.from_numpy(track.identity), torch.from_numpy(track.expression), torch.from_numpy(turned)
        ).numpy(),
    )
    motion = SubjectMotion(quiet, head)
    model, panel, _ = install(server, motion)
    move(panel.frame_slider, 4)
    panel.take_frame()
    assert panel.expression_sliders["jawOpen"].value == pytest.approx(track.expression[4, 0])
    assert panel.angle_sliders[JAW_ANGLE].value == pytest.approx(np.degrees(0.2))
    np.testing.assert_allclose(model.override.vertices, quiet.vertices[4], atol=1e-5)
    panel.show_expression({})
    assert all(slider.value == 0 for slider in (*panel.expression_sliders.values(), *panel.angle_sliders.values()))
    torch.testing.assert_close(model.override.vertices, motion.neutral().vertices)


def test_without_a_head_model_frames_alone(server, track):
    model, panel, _ = install(server, SubjectMotion(track))
    assert panel.expression_sliders == {} and panel.angle_sliders == {}
    assert set(panel.mode_choice.options) == {FOLLOW_TIME, FRAME}
    move(panel.frame_slider, COUNT - 1)
    assert torch.equal(model.override.vertices, torch.from_numpy(track.vertices[-1]))


def test_a_still_subject_has_a_page_too(server, head):
    model, panel, _ = install(server, SubjectMotion(make_track(head, head, count=1), head))
    panel.show_frame(3)
    assert panel.frame_slider.value == 0 and model.override is not None


def test_a_model_without_motion_gets_no_panel_and_no_error(server):
    panel = HeadPanel(SimpleNamespace(override=None, device="cpu"))
    panel._setup(FakeViewer(server))
    assert panel.mode == FOLLOW_TIME


def test_a_failing_renderer_does_not_stop_the_panel(server, track, head, capsys):
    model, panel, viewer = install(server, SubjectMotion(track, head))
    viewer._trigger_rerender = lambda: 1 / 0
    move(panel.frame_slider, 2)
    assert model.override is not None
    model.motion.frame = lambda index: 1 / 0
    move(panel.frame_slider, 3)
    assert "ZeroDivisionError" in capsys.readouterr().out


def test_the_picture_is_small_without_a_gpu(server, track):
    _, _, viewer = install(server, SubjectMotion(track))
    assert viewer.control_panel._max_res.value == 256


class FakeCamera(SimpleNamespace):
    pass


def greeted(server, track, cameras):
    panel = HeadPanel(SimpleNamespace(motion=SubjectMotion(track), override=None, device="cpu"))
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
    viewer.render_statemachines[5] = SimpleNamespace(target_fps=30)
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
    assert viewer.render_statemachines[5].target_fps == 8


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
