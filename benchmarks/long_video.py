"""What a long video costs: memory, and the time of a step, for subjects of more and more frames.

    python benchmarks/long_video.py --frames 500 2000 10000

Makes synthetic subjects of a real head's number of vertices (a few pictures shown again and again, every mesh its own)
and trains each in a process of its own. *Held* memory is what cannot be given back: without mapped files, whose pages
the system drops when it needs room. The disk must have room for the pictures: 1 MiB a frame at 512 pixels.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1] / "tests" / "support"))

RINGS = 61
"""Of the head's mesh: about 5000 vertices."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", nargs="+", type=int, default=[500, 10_000])
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--method", default="flame-nerf-cpu")
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--folder", type=Path, help="where subjects are made and kept; default: a temporary folder")
    parser.add_argument("--one", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        print(json.dumps(train(args)))
        return
    from long_subject import long_subject

    print("| frames | held memory, GiB, at its height | with mapped files | reading the pictures | a step |")
    print("|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as temporary:
        for count in args.frames:
            subject = (args.folder or Path(temporary)) / f"{count}x{args.size}"
            if not (subject / "transforms.json").exists():
                long_subject(subject, size=args.size, count=count, rings=RINGS)
            options = ["--one", str(subject), "--method", args.method, "--steps", str(args.steps)]
            done = subprocess.run([sys.executable, __file__, *options], stdout=subprocess.PIPE, text=True, check=True)
            found = json.loads(done.stdout.splitlines()[-1])
            memory = " | ".join(f"{found[name] / 2**20:.2f}" for name in ("RssAnon", "VmRSS"))
            print(f"| {count} | {memory} | {found['reading']:.0f} s | {1000 * found['step']:.0f} ms |", flush=True)


def train(args: argparse.Namespace) -> dict[str, float]:
    """Peaks in KiB, seconds of the first step, and the median of the later half of the steps."""
    from nerfstudio.configs.method_configs import all_methods
    from training_speed import make_trainer, train_step

    most, done = {"RssAnon": 0, "VmRSS": 0}, threading.Event()

    def watch() -> None:
        while not done.wait(0.2):
            for line in Path("/proc/self/status").read_text().splitlines():
                name, _, value = line.partition(":")
                if name in most:
                    most[name] = max(most[name], int(value.split()[0]))

    watcher = threading.Thread(target=watch)
    watcher.start()
    trainer, times = make_trainer(all_methods[args.method], args.one, downscale=1), []
    for index in range(args.steps):
        start = time.perf_counter()
        train_step(trainer, index)
        times.append(time.perf_counter() - start)
    done.set()
    watcher.join()
    return {**most, "reading": times[0], "step": statistics.median(times[len(times) // 2 :])}


if __name__ == "__main__":
    main()
