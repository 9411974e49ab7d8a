"""Takes, motion files, kept faces and keyframes of the page, without a browser."""

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import viser
from nerfstudio.viewer import render_panel
from panel_stand_ins import FakeModel, FakeViewer, labelled, move, press
from synthetic_head import make_head, make_track

from flame_nerf.motion import (
    MotionError,
    Provenance,
    SubjectMotion,
    load_motion,
    motion_of_poses,
    pose_at,
    save_motion,
)
from flame_nerf.motion.path_motion import avatar_entry, filmed_path
from flame_nerf.viewer import HeadPanel
from flame_nerf.viewer.handles import plain_text
from flame_nerf.viewer.keyframes import path_of
from flame_nerf.viewer.recorder import TAKE_FPS, Recorder
from flame_nerf.viewer.shelf import Shelf, file_name
from flame_nerf.viewer.sliders import ANGLE_RANGE_DEG, slider_groups
from flame_nerf.viewer.stage import Stage


@pytest.fixture(scope="module")
def avatar():
    head = make_head(turning_jaw=True)
    return SubjectMotion(make_track(head, head), head)


@pytest.fixture
def server():
    server = viser.ViserServer(host="127.0.0.1", port=0, verbose=False)
    yield server
    server.stop()


@pytest.fixture
def shelf(avatar, tmp_path):
    return Shelf(tmp_path / "motions", avatar, "me", "synthetic")


def pose(avatar, opened: float, turned: float = 0.0):
    rest = avatar.rest_pose()
    joints = rest.joints.copy()
    joints[avatar.pose_joints.index("jaw")] = (turned, 0.0, 0.0)
    return replace(rest, expression=np.array([opened, 0.0]), joints=joints)


def test_a_take_is_what_was_shown_when(avatar):
    now = [10.0]
    recorder = Recorder(avatar, lambda: now[0])
    recorder.note(pose(avatar, 0.9))
    assert not recorder.running
    with pytest.raises(MotionError, match="press Record"):
        recorder.stop("me")
    recorder.start(pose(avatar, 0.1))
    now[0] = 11.0
    recorder.note(pose(avatar, 0.8, turned=0.2))
    now[0] = 12.0
    take = recorder.stop("me")
    assert len(take) == 2 * TAKE_FPS and take.fps == TAKE_FPS
    np.testing.assert_allclose(take.column("jawOpen")[:29], 0.1)
    np.testing.assert_allclose(take.column("jawOpen")[31:], 0.8)
    assert take.joints[-1, avatar.pose_joints.index("jaw"), 0] == pytest.approx(0.2)
    recorder.start(pose(avatar, 0.1))
    assert len(recorder.stop("me")) == 1, "a take that ends at once is one moment"


def test_a_saved_take_comes_back_number_by_number(avatar, shelf):
    turned = pose(avatar, 0.4, turned=0.3)
    movement = np.eye(4)
    movement[:3, 3] = (0.01, 0.02, -0.03)
    take = motion_of_poses([replace(turned, movement=movement)] * 3, avatar, 30.0, Provenance(source="me"))
    saved = shelf.save(take, "../a smile?")
    assert saved == shelf.folder / "a smile.npz" and shelf.names() == ("a smile.npz",)
    for back in (shelf.load(saved.name), shelf.received("x/y.npz", saved.read_bytes())):
        np.testing.assert_array_equal(back.expression, take.expression)
        np.testing.assert_array_equal(back.joints, take.joints)
        np.testing.assert_array_equal(back.head_to_world, take.head_to_world)
    # Somebody else's performance is transferred: a second of it rests at this avatar's rest.
    stranger = replace(take, provenance=Provenance(source="you"))
    save_motion(stranger, shelf.folder / "you.npz")
    assert not np.array_equal(shelf.load("you.npz").joints, take.joints)


def test_a_take_of_sliders_at_their_ends_is_kept_and_comes_back(avatar, shelf):
    stage = Stage(avatar, lambda frame: None)
    for end in (0, 1):
        groups = slider_groups(avatar.pose_names, avatar.pose_joints)
        ends = {name: group.expression_range[end] for group in groups for name in group.expressions}
        angles = {name: ANGLE_RANGE_DEG[name][end] for group in groups for name in group.angles}
        assert len(ends) == len(avatar.pose_names) and angles
        stage.set_sliders(ends, angles)
        shown = avatar.shown(stage.pose())
        assert bool(torch.isfinite(shown.vertices).all()) and bool(torch.isfinite(shown.condition).all())
        again = pose_at(motion_of_poses([stage.pose()], avatar, 25.0, Provenance(source="me")), 0)
        torch.testing.assert_close(avatar.shown(again).vertices, shown.vertices, atol=1e-5, rtol=0)


