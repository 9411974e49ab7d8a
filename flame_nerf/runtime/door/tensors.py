"""Torch files that others made, read as tensors and plain values alone."""

from __future__ import annotations

import pickle
import re
from pathlib import Path
from typing import Any

from flame_nerf.runtime.door.opening import COPY, LARGEST, check_kind, foreign, is_zip, open_file
from flame_nerf.runtime.door.zips import open_zip

LARGEST_TORCH = LARGEST // 4
"""Bytes of a torch file, and of all that it says its tensors hold; each number counts as eight."""
_STARTS = (b"PK", b"\x80")
MOST_VALUES = 1_000_000
"""Lists, texts and numbers that it may hold beside its tensors."""


def read_torch(path: Path, error: type[Exception], known: list[Any], *, remedy: str = COPY) -> Any:
    """A torch pickle, of which only arrays, tensors and plain values are read; nothing in it is run.

    Args:
        error: kind of error to raise.
        known: further functions and classes that it may name.
        remedy: what to do about a damaged one.

    Raises:
        error: it is missing, damaged, asks for code to be run, or claims more than it may hold.
    """
    import torch

    check_kind(path, error, "a torch file", _STARTS)
    with open_file(path, error, "a torch file", largest=LARGEST_TORCH) as stream:
        if is_zip(path):
            with open_zip(stream, path, error, remedy=remedy) as archive:
                if sum(entry.file_size for entry in archive.infolist()) > LARGEST_TORCH:
                    raise error(f"{path}: unpacks to over {LARGEST_TORCH >> 20} MB, more than it may. {remedy}")
            stream.seek(0)
        with foreign(error, path, "a torch file", remedy):
            try:
                with torch.serialization.safe_globals(known):
                    payload = torch.load(stream, map_location="cpu", weights_only=True)
            except pickle.UnpicklingError as problem:
                named = re.search(r"GLOBAL (\S+)|class (\S+)|Unsupported operand|global (\S+)", str(problem))
                what = next((group for group in (named.groups() if named else ()) if group), "more than arrays")
                raise error(
                    f"{path} asks for {what}, which is no part of such a file's data. A pickle can run any program "
                    "when it is opened, so this one was refused. Get the file from its original source."
                ) from problem
            if _cost(payload) > LARGEST_TORCH:
                raise error(f"{path}: claims arrays of over {LARGEST_TORCH >> 20} MB, more than it may hold. {remedy}")
    return payload


def _cost(payload: Any) -> int:
    """Bytes that all arrays in a payload take when they are made whole, as float64."""
    import numpy as np
    import torch

    todo, cost, steps = [payload], 0, 0
    while todo:
        value = todo.pop()
        steps += 1
        if steps > MOST_VALUES:
            return LARGEST_TORCH + 1
        if isinstance(value, dict):
            todo.extend(value.values())
        elif isinstance(value, list | tuple | set):
            todo.extend(value)
        elif isinstance(value, torch.Tensor):
            cost += 8 * value.numel()
        elif isinstance(value, np.ndarray):
            cost += 8 * value.size
    return cost
