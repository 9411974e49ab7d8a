"""HDF5 files of DeepLabCut (a table of pandas) and of SLEAP (its analysis arrays), without running what is in them."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from data_tools.tracking.config import TrackingError
from data_tools.tracking.observe.keypoint_readers.deeplabcut import read_deeplabcut_table
from data_tools.tracking.observe.keypoint_readers.record import KeypointFile
from data_tools.tracking.observe.keypoint_readers.sleap import read_sleap_arrays

if TYPE_CHECKING:
    from flame_nerf.runtime.door.hdf5 import Hdf5Group

MOST_LEVELS, MOST_CELLS = 16, 1 << 25
"""Levels of an index, and cells of a table: a hundred points through ten hours at thirty frames a second."""


def read_h5(path: Path, asked: str | None) -> KeypointFile:
    """Read whichever of the two it is.

    Args:
        asked: the individual to follow.

    Raises:
        TrackingError: h5py is not there, or the file is neither, or damaged.
    """
    try:
        import h5py  # noqa: F401
    except ImportError:
        raise TrackingError(
            f"{path}: reading HDF5 needs h5py: pip install h5py; or save the table as CSV "
            "(deeplabcut.analyze_videos(..., save_as_csv=True), or SLEAP's Export Analysis CSV) and give that."
        ) from None
    from flame_nerf.runtime.door.hdf5 import open_hdf5

    with open_hdf5(path, TrackingError, remedy="Export the table as CSV and give that.") as file:
        arrays = file.datasets()
        if {"tracks", "node_names"} <= arrays.keys():
            return read_sleap_arrays(path, arrays, asked)
        groups = file.groups()
        tables = {name: group for name, group in groups.items() if "pandas_type" in group.attributes}
        if len(tables) != 1:
            held = ", ".join(tables or groups or arrays) or "nothing"
            raise TrackingError(
                f"{path}: holds {held}; expected one table of pandas, as DeepLabCut writes, or SLEAP's analysis "
                "arrays (tracks, node_names)."
            )
        columns, index, values = _pandas_table(next(iter(tables.values())))
    return read_deeplabcut_table(path, columns, index, values, asked)


def _pandas_table(group: Hdf5Group) -> tuple[list[tuple[str, ...]], list[Any], Float[np.ndarray, "N C"]]:
    """Column names, index and values of a frame that pandas stored, in either of its two layouts.

    pandas itself would unpickle column names from attributes; here they are read without running anything.
    """
    from flame_nerf.runtime.door.pickles import read_plain_pickle

    arrays, attributes = group.datasets(), group.attributes
    if "table" in arrays:
        table = arrays["table"].read()
        names = read_plain_pickle(io.BytesIO(bytes(arrays["table"].attributes["values_block_0_kind"])))
        values = np.asarray(table["values_block_0"], dtype=np.float64).reshape(len(table), -1)
        if len(names) != values.shape[1]:
            raise ValueError(f"{len(names)} column names for {values.shape[1]} columns")
        index = [_plain(value) for value in table["index"].tolist()]
        return [tuple(map(str, name)) for name in names], index, values

    def levels(axis: str) -> list[tuple[Any, ...]]:
        if f"{axis}_nlevels" not in attributes:
            return [(_plain(value),) for value in arrays[axis].read().tolist()]
        count = int(attributes[f"{axis}_nlevels"])
        if not 0 < count <= MOST_LEVELS:
            raise ValueError(f"{axis} has {count} levels")
        columns = [arrays[f"{axis}_level{i}"].read()[arrays[f"{axis}_label{i}"].read()].tolist() for i in range(count)]
        return [tuple(_plain(value) for value in row) for row in zip(*columns, strict=True)]

    order = levels("axis0")
    place = {name: column for column, name in enumerate(order)}
    index = [row if len(row) > 1 else row[0] for row in levels("axis1")]
    if len(index) * len(order) > MOST_CELLS:
        raise ValueError(f"it claims {len(index)} rows of {len(order)} columns")
    values = np.full((len(index), len(order)), np.nan)
    blocks = int(attributes["nblocks"])
    if not 0 < blocks <= len(order):
        raise ValueError(f"it claims {blocks} blocks for {len(order)} columns")
    for block in range(blocks):
        stored = arrays[f"block{block}_values"].read().astype(np.float64)
        for column, name in enumerate(levels(f"block{block}_items")):
            values[:, place[name]] = stored[:, column]
    return [tuple(map(str, name)) for name in order], index, values


def _plain(value: Any) -> Any:
    return value.decode() if isinstance(value, bytes) else value
