"""Cameras, splits and stabilising: what a subject becomes inside Nerfstudio."""

import json

import numpy as np
import pytest
import torch
from nerfstudio.data.dataparsers.nerfstudio_dataparser import NerfstudioDataParserConfig
from synthetic import make_subject

from flame_nerf.data.dataset import FlameNerfDataset
from flame_nerf.dataparser import FlameNerfDataParserConfig, split_timesteps
from flame_nerf.subject import SubjectError, load_subject
from flame_nerf.subject.rigid import rigid_fit


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return make_subject(tmp_path_factory.mktemp("still") / "subject", size=48, count=10).root


@pytest.fixture(scope="module")
def moving_root(tmp_path_factory):
    return make_subject(tmp_path_factory.mktemp("moving") / "subject", size=48, count=10, moving_head=True).root


def parse(root, part="train", **config):
    return FlameNerfDataParserConfig(data=root, **config).setup().get_dataparser_outputs(part)


def rays_hit_vertices(outputs, vertex):
    """Pixels where Nerfstudio's own rays of each camera pass a vertex of its frame: a solve, not a projection."""
    cameras, track = outputs.cameras, outputs.metadata["subject"].track
    found = []
    for i in range(len(outputs.image_filenames)):
        row = int(cameras.metadata["frame_idx"][i])
        target = torch.from_numpy(track.vertices[row, vertex])
        pixel = torch.tensor([float(cameras.height[i]) / 2, float(cameras.width[i]) / 2])
        for _ in range(4):
            # Newton steps on the ray's miss, in the camera's image plane.
            def miss(p, i=i, target=target):
                ray = cameras.generate_rays(camera_indices=i, coords=p[None])
                along = ((target - ray.origins) * ray.directions).sum()
                return (ray.origins + along * ray.directions - target)[0]

            jacobian = torch.stack([miss(pixel + torch.eye(2)[k]) - miss(pixel) for k in range(2)], dim=1)
            pixel = pixel - torch.linalg.lstsq(jacobian, miss(pixel)[:, None]).solution[:, 0]
        found.append(pixel.numpy()[::-1])
    return np.array(found)


@pytest.mark.parametrize("downscale", [None, 2.0])
@pytest.mark.parametrize("which", ["root", "moving_root"])
def test_cameras_see_vertices_where_the_pictures_show_them(which, downscale, request):
    root = request.getfixturevalue(which)
    stored = load_subject(root)
    outputs = parse(root, downscale_factor=downscale)
    vertex = 200
    got = rays_hit_vertices(outputs, vertex)
    factor = downscale or 1.0
    by_timestep = {frame.timestep: frame for frame in stored.frames}
    for i, row in enumerate(outputs.cameras.metadata["frame_idx"][:, 0].tolist()):
        frame = by_timestep[row]
        x, y, z = np.linalg.inv(frame.c2w)[:3] @ np.append(stored.track.vertices[row, vertex], 1.0)
        want = np.array([stored.cx + stored.fl_x * x / -z, stored.cy - stored.fl_y * y / -z]) / factor
        assert np.abs(got[i] - want).max() < 0.01


def test_moving_head_is_stabilised(root, moving_root):
    still, moving = parse(root), parse(moving_root)
    # The synthetic ellipsoid moves nothing above its mouth: both films are the same once the head stands still.
    skull = still.metadata["subject"].track.canonical_vertices[:, 1] > 0
    a, b = (o.metadata["subject"].track.vertices[:, skull] for o in (still, moving))
    assert np.abs(a - b).max() < 1e-5
    assert torch.allclose(still.cameras.camera_to_worlds, moving.cameras.camera_to_worlds, atol=1e-5)
    kept = parse(moving_root, stabilize="none").metadata["subject"].track.vertices
    assert np.abs(kept[:, skull] - a).max() > 0.01


def test_stabilised_track_is_left_alone(root):
    assert np.array_equal(parse(root).metadata["subject"].track.vertices, load_subject(root).track.vertices)


