"""Runs and subjects that were moved are found again; a config.yml is read without running what it names."""

import shutil
import sys
from pathlib import Path

import pytest
from avatar_runs import subject_with_head, untrained_run

from flame_nerf import cli, methods
from flame_nerf.avatar import AvatarError
from flame_nerf.avatar.config_file import read_config
from flame_nerf.avatar.loading import load_pipeline, open_avatar
from flame_nerf.subject import SubjectError

pytest_plugins = ["avatar_fixtures"]


def gone_from(project: Path, tmp_path: Path, kept: dict[str, str]) -> Path:
    """Copies parts of a project to other places, its config.yml naming folders that exist no more."""
    for source, target in kept.items():
        shutil.copytree(project / source, tmp_path / target)
    path = next(tmp_path.rglob("config.yml"))
    # config.yml writes a path as a list of its parts.
    text = path.read_text()
    assert project.name in text
    path.write_text(text.replace(project.name, "gone"))
    return path


@pytest.mark.parametrize(
    "kept",
    [
        {"outputs": "new/outputs", "subjects/me": "new/subjects/me"},
        {"outputs/me/flame-nerf-cpu/t": "run of may", "subjects/me": "her head"},
        {"outputs/me/flame-nerf-cpu/t": "héad/run", "subjects/me": "héad/run/subject"},
        {"outputs/me": "a/b/me", "subjects/me": "a/subject"},
    ],
    ids=["together", "both renamed", "subject inside the run", "subject above"],
)
def test_a_moved_run_finds_its_subject(project, tmp_path, kept):
    path = gone_from(project, tmp_path, kept)
    subject_with_head(path.parent.parent / "me", seed=3)
    with open_avatar(path) as avatar:
        assert avatar.data == (tmp_path / list(kept.values())[1])
        assert avatar.checkpoint.parent.parent == path.parent
        avatar.load()


def test_a_copy_is_read_from_where_it_is_also_while_the_first_one_is_there(project, tmp_path):
    shutil.copytree(project, tmp_path / "copy")
    with open_avatar(tmp_path / "copy/outputs/me/flame-nerf-cpu/t/config.yml") as avatar:
        assert avatar.data == tmp_path / "copy/subjects/me"
        assert avatar.checkpoint.is_relative_to(tmp_path)


def test_a_run_trained_with_relative_paths_moves_as_well(tmp_path, monkeypatch):
    (tmp_path / "old").mkdir()
    monkeypatch.chdir(tmp_path / "old")
    subject_with_head(tmp_path / "old" / "me")
    path = untrained_run(Path("me"), Path("outputs"))
    monkeypatch.chdir(tmp_path)
    Path("old").rename("new")
    with open_avatar(Path("new") / path) as avatar:
        assert avatar.data == tmp_path / "new/me"


def test_a_subject_that_is_nowhere_is_asked_for_in_one_line(project, tmp_path, capsys, monkeypatch):
    path = gone_from(project, tmp_path, {"outputs": "outputs"})
    subject_with_head(tmp_path / "me", seed=3)
    monkeypatch.setattr(sys, "argv", ["flame-nerf", "drive", str(path)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert "--data" in ended.value.code and "flame-nerf move" in ended.value.code and "\n" not in ended.value.code
    with open_avatar(path, project / "subjects/me") as avatar:
        avatar.load()
    with pytest.raises(SubjectError, match="does not exist"), open_avatar(path, tmp_path / "nothing") as avatar:
        avatar.load()


def test_nerfstudios_commands_follow_a_moved_run(project, tmp_path, monkeypatch):
    from nerfstudio.utils.eval_utils import eval_setup

    path = gone_from(project, tmp_path, {"outputs": "outputs", "subjects": "subjects"})
    monkeypatch.setattr(sys, "argv", ["ns-render", "camera-path", "--load-config", str(path)])
    config, pipeline, checkpoint, _ = eval_setup(path)
    assert checkpoint.is_relative_to(tmp_path) and config.get_base_dir() == path.parent
    assert pipeline.model.subject.root == tmp_path / "subjects/me"
    shutil.rmtree(tmp_path / "subjects")
    monkeypatch.setattr(sys, "argv", ["ns-viewer", f"--load-config={path}"])
    with pytest.raises(SystemExit, match="flame-nerf move"):
        eval_setup(path)


def test_move_writes_where_things_are_now(project, tmp_path):
    from nerfstudio.utils.eval_utils import eval_setup

    path = gone_from(project, tmp_path, {"outputs/me/flame-nerf-cpu/t": "run", "subjects/me": "elsewhere/me"})
    cli.Move(path, data=tmp_path / "elsewhere/me").run()
    _, pipeline, checkpoint, _ = eval_setup(path)
    assert checkpoint.parent.parent == tmp_path / "run"
    assert pipeline.model.subject.root == tmp_path / "elsewhere/me"
    with pytest.raises(SubjectError):
        cli.Move(path, data=tmp_path / "nowhere").run()
    assert read_config(path).data == tmp_path / "elsewhere/me", "an error leaves the file as it was"


def test_a_run_without_a_checkpoint_or_with_a_cut_one_says_so(project, tmp_path):
    shutil.copytree(project, tmp_path / "copy")
    path = tmp_path / "copy/outputs/me/flame-nerf-cpu/t/config.yml"
    checkpoint = path.parent / "nerfstudio_models/step-000000009.ckpt"
    checkpoint.write_bytes(checkpoint.read_bytes()[:2000])
    with pytest.raises(AvatarError, match=r"no usable checkpoint \(cut short or damaged\)"):
        load_pipeline(path)
    checkpoint.unlink()
    with pytest.raises(AvatarError, match="no checkpoint in"):
        load_pipeline(path)


@pytest.mark.parametrize(
    "line",
    [
        "data: !!python/object/apply:os.system ['touch MARK']",
        "data: !!python/object/apply:nerfstudio.utils.scripts.run_command ['touch MARK']",
        "data: !!python/object/new:subprocess.Popen [['touch', 'MARK']]",
        "data: !!python/object/apply:torch.load ['MARK']",
        "data: !!python/module:antigravity",
        "data: !!python/name:os.system",
        "data: !!bool x",
        "data: !!int ''",
        "data: !!timestamp x",
        "data: {<<: [1]}",
        "just: text",
        "[" * 1500,
        "{" * 100_000,
        "data: \x00",
    ],
)
def test_a_config_that_would_run_something_is_refused(tmp_path, monkeypatch, line):
    monkeypatch.chdir(tmp_path)
    Path("config.yml").write_text(f"!!python/object:flame_nerf.training.trainer.FlameNerfTrainerConfig\n{line}\n")
    with pytest.raises(AvatarError, match="config.yml"):
        read_config(Path("config.yml"))
    assert [path.name for path in tmp_path.iterdir()] == ["config.yml"]


def test_configs_of_all_methods_are_read_back(tmp_path):
    for method in (methods.flame_nerf, methods.flame_nerf_cpu, methods.nerface, methods.nha, methods.flame_nerf_insta):
        config = methods.with_steps(method.config, 7)
        config.output_dir, config.timestamp, config.experiment_name = tmp_path, "t", "x"
        config.save_config()
        read = read_config(config.get_base_dir() / "config.yml")
        assert read.pipeline.model == config.pipeline.model and read.optimizers == config.optimizers
