"""Other tools' data come back as they were: vertices before the camera, and where they are seen in the picture."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from flame_like import head_from_arrays, make_flame_like
from import_truth import (
    FLIP,
    SIZE,
    deca_truth,
    make_truth,
    nha_truth,
    picture,
    silhouette,
)
from import_writers import (
    opengl_c2w,
    save,
    write_deca,
    write_imavatar,
    write_insta,
    write_metrical,
    write_nerface,
    write_nha,
    write_obj,
    write_vhap,
)
from python2_pickles import write_flame_pickle

from data_tools.importers import ImportConfig, import_data
from flame_nerf.heads import LandmarkEmbedding, load_head, save_head
from flame_nerf.motion.live_head import LiveHead
from flame_nerf.subject import Frame, HeadTrack, Subject, load_subject, write_subject


@pytest.fixture(scope="session")
def flame(tmp_path_factory):
    """A converted head."""
    path = tmp_path_factory.mktemp("flame") / "flame.npz"
    save_head(head_from_arrays(make_flame_like()), path, half_bases=False)
    return path


@pytest.fixture(scope="session")
def flame_pickle(tmp_path_factory):
    return write_flame_pickle(tmp_path_factory.mktemp("flame") / "generic_model.pkl", make_flame_like())


def assert_same(subject, truth, order=None):
    """Vertices within 1e-4 m in camera coordinates, projections within 0.05 px, for every picture."""
    views = sorted(truth.views, key=lambda view: view.timestep) if order is None else order
    assert len(subject.frames) == len(views)
    assert (subject.width, subject.height) == truth.size
    for frame, view in zip(subject.frames, views, strict=True):
        w2c = FLIP @ np.linalg.inv(frame.c2w)
        camera = subject.track.vertices[frame.timestep] @ w2c[:3, :3].T + w2c[:3, 3]
        assert np.abs(camera - truth.in_camera(view)).max() < 1e-4
        fl_x, fl_y, cx, cy = subject.intrinsics_of(frame)
        pixels = np.stack([fl_x * camera[:, 0] / camera[:, 2] + cx, fl_y * camera[:, 1] / camera[:, 2] + cy], axis=1)
        assert np.abs(pixels - truth.in_picture(view)).max() < 0.05


def assert_stabilised(subject):
    """The skull stands still in the world, and the canonical head is where it is."""
    track = subject.track
    skull = track.canonical_vertices[:, 1] > np.quantile(track.canonical_vertices[:, 1], 0.8)
    spread = track.vertices[:, skull] - track.vertices[:, skull].mean(axis=0)
    assert np.abs(spread).max() < 6e-3
    assert np.abs(track.vertices[:, skull].mean(axis=0) - track.canonical_vertices[skull]).max() < 6e-3


def run(tmp_path, format_name="auto", **options):
    summary = import_data(format_name, tmp_path / "src", tmp_path / "dst", ImportConfig(**options), silent=True)
    assert summary.outline_iou > 0.9
    assert not (tmp_path / "dst" / ".work").exists()
    return summary, load_subject(tmp_path / "dst")


def test_insta(tmp_path):
    truth = make_truth("still")
    write_insta(tmp_path / "src", truth)
    summary, subject = run(tmp_path)
    assert_same(subject, truth)
    assert_stabilised(subject)
    assert summary.format == "INSTA" and "mesh_path" in summary.why
    assert [frame.split for frame in subject.frames] == ["train"] * 3 + ["test"] * 2
    assert np.abs(subject.track.expression[:, :30] - truth.expr).max() < 1e-6
    assert np.abs(subject.track.canonical_vertices - truth.neutral(np.radians(12))).max() < 1e-5
    assert subject.has_masks


def test_meshes_of_a_moving_head_are_carried_into_the_head_frame(tmp_path):
    truth = make_truth("moving")
    write_insta(tmp_path / "src", truth)
    summary, subject = run(tmp_path, "insta")
    assert_same(subject, truth)
    assert_stabilised(subject)
    assert summary.facts["head"].startswith("moves")
    assert np.abs(subject.frames[0].c2w - subject.frames[3].c2w).max() > 0.05
    assert {"scalp", "neck", "skin"} == set(subject.track.region_names)


def test_vhap_s_meshes_before_several_cameras(tmp_path):
    """The same recording in VHAP's other export: meshes instead of parameters."""
    truth = make_truth("rig", count=3)
    frames = write_vhap(tmp_path / "src", truth, split=False)
    for frame in frames:
        del frame["flame_param_path"]
        frame["mesh_path"] = f"meshes/{frame['timestep_index']:05d}.obj"
    for t in range(3):
        write_obj(tmp_path / "src" / "meshes" / f"{t:05d}.obj", truth.vertices[t], truth.faces)
    (tmp_path / "src" / "transforms.json").write_text(json.dumps({"frames": frames}))
    summary, subject = run(tmp_path)
    assert summary.timesteps == 3 and "OpenGL" in summary.facts["axes"]
    assert_same(subject, truth)