def test_rigid_fit_recovers_a_motion():
    points = np.random.default_rng(0).normal(size=(40, 3))
    axis, angle = np.array([0.6, 0.0, 0.8]), 2.5
    k = np.array([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
    rotation = np.eye(3) + np.sin(angle) * k + (1 - np.cos(angle)) * k @ k
    moved = (points - [0.1, 0.2, -0.3]) @ rotation
    fitted = rigid_fit(moved[None], points)[0]
    assert np.allclose(fitted[:3, :3], rotation) and np.allclose(fitted[:3, 3], [0.1, 0.2, -0.3])
    # A mirrored set must still give a rotation.
    assert np.linalg.det(rigid_fit((points * [-1, 1, 1])[None], points)[0, :3, :3]) == pytest.approx(1.0)


@pytest.mark.parametrize("mode", ["tail", "spread", "stored"])
def test_splits_are_disjoint(root, mode):
    rows = {
        part: set(
            parse(root, part, split=mode, spread_interval=5, spread_guard=1)
            .cameras.metadata["frame_idx"][:, 0]
            .tolist()
        )
        for part in ("train", "val", "test")
    }
    assert rows["train"] and rows["val"] and rows["test"]
    assert not rows["train"] & rows["test"] and not rows["train"] & rows["val"]
    if mode == "tail":
        assert rows["test"] == {9}
    if mode == "stored":
        assert rows["test"] == {2, 7}


@pytest.mark.parametrize("mode", ["stored", "tail", "spread", "all"])
@pytest.mark.parametrize("held_out", [True, False])
def test_frames_whose_track_is_doubted_are_in_no_part(tmp_path, mode, held_out):
    root = make_subject(tmp_path / "subject", size=16, count=12).root
    document = json.loads((root / "transforms.json").read_text())
    doubted = {2, 6, 11}
    for row, frame in enumerate(document["frames"]):
        frame["split"] = "unused" if row in doubted else "test" if held_out and row >= 9 else "train"
    (root / "transforms.json").write_text(json.dumps(document))
    names = {document["frames"][row]["file_path"] for row in doubted}
    options = {"split": mode, "spread_interval": 6, "spread_guard": 1, "tail_fraction": 0.3}
    for part in ("train", "val", "test"):
        shown = {str(path.relative_to(root)) for path in parse(root, part, **options).image_filenames}
        assert shown and not shown & names
    assert len(load_subject(root).frames) == 12


@pytest.mark.parametrize("mode", ["stored", "tail"])
def test_of_a_video_whose_end_is_doubted_the_end_of_the_rest_is_held_out(tmp_path, mode):
    root = make_subject(tmp_path / "subject", size=16, count=12).root
    document = json.loads((root / "transforms.json").read_text())
    for row, frame in enumerate(document["frames"]):
        frame["split"] = "unused" if row >= 8 else "train"
    (root / "transforms.json").write_text(json.dumps(document))
    held_out, train = (parse(root, part, split=mode, tail_fraction=0.25).image_filenames for part in ("val", "train"))
    frames = [root / frame["file_path"] for frame in document["frames"]]
    assert list(held_out) == frames[6:8] and list(train) == frames[:6]
    for frame in document["frames"]:
        frame["split"] = "unused"
    (root / "transforms.json").write_text(json.dumps(document))
    with pytest.raises(SubjectError, match='every frame in transforms.json has the split "unused"'):
        parse(root, "train", split=mode)


def test_spread_keeps_its_distance():
    timesteps = np.repeat(np.arange(400), 2)  # two cameras a moment
    train, held = split_timesteps(timesteps, FlameNerfDataParserConfig(split="spread"))
    assert sorted(set(timesteps[held])) == list(range(20, 400, 40))
    apart = np.abs(timesteps[train][:, None] - timesteps[held][None]).min(axis=1)
    assert apart.min() == 3 and train.sum() == 2 * (400 - 10 * 5)


def test_too_short_for_a_split(tmp_path):
    root = make_subject(tmp_path / "subject", size=16, count=2).root
    with pytest.raises(SubjectError, match="spread split leaves no frame for train.*split all"):
        parse(root, split="spread")
    assert len(parse(root, split="all").image_filenames) == 2
    assert len(parse(root, split="tail").image_filenames) == 1


def test_pictures_are_composited_and_shrunk_by_area(root):
    full = FlameNerfDataset(parse(root, background_color="black"))[0]
    half = FlameNerfDataset(parse(root, background_color="black", downscale_factor=2.0))[0]
    assert full["image"].shape == (48, 48, 3) and half["image"].shape == (24, 24, 3)
    assert full["image"][full["mask"][..., 0] == 0].abs().max() == 0
    area = full["mask"].reshape(24, 2, 24, 2).mean(dim=(1, 3))
    assert (half["mask"][..., 0] - area).abs().max() < 1.01 / 255
    inside = half["mask"][..., 0] == 1
    mean = full["image"].reshape(24, 2, 24, 2, 3).mean(dim=(1, 3))
    assert (half["image"] - mean)[inside].abs().max() < 1.01 / 255


def test_feature_boxes_hold_the_features(root):
    dataset = FlameNerfDataset(parse(root))
    item = dataset[0]
    x0, y0, x1, y1 = item["boxes"][0].tolist()
    red = (item["image"][..., 0] - item["image"][..., 1:].amax(dim=-1)) > 0.4
    rows, columns = torch.nonzero(red, as_tuple=True)
    assert len(rows) > 4
    assert x0 <= columns.min() and columns.max() < x1 and y0 <= rows.min() and rows.max() < y1
    assert y1 <= item["chin_row"] <= 48
    right, left = item["boxes"][1], item["boxes"][2]
    assert right[2] < left[0] + 4, "the subject's right eye is on the left of the picture"


@pytest.mark.parametrize("downscale", [None, 2.0])
@pytest.mark.parametrize("stabilize", ["head", "none"])
def test_pixels_have_a_width_at_the_head(moving_root, stabilize, downscale):
    outputs = parse(moving_root, stabilize=stabilize, downscale_factor=downscale)
    # Nerfstudio's own rays of neighbouring pixels, where they are as far away as the head's middle.
    rows = outputs.cameras.metadata["frame_idx"][:, 0]
    middle = torch.from_numpy(outputs.metadata["subject"].track.vertices[rows]).mean(dim=1)
    spread = []
    for index, centre in enumerate(middle):
        left, right = outputs.cameras.generate_rays(
            camera_indices=index, coords=torch.tensor([[12.0, 11.5], [12.0, 12.5]])
        )
        distance = (centre - left.origins).norm()
        spread.append(float((left.directions - right.directions).norm() * distance))
    assert outputs.metadata["pixel_size"] == pytest.approx(np.median(spread), rel=0.05)


def test_subject_is_shared_not_copied(root):
    outputs = parse(root)
    assert FlameNerfDataset(outputs).metadata["subject"] is outputs.metadata["subject"]


def test_stock_parser_reads_a_subject(root):
    """A stock method sees a static capture: pictures, masks, cameras and the same held-out frames."""
    config = NerfstudioDataParserConfig(
        data=root, orientation_method="none", center_method="none", auto_scale_poses=False, downscale_factor=1
    )
    stock, ours = config.setup().get_dataparser_outputs("train"), parse(root)
    assert stock.image_filenames == ours.image_filenames and stock.mask_filenames == ours.mask_filenames
    assert torch.allclose(stock.cameras.camera_to_worlds, ours.cameras.camera_to_worlds)
    assert torch.allclose(stock.cameras.fx, ours.cameras.fx) and torch.equal(stock.cameras.width, ours.cameras.width)
    held = config.setup().get_dataparser_outputs("test").image_filenames
    assert held == parse(root, "test").image_filenames
    assert all(path.exists() for path in stock.image_filenames + stock.mask_filenames)
