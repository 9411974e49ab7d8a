"""The door for HDF5 files: what claims much, leads elsewhere or has no end is refused before it is read."""

import os

import numpy as np
import pytest

from flame_nerf.runtime.door import hdf5
from flame_nerf.runtime.door.hdf5 import open_hdf5

h5py = pytest.importorskip("h5py")


class OwnError(RuntimeError):
    """A caller's kind of error."""


def test_an_hdf5_that_claims_too_much_or_leads_elsewhere_is_refused(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["small"] = np.arange(3)
        file.create_dataset("large", (10**6, 10**6), chunks=(64, 64))
        file["elsewhere"] = h5py.ExternalLink("pipe", "/x")
    os.mkfifo(tmp_path / "pipe")
    with open_hdf5(tmp_path / "a.h5", OwnError) as file:
        found = file.datasets()
        assert found.keys() == {"small", "large"} and found["small"].read().tolist() == [0, 1, 2]
    with pytest.raises(OwnError, match="claims float32"), open_hdf5(tmp_path / "a.h5", OwnError) as file:
        file.datasets()["large"].read()


def test_texts_that_all_lie_at_one_place_are_counted_one_by_one(tmp_path, monkeypatch):
    monkeypatch.setattr(hdf5, "LARGEST_DATASET", 1 << 20)
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        made = file.create_dataset("names", data=["x" * 100_000, *["nose"] * 99], dtype=h5py.string_dtype())
        start = made.id.get_offset()
    content = bytearray(path.read_bytes())
    with hdf5.open_hdf5(path, OwnError) as file:
        assert file.datasets()["names"].read()[-1] == b"nose"
    # A row is a length, and where its text lies: all are given the first one's.
    content[start : start + 1600] = content[start : start + 16] * 100
    path.write_bytes(content)
    with pytest.raises(OwnError, match="names: its texts take more"), hdf5.open_hdf5(path, OwnError) as file:
        file.datasets()["names"].read()


@pytest.mark.parametrize("piece", [1 << 24, 100])
@pytest.mark.parametrize("length", [0, 2**64 - 16])
def test_texts_of_an_hdf5_that_have_no_end_are_refused(tmp_path, monkeypatch, piece, length):
    """Free space of no size, at which the HDF5 library stays for ever."""
    monkeypatch.setattr(hdf5, "PIECE", piece)
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("names", data=["nose", "chin"], dtype=h5py.string_dtype())
    with hdf5.open_hdf5(path, OwnError) as file:
        assert list(file.datasets()["names"].read()) == [b"nose", b"chin"]
    data = bytearray(path.read_bytes())
    free = data.index(hdf5.HEAP) + 16
    while data[free : free + 2] != b"\0\0":
        free += 16 + -(-int.from_bytes(data[free + 8 : free + 16], "little") // 8) * 8
    data[free + 8 : free + 16] = length.to_bytes(8, "little")
    path.write_bytes(data)
    with pytest.raises(OwnError, match="no end"), hdf5.open_hdf5(path, OwnError):
        pytest.fail("opened")
