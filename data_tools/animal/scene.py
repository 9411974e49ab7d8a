"""A film of the made-up animal, with what a keypoint detector and a segmentation would have made of it, and the truth.

Written to a folder: animal.mp4, keypoints.csv (as DeepLabCut writes it, with noise, hidden points and missing frames),
mattes/00000.png ..., animal_head.npz (the head model) and truth.npz.
"""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from jaxtyping import Float, UInt8

from data_tools.animal.config import AnimalConfig, AnimalError
from data_tools.animal.head import REGIONS, animal_head
from data_tools.open_head.render import MeshView
from data_tools.ray_casting import SurfacePoints
from data_tools.runs.pictures import save_picture
from data_tools.runs.progress import StageBars
from data_tools.synth.noise import Noise, ramp
from data_tools.tracking.camera import FLIP
from flame_nerf.film import FilmError, FilmWriter
from flame_nerf.geometry import perspective
from flame_nerf.heads import HeadModel, save_head
from flame_nerf.runtime.files import whole_folder

FPS = 25.0
FOCAL, DISTANCE = 1.5, 0.65
"""Focal length in picture sides, and how far the camera stands, metres."""
MIDDLE = np.array([0.0, -0.015, 0.0])
"""The place of the resting head that the camera points at."""
SUPERSAMPLING = 2
HIDDEN_PX, SEEN_AS = 0.05, 0.008
"""Error of a guessed point in picture sides; and metres to the surface within which a point counts as seen."""
PUPIL = 0.008
"""Radius of a pupil, metres."""
LIED_ABOUT = 0.004
"""Share of points that the made-up detector misplaces without knowing it."""
SILENT = (40, 43)
"""Frames (first, one after the last) of which the keypoint file says nothing."""
_COLOURS = {
    "fur": (0.66, 0.43, 0.24), "muzzle": (0.86, 0.78, 0.66), "nose": (0.09, 0.08, 0.09), "ears": (0.60, 0.38, 0.24),
    "eyes": (0.35, 0.19, 0.08), "eyelids": (0.38, 0.25, 0.16), "mouth": (0.78, 0.33, 0.36), "neck": (0.58, 0.38, 0.23),
}  # fmt: skip


@dataclass(frozen=True)
class Performance:
    """What the animal does in T frames."""

    identity: Float[np.ndarray, " S"]
    expression: Float[np.ndarray, "T E"]
    pose: Float[np.ndarray, "T J 3"]
    """Axis-angle of each joint against its parent, radians."""


def perform(head: HeadModel, frames: int, seed: int = 0) -> Performance:
    """The animal looks about, pants, blinks, and lays its ears back."""
    random = np.random.default_rng(seed)
    time = np.arange(frames) / FPS
    angles_deg = np.stack(
        [
            9 * np.sin(2 * np.pi * time / 3.1) - 3,
            38 * np.sin(2 * np.pi * time / 4.3),
            7 * np.sin(2 * np.pi * time / 2.7 + 1),
        ],
        axis=1,
    )
    pose = np.zeros((frames, len(head.joint_names), 3))
    for joint, share in (("neck", 0.45), ("head", 0.55)):
        pose[:, head.joint_names.index(joint)] = np.radians(angles_deg) * share
    beats = {
        "jawOpen": 0.5 * (1 - np.cos(2 * np.pi * time / 0.9)) * ramp(np.sin(2 * np.pi * time / 3.7 - 0.5), -0.3, 0.3),
        "earBackLeft": ramp(np.sin(2 * np.pi * time / 2.9), 0.2, 0.9),
        "earBackRight": ramp(np.sin(2 * np.pi * time / 3.3 + 0.6), 0.2, 0.9),
        "earDropLeft": 0.7 * ramp(np.sin(2 * np.pi * time / 4.1 + 2.5), 0.4, 0.95),
        "earDropRight": 0.7 * ramp(np.sin(2 * np.pi * time / 3.9 + 3.6), 0.4, 0.95),
        "snarl": ramp(np.sin(2 * np.pi * time / 4.6 + 4.0), 0.6, 0.95),
    }
    phase = (time + 0.4) % 1.7
    beats["eyeBlinkLeft"] = beats["eyeBlinkRight"] = ramp(phase, 0.0, 0.08) * ramp(phase, 0.24, 0.14)
    expression = np.stack([beats[name] for name in head.expression_names], axis=1)
    return Performance(random.normal(0, 0.8, head.shapedirs.shape[-1]), expression, pose)


