"""Damage to files, of the kinds that are met and of those that are made: bytes, JSON values, cells, arrays, members."""

from __future__ import annotations

import functools
import io
import json
import pickletools
import random
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from fuzzing.archives import members, packed

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
LONG = ("9" * 400, 10**4000, "a" * 5000, [[0]] * 50, [0] * 1000, {"a": {"b": [1]}})
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
YAML = (
    *(b"&a [*a, *a]", b"*id001", b"&b {<<: *b}", b"{<<: [1]}", b"{? [1] : 2}", b"{[]: 1}", b"!!omap [1]", b"!!set {a}"),
    *(b'!!int ""', b"!!int 1:99999:x", b'!!float ""', b"!!float x", b"!!bool x", b"!!timestamp x", b"2001-13-45"),
    *(b"!!binary '#'", b"!!null x", b"!!str [1]", b"!!seq x", b"!!map x", b"!x y", b"0o9", b"0b", b"1:2:3", b".nan"),
    *(b"!!python/tuple 1", b"!!python/complex x", b"!!python/long x", b"!!python/bytes x", b"!!python/dict [1]"),
    *(b"!!python/name:os.system", b"!!python/module:os", b"!!python/object/apply:os.system [echo]", b"!!python/name:"),
    *(b"!!python/object/apply:pathlib.PosixPath [1]", b"!!python/object/apply:pathlib.PosixPath x"),
    *(
        b"!!python/object/new:pathlib.PurePath {args: 1}",
        b"!!python/object:torch.Tensor {}",
        b"!!python/object:pathlib.Path 1",
    ),
    *(
        b"!!python/object:nerfstudio.configs.base_config.ViewerConfig",
        b"!!python/name:torch.nothing",
        b"!!python/name:torch",
    ),
    *(
        b"!!python/object/apply:nerfstudio.configs.base_config.ViewerConfig {kwds: 1}",
        b"!!python/object:nerfstudio.x.Y {}",
    ),
    *(b"!!python/object/new:nerfstudio.configs.base_config.ViewerConfig {listitems: 1}", b"!!python/object: {}"),
    *(
        b"!!python/object/new:nerfstudio.configs.base_config.ViewerConfig {dictitems: [1], state: 1}",
        b"%TAG ! x",
        b"--- 1",
    ),
)
"""What a setting of a config may say: loops, marks of kinds, and names that it may and may not give."""
INSTRUCTIONS = (
    *(b"N", b"]", b"}", b")", b"(", b"0", b"2", b".", b"a", b"e", b"s", b"u", b"t", b"\x85", b"R", b"b", b"\x81", b"Q"),
    *(b"K\xff", b"J\xff\xff\xff\x7f", b"J\x00\x00\x00\x80", b"\x8b\xff\xff\xff\x7f", b"G\x7f\xf8" + bytes(6)),
    *(b"h\x00", b"q\x00", b"U\x01x", b"X\xff\xff\xff\x7f", b"cnumpy\nndarray\n", b"cos\nsystem\n"),
)
"""Of pickles: values, marks, calls, memory, and names that they may and may not give."""
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
        ".yml": _yaml,
        ".frame": _zip,
        ".pkl": _pickle,
        ".png": _png,
    }
    kind = by_kind.get(Path(name).suffix.lower())
    # Bytes of an archive that are damaged blindly only ever miss their checksum.
    blindly = 0.1 if kind in (_npz, _zip, _png) else 0.25
    for _ in range(random_.choice((1, 1, 2, 3))):
        if kind is not None and random_.random() >= blindly:
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


def _yaml(data: bytes, random_: random.Random) -> bytes:
    """A setting exchanged for something that YAML has a way to say, or a cell changed."""
    if random_.random() < 0.4:
        return _table(data, random_)
    lines = data.split(b"\n")
    row = random_.choice([row for row, line in enumerate(lines) if b":" in line])
    key, _, value = lines[row].partition(b": ")
    new = random_.choice(YAML) if random_.random() < 0.8 else str(_value(random_)).encode("utf-8", "surrogatepass")
    lines[row] = key + b": " + new + (b" " + value if random_.random() < 0.3 else b"")
    return b"\n".join(lines)


def _npz(data: bytes, random_: random.Random) -> bytes:
    """One array of an archive changed, or its header made to lie."""
    if random_.random() < 0.3:
        return _zip(data, random_)
    parts = list(members(data))
    place = random_.randrange(len(parts))
    if random_.random() < 0.1:
        del parts[place]
    else:
        name, content = parts[place]
        parts[place] = name, _npy(content, random_)
    return packed(parts, zipfile.ZIP_STORED)


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
    parts = list(members(data))
    place = random_.randrange(len(parts))
    name, content = parts[place]
    way = random_.randrange(8)
    if way == 0:
        del parts[place]
    elif way == 1:
        others = ("none", "a/../../b", "/etc/x", "x" * 300, parts[random_.randrange(len(parts))][0], f"{name}.npy")
        parts[place] = random_.choice(others), content
    elif way == 2:
        parts.append((name, content))
    else:
        parts[place] = name, mutated(content, name, random_)
    return packed(parts, random_.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)))


def _pickle(data: bytes, random_: random.Random) -> bytes:
    """One instruction of a pickle dropped, doubled, moved, or another in its place."""
    places = _instructions(data)
    place = random_.randrange(len(places) - 1)
    start, end = places[place], places[place + 1]
    way = random_.randrange(5)
    if way == 0:
        return data[:start] + data[end:]
    if way == 1:
        return data[:end] + data[start:]
    if way == 2:
        other = random_.randrange(len(places) - 1)
        return data[:start] + data[places[other] : places[other + 1]] + data[end:]
    return data[:start] + random_.choice(INSTRUCTIONS) + data[end if way == 3 else start :]


@functools.lru_cache(maxsize=32)
def _instructions(data: bytes) -> tuple[int, ...]:
    """Where each instruction of a pickle begins."""
    return tuple(place for _, _, place in pickletools.genops(data) if place is not None)


def _png(data: bytes, random_: random.Random) -> bytes:
    """One chunk of a PNG damaged, dropped or doubled, its checksum made to fit."""
    chunks, at = [], 8
    while at < len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        chunks.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + length]))
        at += length + 12
    place = random_.randrange(len(chunks))
    kind, content = chunks[place]
    way = random_.randrange(6)
    if way == 0:
        del chunks[place]
    elif way == 1:
        chunks.insert(random_.randrange(len(chunks) + 1), chunks[place])
    elif way == 2:
        kind = random_.choice((b"tRNS", b"iCCP", b"zTXt", b"eXIf", b"acTL", b"PLTE"))
        chunks.insert(1, (kind, random_.randbytes(random_.choice((0, 1, 13, 60)))))
    else:
        chunks[place] = kind, _bytes(content, random_)
    parts = (len(content).to_bytes(4, "big") + kind + content + zlib.crc32(kind + content).to_bytes(4, "big")
             for kind, content in chunks)  # fmt: skip
    return data[:8] + b"".join(parts)
