"""flame-nerf-data depth: from the mesh, from a depth-estimation model, and what happens when things are missing."""

import json
import os
import shutil
import sys
from pathlib import Path

import commands
import cv2
import numpy as np
import pytest
import torch
from synthetic import DISTANCE, RADII, ellipsoid, look_at_origin, make_subject

from data_tools.depth import DepthConfig, DepthError, mesh, monocular, pipeline
from data_tools.depth.config import EstimatorUnavailable
from data_tools.depth.mesh import MeshDepth, ordering_agreement, rasterise_compiled, rasterise_pytorch3d
from data_tools.depth.pipeline import write_depth
from data_tools.ray_casting import MeshRays
from flame_nerf.subject import load_subject

SIZE = 64


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    return make_subject(tmp_path_factory.mktemp("depth") / "subject", size=SIZE, count=6).root


@pytest.fixture
def root(original, tmp_path):
    return Path(shutil.copytree(original, tmp_path / "subject"))


def maps_of(root):
    return np.stack([cv2.imread(str(f.depth_path), cv2.IMREAD_UNCHANGED) for f in load_subject(root).frames])


def ellipsoid_depth(c2w, intrinsics, size):
    """Depth along the camera's axis of the ellipsoid itself, from the quadratic equation; NaN beside it."""
    fl_x, fl_y, cx, cy = intrinsics
    x, y = np.meshgrid(np.arange(size[0]) + 0.5, np.arange(size[1]) + 0.5)
    d = np.stack([(x - cx) / fl_x, -(y - cy) / fl_y, -np.ones_like(x)], axis=-1) @ c2w[:3, :3].T / RADII
    o = c2w[:3, 3] / RADII
    a, b, c = (d * d).sum(-1), (d * o).sum(-1), (o * o).sum() - 1
    with np.errstate(invalid="ignore"):
        return (-b - np.sqrt(b * b - a * c)) / a


def by_rays(vertices, faces, c2w, intrinsics, size) -> MeshDepth:
    """What a ray through every pixel's middle meets."""
    fl_x, fl_y, cx, cy = intrinsics
    x, y = np.meshgrid(np.arange(size[0]) + 0.5, np.arange(size[1]) + 0.5)
    # One metre along the camera's axis: the distance that is found is depth.
    directions = np.stack([(x - cx) / fl_x, -(y - cy) / fl_y, -np.ones_like(x)], axis=-1) @ c2w[:3, :3].T
    hit = MeshRays(vertices, faces).cast(c2w[:3, 3], directions)
    return MeshDepth(np.where(hit.face >= 0, hit.distance.astype(np.float64), np.nan), hit.face)


def assert_alike(ours: MeshDepth, theirs: MeshDepth, depth: float = 1e-5):
    """But for pixels on a triangle's edge, where rounding decides."""
    both = (ours.face >= 0) & (theirs.face >= 0)
    assert ((ours.face >= 0) != (theirs.face >= 0)).mean() < 1e-3
    assert (ours.face != theirs.face)[both].mean() < 2e-3
    same = both & (ours.face == theirs.face)
    np.testing.assert_allclose(ours.depth[same], theirs.depth[same], rtol=depth)
    assert np.isnan(ours.depth[ours.face < 0]).all()


@pytest.mark.parametrize("distance", [0.4, 0.02])
def test_the_kernel_sees_what_rays_see(distance):
    """Of an open mesh from outside, where its far wall shows through the gap, and of one all around the camera, part of
    which is behind it."""
    vertices, faces = ellipsoid()
    faces = faces[np.random.default_rng(0).random(len(faces)) < 0.8]
    c2w = look_at_origin(0.7, -0.3)
    c2w[:3, 3] *= distance / np.linalg.norm(c2w[:3, 3])
    arguments = vertices.astype(np.float32), faces, c2w, (70.0, 80.0, 33.0, 20.0), (64, 48)
    seen = rasterise_compiled(*arguments)
    assert 0.1 < (seen.face >= 0).mean() < 0.95
    assert_alike(seen, by_rays(*arguments))


@pytest.mark.parametrize("seed", range(3))
def test_the_kernel_sees_what_rays_see_of_any_triangles(seed):
    """Large and small, through one another, through the camera's plane, without area, and out of the picture."""
    random = np.random.default_rng(seed)
    middle = random.normal(size=(60, 1, 3)) * (0.5, 0.5, 0.8) - (0, 0, 0.6)
    corners = middle + random.normal(size=(60, 3, 3)) * random.uniform(0.02, 0.5, (60, 1, 1))
    corners[:3, 2] = corners[:3, 1]
    arguments = corners.reshape(-1, 3), np.arange(180).reshape(60, 3), np.eye(4), (50.0, 45.0, 40.0, 22.0), (70, 50)
    seen = rasterise_compiled(*arguments)
    assert (corners[..., 2] > 0).any(axis=1).sum() > 5 and (seen.face >= 0).mean() > 0.2
    assert not np.isin(seen.face, [0, 1, 2]).any()
    assert_alike(seen, by_rays(*arguments), 1e-4)