def test_metrical_tracker(tmp_path, flame):
    truth = make_truth("still")
    write_metrical(tmp_path / "src", truth)
    summary, subject = run(tmp_path, flame=flame)
    assert_same(subject, truth)
    assert_stabilised(subject)
    assert summary.format == "metrical-tracker"
    assert np.abs(subject.track.pose - truth.pose).max() < 1e-5
    assert np.abs(subject.track.identity[:20] - truth.shape).max() < 1e-6
    assert "lips" in subject.track.region_names


@pytest.mark.parametrize("options", [{}, {"pixels": True}, {"mirrored": True}])
def test_imavatar(tmp_path, flame, options):
    truth = make_truth("turning")
    write_imavatar(tmp_path / "src", truth, **options)
    summary, subject = run(tmp_path, flame=flame)
    assert_same(subject, truth)
    assert_stabilised(subject)
    assert ("negative" in summary.facts["signs"]) == ("mirrored" in options)


@pytest.mark.parametrize("tracked", [SIZE, (176, 156)])
def test_nha(tmp_path, flame, tracked):
    truth = nha_truth(tracked)
    write_nha(tmp_path / "src", truth, tracked)
    _, subject = run(tmp_path, flame=flame)
    assert_same(subject, truth)
    assert_stabilised(subject)


def test_vhap_with_one_camera(tmp_path, flame):
    truth = make_truth("moving")
    write_vhap(tmp_path / "src", truth)
    _summary, subject = run(tmp_path, flame=flame)
    assert_same(subject, truth)
    assert_stabilised(subject)
    assert [frame.split for frame in subject.frames] == ["train"] * 4 + ["test"]
    assert all(frame.intrinsics is None for frame in subject.frames)


def test_vhap_with_several_cameras_and_offsets(tmp_path, flame_pickle):
    random = np.random.default_rng(3)
    offset = np.zeros((5143, 3))
    smooth = np.sin(40 * make_flame_like()["v_template"] + random.normal(0, 1, 3))
    offset[:5023], offset[5023:] = 3e-3 * smooth, 0.5
    truth = make_truth("rig", count=3, offset=offset[:5023])
    write_vhap(tmp_path / "src", truth, offset=offset)
    summary, subject = run(tmp_path, flame=flame_pickle)
    in_order = sorted(truth.views, key=lambda view: (view.timestep, view.camera == 2, view.camera))
    assert_same(subject, truth, in_order)
    assert subject.frames[0].intrinsics != subject.frames[1].intrinsics
    assert sorted(frame.split for frame in subject.frames) == ["test"] * 3 + ["train"] * 4 + ["val"] * 2
    assert "120 of teeth left away" in summary.facts["offsets"]
    # The subject carries its head model, which poses it again, offsets and all.
    live, track = LiveHead(load_head(subject.head_model_source), subject.track), subject.track
    again = live.vertices(torch.from_numpy(track.expression), torch.from_numpy(track.pose)).numpy()
    assert np.abs(again - track.vertices).max() < 2e-3
    assert summary.timesteps == 3 and summary.pictures == 9


def test_every_frame_keeps_its_own_camera_when_trained_on(tmp_path, flame):
    from nerfstudio.data.dataparsers.nerfstudio_dataparser import NerfstudioDataParserConfig

    from flame_nerf.dataparser import FlameNerfDataParserConfig

    truth = make_truth("rig", count=2)
    write_vhap(tmp_path / "src", truth, split=False)
    run(tmp_path, flame=flame)
    outputs = FlameNerfDataParserConfig(data=tmp_path / "dst", split="all").setup().get_dataparser_outputs("train")
    subject = load_subject(tmp_path / "dst")
    got = np.concatenate([getattr(outputs.cameras, name).numpy() for name in ("fx", "fy", "cx", "cy")], axis=1)
    assert np.abs(got - [frame.intrinsics for frame in subject.frames]).max() < 1e-3
    stock = NerfstudioDataParserConfig(data=tmp_path / "dst", eval_mode="all").setup().get_dataparser_outputs("train")
    assert (
        np.abs(np.sort(stock.cameras.fx.numpy()[:, 0]) - np.sort([f.intrinsics[0] for f in subject.frames])).max()
        < 1e-3
    )


def with_landmarks(head, points=60):
    """The head with some of its vertices named as mediapipe's landmarks."""
    generator = np.random.default_rng(2)
    front = np.flatnonzero(head.template[head.faces].mean(dim=1)[:, 2].numpy() > 0.03)
    faces = generator.choice(front, points, replace=False)
    numbers = np.sort(generator.choice(468, points, replace=False))
    weights = torch.full((points, 3), 1 / 3)
    embedding = LandmarkEmbedding(torch.from_numpy(numbers), torch.from_numpy(faces), weights, torch.ones(points))
    return dataclasses.replace(head, landmarks=embedding)


