"""From other people's head files to heads of this project, by function and by command."""

from __future__ import annotations

import dataclasses
import os
import subprocess
from pathlib import Path

import commands
import numpy as np
import pytest
import torch
from flame_like import (
    ORIGIN,
    face_regions,
    flame_masks,
    head_from_arrays,
    make_flame_like,
    make_smal_like,
    smpl_forward,
)
from python2_pickles import write_flame_pickle, write_python2_pickle
from scipy.spatial.transform import Rotation

from data_tools.convert_head import ConvertConfig
from data_tools.convert_head.convert import convert_head, read_any_head
from data_tools.convert_head.regions import regions_from_landmarks
from data_tools.convert_head.reshape import to_head_axes
from flame_nerf.heads import HeadModelError, LandmarkEmbedding, load_head, save_head


@pytest.fixture(scope="module")
def model() -> dict[str, np.ndarray]:
    return make_flame_like()


@pytest.fixture(scope="module")
def flame_file(model, tmp_path_factory):
    return write_flame_pickle(tmp_path_factory.mktemp("flame") / "generic_model.pkl", model)


def _smal(folder: Path) -> tuple[dict[str, np.ndarray], Path]:
    made = make_smal_like()
    return made, write_python2_pickle(
        folder / "smal.pkl", {name: value for name, value in made.items() if name != "parents"}
    )


def test_flame_with_its_masks_gets_the_projects_regions(flame_file, tmp_path):
    masks = write_python2_pickle(tmp_path / "FLAME_masks.pkl", flame_masks())
    summary = convert_head(flame_file, tmp_path / "flame.npz", ConvertConfig(masks=masks, landmarks="none"))
    head = load_head(tmp_path / "flame.npz")
    truth, names = face_regions()
    assert summary.name == "flame" and summary.landmarks == "none" and not summary.warnings
    for region in ("lips", "eyes", "scalp", "ears", "neck"):
        expected = truth == names.index(region)
        found = head.region_mask(region).numpy()
        assert (expected & found).sum() / (expected | found).sum() > 0.8, region
    assert head.region_mask("eyelids").sum() > 200
    assert "flame.is.tue.mpg.de" in head.licence and "generic_model.pkl" in head.provenance


def test_without_masks_the_regions_are_found_on_the_head(flame_file):
    head = read_any_head(flame_file).head
    truth, names = face_regions()
    for region, least in (("eyes", 0.99), ("scalp", 0.8), ("ears", 0.7), ("neck", 0.8), ("lips", 0.25)):
        expected = truth == names.index(region)
        found = head.region_mask(region).numpy()
        assert (expected & found).sum() / (expected | found).sum() > least, region


def test_lip_landmarks_tell_the_lips(model):
    shipped = load_head()
    head = dataclasses.replace(shipped, region=torch.where(shipped.region == 1, 0, shipped.region))
    found = regions_from_landmarks(head, shipped.landmarks).region_mask("lips").numpy()
    truth = shipped.region_mask("lips").numpy()
    assert (truth & found).sum() > 0.5 * truth.sum() and (truth & found).sum() > 0.6 * found.sum()


def test_a_landmark_file_is_taken_over_and_a_foreign_one_refused(flame_file, tmp_path):
    random = np.random.default_rng(0)
    embedding = {"lmk_face_idx": random.integers(0, 9976, 105), "lmk_b_coords": random.dirichlet([1, 1, 1], 105)}
    np.savez(tmp_path / "mp.npz", **embedding, landmark_indices=np.arange(105))
    config = ConvertConfig(landmarks=str(tmp_path / "mp.npz"))
    assert "105 points from mp.npz" in convert_head(flame_file, tmp_path / "flame.npz", config).landmarks
    assert load_head(tmp_path / "flame.npz").landmarks.face.tolist() == embedding["lmk_face_idx"].tolist()
    np.savez(tmp_path / "mp.npz", lmk_face_idx=[99999], lmk_b_coords=[[1, 0, 0]], landmark_indices=[0])
    with pytest.raises(HeadModelError, match="another model"):
        convert_head(flame_file, tmp_path / "other.npz", config)
    assert not (tmp_path / "other.npz").exists()