def test_nothing_is_seen_of_corners_that_are_no_numbers_or_all_behind():
    vertices = np.array([[0, 0, -1], [1, 0, -1], [0, 1, -1.0]])
    for wrong in (np.nan, np.inf):
        spoilt = np.where(np.eye(3, dtype=bool), wrong, vertices)
        for one in (spoilt, -vertices):
            seen = rasterise_compiled(one, np.array([[0, 1, 2]]), np.eye(4), (9.0, 9.0, 4.0, 4.0), (8, 8))
            assert (seen.face == -1).all()


@pytest.mark.parametrize("size", [(80, 80), (110, 70), (60, 90)])
def test_mesh_depth_is_the_ellipsoids(size):
    vertices, faces = ellipsoid(rings=96, sectors=128)
    c2w = look_at_origin(0.7, -0.3)
    intrinsics = (130.0, 120.0, size[0] / 2 + 3, size[1] / 2 - 5)
    seen = rasterise_compiled(vertices, faces, c2w, intrinsics, size)
    want = ellipsoid_depth(c2w, intrinsics, size)
    assert seen.depth.shape == want.shape == size[::-1]
    assert ((seen.face >= 0) == np.isfinite(seen.depth)).all()
    # The facetted silhouette lies a little inside the smooth one.
    assert (np.isfinite(seen.depth) != np.isfinite(want)).mean() < 0.01
    assert np.nanmax(np.abs(seen.depth - want)) < 0.004 and np.nanmedian(np.abs(seen.depth - want)) < 1e-4
    assert DISTANCE - 0.11 < np.nanmin(seen.depth) < DISTANCE - 0.07


@pytest.mark.parametrize("size", [(48, 48), (60, 40)])
def test_pytorch3d_sees_what_the_kernel_sees(size):
    pytest.importorskip("pytorch3d")
    vertices, faces = ellipsoid()
    arguments = (vertices, faces, look_at_origin(0.5, 0.2), (90.0, 95.0, size[0] / 2 - 4, size[1] / 2 + 2), size)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    ours, theirs = rasterise_compiled(*arguments), rasterise_pytorch3d(*arguments, device)
    both = np.isfinite(ours.depth) & np.isfinite(theirs.depth)
    assert (np.isfinite(ours.depth) != np.isfinite(theirs.depth)).mean() < 0.005
    assert np.abs(ours.depth - theirs.depth)[both].max() < 1e-4 and (ours.face == theirs.face)[both].mean() > 0.98


def test_agreement_counts_pairs():
    random = np.random.default_rng(0)
    depth = random.normal(size=(30, 30))
    everywhere = np.ones_like(depth, dtype=bool)
    assert ordering_agreement(-depth, depth, everywhere, random) == 1.0
    assert ordering_agreement(np.exp(depth), depth, everywhere, random) == 0.0
    assert 0.4 < ordering_agreement(random.normal(size=(30, 30)), depth, everywhere, random) < 0.6
    assert np.isnan(ordering_agreement(depth, depth, ~everywhere, random))
    assert np.isnan(ordering_agreement(depth, np.zeros_like(depth), everywhere, random))


# --------------------------------------------------------------------------------------------- mesh as the prior


def test_mesh_maps_order_the_face_and_leave_out_hair_cloth_and_background(root):
    summary = write_depth(root, DepthConfig(prior="mesh"))
    assert (summary.prior, summary.frames, summary.made, summary.agreement) == ("mesh", 6, 6, None)
    subject = load_subject(root)
    record = subject.extra["depth"]
    assert record["prior"] == "mesh" and record["larger"] == "nearer"
    left_out = subject.track.region_faces("scalp", "neck")
    for frame, values in zip(subject.frames, maps_of(root), strict=True):
        assert values.dtype == np.uint16 and frame.depth_path.parent == root / "depths"
        seen = by_rays(
            subject.track.vertices[frame.timestep], subject.track.faces, frame.c2w, subject.intrinsics_of(frame),
            (SIZE, SIZE),
        )  # fmt: skip
        face = np.isfinite(seen.depth) & ~left_out[seen.face]
        face &= cv2.imread(str(frame.mask_path), cv2.IMREAD_GRAYSCALE) > 127
        assert ((values > 0) == face).all() and 0.1 < face.mean() < 0.5
        assert values[face].min() == 1 and values[face].max() == 65535
        assert values[face][seen.depth[face].argmin()] == 65535
        assert np.corrcoef(values[face], seen.depth[face])[0, 1] < -0.999