def film_animal(folder: Path, config: AnimalConfig | None = None, silent: bool = False) -> None:
    """Film the animal into a new folder, which appears under its name when it is complete.

    Args:
        silent: show no progress bar.

    Raises:
        AnimalError: options out of range, a folder that is there already, or a disk that refuses.
    """
    config = config or AnimalConfig()
    if config.frames < 1 or config.size < 32 or config.size % 2 or config.noise_px < 0:
        raise AnimalError(f"{config}: expected at least 1 frame, an even size from 32 on, and noise of 0 or more")
    if folder.exists():
        raise AnimalError(f"{folder}: is there already; name a new folder, or remove that one")
    try:
        with whole_folder(folder) as spare:
            (spare / "mattes").mkdir()
            with StageBars(silent) as bars, bars.stage("Filming the animal", config.frames) as advance:
                _film(spare, config, advance)
    except (OSError, FilmError) as error:
        raise AnimalError(f"{folder}: cannot be written ({error})") from error


def _film(folder: Path, config: AnimalConfig, on_frame: Callable[[], None]) -> None:
    head = animal_head()
    act = perform(head, config.frames, config.seed)
    truth = _geometry(head, act, config.size)
    coat, marks = _Coat(head, config.seed), []
    random = np.random.default_rng(config.seed + 1)
    wall = _wall(config.size, random)
    # Nearly lossless: what is to be measured is the tracker, not the film's compression.
    with FilmWriter(folder / "animal.mp4", FPS, crf=6) as film:
        for row in range(config.frames):
            view = _View(head, truth, row, config.size)
            picture, matte = view.picture(coat, wall)
            film.add(picture)
            save_picture(folder / "mattes" / f"{row:05d}.png", matte)
            marks.append(view.detected(config.noise_px, random))
            on_frame()
    save_head(head, folder / "animal_head.npz")
    _write_keypoints(folder / "keypoints.csv", head.landmarks.names, np.stack(marks))
    np.savez_compressed(folder / "truth.npz", **truth)


def _geometry(head: HeadModel, act: Performance, size: int) -> dict[str, np.ndarray]:
    """Where everything is: the contents of truth.npz, cameras with OpenCV's axes."""
    identity = torch.from_numpy(act.identity).float()
    pose = torch.from_numpy(act.pose).float()
    with torch.no_grad():
        vertices = head.vertices(identity, torch.from_numpy(act.expression).float(), pose)
        to_room = head.placement(identity, pose).double().numpy()
        points = head.landmark_points(vertices).double().numpy()
    turn, place = to_room[:, :3, :3], to_room[:, :3, 3]
    rotation = FLIP @ turn
    translation = (place - MIDDLE) @ FLIP.T + np.array([0, 0, DISTANCE])
    camera = points @ np.swapaxes(rotation, 1, 2) + translation[:, None]
    focal = FOCAL * size
    return {
        "vertices": vertices.numpy(),
        "rotation": rotation,
        "translation": translation,
        "focal": np.array(focal),
        "expression": act.expression,
        "identity": act.identity,
        "pose": act.pose,
        "keypoints": perspective(camera, focal, size / 2),
        "keypoints_head": points,
    }


class _Coat:
    """Colour of the animal's skin at every point of its surface; it moves with the skin."""

    def __init__(self, head: HeadModel, seed: int) -> None:
        self._head, self._noise = head, Noise(np.random.default_rng(seed + 2))
        self._region = head.region.numpy()
        self._faces, self._rest = head.faces.numpy(), head.template.numpy().astype(np.float64)
        self._plain = np.array([_COLOURS[name] for name in REGIONS])
        corners = self._faces[head.landmarks.face.numpy()]
        vertex = np.take_along_axis(corners, head.landmarks.barycentric.numpy().argmax(axis=1)[:, None], axis=1)[:, 0]
        self._pupils = [vertex[head.landmarks.names.index(f"{side}_pupil")] for side in ("left", "right")]

    def __call__(self, hits: SurfacePoints) -> Float[np.ndarray, "R 3"]:
        place = (self._rest[self._faces[hits.face]] * hits.barycentric[..., None]).sum(axis=1)
        region = self._region[hits.face]
        colour = self._plain[region]
        fur = np.isin(region, [REGIONS.index(name) for name in ("fur", "neck", "muzzle", "ears")])
        x, _y, z = place.T
        pale = ramp(z, 0.055, 0.085) * np.isin(region, [REGIONS.index("fur"), REGIONS.index("muzzle")])
        # A blaze between the eyes, and a pale throat.
        pale = np.maximum(pale, ramp(np.abs(x), 0.012, 0.006) * ramp(z, 0.0, 0.03) * fur)
        body = np.array(_COLOURS["fur"]) * (1 - pale[:, None]) + np.array(_COLOURS["muzzle"]) * pale[:, None]
        colour = np.where(np.isin(region, [REGIONS.index("fur"), REGIONS.index("muzzle")])[:, None], body, colour)
        # Hair lies from the nose backwards and down the neck: long cells that way, short ones across it.
        strands = self._noise(place * [1.0, 0.6, 0.35], 0.006, octaves=2)
        patches = self._noise(place, 0.05, octaves=2)
        shade = 1 + np.where(fur, 0.28 * strands + 0.25 * patches, 0.06 * strands)
        eye = region == REGIONS.index("eyes")
        pupil = np.min([np.linalg.norm(place - self._rest[at], axis=1) for at in self._pupils], axis=0) < PUPIL
        colour = np.where((eye & pupil)[:, None], 0.03, colour)
        return np.clip(colour * np.where(eye, 1.0, shade)[:, None], 0, 1)


