"""Trains with somebody at the viewer, and fails if memory grows: a Markdown table.

    python benchmarks/soak.py --minutes 60
    python benchmarks/soak.py --minutes 10 --data subjects/me

A stand-in for a browser connects to the viewer of an ns-train, turns the camera all the time and takes every picture
that it is sent. Now and then it leaves and comes again. What the training process holds of its own (RssAnon: without
mapped files, which can always be given back) is sampled; growth is a line through the samples after the warm-up.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

sys.path.append(str(Path(__file__).resolve().parents[1] / "tests" / "support"))

MOST_MB_PER_HOUR = 40.0
"""Growth beyond which the test fails: a gigabyte in a day."""
ROWS = 12
DISTANCE = 6.0
"""Of its camera from the head, in the viewer's units (tenths of a metre)."""


@dataclass
class Sample:
    """The training process at one moment."""

    minutes: float
    anonymous_mb: float
    resident_mb: float
    step: int
    shown: int
    """Pictures that the stand-in was sent so far."""


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--warm-up", type=float, default=3.0, help="minutes that do not count: caches fill")
    parser.add_argument("--every", type=float, default=3.0, help="seconds between samples")
    parser.add_argument("--stays", type=float, default=60.0, help="seconds until the stand-in leaves and comes again")
    parser.add_argument("--mb-per-hour", type=float, default=MOST_MB_PER_HOUR, help="most that it may grow by")
    parser.add_argument("--data", type=Path, help="subject to train on; a small one is made if none is given")
    parser.add_argument("--samples", type=Path, help="JSON file for all samples")
    options = parser.parse_args(arguments)
    # Ended from outside, it still ends the training.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    if options.minutes <= options.warm_up:
        parser.error(f"--minutes is {options.minutes}; expected more than --warm-up, {options.warm_up}")
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        samples = soak(Path(folder), options)
    if options.samples is not None:
        options.samples.write_text(json.dumps([vars(sample) for sample in samples]))
    print("| minute | step | pictures shown | own memory MB | resident MB |\n|---:|---:|---:|---:|---:|")
    for row in np.unique(np.linspace(0, len(samples) - 1, ROWS).round().astype(int)):
        at = samples[row]
        print(f"| {at.minutes:.1f} | {at.step} | {at.shown} | {at.anonymous_mb:.0f} | {at.resident_mb:.0f} |")
    growth, doubt = slope([sample for sample in samples if sample.minutes >= options.warm_up])
    print(f"\nGrowth after {options.warm_up:g} minutes: {growth:+.1f} MB an hour, give or take {doubt:.1f}.")
    if samples[-1].shown == 0:
        print("No picture was ever shown: this was no test of the viewer.")
        return 1
    return int(growth - doubt > options.mb_per_hour)


def slope(samples: list[Sample]) -> tuple[float, float]:
    """Growth of a process' own memory, MB an hour, and its standard error over ten stretches of the samples."""
    parts = [part for part in np.array_split(np.arange(len(samples)), 10) if len(part)]
    hours = np.array([np.mean([samples[i].minutes for i in part]) for part in parts]) / 60
    held = np.array([np.median([samples[i].anonymous_mb for i in part]) for part in parts])
    if len(parts) < 3:
        return 0.0, math.inf
    (growth, _), covariance = np.polyfit(hours, held, 1, cov=True)
    return float(growth), float(np.sqrt(covariance[0, 0]))


def soak(folder: Path, options: argparse.Namespace) -> list[Sample]:
    """Train for so long while somebody looks."""
    data = options.data
    if data is None:
        from synthetic import make_subject

        data = folder / "subject"
        make_subject(data, size=64, count=40)
    samples, log = [], folder / "log"
    with _training(data.resolve(), folder, log) as (process, port):
        looker = Looker(port, options.stays)
        looker.start()
        begun = time.monotonic()
        while (minutes := (time.monotonic() - begun) / 60) < options.minutes:
            if process.poll() is not None:
                sys.exit(f"the training ended by itself:\n{log.read_text(errors='replace')[-3000:]}")
            memory = _memory(process.pid)
            samples.append(Sample(minutes, memory["RssAnon"], memory["VmRSS"], _step(folder / "out"), looker.shown))
            time.sleep(options.every)
        looker.stop()
    return samples


