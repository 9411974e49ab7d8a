"""Faces with their mouths open, of heads that say it in different ways."""

import dataclasses

import pytest
import torch
from synthetic_head import make_head, make_track

from flame_nerf.motion import SubjectMotion, open_mouth
from flame_nerf.motion.open_mouth import LEAST, WIDEST_TURN


def motion_of(head, names=None):
    return SubjectMotion(make_track(head, head if names is None else names), head)


def test_the_jaw_opens_and_the_rest_of_the_face_stays_as_it_was():
    motion = motion_of(make_head())
    torch.manual_seed(0)
    opened = [open_mouth(motion, 3).condition for _ in range(40)]
    jaw = motion.condition_names.index("jawOpen")
    values = torch.stack(opened)
    assert values[:, jaw].min() >= LEAST and values[:, jaw].max() <= 1 and values[:, jaw].std() > 0.1
    others = [i for i in range(len(motion.condition_names)) if i != jaw]
    torch.testing.assert_close(values[:, others], motion.conditions[3, others].expand(40, -1), atol=1e-5, rtol=0)


def test_a_head_without_its_name_turns_its_jaw():
    head = make_head(turning_jaw=True)
    head = dataclasses.replace(head, expression_names=("first", "second"))
    motion = motion_of(head)
    turn = open_mouth(motion, 3).condition[motion.condition_names.index("jaw.x")]
    assert LEAST * WIDEST_TURN <= float(turn) <= WIDEST_TURN


def test_without_a_head_model_no_face_is_posed():
    head = make_head()
    assert open_mouth(SubjectMotion(make_track(head, head)), 0) is None


@pytest.mark.parametrize("timestep", [0, 10])
def test_its_mesh_is_the_head_models(timestep):
    motion = motion_of(make_head())
    face = open_mouth(motion, timestep)
    expression, joints = motion.coefficients(timestep)
    expression["jawOpen"] = float(face.condition[motion.condition_names.index("jawOpen")])
    torch.testing.assert_close(face.vertices, motion.pose(expression, joints).vertices)
