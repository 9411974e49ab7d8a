"""Which file belongs to which frame: habits of naming, paths of other machines, and what is said of what is missing."""

import json
import re
import shutil
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from flame_like import head_from_arrays, make_flame_like, write_flame_pickle
from import_truth import deca_truth, make_truth, nha_truth, silhouette
from import_writers import (
    write_deca,
    write_imavatar,
    write_insta,
    write_metrical,
    write_nerface,
    write_nha,
    write_vhap,
)

from data_tools import cli
from data_tools.importers import ImportConfig, ImportingError, import_data, pipeline
from flame_nerf.heads import save_head
from flame_nerf.subject import load_subject

COUNT = 6


@pytest.fixture(scope="session")
def flame(tmp_path_factory):
    path = tmp_path_factory.mktemp("flame") / "flame.npz"
    save_head(head_from_arrays(make_flame_like()), path, half_bases=False)
    return path


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    """One recording in each format, by the format's name: folder and truth."""
    root, still, moving = tmp_path_factory.mktemp("made"), make_truth("still", COUNT), make_truth("moving", COUNT)
    turning, of_nha, of_deca = make_truth("turning", COUNT), nha_truth(), deca_truth(COUNT)
    write_metrical(root / "metrical-tracker", still)
    write_insta(root / "insta", still)
    write_vhap(root / "vhap", moving, split=False)
    write_nha(root / "nha", of_nha)
    write_imavatar(root / "imavatar", turning)
    write_deca(root / "deca", of_deca)
    truths = (still, still, moving, of_nha, turning, of_deca)
    names = ("metrical-tracker", "insta", "vhap", "nha", "imavatar", "deca")
    return {name: (root / name, truth) for name, truth in zip(names, truths, strict=True)}


@pytest.fixture(autouse=True)
def few_looks(monkeypatch):
    """The report draws few pictures."""
    monkeypatch.setattr(pipeline, "JUDGED", 3)


@pytest.fixture
def copy(made, tmp_path):
    """Makes a copy of a recording that a test may spoil."""

    def copied(name):
        return shutil.copytree(made[name][0], tmp_path / "src"), made[name][1]

    return copied


def rename(folder: Path, called, ending=None) -> None:
    """Call all files of a folder by a function of their number (and ending)."""
    found = sorted(folder.iterdir(), key=lambda path: int(path.stem))
    for path in found:
        path.rename(folder / f".{path.name}")
    for path in found:
        (folder / f".{path.name}").rename(folder / f"{called(int(path.stem))}{ending or path.suffix}")


def run(tmp_path, name, **options):
    options = {"focal_px": 160.0} | options if name == "deca" else options
    summary = import_data(name, tmp_path / "src", tmp_path / "dst", ImportConfig(**options), silent=True)
    return summary, load_subject(tmp_path / "dst")


def assert_pictures_are_their_own(subject, truth, views=None):
    """Each frame's picture shows what its own mesh covers, to the pixel, and its mask with it."""
    views = truth.views if views is None else views
    assert len(subject.frames) == len(views)
    for frame, view in zip(subject.frames, views, strict=True):
        rgb = cv2.imread(str(frame.file_path)).astype(int)
        matte = silhouette(truth, view)
        assert ((rgb[..., 2] > 130) == (matte > 127)).mean() > 0.997, frame.file_path
        if frame.mask_path is not None:
            mask = cv2.imread(str(frame.mask_path), cv2.IMREAD_GRAYSCALE)
            assert ((mask > 127) == (matte > 127)).mean() > 0.999, frame.mask_path


