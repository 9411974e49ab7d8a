"""The head panel against a real viser server, without a browser: what a hand on a slider makes the model show."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from panel_stand_ins import FakeModel, FakeViewer, install, labelled, move, press
from synthetic_head import make_head, make_track

from flame_nerf.heads import load_head
from flame_nerf.motion import SubjectMotion
from flame_nerf.motion.arkit import ARKIT_NAMES
from flame_nerf.motion.frame import EYE_JOINTS
from flame_nerf.viewer import HeadPanel
from flame_nerf.viewer.page import shared_note
from flame_nerf.viewer.sliders import GAZE_LEFT, GAZE_UP, JAW_ANGLE, label_of, matches, other_side, slider_groups
from flame_nerf.viewer.stage import SLIDERS, VIDEO, Stage

COUNT = 11
ARKIT_SAMPLE = ("browInnerUp", "cheekPuff", "eyeBlinkLeft", "jawOpen", "mouthSmileLeft", "noseSneerLeft", "tongueOut")


@pytest.fixture(scope="module")
def head():
    return make_head(turning_jaw=True)


@pytest.fixture(scope="module")
def track(head):
    return make_track(head, head)


def test_expressions_are_grouped_by_part_of_the_face():
    found = slider_groups((*ARKIT_SAMPLE, "component_7"), ("neck", "jaw", "left_eye"))
    groups = {group.label: group for group in found}
    assert list(groups) == [
        "Brows", "Eyes", "Gaze", "Mouth", "Jaw", "Cheeks and nose", "Tongue", "Expressions", "Head and neck",
    ]  # fmt: skip
    named = {name for group in groups.values() for name in group.expressions}
    assert named == {*ARKIT_SAMPLE, "component_7"}
    assert groups["Jaw"].angles == (JAW_ANGLE,) and groups["Gaze"].angles == (GAZE_LEFT, GAZE_UP)
    assert groups["Head and neck"].angles == ("neck turn", "neck nod", "neck tilt")
    assert groups["Jaw"].expression_range == (0, 1) and groups["Expressions"].expression_range == (-3, 3)
    assert slider_groups((), ("jaw",))[0].angles == (JAW_ANGLE,)
    assert slider_groups((), ()) == []


def test_labels_are_short_words_that_break_into_lines():
    """A slider covers what is longer than its label's column, which breaks at spaces: a dozen letters fit."""
    assert label_of("mouthLowerDownLeft", "Mouth") == "Lower down L"
    assert label_of("jawLeft", "Jaw") == "Left", "a direction is no side"
    assert label_of("noseSneerRight", "Cheeks and nose") == "Nose sneer R"
    assert label_of("expr_012", "Expressions") == "expr_012", "a head's own names stay"
    for group in slider_groups(ARKIT_NAMES, ("neck", "head", "jaw", "left_eye")):
        labels = [label_of(name, group.label) for name in (*group.expressions, *group.angles)]
        assert len(set(labels)) == len(labels)
        assert all(len(word) <= 12 for label in labels for word in label.split())
        assert all(len(label) <= 15 for label in labels)


def test_the_two_sides_of_an_expression():
    assert other_side("mouthSmileLeft", ARKIT_NAMES) == "mouthSmileRight"
    assert other_side("eyeLookInLeft", ARKIT_NAMES) == "eyeLookOutRight", "both eyes look to one side"
    assert other_side("jawLeft", ARKIT_NAMES) is None and other_side("mouthRight", ARKIT_NAMES) is None
    assert other_side("browInnerUp", ARKIT_NAMES) is None
    assert other_side("blink_L", ("blink_L", "blink_R")) == "blink_R"
    assert other_side("mouthSmileLeft", ("mouthSmileLeft",)) is None
    for name in ARKIT_NAMES:
        other = other_side(name, ARKIT_NAMES)
        assert other is None or other_side(other, ARKIT_NAMES) == name