@contextlib.contextmanager
def _training(data: Path, folder: Path, log: Path) -> Iterator[tuple[subprocess.Popen, int]]:
    """A running ns-train whose viewer answers, and the port of that."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [str(Path(sys.executable).parent / "ns-train"), "flame-nerf-cpu", "--data", str(data), "--output-dir"]
    command += [str(folder / "out"), "--max-num-iterations", "10000000", "--vis", "viewer", "--viewer.websocket-port"]
    command += [str(port), "--steps-per-save", "100"]
    with log.open("w") as stream:
        process = subprocess.Popen(command, stdout=stream, stderr=stream, start_new_session=True)
    try:
        while not _answers(port):
            if process.poll() is not None:
                sys.exit(f"ns-train does not train:\n{log.read_text(errors='replace')[-3000:]}")
            time.sleep(0.5)
        yield process, port
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _step(folder: Path) -> int:
    """The step of the last checkpoint; 0: there is none."""
    return max((int(path.stem.split("-")[1]) for path in folder.rglob("step-*.ckpt")), default=0)


def _answers(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


def _memory(process: int) -> dict[str, float]:
    """MB that a process holds, by Linux's names."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return {name: int(value.split()[0]) / 1024 for name, _, value in (line.partition(":") for line in lines)
            if name in ("RssAnon", "VmRSS")}  # fmt: skip


class Looker(threading.Thread):
    """Stands in for a browser at the viewer."""

    def __init__(self, port: int, stays: float) -> None:
        super().__init__(daemon=True)
        self._address, self._ended = f"ws://127.0.0.1:{port}", threading.Event()
        self._stays, self.shown = stays, 0

    def run(self) -> None:
        while not self._ended.is_set():
            self._visit()
            time.sleep(1.0)

    def stop(self) -> None:
        """Leave."""
        self._ended.set()
        self.join(timeout=20)

    def _visit(self) -> None:
        import msgspec
        from viser._messages import ViewerCameraMessage
        from websockets.exceptions import ConnectionClosed
        from websockets.sync.client import connect

        begun, moved = time.monotonic(), 0.0
        with connect(self._address, max_size=None, compression=None) as server:
            while not self._ended.is_set() and (now := time.monotonic()) - begun < self._stays:
                if now - moved > 0.5:
                    moved = now
                    turned = ViewerCameraMessage(**_camera(0.6 * math.sin(now / 7)))
                    server.send(msgspec.msgpack.encode(turned.as_serializable_dict()))
                try:
                    received = server.recv(timeout=0.5)
                except TimeoutError:
                    continue
                except ConnectionClosed:
                    return
                messages = msgspec.msgpack.decode(received)
                for message in messages if isinstance(messages, list) else [messages]:
                    self.shown += "BackgroundImage" in message["type"]


def _camera(yaw: float) -> dict[str, object]:
    """A camera that looks at the head, turned aside by an angle; OpenCV's axes."""
    back = np.array([math.sin(yaw), 0.0, math.cos(yaw)])
    # Half a turn about x (from OpenGL's axes), then yaw about y.
    wxyz = (0.0, math.cos(yaw / 2), 0.0, -math.sin(yaw / 2))
    return {
        "wxyz": wxyz,
        "position": tuple(DISTANCE * back),
        "fov": 0.6,
        "aspect": 1.5,
        "look_at": (0.0, 0.0, 0.0),
        "up_direction": (0.0, 1.0, 0.0),
    }


if __name__ == "__main__":
    sys.exit(main())