def test_an_animal_is_cut_to_its_head_and_moves_as_before(tmp_path):
    model, path = _smal(tmp_path)
    convert_head(path, tmp_path / "dog.npz", ConvertConfig(landmarks="none"))
    head = load_head(tmp_path / "dog.npz")
    assert {"root", "neck", "head", "jaw"} <= set(head.joint_names) and len(head.joint_names) < 33
    kept = np.flatnonzero(np.isin(np.repeat(np.arange(33), 24), [15, 16, 32]))
    assert len(head.template) == len(kept)
    random = np.random.default_rng(0)
    betas, pose = random.normal(size=41), random.normal(0, 0.3, (33, 3))
    # Joints that are cut away must rest: they carry nothing of the head.
    names = ["root"] + [f"joint_{row:02d}" for row in range(1, 33)]
    names[15], names[16], names[32] = "neck", "head", "jaw"
    rows = [names.index(name) for name in head.joint_names]
    pose[np.setdiff1d(np.arange(33), rows)] = 0
    origin = (model["J_regressor"] @ model["v_template"])[16]
    expected = smpl_forward(model, betas, pose)[kept] - origin
    identity, turns = torch.from_numpy(betas).float(), torch.from_numpy(pose[rows]).float()[None]
    place = head.placement(identity, turns)[0].numpy()
    found = head.vertices(identity, torch.zeros(1, 0), turns)[0].numpy() @ place[:3, :3].T + place[:3, 3]
    assert np.abs(found - expected).max() < 1e-5


def test_an_animal_is_cut_by_a_mask_and_its_joint_can_be_named(tmp_path):
    _, path = _smal(tmp_path)
    rows = np.arange(24 * 15, 24 * 17)
    (tmp_path / "rows.txt").write_text("\r\n".join(map(str, rows)))
    config = ConvertConfig(vertices=tmp_path / "rows.txt", head_joint="15", landmarks="none")
    head = read_any_head(path, config).head
    assert len(head.template) == len(rows) and head.joint_names[head.head_joint] == "head"
    (tmp_path / "rows.txt").write_text("\n".join(map(str, rows[::2])))
    with pytest.raises(HeadModelError, match="no whole triangle|belong to no triangle"):
        read_any_head(path, config)
    with pytest.raises(HeadModelError, match="no joint 40"):
        read_any_head(path, dataclasses.replace(config, head_joint="40"))


def test_a_model_without_a_known_skeleton_asks_for_the_head_joint(tmp_path):
    model = make_smal_like()
    kept = slice(0, 24 * 20)
    small = {name: value[kept] for name, value in model.items() if len(value) == 792}
    small |= {
        "f": model["f"][: 32 * 20],
        "J_regressor": model["J_regressor"][:20, kept],
        "weights": model["weights"][kept, :20] / model["weights"][kept, :20].sum(1, keepdims=True),
        "posedirs": model["posedirs"][kept, :, : 9 * 19],
        "kintree_table": model["kintree_table"][:, :20],
    }
    np.savez(tmp_path / "beast.npz", **small)
    with pytest.raises(HeadModelError, match="--head-joint"):
        read_any_head(tmp_path / "beast.npz")
    head = read_any_head(tmp_path / "beast.npz", ConvertConfig(head_joint="joint_16", whole=True)).head
    assert head.head_joint == 16 and len(head.template) == 480


