"""Reading the data out of other people's pickles without running anything that is in them.

A pickle is a program: what it names gets imported and called. Here the program runs on dummies instead. Objects are
rebuilt as inert records, the few names that numeric data needs (numpy arrays, scipy sparse matrices, chumpy arrays as
Python 2 left them) are understood and turned into numpy arrays by code of our own, and any other name ends the reading.
"""

from __future__ import annotations

import pickle
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, BinaryIO, ClassVar, Literal

import numpy as np

_ARRAY = {f"{core}.multiarray._reconstruct" for core in ("numpy.core", "numpy._core")}
_BUFFER = {f"{core}.numeric._frombuffer" for core in ("numpy.core", "numpy._core")}
_SCALAR = {f"{core}.multiarray.scalar" for core in ("numpy.core", "numpy._core")}
_SPARSE = {
    f"scipy.sparse.{module}.{kind}_matrix" for kind in ("csc", "csr") for module in (kind, f"_{kind}")
}  # fmt: skip
_BUILTINS = ("__builtin__", "builtins")
_SETS = {f"{module}.{kind}" for module in _BUILTINS for kind in ("set", "frozenset")}
_MAPPINGS = {"collections.OrderedDict"}
_RECONSTRUCTORS = {"copy_reg._reconstructor", "copyreg._reconstructor"}
_TORCH = {
    "torch._utils._rebuild_tensor_v2",
    "torch.storage._load_from_bytes",
    *(f"torch.{kind}Storage" for kind in ("Long", "Int", "Float", "Double")),
}
"""Tensors stand beside the arrays in some landmark files. They are left unread: nothing here needs them."""
_KNOWN = {
    "numpy.ndarray", "numpy.dtype", "_codecs.encode", *(f"{module}.object" for module in _BUILTINS), *_ARRAY, *_BUFFER,
    *_SCALAR, *_SPARSE, *_SETS, *_MAPPINGS, *_RECONSTRUCTORS, *_TORCH,
}  # fmt: skip
_CHUMPY = "chumpy."
_NUMBER_KINDS = "biuf"


class PlainPickleError(ValueError):
    """A pickle that is damaged, or that holds more than data; the message names what."""


@dataclass(eq=False)
class _Name:
    """A class or function that the pickle asked for; never imported."""

    name: str


@dataclass(eq=False)
class _Record:
    """An object that the pickle would have made by calling `maker` with `arguments`."""

    maker: str
    arguments: tuple
    state: Any = None


