"""The door for files: what is small and claims much is refused in one line, before that much is allocated."""

from __future__ import annotations

import io
import json
import os
import pickle
import resource
import socket
import struct
import tracemalloc
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from flame_nerf.runtime import door
from flame_nerf.runtime.door.pickles import read_plain_pickle


class OwnError(RuntimeError):
    """A caller's kind of error."""


def _header(descr: str, shape: tuple) -> bytes:
    text = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode()


def _npz(path: Path, members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)
    return path


def _zeros(path: Path, megabytes: int) -> Path:
    """An npz of that many megabytes of zeros, a thousandth of it on disk."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("a.npy", "w") as member:
        member.write(_header("|u1", (megabytes << 20,)))
        for _ in range(megabytes):
            member.write(bytes(1 << 20))
    return path


def _png(path: Path, width: int, height: int) -> Path:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b""))
    return path


def _many(path: Path) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for number in range(5000):
            archive.writestr(f"{number}.npy", b"")
    return path


def _lzma(path: Path) -> Path:
    return _npz(path, {"a": _header("|u1", (3,)) + b"abc"}, zipfile.ZIP_LZMA)


NPZ = {
    "numbers that are not there": lambda path: _npz(path, {"a": _header("<f8", (10**12,))}),
    "texts of no length": lambda path: _npz(path, {"a": _header("<U0", (10**12,))}),
    "a negative side": lambda path: _npz(path, {"a": _header("<f8", (-1,))}),
    "a header that does not end": lambda path: _npz(path, {"a": b"\x93NUMPY\x02\x00\xff\xff\xff\xff{"}),
    "a header within headers": lambda path: _npz(path, {"a": _header("<f8", "(" * 300)}),  # type: ignore[arg-type]
    "objects": lambda path: _npz(path, {"a": _header("|O", (1,)) + pickle.dumps([1])}),
    "letters that are none": lambda path: _npz(path, {"a": _header("<U1", (1,)) + b"\xff\xff\xff\x7f"}),
    "zeros": lambda path: _zeros(path, 80),
    "many members": _many,
    "another packing": _lzma,
    "cut short": lambda path: path.write_bytes(_npz(path, {"a": _header("|u1", (3,)) + b"abc"}).read_bytes()[:-9]),
    "text": lambda path: path.write_text("hello"),
}


@pytest.mark.parametrize("case", NPZ)
def test_an_npz_that_claims_too_much_is_refused_in_one_line_and_little_memory(tmp_path, case):
    path = tmp_path / "a.npz"
    NPZ[case](path)
    tracemalloc.start()
    try:
        with pytest.raises(OwnError) as caught:
            door.read_npz(path, OwnError, remedy="Export it again.")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert str(caught.value).startswith(str(path)) and "\n" not in str(caught.value)
    assert peak < 30e6


def test_a_sound_npz_comes_back_mapped_or_not_and_in_either_order(tmp_path):
    arrays = {
        "a": np.arange(12.0).reshape(3, 4),
        "b": np.asfortranarray(np.arange(6).reshape(2, 3)),
        "c": np.array("ü"),
    }
    arrays["d"] = np.empty((0, 3), np.float32)
    for save, mapped_from in ((np.savez, 1), (np.savez_compressed, 1), (np.savez, None)):
        save(tmp_path / "a.npz", **arrays)
        found = door.read_npz(tmp_path / "a.npz", OwnError, mapped_from=mapped_from)
        assert found.keys() == arrays.keys()
        for name, array in arrays.items():
            assert np.array_equal(found[name], array) and found[name].dtype == array.dtype
        assert isinstance(found["a"], np.memmap) == (save is np.savez and mapped_from is not None)
    assert door.read_npz(tmp_path / "a.npz", OwnError, only=("b",)).keys() == {"b"}


def _pickled(*steps: bytes) -> bytes:
    return b"\x80\x04" + b"".join(steps) + b"."


def _array_of(contents: bytes) -> bytes:
    """A numpy array of 2^31 bytes whose contents are whatever those instructions leave."""
    state = b"(K\x01J\xff\xff\xff\x7f\x85cnumpy\ndtype\n\x8c\x02u1\x85R\x89" + contents + b"tb"
    return b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85C\x01b\x87R" + state


def _sparse(columns: int) -> bytes:
    class Matrix:
        def __reduce__(self):
            return _Name("scipy.sparse.csr", "csr_matrix"), (), state

    state = {
        "_shape": (1, columns),
        "indptr": np.array([0, 0]),
        "indices": np.array([], int),
        "data": np.array([0.0])[:0],
    }
    out = io.BytesIO()
    _ByName(out, 2).dump(Matrix())
    return out.getvalue()


class _Name:
    def __init__(self, module: str, name: str) -> None:
        self.module, self.name = module, name

    def __call__(self) -> None:
        """Callable, as what a pickle names must be."""


class _ByName(pickle._Pickler):
    def save(self, value, *rest):
        if isinstance(value, _Name):
            self.write(f"c{value.module}\n{value.name}\n".encode())
        else:
            super().save(value, *rest)


PICKLES = {
    "zeros by their number": _pickled(_array_of(b"J\xff\xff\xff\x7f")),
    "a matrix of nothing": _sparse(400_000_000),
    "bytes that are not there": _pickled(b"\x8e" + struct.pack("<Q", 1 << 40)),
    "an array of bytes that is not there": _pickled(b"\x96" + struct.pack("<Q", 1 << 40)),
    "a frame that is not there": _pickled(b"\x95" + struct.pack("<Q", 1 << 40)),
    "a list for every letter": _pickled(b"]" * 1_200_000),
    "the same set again and again": _pickled(
        b"(" + b"K\x01" * 50_000 + b"l\x94" + b"c__builtin__\nset\nh\x00\x85R" * 3000
    ),
    "a number of many bytes": _pickled(b"\x8b" + struct.pack("<i", 200_000) + b"\x01" * 200_000),
}


@pytest.mark.parametrize("case", PICKLES)
def test_a_pickle_that_unfolds_to_too_much_is_refused(case):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ValueError, match="it "):
        read_plain_pickle(io.BytesIO(PICKLES[case]))
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024 < 700


@pytest.mark.parametrize(
    "content, said",
    [
        (b"[" * 100_000 + b"]" * 100_000, "nested over"),
        (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "nested over"),
        (b"[" + b"[],[]," * 4_500_000 + b"0]", "to read"),
        (b"9" * 5000, "cannot be read"),
        (b'{"fps": [1, -1' + b"0" * 400 + b"]}", "over 308 digits"),
        (b'{"a": 1', "ends too soon"),
        (b"\xff\xfe\xfd", "Unicode"),
    ],
)
def test_a_json_that_would_take_too_much_is_refused(tmp_path, content, said):
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(OwnError, match=said) as caught:
        door.read_json(tmp_path / "a.json", OwnError)
    assert "a.json" in str(caught.value) and "\n" not in str(caught.value)


def test_brackets_in_texts_are_no_nesting(tmp_path):
    content = {"a": ["[" * 100, {"b": [[1]] * 300}]}
    (tmp_path / "a.json").write_text(json.dumps(content), encoding="utf-16")
    assert door.read_json(tmp_path / "a.json", OwnError) == content


@pytest.mark.parametrize("size", [(65535, 65535), (9000, 9000), (70000, 1)])
def test_a_picture_larger_than_any_is_refused_by_its_header(tmp_path, size):
    for read in (door.picture_size, door.decode_picture):
        with pytest.raises(OwnError, match=r"pixels|cannot be read as a picture") as caught:
            read(_png(tmp_path / "a.png", *size), OwnError)
        assert "a.png" in str(caught.value)


def test_a_jpeg_cut_short_is_no_picture(tmp_path):
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8))
    picture.save(tmp_path / "a.jpg")
    assert door.decode_picture(tmp_path / "a.jpg", OwnError).shape == (64, 64, 3)
    data = (tmp_path / "a.jpg").read_bytes()
    # A camera's thumbnail ends before the picture does, and some programs write on behind its end.
    (tmp_path / "a.jpg").write_bytes(data + b"more")
    assert door.decode_picture(tmp_path / "a.jpg", OwnError).shape == (64, 64, 3)
    (tmp_path / "a.jpg").write_bytes(data[: len(data) // 2])
    with pytest.raises(OwnError, match="cut short"):
        door.decode_picture(tmp_path / "a.jpg", OwnError)


def test_a_postscript_is_never_opened(tmp_path):
    (tmp_path / "a.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n")
    with pytest.raises(OwnError, match="cannot be read as a picture"):
        door.decode_picture(tmp_path / "a.png", OwnError)


def test_what_is_no_regular_file_is_said_and_not_waited_for(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        monkeypatch.chdir(tmp_path)
        listener.bind("socket")
        for name, word in (("pipe", "a pipe"), ("socket", "a socket"), (".", "a folder"), ("/dev/zero", "a device")):
            for read in (door.read_npz, door.read_json, door.decode_picture, door.read_bytes):
                with pytest.raises(OwnError, match=word):
                    read(Path(name), OwnError)
    with pytest.raises(OwnError, match="does not exist"):
        door.read_npz(tmp_path / "nothing.npz", OwnError)
    assert not door.is_zip(tmp_path / "pipe")


def test_names_that_no_file_has_are_refused():
    assert door.check_name("images/0001.png", OwnError, "here") == "images/0001.png"
    for name in ("", "a\0b", "x" * 300, "a/" * 2000, "\ud800", None, 7):
        with pytest.raises(OwnError, match="here is "):
            door.check_name(name, OwnError, "here")


def test_members_that_lie_over_each_other_are_refused(tmp_path):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.npy", bytes(1 << 20))
    content = packed.getvalue()
    start = content.index(b"PK\x01\x02")
    entry, end = content[start:-22], content[-22:]
    entries = b"".join(entry.replace(b"a.npy", b"%c.npy" % letter) for letter in range(97, 100))
    path = tmp_path / "bomb.npz"
    path.write_bytes(content[:start] + entries + end[:8] + struct.pack("<HHI", 3, 3, len(entries)) + end[16:])
    with pytest.raises(OwnError, match=r"bomb\.npz: its members lie over each other"):
        door.read_npz(path, OwnError)


def test_a_torch_file_whose_tensors_claim_more_than_it_holds_is_refused(tmp_path):
    import torch

    from flame_nerf.runtime.door.tensors import read_torch

    torch.save({"a": torch.ones(3)}, tmp_path / "a.frame")
    assert read_torch(tmp_path / "a.frame", OwnError, [])["a"].tolist() == [1, 1, 1]
    torch.save({"a": torch.ones(1).expand(10**11)}, tmp_path / "a.frame")
    with pytest.raises(OwnError, match="claims arrays"):
        read_torch(tmp_path / "a.frame", OwnError, [])


def test_an_error_of_the_callers_own_kind_passes_and_all_others_become_it():
    for problem in (
        OverflowError(),
        RecursionError("deep"),
        MemoryError(),
        UnicodeError("x"),
        KeyError("k"),
        zlib.error("z"),
    ):
        with pytest.raises(OwnError, match=r"a\.bin: cannot be read as numbers \(.+\)\. Copy it again\.") as caught:
            with door.foreign(OwnError, "a.bin", "numbers"):
                raise problem
        assert "\n" not in str(caught.value)
    with pytest.raises(OwnError, match="^mine$"), door.foreign(OwnError, "a.bin"):
        raise OwnError("mine")
    with pytest.raises(KeyboardInterrupt), door.foreign(OwnError, "a.bin"):
        raise KeyboardInterrupt


def test_a_member_whose_name_breaks_lines_is_named_on_one(tmp_path):
    path = _npz(tmp_path / "a.npz", {"x\n\x1b[2J": b"0" * 100}, zipfile.ZIP_BZIP2)
    with pytest.raises(ValueError, match=r"a\.npz: x\\n\\x1b\[2J\.npy is packed by method 12") as caught:
        door.read_npz(path, ValueError)
    assert "\n" not in str(caught.value)
