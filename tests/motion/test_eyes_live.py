"""Eyes by sliders: blinks in a person's own unit, also on heads without any by name, and looks that turn the eyes."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from flame_nerf.heads import load_head
from flame_nerf.heads.eyes import BLINKS, LIDS, look_turns, personal_head
from flame_nerf.motion import SubjectMotion
from flame_nerf.subject import HeadTrack


@pytest.fixture(scope="module")
def head():
    return load_head()


def _track(head, seed: int, offset: float = 0.0) -> HeadTrack:
    """Four frames of a person, one of them with shut eyes, whose lids stand `offset` metres farther apart at rest than
    the model's identity says."""
    generator = torch.Generator().manual_seed(seed)
    identity = 0.6 * torch.randn(head.shapedirs.shape[-1], generator=generator)
    wide = torch.zeros_like(head.template)
    wide[_upper_lids(head), 1] = offset
    person = replace(head, template=head.template + wide)
    rest = person.rest(identity)[0]
    expression = torch.zeros(4, len(head.expression_names))
    if BLINKS[0] in head.expression_names:
        expression[2, [head.expression_names.index(name) for name in BLINKS]] = 1.0
    pose = torch.zeros(4, len(head.joint_names), 3)
    vertices = personal_head(person, rest).vertices(identity, expression, pose)
    return HeadTrack(
        faces=head.faces.numpy().astype(np.int32), canonical_vertices=rest.numpy(), vertices=vertices.numpy(),
        expression=expression.numpy(), expression_names=tuple(head.expression_names), pose=pose.numpy(),
        joint_names=tuple(head.joint_names), identity=identity.numpy(), region=head.region.numpy().astype(np.int8),
        region_names=tuple(head.region_names),
    )  # fmt: skip


def _upper_lids(head) -> torch.Tensor:
    row = {int(number): k for k, number in enumerate(head.landmarks.index)}
    marks = [row[number] for lids in LIDS.values() for number in lids.upper]
    return torch.unique(head.faces[head.landmarks.face[marks]])


def _gaps(head, vertices) -> dict[str, float]:
    """Mean height of each eye's opening in the middle, metres."""
    row = {int(number): k for k, number in enumerate(head.landmarks.index)}
    points = head.landmark_points(vertices)
    result = {}
    for side, marks in LIDS.items():
        upper, lower = ([row[number] for number in lid[1:4]] for lid in (marks.upper, marks.lower))
        result[side] = float((points[upper, 1] - points[lower, 1]).mean())
    return result


@pytest.mark.parametrize("offset", [0.0, 0.002])
def test_the_slider_closes_this_person_s_eyes_each_by_itself(head, offset):
    motion = SubjectMotion(_track(head, 1, offset), head)
    opened = _gaps(head, motion.neutral().vertices)
    winked = _gaps(head, motion.pose({"eyeBlinkLeft": 1.0}).vertices)
    assert abs(winked["Left"]) < 0.08 * opened["Left"] and winked["Right"] == pytest.approx(opened["Right"], abs=1e-5)
    # As tracked, and as posed by the same numbers: one thing.
    values, joints = motion.coefficients(2)
    np.testing.assert_allclose(motion.pose(values, joints).vertices, motion.at_timestep(2).vertices, atol=3e-4)


def _statistical(head):
    """A head with the same face whose expressions have no names, as FLAME's: principal components of the named ones."""
    left, size, _ = torch.linalg.svd(head.exprdirs.flatten(0, 1), full_matrices=False)
    count = 40
    return replace(
        head,
        name="statistical",
        exprdirs=(0.3 * left * size)[:, :count].unflatten(0, head.template.shape),
        expression_names=tuple(f"expr_{k:03d}" for k in range(count)),
        expression_range="gaussian",
    )


def test_a_head_without_named_blinks_gets_them(head):
    flat = _statistical(head)
    track = _track(flat, 3)
    motion = SubjectMotion(track, flat)
    assert motion.pose_names[-2:] == BLINKS
    opened, posed = _gaps(flat, motion.neutral().vertices), motion.pose({"eyeBlinkRight": 1.0})
    closed = _gaps(flat, posed.vertices)
    assert abs(closed["Right"]) < 0.1 * opened["Right"] and closed["Left"] > 0.9 * opened["Left"]
    # The rest of the face stays: the mouth's points by less than a millimetre.
    mouth = [int((flat.landmarks.index == number).nonzero()) for number in (13, 14, 61, 291, 0, 17)]
    moved = flat.landmark_points(posed.vertices - motion.neutral().vertices)[mouth].norm(dim=1)
    assert float(moved.max()) < 1e-3
    # The field is told in the head's own coefficients, by which it was trained.
    assert len(posed.condition) == motion.condition_dim and bool(posed.condition[:40].any())
    rebuilt = motion.pose(dict(zip(motion.expression_names, posed.condition[:40].tolist(), strict=True)))
    torch.testing.assert_close(rebuilt.vertices, posed.vertices, atol=1e-5, rtol=0)


def test_looking_by_name_and_by_turning_the_eyes_is_one_thing(head):
    motion = SubjectMotion(_track(head, 5), head)
    turns = look_turns(head)
    by_name = motion.pose({"eyeLookDownLeft": 1.0, "eyeLookDownRight": 1.0})
    by_turn = motion.pose(joints={turns[f"eyeLookDown{side}"][0]: turns[f"eyeLookDown{side}"][1] for side in LIDS})
    balls = head.skinning_weights[:, [head.joint_names.index(eye) for eye in ("left_eye", "right_eye")]].sum(1) > 0.5
    torch.testing.assert_close(by_name.vertices[balls], by_turn.vertices[balls], atol=1e-6, rtol=0)
    torch.testing.assert_close(by_name.condition, by_turn.condition)
    # Lids go along with a name.
    assert _gaps(head, by_name.vertices)["Left"] < 0.8 * _gaps(head, by_turn.vertices)["Left"]


def test_a_track_that_moves_eyeballs_by_expressions_keeps_its_meaning(head):
    track = _track(head, 5)
    expression = track.expression.copy()
    expression[1, head.expression_names.index("eyeLookUpLeft")] = 0.5
    motion = SubjectMotion(replace(track, expression=expression), head)
    posed = motion.pose({"eyeLookUpLeft": 1.0})
    assert float(posed.condition[head.expression_names.index("eyeLookUpLeft")]) == 1.0
