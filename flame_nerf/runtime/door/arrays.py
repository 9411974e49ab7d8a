"""Arrays that others saved (npz, npy): what a header claims is checked against the file before it is allocated."""

from __future__ import annotations

import io
import math
import os
import sys
import zipfile
from collections.abc import Collection
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from flame_nerf.runtime.door.opening import COPY, LARGEST, foreign, open_file
from flame_nerf.runtime.door.pickles import read_plain_pickle
from flame_nerf.runtime.door.zips import open_zip
from flame_nerf.runtime.scratch import ScratchError, scratch_array
from flame_nerf.runtime.words import printable

LARGEST_HEADER = 1 << 16
"""Bytes of an array's header; numpy itself trusts 10 000."""
LONGEST_SIDE = 1 << 31
NUMBER_BYTES = 8
"""Bytes that each number is counted with: readers make float64 of them."""
BLOCK = 1 << 20
_NUMBERS_AND_TEXT = "biufcUS"
_SIDES = {(1, 0): ("<u2", 2), (2, 0): ("<u4", 4), (3, 0): ("<u4", 4)}
"""How each version of the format writes its header's length."""


def read_npz(
    path: Path,
    error: type[Exception],
    *,
    wanted: str = "an npz file",
    remedy: str = COPY,
    missing: str = "",
    largest: int = LARGEST // 2,
    number_bytes: int = NUMBER_BYTES,
    only: Collection[str] | None = None,
    mapped_from: int | None = None,
    objects: bool = False,
) -> dict[str, Any]:
    """All arrays of an npz.

    Args:
        error: kind of error to raise.
        wanted: what it should be, for errors.
        remedy: what to do about a damaged one.
        missing: what to say where there is none.
        largest: bytes that all arrays together may take.
        number_bytes: bytes that each number is counted with at least, for what its reader makes of it.
        only: names to read; all others are passed over.
        mapped_from: bytes from which an array that is stored as it is in memory stays on disk, read-only: in an unnamed
            copy, for a mapped file that somebody cuts short ends the process with a bus error. Where the disk has no
            room for one, the file itself is mapped, and the array may begin at any byte: copy rows before handing them
            on to code that is not numpy's.
        objects: read pickled arrays too, as plain data, running nothing. They are refused otherwise.

    Raises:
        error: it is missing, damaged, too large, or holds Python objects; names the array.
    """
    with open_file(path, error, wanted, missing=missing) as stream:
        with open_zip(stream, path, error, wanted=wanted, remedy=remedy) as archive:
            found: dict[str, Any] = {}
            left = largest
            for entry in archive.infolist():
                name = entry.filename.removesuffix(".npy")
                if name == entry.filename or (only is not None and name not in only):
                    continue
                with (
                    foreign(error, f"{path}: {printable(name[:80])}", "an array", remedy),
                    archive.open(entry) as member,
                ):
                    claim = _Claim(member, entry.file_size)
                    if claim.mapped(entry, mapped_from):
                        try:
                            found[name] = claim.read(member, objects, memory_limit=0)
                            found[name].setflags(write=False)
                        except ScratchError:
                            found[name] = _map(stream, entry, claim)
                        continue
                    left -= claim.cost(number_bytes)
                    if left < 0:
                        raise ValueError(f"with it the arrays take over {largest >> 20} MB, more than one may")
                    found[name] = claim.read(member, objects)
    return found


def read_array(path: Path, error: type[Exception], *, remedy: str = COPY, objects: bool = False) -> Any:
    """The array of an npy file; arguments and errors as for `read_npz`."""
    with open_file(path, error, "an npy file") as stream, foreign(error, path, "an npy file", remedy):
        claim = _Claim(stream, os.fstat(stream.fileno()).st_size)
        if claim.cost(NUMBER_BYTES) > LARGEST // 2:
            raise ValueError(f"it takes over {LARGEST >> 21} MB, more than one may")
        return claim.read(stream, objects)


