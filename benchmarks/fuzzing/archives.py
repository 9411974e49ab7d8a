"""Zip files taken apart and put together, quickly: members that stay as they are are neither read nor packed again."""

from __future__ import annotations

import functools
import io
import struct
import zipfile
import zlib
from collections.abc import Sequence

_LOCAL, _ENTRY, _END = struct.Struct("<4s5H3I2H"), struct.Struct("<4s6H3I5H2I"), struct.Struct("<4s4H2IH")
_UTF_8 = 0x800
_NEW_YEAR = 33
"""1980-01-01, as zip files write it."""


@functools.lru_cache(maxsize=64)
def members(data: bytes) -> tuple[tuple[str, bytes], ...]:
    """Names and contents."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return tuple((entry.filename, archive.read(entry)) for entry in archive.infolist())


def packed(parts: Sequence[tuple[str, bytes]], method: int) -> bytes:
    """A zip file of such members, stored or deflated, names as they are, even twice."""
    out, directory = bytearray(), bytearray()
    for name, content in parts:
        encoded, (stored, checksum) = name.encode("utf-8", "surrogatepass"), _stored(content, method)
        told = (20, _UTF_8, method, 0, _NEW_YEAR, checksum, len(stored), len(content), len(encoded), 0)
        directory += _ENTRY.pack(b"PK\x01\x02", 20, *told, 0, 0, 0, 0, len(out)) + encoded
        out += _LOCAL.pack(b"PK\x03\x04", *told) + encoded + stored
    start = len(out)
    return bytes(out + directory + _END.pack(b"PK\x05\x06", 0, 0, len(parts), len(parts), len(directory), start, 0))


@functools.lru_cache(maxsize=256)
def _stored(content: bytes, method: int) -> tuple[bytes, int]:
    """A member as it lies in the archive, and its checksum."""
    if method == zipfile.ZIP_STORED:
        return content, zlib.crc32(content)
    squeezer = zlib.compressobj(wbits=-15)
    return squeezer.compress(content) + squeezer.flush(), zlib.crc32(content)
