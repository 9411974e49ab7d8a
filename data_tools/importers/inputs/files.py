"""Reading what others wrote: JSON, npz and numbers, without trusting types or shapes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from data_tools.importers.config import ImportingError
from flame_nerf.runtime import door
from flame_nerf.runtime.door import check_kind, check_numbers

ZIP = b"PK"
"""How an npz begins."""


def read_json(path: Path) -> dict[str, Any]:
    """A JSON file that holds an object.

    Raises:
        ImportingError: it is missing, no JSON, or something else.
    """
    content = door.read_json(path, ImportingError)
    if not isinstance(content, dict):
        raise ImportingError(f"{path}: expected a JSON object, found a {type(content).__name__}.")
    return content


def frames_of(content: dict[str, Any], path: Path) -> list[dict[str, Any]]:
    """The `frames` of a transforms file."""
    frames = content.get("frames")
    if not isinstance(frames, list) or not all(isinstance(frame, dict) for frame in frames):
        raise ImportingError(f"{path}: frames is missing or no list of objects; {version_hint(content)}")
    return frames


def version_hint(found: Any) -> str:
    """What to say where fields are not the expected ones."""
    keys = ", ".join(sorted(str(key)[:80] for key in found)[:12]) if isinstance(found, dict) and found else "nothing"
    return f"it has {keys}. Perhaps a newer version wrote it, or it is another format: name the format yourself."


def field(content: dict[str, Any], name: str, where: str) -> Any:
    """A field that must be there."""
    if name not in content:
        raise ImportingError(f"{where}: {name} is missing; {version_hint(content)}")
    return content[name]


def array(values: Any, shape: tuple[int | None, ...] | None, where: str) -> np.ndarray:
    """Numbers of a known shape, float64. Numbers written as text count as numbers.

    Args:
        shape: None where any length will do; None itself for any shape at all.

    Raises:
        ImportingError: not numbers, not finite, or another shape.
    """
    return check_numbers(values, ImportingError, where, shape)


def flat(content: dict[str, Any], name: str, where: str, length: int | None = None) -> np.ndarray:
    """Numbers that must be there, one after the other whatever shape they have.

    Args:
        length: how many they must be, if that is known.
    """
    found = array(field(content, name, where), None, f"{where}: {name}")
    return array(found.ravel(), (length,), f"{where}: {name}")


def first_rows(content: dict[str, Any], name: str, where: str, shape: tuple[int, int]) -> np.ndarray:
    """The first rows of a matrix that must be there, which may have more."""
    matrix = array(field(content, name, where), None, f"{where}: {name}")
    return array(matrix[: shape[0]] if matrix.ndim else matrix, shape, f"{where}: {name}")


def number(content: dict[str, Any], name: str, where: str) -> float:
    """One number that must be there, perhaps written as text."""
    return float(array(field(content, name, where), (), f"{where}: {name}"))


def read_npz(path: Path) -> dict[str, np.ndarray]:
    """All arrays of an npz, unless they are pickled objects.

    Raises:
        ImportingError: it is missing, damaged, or holds Python objects.
    """
    check_kind(path, ImportingError, "an npz", (ZIP,))
    return door.read_npz(path, ImportingError)