def test_other_tools_fields_survive(root):
    path = root / "transforms.json"
    meta = json.loads(path.read_text())
    meta["frames"][2]["sharpness"] = 12.5
    meta["aabb_scale"] = 4
    path.write_text(json.dumps(meta))
    write_depth(root, DepthConfig(prior="mesh"))
    after = json.loads(path.read_text())
    assert after["frames"][2]["sharpness"] == 12.5 and after["aabb_scale"] == 4
    assert [f["depth_file_path"] for f in after["frames"]] == [f"depths/{i:05d}.png" for i in range(6)]
    del after["flame_nerf"]["depth"]
    for frame in after["frames"]:
        del frame["depth_file_path"]
    assert after == meta


def test_a_second_run_does_nothing_and_other_options_start_over(root, monkeypatch):
    write_depth(root, DepthConfig(prior="mesh"))
    assert write_depth(root, DepthConfig(prior="mesh")).made == 0
    first = maps_of(root)
    assert write_depth(root, DepthConfig(prior="mesh", without=())).made == 6
    assert ((maps_of(root) > 0) & (first == 0)).any()
    assert write_depth(root, DepthConfig(prior="mesh", without=(), overwrite=True)).made == 6


def test_an_interrupted_run_goes_on_and_leaves_the_subject_whole(root, monkeypatch):
    save, written = pipeline.save_picture, []

    def failing(path, values):
        if len(written) == 3:
            raise OSError(28, "No space left on device")
        save(path, values)
        written.append(path.name)

    monkeypatch.setattr(pipeline, "save_picture", failing)
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    with pytest.raises(DepthError, match="the disk is full.*goes on where it stopped"):
        write_depth(root, DepthConfig(prior="mesh"))
    assert "depth" not in load_subject(root).extra and load_subject(root).frames[0].depth_path is None
    monkeypatch.setattr(pipeline, "save_picture", save)
    assert write_depth(root, DepthConfig(prior="mesh")).made == 3
    assert (maps_of(root).max(axis=(1, 2)) == 65535).all()
    assert not (root / "depths.part").exists() and not (root / "depths/key").exists()


def test_frames_of_several_cameras_get_different_names(root):
    path = root / "transforms.json"
    meta = json.loads(path.read_text())
    (root / "other").mkdir()
    shutil.copy(root / "images/00001.png", root / "other/00000.png")
    meta["frames"][1]["file_path"] = "other/00000.png"
    path.write_text(json.dumps(meta))
    write_depth(root, DepthConfig(prior="mesh"))
    assert len({frame.depth_path for frame in load_subject(root).frames}) == 6


# ---------------------------------------------------------------------------------------- an estimator as the prior


class Fake:
    """An estimator that knows the ellipsoid, in metres: larger is farther, as some real models have it."""

    name = "fake"

    def __init__(self, root, noise=0.0):
        self.subject, self.noise = load_subject(root), noise
        self.pictures = [cv2.imread(str(f.file_path))[..., ::-1] for f in self.subject.frames]

    def estimate(self, pictures):
        maps = []
        for picture in pictures:
            index = next(i for i, known in enumerate(self.pictures) if np.array_equal(known, picture))
            frame = self.subject.frames[index]
            depth = ellipsoid_depth(frame.c2w, self.subject.intrinsics_of(frame), (SIZE, SIZE))
            random = np.random.default_rng(index)
            # The opened chin reaches below the rest head's ellipsoid; the wall is behind both.
            matte = cv2.imread(str(frame.mask_path), cv2.IMREAD_GRAYSCALE) > 0
            depth = np.where(np.isfinite(depth), depth, np.where(matte, DISTANCE - 0.02, 3.0))
            maps.append(depth + self.noise * random.normal(size=depth.shape))
        return maps


def test_the_face_tells_which_way_an_estimators_depth_runs(root, monkeypatch):
    monkeypatch.setattr(pipeline, "MonocularEstimator", lambda prior: Fake(root))
    summary = write_depth(root, DepthConfig(prior="owner/metric", batch=4))
    assert summary.prior == "fake" and summary.made == 6 and summary.agreement > 0.95 and not summary.warnings
    assert load_subject(root).extra["depth"]["agreement"] == pytest.approx(summary.agreement)
    for frame, values in zip(load_subject(root).frames, maps_of(root), strict=True):
        depth = ellipsoid_depth(frame.c2w, load_subject(root).intrinsics_of(frame), (SIZE, SIZE))
        head = np.isfinite(depth) & (cv2.imread(str(frame.mask_path), cv2.IMREAD_GRAYSCALE) > 127)
        assert np.corrcoef(values[head], depth[head])[0, 1] < -0.97
        # The head, not the wall three metres behind it, gets the 16 bits.
        assert np.ptp(values[head].astype(int)) > 40000 and (values[:5] == 1).all()


