"""Which file belongs to which frame: ten habits of naming and more, and the two names that clash where none tells."""

import json
import shutil
from dataclasses import replace

import cv2
import numpy as np
import pytest
from import_copies import (
    COUNT,
    assert_pictures_are_their_own,
    copy_fixture,  # noqa: F401
    edit_json,
    few_looks_fixture,  # noqa: F401
    flame_fixture,  # noqa: F401
    made_fixture,  # noqa: F401
    rename,
    run,
)
from import_truth import make_truth
from import_writers import write_metrical, write_nerface

from data_tools.importers import ImportingError

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
    source, _truth = copy("nha")
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
