"""Text and JSON that other programs wrote, in whichever Unicode they saved it, with errors that say what is so."""

from __future__ import annotations

import codecs
import json
from pathlib import Path
from typing import Any

MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
"""Byte order marks that files begin with; UTF-32's little one begins with UTF-16's."""


def read_text(path: Path, error: type[Exception]) -> str:
    """A text file in UTF-8, UTF-16 or UTF-32, with a byte order mark or without.

    Args:
        error: kind of error to raise.

    Raises:
        error: it is missing, cannot be read, or is no such text; says which.
    """
    data = _bytes(path, error)
    encoding = next((name for mark, name in MARKS if data.startswith(mark)), None) or _unmarked(data)
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as problem:
        raise error(
            f"{path}: is no Unicode text (byte {problem.start} does not belong to {encoding.upper()}). Save it again "
            "as UTF-8."
        ) from None
    if "\0" in text:
        raise error(f"{path}: is no text, it holds zero bytes. Is it another kind of file, or badly copied?")
    return text


def read_json(path: Path, error: type[Exception]) -> Any:
    """The content of a JSON file in any Unicode encoding.

    Args:
        error: kind of error to raise.

    Raises:
        error: it is missing, no text, empty, ends too soon, or is no JSON; names the line.
    """
    text = read_text(path, error)
    if not text.strip():
        raise error(f"{path}: is empty. Write it again.")
    try:
        return json.loads(text)
    except json.JSONDecodeError as problem:
        if problem.pos >= len(text.rstrip()) or problem.msg.startswith("Unterminated string"):
            raise error(f"{path}: its JSON ends too soon, in line {problem.lineno}. Copy or export it again.") from None
        raise error(
            f"{path}: is no valid JSON: line {problem.lineno}, column {problem.colno}: {problem.msg}. Correct it, or "
            "export it again."
        ) from None
    except (RecursionError, ValueError) as problem:
        raise error(f"{path}: its JSON cannot be read ({problem}). Export it again.") from None


def _bytes(path: Path, error: type[Exception]) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise error(f"{path} does not exist. Check the path.") from None
    except IsADirectoryError:
        raise error(f"{path} is a folder, expected a file.") from None
    except (OSError, ValueError) as problem:
        raise error(f"{path}: cannot be read ({getattr(problem, 'strerror', None) or problem}).") from None


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