def test_a_search_finds_names_labels_and_parts():
    assert matches("lower", "mouthLowerDownLeft", "Mouth") and matches("DOWN L", "mouthLowerDownLeft", "Mouth")
    assert matches("mouth left", "mouthLowerDownLeft", "Mouth") and matches("jaw", JAW_ANGLE, "Jaw")
    assert not matches("upper", "mouthLowerDownLeft", "Mouth")


def test_moving_the_frame_slider_shows_that_frame(server, track, head):
    model, panel, viewer = install(server, SubjectMotion(track, head))
    assert panel.stage.source == VIDEO and torch.equal(model.override.vertices, torch.from_numpy(track.vertices[0]))
    before = viewer.renders
    move(panel.player.frame, 7)
    assert torch.equal(model.override.vertices, torch.from_numpy(track.vertices[7]))
    assert panel.stage.source == VIDEO and viewer.renders == before + 1


def test_moving_an_expression_slider_poses_the_head(server, track, head):
    motion = SubjectMotion(track, head)
    model, panel, _ = install(server, motion)
    assert {"jawOpen", "mouthSmileLeft"} < set(panel.face.sliders)
    move(panel.face.sliders["jawOpen"], 0.7)
    move(panel.face.sliders[JAW_ANGLE], 10.0)
    move(panel.face.sliders[GAZE_LEFT], 20.0)
    move(panel.face.sliders[GAZE_UP], 5.0)
    # Turns are counted from where the person usually looks.
    eyes = {name: np.add(motion.rest_joint(name), (-np.radians(5), np.radians(20), 0.0)) for name in EYE_JOINTS}
    expected = motion.pose({"jawOpen": 0.7}, {"jaw": (np.radians(10), 0.0, 0.0)} | eyes)
    assert panel.stage.source == SLIDERS == panel.player.source.value
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
    move(panel.player.frame, 4)
    press(labelled(server, "Set to"), "this face")
    sliders = panel.face.sliders
    # viser's sliders have steps; what is shown has none.
    assert sliders["jawOpen"].value == pytest.approx(track.expression[4, 0])
    assert sliders[JAW_ANGLE].value == pytest.approx(np.degrees(0.2))
    np.testing.assert_allclose(model.override.vertices, quiet.vertices[4], atol=1e-5)
    press(labelled(server, "Set to"), "neutral")
    assert all(slider.value == 0 for slider in sliders.values())
    torch.testing.assert_close(model.override.vertices, motion.neutral().vertices)


def test_linked_sides_move_together_and_a_group_is_reset_alone(server):
    both = make_head()
    both = replace(both, expression_names=("mouthSmileRight", "mouthSmileLeft"))
    _, panel, _ = install(server, SubjectMotion(make_track(both, both), both))
    sliders, stage = panel.face.sliders, panel.stage
    move(sliders["mouthSmileLeft"], 0.6)
    assert stage.expression == {"mouthSmileLeft": 0.6, "mouthSmileRight": 0.6}
    assert sliders["mouthSmileRight"].value == 0.6
    move(panel.face.linked, False)
    move(sliders["mouthSmileLeft"], 0.1)
    assert stage.expression["mouthSmileRight"] == 0.6
    move(sliders[JAW_ANGLE], 12.0)
    press(labelled(server, "Reset mouth"))
    assert set(stage.expression.values()) == {0.0} and stage.angles[JAW_ANGLE] == 12.0
    assert sliders["mouthSmileLeft"].value == 0.0 and sliders[JAW_ANGLE].value == 12.0


def test_a_search_leaves_the_sliders_that_it_finds_and_their_values(server, track, head):
    _, panel, _ = install(server, SubjectMotion(track, head))
    move(panel.face.sliders["jawOpen"], 0.5)
    everything = set(panel.face.sliders)
    move(panel.face.search, "open")
    assert set(panel.face.sliders) == {"jawOpen"} and panel.face.sliders["jawOpen"].value == 0.5
    move(panel.face.sliders["jawOpen"], 0.8)
    move(panel.face.search, "no such thing")
    assert panel.face.sliders == {}
    move(panel.face.search, "")
    assert set(panel.face.sliders) == everything and panel.face.sliders["jawOpen"].value == 0.8


