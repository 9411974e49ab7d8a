"""Files that other trackers left and that would run code, lie or are of another kind: refused and named."""

import json
import os
import pickle

import numpy as np
import pytest
import torch
from harm import Calls
from import_copies import flame_fixture, import_from  # noqa: F401
from import_truth import make_truth, nha_truth
from import_writers import (
    write_insta,
    write_metrical,
    write_nha,
    write_vhap,
)

from data_tools.importers import ImportConfig, ImportingError
from data_tools.importers.command import import_command
from data_tools.importers.pipeline import import_data
from flame_nerf.subject import load_subject


def test_unknown_data_say_what_was_seen(tmp_path):
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "notes.txt").write_text("hello")
    with pytest.raises(ImportingError, match="none of the known formats.*notes.txt"):
        import_from(tmp_path / "src", tmp_path, "auto")
    with pytest.raises(ImportingError, match="does not exist"):
        import_from(tmp_path / "nothing", tmp_path, "auto")


def test_formats_with_parameters_ask_for_flame(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "none"))
    write_vhap(tmp_path / "src", make_truth("moving", count=2))
    with pytest.raises(ImportingError, match="Give your FLAME file with --flame"):
        import_from(tmp_path / "src", tmp_path, "auto")


def test_a_frame_file_that_would_run_code_is_refused_and_named(tmp_path):
    write_metrical(tmp_path / "src", make_truth("still", count=3))
    path = tmp_path / "src" / "checkpoint" / "00001.frame"
    mark = tmp_path / "ran"
    harm = Calls(os.system, f"touch {mark}")
    torch.save({"flame": harm}, path)
    with pytest.raises(ImportingError, match=r"00001\.frame asks for \w*\.?system.*refused"):
        import_from(tmp_path / "src", tmp_path, "metrical-tracker")
    path.write_bytes(pickle.dumps(harm))
    with pytest.raises(ImportingError, match=r"00001\.frame"):
        import_from(tmp_path / "src", tmp_path, "metrical-tracker")
    assert not mark.exists()


def test_a_frame_file_of_a_newer_tracker_says_what_it_has(tmp_path):
    write_metrical(tmp_path / "src", make_truth("still", count=3))
    path = tmp_path / "src" / "checkpoint" / "00001.frame"
    torch.save({"flame": {"exp": np.zeros((1, 100))}, "cameras": {"R_base_0": np.eye(3)}}, path)
    with pytest.raises(ImportingError, match=r"00001\.frame: flame: jaw is missing; it has exp\. Perhaps a newer"):
        import_from(tmp_path / "src", tmp_path, "metrical-tracker")


def test_pickled_arrays_in_an_npz_are_refused(tmp_path, flame):
    write_vhap(tmp_path / "src", make_truth("moving", count=2))
    path = tmp_path / "src" / "flame_param" / "00001.npz"
    mark = tmp_path / "ran"
    np.savez(path, shape=np.array([Calls(os.system, f"touch {mark}")], dtype=object))
    with pytest.raises(ImportingError, match=r"00001\.npz: .*holds pickled Python objects"):
        import_from(tmp_path / "src", tmp_path, "vhap", flame=flame)
    assert not mark.exists()


@pytest.mark.parametrize("count", [0, 2, 1000])
def test_a_translation_of_a_moment_is_three_numbers(tmp_path, flame, count):
    write_vhap(tmp_path / "src", make_truth("moving", count=1))
    (path,) = (tmp_path / "src").rglob("flame_param/*.npz")
    np.savez(path, **(dict(np.load(path)) | {"translation": np.zeros((1, count), np.float32)}))
    with pytest.raises(ImportingError, match=r"npz: translation .*3"):
        import_from(tmp_path / "src", tmp_path, "vhap", flame=flame)


def test_a_union_may_point_into_the_sequences_it_lists_only(tmp_path, flame):
    for name, seed in (("306_A", 1), ("306_B", 2)):
        write_vhap(tmp_path / name, make_truth("moving", count=3, seed=seed), split=False)
    union = tmp_path / "UNION"
    union.mkdir()
    parts = {}
    for number, name in enumerate(("306_A", "306_B")):
        content = json.loads((tmp_path / name / "transforms.json").read_text())
        for frame in content["frames"]:
            frame["timestep_index"] += 3 * number
            for field in ("file_path", "fg_mask_path", "flame_param_path"):
                frame[field] = f"../{name}/{frame[field]}"
        parts[name] = content
    (union / "transforms_train.json").write_text(json.dumps(parts["306_A"]))
    (union / "transforms_test.json").write_text(json.dumps(parts["306_B"]))
    (union / "sequences_trainval.txt").write_text("306_A\n")
    with pytest.raises(ImportingError, match="leads out of"):
        import_from(union, tmp_path, "auto", flame=flame)
    (union / "sequences_test.txt").write_text("306_B\r\n")
    summary = import_from(union, tmp_path, "auto", flame=flame)
    assert summary.timesteps == 6 and "2 identities" not in summary.facts["offsets"]
    assert any("2 sequences have identities of their own" in warning for warning in summary.warnings)
    frames = load_subject(tmp_path / "dst").frames
    assert [frame.split for frame in frames] == ["train"] * 3 + ["test"] * 3


def test_unequal_lengths_of_parameters_are_named(tmp_path, flame):
    write_nha(tmp_path / "src", nha_truth())
    path = tmp_path / "src" / "tracked_flame_params.npz"
    with np.load(path) as found:
        arrays = dict(found)
    np.savez(path, **(arrays | {"expr": arrays["expr"][:3]}))
    with pytest.raises(ImportingError, match="unequal lengths.*'expr': 3"):
        import_from(tmp_path / "src", tmp_path, "auto", flame=flame)


def test_the_command_fails_in_one_line(tmp_path, capsys):
    assert import_command("insta", tmp_path / "nothing", tmp_path / "dst", ImportConfig()) == 1
    assert capsys.readouterr().err.count("\n") == 1


def test_a_picture_that_is_a_link_to_itself_leaves_nothing(tmp_path):
    write_insta(tmp_path / "src", make_truth("still", count=4))
    picture = sorted((tmp_path / "src" / "images").iterdir())[1]
    picture.unlink()
    picture.symlink_to(picture.name)
    with pytest.raises(ImportingError, match=f"{picture.name}: .*symbolic links"):
        import_data("insta", tmp_path / "src", tmp_path / "dst", silent=True)
    assert not (tmp_path / "dst").exists()
