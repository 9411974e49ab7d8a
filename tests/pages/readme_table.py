"""What the tests do with each command that a page prints.

A command of README.md, docs/ or data_tools/animal/README.md that is not in `COMMANDS`, under the text that the page
prints, fails the tests; so does one that no page prints any more. To add one, choose

- `Runs(inputs={name: maker})`: it is run in a fresh folder that holds just these. `extra` is appended so that it takes
  moments; words are replaced by `instead`. Give `avatar=True` for what wants a trained one: it runs beside `subject/`
  and `outputs/`, and `outputs/…/` or `<time>` find their folder there. `makes` names what must be there afterwards.
- `Parses(why, stops_at)`: it is only parsed, up to where the real command would start its work, for the reason given.
- `Installs()`: it changes the installation, asks the net or runs these very tests, and is not run; the extras, groups
  and modules that it names must exist.
- `Serves()`: a viewer of the trained avatar, which is started, asked for its page and stopped.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import readme_inputs as made
from readme_inputs import Input


@dataclass(frozen=True)
class Runs:
    """A command that is run, on tiny inputs."""

    inputs: Mapping[str, Input] = field(default_factory=dict)
    """What lies in the folder, by its relative name."""
    extra: str = ""
    """Appended, so that it takes moments."""
    makes: tuple[str, ...] = ()
    """Patterns of files that must be there afterwards."""
    instead: Mapping[str, str] = field(default_factory=dict)
    """Words that stand for something else here."""
    avatar: bool = False
    """Runs in the folder of the trained avatar, which holds `subject/` and `outputs/`."""
    process: bool = False
    """As a process of its own, not in the tests' one."""
    needs: str = ""
    """Package without which it is skipped."""
    fast: bool = False
    """Belongs to the fast tests."""


@dataclass(frozen=True)
class Parses:
    """A command that is only parsed: every word of it is understood."""

    why: str
    stops_at: str
    """Full name of what the real command calls with the parsed options; here it is not gone further."""


@dataclass(frozen=True)
class Installs:
    """A command that changes the installation, asks the net, or runs these very tests: what it names must exist."""


@dataclass(frozen=True)
class Serves:
    """A viewer: started, asked for its page, and stopped."""

    inputs: Mapping[str, Input] = field(default_factory=dict)
    """What lies in the folder of the trained avatar besides."""


TRAINING = "nerfstudio.scripts.train.main"
STEPS = (
    "--max-num-iterations 3 --vis tensorboard --pipeline.datamanager.train-num-rays-per-batch 64 "
    "--steps-per-eval-image 1000 --steps-per-eval-batch 1000"
)
SUBJECT = ("transforms.json", "head.npz", "images/*")
ME = tuple(f"subjects/me/{name}" for name in SUBJECT)
CHECKPOINT = "outputs/*/*/*/nerfstudio_models/*.ckpt"
FLAME = {"flame.npz": made.flame}
FLAME_2020 = {"generic_model.pkl": made.flame_pickle}


def _imports(data: Input, more: Mapping[str, Input] | None = None, **options: object) -> Runs:
    return Runs({"DATA": data, **(more or {})}, makes=(*ME, "subjects/me/report.html"), **options)


