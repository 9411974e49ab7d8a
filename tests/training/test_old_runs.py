"""Runs that older versions trained are loaded, rendered and gone on with.

tests/kept_run was trained by this package when its modules lay elsewhere: 60 steps of `ns-train flame-nerf-cpu`
with a tiny grid on the synthetic head. `shown.npz` is what it rendered then. FOLDER stands in its config.yml for the
folder that a test copies it to.
"""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

KEPT = Path(__file__).resolve().parents[1] / "kept_run"
LAST_STEP = 59


@pytest.fixture
def config_path(tmp_path):
    """config.yml of the run, with its subject and its checkpoint where that says."""
    shutil.copytree(KEPT / "subject", tmp_path / "subject")
    folder = tmp_path / "outputs/subject/flame-nerf-cpu/t"
    (folder / "nerfstudio_models").mkdir(parents=True)
    name = f"step-{LAST_STEP:09d}.ckpt"
    shutil.copy(KEPT / name, folder / "nerfstudio_models" / name)
    path = folder / "config.yml"
    path.write_text((KEPT / "config.yml").read_text().replace("FOLDER", str(tmp_path)))
    return path


@pytest.mark.slow
def test_renders_what_it_rendered_then(config_path):
    from nerfstudio.utils.eval_utils import eval_setup

    _, pipeline, _, step = eval_setup(config_path)
    assert step == LAST_STEP
    camera, _ = next(iter(pipeline.datamanager.fixed_indices_eval_dataloader))
    with torch.no_grad():
        outputs = pipeline.model.get_outputs_for_camera(camera)
    with np.load(KEPT / "shown.npz") as then:
        for name in then:
            shown = outputs[name].numpy()
            assert np.allclose(shown, then[name], rtol=1e-4, atol=1e-4), np.abs(shown - then[name]).max()


@pytest.mark.slow
def test_goes_on_where_it_stopped(config_path, tmp_path):
    config = yaml.load(config_path.read_text(), Loader=yaml.Loader)
    config.load_dir = config_path.parent / "nerfstudio_models"
    config.max_num_iterations, config.timestamp = 2, "resumed"
    trainer = config.setup()
    trainer.setup()
    trainer.train()
    assert trainer.step == LAST_STEP + 2
    assert (config.get_checkpoint_dir() / f"step-{LAST_STEP + 2:09d}.ckpt").exists()
