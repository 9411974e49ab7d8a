"""Data of other machines, in other cases and encodings, or in part: what can be found is, what is said is so."""

import json
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from flame_like import make_flame_like
from import_copies import (
    assert_pictures_are_their_own,
    copy_fixture,  # noqa: F401
    few_looks_fixture,  # noqa: F401
    flame_fixture,  # noqa: F401
    made_fixture,  # noqa: F401
    run,
)
from python2_pickles import write_flame_pickle

from data_tools import cli
from data_tools.importers import ImportConfig, ImportingError, import_data
from data_tools.importers.readers.metrical import read_frame


def elsewhere(source: Path, home: str, slash: str = "/") -> None:
    """The paths of an index as another machine wrote them."""
    for path in source.glob("*.json"):
        content = json.loads(path.read_text())
        for frame in content["frames"]:
            for field in [name for name in frame if name.endswith("_path")]:
                frame[field] = home + slash + frame[field].removeprefix("./").replace("/", slash)
        path.write_text(json.dumps(content))


HOMES = {
    "Windows": ("D:\\data\\me", "\\"),
    "Windows, forward": ("C:/Users/Jürgen Weiß/data", "/"),
    "a share": ("\\\\server\\faces\\me", "\\"),
    "Linux": ("/home/someone/data/me", "/"),
}


@pytest.mark.parametrize("home", HOMES)
@pytest.mark.parametrize("name", ["insta", "vhap", "imavatar"])
def test_absolute_paths_of_another_machine_are_found_beside(copy, tmp_path, flame, name, home):
    source, truth = copy(name)
    elsewhere(source, *HOMES[home])
    # The first picture is gone: the others tell where the folder is.
    next(iter(sorted((source / ("image" if name == "imavatar" else "images")).iterdir()))).unlink()
    summary, subject = run(tmp_path, name, flame=flame)
    assert_pictures_are_their_own(subject, truth, truth.views[1:])
    assert subject.has_masks and [reason for _, reason in summary.left_out] == [summary.left_out[0][1]]


@pytest.mark.parametrize("home", HOMES)
@pytest.mark.parametrize("name", ["insta", "vhap"])
def test_absolute_paths_that_nothing_here_ends_like_say_so(copy, tmp_path, flame, name, home):
    source, _ = copy(name)
    elsewhere(source, *HOMES[home])
    for folder in list(source.iterdir()):
        if folder.is_dir():
            folder.rename(source / f"my {folder.name}")
    with pytest.raises(ImportingError, match="file_path is .*absolute paths of another machine, and nothing in"):
        run(tmp_path, name, flame=flame)


@pytest.mark.parametrize("spelling", [str.upper, str.title, lambda name: name.replace(".png", ".PNG")])
@pytest.mark.parametrize("name", ["insta", "vhap"])
def test_another_case_is_the_same_name(copy, tmp_path, flame, name, spelling):
    source, truth = copy(name)
    for path in source.glob("*.json"):
        content = json.loads(path.read_text())
        for frame in content["frames"]:
            frame.update({name: spelling(value) for name, value in frame.items() if name.endswith("_path")})
        path.write_text(json.dumps(content))
    _, subject = run(tmp_path, name, flame=flame)
    assert_pictures_are_their_own(subject, truth)


GONE = {
    "no folder": (lambda folder: shutil.rmtree(folder), "there is no folder {folder}/ in"),
    "empty": (lambda folder: [path.unlink() for path in folder.iterdir()], "{folder} is empty"),
    "other ending": (lambda folder: [path.rename(path.with_suffix(".bak")) for path in folder.iterdir()],
                     "{folder} holds \\S+\\.bak, not "),
    "other names": (lambda folder: [path.rename(path.with_name(f"take{path.stem}.dat")) for path in folder.iterdir()],
                    "{folder} holds no .* others, such as take"),
}  # fmt: skip
NEEDED = [("insta", "images"), ("insta", "meshes"), ("vhap", "images"), ("vhap", "flame_param"), ("imavatar", "image"),
          ("deca", "image"), ("metrical-tracker", "input"), ("metrical-tracker", "mesh")]  # fmt: skip


@pytest.mark.parametrize("cause", GONE)
@pytest.mark.parametrize("name, folder", NEEDED)
def test_what_is_said_to_be_missing_is_what_is_missing(copy, tmp_path, flame, monkeypatch, name, folder, cause):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "none"))
    source, _ = copy(name)
    spoil, words = GONE[cause]
    spoil(source / folder)
    options = {} if name in ("insta", "metrical-tracker") else {"flame": flame}
    with pytest.raises(ImportingError, match=words.format(folder=folder)) as caught:
        run(tmp_path, name, **options)
    assert "\n" not in str(caught.value) and not (tmp_path / "dst").exists()


