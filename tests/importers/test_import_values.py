"""Another tracker's files in which something else stands where numbers should: each names the file, field and fault."""

import json
import shutil

import numpy as np
import pytest
import torch
from flame_like import head_from_arrays
from import_truth import deca_truth, make_truth, nha_truth
from import_writers import write_deca, write_imavatar, write_insta, write_metrical, write_nha, write_vhap
from small_flame import make_small_flame

from data_tools.importers import ImportConfig, ImportingError
from data_tools.importers.capture import Scratch
from data_tools.importers.formats import READERS
from flame_nerf.heads import save_head

HUGE = 10**400
"""Larger than any float."""


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """One recording of few vertices in each format, and the head model."""
    root, model = tmp_path_factory.mktemp("values"), make_small_flame()
    save_head(head_from_arrays(model), root / "flame.npz", half_bases=False)
    write_metrical(root / "metrical-tracker", make_truth("still", 2, model=model))
    write_insta(root / "insta", make_truth("still", 3, model=model))
    write_vhap(root / "vhap", make_truth("moving", 2, model=model), split=False)
    write_nha(root / "nha", nha_truth(count=2, model=model))
    write_imavatar(root / "imavatar", make_truth("turning", 2, model=model))
    write_deca(root / "deca", deca_truth(2, model=model), tform=True)
    return root


def edit_npz(path, changes):
    with np.load(path) as found:
        np.savez(path, **(dict(found) | changes))


def edit_json(path, change):
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def nha(**changes):
    return "nha", lambda root: edit_npz(root / "tracked_flame_params.npz", changes)


def vhap(**changes):
    return "vhap", lambda root: edit_npz(root / "flame_param" / "00001.npz", changes)


def frame(name, **changes):
    return name, lambda root: edit_json(
        root / {"imavatar": "flame_params.json", "insta": "transforms_val.json"}[name],
        lambda content: content["frames"][0].update(changes),
    )


def code(**changes):
    return "deca", lambda root: edit_json(root / "code.json", lambda content: content["1"].update(changes))


def checkpoint(part, **changes):
    def change(root):
        path = root / "checkpoint" / "00001.frame"
        content = torch.load(path, weights_only=False)
        content[part] |= changes
        torch.save(content, path)

    return "metrical-tracker", change


WRONG = {
    "one number for a column": (nha(rotation=np.float64(1)), r"tracked_flame_params\.npz: rotation has shape \(\)"),
    "words for a matrix": (nha(K=np.array("True")), r"params\.npz: K is no array of numbers"),
    "two numbers for one": (nha(n_processed=np.array([1, 2])), r"params\.npz: n_processed has shape \(2,\)"),
    "one number for a picture's size": (nha(image_size=np.array(3)), r"params\.npz: image_size has shape \(1,\)"),
    "one number for rows": (nha(RT=np.array(3.0)), r"params\.npz: RT has shape \(\), expected 3 x 4"),
    "words for offsets": (vhap(static_offset=np.array("x")), r"00001\.npz: static_offset is no array of numbers"),
    "offsets that are no places": (vhap(static_offset=np.zeros(4)), r"00001\.npz: static_offset has 4 numbers"),
    "words for moving offsets": (vhap(dynamic_offset=np.array("x")), r"00001\.npz: dynamic_offset is no array"),
    "a number for coefficients": (frame("imavatar", expression=3), r"params\.json: frame 0: expression has shape \(\)"),
    "a number for a camera": (frame("imavatar", world_mat=3), r"params\.json: frame 0: world_mat has shape \(\)"),
    "rows of unequal length": (code(shape=[[1], [1, 2]]), r"code\.json: 1: shape is no array of numbers"),
    "a similarity cut short": (code(tform=[1, 2, 3, 4]), r"code\.json: 1: tform has shape \(4,\)"),
    "a number for a whole code": (
        ("deca", lambda root: edit_json(root / "code.json", lambda content: content.update({"1": 2}))),
        r"code\.json: 1 is a int; it has nothing",
    ),
    "a number for a whole camera": (
        ("metrical-tracker", lambda root: torch.save({"flame": {}, "opencv": 3}, root / "checkpoint/00001.frame")),
        r"00001\.frame: flame: jaw is missing",
    ),
    "a number beyond floats": (frame("insta", transform_matrix=[[HUGE] * 4] * 4), r"transforms_\w+\.json: .*308 d"),
    "a rotation cut short": (checkpoint("opencv", R=np.eye(2)), r"00001\.frame: opencv: R has shape \(4,\)"),
    "a camera of words": (checkpoint("opencv", K=["x"]), r"00001\.frame: opencv: K is no array of numbers"),
    "a tensor that still learns": (
        checkpoint("flame", exp=torch.zeros(1, 100, requires_grad=True)),
        r"00001\.frame: flame: exp is no array of numbers",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_no_number_is_named(made, tmp_path, case):
    (name, damage), words = WRONG[case]
    shutil.copytree(made / name, tmp_path / name)
    damage(tmp_path / name)
    config = ImportConfig(flame=made / "flame.npz", focal_px=160.0 if name == "deca" else None)
    # Past `read_capture`, which has words of its own for what a reader did not think of.
    with pytest.raises(ImportingError, match=words) as refused:
        READERS[name].read(tmp_path / name, config, Scratch(tmp_path / "scratch", True))
    assert "\n" not in str(refused.value)
