"""The `convert-head` command."""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console

from data_tools.convert_head.config import ConvertConfig, ConvertSummary
from data_tools.runs.errors import run_command
from flame_nerf.runtime.words import escape


def convert_head(
    source: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="SOURCE")],
    target: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="HEAD.npz")],
    config: Annotated[ConvertConfig, tyro.conf.arg(name="")],
) -> int:
    """Make a head model for `track --head` out of FLAME, an SMPL-format model (SMAL's animals), GNM or one of our own.

    Reads FLAME's generic_model.pkl, male and female files, flame2023.pkl and .npz files; pickles are read without
    running what is in them. Region masks and the landmark embedding come from your files, or are found on the head.
    The result holds the other model's data and stays under its licence: keep it with you.

    Examples:
      flame-nerf-data convert-head generic_model.pkl flame.npz --masks FLAME_masks.pkl --remember
      flame-nerf-data convert-head flame2023.pkl flame.npz --landmarks mediapipe_landmark_embedding.npz
      flame-nerf-data convert-head smal_CVPR2017.pkl dog.npz --vertices head_vertices.txt --landmarks none

    Args:
        source: The model's own file.
        target: The head model to write.
    """
    from data_tools.convert_head.convert import convert_head as run
    from data_tools.runs.progress import StageBars
    from flame_nerf.heads import HeadModelError

    def work() -> None:
        with StageBars() as bars, contextlib.ExitStack() as running:

            def on_stage(title: str, total: int) -> Callable[[], None]:
                running.close()
                return running.enter_context(bars.stage(title, total))

            summary = run(source, target, config, on_stage)
        _print(summary)

    return run_command(work, (HeadModelError, OSError), "Interrupted; nothing was written.")


def _print(summary: ConvertSummary) -> None:
    console = Console(highlight=False, soft_wrap=True)
    regions = ", ".join(f"{name} {count}" for name, count in summary.regions.items())
    console.print(f"Found         {escape(summary.seen)}")
    console.print(f"Head          {summary.vertices} vertices, {summary.faces} faces: {escape(regions)}")
    console.print(f"Landmarks     {escape(summary.landmarks)}")
    console.print(f"Licence       {escape(summary.licence)}")
    if summary.remembered is not None:
        console.print(f"Remembered    as {escape(summary.name)} in {escape(summary.remembered)}")
    for warning in summary.warnings:
        console.print(f"[yellow]Warning:[/] {escape(warning)}")
    name = summary.name if summary.remembered else summary.path
    console.print(f"Next          flame-nerf-data track VIDEO SUBJECT --head {escape(shlex.quote(str(name)))}")