@pytest.mark.parametrize("encoding", ["utf-16", "utf-8-sig", "utf-16-be"])
@pytest.mark.parametrize("name, index", [("insta", "transforms_train.json"), ("vhap", "transforms.json"),
                                         ("imavatar", "flame_params.json"), ("deca", "code.json")])  # fmt: skip
def test_indexes_in_any_unicode(copy, tmp_path, flame, name, index, encoding):
    source, truth = copy(name)
    text = (source / index).read_text()
    (source / index).write_bytes(text.encode(encoding))
    summary = import_data("auto", source, tmp_path / "dst", ImportConfig(flame=flame, focal_px=160.0), silent=True)
    assert summary.pictures == len(truth.views)


@pytest.mark.parametrize("fill, words", [(b'{"frames": [{"a": 1', "ends too soon"), (b"", "is empty"),
                                         (b"\x89PNG\r\n\x1a\n\0\0", "no Unicode text|no text"),
                                         (b"{'frames': []}", "no valid JSON: line 1")])  # fmt: skip
def test_an_index_that_cannot_be_read_says_why(copy, tmp_path, fill, words):
    source, _ = copy("insta")
    (source / "transforms_train.json").write_bytes(fill)
    with pytest.raises(ImportingError, match=rf"transforms_train\.json: .*({words})"):
        run(tmp_path, "insta")


def test_metrical_without_meshes_poses_flame_itself(copy, tmp_path):
    source, truth = copy("metrical-tracker")
    shutil.rmtree(source / "mesh")
    summary, subject = run(tmp_path, "metrical-tracker",
                           flame=write_flame_pickle(tmp_path / "generic_model.pkl", make_flame_like()))  # fmt: skip
    assert_pictures_are_their_own(subject, truth)
    flip = np.diag([1.0, -1.0, -1.0, 1.0])
    for frame, view in zip(subject.frames, truth.views, strict=True):
        w2c = flip @ np.linalg.inv(frame.c2w)
        posed = subject.track.vertices[frame.timestep] @ w2c[:3, :3].T + w2c[:3, 3]
        assert np.abs(posed - truth.in_camera(view)).max() < 1e-4
    assert "FLAME posed" in summary.facts["meshes"] and "eyelids" not in " ".join(summary.warnings)
    assert summary.outline_iou > 0.9 and (tmp_path / "dst" / "head_model.npz").is_file()


def test_metrical_without_meshes_says_what_posing_leaves_out(copy, tmp_path, flame):
    source, _ = copy("metrical-tracker")
    shutil.rmtree(source / "mesh")
    path = source / "checkpoint" / "00003.frame"
    payload = read_frame(path)
    payload["flame"]["eyelids"] = np.array([[0.9, 0.8]], np.float32)
    torch.save(payload, path)
    summary, _ = run(tmp_path, "metrical-tracker", flame=flame)
    assert any("blinks are missing" in warning for warning in summary.warnings)


def test_metrical_without_meshes_or_flame_names_both_remedies(copy, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "none"))
    source, _ = copy("metrical-tracker")
    shutil.rmtree(source / "mesh")
    with pytest.raises(ImportingError, match=r"there is no folder mesh/.*Copy the tracker's mesh/.*--flame PATH"):
        run(tmp_path, "metrical-tracker")


def test_an_expression_file_that_is_missing_is_said(copy, tmp_path):
    source, _ = copy("insta")
    (source / "flame" / "exp" / "00002.txt").unlink()
    summary, subject = run(tmp_path, "insta")
    assert subject.track.expression.shape[1] == 0
    assert any("1 of 6 frames have no file of expression coefficients" in warning for warning in summary.warnings)


def test_deca_says_why_nothing_told_the_focal_length(copy, tmp_path, flame):
    source, _ = copy("deca")
    (source / "keypoint.json").write_text(json.dumps({"1.png": [[0, 0]] * 68}))
    summary = import_data("deca", source, tmp_path / "dst", ImportConfig(flame=flame, unchecked=True), silent=True)
    assert any("keypoint.json is there, but your FLAME file has no embedding" in w for w in summary.warnings)


@pytest.mark.parametrize(
    "command", ["track", "batch", "import", "export", "check", "convert-head", "depth", "synth", "synth-animal"]
)
def test_no_two_arguments_of_a_command_have_one_name(command, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["flame-nerf-data", command, "--help"])
    with pytest.raises(SystemExit):
        cli.main()
    said = capsys.readouterr().out
    section = re.split(r"^\W*options\W*$", said.partition("positional arguments")[2], flags=re.MULTILINE)[0]
    # In a box on a terminal, indented elsewhere; rows that go on begin further in.
    named = re.findall(r"^(?:│ |  )(\w\S*)", section, re.MULTILINE)
    assert named and len(set(named)) == len(named)
    assert all(f" {name}" in said.partition("usage:")[2].partition("\n\n")[0] for name in named)