PICTURE_HABITS = {
    "numbered from 1": lambda n: f"{n + 1:05d}",
    "numbered from 1, other digits": lambda n: f"{n + 1}",
    "other digits": lambda n: f"{n:03d}",
    "a word before": lambda n: f"frame_{n:04d}",
    "a word before, from 1": lambda n: f"frame_{n + 1:04d}",
    "a version behind": lambda n: f"frame_{n:05d}_v2",
    "an annotation service's": lambda n: f"x-{n:04d}_jpg.rf.3510{n * 7919 + 40503:07x}ab",
    "a day and a camera": lambda n: f"2024-05-01_cam2_{n:05d}",
    "a rate": lambda n: f"me_25fps_{n + 1:05d}",
    "an ending more": lambda n: f"{n:05d}.jpg",
    "from 100": lambda n: f"img{n + 100}",
    "letters only": lambda n: f"shot_{'abcdefghij'[n]}",
}


MATTES = ("mattes alike", "mattes by frame", "no mattes")


@pytest.mark.parametrize(
    "habit, with_mattes",
    [(habit, MATTES[row % 3]) for row, habit in enumerate(PICTURE_HABITS)]
    + [("numbered from 1", with_mattes) for with_mattes in MATTES[1:]],
)
def test_metrical_pictures_of_any_name_are_found(copy, tmp_path, habit, with_mattes):
    source, truth = copy("metrical-tracker")
    rename(source / "input", PICTURE_HABITS[habit])
    if with_mattes == "no mattes":
        shutil.rmtree(source / "matte")
    elif with_mattes == "mattes alike":
        rename(source / "matte", PICTURE_HABITS[habit])
    summary, subject = run(tmp_path, "metrical-tracker")
    assert_pictures_are_their_own(subject, truth)
    assert subject.has_masks == (with_mattes != "no mattes")
    assert ("numbering" in summary.facts) == (any(w in habit for w in ("from 1", "rate", "100", "letters")))


EXTRA = {
    "the tracker was stopped": lambda root: [path.unlink() for path in sorted((root / "checkpoint").iterdir())[-2:]],
    "a frame has no picture": lambda root: (root / "input" / "00003.png").unlink(),
    "a frame has no mesh": lambda root: (root / "mesh" / "00005.ply").unlink(),
}


@pytest.mark.parametrize("case", EXTRA)
def test_frames_without_a_file_do_not_shift_the_others(copy, tmp_path, case):
    source, truth = copy("metrical-tracker")
    EXTRA[case](source)
    summary, subject = run(tmp_path, "metrical-tracker")
    kept = {"the tracker was stopped": range(4), "a frame has no picture": (0, 1, 2, 4, 5),
            "a frame has no mesh": (0, 1, 2, 3, 4)}[case]  # fmt: skip
    assert_pictures_are_their_own(subject, truth, [truth.views[t] for t in kept])
    assert "numbering" not in summary.facts


def test_pictures_from_1_beside_fewer_checkpoints_from_0(copy, tmp_path):
    """The usual case: ffmpeg's pictures, and a tracker that was stopped."""
    source, truth = copy("metrical-tracker")
    rename(source / "input", lambda n: f"{n + 1:05d}")
    rename(source / "matte", lambda n: f"{n + 1:05d}")
    for path in sorted((source / "checkpoint").iterdir())[-2:]:
        path.unlink()
    summary, subject = run(tmp_path, "metrical-tracker")
    assert_pictures_are_their_own(subject, truth, truth.views[:4])
    assert "00001.png is 00000.png's" in summary.facts["numbering"]
    assert "numbering" in summary.report.read_text()


def test_where_nothing_tells_the_two_names_that_clash_are_said(tmp_path):
    """A head before a camera that both stand still: every picture fits every frame."""
    truth = make_truth("still", count=1)
    from dataclasses import replace

    same = replace(truth.views[0], timestep=0)
    truth = replace(truth, views=(same,) * 6)
    write_metrical(tmp_path / "src", truth)
    for folder in ("input", "matte"):
        rename(tmp_path / "src" / folder, lambda n: f"{n + 1:05d}")
        (tmp_path / "src" / folder / "00004.png").unlink()
    with pytest.raises(ImportingError, match=r"00000\.png.*not there.*00006\.png.*numbered from different starts"):
        run(tmp_path, "metrical-tracker")
    assert not (tmp_path / "dst").exists()


