"""Imports stream: what a longer recording adds to memory is its numbers, not its meshes and pictures."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from import_truth import make_truth
from import_writers import write_metrical

MEASURE = """
import sys, threading, time
from data_tools.importers import import_data

def anonymous():
    # Without mapped files: what is written to disk and mapped can always be given back.
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("RssAnon"))

most, done = [0], threading.Event()

def watch():
    while not done.is_set():
        most[0] = max(most[0], anonymous())
        time.sleep(0.02)

import_data("metrical-tracker", sys.argv[1], sys.argv[2] + "-warm", silent=True)
start = anonymous()
watcher = threading.Thread(target=watch)
watcher.start()
import_data("metrical-tracker", sys.argv[3], sys.argv[2], silent=True)
done.set()
watcher.join()
print(start, most[0])
"""


def multiply(source: Path, target: Path, count: int) -> None:
    """The same few frames under many names, without their weight on disk."""
    found = sorted((source / "checkpoint").iterdir())
    for folder, ending in (("checkpoint", ".frame"), ("mesh", ".ply"), ("input", ".png"), ("matte", ".png")):
        (target / folder).mkdir(parents=True)
        for index in range(count):
            os.link(
                source / folder / f"{found[index % len(found)].stem}{ending}", target / folder / f"{index:05d}{ending}"
            )
    os.link(source / "canonical.obj", target / "canonical.obj")


def extra_memory(tmp_path: Path, count: int) -> tuple[int, int]:
    """Anonymous memory in kB before an import of `count` frames, and at its height."""
    if not (tmp_path / "few").exists():
        write_metrical(tmp_path / "few", make_truth("still", count=4, size=(40, 44)))
    multiply(tmp_path / "few", tmp_path / f"src-{count}", count)
    arguments = [str(tmp_path / "few"), str(tmp_path / f"dst-{count}"), str(tmp_path / f"src-{count}")]
    measured = subprocess.run(
        [sys.executable, "-c", MEASURE, *arguments],
        capture_output=True, text=True, cwd=Path(__file__).parents[2], timeout=1200, check=True,
    )  # fmt: skip
    before, most = map(int, measured.stdout.split())
    return before, most


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from Linux's /proc")
def test_memory_does_not_grow_with_the_meshes(tmp_path):
    """A FLAME mesh is 60 kB, its picture 5 kB; a frame's cameras, coefficients and names are about 5 kB."""
    few, many = (most - before for before, most in (extra_memory(tmp_path, count) for count in (200, 1000)))
    per_frame = (many - few) / 800
    assert per_frame < 40, f"{per_frame:.1f} kB a frame: {few} kB for 200 frames, {many} kB for 1000"
