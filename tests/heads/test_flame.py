"""FLAME and its relatives read from their own files: against an oracle, and against files made to harm."""

from __future__ import annotations

import dataclasses
import io
import os
import pickle
import zipfile

import numpy as np
import pytest
import torch
from flame_like import flame_forward, flame_masks, make_flame_like, make_smal_like, smpl_forward
from harm import Calls
from python2_pickles import write_flame_pickle, write_python2_pickle

from flame_nerf.heads import HeadModelError, load_head, save_head
from flame_nerf.heads.flame_smpl import FLAME_JOINTS, read_statistical_head
from flame_nerf.heads.masks_landmarks import read_landmarks, read_vertex_groups
from flame_nerf.heads.registry import remember_head, remembered_heads


@pytest.fixture(scope="module")
def model() -> dict[str, np.ndarray]:
    return make_flame_like()


@pytest.fixture(scope="module")
def flame_file(model, tmp_path_factory):
    return write_flame_pickle(tmp_path_factory.mktemp("flame") / "generic_model.pkl", model)


def _random(frames: int = 3, seed: int = 0):
    random = np.random.default_rng(seed)
    return (
        random.normal(size=300),
        random.normal(size=(frames, 100)),
        random.normal(0, 0.4, (frames, 5, 3)),
        random.normal(size=(frames, 3)),
    )


def _tensor(array: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.asarray(array, dtype=np.float32))


def _model_space(head, shape, expr, pose) -> np.ndarray:
    shape, expr, pose = _tensor(shape), _tensor(expr), _tensor(pose)
    vertices, placement = head.vertices(shape, expr, pose), head.placement(shape, pose, expr)
    return (vertices @ placement[..., :3, :3].mT + placement[..., None, :3, 3]).numpy()


def test_the_2020_pickle_has_its_exact_structure_and_passes_as_the_oracle(model, flame_file):
    text = flame_file.read_bytes()
    assert b"chumpy.ch\nCh" in text and b"scipy.sparse.csc\ncsc_matrix" in text and text[:2] == b"\x80\x02"
    read = read_statistical_head(flame_file)
    head = read.head
    assert read.kind == "flame" and "2020" in read.seen and "36 pose correctives" in read.seen
    assert head.template.shape == (5023, 3) and head.faces.shape == (9976, 3)
    assert head.shapedirs.shape == (5023, 3, 300) and head.exprdirs.shape == (5023, 3, 100)
    assert head.posedirs.shape == (36, 5023, 3)
    assert head.parents == (-1, 0, 1, 1, 1) and head.joint_names == FLAME_JOINTS
    assert head.expression_names[:2] == ("expr_000", "expr_001") and head.expression_range == "gaussian"
    shape, expr, pose, translation = _random()
    expected = flame_forward(model, shape, expr, pose, translation)
    assert np.abs(_model_space(head, shape, expr, pose) + translation[:, None] - expected).max() < 1e-5


def test_the_2023_pickle_and_the_npz_give_the_same_head(model, flame_file, tmp_path):
    plain = write_flame_pickle(tmp_path / "flame2023.pkl", model, chumpy=False)
    np.savez(tmp_path / "female_model.npz", **model)
    (tmp_path / "python3.pkl").write_bytes(pickle.dumps(model, 5))
    first = read_statistical_head(flame_file)
    for path in (plain, *(tmp_path / name for name in ("female_model.npz", "python3.pkl"))):
        other = read_statistical_head(path)
        assert "2023" in other.seen
        for field in dataclasses.fields(first.head):
            value = getattr(first.head, field.name)
            if isinstance(value, torch.Tensor):
                assert torch.equal(value, getattr(other.head, field.name)), field.name
    assert "female" in read_statistical_head(tmp_path / "female_model.npz").seen


def test_the_joints_follow_the_expression_as_in_flame(model, flame_file):
    head = read_statistical_head(flame_file).head
    still = dataclasses.replace(head, joint_exprdirs=None)
    shape, expr, pose, _ = _random(1, seed=4)
    expected = flame_forward(model, shape, expr, pose, np.zeros(3))
    assert np.abs(_model_space(head, shape, expr, pose) - expected).max() < 1e-5
    assert np.abs(_model_space(still, shape, expr, pose) - expected).max() > 1e-5


