"""The whole path on the synthetic head: train, resume, evaluate, render; the way a user's commands go."""

import json
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import yaml
from synthetic import look_at_origin
from trained_run import RUN, STEPS, trained_folder  # noqa: F401

from flame_nerf.avatar.loading import load_pipeline

sys.path.append(str(Path(__file__).resolve().parents[1] / "benchmarks"))


@pytest.fixture(scope="module")
def run(trained_folder):  # noqa: F811
    return trained_folder


@pytest.fixture(scope="module")
def config(run):
    return run / RUN / "config.yml"


@pytest.fixture
def elsewhere(run, tmp_path, monkeypatch):
    """A working folder that training was not started from; only the outputs are reachable by their relative path."""
    (tmp_path / "outputs").symlink_to(run / "outputs")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.slow
def test_evaluation_beats_the_mean_picture(run, config, elsewhere):
    from nerfstudio.scripts.eval import ComputePSNR

    ComputePSNR(load_config=config, output_path=Path("eval.json")).main()
    results = json.loads(Path("eval.json").read_text())["results"]
    meta = json.loads((run / "subject/transforms.json").read_text())
    held = [f for f in meta["frames"] if f["split"] == "test"]
    seen = [f for f in meta["frames"] if f["split"] == "train"]

    def white(entry):
        rgb = cv2.imread(str(run / "subject" / entry["file_path"])) / 255.0
        alpha = cv2.imread(str(run / "subject" / entry["mask_path"]), cv2.IMREAD_GRAYSCALE)[..., None] / 255.0
        return rgb * alpha + 1 - alpha, alpha[..., 0] > 0.5

    mean = np.mean([white(f)[0] for f in seen], axis=0)
    baseline = [-10 * np.log10(np.mean((white(f)[0] - mean)[white(f)[1]] ** 2)) for f in held]
    assert results["psnr_matte"] > np.mean(baseline) + 4
    assert results["psnr"] > 20 and results["ssim"] > 0.8


@pytest.mark.slow
def test_a_head_that_was_hardly_trained_is_closed_all_around_and_with_any_mouth(config):
    import see_through

    model = load_pipeline(config).model
    seen = [see_through.transparency(model, yaw, face, 40) for _, yaw, face in see_through.views(model)]
    assert len(seen) > 12 and all(len(through) > 100 and through.mean() <= 0.03 for through in seen)
    # Which is not the training's doing.
    model.renderer.backing.surface.zero_()
    assert see_through.transparency(model, 180.0, model.motion.neutral(), 40).mean() > 0.03


@pytest.mark.slow
def test_loss_terms_and_throughput_are_logged(config):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(config.parent))
    events.Reload()
    tags = events.Tags()["scalars"]
    for name in ("Train Loss Dict/color_loss", "Train Loss Dict/mask_loss"):
        assert name in tags
    rate = events.Scalars("Train Metrics Dict/field_samples_per_sec")[-1].value
    assert rate > 1000
    assert "Eval Images Metrics/psnr_mouth" in tags


@pytest.mark.slow
def test_poses_were_calibrated_a_little(config):
    checkpoint = torch.load(next(config.parent.glob("nerfstudio_models/*.ckpt")), weights_only=True)
    calibration = checkpoint["pipeline"]["_model.refinement.pose.calibration"]
    assert 0 < calibration.abs().max() < 0.01


@pytest.mark.slow
def test_resume_continues(run, config, elsewhere):
    saved = yaml.load(config.read_text(), Loader=yaml.Loader)
    assert saved.pipeline.datamanager.data == run / "subject"
    saved.load_dir = config.parent / "nerfstudio_models"
    saved.max_num_iterations = 3
    saved.output_dir, saved.timestamp = elsewhere / "resumed", "r"
    trainer = saved.setup()
    trainer.setup()
    before = float(trainer.pipeline.model.renderer.field.grid.table.detach().abs().sum())
    trainer.train()
    assert trainer.step == STEPS + 2
    assert (saved.get_checkpoint_dir() / f"step-{STEPS + 2:09d}.ckpt").exists()
    lr = trainer.optimizers.optimizers["encoding"].param_groups[0]["lr"]
    assert lr < saved.optimizers["encoding"]["optimizer"].lr / 5, "the schedule goes on where it was"
    assert 0.5 < float(trainer.pipeline.model.renderer.field.grid.table.detach().abs().sum()) / before < 2


def film_frames(path):
    film = cv2.VideoCapture(str(path))
    frames = []
    while True:
        ok, picture = film.read()
        if not ok:
            return frames
        frames.append(picture)


