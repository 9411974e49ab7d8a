"""Reading what others wrote: JSON, npz and numbers, without trusting types or shapes."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from data_tools.importers.config import ImportingError
from data_tools.runs import text_files
from data_tools.runs.file_kinds import ZIP, check_kind


def read_json(path: Path) -> dict[str, Any]:
    """A JSON file that holds an object.

    Raises:
        ImportingError: it is missing, no JSON, or something else.
    """
    content = text_files.read_json(path, ImportingError)
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
    keys = ", ".join(sorted(map(str, found))[:12]) if found else "nothing"
    return f"it has {keys}. Perhaps a newer version wrote it, or it is another format: name the format yourself."


def field(content: dict[str, Any], name: str, where: str) -> Any:
    """A field that must be there."""
    if name not in content:
        raise ImportingError(f"{where}: {name} is missing; {version_hint(content)}")
    return content[name]


def array(values: Any, shape: tuple[int | None, ...], where: str) -> np.ndarray:
    """Numbers of a known shape, float64. Numbers written as text count as numbers.

    Args:
        shape: None where any length will do.

    Raises:
        ImportingError: not numbers, not finite, or another shape.
    """
    try:
        result = np.asarray(values)
        result = (np.char.strip(result) if result.dtype.kind == "U" else result).astype(np.float64)
    except (ValueError, TypeError) as error:
        raise ImportingError(f"{where} is no array of numbers ({error}).") from error
    fits = result.ndim == len(shape) and all(
        want is None or have == want for have, want in zip(result.shape, shape, strict=True)
    )
    if not fits:
        wanted = " x ".join("any" if side is None else str(side) for side in shape) or "one number"
        raise ImportingError(f"{where} has shape {result.shape}, expected {wanted}.")
    if not np.isfinite(result).all():
        raise ImportingError(f"{where} holds NaN or infinite values.")
    return result


def number(content: dict[str, Any], name: str, where: str) -> float:
    """One number that must be there, perhaps written as text."""
    return float(array(field(content, name, where), (), f"{where}: {name}"))


def read_npz(path: Path) -> dict[str, np.ndarray]:
    """All arrays of an npz, unless they are pickled objects.

    Raises:
        ImportingError: it is missing, damaged, or holds Python objects.
    """
    check_kind(path, ImportingError, "an npz", (ZIP,))
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except ValueError as error:
        if "pickle" not in str(error).lower():
            raise ImportingError(f"{path} is no readable npz ({error}).") from error
        raise ImportingError(
            f"{path} holds pickled Python objects, which can run code when read. Refused: save it as plain arrays."
        ) from error
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, AttributeError, NotImplementedError) as error:
        raise ImportingError(f"{path} is damaged or no npz ({error}). Copy it again.") from error