def test_the_neck_turns_the_head_and_leaves_the_shoulders():
    """On the head that ships: its lowest vertices belong to the root, which stands still."""
    head = load_head()
    zeros = np.zeros((2, len(head.joint_names), 3), np.float32)
    track = replace(
        make_track(make_head(), make_head(), count=2),
        faces=head.faces.numpy().astype(np.int32), canonical_vertices=head.template.numpy(),
        vertices=np.stack([head.template.numpy()] * 2), expression=np.zeros((2, 52), np.float32),
        expression_names=head.expression_names, pose=zeros, joint_names=head.joint_names,
        identity=np.zeros(head.shapedirs.shape[-1], np.float32),
        region=head.region.numpy().astype(np.int8), region_names=head.region_names,
    )  # fmt: skip
    shown = []
    stage = Stage(SubjectMotion(track, head), lambda moment: shown.append(moment()))
    stage.reset()
    stage.set_sliders(angles={"neck turn": 20.0})
    moved = shown[-1].vertices - shown[-2].vertices
    weights = head.skinning_weights
    held = weights[:, head.joint_names.index("root")] > 0.99
    nose = weights[:, head.joint_names.index("head")] > 0.99
    nose &= head.template[:, 2] > head.template[nose, 2].max() - 0.01
    assert held.any() and float(moved[held].norm(dim=1).max()) < 1e-4
    assert float(moved[nose].mean(0)[0]) > 0.02, "to the subject's left"


def test_without_a_head_model_frames_alone(server, track):
    model, panel, _ = install(server, SubjectMotion(track))
    assert panel.face is None and panel.motions is None
    assert set(panel.player.source.options) == {VIDEO}
    move(panel.player.frame, COUNT - 1)
    assert torch.equal(model.override.vertices, torch.from_numpy(track.vertices[-1]))


def test_a_still_subject_has_a_page_too(server, head):
    model, panel, _ = install(server, SubjectMotion(make_track(head, head, count=1), head))
    move(panel.player.frame, 3)
    assert panel.stage.frame == 0 and model.override is not None


def test_a_model_without_motion_gets_no_panel_and_no_error(server):
    panel = HeadPanel(SimpleNamespace(override=None, device="cpu"))
    panel._setup(FakeViewer(server))
    assert panel.stage is None


def test_a_failing_renderer_does_not_stop_the_panel(server, track, head, capsys):
    model, panel, viewer = install(server, SubjectMotion(track, head))
    viewer._trigger_rerender = lambda: 1 / 0
    move(panel.player.frame, 2)
    assert model.override is not None
    model.motion.at_timestep = lambda index: 1 / 0
    move(panel.player.frame, 3)
    assert "ZeroDivisionError" in capsys.readouterr().out


def test_a_finished_avatar_shows_nothing_of_training(server, track):
    _, _, viewer = install(server, SubjectMotion(track))
    assert not viewer.pause_train.visible and not viewer.resume_train.visible
    assert "Step" not in viewer.stats_markdown.content
    assert viewer.make_stats_markdown(None, "96x64px") == "Resolution: 96x64px"
    assert viewer.make_stats_markdown(30, None) == "Resolution: 96x64px", "a step changes nothing"
    training = FakeViewer(server)
    training.trainer = SimpleNamespace(training_state="training")
    HeadPanel(FakeModel(SubjectMotion(track)))._setup(training)
    assert training.pause_train.visible and "Step: 7" in training.stats_markdown.content


def test_several_browsers_are_told_that_they_share_the_face():
    assert shared_note(0) == shared_note(1) == ""
    assert "2 browsers" in shared_note(2) and "own camera" in shared_note(2)
