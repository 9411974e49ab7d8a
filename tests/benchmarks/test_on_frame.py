"""A held-out frame's own pose, refined on its picture by the benchmark of held-out quality."""

import sys
from pathlib import Path

import torch
from avatar_runs import subject_with_head, untrained_run

from flame_nerf.avatar.loading import load_pipeline

sys.path.append(str(Path(__file__).resolve().parents[2] / "benchmarks"))


def test_a_pose_is_refined_by_what_the_picture_shows(tmp_path):
    from on_frame import refine_pose_on_frame

    subject_with_head(tmp_path / "me")
    pipeline = load_pipeline(untrained_run(tmp_path / "me", tmp_path / "outputs"))
    model, camera = pipeline.model.eval(), pipeline.datamanager.train_dataset.cameras[0:1]
    # Nothing was learned: what training never met is left out of pictures.
    model.renderer.config.occupancy.enabled = False
    size = int(camera.height), int(camera.width)
    torch.manual_seed(0)
    picture, everywhere = torch.rand(*size, 3), torch.ones(size, dtype=torch.bool)
    before = {name: value.clone() for name, value in model.named_parameters()}
    correction = refine_pose_on_frame(model, camera, picture, everywhere, steps=3, rays=64)
    assert correction.shape == (6,) and 0 < correction.abs().max() < 0.01
    assert all(torch.equal(value, before[name]) for name, value in model.named_parameters()), "the avatar stays"
