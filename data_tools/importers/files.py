"""Reading what others wrote: JSON, npz and numbers, without trusting names, types or paths."""

from __future__ import annotations

import json
import os
import re
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from data_tools.importers.config import ImportingError


def inside(root: Path, name: Any, where: str, also: Sequence[Path] = ()) -> Path:
    """The file that data name, if it lies in their folder.

    Args:
        root: the folder that relative names start from.
        name: as written, with either kind of slash.
        where: file and field to name in errors.
        also: further folders that the data may point into.

    Raises:
        ImportingError: no name, or one that leads out of the folders.
    """
    if not isinstance(name, str) or not name or "\0" in name:
        raise ImportingError(f"{where} is {name!r}, expected the name of a file.")
    # Lexically: a link inside the folder is its owner's business, `..` in a downloaded file is not.
    path = Path(os.path.normpath(root / name.replace("\\", "/")))
    folders = [Path(os.path.normpath(folder)) for folder in (root, *also)]
    if not any(path.is_relative_to(folder) for folder in folders):
        raise ImportingError(
            f"{where} is {name!r}, which leads out of {root}. Refused: data may only name files of their own folder. "
            "Copy the file into the folder and correct the name."
        )
    return path


def read_json(path: Path) -> dict[str, Any]:
    """A JSON file that holds an object.

    Raises:
        ImportingError: it is missing, no JSON, or something else.
    """
    try:
        content = json.loads(path.read_bytes().decode("utf-8-sig"))
    except FileNotFoundError:
        raise ImportingError(f"{path} does not exist.") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ImportingError(f"{path}: no valid JSON ({error}). Copy it again, it may be cut short.") from error
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
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except FileNotFoundError:
        raise ImportingError(f"{path} does not exist.") from None
    except ValueError as error:
        if "pickle" not in str(error).lower():
            raise ImportingError(f"{path} is no readable npz ({error}).") from error
        raise ImportingError(
            f"{path} holds pickled Python objects, which can run code when read. Refused: save it as plain arrays."
        ) from error
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, AttributeError, NotImplementedError) as error:
        raise ImportingError(f"{path} is damaged or no npz ({error}). Copy it again.") from error


def natural(name: str | Path) -> list[Any]:
    """Sorting key by which 10 comes after 9."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", str(name))]


def existing(path: Path, endings: Sequence[str] = (".png", ".jpg", ".jpeg", ".PNG", ".JPG")) -> Path:
    """The file of that name, or of that name with a picture's ending; the first guess if there is none."""
    if path.is_file():
        return path
    for ending in endings:
        candidate = path.with_name(path.name + ending)
        if candidate.is_file():
            return candidate
    return path if path.suffix else path.with_name(path.name + endings[0])