def test_placement_carries_the_head_frame_into_model_space_for_the_open_head():
    head = load_head()
    pose = 0.3 * torch.randn(2, len(head.joint_names), 3, generator=torch.Generator().manual_seed(1))
    identity, expression = torch.zeros(head.shapedirs.shape[-1]), torch.zeros(2, len(head.expression_names))
    placement = head.placement(identity, pose)
    turned = pose.clone()
    turned[:, 0] = 0
    # The root turns everything about its own joint; without it the root joint's vertices stay where they rest.
    relative = placement @ torch.linalg.inv(head.placement(identity, turned))
    root = torch.cat([head.joint_template[0], torch.ones(1)])
    torch.testing.assert_close(relative @ root, root.expand(2, 4), atol=1e-6, rtol=0)
    vertices = head.vertices(identity, expression, turned)
    world = vertices @ head.placement(identity, turned)[:, :3, :3].mT + head.placement(identity, turned)[:, None, :3, 3]
    on_root = head.skinning_weights[:, 0] > 0.9999
    if on_root.any():
        torch.testing.assert_close(world[:, on_root], head.template[on_root].expand(2, -1, -1), atol=1e-5, rtol=0)


def test_a_saved_flame_stays_within_a_hundredth_of_a_millimetre(model, flame_file, tmp_path):
    head = read_statistical_head(flame_file).head
    save_head(head, tmp_path / "flame.npz", half_bases=False)
    back = load_head(tmp_path / "flame.npz")
    assert back.expression_range == "gaussian" and back.joint_exprdirs is not None
    shape, expr, pose, _ = _random(2, seed=3)
    expected = flame_forward(model, shape, expr, pose, np.zeros(3))
    assert np.abs(_model_space(back, shape, expr, pose) - expected).max() < 1e-5


def test_an_smpl_format_animal_passes_as_the_oracle(tmp_path):
    model = make_smal_like()
    content = {name: value for name, value in model.items() if name != "parents"}
    path = write_python2_pickle(tmp_path / "smal.pkl", content)
    read = read_statistical_head(path)
    head = read.head
    assert read.kind == "smpl" and "SMAL" in read.seen and head.expression_names == ()
    assert head.joint_names[16] == "head" and head.joint_names[32] == "jaw"
    random = np.random.default_rng(0)
    betas, pose = random.normal(size=41), random.normal(0, 0.3, (33, 3))
    found = _model_space(head, betas, np.zeros((1, 0)), pose[None])[0]
    assert np.abs(found - smpl_forward(model, betas, pose)).max() < 1e-5
    renamed = read_statistical_head(path, joint_names={15: "head"}).head
    assert renamed.head_joint == 15 and renamed.joint_names[16] == "joint_16"


def test_gnm_names_and_orders_are_understood(model, tmp_path):
    joints = ["root", "head", "jaw", "left_eye", "right_eye"]
    regressor = model["J_regressor"]
    shapes, expressions = model["shapedirs"][..., :300], model["shapedirs"][..., 300:]
    correctives = np.concatenate([np.zeros((9, 5023 * 3)), model["posedirs"].transpose(2, 0, 1).reshape(36, -1)])
    groups = np.zeros((2, 5023))
    groups[0, :10], groups[1, 20:30] = 1, 1
    np.savez(
        tmp_path / "gnm_head.npz",
        version="3.0",
        variant="head",
        template_vertex_positions=model["v_template"],
        template_joint_positions=regressor @ model["v_template"],
        vertex_identity_basis=shapes.transpose(2, 0, 1),
        joint_identity_basis=np.einsum("jv,vck->kjc", regressor, shapes),
        expression_basis=expressions.transpose(2, 0, 1),
        joint_names=joints,
        expression_names=[f"mouth_{k:03d}" for k in range(100)],
        joint_parent_indices=[-1, 0, 1, 1, 1],
        skinning_weights=model["weights"].T,
        triangles=model["f"],
        pose_correctives_regressor=correctives,
        vertex_groups=groups,
        vertex_group_names=["lips", "left_ear"],
        quads=np.zeros((1, 4), int),
    )
    read = read_statistical_head(tmp_path / "gnm_head.npz")
    assert read.kind == "gnm" and "GNM 3.0 head" in read.seen and read.head.joint_names == tuple(joints)
    assert read.groups["left_ear"].tolist() == list(range(20, 30))
    shape, _, pose, _ = _random()
    none = np.zeros((3, 100))
    expected = flame_forward(model, shape, none, pose, np.zeros(3))
    assert np.abs(_model_space(read.head, shape, none, pose) - expected).max() < 1e-5
    expr = np.random.default_rng(2).normal(size=(1, 100))
    expected = flame_forward(model, shape, expr, np.zeros((1, 5, 3)), np.zeros(3))
    assert np.abs(_model_space(read.head, shape, expr, np.zeros((1, 5, 3))) - expected).max() < 1e-5


