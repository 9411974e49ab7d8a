"""Named arrays of other people's files (.pkl, .npz, .npy), read without running anything in them, and checked."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from flame_nerf.heads.io import HeadModelError
from flame_nerf.runtime.door import open_file, read_array, read_npz
from flame_nerf.runtime.door.pickles import PlainPickleError, read_plain_pickle

NPZ, NPY = b"PK\x03\x04", b"\x93NUMPY"


def read_arrays(path: Path | str) -> dict[str, Any]:
    """Named arrays of a .pkl, .npz or .npy (one that holds a mapping), nothing in it executed.

    Raises:
        HeadModelError: the file is missing, damaged, asks for code to be run, or is no mapping of names to arrays.
    """
    path = Path(path)
    with open_file(path, HeadModelError, "a head model's file", missing=f"no file at {path}: check the path") as stream:
        magic = stream.read(6)
        stream.seek(0)
        if not magic.startswith((NPZ, NPY)):
            try:
                found = read_plain_pickle(stream)
            except PlainPickleError as error:
                raise HeadModelError(f"{path}: {error}") from error
    if magic.startswith(NPZ):
        found = read_npz(path, HeadModelError, objects=True)
    elif magic.startswith(NPY):
        found = read_array(path, HeadModelError, objects=True)
    if isinstance(found, np.ndarray) and found.dtype == object and found.size == 1:
        found = found.reshape(-1)[0]
    if not isinstance(found, dict):
        raise HeadModelError(f"{path} holds a {type(found).__name__}, expected named arrays")
    return {str(name): value for name, value in found.items()}


class ArraySource:
    """The arrays of one file, with checks that name it."""

    def __init__(self, arrays: Mapping[str, Any], path: Path) -> None:
        self._arrays, self._path = arrays, path

    def error(self, name: str, problem: str) -> HeadModelError:
        return HeadModelError(f"{self._path}: field '{name}' {problem}")

    def floats(self, name: str, shape: tuple[int | None, ...]) -> Float[np.ndarray, "..."]:
        value = self._array(name, shape, "fiu").astype(np.float64)
        if not np.isfinite(value).all():
            raise self.error(name, f"has {np.count_nonzero(~np.isfinite(value))} values not finite; copy the file anew")
        return value

    def integers(
        self, name: str, shape: tuple[int | None, ...], limit: int | None = None, signed: bool = True
    ) -> Int[np.ndarray, "..."]:
        value = self._array(name, shape, "iuf").astype(np.int64)
        if signed and limit is not None and not 0 <= value.min() <= value.max() < limit:
            raise self.error(name, f"has rows outside 0..{limit - 1}")
        return value

    def basis(self, name: str, vertices: int) -> Float[np.ndarray, "V 3 K"]:
        """A linear basis whatever the order of its axes: (V,3,K), (K,V,3), (3V,K) or (K,3V)."""
        value = self._array(name, (), "fiu")
        shape = value.shape
        if len(shape) == 3 and shape[:2] == (vertices, 3):
            pass
        elif len(shape) == 3 and shape[1:] == (vertices, 3):
            value = value.transpose(1, 2, 0)
        elif len(shape) == 2 and shape[0] == 3 * vertices:
            value = value.reshape(vertices, 3, -1)
        elif len(shape) == 2 and shape[1] == 3 * vertices:
            value = value.T.reshape(vertices, 3, -1)
        else:
            raise self.error(name, f"has shape {shape}, expected ({vertices}, 3, K) or (K, {vertices}, 3)")
        if not np.isfinite(value).all():
            raise self.error(name, f"has {np.count_nonzero(~np.isfinite(value))} values not finite; copy the file anew")
        return value.astype(np.float64)

    def _array(self, name: str, shape: tuple[int | None, ...], kinds: str) -> np.ndarray:
        if name not in self._arrays:
            raise self.error(name, f"is missing; the file has {', '.join(sorted(self._arrays)[:12])}")
        value = self._arrays[name]
        if isinstance(value, np.ndarray) and value.dtype == object and value.size == 1:
            value = value.reshape(-1)[0]
        if not isinstance(value, np.ndarray | list) or np.asarray(value).dtype.kind not in kinds:
            raise self.error(name, f"is a {type(value).__name__}, expected an array of numbers")
        value = np.asarray(value)
        if shape and (
            value.ndim != len(shape) or any(w is not None and h != w for h, w in zip(value.shape, shape, strict=True))
        ):
            wanted = ", ".join("any" if size is None else str(size) for size in shape)
            raise self.error(name, f"has shape {value.shape}, expected ({wanted})")
        if not value.size:
            raise self.error(name, f"has shape {value.shape}: it is empty")
        return value
