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
from depth_oracles import by_rays, ellipsoid_depth
from synthetic import DISTANCE, make_subject

from data_tools.depth import DepthConfig, DepthError, monocular, pipeline
from data_tools.depth.config import EstimatorUnavailable
from data_tools.depth.mesh import ordering_agreement
from data_tools.depth.pipeline import write_depth
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


def test_maps_of_another_kind_never_stand_under_a_record_that_is_not_theirs(root, monkeypatch):
    write_depth(root, DepthConfig(prior="mesh"), silent=True)

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(pipeline, "take_place", killed)
        write_depth(root, DepthConfig(prior="mesh", without=("lips",)), silent=True)
    assert "depth" not in load_subject(root).extra
    assert all(frame.depth_path.is_file() for frame in load_subject(root).frames)


def test_a_subject_that_was_moved_keeps_its_maps(root, tmp_path):
    write_depth(root, DepthConfig(prior="mesh"), silent=True)
    moved = shutil.copytree(root, tmp_path / "moved", copy_function=shutil.copy2)
    assert write_depth(moved, DepthConfig(prior="mesh"), silent=True).made == 0


def test_a_picture_that_goes_after_the_check_is_told_in_one_line(root, monkeypatch):
    subject = load_subject(root)
    monkeypatch.setattr(pipeline, "load_subject", lambda _: subject)
    subject.frames[0].file_path.unlink()
    with pytest.raises(DepthError, match=r"0000\d?\.png: No such file"):
        write_depth(root, DepthConfig(prior="mesh"), silent=True)


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
