"""subject/ to what Nerfstudio's datamanager and model need: cameras, splits, the scene box and the moving mesh."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from nerfstudio.cameras.cameras import Cameras, CameraType
from nerfstudio.data.dataparsers.base_dataparser import DataParser, DataParserConfig, DataparserOutputs
from nerfstudio.data.scene_box import SceneBox
from nerfstudio.plugins.registry_dataparser import DataParserSpecification
from nerfstudio.utils.rich_utils import CONSOLE
from tyro.conf import Fixed

from flame_nerf.runtime.old_runs import StoredConfig
from flame_nerf.subject import UNUSED, Frame, Subject, SubjectError, load_subject
from flame_nerf.subject.stabilised import stabilize_head
from flame_nerf.subject.types import TRANSFORMS_FILE

FRAMES_MEASURED = 50
"""How many of a film's frames are looked at where all are much alike."""

BACKGROUNDS = {"white": (1.0, 1.0, 1.0), "black": (0.0, 0.0, 0.0), "grey": (0.5, 0.5, 0.5)}
"""Colours a picture can be composited on."""

SCENE_MARGIN = 0.05
"""Metres the scene box reaches beyond the head's mesh: the thickest shell, and a little more."""


@dataclass
class FlameNerfDataParserConfig(StoredConfig, DataParserConfig):
    """Options of reading a subject."""

    _target: type = field(default_factory=lambda: FlameNerfDataParser)
    """target class to instantiate"""
    data: Path = Path()
    """The subject folder, as written by `flame-nerf-data track`."""
    split: Literal["stored", "tail", "spread", "all"] = "stored"
    """Choice of held-out frames. stored: as the subject says; tail: the last part of the video; spread: every n-th
    frame, with its neighbours left out of training; all: none, every frame is trained on and shown. Frames that the
    subject calls unused, since their tracking is probably wrong, are in none."""
    tail_fraction: float = 0.1
    """Part of the video held out by the tail split. Larger gives a more reliable score and less to train on."""
    spread_interval: int = 40
    """The spread split holds out every n-th frame. Larger holds out fewer, and trains on more."""
    spread_guard: Fixed[int] = 2
    """Frames before and after each held-out frame that the spread split does not train on."""
    stabilize: Literal["head", "none"] = "head"
    """head: the world is the head's frame, the skull stands still and the camera moves; none: as stored."""
    downscale_factor: float | None = None
    """Shrink images by this factor with an area filter, in memory; nothing is written. A larger factor trains faster
    and needs less memory; detail below its pixels is lost."""
    background_color: Literal["white", "black", "grey", "plate", "plate-or-white"] = "white"
    """Background of masked images for evaluation and in the viewer. plate: the subject's own background.png
    behind its images, in training too, and white behind free views; plate-or-white: white for subjects without."""


class FlameNerfDataParser(DataParser):
    """Reads a subject. Poses stay in metres and are neither centred, turned nor scaled, except by `stabilize`."""

    config: FlameNerfDataParserConfig

    def __init__(self, config: FlameNerfDataParserConfig):
        super().__init__(config)
        self.includes_time = True
        self._subject: Subject | None = None

    def _generate_dataparser_outputs(self, split: str = "train", **kwargs: Any) -> DataparserOutputs:
        subject = self._load()
        frames = [subject.frames[i] for i in self._split(subject, split)]
        if any(frame.mask_path is None for frame in frames):
            CONSOLE.log("[yellow]This subject has no masks: the background will be learned as part of the head.")
        cameras = _cameras(subject, frames, self.config.downscale_factor or 1.0)
        background = torch.tensor(BACKGROUNDS.get(self.config.background_color, BACKGROUNDS["white"]))
        return DataparserOutputs(
            image_filenames=[frame.file_path for frame in frames],
            mask_filenames=[frame.mask_path for frame in frames] if subject.has_masks else None,
            cameras=cameras,
            alpha_color=background,
            scene_box=SceneBox(aabb=_bounds(subject.track.canonical_vertices, SCENE_MARGIN)),
            metadata={
                "subject": subject,
                "frames": tuple(frames),
                "background": background,
                "plate": self._plate(subject),
                "pixel_size": _pixel_size(subject, frames, cameras),
            },
        )

    def _plate(self, subject: Subject) -> Float[torch.Tensor, "H W 3"] | None:
        """The clean plate at the size of the pictures, 0..1; None where a colour was asked for.

        Raises:
            SubjectError: a plate was asked for and there is none, or several cameras share one.
        """
        # Not above: Nerfstudio loads this module before its own datasets are ready.
        from flame_nerf.data.dataset import read_plate

        choice = self.config.background_color
        if not choice.startswith("plate") or (choice == "plate-or-white" and subject.background is None):
            return None
        remedy = "Use --pipeline.datamanager.dataparser.background-color white."
        if subject.background is None:
            raise SubjectError(
                f"{subject.root}: a background plate was asked for, but {TRANSFORMS_FILE} names none under "
                f'"flame_nerf": "background". {remedy}'
            )
        if any(frame.intrinsics is not None for frame in subject.frames):
            raise SubjectError(
                f"{subject.background}: one plate cannot stand behind the pictures of several cameras. {remedy}"
            )
        plate = read_plate(subject, *_picture_size(subject, self.config.downscale_factor or 1.0))
        return torch.from_numpy(plate).float() / 255.0

    def _load(self) -> Subject:
        # Train and eval outputs come from the same parser: the subject is read and checked once.
        if self._subject is None:
            subject = load_subject(self.config.data)
            self._subject = stabilize_head(subject) if self.config.stabilize == "head" else subject
        return self._subject

    def _split(self, subject: Subject, split: str) -> list[int]:
        if split not in ("train", "val", "test"):
            raise SubjectError(f"{subject.root}: split {split!r} was asked for, expected train, val or test.")
        used = np.array([i for i, frame in enumerate(subject.frames) if frame.split != UNUSED], dtype=int)
        if len(used) == 0:
            raise SubjectError(
                f'{subject.root}: every frame in {TRANSFORMS_FILE} has the split "{UNUSED}", so that none is for '
                'training. Give those that are good the split "train", or track the video again.'
            )
        if self.config.split == "stored":
            return _stored_split(subject, used.tolist(), split, self.config.tail_fraction)
        train, held_out = split_timesteps(_timesteps(subject, used), self.config)
        chosen = used[train if split == "train" else held_out]
        if len(chosen) == 0:
            raise SubjectError(
                f"{subject.root}: the {self.config.split} split leaves no frame for {split} out of "
                f"{len(used)}. Use --pipeline.datamanager.dataparser.split all, or a longer video."
            )
        return chosen.tolist()