@pytest.mark.parametrize("tform", [False, True])
def test_deca_with_a_known_focal_length(tmp_path, flame, tform):
    truth = deca_truth()
    write_deca(tmp_path / "src", truth, tform=tform)
    _, subject = run(tmp_path, flame=flame, focal_px=160.0)
    assert_same(subject, truth)
    assert_stabilised(subject)


def test_deca_finds_focal_length_and_distances_from_landmarks(tmp_path):
    truth = deca_truth()
    head = with_landmarks(head_from_arrays(make_flame_like()))
    save_head(head, tmp_path / "flame.npz", half_bases=False)
    landmarks = np.zeros((len(truth.views), 478, 2))
    for t, view in enumerate(truth.views):
        camera = truth.in_camera(view)
        points = camera[truth.faces[head.landmarks.face.numpy()]].mean(axis=1)
        landmarks[t, head.landmarks.index.numpy()] = 160.0 * points[:, :2] / points[:, 2:] + np.array(SIZE) / 2
    write_deca(tmp_path / "src", truth, landmarks=landmarks)
    code = json.loads((tmp_path / "src" / "code.json").read_text())
    for entry in code.values():
        # A network's guess of where the head is: some pixels off, and too large.
        entry["cam"][0] = [1.04 * entry["cam"][0][0], entry["cam"][0][1] + 0.004, entry["cam"][0][2] - 0.003]
    (tmp_path / "src" / "code.json").write_text(json.dumps(code))
    summary, subject = run(tmp_path, flame=tmp_path / "flame.npz")
    assert "found from landmarks" in summary.facts["focal length"]
    assert_same(subject, truth)


@pytest.mark.parametrize("unit, negative", [(1.0, True), (0.31, False)])
def test_nerface_with_a_tracker_that_is_right(tmp_path, monkeypatch, unit, negative):
    """The tracker's own pixels are matched by a camera of its own; NeRFace's must bring the truth back."""
    truth = make_truth("still", count=8)
    write_nerface(tmp_path / "src", truth, unit=unit, negative=negative)
    asked = []

    def track(video, folder, config, silent):
        """Heads as a tracker with a centred camera of one focal length must have seen them."""
        asked.append(config.focal_px)
        focal, (width, height) = config.focal_px, truth.size
        (folder / "masks").mkdir(parents=True)
        frames, posed = [], []
        for row, view in enumerate(truth.views):
            if row == 3:
                continue
            camera = truth.in_camera(view)
            pixels, depth = truth.in_picture(view), camera[:, 2:]
            seen = np.concatenate([(pixels - np.array([width, height]) / 2) / focal * depth, depth], axis=1)
            c2w = np.linalg.inv(view.w2c) @ FLIP
            posed.append((seen * [1, -1, -1]) @ c2w[:3, :3].T + c2w[:3, 3])
            image, mask = folder / "images" / f"{row:05d}.png", folder / "masks" / f"{row:05d}.png"
            save(image, picture(silhouette(truth, view)))
            save(mask, silhouette(truth, view))
            frames.append(Frame(image, mask, None, c2w, len(posed) - 1, "train"))
        count = len(posed)
        write_subject(
            Subject(
                root=folder, fl_x=focal, fl_y=focal, cx=width / 2, cy=height / 2, width=width, height=height,
                frames=tuple(frames),
                track=HeadTrack(
                    faces=truth.faces.astype(np.int32), canonical_vertices=truth.neutral(0.2).astype(np.float32),
                    vertices=np.array(posed, np.float32), expression=np.zeros((count, 1), np.float32),
                    expression_names=("jawOpen",), pose=np.zeros((count, 1, 3), np.float32), joint_names=("head",),
                    identity=np.zeros(0, np.float32), region=np.zeros(len(truth.faces), np.int8),
                    region_names=("skin",),
                ),
            )
        )  # fmt: skip

    monkeypatch.setattr("data_tools.tracking.track", track, raising=False)
    summary, subject = run(tmp_path)
    seen = [view for row, view in enumerate(truth.views) if row != 3]
    assert_same(subject, truth, seen)
    assert_stabilised(subject)
    assert asked == [pytest.approx((150.0 + 143.0) / 2)]
    assert np.abs(subject.track.expression[:, :30] - truth.expr[[v.timestep for v in seen]]).max() < 1e-6
    assert subject.track.expression.shape[1] == 76 and subject.background.is_file()
    assert [frame.split for frame in subject.frames] == ["train"] * 5 + ["val", "test"]
    assert summary.left_out == (("f_0003", "the tracker found no face in it"),)
    # NeRFace's cameras are kept: against each other they are what they were.
    ours = np.linalg.inv(subject.frames[0].c2w) @ subject.frames[-1].c2w
    theirs = np.linalg.inv(opengl_c2w(seen[0])) @ opengl_c2w(seen[-1])
    assert np.abs(ours - theirs).max() < 2e-3