COMMANDS: dict[str, Runs | Parses | Installs | Serves] = {
    # Install.
    "pip install uv && uv run flame-nerf demo": Parses(
        "fetches the packages, and takes minutes: test_cli.py runs the demo of the clip", "flame_nerf.cli.Demo.run"
    ),
    "pip install .": Installs(),
    'pip install ".[track]"': Installs(),
    'pip install ".[depth]"': Installs(),
    'pip install ".[encoders]"': Installs(),
    'pip install ".[pytorch3d]"': Installs(),
    'pip install ".[export]"': Installs(),
    'pip install ".[track,demo]"': Installs(),
    'pip install ".[track,demo,export]"': Installs(),
    "pip install uv && uv run pytest": Installs(),
    "uv run pytest -m slow": Installs(),
    "uv run --no-sync pytest": Installs(),
    "uv run --group build-head python -m data_tools.open_head": Installs(),
    "uv run": Installs(),
    "uv sync": Installs(),
    "pip install uv": Installs(),
    "uv sync --extra pytorch3d": Installs(),
    "python3 -m venv .env && . .env/bin/activate": Installs(),
    "pip uninstall -y opencv-contrib-python; "
    "pip install --force-reinstall --no-deps opencv-python-headless==4.10.0.84": Installs(),
    "flame-nerf info": Runs(),
    # Videos.
    "uv run flame-nerf demo --video me.mp4 --output outputs/me": Runs(
        {"me.mp4": made.video},
        "--steps 3 --frames 3",
        ("outputs/me/films/orbit.mp4", "outputs/me/films/held_out.png", "outputs/me/subject/report.html"),
        needs="mediapipe",
    ),
    "flame-nerf-data track VIDEO.mp4 subjects/me": Runs(
        {"VIDEO.mp4": made.video}, makes=(*ME, "subjects/me/report.html"), process=True, needs="mediapipe"
    ),
    "flame-nerf-data track VIDEO.mp4 subjects/me --head flame": Runs(
        {"VIDEO.mp4": made.video, "flame": made.remembered_head}, makes=ME, needs="mediapipe"
    ),
    "flame-nerf-data track VIDEO.mp4 subject/": Runs(
        {"VIDEO.mp4": made.video}, makes=("subject/transforms.json",), needs="mediapipe"
    ),
    "flame-nerf-data batch videos/ subjects/ --train flame-nerf --workers 4 --gpus 4": Parses(
        "needs four GPUs; test_batch.py gives it without them", "data_tools.cli.batch"
    ),
    # Other tools' data.
    "flame-nerf-data import metrical-tracker OUT subjects/me": Runs(
        {"OUT": made.metrical}, makes=(*ME, "subjects/me/report.html"), process=True
    ),
    "flame-nerf-data import insta DATA subjects/me": _imports(made.insta, fast=True),
    "flame-nerf-data import vhap DATA subjects/me --flame flame2023.pkl": _imports(
        made.vhap, {"flame2023.pkl": made.flame_pickle}
    ),
    "flame-nerf-data import nha DATA subjects/me --flame generic_model.pkl": _imports(made.nha, FLAME_2020),
    "flame-nerf-data import imavatar DATA subjects/me --flame generic_model.pkl": _imports(made.imavatar, FLAME_2020),
    "flame-nerf-data import deca DATA subjects/me --flame flame.npz": _imports(
        made.deca, FLAME, extra="--focal-px 160"
    ),
    "flame-nerf-data import nerface DATA subjects/me": _imports(made.nerface_data, needs="mediapipe"),
    "flame-nerf-data import auto DATA subjects/me": _imports(made.insta),
    "flame-nerf-data convert-head generic_model.pkl flame.npz --masks FLAME_masks.pkl --remember": Runs(
        {**FLAME_2020, "FLAME_masks.pkl": made.flame_mask_file}, "--landmarks none", ("flame.npz",)
    ),
    "flame-nerf-data convert-head smal.pkl dog.npz --vertices head.txt --landmarks none": Runs(
        {"smal.pkl": made.smal_pickle, "head.txt": made.head_rows}, makes=("dog.npz",), fast=True
    ),
    "flame-nerf-data convert-head": Runs(extra="--help", fast=True),
    "flame-nerf-data synth subjects/ada": Runs(
        extra="--frames 8 --size 48 --view-moments 1 --novel-frames 6",
        makes=("subjects/ada/transforms.json", "subjects/ada/novel_view/transforms.json", "subjects/ada/film.mp4"),
    ),
    # A subject.
    "flame-nerf-data check subjects/me": Runs({"subjects/me": made.subject}, process=True),
    "flame-nerf-data check subjects/me --report me.html": Runs(
        {"subjects/me": made.subject}, makes=("me.html", "me.json"), fast=True
    ),
    "flame-nerf-data export insta subjects/me DST": Runs(
        {"subjects/me": made.subject}, makes=("DST/transforms_train.json", "DST/images/*"), fast=True
    ),
    "flame-nerf-data export vhap subjects/me DST": Runs(
        {"subjects/me": made.flame_subject}, makes=("DST/transforms.json", "DST/images/*")
    ),
    "flame-nerf-data depth subject/": Runs({"subject": made.subject}, "--prior mesh", ("subject/depths/*",), fast=True),
    # Training.
    "ns-train --help": Runs(),
    "ns-train flame-nerf --help": Runs(),
    "ns-train flame-nerf --data subject/": Parses("is set up for a GPU", TRAINING),
    "ns-train flame-nerf --machine.num-devices 2": Parses("needs two GPUs", TRAINING),
    "ns-train flame-nerf-cpu --data subject/": Runs({"subject": made.subject}, STEPS, (CHECKPOINT,)),
    "ns-train nerface --data subject/": Runs({"subject": made.subject}, STEPS, (CHECKPOINT,)),
    "ns-train nha --data subject/": Runs({"subject": made.subject}, STEPS, (CHECKPOINT,)),
    "ns-train flame-nerf-insta --data subject/": Runs({"subject": made.subject}, STEPS, (CHECKPOINT,)),
    # An avatar.
    "ns-viewer --load-config outputs/…/config.yml": Serves(),
    "ns-eval --load-config outputs/…/config.yml": Runs(makes=("output.json",), avatar=True),
    "ns-render camera-path --load-config outputs/…/config.yml --camera-path-filename path.json": Runs(
        {"path.json": made.path_json}, makes=("renders/*.mp4",), avatar=True
    ),
    "ns-render interpolate --load-config outputs/…/config.yml": Runs(
        extra="--interpolation-steps 1", makes=("renders/*.mp4",), avatar=True
    ),
    "ns-render dataset --load-config outputs/…/config.yml": Runs(makes=("renders/test/*/*",), avatar=True),
    "flame-nerf drive outputs/…/config.yml --sweep jawOpen --orbit": Runs(
        extra="--frames 3",
        makes=("outputs/films/jawOpen-orbit.mp4", "outputs/films/jawOpen-orbit.trust.csv"),
        avatar=True,
    ),
    "flame-nerf drive outputs/…/config.yml --motion other-subject/": Runs(
        {"other-subject": made.subject}, "--frames 2", ("outputs/films/other-subject.mp4",), avatar=True
    ),
    "flame-nerf export-track outputs/…/config.yml refined/": Runs(
        makes=tuple(f"refined/{name}" for name in SUBJECT), avatar=True
    ),
    "ns-export pointcloud --load-config outputs/…/config.yml --output-dir cloud": Runs(
        extra="--num-points 500", makes=("cloud/*.ply",), avatar=True
    ),
    "ns-export poisson --load-config outputs/…/config.yml --output-dir mesh": Parses(
        "needs a head that has been trained for more than moments: test_nerfstudio_contract.py runs it",
        "nerfstudio.scripts.exporter.ExportPoissonMesh.main",
    ),
    "ns-export tsdf --load-config outputs/…/config.yml --output-dir mesh --use-bounding-box False": Runs(
        extra="--resolution 48 --num-pixels-per-side 64 --target-num-faces 400", makes=("mesh/*.ply",), avatar=True
    ),
    "flame-nerf export gltf outputs/…/config.yml me.glb --animation": Runs(
        extra="--size 32", makes=("me.glb",), avatar=True, needs="xatlas"
    ),
    "flame-nerf export obj outputs/…/config.yml meshes/ --format ply": Runs(makes=("meshes/000000.ply",), avatar=True),
    # An avatar that goes places.
    "flame-nerf move outputs/…/config.yml --data subject/": Runs(avatar=True),
    "flame-nerf pack outputs/…/config.yml me.zip": Runs(makes=("me.zip",), avatar=True),
    "flame-nerf drive me.zip --sweep jawOpen": Runs(
        {"me.zip": made.packed}, "--frames 3", ("outputs/films/jawOpen.mp4",), avatar=True
    ),
    "flame-nerf info me.zip": Runs({"me.zip": made.packed}, avatar=True),
    "flame-nerf unpack me.zip me/": Runs({"me.zip": made.packed}, makes=("me/config.yml",), avatar=True),
    "ns-viewer --load-config me/config.yml": Serves({"me": made.unpacked}),
    # Motion.
    "flame-nerf motion take.csv take.npz": Runs({"take.csv": made.live_link_take}, makes=("take.npz",), fast=True),
    "flame-nerf motion subjects/me me.npz --start 0.2": Runs({"subjects/me": made.subject}, makes=("me.npz",)),
    "flame-nerf motion VIDEO.mp4 video.npz": Parses(
        "tracks a video, as the commands that track do", "flame_nerf.cli.MotionFile.run"
    ),
    "flame-nerf motion me.npz me.csv --fps 30": Runs({"me.npz": made.motion}, makes=("me.csv",), fast=True),
    "flame-nerf drive outputs/…/config.yml --motion take.csv --background white": Runs(
        {"take.csv": made.live_link_take}, "--frames 2", ("outputs/films/take.mp4",), avatar=True
    ),
    "flame-nerf drive outputs/…/config.yml --motion me.npz --background transparent --format png": Runs(
        {"me.npz": made.motion}, "--frames 2", ("outputs/films/me/000001.png",), avatar=True
    ),
    "flame-nerf drive outputs/…/config.yml --sweep jawOpen mouthSmileLeft --width 128 --supersample 2": Runs(
        extra="--frames 3", makes=("outputs/films/jawOpen-mouthSmileLeft.mp4",), instead={"128": "16"}, avatar=True
    ),
    "flame-nerf drive outputs/…/config.yml --camera-path path.json": Runs(
        {"path.json": made.path_json}, "--width 16", ("outputs/films/path.mp4",), avatar=True
    ),
    "flame-nerf live outputs/…/config.yml --udp-port 11111 --listen 192.168.1.20": Parses(
        "waits for a phone; test_udp.py sends what one sends", "flame_nerf.cli.Live.run"
    ),
    "flame-nerf live outputs/…/config.yml --camera 0": Parses(
        "wants a camera; test_camera.py gives a film instead", "flame_nerf.cli.Live.run"
    ),
    "flame-nerf live outputs/…/config.yml --video me.mp4": Parses(
        "plays a film as if it were a camera, as test_camera.py does", "flame_nerf.cli.Live.run"
    ),
    # The page of a page for everybody.
    "flame-nerf export web outputs/…/config.yml me.html": Runs(
        extra="--views 2 --steps 2 --view-size 32 --texture-size 64 --layers 2", makes=("me.html",), avatar=True
    ),
    # The animal's page.
    "flame-nerf-data synth-animal fox": Runs(extra="--frames 4 --size 64", makes=("fox/animal.mp4", "fox/mattes/*")),
    "flame-nerf-data track fox/animal.mp4 fox/subject --head fox/animal_head.npz --keypoints fox/keypoints.csv "
    "--mattes fox/mattes": Runs({"fox": made.animal}, makes=tuple(f"fox/subject/{name}" for name in SUBJECT)),
    "ns-train flame-nerf-cpu --data fox/subject --max-num-iterations 2500": Runs(
        {"fox/subject": made.subject}, STEPS, (CHECKPOINT,)
    ),
    "flame-nerf drive outputs/subject/flame-nerf-cpu/<time>/config.yml --orbit --output fox.mp4": Runs(
        extra="--frames 2", makes=("fox.mp4", "fox.png"), avatar=True
    ),
    "flame-nerf drive outputs/subject/flame-nerf-cpu/<time>/config.yml --sweep earBackLeft --output ear.mp4": Runs(
        extra="--frames 3", makes=("ear.mp4",), instead={"earBackLeft": "mouthSmileLeft"}, avatar=True
    ),
}