def _timesteps(subject: Subject, frames: Sequence[int] | Int[np.ndarray, " N"]) -> Int[np.ndarray, " N"]:
    return np.array([subject.frames[i].timestep for i in frames])


def split_timesteps(
    timesteps: Int[np.ndarray, " N"], config: FlameNerfDataParserConfig
) -> tuple[Bool[np.ndarray, " N"], Bool[np.ndarray, " N"]]:
    """Frames to train on and frames held out, for every split but `stored`.

    Cameras that share a timestep stay together. The two are disjoint, except for the split `all`.

    Args:
        timesteps: row of the track each frame shows.
        config: names the split and its parameters.

    Returns:
        (train, held_out) masks over the frames.
    """
    moments, rank = np.unique(timesteps, return_inverse=True)
    count = len(moments)
    if config.split == "all":
        everything = np.ones(len(timesteps), dtype=bool)
        return everything, everything
    if config.split == "tail":
        held = np.arange(count) >= count - max(1, round(config.tail_fraction * count))
        return ~held[rank], held[rank]
    interval = min(config.spread_interval, count)
    held = np.arange(count) % interval == interval // 2
    distance = np.abs(np.arange(count)[:, None] - np.flatnonzero(held)[None]).min(axis=1)
    return (distance > config.spread_guard)[rank], held[rank]


def _stored_split(subject: Subject, used: list[int], split: str, tail_fraction: float) -> list[int]:
    """Frames, of those used, that the subject itself gives to a split; val and test stand in for each other, the tail
    for both."""
    stored = {name: [i for i, frame in enumerate(subject.frames) if frame.split == name] for name in ("val", "test")}
    held_out = stored["val"] + stored["test"]
    if len(held_out) == len(used):
        raise SubjectError(
            f"{subject.root}: no frame is for training, every split is val or test. Choose another split of them, with "
            "--pipeline.datamanager.dataparser.split tail."
        )
    if not held_out:
        tail = FlameNerfDataParserConfig(split="tail", tail_fraction=tail_fraction)
        _, held = split_timesteps(_timesteps(subject, used), tail)
        held_out = np.array(used)[held].tolist()
        stored = {"val": held_out, "test": held_out}
    if split != "train":
        return stored[split] or held_out
    # With a single frame the held-out one is also the only one to learn from.
    return [i for i in used if i not in set(held_out)] or held_out


def _bounds(points: Float[np.ndarray, "V 3"], margin: float) -> Float[torch.Tensor, "2 3"]:
    return torch.from_numpy(np.stack([points.min(axis=0) - margin, points.max(axis=0) + margin]).astype(np.float32))


def _pixel_size(subject: Subject, frames: Sequence[Frame], cameras: Cameras) -> float:
    """Width of a pixel at the head, metres: the median of some of the frames."""
    sizes = []
    for index in range(0, len(frames), max(1, len(frames) // FRAMES_MEASURED)):
        head = subject.track.vertices[frames[index].timestep].mean(axis=0)
        sizes.append(np.linalg.norm(frames[index].c2w[:3, 3] - head) / float(cameras.fx[index]))
    return float(np.median(sizes))


def _picture_size(subject: Subject, downscale: float) -> tuple[int, int]:
    """Width and height of the shrunk pictures."""
    return max(1, int(subject.width / downscale)), max(1, int(subject.height / downscale))


def _cameras(subject: Subject, frames: list, downscale: float) -> Cameras:
    width, height = _picture_size(subject, downscale)
    # The ratio really reached, which for odd sizes is not the factor asked for, and differs between the axes.
    scale_x, scale_y = width / subject.width, height / subject.height
    rows = torch.tensor([frame.timestep for frame in frames])
    fl_x, fl_y, cx, cy = torch.tensor([subject.intrinsics_of(frame) for frame in frames], dtype=torch.float32).T
    return Cameras(
        camera_to_worlds=torch.from_numpy(np.stack([frame.c2w[:3] for frame in frames]).astype(np.float32)),
        fx=(fl_x * scale_x)[:, None],
        fy=(fl_y * scale_y)[:, None],
        cx=(cx * scale_x)[:, None],
        cy=(cy * scale_y)[:, None],
        width=width,
        height=height,
        camera_type=CameraType.PERSPECTIVE,
        times=(rows / max(1, subject.track.num_timesteps - 1)).float()[:, None],
        metadata={"frame_idx": rows[:, None]},
    )


# Not beside the methods: Nerfstudio loads this while its own datamanager module, which they import, is half done.
flame_nerf_dataparser = DataParserSpecification(
    config=FlameNerfDataParserConfig(), description="A tracked head, as flame-nerf-data writes it."
)