def test_file_names_are_names_of_files():
    assert file_name("smile.CSV") == "smile.CSV" and file_name("") == "take.npz" and file_name("a/b\\c") == "a-b-c.npz"


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("clip.mp4", b"", "no motion file"),
        ("a.npz", b"PK rubbish", "a.npz: "),
        ("a.csv", b"time,jawOpen\n0,nothing\n", "a.csv: "),
        ("a.json", b"{", "a.json: "),
        ("a.csv", b"time,expr_001\n0,1\n0.1,2\n", "no name in common"),
    ],
)
def test_a_sent_file_that_is_no_motion_is_named_in_one_line(shelf, name, content, said):
    with pytest.raises(MotionError) as error:
        shelf.received(name, content)
    text = str(error.value)
    assert said in text and name in text and "\n" not in text and "sent" not in text and "/tmp" not in text


def test_text_is_shown_as_it_is():
    assert plain_text("<b>{1 + 1}</b>\n`x`") == r"\<b\>\{1 + 1\}\</b\> \`x\`"


@pytest.fixture
def page(server, avatar, tmp_path):
    """A panel beside Nerfstudio's own Render tab, which writes to `tmp_path`."""
    model = FakeModel(avatar)
    panel = HeadPanel(model)
    viewer = FakeViewer(server, folder=tmp_path)
    viewer.control_panel._time_enabled, viewer.control_panel.crop_viewport = True, False
    with server.gui.add_folder("Render"):
        state = render_panel.populate_render_tab(server, tmp_path / "config.yml", tmp_path, viewer.control_panel)
    viewer.control_panel._time = SimpleNamespace(set_hidden=lambda hidden: None)
    viewer.render_tab_state = state
    panel._setup(viewer)
    return SimpleNamespace(model=model, panel=panel, server=server, folder=tmp_path, path=path_of(server), state=state)


class Client:
    """A browser that stands somewhere, and hears notifications."""

    def __init__(self, server):
        self.client_id, self.gui, self.notes = 0, server.gui, []
        self.camera = SimpleNamespace(position=np.array([0.0, 0.0, 5.0]), wxyz=np.array([1.0, 0, 0, 0]), fov=0.5)

    def add_notification(self, *words, **more):
        self.notes.append(words)


def click(page, label, client):
    handle = labelled(page.server, label)
    for callback in list(handle._impl.update_cb):
        callback(SimpleNamespace(client_id=0, client=client, target=handle))


def keyframe(page, client):
    page.server.get_clients = lambda: {0: client}
    click(page, "Add Keyframe", client)
    client.camera.position = client.camera.position + np.array([0.3, 0.0, 0.0])


def film(page, client, name) -> dict:
    move(labelled(page.server, "Render name"), name)
    click(page, "Generate Command", client)
    return json.loads((page.folder / "camera_paths" / f"{name}.json").read_text())


def test_a_film_has_the_faces_that_stood_at_its_keyframes(page, avatar, capsys):
    client = Client(page.server)
    for opened, angle in ((0.0, 0.0), (1.0, 20.0), (0.3, 0.0)):
        move(page.panel.face.sliders["jawOpen"], opened)
        move(page.panel.face.sliders["jaw angle"], angle)
        keyframe(page, client)
    document = film(page, client, "faces")
    times = [entry["render_time"] for entry in document["camera_path"]]
    assert times[0] == 0 and times[-1] == 1 and np.allclose(np.diff(times), 1 / (len(times) - 1))
    motion = load_motion(page.folder / "camera_paths" / document["motion"])
    assert len(motion) == len(times)
    assert document["avatar"] == avatar_entry(avatar, "avatar")
    middle = round(len(times) / 2)
    np.testing.assert_allclose(motion.column("jawOpen")[[0, middle, -1]], (0.0, 1.0, 0.3), atol=0.03)
    jaw = motion.joints[:, motion.joint_names.index("jaw"), 0]
    np.testing.assert_allclose(np.degrees(jaw[[0, middle, -1]]), (0.0, 20.0, 0.0), atol=0.5)
    assert not client.notes

    # Nerfstudio's player gives a model the times alone.
    path = page.folder / "camera_paths" / "faces.json"
    try:
        filmed_path(avatar, ["ns-render", "camera-path", "--camera-path-filename", str(path)], "me")
        assert "those of 'avatar'" in " ".join(capsys.readouterr().out.split())
        shown = avatar.at_time(times[middle])
        np.testing.assert_allclose(shown.condition[0], motion.column("jawOpen")[middle], atol=1e-6)
        assert avatar.at_time(1.0).condition[0] == pytest.approx(0.3, abs=0.03)
    finally:
        avatar.play(None)

    # A path that is loaded again has its keyframes' faces again.
    stored = [entry["render_time"] for entry in document["keyframes"]]
    faces = [page.path.stored_face(time).expression[0] for time in stored]
    np.testing.assert_allclose(faces, (0.0, 1.0, 0.3), atol=0.03)


