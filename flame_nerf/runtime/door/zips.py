"""Zip files that others made: their directory is checked before Python reads it, their members before they unpack."""

from __future__ import annotations

import os
import struct
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from flame_nerf.runtime.door.opening import COPY, foreign
from flame_nerf.runtime.words import printable

MOST_MEMBERS = 4096
LARGEST_DIRECTORY = 4 << 20
"""Bytes of the list of members; Python makes an object of each before anyone can count them."""
LARGEST_RATIO = 400
"""How many times its packed size a large member may have unpacked: real ones stay below 20, a bomb's is a thousand."""
RATIO_FROM = 64 << 20
"""Bytes below which a member may be of zeros alone."""
_END, _END_64, _LOCATOR_64 = b"PK\x05\x06", b"PK\x06\x06", b"PK\x06\x07"


@contextmanager
def open_zip(
    stream: BinaryIO, path: Path | str, error: type[Exception], *, wanted: str = "a zip file", remedy: str = COPY
) -> Iterator[zipfile.ZipFile]:
    """A zip file, opened for reading, with no more members than any has and each of a kind that Python unpacks
    in little memory. What goes wrong inside the block is told as a fault of the file.

    Args:
        path: what to call it in errors.
        error: kind of error to raise.
        wanted: what it should be.
        remedy: what to do about a damaged one.

    Raises:
        error: it is none, damaged, encrypted, or made to harm.
    """
    with foreign(error, path, wanted, remedy):
        size = _directory_size(stream)
        if size > LARGEST_DIRECTORY:
            raise error(f"{path}: its list of members takes {size / 1e6:.0f} MB, more than any real one's. {remedy}")
        stream.seek(0)
        with zipfile.ZipFile(stream) as archive:
            found = archive.infolist()
            if len(found) > MOST_MEMBERS:
                raise error(f"{path}: holds {len(found)} members; {MOST_MEMBERS} at most. {remedy}")
            for member in found:
                _check(member, path, error, remedy)
            if sum(member.compress_size for member in found) > stream.seek(0, os.SEEK_END):
                raise error(f"{path}: its members lie over each other, so that few bytes unpack to many. {remedy}")
            yield archive


def _check(member: zipfile.ZipInfo, path: Path | str, error: type[Exception], remedy: str) -> None:
    name = f"{path}: {printable(member.filename[:100])}"
    if member.flag_bits & 1:
        raise error(f"{name} is encrypted. {remedy}")
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        # Others may ask for gigabytes to unpack a byte.
        raise error(f"{name} is packed by method {member.compress_type}; pack it as an ordinary zip does.")
    if member.file_size > RATIO_FROM and member.file_size > LARGEST_RATIO * max(1, member.compress_size):
        raise error(
            f"{name} unpacks to {member.file_size / 1e6:.0f} MB from {member.compress_size / 1e6:.1f} MB, as "
            f"no real one does. {remedy}"
        )


def _directory_size(stream: BinaryIO) -> int:
    """Bytes of the directory, by the record at the file's end."""
    size = stream.seek(0, os.SEEK_END)
    stream.seek(max(0, size - 22 - 0xFFFF))
    tail = stream.read()
    at = tail.rfind(_END)
    if at < 0 or len(tail) - at < 22:
        raise zipfile.BadZipFile("it has no list of members, perhaps cut short")
    length: int = struct.unpack_from("<I", tail, at + 12)[0]
    if at >= 20 and tail[at - 20 : at - 16] == _LOCATOR_64:
        stream.seek(min(struct.unpack_from("<Q", tail, at - 12)[0], size))
        record = stream.read(56)
        if record.startswith(_END_64) and len(record) == 56:
            length = max(length if length != 0xFFFFFFFF else 0, struct.unpack_from("<Q", record, 40)[0])
    return length
