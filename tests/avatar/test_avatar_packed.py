"""One file holds all that shows an avatar, and no more; commands take it like a run."""

import dataclasses
import json
import os
import shutil
import sys
import zipfile
from pathlib import Path

import pytest
import torch
from avatar_runs import subject_with_head, untrained_run
from synthetic_head import make_head

from flame_nerf import cli, methods
from flame_nerf.avatar import AvatarError
from flame_nerf.avatar.head_model import may_be_passed_on
from flame_nerf.avatar.loading import load_pipeline
from flame_nerf.avatar.pack import pack
from flame_nerf.avatar.plain_config import config_of, plain_settings
from flame_nerf.avatar.unpack import unpack
from flame_nerf.heads import save_head
from flame_nerf.heads.registry import remember_head
from flame_nerf.runtime.film_options import LookConfig
from flame_nerf.subject import SubjectError, load_subject

pytest_plugins = ["avatar_fixtures"]


def picture(pipeline, index: int = 1) -> torch.Tensor:
    with torch.no_grad():
        return pipeline.model.get_outputs_for_camera(pipeline.datamanager.train_dataset.cameras[index : index + 1])[
            "rgb"
        ]


def test_a_packed_avatar_holds_what_shows_it_and_no_more(packed, project):
    with zipfile.ZipFile(packed) as archive:
        names = archive.namelist()
        licence = archive.read("LICENCE.txt").decode()
        everything = b"".join(archive.read(name) for name in names)
    assert sum("/images/" in name for name in names) == 1 and sum("/masks/" in name for name in names) == 1
    assert "subject/head_model.npz" in names and "CC0 1.0" in licence
    assert b"/home/me" not in everything and str(project).encode() not in everything, "no path of this machine"
    assert packed.stat().st_size < sum(path.stat().st_size for path in project.rglob("*") if path.is_file())
    with zipfile.ZipFile(packed) as archive, archive.open("checkpoint.ckpt") as file:
        (packed.parent / "c.ckpt").write_bytes(file.read())
    assert set(torch.load(packed.parent / "c.ckpt", weights_only=True)) == {"step", "pipeline"}


def test_a_packed_avatar_looks_like_the_run(packed, config_path):
    whole, alone = load_pipeline(config_path), load_pipeline(packed)
    for index in (0, 3):
        torch.testing.assert_close(picture(alone, index), picture(whole, index))
    assert alone.model.motion.fps == 10.0 and alone.model.motion.can_pose
    first, second = (p.model.motion.pose({"jawOpen": 0.7}) for p in (whole, alone))
    torch.testing.assert_close(first.vertices, second.vertices, atol=1e-4, rtol=0)


def test_an_unpacked_avatar_is_a_run_for_nerfstudio(packed, config_path, tmp_path, monkeypatch):
    from nerfstudio.utils.eval_utils import eval_setup

    path = unpack(packed, tmp_path / "new" / "mé")
    _, pipeline, _, step = eval_setup(path)
    assert step == 9
    torch.testing.assert_close(picture(pipeline), picture(load_pipeline(config_path)))
    dataset = pipeline.datamanager.train_dataset
    shown = [bool(dataset[index]["mask"].any()) for index in range(len(dataset))]
    assert sum(shown) <= 1, "the frames that were left out show nobody"
    with pytest.raises(SystemExit, match="left out when the avatar was packed"):
        pipeline.get_average_eval_image_metrics()
    with pytest.raises(SubjectError, match="left out when the avatar was packed"):
        pipeline.datamanager.next_train(0)
    assert (tmp_path / "new/mé/LICENCE.txt").exists()
    # Carried elsewhere it still is one.
    (tmp_path / "new").rename(tmp_path / "newer")
    path = tmp_path / "newer" / "mé" / "config.yml"
    monkeypatch.setattr(sys, "argv", ["ns-eval", "--load-config", str(path)])
    assert eval_setup(path)[1].model.subject.root == path.parent / "subject"
    (tmp_path / "newer").rename(tmp_path / "new")
    with pytest.raises(AvatarError, match="not empty"):
        unpack(packed, tmp_path / "new" / "mé")


def test_a_licensed_head_is_left_out_named_and_taken_from_the_user(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "settings"))
    subject_with_head(tmp_path / "me", licence="FLAME model data: use it under the licence accepted at its site")
    made = pack(untrained_run(tmp_path / "me", tmp_path / "outputs"), tmp_path / "me.zip")
    assert not made.head_included and made.head == "synthetic"
    with zipfile.ZipFile(made.path) as archive:
        assert not any("head_model" in name for name in archive.namelist())
        assert "NOT included" in archive.read("LICENCE.txt").decode()
    capsys.readouterr()
    pipeline = load_pipeline(made.path)
    printed = " ".join(capsys.readouterr().out.split())
    assert "'synthetic' was left out" in printed and "convert-head" in printed
    assert not pipeline.model.motion.can_pose and picture(pipeline).isfinite().all()

    save_head(dataclasses.replace(make_head(), template=make_head().template * 2), tmp_path / "wrong.npz")
    save_head(make_head(), tmp_path / "own.npz")
    remember_head("wrong", tmp_path / "wrong.npz")
    remember_head("mine", tmp_path / "own.npz")
    assert load_pipeline(made.path).model.motion.can_pose
    assert load_subject(unpack(made.path, tmp_path / "un").parent / "subject").head_model == str(tmp_path / "own.npz")