def test_an_estimator_that_contradicts_the_face_is_told(root, monkeypatch):
    monkeypatch.setattr(pipeline, "MonocularEstimator", lambda prior: Fake(root, noise=0.3))
    summary = write_depth(root, DepthConfig(prior="owner/blind"))
    assert summary.agreement < 0.65 and "--prior mesh" in summary.warnings[0]


def test_without_network_the_mesh_stands_in_or_the_run_stops(root, monkeypatch, capsys):
    def unavailable(prior):
        raise EstimatorUnavailable(f"{prior} is not in the local cache, and https://hub cannot be reached")

    monkeypatch.setattr(pipeline, "MonocularEstimator", unavailable)
    with pytest.raises(DepthError, match="cannot be reached.*--prior mesh"):
        write_depth(root, DepthConfig(fallback="none"))
    assert write_depth(root, DepthConfig()).prior == "mesh"
    said = capsys.readouterr().err
    assert said.count("cannot be reached") == 1 and "tracked mesh" in said
    assert load_subject(root).extra["depth"]["prior"] == "mesh"


def test_missing_package_and_folder(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(EstimatorUnavailable, match="pip install"):
        monocular.MonocularEstimator("owner/name")
    for wrong in (str(tmp_path / "nothing"), "./nothing", "nothing", "a/b/c"):
        with pytest.raises(DepthError, match="no such folder"):
            monocular.MonocularEstimator(wrong)


@pytest.fixture(scope="module")
def tiny_depth_anything(tmp_path_factory):
    """A Depth Anything of a few thousand random weights, saved as the real ones are."""
    transformers = pytest.importorskip("transformers")
    folder = tmp_path_factory.mktemp("models") / "tiny-depth"
    torch.manual_seed(0)
    backbone = transformers.Dinov2Config(
        hidden_size=16, num_hidden_layers=4, num_attention_heads=2, image_size=56, patch_size=14,
        out_features=["stage1", "stage2", "stage3", "stage4"], reshape_hidden_states=False,
    )  # fmt: skip
    config = transformers.DepthAnythingConfig(
        backbone_config=backbone, reassemble_hidden_size=16, neck_hidden_sizes=[8, 8, 8, 8], fusion_hidden_size=8,
        head_hidden_size=4, patch_size=14,
    )  # fmt: skip
    transformers.DepthAnythingForDepthEstimation(config).save_pretrained(folder)
    transformers.DPTImageProcessor(size={"height": 56, "width": 56}, ensure_multiple_of=14).save_pretrained(folder)
    return folder


def test_a_real_estimator_from_a_folder(root, tiny_depth_anything):
    estimator = monocular.MonocularEstimator(str(tiny_depth_anything))
    pictures = [cv2.imread(str(f.file_path))[..., ::-1].copy() for f in load_subject(root).frames[:3]]
    together = estimator.estimate(pictures)
    alone = estimator.estimate(pictures[1:2])
    assert [values.shape for values in together] == [(SIZE, SIZE)] * 3
    assert np.allclose(together[1], alone[0], atol=1e-5) and np.ptp(together[0]) > 0
    summary = write_depth(root, DepthConfig(prior=str(tiny_depth_anything), batch=4))
    assert summary.prior == "tiny-depth" and summary.made == 6 and summary.known == 1.0
    assert (maps_of(root) > 0).all()


def test_a_folder_without_a_depth_model(tiny_depth_anything, tmp_path):
    with pytest.raises(DepthError, match="no whole model|no depth-estimation model"):
        monocular.MonocularEstimator(str(tmp_path))
    import transformers

    other = transformers.BertConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, vocab_size=50
    )
    transformers.BertModel(other).save_pretrained(tmp_path / "bert")
    with pytest.raises(DepthError, match="bert"):
        monocular.MonocularEstimator(str(tmp_path / "bert"))


@pytest.mark.slow
def test_the_command(root):
    def run(*arguments):
        environment = os.environ | commands.QUIET | {"HF_HUB_OFFLINE": "1"}
        return commands.run("flame-nerf-data", "depth", *arguments, env=environment)

    done = run(str(root))
    assert done.returncode == 0, done.stderr
    assert "6 made" in done.stdout and "from mesh" in done.stdout
    assert done.stderr.count("Warning") == 1 and "tracked mesh" in done.stderr
    failed = run(str(root / "nothing"))
    assert failed.returncode == 1 and "Traceback" not in failed.stderr and "does not exist" in failed.stderr


def test_rasteriser_is_chosen_without_cuda(monkeypatch):
    vertices, faces = ellipsoid()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(mesh, "rasterise_pytorch3d", lambda *arguments: pytest.fail("no CUDA here"))
    assert np.isfinite(
        mesh.rasterise(vertices, faces, look_at_origin(0, 0), (60.0, 60.0, 20, 20), (40, 40)).depth
    ).any()
