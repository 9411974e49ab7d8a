"""One task of a Slurm array: `python -m data_tools.batch.task MANIFEST RETRIES INDEX`, as the script calls it."""

from __future__ import annotations

import json
import signal
import sys
import threading
from dataclasses import asdict
from pathlib import Path

from data_tools.batch.jobs import run_job
from data_tools.batch.slurm import read_manifest, result_path
from flame_nerf.runtime.files import whole


def main(manifest: Path, retries: int, index: int) -> None:
    """Does the manifest's job of this index and writes its result beside the manifest."""
    stop = threading.Event()
    # Slurm asks so before it kills: cancelled, out of time, or the machine is wanted for something else.
    signal.signal(signal.SIGTERM, lambda number, frame: stop.set())
    job = read_manifest(manifest)[index]
    result = run_job(job, retries, stop=stop.is_set, told=lambda title: print(f"{job.name}: {title}", flush=True))
    path = result_path(manifest, job.name)
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole(path) as spare:
        spare.write_text(json.dumps(asdict(result)))
    print(f"{job.name}: {result.status} {result.error}", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