class _Claim:
    """An array as its header describes it, which fills the file's rest exactly."""

    def __init__(self, stream: Any, size: int) -> None:
        """
        Args:
            stream: stands at the array's beginning, and at its data afterwards.
            size: bytes of header and data.
        """
        start = stream.read(8)
        if len(start) < 8 or start[:6] != b"\x93NUMPY" or tuple(start[6:8]) not in _SIDES:
            raise ValueError("it does not begin as an array of numpy's does")
        kind, width = _SIDES[tuple(start[6:8])]
        length = stream.read(width)
        header_bytes = int(np.frombuffer(length, kind)[0])
        if header_bytes > LARGEST_HEADER:
            raise ValueError(f"its header claims {header_bytes} bytes")
        header = io.BytesIO(length + stream.read(header_bytes))
        read = np.lib.format.read_array_header_1_0 if width == 2 else np.lib.format.read_array_header_2_0
        self.shape, self.by_column, self.dtype = read(header)
        self.start = 8 + width + header_bytes
        self.count = math.prod(self.shape)
        if not all(0 <= side < LONGEST_SIDE for side in self.shape):
            raise ValueError(f"it claims the shape {self.shape}")
        self.bytes = size - self.start
        if self.dtype.hasobject:
            return
        if self.dtype.kind not in _NUMBERS_AND_TEXT or self.dtype.subdtype is not None or not self.dtype.itemsize:
            raise ValueError(f"it is of type {self.dtype}, expected numbers or text")
        if self.count * self.dtype.itemsize != self.bytes:
            raise ValueError(
                f"its header claims {self.count * self.dtype.itemsize} bytes ({self.dtype}, {self.shape}), the file "
                f"has {self.bytes}"
            )

    def cost(self, number_bytes: int) -> int:
        """Bytes to count it with."""
        return max(self.bytes, self.count * number_bytes)

    def mapped(self, entry: zipfile.ZipInfo, mapped_from: int | None) -> bool:
        """Whether it can stay on disk, and is large enough to."""
        plain = entry.compress_type == zipfile.ZIP_STORED and not self.dtype.hasobject and not self.by_column
        return mapped_from is not None and plain and entry.file_size >= mapped_from

    def read(self, stream: Any, objects: bool, memory_limit: int = sys.maxsize) -> Any:
        """The array, from where its data begin; of a pickled one whatever plain data it holds.

        Args:
            memory_limit: bytes beyond which it is held in a temporary file.
        """
        if self.dtype.hasobject:
            if not objects:
                raise ValueError(
                    "it holds pickled Python objects, which can run code when read: refused; save it as plain arrays"
                )
            return read_plain_pickle(stream)
        array = scratch_array((self.count,), self.dtype, memory_limit)
        if self.bytes:
            target, at = array.view(np.uint8), 0
            while at < self.bytes:
                block = stream.read(min(BLOCK, self.bytes - at))
                if not block:
                    raise EOFError("it is cut short")
                target[at : at + len(block)] = np.frombuffer(block, np.uint8)
                at += len(block)
        # A zip's checksum is compared when its end is met.
        stream.read(1)
        if self.dtype.kind == "U" and not _is_text(array):
            raise ValueError("it holds letters that are none")
        return array.reshape(self.shape[::-1]).T if self.by_column else array.reshape(self.shape)


def _is_text(array: np.ndarray) -> bool:
    """Whether all letters of an array of texts are letters; Python stops over others."""
    codes = array.view(np.dtype(np.uint32).newbyteorder(array.dtype.byteorder))
    return bool(((codes < 0xD800) | ((codes > 0xDFFF) & (codes <= 0x10FFFF))).all())


def _map(stream: BinaryIO, entry: zipfile.ZipInfo, claim: _Claim) -> np.ndarray:
    # The local header repeats the name, and may have other extra fields than the directory at the archive's end.
    stream.seek(entry.header_offset + 26)
    name_size, extra_size = np.frombuffer(stream.read(4), dtype="<u2").tolist()
    start = entry.header_offset + 30 + name_size + extra_size + claim.start
    return np.memmap(stream, dtype=claim.dtype, mode="r", offset=start, shape=claim.shape)


def check_numbers(
    values: Any,
    error: type[Exception],
    where: str,
    shape: tuple[int | None, ...] | None = None,
    *,
    least: float = -math.inf,
    most: float = math.inf,
) -> np.ndarray:
    """Finite numbers of a known shape, float64. Numbers written as text count as numbers.

    Args:
        error: kind of error to raise.
        where: file and field, for errors.
        shape: None where any length will do; any shape at all if not given.
        least: smallest number that can be meant.
        most: largest.

    Raises:
        error: not numbers, not finite, out of range, or another shape.
    """
    try:
        result = np.asarray(values)
        result = (np.char.strip(result) if result.dtype.kind == "U" else result).astype(np.float64)
    except (ValueError, TypeError, OverflowError, RecursionError, MemoryError, RuntimeError) as problem:
        # Tensors that cannot become arrays say so with the last of them.
        raise error(f"{where} is no array of numbers ({str(problem)[:160]}).") from problem
    fits = shape is None or (
        result.ndim == len(shape)
        and all(want is None or have == want for have, want in zip(result.shape, shape, strict=True))
    )
    if not fits:
        wanted = " x ".join("any" if side is None else str(side) for side in shape or ()) or "one number"
        raise error(f"{where} has shape {result.shape}, expected {wanted}.")
    if not np.isfinite(result).all():
        raise error(f"{where} holds NaN or infinite values.")
    if result.size and not least <= result.min() <= result.max() <= most:
        raise error(f"{where} holds {result.min():g} to {result.max():g}, expected {least:g} to {most:g}.")
    return result
