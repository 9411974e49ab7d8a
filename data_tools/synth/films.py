"""The three films of a synthetic person, written so that an interrupted run leaves nothing that loads as whole."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float

from data_tools.open_head.render import camera_around
from data_tools.runs.errors import disk_errors
from data_tools.runs.pictures import save_picture
from data_tools.runs.progress import StageBars
from data_tools.synth.config import SynthConfig, SynthError, SynthSummary
from data_tools.synth.figure import Figure
from data_tools.synth.noise import Noise
from data_tools.synth.performance import (
    FPS,
    NOVEL,
    Performance,
    draw_identity,
    generators,
    novel_performance,
    training_performance,
)
from data_tools.synth.render import DEPTH_UNIT, Camera, Moment, Shot
from data_tools.tracking.fit.fit_result import LIPS_APART
from data_tools.tracking.result import MOST_TEST, TEST_SHARE
from flame_nerf.film import FilmError, FilmWriter
from flame_nerf.geometry import perspective, world_to_camera
from flame_nerf.heads import HeadModel, load_head
from flame_nerf.runtime.door import decode_picture
from flame_nerf.runtime.files import whole_folder
from flame_nerf.subject import Frame, HeadTrack, Subject, SubjectError, load_subject, write_subject

FOCAL = 1.45
"""Focal length in picture widths: a phone held at arm's length."""
DISTANCE = 0.60
"""From camera to head, metres."""
TARGET = (0.0, -0.02, 0.0)
"""What the cameras look at, head frame: the middle of head and neck."""
RIG = tuple((float(sign * yaw), 0.0) for yaw in (15, 30, 45, 60, 75) for sign in (1, -1)) + ((0.0, 20.0), (0.0, -20.0))
"""Yaw and pitch in degrees, around the head, of the cameras of novel_view. They ride along with the head, so that an
angle is one wherever the head turns."""
MOST_TURN_DEG = 60.0
"""Further than this the tracker's landmarks are not seen from the one camera."""
CRF = 12
"""Quality of the film: compression is to cost the landmark detector nothing."""
LICENCE = "CC0-1.0"


@dataclass(frozen=True)
class _View:
    """One picture to take."""

    row: int
    """Moment of its performance."""
    c2w: Float[np.ndarray, "4 4"]
    camera: str
    moment: int | None
    expression: str | None


def load_depth(path: Path) -> Float[np.ndarray, "H W"]:
    """A stored exact depth picture: metres along the optical axis, NaN where a pixel's centre shows no head.

    Raises:
        OSError: it is missing or no 16-bit picture.
    """
    stored = decode_picture(path, OSError, remedy="Make the subject again with --overwrite.")
    if stored.dtype != np.uint16:
        raise OSError(f"{path}: no 16-bit depth picture. Make the subject again with --overwrite.")
    return np.where(stored > 0, stored * DEPTH_UNIT, np.nan)


def synthesise(subject_dir: str | Path, config: SynthConfig | None = None, silent: bool = False) -> SynthSummary:
    """Make a synthetic person and film them; see the package's docstring for what is written.

    The same options give the same files, byte for byte, on one machine. Everything is written to a hidden folder beside
    `subject_dir` and takes its name at the end.

    Args:
        subject_dir: folder to write; it must not exist, or be empty, unless it is a synthetic subject to overwrite.
        silent: show no progress bars.

    Given again with the same options, it answers with what it made.

    Raises:
        SynthError: an option is out of range, the folder holds something else, or the disk is full.
    """
    config = config or SynthConfig()
    _check(config)
    target = Path(subject_dir).absolute()
    started = time.perf_counter()
    made = _made_already(target, config)
    if made is not None:
        return _summary(target, made, 0.0)
    try:
        with (
            disk_errors(target, SynthError, "It starts again from the beginning."),
            whole_folder(target, alone=True) as spare,
            StageBars(silent) as bars,
        ):
            subjects = _film_all(spare, config, bars)
    except FilmError as error:
        raise SynthError(str(error)) from error
    return _summary(target, subjects, time.perf_counter() - started)


def _summary(target: Path, subjects: list[Subject], seconds: float) -> SynthSummary:
    angles = np.array([(f["yaw_deg"], f["pitch_deg"]) for f in subjects[0].extra["synth"]["frames"]])
    low, high = angles.min(axis=0), angles.max(axis=0)
    return SynthSummary(
        subject=target,
        train_frames=len(subjects[0].frames),
        view_frames=len(subjects[1].frames),
        expression_frames=len(subjects[2].frames),
        yaw_range_deg=(float(low[0]), float(high[0])),
        pitch_range_deg=(float(low[1]), float(high[1])),
        seconds=seconds,
    )


