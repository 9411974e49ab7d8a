"""Films and comparisons rendered by a trained model: a loaded checkpoint's or one still in its trainer."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, UInt8
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.utils.rich_utils import CONSOLE
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from flame_nerf.film.encoder import FilmWriter
from flame_nerf.film.pictures import contact_sheet, labelled, psnr, to_uint8, write_png
from flame_nerf.motion import PosedFrame
from flame_nerf.runtime.errors import FilmError

SHEET_IMAGES = 12
"""Pictures on a film's contact sheet."""


def render_images(
    model: Any,
    cameras: Cameras,
    posed_frames: Sequence[PosedFrame] | None = None,
    description: str = "Rendering",
    paint: Callable[[dict[str, torch.Tensor]], UInt8[np.ndarray, "H W C"]] | None = None,
) -> Generator[UInt8[np.ndarray, "H W C"], None, None]:
    """Renders one picture after the other, with a progress bar and the time left.

    Args:
        model: a flame-nerf model, or a pipeline that has one. Its mode and its override are put back at the end.
        cameras: one camera a picture; a single one serves all `posed_frames`.
        posed_frames: the head in each picture; a single one serves all cameras. None follows the cameras' own
            frame or time.
        description: what the progress bar is called.
        paint: makes a picture of a model's outputs for a camera; None: its colours.

    Raises:
        FilmError: the numbers of cameras and moments do not go together.
    """
    model = _model_of(model)
    cameras = cameras.reshape((-1,)).to(model.device)
    moments = 1 if posed_frames is None else len(posed_frames)
    count = max(len(cameras), moments)
    if len(cameras) not in (1, count) or moments not in (1, count):
        raise FilmError(f"{len(cameras)} cameras for {moments} moments; give as many, or one of either")
    if posed_frames is not None:
        # A dataset's cameras name the moments that they saw.
        cameras.metadata = None
    with _ready_to_film(model), progress_bar() as progress:
        for index in progress.track(range(count), description=description):
            if posed_frames is not None:
                model.override = posed_frames[index % len(posed_frames)].to(model.device)
            camera = index % len(cameras)
            yield _render(model, cameras[camera : camera + 1], paint)


def render_film(
    model: Any,
    cameras: Cameras,
    posed_frames: Sequence[PosedFrame] | None,
    path: Path | str,
    fps: float,
    *,
    sheet: Path | str | None = None,
) -> Path:
    """Renders a film and writes it as mp4 (H.264, yuv420p).

    Args:
        model, cameras, posed_frames: as for `render_images`.
        path: the .mp4 to write.
        fps: frames a second: the performance's own.
        sheet: also write a contact sheet of a dozen of its pictures to this .png.

    Returns:
        the film's path.

    Raises:
        FilmError: no encoder, a full disk, or numbers that do not go together. No half film is left.
    """
    path = Path(path)
    count = max(cameras.camera_to_worlds[..., 0, 0].numel(), len(posed_frames) if posed_frames is not None else 1)
    shown = set(np.linspace(0, count - 1, min(SHEET_IMAGES, count)).round().astype(int).tolist())
    kept = []
    rendering = render_images(model, cameras, posed_frames, description=path.name)
    with FilmWriter(path, fps) as film, closing(rendering):
        for index, picture in enumerate(rendering):
            film.add(picture)
            if sheet is not None and index in shown:
                kept.append(picture)
    if sheet is not None:
        write_png(sheet, contact_sheet(kept, columns=4))
    return path


def side_by_side(
    model: Any, dataset: Any, indices: Sequence[int], path: Path | str, fps: float | None = None
) -> list[float]:
    """Shows pictures of a dataset beside the model's rendering of the same camera and moment.

    Args:
        model: a flame-nerf model, or a pipeline that has one.
        dataset: a Nerfstudio dataset (`datamanager.eval_dataset` for held-out frames).
        indices: which of its pictures.
        path: a .png for a sheet, one pair a row of two; a .mp4 for a film of pairs.
        fps: frames a second of the film; None: the dataset's subject's.

    Returns:
        PSNR in dB of each pair, within the matte where the dataset has one.
    """
    path = Path(path)
    indices = list(indices)
    if not indices:
        raise FilmError(f"{path}: a comparison of no frames; name at least one")
    bad = [index for index in indices if not 0 <= index < len(dataset)]
    if bad:
        raise FilmError(f"{path}: frame {bad[0]} of a dataset with frames 0 to {len(dataset) - 1}")
    cameras = dataset.cameras[torch.tensor(indices)]
    values, pairs = [], []
    for index, picture in zip(indices, render_images(model, cameras, description=path.name), strict=True):
        truth, matte = _truth(dataset, index)
        values.append(psnr(picture, truth, matte))
        where = " in the matte" if matte is not None else ""
        left = labelled(truth, f"{Path(dataset.image_filenames[index]).stem} video")
        right = labelled(picture, f"{values[-1]:.1f} dB{where}")
        pairs.append(np.concatenate([left, right], axis=1))
    if path.suffix == ".mp4":
        with FilmWriter(path, dataset.subject.fps if fps is None else fps) as film:
            for pair in pairs:
                film.add(pair)
    else:
        write_png(path, contact_sheet(pairs, columns=2 if len(pairs) > 2 else 1))
    return values


def _model_of(model: Any) -> Any:
    """The model itself, or a pipeline's."""
    return model.model if hasattr(model, "datamanager") else model


@torch.no_grad()
def _render(model: Any, camera: Cameras, paint: Callable | None) -> UInt8[np.ndarray, "H W C"]:
    outputs = model.get_outputs_for_camera(camera)
    return to_uint8(outputs["rgb"]) if paint is None else paint(outputs)


@contextmanager
def _ready_to_film(model: Any) -> Iterator[None]:
    """The model in evaluation mode and following its cameras; as it was afterwards."""
    training, override = model.training, model.override
    model.eval()
    model.override = None
    try:
        yield
    finally:
        model.override = override
        model.train(training)


def progress_bar() -> Progress:
    """How far a long job is, and how long the rest will take."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("elapsed"),
        TimeElapsedColumn(),
        console=CONSOLE,
    )


def _truth(dataset: Any, index: int) -> tuple[UInt8[np.ndarray, "H W 3"], Bool[np.ndarray, "H W"] | None]:
    """A dataset's picture as bytes and its matte."""
    data = dataset[index]
    image, matte = data["image"][..., :3], data.get("mask")
    if matte is not None:
        matte = (matte.reshape(image.shape[:2]).float() > 0.5).cpu().numpy()
    return to_uint8(image), matte