class _InertUnpickler(pickle._Unpickler):
    """Python's own reader of the byte code, with every step that would make or call something replaced.

    The private pure-Python class, since the compiled one cannot be told to leave calls undone.
    """

    # The stack of the reader's machine and what puts a value on it.
    stack: list[Any]
    append: Callable[[Any], None]
    dispatch: ClassVar[dict[int, Callable[..., None]]] = dict(pickle._Unpickler.dispatch)

    def find_class(self, module: str, name: str) -> _Name:
        full = f"{module}.{name}"
        if full not in _KNOWN and not full.startswith(_CHUMPY):
            raise PlainPickleError(
                f"it asks for {full}, which is no part of a head model's data. A pickle can run any program when it is "
                "opened, so this one is not read further; get the file from its original source"
            )
        return _Name(full)

    def persistent_load(self, pid: Any) -> _Record:
        return _Record("persistent", (pid,))

    def get_extension(self, code: int) -> None:
        raise PlainPickleError(f"it asks for extension number {code}, which is no part of a head model's data")

    def _call(self, maker: Any, arguments: Any) -> Any:
        if not isinstance(maker, _Name) or not isinstance(arguments, tuple | list):
            raise PlainPickleError(f"it calls a {type(maker).__name__}, not a name")
        if maker.name in _SETS:
            return set(arguments[0]) if arguments else set()
        if maker.name in _MAPPINGS:
            return dict(arguments[0]) if arguments else {}
        if maker.name == "_codecs.encode":
            text, coding = arguments[0], arguments[1] if len(arguments) > 1 else "utf-8"
            if coding not in ("latin1", "latin-1", "utf-8") or not isinstance(text, str):
                raise PlainPickleError(f"it encodes with {coding!r}, expected latin1")
            return text.encode(coding)
        if maker.name in _RECONSTRUCTORS:
            return _Record(arguments[0].name, tuple(arguments[2:]))
        return _Record(maker.name, tuple(arguments))

    def load_reduce(self) -> None:
        arguments = self.stack.pop()
        self.stack[-1] = self._call(self.stack[-1], arguments)

    def load_newobj(self) -> None:
        arguments = self.stack.pop()
        self.stack[-1] = self._call(self.stack[-1], arguments)

    def load_newobj_ex(self) -> None:
        keywords, arguments = self.stack.pop(), self.stack.pop()
        self.stack[-1] = self._call(self.stack[-1], (*arguments, keywords))

    def _instantiate(self, maker: Any, arguments: list) -> None:
        self.append(self._call(maker, arguments))

    def load_build(self) -> None:
        state = self.stack.pop()
        if not isinstance(self.stack[-1], _Record):
            raise PlainPickleError(f"it sets the state of a {type(self.stack[-1]).__name__}, not of an object")
        self.stack[-1].state = state

    dispatch[pickle.REDUCE[0]] = load_reduce
    dispatch[pickle.NEWOBJ[0]] = load_newobj
    dispatch[pickle.NEWOBJ_EX[0]] = load_newobj_ex
    dispatch[pickle.BUILD[0]] = load_build


def read_plain_pickle(stream: BinaryIO) -> Any:
    """Data of a pickle as dicts, lists, numbers, text and numpy arrays; nothing in the file is executed.

    Python 2's byte strings become text (latin1). Objects that hold no array that can be read (chumpy expressions other
    than arrays and selections of them, torch tensors) are left as records without use.

    Args:
        stream: stands at the pickle's beginning.

    Raises:
        PlainPickleError: the file asks for anything but plain numeric data, or is damaged.
    """
    try:
        return _plain(_InertUnpickler(stream, encoding="latin1").load(), {})
    except PlainPickleError:
        raise
    except MemoryError:
        raise PlainPickleError("it wants more memory than there is: damaged, or made to harm") from None
    except (
        pickle.UnpicklingError, EOFError, struct.error, KeyError, IndexError, AttributeError, TypeError, ValueError,
        OverflowError, AssertionError, RecursionError, SyntaxError,
    ) as error:  # fmt: skip
        raise PlainPickleError(
            f"it is no readable pickle ({type(error).__name__}: {error}), perhaps cut short: copy it anew"
        ) from error


def _plain(value: Any, done: dict[int, Any]) -> Any:
    """A value with all records in it replaced by the arrays they stand for."""
    if isinstance(value, str | bytes | int | float | bool | complex | np.ndarray | None):
        return value
    if id(value) in done:
        return done[id(value)]
    result: Any
    if isinstance(value, dict):
        result = done[id(value)] = {}
        result.update({key: _plain(item, done) for key, item in value.items() if isinstance(key, str | int | bytes)})
    elif isinstance(value, list):
        result = done[id(value)] = []
        result.extend(_plain(item, done) for item in value)
    elif isinstance(value, tuple):
        result = done[id(value)] = tuple(_plain(item, done) for item in value)
    elif isinstance(value, set):
        result = done[id(value)] = {item for item in value if isinstance(item, str | int | float)}
    elif isinstance(value, _Record):
        # A record within itself stays a record.
        done[id(value)] = value
        result = done[id(value)] = _of_record(value, done)
    else:
        result = value
    return result


