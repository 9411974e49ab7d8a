"""The `import` command."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console

from data_tools.importers.config import FormatName, ImportConfig, ImportingError, ImportSummary
from data_tools.runs.errors import run_command
from flame_nerf.runtime.words import escape


def import_command(
    format: Annotated[tyro.conf.Positional[FormatName], tyro.conf.arg(metavar="FORMAT")],
    source: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="SRC")],
    subject: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="DST")],
    config: Annotated[ImportConfig, tyro.conf.arg(name="")],
) -> int:
    """Turn another tool's tracked data into a subject.

    FORMAT is auto (finds out and says why) or one of
      metrical-tracker   the tracker's output folder: checkpoint/, mesh/ (or --flame), input/, and mattes in matte/
      insta              INSTA's dataset: transforms_*.json with a mesh for each frame
      vhap               VHAP's export, GaussianAvatars' datasets, one or several cameras, unions     needs --flame
      nha                video-head-tracker, Neural Head Avatars: tracked_flame_params.npz, frame_*/  needs --flame
      imavatar           IMavatar and PointAvatar: flame_params.json, image/, mask/                   needs --flame
      deca               DECA's code.json with image/, and keypoint.json if there is one              needs --flame
      nerface            NeRFace: cameras and expressions are kept, the mesh is tracked anew

    The mesh is laid on the pictures and compared with their mattes. If it does not lie there, the import stops and says
    which other reading of axes, signs or scale would fit. SRC is only read.

    Pictures and mattes may be numbered otherwise than the data: where some do not match, the mesh is laid on them with
    the numbers shifted, and the report says so. Absolute paths of another machine are found by their ends.

    An interrupted import goes on where it stopped: give the same command again.

    Examples:
      flame-nerf-data import auto ~/data/marcel subjects/marcel
      flame-nerf-data import vhap ~/data/UNION10_306 subjects/306 --flame ~/flame/flame2023.pkl

    Args:
        format: What the data are.
        source: Folder with the data.
        subject: Folder to write the subject to; made if it is not there.
    """
    from data_tools.importers.pipeline import import_data

    return run_command(lambda: _print(import_data(format, source, subject, config)), ImportingError)


def _print(summary: ImportSummary) -> None:
    from data_tools.importers.report import reasons_in_short

    console = Console(highlight=False, soft_wrap=True)

    def line(name: str, text: str) -> None:
        console.print(f"{name:<16}{escape(text)}")

    line("Format", summary.format + (f": {summary.why}" if summary.why else ""))
    for name, value in summary.facts.items():
        line(name.capitalize(), value)
    line("Imported", f"{summary.pictures} pictures of {summary.timesteps} moments")
    iou = "not measured: no mattes" if summary.outline_iou is None else f"{summary.outline_iou:.3f} IoU with the matte"
    line("Outline", iou)
    for reason in reasons_in_short(summary.left_out):
        line("Left out", reason)
    line("Subject", str(summary.subject))
    line("Report", str(summary.report))
    for warning in summary.warnings:
        console.print(f"[yellow]Warning:[/] {escape(warning)}")
    line("Footage", f"flame-nerf-data check {shlex.quote(str(summary.subject))} --report PAGE.html says what it covers")
    line("Next", f"ns-train flame-nerf-cpu --data {shlex.quote(str(summary.subject))}")