def _check(config: SynthConfig) -> None:
    smallest = {"frames": 8, "size": 32, "view_moments": 1, "novel_frames": len(NOVEL), "seed": 0, "take": 0}
    for name, least in smallest.items():
        if getattr(config, name) < least:
            raise SynthError(f"--{name.replace('_', '-')} is {getattr(config, name)}; expected at least {least}.")
    if not 0 <= config.turn_deg <= MOST_TURN_DEG:
        raise SynthError(f"--turn-deg is {config.turn_deg}; expected 0 to {MOST_TURN_DEG:.0f}.")


def _made_already(target: Path, config: SynthConfig) -> list[Subject] | None:
    """The three subjects, where an earlier call with these options made them.

    Raises:
        SynthError: the folder holds something that may not be replaced.
    """
    if target.exists() and not target.is_dir():
        raise SynthError(f"{target}: is a file. Name a folder for the subject.")
    if not target.exists() or not any(target.iterdir()):
        return None
    try:
        subject = load_subject(target)
    except SubjectError:
        subject = None
    about = subject.extra.get("synth") if subject is not None else None
    if not isinstance(about, dict):
        raise SynthError(f"{target}: holds something that is no synthetic subject. Name another folder, or clear it.")
    if config.overwrite:
        return None
    if about.get("options") == _options(config):
        try:
            return [subject, load_subject(target / "novel_view"), load_subject(target / "novel_expression")]
        except SubjectError as error:
            raise SynthError(f"{error} Make it again with --overwrite.") from error
    raise SynthError(
        f"{target}: already holds a synthetic subject, of other options. Use --overwrite, or name another folder."
    )


def _options(config: SynthConfig) -> dict[str, object]:
    """What decides what is made. The first take has no number: earlier releases knew no other."""
    left_out = {"overwrite"} if config.take else {"overwrite", "take"}
    return {name: value for name, value in dataclasses.asdict(config).items() if name not in left_out}


def _film_all(root: Path, config: SynthConfig, bars: StageBars) -> list[Subject]:
    person, figure_seed, training_seed, novel_seed, room = generators(config)
    head = load_head()
    identity = draw_identity(head, person)
    with bars.stage("Dressing the head", 1) as advance:
        figure = Figure(head, identity, figure_seed)
        backdrop = make_backdrop(config.size, room)
        advance(1)
    another = config.take > 0
    training = training_performance(head, identity, config.frames, training_seed, config.turn_deg, another)
    novel, names = novel_performance(head, identity, config.novel_frames, novel_seed)

    eyes = _still_camera(training), _still_camera(novel)
    filmed = [_View(row, eyes[0][row], "film", row, None) for row in range(config.frames)]
    moments = np.unique(np.linspace(0, config.frames - 1, config.view_moments).round().astype(int))
    around = [
        _View(int(row), camera_around(yaw, pitch, DISTANCE, TARGET), camera_name(yaw, pitch), int(row), None)
        for row in moments
        for yaw, pitch in RIG
    ]
    unseen = [_View(row, eyes[1][row], "film", None, names[row]) for row in range(config.novel_frames)]
    crew = _Crew(head, identity, figure, backdrop, config)
    save_picture(root / "background.png", np.rint(backdrop * 255).astype(np.uint8))
    with bars.stage("Training film", len(filmed)) as advance, FilmWriter(root / "film.mp4", FPS, CRF) as film:

        def keep(shot: Shot) -> None:
            film.add(shot.film)
            advance(1)

        first = crew.shoot(root, training, filmed, "train", keep)
    with bars.stage("Other cameras", len(around)) as advance:
        second = crew.shoot(root / "novel_view", training, around, "novel_view", lambda shot: advance(1))
    with bars.stage("New expressions", len(unseen)) as advance:
        third = crew.shoot(root / "novel_expression", novel, unseen, "novel_expression", lambda shot: advance(1))
    return [first, second, third]


def _still_camera(performance: Performance) -> Float[np.ndarray, "T 4 4"]:
    """The one camera of a film, which stands in front of the room's origin, seen from the moving head."""
    in_room = camera_around(0.0, 0.0, DISTANCE, TARGET)
    return np.linalg.inv(performance.head_to_room) @ in_room


def camera_name(yaw_deg: float, pitch_deg: float) -> str:
    """Name of a camera of novel_view, as `yaw+30` or `pitch-20`."""
    return f"pitch{pitch_deg:+.0f}" if pitch_deg else f"yaw{yaw_deg:+.0f}"


def camera_angles_deg(c2w: Float[np.ndarray, "4 4"]) -> tuple[float, float]:
    """Yaw and pitch of a camera's place around `TARGET`: the inverse of `camera_around`."""
    away = c2w[:3, 3] - TARGET
    yaw = np.degrees(np.arctan2(away[0], away[2]))
    return float(yaw), float(np.degrees(np.arcsin(away[1] / np.linalg.norm(away))))


