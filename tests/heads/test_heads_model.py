"""Skinning, the head frame, gradients and the small operations of head models, on a random model."""

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from flame_nerf.heads import HeadModel, LandmarkEmbedding

JOINTS = ("root", "neck", "head", "jaw", "left_eye", "right_eye")
PARENTS = (-1, 0, 1, 2, 2, 2)


def random_head(vertices: int = 23, shapes: int = 4, expressions: int = 5, correctives: bool = True) -> HeadModel:
    """A float64 model full of random numbers: any mistake in an index or an order shows."""
    random = np.random.default_rng(5)

    def array(*shape: int) -> torch.Tensor:
        return torch.from_numpy(random.normal(size=shape))

    weights = torch.softmax(2 * array(vertices, len(JOINTS)), dim=1)
    # Some vertices ride on the head joint alone, as a skull does.
    weights[:6] = torch.eye(len(JOINTS), dtype=torch.float64)[2]
    faces = torch.from_numpy(np.stack([random.permutation(vertices)[:3] for _ in range(31)]))
    return HeadModel(
        name="random",
        template=array(vertices, 3),
        faces=faces,
        shapedirs=0.1 * array(vertices, 3, shapes),
        exprdirs=0.1 * array(vertices, 3, expressions),
        expression_names=tuple(f"e{k}" for k in range(expressions)),
        joint_template=array(len(JOINTS), 3),
        joint_shapedirs=0.1 * array(len(JOINTS), 3, shapes),
        joint_names=JOINTS,
        parents=PARENTS,
        skinning_weights=weights,
        posedirs=0.05 * array(9 * (len(JOINTS) - 1), vertices, 3) if correctives else None,
        region=torch.from_numpy(random.integers(0, 3, len(faces))),
        region_names=("skin", "lips", "scalp"),
        landmarks=LandmarkEmbedding(
            index=torch.arange(7),
            face=torch.from_numpy(random.integers(0, len(faces), 7)),
            barycentric=torch.softmax(array(7, 3), dim=1),
            weight=torch.ones(7),
        ),
        licence="none",
        provenance="random",
    )


def brute_force(head: HeadModel, identity: np.ndarray, expression: np.ndarray, pose: np.ndarray) -> np.ndarray:
    """One frame, vertex by vertex with 4x4 matrices in the world, then carried back to the head's rest placement."""
    a = {name: getattr(head, name).numpy() for name in ("template", "shapedirs", "exprdirs", "skinning_weights")}
    joints = head.joint_template.numpy() + head.joint_shapedirs.numpy() @ identity
    rotation = Rotation.from_rotvec(pose).as_matrix()
    world = []
    for j, parent in enumerate(PARENTS):
        local = np.eye(4)
        local[:3, :3] = rotation[j]
        local[:3, 3] = joints[j] if parent < 0 else joints[j] - joints[parent]
        world.append(local if parent < 0 else world[parent] @ local)
    head_at_rest = np.eye(4)
    head_at_rest[:3, 3] = joints[2]
    to_head = head_at_rest @ np.linalg.inv(world[2])
    result = np.zeros_like(a["template"])
    for v in range(len(result)):
        point = a["template"][v] + a["shapedirs"][v] @ identity + a["exprdirs"][v] @ expression
        if head.posedirs is not None:
            feature = np.concatenate([(rotation[j] - np.eye(3)).reshape(-1) for j in range(1, len(JOINTS))])
            point = point + feature @ head.posedirs.numpy()[:, v]
        blended = np.zeros(4)
        for j in range(len(JOINTS)):
            from_joint = np.append(point - joints[j], 1.0)
            blended += a["skinning_weights"][v, j] * (to_head @ world[j] @ from_joint)
        result[v] = blended[:3]
    return result


@pytest.mark.parametrize("correctives", [True, False])
def test_vertices_match_brute_force(correctives: bool) -> None:
    head = random_head(correctives=correctives)
    random = np.random.default_rng(0)
    identity, expression, pose = random.normal(size=4), random.normal(size=(2, 3, 5)), random.normal(size=(2, 3, 6, 3))
    posed = head.vertices(*map(torch.from_numpy, (identity, expression, pose)))
    assert posed.shape == (2, 3, 23, 3)
    for i in range(2):
        for k in range(3):
            # The correctives are a function of the rotations only, the root's left out of both.
            expected = brute_force(head, identity, expression[i, k], pose[i, k])
            np.testing.assert_allclose(posed[i, k].numpy(), expected, atol=1e-12)
    single = head.vertices(*map(torch.from_numpy, (identity, expression[1, 2], pose[1, 2])))
    np.testing.assert_allclose(single.numpy(), posed[1, 2].numpy(), atol=1e-13)


