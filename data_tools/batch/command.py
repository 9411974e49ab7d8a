"""The `batch` command."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from data_tools.batch.config import BatchConfig, BatchError
from data_tools.batch.jobs import Job, JobResult
from flame_nerf.runtime.files import whole
from flame_nerf.runtime.words import escape

if TYPE_CHECKING:
    from data_tools.batch.engines import Engine

SUMMARY = "summary.json"
_COLOURS = {"done": "green", "done before": "dim", "failed": "red", "interrupted": "yellow"}


def batch(
    source: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="VIDEOS")],
    config: Annotated[BatchConfig, tyro.conf.arg(name="")],
    subjects: Annotated[tyro.conf.Positional[Path | None], tyro.conf.arg(metavar="SUBJECTS")] = None,
) -> int:
    """Track every video of a folder, and train on each subject if asked, several at a time.

    VIDEOS/anna.mp4 becomes SUBJECTS/anna, as `flame-nerf-data track` writes it, and is then trained on as `ns-train`
    does. With --train, subjects that already lie in VIDEOS are trained on too. What each command says goes to
    SUBJECTS/logs/; at the end there is a table, also as SUBJECTS/summary.json.

    Give the same command again to go on: what is finished is not done again, what failed or was interrupted goes on
    where it stopped. The exit status is 1 if anything failed.

    Examples:
      flame-nerf-data batch videos/ subjects/ --workers 2
      flame-nerf-data batch videos/ subjects/ --train flame-nerf --workers 4 --gpus 4
      flame-nerf-data batch subjects/ --train flame-nerf-cpu --train-options="--max-num-iterations 3000"
      flame-nerf-data batch videos/ subjects/ --train flame-nerf --engine ray --workers 16 --gpus 1
      flame-nerf-data batch videos/ subjects/ --train flame-nerf --engine slurm --workers 16 --gpus 1

    Args:
        source: Folder of videos, or of subjects.
        subjects: Folder to write the subjects to. Not given: the same folder.
    """
    from data_tools.batch.plan import plan

    console = Console(stderr=True)
    source, subjects = source.expanduser().absolute(), (subjects or source).expanduser().absolute()
    try:
        jobs = plan(source, subjects, config)
        subjects.mkdir(parents=True, exist_ok=True)
        results, interrupted = _run(jobs, config, console)
        _write_summary(subjects / SUMMARY, results)
    except BatchError as error:
        console.print(f"[bold red]Error:[/] {escape(error)}", highlight=False, soft_wrap=True)
        return 1
    except OSError as error:
        console.print(f"[bold red]Error:[/] {escape(error)}. Check the folder, then run the same command again.")
        return 1
    _print(results, subjects)
    if interrupted:
        console.print("Interrupted. Give the same command again to go on from here.", soft_wrap=True)
        return 130
    return int(any(result.status not in ("done", "done before") for result in results))


def _run(jobs: Sequence[Job], config: BatchConfig, console: Console) -> tuple[list[JobResult], bool]:
    """Results in the order of the jobs, and whether the user stopped them."""
    from data_tools.batch.engines import local, on_ray
    from data_tools.batch.slurm import on_slurm

    results: dict[str, JobResult] = {}
    running: dict[str, str] = {}
    interrupted = False
    bar = Progress(
        TextColumn("Subjects"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.description}"),
        console=console,
        disable=not console.is_terminal,
    )
    with bar:
        task = bar.add_task("", total=len(jobs))

        def show() -> None:
            bar.update(task, completed=len(results), description=", ".join(f"{n}: {s}" for n, s in running.items()))

        def told(name: str, step: str) -> None:
            running[name] = step
            show()

        try:
            engines: dict[str, Engine] = {"local": local, "ray": on_ray, "slurm": on_slurm}
            for result in engines[config.engine](jobs, config, told):
                results[result.name] = result
                running.pop(result.name, None)
                show()
                why = f": {result.error}" if result.error else ""
                console.print(f"{result.name}: {result.status}, {result.minutes:.1f} min{why}", markup=False)
        except KeyboardInterrupt:
            interrupted = True
    return [results.get(job.name, JobResult(job.name, "interrupted", 0.0, None)) for job in jobs], interrupted


def _write_summary(path: Path, results: Sequence[JobResult]) -> None:
    with whole(path) as spare:
        spare.write_text(json.dumps([asdict(result) for result in results], indent=1))


def _print(results: Sequence[JobResult], subjects: Path) -> None:
    table = Table(box=None, pad_edge=False)
    for title, justify in (("Subject", "left"), ("Status", "left"), ("Minutes", "right"), ("Frames", "right")):
        table.add_column(title, justify=justify, no_wrap=True)
    table.add_column("Error", overflow="fold")
    for result in results:
        status = f"[{_COLOURS[result.status]}]{result.status}[/]"
        frames = "" if result.frames is None else str(result.frames)
        table.add_row(escape(result.name), status, f"{result.minutes:.1f}", frames, escape(result.error))
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 200)
    console.print(table)
    failed = sum(result.status == "failed" for result in results)
    console.print(f"{len(results)} subjects, {failed} failed; {escape(subjects / SUMMARY)}", soft_wrap=True)
    if failed:
        console.print(f"Logs          {escape(subjects / 'logs')}", soft_wrap=True)