def test_a_film_may_play_what_is_shown(page, avatar):
    client = Client(page.server)
    keyframe(page, client)
    keyframe(page, client)
    move(page.panel.film.choice, page.panel.film.choice.options[1])
    document = film(page, client, "video")
    motion = load_motion(page.folder / "camera_paths" / document["motion"])
    expected = np.arange(len(motion)) / 30 * avatar.fps % avatar.num_timesteps
    track = avatar.stored_expression[:, 0].numpy()
    np.testing.assert_allclose(motion.column("jawOpen"), np.interp(expected, np.arange(len(track)), track), atol=1e-4)


def test_the_preview_shows_the_film_s_faces(page):
    client = Client(page.server)
    for opened in (0.0, 1.0):
        move(page.panel.face.sliders["jawOpen"], opened)
        keyframe(page, client)
    page.path.interpolate_pose_and_fov_rad(0.5)
    assert page.model.override.condition[0] == 1.0, "nothing is previewed"
    page.state.preview_render = True
    page.path.interpolate_pose_and_fov_rad(0.5)
    assert page.model.override.condition[0] == pytest.approx(0.5, abs=0.01)
    click(page, "Exit Render Preview", client)
    assert page.model.override.condition[0] == 1.0


def test_a_path_without_its_motion_says_so_in_one_line(avatar, tmp_path):
    path = tmp_path / "path.json"
    arguments = ["ns-render", "camera-path", f"--camera_path_filename={path}"]
    for content in ("{", "[]", json.dumps({"camera_path": []})):
        path.write_text(content)
        filmed_path(avatar, arguments)
    path.write_text(json.dumps({"motion": "../path.motion.npz"}))
    with pytest.raises(SystemExit, match=r"path\.motion\.npz, which is not beside it"):
        filmed_path(avatar, arguments)
    other = make_head()
    other = replace(other, expression_names=("expr_000", "expr_001"))
    stranger = SubjectMotion(make_track(other, other), other)
    motion = motion_of_poses([stranger.rest_pose()] * 2, stranger, 30.0, Provenance(source="you"))
    save_motion(motion, tmp_path / "path.motion.npz")
    with pytest.raises(SystemExit, match="no 'expr_000'.*another head model"):
        filmed_path(avatar, arguments)
    filmed_path(avatar, ["ns-viewer", *arguments[1:]])


def test_kept_faces_return_and_stay(page, avatar):
    panel = page.panel
    move(panel.face.sliders["jawOpen"], 0.7)
    press(panel.faces.keep)
    move(panel.face.sliders["jawOpen"], 0.0)
    press(panel.faces.keep)
    buttons = labelled(page.server, "Put back")
    for _ in range(2):
        press(buttons, "1")
        assert panel.stage.expression["jawOpen"] == pytest.approx(0.7)
        assert panel.face.sliders["jawOpen"].value == pytest.approx(0.7) == page.model.override.condition[0]
        move(panel.face.sliders["jawOpen"], 0.2)
    file = page.folder / "motions/kept faces.npz"
    assert load_motion(file).column("jawOpen") == pytest.approx([0.7, 0.0])
    press(panel.faces.forget)
    assert load_motion(file).column("jawOpen") == pytest.approx([0.7])
    press(panel.faces.forget)
    assert not file.exists()
