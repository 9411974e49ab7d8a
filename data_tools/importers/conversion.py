"""The long stages: pictures one at a time, meshes block by block into a file that is mapped, not held."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from data_tools.importers.capture import Capture, Shot
from data_tools.importers.config import ImportConfig, ImportingError
from data_tools.importers.inputs.cameras import Camera
from data_tools.importers.inputs.mattes import matte_of, resized
from data_tools.importers.skull import Skull
from data_tools.runs.blocks import blocks_of, run_blocks
from data_tools.runs.picture_files import read_picture
from data_tools.runs.pictures import save_picture
from data_tools.runs.progress import StageBars
from data_tools.runs.workspace import Workspace, begin_parts, stage_key
from flame_nerf.runtime.files import whole
from flame_nerf.runtime.space import mapped_file

BLOCK = 64
"""Meshes that are made, carried and written at a time: 4 MB of vertices for FLAME."""


@dataclass(frozen=True)
class Run:
    """What all stages of an import share."""

    source: Path
    subject: Path
    config: ImportConfig
    workspace: Workspace
    bars: StageBars
    key: str
    """Of the data and the options: results under another key are never reused."""
    why: str


def camera_for(shot: Shot, size: tuple[int, int]) -> Camera:
    """The shot's camera, if it is for pictures of that width and height.

    Raises:
        ImportingError: the picture has another size than the tracked one.
    """
    if size != (shot.camera.width, shot.camera.height):
        raise ImportingError(
            f"{shot.picture} is {size[0]}x{size[1]}, but the camera of {shot.name} is for "
            f"{shot.camera.width}x{shot.camera.height}. Use the pictures that were tracked."
        )
    return shot.camera


def convert_pictures(run: Run, shots: tuple[Shot, ...], size: tuple[int, int]) -> tuple[list[Path], list[Path | None]]:
    """Write all pictures as 8-bit RGB of one size, and their masks. What an earlier run wrote is left alone.

    Returns:
        Each shot's picture, and its mask if anything says what belongs to the head.
    """
    images, masks = run.subject / "images", run.subject / "masks"
    key = stage_key(run.key, {"stage": "pictures", "shots": len(shots)})
    names: list[tuple[str, str | None]] = [("", None)] * len(shots)

    def convert(index: int) -> None:
        shot = shots[index]
        decoded = read_picture(shot.picture, ImportingError)
        found = decoded.rgb.shape[1::-1]
        camera_for(shot, found)
        copied = decoded.plain and found == size
        ending = shot.picture.suffix.lower() if copied else f".{run.config.picture_format}"
        image, mask = images / f"{index:05d}{ending}", masks / f"{index:05d}.png"
        matte = matte_of(decoded, shot.matte, shot.segmentation)
        if matte is not None and not mask.exists():
            save_picture(mask, resized(matte, size))
        if not image.exists() and copied:
            with whole(image, alone=True, synced=False, size=shot.picture.stat().st_size) as spare:
                shutil.copyfile(shot.picture, spare)
        elif not image.exists():
            save_picture(image, resized(decoded.rgb, size))
        names[index] = image.name, None if matte is None else mask.name

    def work(advance: Callable[..., None]) -> dict[str, Any]:
        if begin_parts(images, key):
            shutil.rmtree(masks, ignore_errors=True)
        masks.mkdir(exist_ok=True)

        def one(block: range) -> None:
            for index in block:
                convert(index)
                advance()

        run_blocks(blocks_of(len(shots), run.config.workers), one, run.config.workers)
        return {"images": [image for image, _ in names], "masks": [mask for _, mask in names]}

    note = run.workspace.run(run.bars, "pictures", "Converting pictures", key, len(shots), work)
    return (
        [images / name for name in note["images"]],
        [None if name is None else masks / name for name in note["masks"]],
    )


def convert_meshes(
    run: Run, capture: Capture, rows: Int[np.ndarray, " T"], skull: Skull
) -> tuple[Float[np.ndarray, "T V 3"], Float[np.ndarray, "T 4 4"]]:
    """Write the heads of the moments `rows`, carried into the head frame, into one mapped file.

    Returns:
        The vertices, float32, mapped from disk, and each moment's head frame from world.
    """
    key = stage_key(run.key, {"stage": "meshes", "rows": len(rows)})
    path = run.workspace.folder / "meshes" / "vertices.npy"
    blocks = [range(start, min(start + BLOCK, len(rows))) for start in range(0, len(rows), BLOCK)]

    def work(advance: Callable[..., None]) -> dict[str, Any]:
        vertices = mapped_file(path, (len(rows), *capture.canonical.shape), np.float32)
        for block in blocks:
            name = f"{block.start:06d}"
            if run.workspace.load("meshes", name) is None:
                posed = capture.meshes.vertices(rows[block.start : block.stop].tolist())
                carry = skull.head_from_world(posed, capture.canonical)
                if skull.moves:
                    posed = np.einsum("tij,tvj->tvi", carry[:, :3, :3], posed) + carry[:, None, :3, 3]
                vertices[block.start : block.stop] = posed
                vertices.flush()
                # Written last: it says that the block above is whole.
                run.workspace.save("meshes", name, head_from_world=carry)
            advance(len(block))
        return {}

    run.workspace.run(run.bars, "meshes", "Converting meshes", key, len(rows), work)
    carries = [run.workspace.load("meshes", f"{block.start:06d}")["head_from_world"] for block in blocks]
    return np.load(path, mmap_mode="r"), np.concatenate(carries)