def test_meshes_from_1_cannot_be_told(copy, tmp_path):
    source, _ = copy("metrical-tracker")
    rename(source / "mesh", lambda n: f"{n + 1:05d}")
    with pytest.raises(ImportingError, match=r"00000\.frame has no mesh.*00006\.ply.*Number both alike"):
        run(tmp_path, "metrical-tracker")


def test_two_pictures_of_one_frame_clash(copy, tmp_path):
    source, _ = copy("metrical-tracker")
    shutil.copy(source / "input" / "00002.png", source / "input" / "00002.jpg")
    with pytest.raises(ImportingError, match=r"00002\.jpg and 00002\.png are both pictures of 00002"):
        run(tmp_path, "metrical-tracker")


def test_uncropped_pictures_beside_the_tracked_ones_are_not_taken(copy, tmp_path):
    source, truth = copy("metrical-tracker")
    (source / "input").rename(source / "images")
    (source / "input").mkdir()
    for path in (source / "images").iterdir():
        cv2.imwrite(str(source / "input" / path.name), cv2.resize(cv2.imread(str(path)), (200, 160)))
    _, subject = run(tmp_path, "metrical-tracker")
    assert_pictures_are_their_own(subject, truth)


MATTE_HABITS = {
    "numbered from 0": lambda n: f"{n - 1}",
    "other digits": lambda n: f"{n:05d}",
    "a word behind": lambda n: f"{n:03d}_mask",
    "a word before, from 0": lambda n: f"alpha_{n - 1:05d}",
}


@pytest.mark.parametrize("name", ["imavatar", "deca"])
@pytest.mark.parametrize("habit", MATTE_HABITS)
def test_mattes_of_any_name_are_found(copy, tmp_path, flame, name, habit):
    source, truth = copy(name)
    rename(source / "mask", MATTE_HABITS[habit])
    summary, subject = run(tmp_path, name, flame=flame)
    assert subject.has_masks and summary.outline_iou > 0.9
    assert_pictures_are_their_own(subject, truth)


@pytest.mark.parametrize("name", ["imavatar", "deca"])
@pytest.mark.parametrize("habit", ["from 0", "other digits", "other ending"])
def test_pictures_that_the_data_name_otherwise(copy, tmp_path, flame, name, habit):
    source, truth = copy(name)
    called = {"from 0": lambda n: n - 1, "other digits": lambda n: f"{n:04d}", "other ending": lambda n: n}[habit]
    rename(source / "image", called, ".jpeg" if habit == "other ending" else None)
    if habit == "other ending":
        for path in (source / "image").iterdir():
            cv2.imwrite(str(path), cv2.imread(str(path)), [cv2.IMWRITE_JPEG_QUALITY, 100])
    _, subject = run(tmp_path, name, flame=flame)
    assert_pictures_are_their_own(subject, truth)


def edit_json(path: Path, change) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


@pytest.mark.parametrize("name", ["insta", "vhap"])
def test_a_picture_listed_twice_is_one_frame_and_never_trained_on_and_tested(copy, tmp_path, flame, name):
    """Whatever way its name is written in the second file."""
    source, truth = copy(name)
    whole = source / "transforms.json"
    frames = json.loads(whole.read_text())["frames"] if name == "vhap" else None
    if name == "vhap":
        for part, some in (("train", frames[:4]), ("test", frames[4:])):
            (source / f"transforms_{part}.json").write_text(json.dumps({"frames": some}))
    test = json.loads((source / "transforms_test.json").read_text())["frames"]
    for frame in test:
        frame["file_path"] = "./" + frame["file_path"].replace("/", "\\")
    edit_json(source / "transforms_train.json", lambda c: c["frames"].extend(test))
    _, subject = run(tmp_path, name, flame=flame)
    assert [frame.split for frame in subject.frames] == ["train"] * 4 + ["test"] * 2
    assert_pictures_are_their_own(subject, truth)


