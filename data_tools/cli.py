"""flame-nerf-data: from videos and other people's data to subjects that can be trained on."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console
from rich.markup import escape

from data_tools.tracking import TrackConfig, TrackingError, TrackSummary


def track(
    video: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="VIDEO")],
    subject: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="SUBJECT")],
    config: Annotated[TrackConfig, tyro.conf.arg(name="")],
) -> int:
    """Track the head in a video and write it as a subject: pictures, masks, cameras, a moving mesh and a report.

    Film one person's head and shoulders for half a minute or more, in even light, in focus, with the whole head in the
    picture. Let them talk, open the mouth wide, and turn the head slowly to both sides. The camera may move or stand.

    An interrupted run goes on where it stopped: give the same command again.

    Examples:
      flame-nerf-data track me.mp4 subjects/me
      flame-nerf-data track me.mp4 subjects/me --focal-px 1450 --overwrite

    Args:
        video: The video, anything that ffmpeg reads.
        subject: Folder to write the subject to; made if it is not there.
    """
    from data_tools.tracking.pipeline import track as run

    try:
        summary = run(video, subject, config)
    except TrackingError as error:
        Console(stderr=True).print(f"[bold red]Error:[/] {escape(str(error))}", highlight=False, soft_wrap=True)
        return 1
    except KeyboardInterrupt:
        Console(stderr=True).print("Interrupted. Give the same command again to go on from here.", soft_wrap=True)
        return 130
    _print(summary)
    return 0


def _print(summary: TrackSummary) -> None:
    console = Console(highlight=False, soft_wrap=True)
    low, high = summary.yaw_range_deg
    share, left_out = 100 * summary.reprojection_fraction, len(summary.dropped)
    console.print(f"Frames        {summary.frames} ({left_out} left out), {summary.frames_per_second:.1f} a second")
    console.print(f"Landmarks     {summary.reprojection_px:.2f} px off, {share:.2f} % of the face's height")
    console.print(f"Outline       {summary.outline_iou:.3f} IoU with the matte, brow to chin")
    console.print(f"Head turns    {low:.0f} to {high:+.0f} degrees")
    console.print(f"Subject       {escape(str(summary.subject))}")
    console.print(f"Report        {escape(str(summary.report))}")
    for warning in summary.warnings:
        console.print(f"[yellow]Warning:[/] {escape(warning)}")
    console.print(f"Next          ns-train flame-nerf-cpu --data {escape(str(summary.subject))}")


def main() -> None:
    """Entry point of `flame-nerf-data`."""
    sys.exit(
        tyro.extras.subcommand_cli_from_dict(
            {"track": track},
            prog="flame-nerf-data",
            description="Make subjects for flame-nerf. Each command explains itself with --help.",
        )
    )


if __name__ == "__main__":
    main()
