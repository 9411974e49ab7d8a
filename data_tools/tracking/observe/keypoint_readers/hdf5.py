"""HDF5 files of DeepLabCut (a table of pandas) and of SLEAP (its analysis arrays), without running what is in them."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from data_tools.tracking.config import TrackingError
from data_tools.tracking.observe.keypoint_readers.deeplabcut import read_deeplabcut_table
from data_tools.tracking.observe.keypoint_readers.record import KeypointFile
from data_tools.tracking.observe.keypoint_readers.sleap import read_sleap_arrays


def read_h5(path: Path, asked: str | None) -> KeypointFile:
    """Read whichever of the two it is.

    Args:
        asked: the individual to follow.

    Raises:
        TrackingError: h5py is not there, or the file is neither, or damaged.
    """
    try:
        import h5py
    except ImportError:
        raise TrackingError(
            f"{path}: reading HDF5 needs h5py: pip install h5py; or save the table as CSV "
            "(deeplabcut.analyze_videos(..., save_as_csv=True), or SLEAP's Export Analysis CSV) and give that."
        ) from None
    from flame_nerf.heads.safe_pickle import PlainPickleError

    try:
        with h5py.File(path, "r") as file:
            if isinstance(file.get("tracks"), h5py.Dataset) and isinstance(file.get("node_names"), h5py.Dataset):
                return read_sleap_arrays(path, {name: file[name] for name in file}, asked)
            groups = {
                name: group
                for name, group in file.items()
                if isinstance(group, h5py.Group) and "pandas_type" in group.attrs
            }
            if len(groups) != 1:
                held = ", ".join(groups or file) or "nothing"
                raise TrackingError(
                    f"{path}: holds {held}; expected one table of pandas, as DeepLabCut writes, or SLEAP's analysis "
                    "arrays (tracks, node_names)."
                )
            columns, index, values = _pandas_table(next(iter(groups.values())))
    except (OSError, LookupError, ValueError, TypeError, AttributeError, RuntimeError, PlainPickleError) as error:
        if isinstance(error, TrackingError):
            raise
        raise TrackingError(
            f"{path}: cannot be read as HDF5 of DeepLabCut or SLEAP ({error}). Export the table as CSV and give that."
        ) from error
    return read_deeplabcut_table(path, columns, index, values, asked)


def _pandas_table(group: Any) -> tuple[list[tuple[str, ...]], list[Any], Float[np.ndarray, "N C"]]:
    """Column names, index and values of a frame that pandas stored, in either of its two layouts.

    pandas itself would unpickle column names from attributes; here they are read without running anything.
    """
    from flame_nerf.heads.safe_pickle import read_plain_pickle

    if "table" in group:
        table = group["table"]
        names = read_plain_pickle(io.BytesIO(bytes(table.attrs["values_block_0_kind"])))
        values = np.asarray(table["values_block_0"], dtype=np.float64).reshape(len(table), -1)
        if len(names) != values.shape[1]:
            raise ValueError(f"{len(names)} column names for {values.shape[1]} columns")
        index = [_plain(value) for value in table["index"].tolist()]
        return [tuple(map(str, name)) for name in names], index, values

    def levels(axis: str) -> list[tuple[Any, ...]]:
        if f"{axis}_nlevels" not in group.attrs:
            return [(_plain(value),) for value in group[axis][:].tolist()]
        count = int(group.attrs[f"{axis}_nlevels"])
        columns = [group[f"{axis}_level{i}"][:][group[f"{axis}_label{i}"][:]].tolist() for i in range(count)]
        return [tuple(_plain(value) for value in row) for row in zip(*columns, strict=True)]

    order = levels("axis0")
    place = {name: column for column, name in enumerate(order)}
    index = [row if len(row) > 1 else row[0] for row in levels("axis1")]
    values = np.full((len(index), len(order)), np.nan)
    for block in range(int(group.attrs["nblocks"])):
        stored = np.asarray(group[f"block{block}_values"], dtype=np.float64)
        for column, name in enumerate(levels(f"block{block}_items")):
            values[:, place[name]] = stored[:, column]
    return [tuple(map(str, name)) for name in order], index, values


def _plain(value: Any) -> Any:
    return value.decode() if isinstance(value, bytes) else value
