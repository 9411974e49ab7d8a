"""Bad videos and bad subjects, made from good ones: whether each ends as it should. A Markdown table.

    python benchmarks/bad_inputs.py
    python benchmarks/bad_inputs.py --only subjects --like depth

The kinds, how each is made and what is expected of it: `spoiling/`. A video is tracked up to the fit; a subject is
checked, and training on it begun. Each is tried in a process of its own: its exit status, its words, what it left on
the disk, its time and the memory that it took at most.
"""

from __future__ import annotations

import argparse
import multiprocessing
import re
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))
from spoiling.good import GoodFilms
from spoiling.outcome import Kind
from spoiling.subjects import SUBJECT_GROUPS, GoodSubject, try_subject
from spoiling.videos import VIDEO_GROUPS, try_video

from data_tools.tracking.observe.landmarks import solutions

PATIENCE = 300.0
"""Seconds after which a case hangs."""
GROUPS = {"videos": VIDEO_GROUPS, "subjects": SUBJECT_GROUPS}


@dataclass(frozen=True)
class Tried:
    """What came of one case."""

    faults: list[str]
    peak_mb: int
    seconds: float


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=list(GROUPS), help="one of the two registers")
    parser.add_argument("--like", default="", help="pattern of the names of kinds")
    options = parser.parse_args(arguments)
    heads = ("kinds", "refused", "not as expected", "tracebacks", "hangs", "most seconds", "peak MB")
    print(f"| bad {' and '.join([options.only] if options.only else GROUPS)} | {' | '.join(heads)} |")
    print(f"|---|{'---:|' * len(heads)}", flush=True)
    bad = 0
    # Loaded once, for all children.
    solutions()
    with tempfile.TemporaryDirectory(prefix="bad-inputs-") as folder:
        for what, groups in GROUPS.items():
            if options.only in (None, what):
                bad += sum(_group(what, name, kinds, options.like, Path(folder)) for name, kinds in groups.items())
    return int(bad > 0)


def _group(what: str, group: str, kinds: dict[str, Kind], like: str, folder: Path) -> int:
    """Try a group of kinds and print its line. Returns how many did not end as they should."""
    chosen = {name: kind for name, kind in kinds.items() if re.search(like, name)}
    place = folder / f"{what} {group}"
    place.mkdir()
    good = GoodFilms(place) if what == "videos" else GoodSubject(place)
    attempt = try_video if what == "videos" else try_subject
    good.make()
    tried = {}
    for number, (name, kind) in enumerate(chosen.items()):
        case = place / str(number)
        case.mkdir()
        tried[name] = in_child(attempt, kind, good, case)
    hangs = sum(one.faults == ["it hangs"] for one in tried.values())
    traces = sum(any("traceback" in fault for fault in one.faults) for one in tried.values())
    wrong = sum(bool(one.faults) for one in tried.values())
    cells = (len(tried), sum(kind.refused for kind in chosen.values()), wrong, traces, hangs)
    seconds = max((one.seconds for one in tried.values()), default=0.0)
    peak = max((one.peak_mb for one in tried.values()), default=0)
    print(f"| {group} | {' | '.join(map(str, cells))} | {seconds:.1f} | {peak} |", flush=True)
    for name, one in tried.items():
        if one.faults:
            print(f"    {name}: {'; '.join(one.faults)}", file=sys.stderr, flush=True)
    return wrong


def in_child(attempt: Callable[..., list[str]], *given: Any) -> Tried:
    """Try a case in a process of its own, which is ended when it takes too long."""
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe(duplex=False)
    child = context.Process(target=_send, args=(theirs, attempt, given))
    child.start()
    theirs.close()
    answered = ours.poll(PATIENCE)
    try:
        tried = ours.recv() if answered else Tried(["it hangs"], 0, PATIENCE)
    except EOFError:
        tried = Tried(["the process died"], 0, 0.0)
    if not answered:
        child.kill()
    child.join()
    return tried


def _send(pipe: Any, attempt: Callable[..., list[str]], given: tuple) -> None:
    begun = time.process_time()
    faults = attempt(*given)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    pipe.send(Tried(faults, peak, time.process_time() - begun))


if __name__ == "__main__":
    sys.exit(main())
