"""Files that are not what their names say: each reader says what they are, in one line, and is right."""

import io
from functools import partial

import cv2
import numpy as np
import pytest
import torch
from import_writers import write_ply

from data_tools.importers import ImportConfig, ImportingError
from data_tools.importers.flame import open_flame
from data_tools.importers.inputs.files import read_npz
from data_tools.importers.inputs.mesh_files import read_mesh
from data_tools.importers.readers.metrical import read_frame
from data_tools.runs.picture_files import read_picture
from flame_nerf.heads.registry import remember_head
from flame_nerf.runtime.door import picture_size


def own_bytes(tmp_path) -> dict[str, bytes]:
    """A good file of each kind."""
    noise = np.random.default_rng(0)
    cv2.imwrite(str(tmp_path / "a.png"), noise.integers(0, 255, (40, 40, 3)).astype(np.uint8))
    write_ply(tmp_path / "a.ply", noise.normal(size=(30, 3)), noise.integers(0, 30, (50, 3)))
    torch.save({"a": np.zeros(500, np.float32)}, tmp_path / "a.frame")
    np.savez(tmp_path / "a.npz", a=noise.normal(size=200))
    return {"picture": (tmp_path / "a.png").read_bytes(), "mesh": (tmp_path / "a.ply").read_bytes(),
            "frame": (tmp_path / "a.frame").read_bytes(), "npz": (tmp_path / "a.npz").read_bytes()}  # fmt: skip


READERS = {
    "picture": partial(read_picture, error=ImportingError), "mesh": read_mesh, "frame": read_frame, "npz": read_npz,
    "size": partial(picture_size, error=ImportingError),
}  # fmt: skip


def array_file() -> bytes:
    stream = io.BytesIO()
    np.save(stream, np.arange(5))
    return stream.getvalue()


KINDS = {
    "empty": (lambda own: b"", "is empty"),
    "pointer": (lambda own: b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12\n", "git lfs pull"),
    "web page": (lambda own: b"\n<!DOCTYPE html><html><title>Sign in</title></html>", "is a web page"),
    "zeros": (lambda own: bytes(len(own)), "nothing but zero bytes"),
    "text": (lambda own: b"hello world\n", "does not begin as|cannot be read as a picture|holds no mesh"),
    "array": (lambda own: array_file(), "does not begin as|cannot be read as a picture|holds no mesh"),
    "cut": (lambda own: own[: len(own) // 2], "cut short|damaged"),
    "tail missing": (lambda own: own[:-8], "cut short|damaged"),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("reader", READERS)
def test_what_a_file_is_said_to_be_is_what_it_is(tmp_path, reader, kind):
    if reader == "size" and kind in ("cut", "tail missing"):
        pytest.skip("a picture's size is in its first bytes")
    make, words = KINDS[kind]
    path = tmp_path / "x"
    path.write_bytes(make(own_bytes(tmp_path)["picture" if reader == "size" else reader]))
    with pytest.raises(ImportingError, match=words) as caught:
        READERS[reader](path)
    said = str(caught.value)
    assert said.startswith(str(path)) and "\n" not in said and "pickle" not in said


@pytest.mark.parametrize("reader", READERS)
def test_no_file_and_a_folder_are_told_apart(tmp_path, reader):
    with pytest.raises(ImportingError, match="does not exist"):
        READERS[reader](tmp_path / "nothing")
    with pytest.raises(ImportingError, match="is a folder"):
        READERS[reader](tmp_path)


def test_a_remembered_flame_that_is_gone_is_not_called_missing_data(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    remember_head("flame", tmp_path / "gone.npz")
    with pytest.raises(ImportingError, match=r"remembered as 'flame' is no longer at .*gone\.npz.*--flame PATH"):
        open_flame(ImportConfig(), "VHAP")
