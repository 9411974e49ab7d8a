"""One small recording in each format, copies that a test may spoil, and whether each frame kept its own picture."""

import json
import shutil
from pathlib import Path

import cv2
import pytest
from flame_like import head_from_arrays, make_flame_like
from import_truth import deca_truth, make_truth, nha_truth, silhouette
from import_writers import write_deca, write_imavatar, write_insta, write_metrical, write_nha, write_vhap

from data_tools.importers import ImportConfig, import_data, pipeline
from flame_nerf.heads import save_head
from flame_nerf.subject import load_subject

COUNT = 6


@pytest.fixture(scope="session", name="flame")
def flame_fixture(tmp_path_factory):
    path = tmp_path_factory.mktemp("flame") / "flame.npz"
    save_head(head_from_arrays(make_flame_like()), path, half_bases=False)
    return path


@pytest.fixture(scope="session", name="made")
def made_fixture(tmp_path_factory):
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


@pytest.fixture(autouse=True, name="few_looks")
def few_looks_fixture(monkeypatch):
    """The report draws few pictures."""
    monkeypatch.setattr(pipeline, "JUDGED", 3)


@pytest.fixture(name="copy")
def copy_fixture(made, tmp_path):
    """Makes a copy of a recording that a test may spoil."""

    def copied(name):
        return shutil.copytree(made[name][0], tmp_path / "src"), made[name][1]

    return copied


def import_from(source: Path, tmp_path: Path, format_name: str = "insta", **options):
    """Import a folder to `tmp_path / "dst"`: the summary."""
    return import_data(format_name, source, tmp_path / "dst", ImportConfig(**options), silent=True)


def rename(folder: Path, called, ending=None) -> None:
    """Call all files of a folder by a function of their number (and ending)."""
    found = sorted(folder.iterdir(), key=lambda path: int(path.stem))
    for path in found:
        path.rename(folder / f".{path.name}")
    for path in found:
        (folder / f".{path.name}").rename(folder / f"{called(int(path.stem))}{ending or path.suffix}")


def run(tmp_path, name, **options):
    options = {"focal_px": 160.0} | options if name == "deca" else options
    summary = import_from(tmp_path / "src", tmp_path, name, **options)
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


def edit_json(path: Path, change) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
