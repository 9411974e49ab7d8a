"""Text, JSON and tables that other programs wrote, in whichever Unicode they saved them, with errors that say what is
so."""

from __future__ import annotations

import codecs
import csv
import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np

from flame_nerf.runtime.door.opening import LARGEST, read_bytes

MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
"""Byte order marks that files begin with; UTF-32's little one begins with UTF-16's."""
LARGEST_TEXT = 256 << 20
"""Bytes of a text, a table or a JSON file."""
DEEPEST = 200
"""Brackets within brackets; nothing that is read here has more than ten."""
_LONGEST_NUMBER = re.compile(rb"\d{309}")
"""Whole numbers of so many digits are larger than any float, and arithmetic on them fails."""
_JSON_COSTS = ((b"[", 88), (b"{", 240), (b",", 40), (b'"', 36))
"""Bytes that Python takes at most for what each sign of a JSON text begins."""
_CELL, _ROW = 110, 260
"""The same for a table's cell and row, which readers hold twice on the way."""


def read_text(path: Path, error: type[Exception], *, largest: int = LARGEST_TEXT, missing: str = "") -> str:
    """A text file in UTF-8, UTF-16 or UTF-32, with a byte order mark or without.

    Args:
        error: kind of error to raise.
        largest: bytes that it may have.
        missing: what to say where there is none.

    Raises:
        error: it is missing, too large, cannot be read, or is no such text; says which.
    """
    return _decoded(read_bytes(path, error, "a text file", largest=largest, missing=missing), path, error)


def read_json(path: Path, error: type[Exception], *, remedy: str = "Export it again.", missing: str = "") -> Any:
    """The content of a JSON file in any Unicode encoding.

    Args:
        error: kind of error to raise.
        remedy: what to do about a damaged one.
        missing: what to say where there is none.

    Raises:
        error: it is missing, no text, empty, ends too soon, is no JSON, nested too deep, or would take too much memory;
            names the line where one is at fault.
    """
    data = read_bytes(path, error, "a JSON file", largest=LARGEST_TEXT, missing=missing)
    return parse_json(data, path, error, remedy=remedy)


def parse_json(data: bytes, where: Path | str, error: type[Exception], *, remedy: str = "Export it again.") -> Any:
    """What JSON in bytes says; arguments and errors as for `read_json`.

    Args:
        where: what to call it in errors.
    """
    text = _decoded(data, where, error)
    if not text.strip():
        raise error(f"{where}: is empty. Write it again.")
    check_nesting(data, where, error, "its JSON is", remedy)
    if _LONGEST_NUMBER.search(data):
        raise error(f"{where}: its JSON cannot be read (a number of over 308 digits). {remedy}")
    _check_cost(where, len(text) * (1 if data.isascii() else 4), data, _JSON_COSTS, error)
    try:
        return json.loads(text)
    except json.JSONDecodeError as problem:
        if problem.pos >= len(text.rstrip()) or problem.msg.startswith("Unterminated string"):
            raise error(f"{where}: its JSON ends too soon, in line {problem.lineno}. {remedy}") from None
        raise error(
            f"{where}: is no valid JSON: line {problem.lineno}, column {problem.colno}: {problem.msg}. Correct it, or: "
            f"{remedy}"
        ) from None
    except (RecursionError, MemoryError, ValueError) as problem:
        raise error(f"{where}: its JSON cannot be read ({str(problem)[:160]}). {remedy}") from None


def read_rows(path: Path, error: type[Exception], *, largest: int = LARGEST_TEXT) -> list[list[str]]:
    """Rows of cells of a CSV file.

    Args:
        error: kind of error to raise.
        largest: bytes that it may have.

    Raises:
        error: as `read_text`, or a cell that no table has, or more cells than memory.
    """
    return table_of(read_text(path, error, largest=largest), path, error)


def table_of(text: str, path: Path | str, error: type[Exception], *, separator: str = ",") -> list[list[str]]:
    """Rows of cells of a text; arguments and errors as for `read_rows`."""
    costs = ((separator.encode(), _CELL), (b"\n", _ROW), (b"\r", _ROW))
    _check_cost(path, 4 * len(text), text.encode("utf-8", "replace"), costs, error)
    try:
        return list(csv.reader(io.StringIO(text, newline=""), delimiter=separator))
    except (csv.Error, MemoryError) as problem:
        raise error(f"{path}: is no table ({problem}). Export it again.") from None


def _check_cost(
    where: Path | str, start: int, data: bytes, costs: tuple[tuple[bytes, int], ...], error: type[Exception]
) -> None:
    """Raises `error` where what a text unfolds to might take more memory than one file may."""
    cost = start + sum(data.count(sign) * size for sign, size in costs)
    if cost > LARGEST:
        raise error(
            f"{where}: has {len(data) / 1e6:.0f} MB, which would take {cost / 1e9:.1f} GB to read; {LARGEST / 1e9:.1f} "
            "GB is the most. Is it the right file? If so, cut it into shorter ones."
        )


def check_nesting(data: bytes, where: Path | str, error: type[Exception], what: str, remedy: str) -> None:
    """Raises `error` where a text has brackets within brackets within brackets, on which readers spend hours.

    Args:
        where: what to call it in errors.
        what: is nested, with its verb.
        remedy: what to do about it.
    """
    if _depth(data) > DEEPEST:
        raise error(f"{where}: {what} nested over {DEEPEST} deep, as no real one is. {remedy}")


def _depth(data: bytes) -> int:
    """Largest count of brackets that are open at once, those within texts among them."""
    if data.count(b"[") + data.count(b"{") <= DEEPEST:
        return 0
    letters = np.frombuffer(data, np.uint8)
    step = np.zeros(256, np.int8)
    step[[ord("["), ord("{")]], step[[ord("]"), ord("}")]] = 1, -1
    deepest, begun = 0, 0
    for start in range(0, len(letters), 1 << 22):
        open_ = begun + np.cumsum(step[letters[start : start + (1 << 22)]], dtype=np.int64)
        deepest, begun = max(deepest, int(open_.max())), int(open_[-1])
    return deepest


def _decoded(data: bytes, where: Path | str, error: type[Exception]) -> str:
    encoding = next((name for mark, name in MARKS if data.startswith(mark)), None) or _unmarked(data)
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as problem:
        raise error(
            f"{where}: is no Unicode text (byte {problem.start} does not belong to {encoding.upper()}). Save it again "
            "as UTF-8."
        ) from None
    if "\0" in text:
        raise error(f"{where}: is no text, it holds zero bytes. Is it another kind of file, or badly copied?")
    return text


def _unmarked(data: bytes) -> str:
    """Encoding of text without a mark, by where the zero bytes of its first letters are: JSON and tables begin in
    ASCII."""
    start = data[:4]
    if len(start) == 4 and start[0] and not any(start[1:]):
        return "utf-32-le"
    if len(start) == 4 and start[3] and not any(start[:3]):
        return "utf-32-be"
    if len(start) >= 2 and start[0] and not start[1]:
        return "utf-16-le"
    if len(start) >= 2 and start[1] and not start[0]:
        return "utf-16-be"
    return "utf-8"
