"""Checkpoints that cannot be used are noticed before they are, and none with NaN is ever written."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest
import torch
from avatar_runs import small_config, subject_with_head, untrained_run
from nerfstudio.utils.eval_utils import eval_setup

from flame_nerf.avatar.loading import load_pipeline
from flame_nerf.losses.terms import LossTerms
from flame_nerf.runtime.errors import AvatarError
from flame_nerf.training.checkpoints import newest_usable, read_checkpoint
from flame_nerf.training.finite import Finite


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """A run's config.yml; its folder of checkpoints holds one, of step 9."""
    place = tmp_path_factory.mktemp("run")
    subject_with_head(place / "me")
    return untrained_run(place / "me", place / "out")


@pytest.fixture
def run(trained, tmp_path) -> Path:
    """A copy to be damaged."""
    shutil.copytree(trained.parents[4] / "me", tmp_path / "me")
    shutil.copytree(trained.parents[3], tmp_path / "out")
    return tmp_path / trained.relative_to(trained.parents[4])


def _checkpoint(run: Path, step: int = 9) -> Path:
    return run.parent / "nerfstudio_models" / f"step-{step:09d}.ckpt"


def _cut(path: Path) -> None:
    path.write_bytes(_checkpoint(path.parent.parent / "config.yml").read_bytes()[:-2000])


def _emptied(path: Path) -> None:
    path.write_bytes(b"")


def _foreign(path: Path) -> None:
    torch.save({"epoch": 3, "weights": torch.zeros(3)}, path)


def _with_nan(path: Path) -> None:
    state = torch.load(_checkpoint(path.parent.parent / "config.yml"), weights_only=True)
    name = next(name for name, value in state["pipeline"].items() if value.is_floating_point() and value.dim() > 1)
    state["pipeline"][name].view(-1)[3] = torch.nan
    torch.save(state, path)


@pytest.mark.parametrize("damage", [_cut, _emptied, _foreign, _with_nan])
def test_the_one_before_is_taken_and_said(run, damage, capsys, monkeypatch):
    damage(_checkpoint(run, 19))
    with pytest.raises(AvatarError, match="step-000000019"):
        read_checkpoint(_checkpoint(run, 19))
    load_pipeline(run)
    said = capsys.readouterr().out
    assert "step-000000019.ckpt: no usable checkpoint" in said and "Taken instead: step-000000009.ckpt" in said
    # Nerfstudio's own commands, which take the highest number.
    monkeypatch.setattr(sys, "argv", ["ns-render", "--load-config", str(run)])
    *_, taken, step = eval_setup(run)
    assert step == 9 and taken == _checkpoint(run)


def test_a_folder_without_any_says_what_to_give(tmp_path):
    with pytest.raises(AvatarError, match="models is not there"):
        newest_usable(tmp_path / "models")
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "step-last.ckpt").write_text("x")
    with pytest.raises(AvatarError, match="holds no step"):
        newest_usable(tmp_path)
    _emptied(tmp_path / "step-000000001.ckpt")
    _emptied(tmp_path / "step-000000002.ckpt")
    with pytest.raises(AvatarError, match=r"000000002.*Nor are those before"):
        newest_usable(tmp_path)


def test_a_missing_tensor_is_an_error(run, monkeypatch):
    torch.save(_lacking(run), _checkpoint(run))
    with pytest.raises(AvatarError, match="lacks"):
        load_pipeline(run)
    monkeypatch.setattr(sys, "argv", ["ns-viewer", "--load-config", str(run)])
    with pytest.raises(SystemExit, match="lacks .*field"):
        eval_setup(run)


def _lacking(run: Path) -> dict:
    state = torch.load(_checkpoint(run), weights_only=True)
    name = next(name for name in state["pipeline"] if ".field." in name)
    del state["pipeline"][name]
    return state


def test_a_loss_that_is_no_number_stops_training_and_is_named(tmp_path):
    watch = Finite(tmp_path)
    good, bad = torch.tensor(1.0), torch.tensor(torch.nan)
    watch.note(good, {"color_loss": good}, 1)
    (tmp_path / "step-000000001.ckpt").touch()
    with pytest.raises(SystemExit, match=r"step 2: .*\(depth_loss\).*step-000000001\.ckpt"):
        watch.note(good + bad, {"color_loss": good, "depth_loss": bad}, 2)
    layer = torch.nn.Linear(2, 2)
    watch.check(layer, 3)
    with torch.no_grad():
        layer.bias[1] = torch.nan
    with pytest.raises(SystemExit, match="step 4: bias"):
        watch.check(layer, 4)


@pytest.mark.slow
def test_training_keeps_two_and_resumes_from_the_usable_one(tmp_path, monkeypatch, capsys):
    subject_with_head(tmp_path / "me")

    def trainer(steps: int, load: Path | None = None):
        config = small_config(tmp_path / "me", tmp_path / "out")
        config.max_num_iterations, config.steps_per_save, config.vis = steps, 2, "tensorboard"
        config.pipeline.datamanager.train_num_rays_per_batch = 64
        config.load_dir = load
        found = config.setup(local_rank=0, world_size=1)
        found.setup()
        return found

    trainer(7).train()
    folder = tmp_path / "out/me/flame-nerf-cpu/t/nerfstudio_models"
    assert [path.name for path in sorted(folder.iterdir())] == ["step-000000004.ckpt", "step-000000006.ckpt"]
    _emptied(folder / "step-000000006.ckpt")

    real, seen = LossTerms.color_loss, []

    def spoiled(self, outputs, batch, step):
        seen.append(step)
        return real(self, outputs, batch, step) * (torch.nan if step == 8 else 1.0)

    monkeypatch.setattr(LossTerms, "color_loss", spoiled)
    again = trainer(20, folder)
    assert "Taken instead: step-000000004.ckpt" in capsys.readouterr().out
    with pytest.raises(SystemExit, match=r"step 8: .*color_loss.*step-000000006\.ckpt"):
        again.train()
    assert seen[0] == 5
    step, _ = read_checkpoint(newest_usable(folder))
    assert step == 6
    with pytest.raises(SystemExit, match="is not there"):
        trainer(20, tmp_path / "nowhere")