def _of_record(record: _Record, done: dict[int, Any]) -> Any:
    if record.maker in _ARRAY:
        if not isinstance(record.state, tuple) or len(record.state) not in (4, 5):
            raise PlainPickleError("it holds an array without contents")
        shape, kind, by_column, contents = record.state[-4:]
        return _array(shape, kind, "F" if by_column else "C", contents, done)
    if record.maker in _BUFFER:
        contents, kind, shape, order = record.arguments
        return _array(shape, kind, order, contents, done)
    if record.maker in _SCALAR:
        kind = _dtype(record.arguments[0])
        return np.frombuffer(_bytes(record.arguments[1]), dtype=kind, count=1)[0]
    if record.maker in _SPARSE:
        return _dense(record, done)
    if record.maker.startswith(_CHUMPY) and isinstance(record.state, dict):
        state = record.state
        if "x" in state:
            return _plain(state["x"], done)
        if record.maker.endswith(".Select") and {"a", "idxs"} <= state.keys():
            chosen = np.asarray(_plain(state["a"], done)).reshape(-1)[np.asarray(_plain(state["idxs"], done))]
            shape = _plain(state.get("preferred_shape"), done)
            return chosen if shape is None else chosen.reshape(shape)
    return record


def _array(
    shape: tuple[int, ...], kind: _Record, order: Literal["C", "F"], contents: Any, done: dict[int, Any]
) -> np.ndarray:
    if kind.maker == "numpy.dtype" and str(kind.arguments[0]).startswith(("O", "|O")):
        objects = np.empty(len(contents), dtype=object)
        objects[:] = [_plain(item, done) for item in contents]
        return objects.reshape(shape, order=order)
    dtype, raw = _dtype(kind), _bytes(contents)
    expected = int(np.prod(shape, dtype=object)) * dtype.itemsize
    if len(raw) != expected:
        raise PlainPickleError(f"it holds an array of {len(raw)} bytes where its shape {shape} needs {expected}")
    return np.frombuffer(raw, dtype=dtype).reshape(shape, order=order).copy()


def _dtype(record: _Record) -> np.dtype:
    name = str(record.arguments[0]).lstrip("<>|=")
    text = name[:1] in "SU" and name[1:].isdigit()
    if not (name[:1] in _NUMBER_KINDS and name[1:] in ("1", "2", "4", "8")) and not text:
        raise PlainPickleError(f"it holds an array of type {record.arguments[0]!r}, expected numbers or text")
    order = record.state[1] if isinstance(record.state, tuple) and len(record.state) > 1 else "="
    return np.dtype(name).newbyteorder("<" if order == "<" else ">" if order == ">" else "=")


def _bytes(contents: Any) -> bytes:
    return contents.encode("latin1") if isinstance(contents, str) else bytes(contents)


def _dense(record: _Record, done: dict[int, Any]) -> np.ndarray:
    """A sparse matrix written out; its own code is not asked, so nothing rests on its version."""
    state = {str(key).lstrip("_"): _plain(value, done) for key, value in record.state.items()}
    rows, columns = (int(side) for side in state["shape"])
    by_column = ".csc" in record.maker or "._csc" in record.maker
    starts = np.asarray(state["indptr"], dtype=np.int64)
    inner, values = np.asarray(state["indices"], dtype=np.int64), np.asarray(state["data"])
    outer_size, inner_size = (columns, rows) if by_column else (rows, columns)
    if (
        len(starts) != outer_size + 1
        or starts[0] != 0
        or (np.diff(starts) < 0).any()
        or not starts[-1] == len(inner) == len(values)
        or (inner.size and not 0 <= inner.min() <= inner.max() < inner_size)
    ):
        raise PlainPickleError(f"it holds a sparse matrix of {rows}x{columns} whose indices do not fit")
    dense = np.zeros((outer_size, inner_size), dtype=values.dtype)
    np.add.at(dense, (np.repeat(np.arange(outer_size), np.diff(starts)), inner), values)
    return dense.T.copy() if by_column else dense
