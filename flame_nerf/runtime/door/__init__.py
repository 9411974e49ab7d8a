"""The one door through which files come that others made: npz, npy, JSON, tables, pictures, HDF5, pickles, torch files.

What a file claims (sizes, members, nesting, pixels) is checked before anything of that size is allocated, so that no
file, however small, makes a reader take more than about a gigabyte. Only regular files are opened: a pipe or a device
would never end. Whatever the libraries behind raise becomes the caller's own kind of error, in one line that names the
file and what to do.
"""

from flame_nerf.runtime.door.arrays import check_numbers, read_array, read_npz
from flame_nerf.runtime.door.opening import (
    LARGEST,
    check_kind,
    check_name,
    foreign,
    is_zip,
    open_file,
    read_bytes,
    said,
)
from flame_nerf.runtime.door.pictures import decode_picture, open_picture, picture_header, picture_size
from flame_nerf.runtime.door.text import check_nesting, parse_json, read_json, read_rows, read_text, table_of
from flame_nerf.runtime.door.zips import open_zip

__all__ = [
    "LARGEST",
    "check_kind",
    "check_name",
    "check_nesting",
    "check_numbers",
    "decode_picture",
    "foreign",
    "is_zip",
    "open_file",
    "open_picture",
    "open_zip",
    "parse_json",
    "picture_header",
    "picture_size",
    "read_array",
    "read_bytes",
    "read_json",
    "read_npz",
    "read_rows",
    "read_text",
    "said",
    "table_of",
]