@pytest.mark.parametrize(
    ("licence", "free"),
    [
        ("CC0 1.0 Universal", True), ("Model data: CC0 1.0 Universal (public domain dedication)", True),
        ("CC BY 4.0", True), ("CC-BY-NC 4.0", False), ("CC BY-NC-SA 4.0", False), ("Apache-2.0", True),
        ("FLAME model data of the MPI ... (FLAME 2023 Open: CC BY 4.0)", False), ("", False), ("mitigated", False),
        ("As the file that it was converted from; see that file's own terms before passing it on.", False),
        ("Creative Commons Attribution-NonCommercial 4.0", False), ("Creative Commons Attribution 4.0", True),
    ],
)  # fmt: skip
def test_a_licence_counts_as_free_only_where_it_says_so_first(licence, free):
    assert may_be_passed_on(licence) is free


def test_every_method_s_settings_travel():
    for method in (methods.flame_nerf, methods.flame_nerf_cpu, methods.nerface, methods.nha, methods.flame_nerf_insta):
        config = methods.with_steps(method.config, 7)
        config.pipeline.model.latent_dim = 5
        config.pipeline.datamanager.dataparser.downscale_factor = 2.5
        made = config_of(json.loads(json.dumps(plain_settings(config), allow_nan=False)), "avatar.json")
        assert made.pipeline.model == config.pipeline.model
        assert made.pipeline.datamanager.dataparser == config.pipeline.datamanager.dataparser


def test_a_file_that_is_there_survives_a_failed_pack(config_path, project, tmp_path, monkeypatch):
    (tmp_path / "me.zip").write_bytes(b"before")
    (tmp_path / "other").mkdir()
    with pytest.raises(SubjectError):
        pack(config_path, tmp_path / "me.zip", data=tmp_path / "other")
    monkeypatch.setattr(zipfile.ZipFile, "write", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left")))
    with pytest.raises(RuntimeError, match="me.zip: the avatar cannot be written"):
        pack(config_path, tmp_path / "me.zip")
    assert (tmp_path / "me.zip").read_bytes() == b"before"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["me.zip", "other"]


def test_a_clock_that_stands_in_1970_packs_all_the_same(config_path, tmp_path, monkeypatch):
    def copied_long_ago(source, target):
        Path(target).write_bytes(Path(source).read_bytes())
        os.utime(target, (0, 0))

    monkeypatch.setattr("flame_nerf.avatar.pack.shutil.copyfile", copied_long_ago)
    packed = pack(config_path, tmp_path / "a.zip")
    with zipfile.ZipFile(packed.path) as archive:
        assert min(entry.date_time[0] for entry in archive.infolist()) == 1980


def test_a_picture_that_goes_while_it_is_packed_is_told_in_one_line(config_path, tmp_path, monkeypatch):
    def gone(source, *_):
        raise FileNotFoundError(2, "No such file or directory", str(source))

    monkeypatch.setattr("flame_nerf.avatar.pack.shutil.copyfile", gone)
    with pytest.raises(AvatarError, match=r"images/\d+\.png: cannot be packed \(No such file or directory\)"):
        pack(config_path, tmp_path / "a.zip")
    assert not list(tmp_path.glob("*.zip*"))


def test_commands_take_a_packed_avatar_from_another_folder(packed, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    shutil.copy(packed, "my head.zip")
    film = Path("films/jawOpen.mp4")
    cli.Drive(Path("my head.zip"), output=Path("films"), sweep=("jawOpen",), frames=3, look=LookConfig(width=16)).run()
    assert film.stat().st_size > 500 and film.with_suffix(".png").exists()
    with pytest.raises(cli.UserError, match="has no pictures"):
        cli.ExportTrack(Path("my head.zip"), Path("out")).run()
    with pytest.raises(AvatarError, match="packed already"):
        cli.Pack(Path("my head.zip"), Path("again.zip")).run()
    with pytest.raises(AvatarError, match="leave --data out"):
        cli.Drive(Path("my head.zip"), data=Path("x")).run()
    capsys.readouterr()
    cli.Info(Path("my head.zip")).run()
    told = capsys.readouterr().out
    assert "synthetic (inside)" in told and "flame-nerf-cpu" in told and "10.0" in told
    assert sorted(path.name for path in tmp_path.iterdir()) == ["films", "my head.zip"]


def test_info_tells_of_a_run(config_path, capsys):
    cli.Info(config_path).run()
    assert "CC0 1.0" in capsys.readouterr().out


def film_of(path: Path) -> tuple[int, float]:
    import cv2

    film = cv2.VideoCapture(str(path))
    return int(film.get(cv2.CAP_PROP_FRAME_COUNT)), film.get(cv2.CAP_PROP_FPS)


def test_films_have_the_performance_s_length_and_rate(config_path, tmp_path):
    performer = subject_with_head(tmp_path / "ada", fps=12.5, count=9).root

    def driven(**options) -> tuple[int, float]:
        path = tmp_path / "film.mp4"
        cli.Drive(config_path, output=path, look=LookConfig(width=16), **options).run()
        return film_of(path)

    assert driven() == (6, 10.0), "its own performance, once"
    assert driven(frames=8) == (8, 10.0), "there and back"
    assert driven(motion=performer) == (9, 12.5), "the whole performer, at its rate"
    assert driven(motion=performer, frames=4) == (4, 12.5)
    assert driven(motion=performer, frames=40) == (9, 12.5), "no more than there is"
    assert driven(sweep="jawOpen", orbit=True, frames=5) == (5, 10.0)
