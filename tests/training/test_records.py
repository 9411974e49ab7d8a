"""Two trainings with one seed are one, and a checkpoint tells what it was made of and with."""

from __future__ import annotations

import dataclasses
import json
import shutil
import sys
from pathlib import Path

import pytest
import torch
from avatar_runs import small_config, subject_with_head
from nerfstudio.configs.base_config import ViewerConfig
from nerfstudio.scripts.viewer import run_viewer

from flame_nerf import cli, methods
from flame_nerf.avatar.about import record_rows
from flame_nerf.avatar.config_file import CONFIG_FILE
from flame_nerf.avatar.training import train
from flame_nerf.subject import load_subject
from flame_nerf.training.checkpoints import checkpoints_in
from flame_nerf.training.records import read_record, record_path, subject_hash

TORCH = torch.__version__.split("+")[0]


def _trained(place: Path, name: str) -> Path:
    """A run's config.yml, of three steps, which keeps the last two checkpoints."""
    config = small_config(place / "me", place / name)
    config.max_num_iterations = config.total_steps = 3
    config.steps_per_save, config.vis, config.machine.seed = 1, "tensorboard", 7
    config.pipeline.datamanager.train_num_rays_per_batch = 64
    train(config)
    return config.get_base_dir() / CONFIG_FILE


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> tuple[Path, Path]:
    place = tmp_path_factory.mktemp("records")
    subject_with_head(place / "me")
    return _trained(place, "first"), _trained(place, "second")


def _last(run: Path) -> Path:
    return checkpoints_in(run.parent / "nerfstudio_models")[-1]


def test_the_same_seed_on_the_same_machine_gives_the_same_avatar(runs):
    first, second = (torch.load(_last(run), weights_only=True)["pipeline"] for run in runs)
    assert first.keys() == second.keys() and len(first) > 5
    assert all(torch.equal(value, second[name]) for name, value in first.items())


def test_a_checkpoint_has_a_record_and_a_removed_one_has_none(runs):
    record = read_record(_last(runs[0]))
    assert record["seed"] == 7 and record["method"] == "flame-nerf-cpu" and record["priors"] == {}
    assert record["versions"]["torch"] == TORCH and "python" in record["versions"]
    assert record["config"]["pipeline"]["model"]["field"]["hidden_dim"] == 16
    stems = {path.stem for path in checkpoints_in(_last(runs[0]).parent)}
    assert {path.stem for path in record_path(_last(runs[0])).parent.iterdir()} == stems and len(stems) == 2


def test_info_tells_what_a_run_and_a_packed_avatar_were_made_with(runs, tmp_path, capsys):
    cli.Pack(runs[0], tmp_path / "me.zip").run()
    capsys.readouterr()
    for avatar in (runs[0], tmp_path / "me.zip"):
        cli.Info(avatar).run()
        told = dict(line.split("  ", 1) for line in capsys.readouterr().out.splitlines())
        assert f"torch {TORCH}" in told["trained with"]
        assert told["seed"].strip() == "7" and told["priors"].strip() == "none"
    assert "/" not in json.dumps(cli_record(tmp_path / "me.zip")["subject"]), "whose folder it was stays at home"


def cli_record(packed: Path) -> dict:
    from flame_nerf.avatar.archive import read_manifest

    return read_manifest(packed)["record"]


def test_settings_that_were_changed_are_told(runs):
    rows = record_rows(read_record(_last(runs[0])))
    assert "field.hidden_dim=16" in rows["settings"] and "sampling.occupancy.resolution=16" in rows["settings"]


def test_a_subject_is_known_by_its_track_and_not_by_its_place(runs, tmp_path):
    subject = load_subject(runs[0].parents[3].parent / "me")
    moved = load_subject(shutil.copytree(subject.root, tmp_path / "moved"))
    record = read_record(_last(runs[0]))
    assert subject_hash(moved) == subject_hash(subject) == record["subject"]["sha256"]
    assert record_rows(record, moved)["subject's sha256"].endswith("unchanged")
    moved.frames[2].file_path.write_bytes(b"another picture")
    assert record_rows(record, moved)["subject's sha256"].endswith("changed since")


@pytest.mark.parametrize("content", ["", "[1]", '"x"', "{" * 5000, '{"versions": 3, "subject": [], "priors": "no"}'])
def test_a_record_that_is_none_hinders_nothing(runs, tmp_path, content):
    checkpoint = tmp_path / "nerfstudio_models" / "step-000000002.ckpt"
    record_path(checkpoint).parent.mkdir()
    record_path(checkpoint).write_text(content)
    rows = record_rows(read_record(checkpoint))
    assert rows and all(isinstance(value, str) for value in rows.values())


def _viewed(config_path: Path, monkeypatch, *arguments: str) -> ViewerConfig:
    """The viewer's settings that `ns-viewer` would start it with."""
    monkeypatch.setattr(sys, "argv", ["ns-viewer", "--load-config", str(config_path), *arguments])
    config = dataclasses.replace(methods.flame_nerf_cpu.config)
    monkeypatch.setattr(run_viewer, "eval_setup", lambda *_, **__: (config, None, None, 0))
    started = []
    monkeypatch.setattr(run_viewer, "_start_viewer", lambda config, *_: started.append(config.viewer))
    host = arguments[1] if arguments else "0.0.0.0"
    viewer = run_viewer.ViewerConfigWithoutNumRays(websocket_host=host)
    run_viewer.RunViewer(config_path, viewer).main()
    return started[0]


def test_the_viewer_listens_on_this_machine_alone_unless_told_otherwise(tmp_path, monkeypatch, capsys):
    assert _viewed(tmp_path / "config.yml", monkeypatch).websocket_host == "127.0.0.1"
    assert "this machine alone" in capsys.readouterr().out
    open_to_all = _viewed(tmp_path / "config.yml", monkeypatch, "--viewer.websocket-host", "0.0.0.0")
    assert open_to_all.websocket_host == "0.0.0.0"
    assert "nothing asks for a password" in " ".join(capsys.readouterr().out.split())
    assert methods.flame_nerf.config.viewer.websocket_host == "127.0.0.1"
