"""Damage to files, of the kinds that are met and of those that are made: bytes, JSON values, cells, arrays, members."""

from __future__ import annotations

import io
import json
import random
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

NUMBERS = (0, -1, 1, 2, 255, 2**31 - 1, 2**31, -(2**31), 2**63, -(2**63) - 1, 10**30, 0.5, -0.0, 1e-300, 1e300, 1e308)
NOT_NUMBERS = (
    float("nan"),
    float("inf"),
    float("-inf"),
    "",
    "x",
    "1e999",
    "0x10",
    "٣",
    "\ud800",
    None,
    True,
    [],
    {},
    "../../etc/passwd",
)
LONG = ("9" * 400, "a" * 5000, [[0]] * 50, [0] * 1000, {"a": {"b": [1]}})
WORDS = (
    b"\x00",
    b"\xff" * 4,
    b"\x7f\xff\xff\xff",
    b"\x80\x00\x00\x00",
    b"\xff" * 8,
    b"[" * 400,
    b'"',
    b"nan",
    b"1e999",
    b"PK\x03\x04",
)
TYPES = ("<f8", "<f4", "<f2", "<i8", "<i4", "|i1", "|u1", "<u8", "|b1", "<c16", "<U3", "|S3")


def mutated(data: bytes, name: str, random_: random.Random) -> bytes:
    """A file's bytes, damaged at one to three places as suits its kind, or blindly.

    Args:
        data: the whole file.
        name: its name, whose ending tells its kind.
    """
    by_kind = {
        ".json": _json,
        ".csv": _table,
        ".txt": _table,
        ".npz": _npz,
        ".zip": _zip,
        ".npy": _npy,
        ".obj": _table,
        ".yml": _table,
        ".frame": _zip,
    }
    kind = by_kind.get(Path(name).suffix.lower())
    for _ in range(random_.choice((1, 1, 2, 3))):
        if kind is not None and random_.random() < 0.75:
            try:
                data = kind(data, random_)
                continue
            except Exception:  # noqa: BLE001 -- damaged so far that only bytes are left to damage
                pass
        data = _bytes(data, random_)
    return data


def _bytes(data: bytes, random_: random.Random) -> bytes:
    """Bits turned, parts cut, doubled, moved or written over."""
    out = bytearray(data)
    at = random_.randrange(len(out) + 1)
    length = random_.choice((1, 2, 4, 8, 64, 1024))
    way = random_.randrange(7)
    if way == 0 and at < len(out):
        out[at] ^= 1 << random_.randrange(8)
    elif way == 1:
        del out[at:]
    elif way == 2:
        del out[at : at + length]
    elif way == 3:
        out[at:at] = out[at : at + length]
    elif way == 4:
        word = random_.choice(WORDS)
        out[at : at + len(word)] = word
    elif way == 5:
        out[at:at] = random_.choice(WORDS)
    else:
        out[at : at + length] = random_.randbytes(length)
    return bytes(out)


def _value(random_: random.Random) -> Any:
    return random_.choice(random_.choice((NUMBERS, NOT_NUMBERS, LONG)))


def _json(data: bytes, random_: random.Random) -> bytes:
    """One value anywhere in a document changed, dropped, doubled or exchanged."""
    document = json.loads(data)
    spots: list[tuple[Any, Any]] = []
    todo = [document]
    while todo:
        held = todo.pop()
        for key in list(held) if isinstance(held, dict) else range(len(held)):
            spots.append((held, key))
            if isinstance(held[key], dict | list):
                todo.append(held[key])
    if not spots or random_.random() < 0.02:
        return json.dumps(_value(random_)).encode("utf-8", "surrogatepass")
    holder, key = random_.choice(spots)
    way = random_.randrange(6)
    if way == 0:
        del holder[key]
    elif way == 1 and isinstance(holder, list):
        holder.insert(random_.randrange(len(holder) + 1), holder[key])
    elif way == 2:
        other, place = random_.choice(spots)
        holder[key] = (
            json.loads(json.dumps(other[place]))
            if place in (other if isinstance(other, dict) else range(len(other)))
            else None
        )
    elif way == 3 and isinstance(holder[key], int | float):
        holder[key] = holder[key] * random_.choice((-1, 1e-6, 1e3, 1e6, 1e300))
    else:
        holder[key] = _value(random_)
    return json.dumps(document).encode("utf-8", "surrogatepass")