def test_cut_short_and_foreign_files_are_named(flame_file, tmp_path):
    data = flame_file.read_bytes()
    for size in (0, 1, 100, len(data) // 2, len(data) - 1):
        (tmp_path / "short.pkl").write_bytes(data[:size])
        with pytest.raises(HeadModelError, match="short.pkl"):
            read_statistical_head(tmp_path / "short.pkl")
    (tmp_path / "text.pkl").write_text("hello\r\nworld\r\n")
    (tmp_path / "list.pkl").write_bytes(pickle.dumps([1, 2]))
    (tmp_path / "short.npz").write_bytes(b"PK\x03\x04nothing")
    np.savez(tmp_path / "other.npz", weights=np.zeros(3), height=1.0)
    for name in ("text.pkl", "list.pkl", "short.npz", "other.npz", "missing.pkl"):
        with pytest.raises(HeadModelError, match=name):
            read_statistical_head(tmp_path / name)
    with pytest.raises(HeadModelError, match="height, weights"):
        read_statistical_head(tmp_path / "other.npz")


@pytest.mark.parametrize(
    "field, change, said",
    [
        ("f", lambda v: v + 9999, "rows outside"),
        ("weights", lambda v: v[:-1], r"shape \(5022, 5\)"),
        ("weights", lambda v: 2 * v, "sums to 2"),
        ("shapedirs", lambda v: np.where(v > 0.01, np.nan, v), "not finite"),
        ("shapedirs", lambda v: v[..., :300], "FLAME has"),
        ("posedirs", lambda v: v[..., :35], "35 correctives"),
        ("kintree_table", lambda v: v[::-1], "parents"),
        ("v_template", lambda v: v.astype(str), "numbers"),
    ],
)
def test_a_wrong_field_is_named(model, tmp_path, field, change, said):
    np.savez(tmp_path / "bad.npz", **(model | {field: change(model[field])}))
    with pytest.raises(HeadModelError, match=rf"(?s)bad\.npz.*{said}"):
        read_statistical_head(tmp_path / "bad.npz", kind="flame" if field != "v_template" else "auto")


def test_names_inside_of_a_file_do_not_break_the_line_of_an_error(model, tmp_path):
    fields = {
        f"{name}\n" if name == "weights" else name: value for name, value in model.items() if name != "v_template"
    }
    (tmp_path / "bad.pkl").write_bytes(pickle.dumps(fields))
    with pytest.raises(HeadModelError, match="v_template") as told:
        read_statistical_head(tmp_path / "bad.pkl", kind="flame")
    assert "weights\\n" in str(told.value) and "\n" not in str(told.value)


def test_masks_from_a_pickle_and_from_text_with_windows_line_ends(tmp_path):
    masks = flame_masks()
    write_python2_pickle(tmp_path / "FLAME_masks.pkl", masks)
    found = read_vertex_groups(tmp_path / "FLAME_masks.pkl", 5023)
    assert found.keys() == masks.keys() and all(np.array_equal(found[name], masks[name]) for name in masks)
    (tmp_path / "rows.txt").write_bytes(b"3\r\n1\r\n2.0\r\n")
    assert read_vertex_groups(tmp_path / "rows.txt", 5)["mask"].tolist() == [1, 2, 3]
    (tmp_path / "rows.json").write_text('{"ears": ["4", "0"], "nose": [1]}')
    assert read_vertex_groups(tmp_path / "rows.json", 5)["ears"].tolist() == [0, 4]
    np.save(tmp_path / "flags.npy", np.array([True, False, True]))
    assert read_vertex_groups(tmp_path / "flags.npy", 3)["mask"].tolist() == [0, 2]
    for text, said in (("7", "another model"), ("a b", "masks"), ("-1", "another model")):
        (tmp_path / "bad.txt").write_text(text)
        with pytest.raises(HeadModelError, match=said):
            read_vertex_groups(tmp_path / "bad.txt", 5)


def test_landmark_embeddings_in_the_layouts_that_are_about(tmp_path):
    random = np.random.default_rng(0)
    face, blend = random.integers(0, 9976, 105), random.dirichlet([1, 1, 1], 105)
    index = np.sort(random.choice(468, 105, replace=False))[::-1].copy()
    np.savez(tmp_path / "mediapipe.npz", lmk_face_idx=face, lmk_b_coords=blend, landmark_indices=index)
    found = read_landmarks(tmp_path / "mediapipe.npz", 9976)
    assert found.index.tolist() == sorted(index.tolist()) and found.face.tolist() == face[::-1].tolist()
    np.testing.assert_allclose(found.barycentric.numpy(), blend[::-1], atol=1e-6)

    static = {"lmk_face_idx": face[:51], "lmk_b_coords": blend[:51]}
    write_python2_pickle(tmp_path / "flame_static_embedding.pkl", static)
    found = read_landmarks(tmp_path / "flame_static_embedding.pkl", 9976)
    assert len(found.index) == 51 == len(set(found.index.tolist())) and (found.weight < 1).all()
    # The outer corner of the right eye is point 36 of 68, row 19 of 51; mediapipe calls it 33.
    assert int(found.face[found.index == 33]) == face[19]

    deca = {"static_lmk_faces_idx": face[:51], "static_lmk_bary_coords": blend[:51], "dynamic": torch.zeros(2)}
    np.save(tmp_path / "landmark_embedding.npy", np.array(deca, dtype=object), allow_pickle=True)
    assert torch.equal(read_landmarks(tmp_path / "landmark_embedding.npy", 9976).face, found.face)

    with pytest.raises(HeadModelError, match="another model"):
        read_landmarks(tmp_path / "mediapipe.npz", 100)
    np.savez(tmp_path / "bare.npz", lmk_face_idx=face, lmk_b_coords=blend)
    with pytest.raises(HeadModelError, match="landmark_indices"):
        read_landmarks(tmp_path / "bare.npz", 9976)


def test_an_npz_with_a_harmful_object_array_is_refused(tmp_path):
    mark = tmp_path / "ran"
    inner = io.BytesIO()
    np.lib.format.write_array(inner, np.array([Calls(os.system, f"touch {mark}")], dtype=object), allow_pickle=True)
    with zipfile.ZipFile(tmp_path / "evil.npz", "w") as archive:
        archive.writestr("v_template.npy", inner.getvalue())
    with pytest.raises(HeadModelError, match="system"):
        read_statistical_head(tmp_path / "evil.npz")
    assert not mark.exists()


def test_a_head_is_remembered_by_name(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    assert remembered_heads() == {}
    with pytest.raises(HeadModelError, match="convert-head"):
        load_head("flame")
    save_head(load_head(), tmp_path / "mine.npz")
    remember_head("flame", tmp_path / "mine.npz")
    assert load_head("flame").name == "anny"
    (tmp_path / "mine.npz").unlink()
    with pytest.raises(HeadModelError, match="no longer at"):
        load_head("flame")
    (tmp_path / "config" / "flame-nerf" / "heads.json").write_text("{broken")
    assert remembered_heads() == {}