@pytest.mark.parametrize("forward, up, scale", [("-y", "+z", 0.001), ("+x", "+z", 1.0), ("-z", "+y", 4.0)])
def test_other_axes_and_units_pass_as_the_oracle_turned(model, forward, up, scale):
    head = to_head_axes(head_from_arrays(model), forward, up, scale)
    axes = {"x": 0, "y": 1, "z": 2}
    turn = np.zeros((3, 3))
    turn[1, axes[up[1]]] = -1 if up[0] == "-" else 1
    turn[2, axes[forward[1]]] = -1 if forward[0] == "-" else 1
    turn[0] = np.cross(turn[1], turn[2])
    random = np.random.default_rng(5)
    betas, pose = random.normal(size=400), random.normal(0, 0.4, (5, 3))
    in_file = Rotation.from_matrix(turn.T @ Rotation.from_rotvec(pose).as_matrix() @ turn).as_rotvec()
    expected = scale * smpl_forward(model, betas, in_file) @ turn.T

    def tensor(values: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(values).float()

    identity, expression, turns = tensor(betas[:300]), tensor(betas[300:])[None], tensor(pose)[None]
    place = head.placement(identity, turns, expression)[0].numpy()
    found = head.vertices(identity, expression, turns)[0].numpy() @ place[:3, :3].T + place[:3, 3]
    assert np.abs(found - expected).max() < 1e-5 * max(scale, 0.1)


def test_oddities_are_said(model, tmp_path):
    big = model | {"v_template": model["v_template"] * 1000, "shapedirs": model["shapedirs"] * 1000}
    np.savez(tmp_path / "mm.npz", **big)
    summary = convert_head(tmp_path / "mm.npz", tmp_path / "out.npz", ConvertConfig(landmarks="none", scale=1.0))
    assert any("--scale" in warning for warning in summary.warnings)
    config = ConvertConfig(landmarks="none", scale=0.001, forward="-z", overwrite=True)
    summary = convert_head(tmp_path / "mm.npz", tmp_path / "out.npz", config)
    assert any("left eye" in warning for warning in summary.warnings)
    assert any("behind" in warning for warning in summary.warnings)


def test_the_target_is_not_overwritten_unasked(flame_file, tmp_path):
    (tmp_path / "there.npz").write_bytes(b"mine")
    with pytest.raises(HeadModelError, match="--overwrite"):
        convert_head(flame_file, tmp_path / "there.npz")
    assert (tmp_path / "there.npz").read_bytes() == b"mine"
    with pytest.raises(HeadModelError, match=r"\.npz"):
        convert_head(flame_file, tmp_path / "flame.pkl")
    with pytest.raises(HeadModelError, match="one axis"):
        convert_head(flame_file, tmp_path / "new.npz", ConvertConfig(forward="+y", up="-y"))
    assert list(tmp_path.iterdir()) == [tmp_path / "there.npz"]


def test_a_head_of_the_project_keeps_its_landmarks(tmp_path):
    save_head(load_head(), tmp_path / "mine.npz")
    summary = convert_head(tmp_path / "mine.npz", tmp_path / "again.npz", ConvertConfig(landmarks="none"))
    first, again = load_head(), load_head(tmp_path / "again.npz")
    assert "kept from the source" in summary.landmarks and isinstance(again.landmarks, LandmarkEmbedding)
    assert torch.equal(first.exprdirs, again.exprdirs) and torch.equal(first.region, again.region)


def _command(*arguments: object, home: Path) -> subprocess.CompletedProcess:
    environment = os.environ | commands.QUIET | {"XDG_CONFIG_HOME": str(home), "COLUMNS": "200"}
    return commands.run("flame-nerf-data", *arguments, env=environment)


def test_the_command_converts_and_remembers(flame_file, tmp_path, monkeypatch):
    done = _command(
        "convert-head", flame_file, tmp_path / "flame.npz", "--landmarks", "none", "--remember", home=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert "FLAME" in done.stdout and "5023 vertices" in done.stdout and "Licence" in done.stdout
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert load_head("flame").name == "flame"
    again = _command("convert-head", tmp_path / "no.pkl", tmp_path / "new.npz", home=tmp_path)
    assert again.returncode == 1 and "no.pkl" in again.stderr and "Traceback" not in again.stderr


@pytest.mark.slow
def test_a_flame_without_an_embedding_tracks_a_clip_as_the_open_head_does(flame_file, tmp_path):
    from track_clips import carphone

    from data_tools.open_head.detection import landmark_set
    from data_tools.tracking import TrackConfig
    from data_tools.tracking.pipeline import track
    from flame_nerf.motion.live_head import LiveHead
    from flame_nerf.subject import load_subject

    summary = convert_head(flame_file, tmp_path / "flame.npz")
    assert "built from 240 pictures" in summary.landmarks
    flame, shipped = load_head(tmp_path / "flame.npz"), load_head()
    # The stand-in is the open head's surface moved: its points must come out where the open head has them.
    rows = torch.searchsorted(shipped.landmarks.index, flame.landmarks.index)
    away = (shipped.landmark_points(shipped.template)[rows] + torch.from_numpy(ORIGIN)).float()
    away = (away - flame.landmark_points(flame.template)).norm(dim=-1)
    face = ~np.isin(flame.landmarks.index.numpy(), list(landmark_set("FACE_OVAL")))
    assert len(rows) > 440 and float(away[torch.from_numpy(face)].median()) < 1e-3

    def tracked(name: str):
        config = TrackConfig(head=name, max_frames=32, photometric=False)
        return track(carphone(), tmp_path / Path(name).stem, config, silent=True)

    ours, theirs = tracked("anny"), tracked(str(tmp_path / "flame.npz"))
    assert theirs.reprojection_fraction < 1.2 * ours.reprojection_fraction
    assert theirs.outline_iou > ours.outline_iou - 0.02
    assert np.abs(np.subtract(theirs.yaw_range_deg, ours.yaw_range_deg)).max() < 4.0
    subject = load_subject(theirs.subject)
    jaw = subject.track.pose[:, subject.track.joint_names.index("jaw"), 0]
    opened = load_subject(ours.subject).track
    opened = opened.expression[:, opened.expression_names.index("jawOpen")]
    assert np.corrcoef(jaw, opened)[0, 1] > 0.8
    assert Path(subject.head_model).is_absolute()
    LiveHead(load_head(subject.head_model_source), subject.track)