CONTRADICTIONS = {
    "insta": [("transform_matrix", np.eye(4).tolist()), ("mesh_path", "meshes/00001.obj")],
    "vhap": [("transform_matrix", np.eye(4).tolist()), ("flame_param_path", "flame_param/00001.npz"),
             ("timestep_index", 17), ("camera_index", 1)],
}  # fmt: skip


@pytest.mark.parametrize("name, field, value", [(n, *pair) for n, pairs in CONTRADICTIONS.items() for pair in pairs])
def test_a_picture_listed_twice_with_other_facts_is_refused(copy, tmp_path, flame, name, field, value):
    source, _ = copy(name)
    index = source / ("transforms.json" if name == "vhap" else "transforms_test.json")
    edit_json(index, lambda c: c["frames"].append(c["frames"][0] | {field: value}))
    with pytest.raises(ImportingError, match=rf"frame 0 and .*frame \d both name .*another {field}"):
        run(tmp_path, name, flame=flame)


@pytest.mark.parametrize(
    "change, words",
    [
        (lambda f: f[3].update(timestep_index=2), r"frame 2 and .*frame 3 are both of timestep_index 2.*00002\.npz"),
        (lambda f: f[3].update(timestep_index=2, flame_param_path=f[2]["flame_param_path"]),
         r"timestep_index 2 and camera 0.*00002_00\.png and 00003_00\.png"),
    ],
)  # fmt: skip
def test_one_moment_named_twice_is_refused(copy, tmp_path, flame, change, words):
    source, _ = copy("vhap")
    edit_json(source / "transforms.json", lambda c: change(c["frames"]))
    with pytest.raises(ImportingError, match=words):
        run(tmp_path, "vhap", flame=flame)


def test_vhap_s_moments_are_in_the_order_of_their_clock(copy, tmp_path, flame):
    """Not of their names."""
    source, truth = copy("vhap")
    edit_json(source / "transforms.json", lambda c: [f.update(timestep_index=COUNT - f["timestep_index"])
                                                     for f in c["frames"]])  # fmt: skip
    _, subject = run(tmp_path, "vhap", flame=flame)
    assert_pictures_are_their_own(subject, truth, truth.views[::-1])


@pytest.mark.parametrize("called", ["frame_{:05d}", "frame_{:d}", "frame_{:04d}_v2"])
def test_nha_s_folders_by_number(copy, tmp_path, flame, called):
    source, truth = copy("nha")
    for path in sorted(source.glob("frame_*")):
        path.rename(source / called.format(int(path.name[-4:])))
    _, subject = run(tmp_path, "nha", flame=flame)
    assert_pictures_are_their_own(subject, truth)


def test_nha_s_folders_from_1_are_not_taken_for_their_neighbours(copy, tmp_path, flame):
    source, truth = copy("nha")
    for path in sorted(source.glob("frame_*"), reverse=True):
        path.rename(source / f"frame_{int(path.name[-4:]) + 1:04d}")
    with pytest.raises(ImportingError, match="frame_0000 has no folder .*frame_0005 is there and nothing names it"):
        run(tmp_path, "nha", flame=flame)


def test_nerface_s_pictures_from_1_are_not_taken_for_their_neighbours(tmp_path):
    write_nerface(tmp_path / "src", make_truth("still", count=4))
    rename_from_1 = sorted((tmp_path / "src" / "images").iterdir(), reverse=True)
    for path in rename_from_1:
        path.rename(path.with_name(f"f_{int(path.stem[2:]) + 1:04d}.png"))
    with pytest.raises(ImportingError, match=r"f_0000\.png has no picture in images/.*f_0004\.png is there"):
        run(tmp_path, "nerface")


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
    import torch

    from data_tools.importers.metrical import read_frame

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
