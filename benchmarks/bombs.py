"""Files that are small and claim much, and the largest that are still read: what the doors take for them, in MB.

    python benchmarks/bombs.py

Each is opened by a reader's public face in a process of its own: its size, the process' peak, and the answer.
"""

from __future__ import annotations

import multiprocessing
import pickle
import resource
import struct
import sys
import tempfile
import time
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))
from fuzz import load


def header(descr: str, shape: tuple[int, ...]) -> bytes:
    text = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode()


def npz(path: Path, name: str, descr: str, shape: tuple[int, ...], megabytes: int) -> None:
    """One array of zeros, or less than its header says."""
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open(f"{name}.npy", "w", force_zip64=True) as member,
    ):
        member.write(header(descr, shape))
        for _ in range(megabytes):
            member.write(bytes(1 << 20))


def png(path: Path, width: int, height: int, depth: int = 8, colours: int = 2) -> None:
    """A black picture; where it is large, its header alone."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    row = bytes(1 + width * {2: 3, 6: 4}[colours] * depth // 8)
    packer = zlib.compressobj(1)
    rows = height if width * height <= 1 << 26 else 0
    pixels = b"".join(packer.compress(row) for _ in range(rows)) + packer.flush()
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colours, 0, 0, 0))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", pixels) + chunk(b"IEND", b""))


def pickled_zeros(path: Path) -> None:
    """An array whose contents are the number 2^31 - 1, for which `bytes` would make as many."""
    state = b"(K\x01J\xff\xff\xff\x7f\x85cnumpy\ndtype\n\x8c\x02u1\x85R\x89J\xff\xff\xff\x7ftb"
    path.write_bytes(
        b"\x80\x04cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85C\x01b\x87R" + state + b"."
    )


def pickled_array(path: Path) -> None:
    path.write_bytes(pickle.dumps({"v_template": np.zeros(20_000_000)}, protocol=4))


def bombs() -> dict[str, tuple[str, Callable[[Path], Any], Callable[[Path], Any]]]:
    """Name of the file, what writes it and what reads it, by what it is."""
    from data_tools.importers.inputs.files import read_npz
    from data_tools.importers.inputs.mesh_files import read_mesh
    from data_tools.runs.picture_files import read_picture
    from data_tools.tracking.observe.keypoint_files import read_keypoint_file
    from flame_nerf.heads import load_head
    from flame_nerf.heads.array_files import read_arrays
    from flame_nerf.motion.files.sources import load_motion
    from flame_nerf.subject.reading import _read_arrays as read_track

    def picture(path: Path) -> None:
        read_picture(path, OSError)

    much = (2 << 30,)
    return {
        "2 GB of zeros as a track": ("head.npz", lambda path: npz(path, "vertices", "|u1", much, 2048), read_track),
        "2 GB of zeros as a head": ("h.npz", lambda path: npz(path, "template", "|u1", much, 2048), load_head),
        "2 GB of zeros as a motion": ("m.npz", lambda path: npz(path, "expression", "|u1", much, 2048), load_motion),
        "2 GB of zeros for an importer": ("i.npz", lambda path: npz(path, "a", "|u1", much, 2048), read_npz),
        "10^12 numbers that are not there": ("h.npz", lambda path: npz(path, "a", "<f8", (10**12,), 0), load_head),
        "the most numbers that are read": ("h.npz", lambda path: npz(path, "a", "|u1", (60 << 20,), 60), read_arrays),
        "zeros by their number in a pickle": ("g.pkl", pickled_zeros, read_arrays),
        "the largest array in a pickle": ("g.pkl", pickled_array, read_arrays),
        "a picture of 65535 x 65535": ("a.png", lambda path: png(path, 65535, 65535), picture),
        "the largest picture of 16 bits, RGBA": (
            "a.png", lambda path: png(path, 8192, 4096, 16, 6), picture
        ),
        "JSON nested 100 000 deep": ("a.json", lambda path: path.write_text("[" * 100_000), read_keypoint_file),
        "JSON of the most lists that are read": (
            "a.json", lambda path: path.write_bytes(b"[" + b"[]," * 8_000_000 + b"0]"), read_keypoint_file
        ),
        "the largest table that is read": (
            "a.csv", lambda path: path.write_bytes(b"ab,cd,ef,gh\n" * 1_400_000), read_keypoint_file
        ),
        "the largest mesh that is read": (
            "a.obj", lambda path: path.write_bytes(b"v 0 0 0\n" * 3_000_000 + b"f 1 2 3\n"), read_mesh
        ),
    }  # fmt: skip


def main() -> int:
    load()
    base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    print(f"Peaks include {base} MB of the program itself.\n")
    print("| file | kB | peak MB | seconds | answer |\n|---|---:|---:|---:|---|", flush=True)
    worst = 0
    for what, (name, write, read) in bombs().items():
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / name
            # Written by a process that ends: what it took is not to count.
            in_child(write, path)
            peak, seconds, answer = in_child(_measured(read), path) or (0, 0.0, "the process died")
            worst = max(worst, peak)
            answer = answer.replace(folder, "").replace("|", "/")
            print(f"| {what} | {path.stat().st_size >> 10} | {peak} | {seconds:.1f} | {answer[:110]} |", flush=True)
    return int(worst > 1500)


def in_child(job: Callable[[Path], Any], path: Path) -> Any:
    """What a job gives for a file, done by a process of its own; None if it dies."""
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe(duplex=False)
    child = context.Process(target=_send, args=(theirs, job, path))
    child.start()
    theirs.close()
    child.join()
    return ours.recv() if child.exitcode == 0 else None


def _send(pipe: Any, job: Callable[[Path], Any], path: Path) -> None:
    pipe.send(job(path))


def _measured(read: Callable[[Path], Any]) -> Callable[[Path], tuple[int, float, str]]:
    def job(path: Path) -> tuple[int, float, str]:
        begun, answer = time.monotonic(), "read"
        try:
            read(path)
        except Exception as error:  # noqa: BLE001 -- what it answers is what is shown
            answer = f"{type(error).__name__}: {error}"
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10, time.monotonic() - begun, answer

    return job


if __name__ == "__main__":
    sys.exit(main())