def _table(data: bytes, random_: random.Random) -> bytes:
    """One cell, word or line of a text changed."""
    lines = data.split(b"\n")
    row = random_.randrange(len(lines))
    separator = next((mark for mark in (b",", b"\t", b":", b" ") if mark in lines[row]), b" ")
    cells = lines[row].split(separator)
    column = random_.randrange(len(cells))
    way = random_.randrange(6)
    if way == 0:
        del cells[column]
    elif way == 1:
        cells.insert(column, cells[column])
    elif way == 2:
        lines.insert(row, lines[random_.randrange(len(lines))])
    else:
        cells[column] = str(_value(random_)).encode("utf-8", "surrogatepass")
    lines[row] = separator.join(cells)
    return b"\n".join(lines)


def _npz(data: bytes, random_: random.Random) -> bytes:
    """One array of an archive changed, or its header made to lie."""
    if random_.random() < 0.3:
        return _zip(data, random_)
    with np.load(io.BytesIO(data), allow_pickle=False) as archive:
        arrays = dict(archive)
    name = random_.choice(sorted(arrays))
    if random_.random() < 0.1:
        del arrays[name]
    else:
        arrays[name] = _array(arrays[name], random_)
    out = io.BytesIO()
    np.savez(out, **arrays)
    return out.getvalue()


def _npy(data: bytes, random_: random.Random) -> bytes:
    out = io.BytesIO()
    np.save(out, _array(np.load(io.BytesIO(data), allow_pickle=False), random_))
    return out.getvalue()


def _array(array: np.ndarray, random_: random.Random) -> np.ndarray:
    way = random_.randrange(8)
    if way == 0:
        with np.errstate(all="ignore"):
            return array.astype(random_.choice(TYPES))
    if way == 1:
        return array[: random_.randrange(len(array) + 1)] if array.ndim else array.reshape(1)
    if way == 2:
        return array[..., None] if random_.random() < 0.5 else array.reshape(-1)
    if way == 3:
        return array.T
    if way == 4:
        return np.zeros(tuple(random_.choice((0, 1, 2, side)) for side in array.shape), array.dtype)
    if way == 5:
        return np.array(_value(random_), dtype=object).astype("U")
    if way == 6 and array.dtype.kind == "f":
        return array * array.dtype.type(random_.choice((-1, 0, 1e-6, 1e3, 1e30, np.inf)))
    changed = array.copy()
    if changed.size and changed.dtype.kind in "fiu":
        place = random_.randrange(changed.size)
        limits = (
            (np.nan, np.inf, 1e30, -1.0, 0.0)
            if changed.dtype.kind == "f"
            else (0, np.iinfo(changed.dtype).max, np.iinfo(changed.dtype).min)
        )
        changed.reshape(-1)[place] = random_.choice(limits)
    return changed


def _zip(data: bytes, random_: random.Random) -> bytes:
    """One member of an archive damaged, renamed, dropped or doubled, its checksum made to fit."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        parts = [(entry, archive.read(entry)) for entry in archive.infolist()]
    place = random_.randrange(len(parts))
    entry, content = parts[place]
    way = random_.randrange(6)
    if way == 0:
        del parts[place]
    elif way == 1:
        entry.filename = random_.choice(
            ("", "a/../../b", "x" * 300, parts[random_.randrange(len(parts))][0].filename, f"{entry.filename}.npy")
        )
    elif way == 2:
        parts.append((entry, content))
    else:
        parts[place] = (entry, mutated(content, entry.filename, random_))
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", random_.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))) as archive:
        for entry, content in parts:
            archive.writestr(entry.filename or "none", content)
    return out.getvalue()
