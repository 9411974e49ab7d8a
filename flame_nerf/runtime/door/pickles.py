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
LARGEST_PICKLE = 512 << 20
"""Bytes of a pickle, and of all that is made from it."""
MOST_STEPS = 1_000_000
"""Instructions of a pickle: each may make an object of some two hundred bytes."""
LONGEST_LINE = 1 << 20
"""Bytes of a line, in which old pickles write numbers and names."""


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


class _Purse:
    """What a pickle may still unfold to; a short one can ask for the same array or set a million times."""

    def __init__(self) -> None:
        self.left = LARGEST_PICKLE

    def pay(self, size: int) -> None:
        """Raises PlainPickleError if that many bytes are more than are left."""
        self.left -= size
        if size < 0 or self.left < 0:
            raise PlainPickleError(
                f"it unfolds to over {LARGEST_PICKLE >> 20} MB, more than a head model's data: damaged, or made to "
                "harm; get the file from its original source, or its .npz"
            )


class _Stream:
    """Reads no more than a pickle may have, whatever length it claims."""

    def __init__(self, stream: BinaryIO, purse: _Purse) -> None:
        self._stream, self._purse = stream, purse

    def read(self, size: int = -1) -> bytes:
        self._purse.pay(size)
        return self._stream.read(size)

    def readline(self) -> bytes:
        line = self._stream.readline(LONGEST_LINE)
        self._purse.pay(len(line))
        return line


def _counted(step: Callable[..., None]) -> Callable[..., None]:
    """An instruction of a pickle that counts itself."""

    def counted(machine: _InertUnpickler) -> None:
        machine.steps += 1
        if machine.steps > MOST_STEPS:
            raise PlainPickleError(f"it has over {MOST_STEPS} instructions: no head model's data, or made to harm")
        step(machine)

    return counted


class _InertUnpickler(pickle._Unpickler):
    """Python's own reader of the byte code, with every step that would make or call something replaced.

    The private pure-Python class, since the compiled one cannot be told to leave calls undone.
    """

    # The stack of the reader's machine and what puts a value on it.
    stack: list[Any]
    append: Callable[[Any], None]
    read: Callable[[int], bytes]
    dispatch: ClassVar[dict[int, Callable[..., None]]] = dict(pickle._Unpickler.dispatch)

    def __init__(self, stream: BinaryIO, purse: _Purse) -> None:
        super().__init__(_Stream(stream, purse), encoding="latin1")
        self.purse, self.steps = purse, 0

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
            return set(self._paid(arguments))
        if maker.name in _MAPPINGS:
            return dict(self._paid(arguments))
        if maker.name == "_codecs.encode":
            text, coding = arguments[0], arguments[1] if len(arguments) > 1 else "utf-8"
            if coding not in ("latin1", "latin-1", "utf-8") or not isinstance(text, str):
                raise PlainPickleError(f"it encodes with {coding!r}, expected latin1")
            self.purse.pay(2 * len(text))
            return text.encode(coding)
        if maker.name in _RECONSTRUCTORS:
            return _Record(arguments[0].name, tuple(arguments[2:]))
        return _Record(maker.name, tuple(arguments))

    def _paid(self, arguments: Any) -> Any:
        """The items that a set or mapping is to hold."""
        items = arguments[0] if arguments else ()
        self.purse.pay(100 * len(items))
        return items

    def load_bytearray8(self) -> None:
        (size,) = struct.unpack("<Q", self.read(8))
        self.append(self.read(size))

    def load_long4(self) -> None:
        raise PlainPickleError("it holds a number of over 255 bytes, which is no part of a head model's data")

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
    dispatch[pickle.BYTEARRAY8[0]] = load_bytearray8
    dispatch[pickle.LONG4[0]] = load_long4
    dispatch |= {code: _counted(step) for code, step in dispatch.items()}


def read_plain_pickle(stream: BinaryIO) -> Any:
    """Data of a pickle as dicts, lists, numbers, text and numpy arrays; nothing in the file is executed.

    Python 2's byte strings become text (latin1). Objects that hold no array that can be read (chumpy expressions other
    than arrays and selections of them, torch tensors) are left as records without use.

    Args:
        stream: stands at the pickle's beginning.

    Raises:
        PlainPickleError: the file asks for anything but plain numeric data, or is damaged.
    """
    purse = _Purse()
    try:
        return _Reading(purse).plain(_InertUnpickler(stream, purse).load())
    except PlainPickleError:
        raise
    except MemoryError:
        raise PlainPickleError("it wants more memory than there is: damaged, or made to harm") from None
    except Exception as error:
        # Nothing of it is ours: the machine of Python's own reader meets whatever the bytes say.
        raise PlainPickleError(
            f"it is no readable pickle ({type(error).__name__}: {str(error)[:160]}), perhaps cut short: copy it anew"
        ) from error