def test_root_rotation_changes_nothing() -> None:
    head = random_head()
    identity, expression, pose = torch.randn(4).double(), torch.rand(5).double(), 0.4 * torch.randn(6, 3).double()
    turned = pose.clone()
    turned[0] = torch.tensor([0.3, -1.0, 2.0])
    torch.testing.assert_close(head.vertices(identity, expression, turned), head.vertices(identity, expression, pose))


def test_skull_stands_still_under_the_neck_and_the_rest_does_not() -> None:
    head = random_head(correctives=False)
    identity, expression = torch.randn(4).double(), torch.zeros(5).double()
    pose = torch.zeros(6, 3).double()
    pose[1], pose[2] = torch.tensor([0.4, 0.1, -0.2]), torch.tensor([-0.1, 0.5, 0.0])
    posed = head.vertices(identity, expression, pose)
    rest = head.rest(identity)[0]
    torch.testing.assert_close(posed[:6], rest[:6])
    assert (posed[6:] - rest[6:]).norm(dim=-1).min() > 1e-3


def test_zero_pose_is_the_linear_model() -> None:
    head = random_head()
    identity, expression = torch.randn(4).double(), torch.rand(5).double()
    expected = head.template + head.shapedirs @ identity + head.exprdirs @ expression
    torch.testing.assert_close(head.vertices(identity, expression, torch.zeros(6, 3).double()), expected)


def test_gradients() -> None:
    head = random_head(vertices=3)
    pose = 0.5 * torch.randn(2, 6, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    pose[0, 2:] = 0
    pose[1, 3] = torch.tensor([1e-5, -2e-5, 0.0])
    inputs = (torch.randn(4).double(), torch.rand(2, 5).double(), pose)
    for tensor in inputs:
        tensor.requires_grad_()
    assert torch.autograd.gradcheck(head.vertices, inputs, atol=1e-6)
    landmarks = head.landmark_points
    assert torch.autograd.gradcheck(lambda *a: landmarks(head.vertices(*a)), inputs, atol=1e-6, fast_mode=True)


def test_subset_moves_like_the_whole() -> None:
    head = random_head()
    arguments = torch.randn(4).double(), torch.rand(3, 5).double(), 0.3 * torch.randn(3, 6, 3).double()
    whole = head.vertices(*arguments)
    rows = torch.tensor([7, 2, 19, 4, 11, 3, 0, 22, 9, 14, 16])
    part = head.subset(rows)
    torch.testing.assert_close(part.vertices(*arguments), whole[:, rows])
    spanned = torch.isin(head.faces, rows).all(1)
    assert torch.equal(rows[part.faces], head.faces[spanned]) and spanned.any()
    assert torch.equal(part.region, head.region[spanned])

    light = head.landmark_subset()
    assert len(light.template) < len(head.template)
    torch.testing.assert_close(light.landmark_points(light.vertices(*arguments)), head.landmark_points(whole))


def test_landmarks_of_a_subset_without_their_faces_are_dropped() -> None:
    head = random_head()
    first = head.faces[head.landmarks.face[0]]
    part = head.subset(first)
    assert set(part.landmarks.index.tolist()) == {
        k for k in range(7) if torch.isin(head.faces[head.landmarks.face[k]], first).all()
    }
    assert part.landmarks.face.max() < len(part.faces)


def test_names() -> None:
    head = random_head()
    assert torch.equal(head.region_mask("lips", "scalp"), head.region > 0)
    with pytest.raises(KeyError, match="no region.*brow"):
        head.region_mask("skin", "brow")
    assert head.expression_vector({"e3": 0.5}).tolist() == [0, 0, 0, 0.5, 0]
    with pytest.raises(KeyError, match="no expression 'smile'"):
        head.expression_vector({"smile": 1.0})
    assert head.head_joint == 2