@pytest.mark.slow
def test_camera_path_carries_the_expression(config, elsewhere):
    from nerfstudio.scripts.render import RenderCameraPath

    # One still camera; the track's mouth is shut at its start and open a sixth of it later (three swings in all).
    key = {"camera_to_world": look_at_origin(0, 0).flatten().tolist(), "fov": 26, "aspect": 1}
    path = {
        "camera_type": "perspective", "render_height": 48, "render_width": 48, "seconds": 1,
        "camera_path": [{**key, "render_time": t} for t in (0.0, 2.5 / 14, 1.7)],
    }  # fmt: skip
    Path("path.json").write_text(json.dumps(path))
    RenderCameraPath(
        load_config=config, camera_path_filename=Path("path.json"), output_path=Path("film"), output_format="images",
        image_format="png",
    ).main()  # fmt: skip
    shut, opened, _ = (cv2.imread(f"film/{i:05d}.png").astype(float) for i in range(3))
    mouth = (slice(30, 37), slice(20, 28))
    assert opened[mouth].mean() < shut[mouth].mean() - 15, "the open mouth is dark"
    change = np.abs(opened - shut)
    assert change[:20].mean() < 0.5 * change[mouth].mean(), "the forehead changes much less than the mouth"


@pytest.mark.slow
def test_interpolate_and_dataset(config, elsewhere):
    from nerfstudio.scripts.render import DatasetRender, RenderInterpolated

    RenderInterpolated(load_config=config, output_path=Path("between.mp4"), interpolation_steps=2).main()
    frames = film_frames("between.mp4")
    assert len(frames) >= 4 and frames[0].shape == (48, 48, 3)
    assert frames[0][16:32, 16:32].mean() < 230, "there is a head"

    DatasetRender(load_config=config, output_path=Path("set"), split="test").main()
    shown, truth = (sorted(Path("set/test", kind).rglob("*.jpg")) for kind in ("rgb", "gt-rgb"))
    assert len(shown) == len(truth) == 3
    pair = [cv2.imread(str(p)).astype(float) for p in (shown[0], truth[0])]
    assert np.abs(pair[0] - pair[1]).mean() < 15


@pytest.mark.slow
def test_moment_order(config, elsewhere):
    """The camera's own frame, then override, then a moment given with it, its time, its number, then neutral."""
    from nerfstudio.utils.eval_utils import eval_setup

    _, pipeline, _, _ = eval_setup(config, test_mode="test")
    model, camera = pipeline.model, pipeline.datamanager.eval_dataset.cameras[0:1]
    # A tracked frame's own camera is calibrated and a free one is not; here the moment alone is compared.
    model.refinement.pose.calibration.data.zero_()
    row = int(camera.metadata["frame_idx"])
    other = model.motion.at_timestep((row + 2) % 15)

    def differs(a, b):
        return float((a["rgb"] - b["rgb"]).abs().max()) > 1e-3

    def seen(metadata, times=camera.times, override=None):
        bare = camera[:]
        bare.metadata, bare.times = metadata, times
        model.override = override
        try:
            return model.get_outputs_for_camera(bare)
        finally:
            model.override = None

    own, shown = seen({"frame_idx": torch.tensor([[row]])}), seen({}, override=other)
    assert differs(own, shown)
    assert not differs(own, seen({"frame_idx": torch.tensor([[row]])}, override=other))
    assert not differs(own, seen(None))
    assert not differs(shown, seen({"expr": other}))
    assert not differs(own, seen({"expr": model.motion.at_timestep(row)}, times=None))
    train_row = int(pipeline.datamanager.train_dataset.cameras.metadata["frame_idx"][3])
    as_frame = seen({"frame_idx": torch.tensor([[train_row]])})
    assert not differs(as_frame, seen({"cam_idx": 3}, times=None))
    assert not differs(own, seen({"cam_idx": 3})), "the viewer gives every camera a cam_idx; its time says more"
    assert not differs(seen(None, times=None), seen(None, override=model.motion.neutral()))
    rgba = model.get_rgba_image(own)
    assert torch.allclose(rgba[..., :3] * rgba[..., 3:] + 1 - rgba[..., 3:], own["rgb"].clamp(0, 1), atol=2e-2)


@pytest.mark.slow
def test_broken_subject_ends_training_with_its_message(tmp_path, capsys):
    from flame_nerf import methods

    (tmp_path / "transforms.json").write_text("{}")
    config = methods.with_steps(methods.flame_nerf.config, 1)
    config.pipeline.datamanager.data = tmp_path
    config.output_dir = tmp_path
    with pytest.raises(SystemExit, match="plain Nerfstudio capture.*flame-nerf-data track"):
        config.setup().setup()
    assert "training on the CPU" in capsys.readouterr().out or torch.cuda.is_available()
