"""flame-nerf-data: from videos and other people's data to subjects that can be trained on."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console

from data_tools.animal import AnimalConfig, AnimalError
from data_tools.batch.command import batch
from data_tools.check.command import check
from data_tools.convert_head.command import convert_head
from data_tools.depth import DepthConfig, DepthError
from data_tools.exporters.command import export
from data_tools.importers.command import import_command
from data_tools.runs.errors import run_command
from data_tools.synth import SynthConfig, SynthError, SynthSummary
from data_tools.tracking import TrackConfig, TrackingError, TrackSummary
from flame_nerf import one_compile_worker
from flame_nerf.runtime.command_line import console_command
from flame_nerf.runtime.words import escape

GRAVEST = 3
"""Shortfalls of the footage that tracking prints; the report has all."""


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
      flame-nerf-data track frames/ subjects/me --fps 30
      flame-nerf-data track me.mp4 subjects/me --focal-px 1450 --overwrite
      flame-nerf-data track dog.mp4 subjects/dog --head dog.npz --keypoints dog.csv --mattes dog_mattes/

    Args:
        video: The video, anything that ffmpeg reads; or a folder with its frames as pictures, in the order of their
            numbers.
        subject: Folder to write the subject to; made if it is not there.
    """
    from data_tools.tracking.pipeline import track as run

    return run_command(lambda: _print(run(video, subject, config)), TrackingError)


def _print(summary: TrackSummary) -> None:
    console = Console(highlight=False, soft_wrap=True)
    # Adding zero makes -0 a 0.
    low, high = (round(angle) + 0.0 for angle in summary.yaw_range_deg)
    share, left_out = 100 * summary.reprojection_fraction, len(summary.dropped) + summary.lost
    console.print(f"Frames        {summary.frames} ({left_out} left out), {summary.frames_per_second:.1f} a second")
    console.print(f"Landmarks     {summary.reprojection_px:.2f} px off, {share:.2f} % of the {summary.noun}'s height")
    console.print(f"Outline       {summary.outline_iou:.3f} IoU with the matte, {summary.band}")
    if summary.closures is not None:
        console.print(f"Lids          {summary.closures_followed} of {summary.closures} closures of an eye followed")
    if summary.registered is not None:
        change = f"{summary.look_before:.1f} to {summary.look_after:.1f} grey levels from the person's own look"
        console.print(f"Registration  {change}, {len(summary.by_landmarks)} frames by landmarks alone")
    console.print(f"Head turns    {low:.0f} to {high:+.0f} degrees")
    console.print(f"Subject       {escape(summary.subject)}")
    console.print(f"Report        {escape(summary.report)}")
    for note in summary.notes:
        console.print(f"Note          {escape(note)}")
    for warning in summary.warnings:
        console.print(f"[yellow]Warning:[/] {escape(warning)}")
    for shortfall in summary.shortfalls[:GRAVEST]:
        console.print(f"[yellow]Footage[/]       {escape(shortfall)}")
    if summary.shortfalls:
        rest = f"{len(summary.shortfalls) - GRAVEST} more, and " if len(summary.shortfalls) > GRAVEST else ""
        console.print(f"Footage       {summary.verdict}: {rest}what to film next, in the report")
    anyway = "to train all the same: " if summary.verdict == "film again" else ""
    console.print(f"Next          {anyway}ns-train flame-nerf-cpu --data {escape(shlex.quote(str(summary.subject)))}")


def depth(
    subject: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="SUBJECT")],
    config: Annotated[DepthConfig, tyro.conf.arg(name="")],
) -> int:
    """Write relative depth for every frame of a subject, which training then compares rendered depth with.

    Either a monocular estimator's (any depth-estimation model of the transformers package, by hub name or folder), or
    the tracked mesh's own, which `track` has written already. transforms.json records which.

    An interrupted run goes on where it stopped: give the same command again.

    Examples:
      flame-nerf-data depth subjects/me
      flame-nerf-data depth subjects/me --prior mesh
      flame-nerf-data depth subjects/me --prior ~/models/Depth-Anything-V2-Small-hf --fallback none

    Args:
        subject: Folder of the subject, as written by `flame-nerf-data track`.
    """
    from data_tools.depth.pipeline import report, write_depth

    return run_command(lambda: report(write_depth(subject, config)), DepthError)


