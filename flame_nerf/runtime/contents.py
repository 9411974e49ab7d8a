"""A name for what something contains, so that finished work is used again for the same and for nothing else."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path
from typing import Any

import numpy as np


def named_by_contents(*things: Any) -> str:
    """The same short text for the same contents, in every process and on every machine.

    Args:
        things: texts, numbers, bools, None, arrays, tuples, lists and dataclasses of such; and paths, of which the
            file's bytes count, not its name.

    Raises:
        OSError: a file cannot be read.
    """
    hashed = hashlib.sha256()
    for thing in things:
        hashed.update(_of(thing))
    return hashed.hexdigest()[:24]


def _of(thing: Any) -> bytes:
    """32 bytes for one thing, kind included."""
    # A file is one on every system.
    hashed = hashlib.sha256(b"file" if isinstance(thing, Path) else type(thing).__name__.encode())
    if isinstance(thing, Path):
        with thing.open("rb") as file:
            while part := file.read(1 << 20):
                hashed.update(part)
    elif isinstance(thing, np.ndarray):
        hashed.update(f"{thing.dtype.str}{thing.shape}".encode())
        hashed.update(np.ascontiguousarray(thing).tobytes())
    elif isinstance(thing, tuple | list):
        for part in thing:
            hashed.update(_of(part))
    elif dataclasses.is_dataclass(thing) and not isinstance(thing, type):
        for field in dataclasses.fields(thing):
            hashed.update(field.name.encode() + b"=" + _of(getattr(thing, field.name)))
    else:
        hashed.update(repr(thing).encode())
    return hashed.digest()