def make_backdrop(size: int, random: np.random.Generator) -> Float[np.ndarray, "H W 3"]:
    """A plain room out of focus: a wall in two tones with soft blotches; sRGB 0..1."""
    noise = Noise(random)
    y, x = np.meshgrid(*[(np.arange(size) + 0.5) / size] * 2, indexing="ij")
    at = np.stack([x, y, np.zeros_like(x)], axis=-1)
    wall, corner = random.uniform(0.45, 0.75, 3), random.uniform(0.25, 0.55, 3)
    share = np.clip(0.5 + 0.4 * (x - 0.5) + 0.35 * noise(at, 0.45, octaves=2), 0, 1)[..., None]
    return np.clip(wall * share + corner * (1 - share), 0, 1)


@dataclass(frozen=True)
class _Crew:
    """What all films have in common."""

    head: HeadModel
    identity: Float[torch.Tensor, " S"]
    figure: Figure
    backdrop: Float[np.ndarray, "H W 3"]
    config: SynthConfig

    def shoot(
        self,
        root: Path,
        performance: Performance,
        views: Sequence[_View],
        film: str,
        on_shot: Callable[[Shot], object],
    ) -> Subject:
        """Take all pictures of a film and write them as a subject. Views of one moment stand next to each other."""
        for folder in ("images", "masks", "truth/depth"):
            (root / folder).mkdir(parents=True)
        moment, at = None, -1
        for number, view in enumerate(views):
            if view.row != at:
                moment, at = self._moment(performance, view.row), view.row
            shot = moment.shoot(Camera(view.c2w, FOCAL * self.config.size, self.config.size), self.backdrop)
            for folder, picture in (("images", shot.image), ("masks", shot.mask), ("truth/depth", shot.depth)):
                save_picture(root / folder / f"{number:05d}.png", picture)
            on_shot(shot)
        subject = self._subject(root, performance, views, film)
        write_subject(subject)
        return subject

    def _moment(self, performance: Performance, row: int) -> Moment:
        turned = performance.head_to_room[row, :3, :3] if self.config.light == "room" else np.eye(3)
        return Moment(self.figure, performance.vertices[row], performance.torso_to_head[row], turned)

    def _subject(self, root: Path, performance: Performance, views: Sequence[_View], film: str) -> Subject:
        config, head = self.config, self.head
        rows = [view.row for view in views]
        training = film == "train"
        tested = min(MOST_TEST, round(TEST_SHARE * len(views))) if training else len(views)
        focal, middle = FOCAL * config.size, config.size / 2
        vertices = performance.vertices[rows]
        apart = head.expression_vector({"jawOpen": LIPS_APART})
        with torch.no_grad():
            canonical = head.vertices(self.identity, apart, torch.zeros(len(head.joint_names), 3)).numpy()
            points = head.landmark_points(torch.from_numpy(vertices)).numpy()[:, np.argsort(head.landmarks.index)]
        track = HeadTrack(
            faces=head.faces.numpy().astype(np.int32),
            canonical_vertices=canonical,
            vertices=vertices,
            expression=performance.expression[rows],
            expression_names=tuple(head.expression_names),
            pose=performance.pose[rows],
            joint_names=tuple(head.joint_names),
            identity=self.identity.numpy(),
            region=head.region.numpy().astype(np.int8),
            region_names=tuple(head.region_names),
            landmarks2d=np.stack([_pixels(p, v.c2w, focal, middle) for p, v in zip(points, views, strict=True)]),
        )
        about = {
            "film": film,
            "options": _options(config),
            "depth_unit": DEPTH_UNIT,
            "target": list(TARGET),
            "frames": [self._about(number, view) for number, view in enumerate(views)],
        }
        return Subject(
            root=root,
            fl_x=focal,
            fl_y=focal,
            cx=middle,
            cy=middle,
            width=config.size,
            height=config.size,
            frames=tuple(
                Frame(
                    file_path=Path(f"images/{number:05d}.png"),
                    mask_path=Path(f"masks/{number:05d}.png"),
                    depth_path=None,
                    c2w=view.c2w,
                    timestep=number,
                    split="train" if number < len(views) - tested else "test",
                )
                for number, view in enumerate(views)
            ),
            track=track,
            background=Path("background.png") if training else None,
            fps=FPS,
            head_model=head.name,
            source=f"flame-nerf-data synth --seed {config.seed} --take {config.take}".removesuffix(" --take 0"),
            licence=LICENCE,
            extra={"synth": about},
        )

    @staticmethod
    def _about(number: int, view: _View) -> dict[str, object]:
        yaw, pitch = camera_angles_deg(view.c2w)
        return {
            "depth": f"truth/depth/{number:05d}.png",
            "yaw_deg": round(yaw, 4),
            "pitch_deg": round(pitch, 4),
            "camera": view.camera,
            "moment": view.moment,
            "expression": view.expression,
        }


def _pixels(
    points: Float[np.ndarray, "L 3"], c2w: Float[np.ndarray, "4 4"], focal: float, middle: float
) -> Float[np.ndarray, "L 2"]:
    return perspective(world_to_camera(points, c2w), focal, middle)