class _Reading:
    """What a pickle's records stand for."""

    def __init__(self, purse: _Purse) -> None:
        self._purse = purse
        self._done: dict[int, Any] = {}

    def plain(self, value: Any) -> Any:
        """A value with all records in it replaced by the arrays they stand for."""
        if isinstance(value, str | bytes | int | float | bool | complex | np.ndarray | None):
            return value
        if id(value) in self._done:
            return self._done[id(value)]
        result: Any
        if isinstance(value, dict):
            result = self._done[id(value)] = {}
            result.update({key: self.plain(item) for key, item in value.items() if isinstance(key, str | int | bytes)})
        elif isinstance(value, list):
            result = self._done[id(value)] = []
            result.extend(self.plain(item) for item in value)
        elif isinstance(value, tuple):
            result = self._done[id(value)] = tuple(self.plain(item) for item in value)
        elif isinstance(value, set):
            result = self._done[id(value)] = {item for item in value if isinstance(item, str | int | float)}
        elif isinstance(value, _Record):
            # A record within itself stays a record.
            self._done[id(value)] = value
            result = self._done[id(value)] = self._of_record(value)
        else:
            result = value
        return result

    def _of_record(self, record: _Record) -> Any:
        if record.maker in _ARRAY:
            if not isinstance(record.state, tuple) or len(record.state) not in (4, 5):
                raise PlainPickleError("it holds an array without contents")
            shape, kind, by_column, contents = record.state[-4:]
            return self._array(shape, kind, "F" if by_column else "C", contents)
        if record.maker in _BUFFER:
            contents, kind, shape, order = record.arguments
            return self._array(shape, kind, order, contents)
        if record.maker in _SCALAR:
            kind = _dtype(record.arguments[0])
            return np.frombuffer(_bytes(record.arguments[1]), dtype=kind, count=1)[0]
        if record.maker in _SPARSE:
            return self._dense(record)
        if record.maker.startswith(_CHUMPY) and isinstance(record.state, dict):
            state = record.state
            if "x" in state:
                return self.plain(state["x"])
            if record.maker.endswith(".Select") and {"a", "idxs"} <= state.keys():
                chosen_rows = np.asarray(self.plain(state["idxs"]))
                self._purse.pay(8 * chosen_rows.size)
                chosen = np.asarray(self.plain(state["a"])).reshape(-1)[chosen_rows]
                shape = self.plain(state.get("preferred_shape"))
                return chosen if shape is None else chosen.reshape(shape)
        return record

    def _array(self, shape: tuple[int, ...], kind: _Record, order: Literal["C", "F"], contents: Any) -> np.ndarray:
        if kind.maker == "numpy.dtype" and str(kind.arguments[0]).startswith(("O", "|O")):
            self._purse.pay(8 * len(contents))
            objects = np.empty(len(contents), dtype=object)
            objects[:] = [self.plain(item) for item in contents]
            return objects.reshape(shape, order=order)
        dtype, raw = _dtype(kind), _bytes(contents)
        expected = int(np.prod(shape, dtype=object)) * dtype.itemsize
        if len(raw) != expected:
            raise PlainPickleError(f"it holds an array of {len(raw)} bytes where its shape {shape} needs {expected}")
        values = np.frombuffer(raw, dtype=dtype)
        # Whoever reads it makes float64 of it.
        self._purse.pay(len(raw) + max(len(raw), 8 * len(values)))
        return values.reshape(shape, order=order).copy()

    def _dense(self, record: _Record) -> np.ndarray:
        """A sparse matrix written out; its own code is not asked, so nothing rests on its version."""
        state = {str(key).lstrip("_"): self.plain(value) for key, value in record.state.items()}
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
        self._purse.pay(8 * outer_size * inner_size)
        dense = np.zeros((outer_size, inner_size), dtype=values.dtype)
        np.add.at(dense, (np.repeat(np.arange(outer_size), np.diff(starts)), inner), values)
        return dense.T.copy() if by_column else dense


def _dtype(record: _Record) -> np.dtype:
    name = str(record.arguments[0]).lstrip("<>|=")
    text = name[:1] in "SU" and name[1:].isdigit()
    if not (name[:1] in _NUMBER_KINDS and name[1:] in ("1", "2", "4", "8")) and not text:
        raise PlainPickleError(f"it holds an array of type {record.arguments[0]!r}, expected numbers or text")
    order = record.state[1] if isinstance(record.state, tuple) and len(record.state) > 1 else "="
    return np.dtype(name).newbyteorder("<" if order == "<" else ">" if order == ">" else "=")


def _bytes(contents: Any) -> bytes:
    if isinstance(contents, str):
        return contents.encode("latin1")
    if not isinstance(contents, bytes):
        raise PlainPickleError(f"it holds an array whose contents are a {type(contents).__name__}, expected bytes")
    return contents