class _View:
    """One frame of the film."""

    def __init__(self, head: HeadModel, truth: dict[str, np.ndarray], row: int, size: int) -> None:
        self._size, self._faces = size, head.faces.numpy()
        turn, place = truth["rotation"][row], truth["translation"][row]
        # MeshView's camera has OpenGL's axes.
        self._vertices = (truth["vertices"][row] @ turn.T + place) @ FLIP
        self._points = (truth["keypoints_head"][row] @ turn.T + place) @ FLIP
        self._pixels = truth["keypoints"][row]
        scale = SUPERSAMPLING * size
        self._fine = MeshView(self._vertices, self._faces, np.eye(4), float(truth["focal"]) * SUPERSAMPLING, scale)

    def picture(
        self, coat: _Coat, wall: Float[np.ndarray, "H W 3"]
    ) -> tuple[UInt8[np.ndarray, "H W 3"], UInt8[np.ndarray, "H W"]]:
        """The frame and its matte."""
        centres = np.arange(self._fine.size) + 0.5
        covered = (self._fine.pick(np.stack(np.meshgrid(centres, centres), axis=-1)).face >= 0).astype(np.float32)
        lit = self._smaller(self._fine.lambert(coat).astype(np.float32) * covered[..., None])
        matte = self._smaller(covered)
        picture = lit + wall * (1 - matte[..., None])
        return np.clip(np.round(picture), 0, 255).astype(np.uint8), np.round(matte * 255).astype(np.uint8)

    def _smaller(self, fine: Float[np.ndarray, "h w *C"]) -> Float[np.ndarray, "H W *C"]:
        return cv2.resize(fine, (self._size, self._size), interpolation=cv2.INTER_AREA)

    def detected(self, noise_px: float, random: np.random.Generator) -> Float[np.ndarray, "K 3"]:
        """Keypoints as a detector might find them: x, y in pixels from the picture's edge, and likelihood."""
        met = self._fine.pick(self._pixels * SUPERSAMPLING)
        surface = (self._vertices[self._faces[met.face]] * met.barycentric[..., None]).sum(axis=1)
        seen = (met.face < 0) | (np.linalg.norm(surface - self._points, axis=1) < SEEN_AS)
        wrong = ~seen | (random.random(len(seen)) < LIED_ABOUT)
        error = np.where(wrong[:, None], HIDDEN_PX * self._size, noise_px) * random.normal(size=self._pixels.shape)
        likelihood = np.where(seen, random.uniform(0.8, 1.0, len(seen)), random.uniform(0.02, 0.5, len(seen)))
        return np.concatenate([self._pixels + error, likelihood[:, None]], axis=1)


def _wall(size: int, random: np.random.Generator) -> Float[np.ndarray, "H W 3"]:
    """A blurred background that stands still."""
    grid = random.uniform(90, 170, (5, 5, 1)) + random.uniform(-20, 20, (5, 5, 3))
    return cv2.resize(grid.astype(np.float32), (size, size), interpolation=cv2.INTER_CUBIC).clip(0, 255)


def _write_keypoints(path: Path, names: tuple[str, ...], marks: Float[np.ndarray, "T K 3"]) -> None:
    """DeepLabCut's table: three lines of header, then one a frame; whole numbers are the centres of pixels."""
    with path.open("w", newline="") as stream:
        table = csv.writer(stream)
        table.writerow(["scorer"] + ["made_up_detector"] * (3 * len(names)))
        table.writerow(["bodyparts"] + [name for name in names for _ in range(3)])
        table.writerow(["coords"] + ["x", "y", "likelihood"] * len(names))
        for row, points in enumerate(marks - [0.5, 0.5, 0.0]):
            if not SILENT[0] <= row < SILENT[1]:
                table.writerow([row, *(f"{value:.4f}" for value in points.ravel())])