def synth(
    subject: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="SUBJECT")],
    config: Annotated[SynthConfig, tyro.conf.arg(name="")],
) -> int:
    """Make a synthetic person and film them: a subject with exact cameras, mesh, masks and depth, and held-out films.

    SUBJECT/ is an ordinary subject to train on. SUBJECT/novel_view/ holds moments of the same performance from twelve
    other cameras, SUBJECT/novel_expression/ expressions that training never shows: with them a trained avatar can be
    measured where real videos know nothing. SUBJECT/film.mp4 is the same person as a video, for `track`.

    Examples:
      flame-nerf-data synth subjects/ada
      flame-nerf-data synth subjects/ben --seed 7 --size 512 --light room

    Args:
        subject: Folder to write the subject to; made if it is not there.
    """
    from data_tools.synth import synthesise

    interrupted = "Interrupted; nothing was written. Give the same command to start again."
    return run_command(lambda: _print_synth(synthesise(subject, config)), SynthError, interrupted)


def _print_synth(made: SynthSummary) -> None:
    console, folder = Console(highlight=False, soft_wrap=True), escape(made.subject)
    (left, right), (low, high) = made.yaw_range_deg, made.pitch_range_deg
    seen = f"yaw {left:.0f} to {right:+.0f}, pitch {low:.0f} to {high:+.0f} degrees"
    console.print(f"Training      {made.train_frames} frames, {seen}")
    console.print(f"Held out      {made.view_frames} from other cameras, {made.expression_frames} of new expressions")
    took = f"{made.seconds:.0f} s" if made.seconds else "there already"
    console.print(f"Subject       {folder} ({took})")
    console.print(f"Next          ns-train flame-nerf-cpu --data {escape(shlex.quote(str(made.subject)))}")


def synth_animal(
    folder: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="FOLDER")],
    config: Annotated[AnimalConfig, tyro.conf.arg(name="")],
) -> int:
    """Film a made-up animal, as the worked example of a head model of one's own: data_tools/animal/README.md.

    FOLDER gets the film, its keypoints as DeepLabCut writes them, mattes, the animal's head model, and the truth.

    Examples:
      flame-nerf-data synth-animal fox

    Args:
        folder: A new folder.
    """
    from data_tools.animal import film_animal

    def work() -> None:
        film_animal(folder, config)
        _print_animal(folder)

    return run_command(work, AnimalError, "Interrupted. Give the same command again to start again.")


def _print_animal(folder: Path) -> None:
    head, keypoints, mattes = (folder / name for name in ("animal_head.npz", "keypoints.csv", "mattes"))
    given = ["--head", head, "--keypoints", keypoints, "--mattes", mattes]
    track_it = shlex.join(map(str, ["flame-nerf-data", "track", folder / "animal.mp4", folder / "subject", *given]))
    console = Console(highlight=False, soft_wrap=True)
    console.print(f"Animal        {escape(folder)}")
    console.print(f"Next          {escape(track_it)}")


@console_command()
def main() -> None:
    """Entry point of `flame-nerf-data`."""
    one_compile_worker()
    sys.exit(
        tyro.extras.subcommand_cli_from_dict(
            {
                "track": track,
                "batch": batch,
                "import": import_command,
                "export": export,
                "check": check,
                "convert-head": convert_head,
                "depth": depth,
                "synth": synth,
                "synth-animal": synth_animal,
            },
            prog="flame-nerf-data",
            description="Make subjects for flame-nerf. Each command explains itself with --help.",
        )
    )


if __name__ == "__main__":
    main()
