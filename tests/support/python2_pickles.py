"""Pickles as Python 2 left them: protocol 2, byte strings, numpy.core, scipy's and chumpy's objects."""

from __future__ import annotations

import io
import pickle
import struct
from pathlib import Path
from typing import ClassVar

import numpy as np
from scipy.sparse import csc_matrix


def write_flame_pickle(path: Path | str, model: dict[str, np.ndarray], *, chumpy: bool = True) -> Path:
    """Write a model as Python 2 left FLAME's pickles: protocol 2, byte strings, numpy.core, scipy and chumpy objects.

    Args:
        chumpy: wrap template and shape basis in chumpy objects, as the 2020 files have them; plain arrays otherwise.
    """
    wrap = _Ch if chumpy else np.asarray
    regressor = csc_matrix(model["J_regressor"])
    content = {
        "f": model["f"],
        "J_regressor": _Csc(regressor),
        "kintree_table": model["kintree_table"],
        "J": np.asarray(model["J_regressor"]) @ model["v_template"],
        "weights": wrap(model["weights"]),
        "posedirs": wrap(model["posedirs"]),
        "v_template": wrap(model["v_template"]),
        "shapedirs": wrap(model["shapedirs"]),
        "bs_style": "lbs",
        "bs_type": "lrotmin",
    }
    return write_python2_pickle(path, content)


def write_python2_pickle(path: Path | str, content: object) -> Path:
    """Any plain content, arrays included, in the opcodes that Python 2 with old numpy used."""
    stream = io.BytesIO()
    _Python2Pickler(stream, protocol=2).dump(content)
    path = Path(path)
    path.write_bytes(stream.getvalue())
    return path


class _Ch:
    """What is left of a chumpy.ch.Ch in a pickle: its array under `x` among bookkeeping."""

    def __init__(self, array: np.ndarray) -> None:
        self._dirty_vars = set()
        self._itr = None
        self._status = "new"
        self.x = array


class _Csc:
    """What is left of a scipy.sparse.csc.csc_matrix of scipy before 1.8."""

    def __init__(self, matrix: csc_matrix) -> None:
        self.__dict__.update(
            _shape=matrix.shape, maxprint=50, indices=matrix.indices, indptr=matrix.indptr, data=matrix.data
        )


OLD_NAMES = {_Ch: ("chumpy.ch", "Ch"), _Csc: ("scipy.sparse.csc", "csc_matrix")}


class _Python2Pickler(pickle._Pickler):
    """Python's own pickler, with strings and names as Python 2 and numpy 1 wrote them."""

    dispatch: ClassVar[dict] = dict(pickle._Pickler.dispatch)

    def save_text(self, value: bytes | str) -> None:
        raw = value if isinstance(value, bytes) else value.encode("latin1")
        short = len(raw) < 256
        head = pickle.SHORT_BINSTRING + bytes([len(raw)]) if short else pickle.BINSTRING + struct.pack("<i", len(raw))
        self.write(head + raw)
        self.memoize(value)

    def save_global(self, obj, name=None) -> None:
        module, name = OLD_NAMES.get(obj, (obj.__module__, name or obj.__name__))
        module = module.replace("numpy._core", "numpy.core").replace("builtins", "__builtin__")
        self.write(pickle.GLOBAL + f"{module}\n{name}\n".encode())
        self.memoize(obj)

    def save_type(self, obj) -> None:
        self.save_global(obj)

    def save_set(self, obj) -> None:
        self.save_reduce(set, (list(obj),), obj=obj)

    dispatch[bytes] = save_text
    dispatch[str] = save_text
    dispatch[type] = save_type
    dispatch[set] = save_set
