"""The `export` command."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console

from data_tools.exporters.config import ExportConfig, ExportError, ExportFormat, ExportSummary
from data_tools.runs.errors import run_command
from flame_nerf.runtime.words import escape


def export(
    format: Annotated[tyro.conf.Positional[ExportFormat], tyro.conf.arg(metavar="{insta,vhap}")],
    subject: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="SUBJECT")],
    folder: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="DST")],
    config: Annotated[ExportConfig, tyro.conf.arg(name="")],
) -> int:
    """Write a subject in another tool's layout, to run that tool on our tracking.

    insta takes any mesh. vhap, which GaussianAvatars reads too, needs a subject that was posed with FLAME.

    Examples:
      flame-nerf-data export insta subjects/me ~/INSTA/data/me
      flame-nerf-data export vhap subjects/me ~/GaussianAvatars/data/me

    Args:
        format: The layout.
        subject: Folder of the subject.
        folder: Folder to write; made if it is not there.
    """
    from data_tools.exporters.pipeline import export_subject

    return run_command(lambda: _print(export_subject(format, subject, folder, config)), ExportError)


def _print(summary: ExportSummary) -> None:
    console = Console(highlight=False, soft_wrap=True)
    console.print(f"Pictures      {summary.pictures}")
    console.print(f"Written to    {escape(summary.folder)}")
    for note in summary.notes:
        console.print(f"[yellow]Note:[/] {escape(note)}")
