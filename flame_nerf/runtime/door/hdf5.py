"""HDF5 files that others made: what a dataset claims to hold is checked before it is read."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from flame_nerf.runtime.door.opening import LARGEST, check_kind, foreign

START = b"\x89HDF\r\n\x1a\n"
LARGEST_DATASET = LARGEST // 4
HEAP = b"GCOL\x01\x00\x00\x00"
"""Start of a collection of texts and other values of a length of their own (HDF5's file format, III.E, Global Heap)."""
MOST_ENTRIES = 1_000_000
"""Texts of a file, at most."""
PIECE = 1 << 24
"""Bytes that are searched at once."""
MOST_PARTS = 4096
"""Groups and datasets that one group may have."""


class Hdf5Group:
    """A group of an HDF5 file, of which plain datasets of that file alone are read."""

    def __init__(self, group: Any, error: type[Exception], where: str) -> None:
        self._group, self._error, self._where = group, error, where
        if len(group) > MOST_PARTS:
            raise error(f"{where}: has {len(group)} parts; {MOST_PARTS} at most. Is it the right file?")

    @property
    def attributes(self) -> dict[str, Any]:
        """Its attributes, by name."""
        return dict(self._group.attrs)

    def groups(self) -> dict[str, Hdf5Group]:
        """The groups in it."""
        import h5py

        found = {name: self._part(name) for name in self._group}
        return {
            name: Hdf5Group(part, self._error, f"{self._where}: {name:.80}")
            for name, part in found.items()
            if isinstance(part, h5py.Group)
        }

    def datasets(self) -> dict[str, Hdf5Array]:
        """The datasets in it, not yet read."""
        import h5py

        found = {name: self._part(name) for name in self._group}
        return {
            name: Hdf5Array(part, self._error, f"{self._where}: {name:.80}")
            for name, part in found.items()
            if isinstance(part, h5py.Dataset)
        }

    def _part(self, name: str) -> Any:
        import h5py

        # A link may lead to another file, a pipe among them.
        return None if isinstance(self._group.get(name, getlink=True), h5py.ExternalLink) else self._group[name]


class Hdf5Array:
    """A dataset of an HDF5 file."""

    def __init__(self, dataset: Any, error: type[Exception], where: str) -> None:
        self._dataset, self._error, self._where = dataset, error, where

    @property
    def shape(self) -> tuple[int, ...]:
        """As the file claims it."""
        return tuple(self._dataset.shape or ())

    @property
    def attributes(self) -> dict[str, Any]:
        """Its attributes, by name."""
        return dict(self._dataset.attrs)

    def read(self) -> np.ndarray:
        """All of it.

        Raises:
            error: it lies in another file, or takes more memory than it may.
        """
        dataset = self._dataset
        if dataset.external or dataset.is_virtual:
            raise self._error(f"{self._where}: lies in another file. Copy the data into one file.")
        size = int(np.prod(self.shape, dtype=object)) * max(8, dataset.dtype.itemsize)
        if size > LARGEST_DATASET:
            raise self._error(
                f"{self._where}: claims {dataset.dtype} {self.shape}, more than the {LARGEST_DATASET >> 20} MB that "
                "one may take. Is it the right file?"
            )
        return self._texts() if dataset.dtype.hasobject and self.shape else np.asarray(dataset[()])

    def _texts(self) -> np.ndarray:
        """What is of a length of its own a row. Rows may all point to the same long one, so that a small file would
        become a huge array: they are read a few at a time, and counted."""
        dataset, left, parts = self._dataset, LARGEST_DATASET, []
        if int(np.prod(self.shape[1:], dtype=object)) * self._bytes > LARGEST_DATASET:
            raise self._error(f"{self._where}: texts of the shape {self.shape}. Is it the right file?")
        step = max(1, LARGEST_DATASET // max(1, self._bytes * int(np.prod(self.shape[1:], dtype=object))))
        for start in range(0, len(dataset), step):
            parts.append(np.asarray(dataset[start : start + step]))
            left -= sum(len(value) if hasattr(value, "__len__") else 8 for value in parts[-1].reshape(-1))
            if left < 0:
                raise self._error(
                    f"{self._where}: its texts take more than the {LARGEST_DATASET >> 20} MB that they may. Is it the "
                    "right file?"
                )
        return np.concatenate(parts) if parts else np.asarray(dataset[()])

    @property
    def _bytes(self) -> int:
        """Of the whole file, of which no text is longer."""
        return int(self._dataset.file.id.get_filesize())


@contextmanager
def open_hdf5(path: Path, error: type[Exception], *, remedy: str = "Export it again.") -> Iterator[Hdf5Group]:
    """The root group of an HDF5 file. What goes wrong inside the block is told as a fault of the file.

    Args:
        error: kind of error to raise.
        remedy: what to do about a damaged one.

    Raises:
        error: it is missing, no HDF5, damaged, or made to harm.
        ImportError: h5py is not there.
    """
    import h5py

    check_kind(path, error, "an HDF5 file", (START,))
    _check_heaps(path, error, remedy)
    with foreign(error, path, "an HDF5 file", remedy), h5py.File(path, "r") as file:
        yield Hdf5Group(file, error, str(path))


def _check_heaps(path: Path, error: type[Exception], remedy: str) -> None:
    """Refuse collections of texts through which the HDF5 library would walk for ever: with free space of no size in
    them, at which it stays."""
    left = MOST_ENTRIES
    with path.open("rb") as file:
        for start in _found(file, HEAP):
            left = _walk(file, start, left)
            if left < 0:
                raise error(f"{path}: damaged: texts that have no end (at byte {start}). {remedy}")


def _found(file: BinaryIO, wanted: bytes) -> Iterator[int]:
    """Where some bytes stand in a file. Whoever asks may read elsewhere in between."""
    start, before = 0, b""
    while file.seek(start) >= 0 and (piece := file.read(PIECE)):
        data, offset = before + piece, start - len(before)
        at = data.find(wanted)
        while at >= 0:
            yield offset + at
            at = data.find(wanted, at + 1)
        start, before = start + len(piece), data[-len(wanted) + 1 :]


def _walk(file: BinaryIO, start: int, left: int) -> int:
    """Go through the entries of a collection to its end, of `left` at most: how many are left; -1 without an end, or
    where one leads beyond it: the library's 64 bits may come round to the same place."""
    file.seek(start)
    size = int.from_bytes(file.read(16)[8:], "little")
    at, end = 16, size
    while left >= 0 and at + 16 <= end:
        file.seek(start + at)
        head = file.read(16)
        if len(head) < 16:
            break
        number, _references, _reserved, length = struct.unpack("<HHIQ", head)
        # Of free space the length counts this header, too.
        step = length if number == 0 else 16 + -(-length // 8) * 8
        left = left - 1 if step and at + step <= end else -1
        at += step
    return left
