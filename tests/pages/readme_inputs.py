"""What the commands of the pages are given: small files under the very names that the pages use."""

from __future__ import annotations

import dataclasses
import json
import math
import tempfile
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path

import numpy as np
from flame_like import flame_masks, head_from_arrays, make_flame_like, make_smal_like
from import_truth import Truth, deca_truth, make_truth, nha_truth
from import_writers import (
    write_deca,
    write_imavatar,
    write_insta,
    write_metrical,
    write_nha,
    write_vhap,
)
from live_link_take import performance, write_take
from python2_pickles import write_flame_pickle
from python2_pickles import write_python2_pickle as write_pickle
from synthetic import make_subject
from synthetic_head import make_head
from track_clips import carphone, pictures_of, steady, write_video

from data_tools.animal import AnimalConfig, film_animal
from data_tools.importers import ImportConfig, import_data
from data_tools.tracking import TrackConfig, track
from flame_nerf.heads import load_head, save_head
from flame_nerf.heads.registry import remember_head
from flame_nerf.motion import load_motion, save_motion
from flame_nerf.subject import load_subject, write_subject

CLIP_FRAMES = 12
SIZE, FRAMES = 48, 15

Input = Callable[[Path], object]
"""Makes a file or folder at a path."""


def video(path: Path) -> None:
    """Half a second of a real talking head; skips the test where no clip is installed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_video(path, pictures_of(carphone(), CLIP_FRAMES), steady(CLIP_FRAMES))


def subject(folder: Path) -> None:
    """The synthetic head with its head model, so that expressions can be posed anew."""
    made = make_subject(folder, size=SIZE, count=FRAMES)
    save_head(make_head(), folder / "head_model.npz")
    write_subject(dataclasses.replace(made, head_model="head_model.npz"))


def live_link_take(path: Path) -> None:
    """Half a second of Live Link Face."""
    write_take(path, performance(30))


def motion(path: Path) -> None:
    """A motion file of half a second."""
    with tempfile.TemporaryDirectory() as folder:
        live_link_take(Path(folder) / "take.csv")
        save_motion(load_motion(Path(folder) / "take.csv"), path)


def flame_subject(folder: Path) -> None:
    """A subject that was posed with FLAME."""
    source = folder.with_name(f"{folder.name}-source")
    flame(source / "flame.npz")
    write_vhap(source / "data", _truth("moving"))
    import_data("vhap", source / "data", folder, ImportConfig(flame=source / "flame.npz"), silent=True)


def flame(path: Path) -> None:
    """A converted FLAME."""
    path.parent.mkdir(parents=True, exist_ok=True)
    save_head(head_from_arrays(make_flame_like()), path, half_bases=False)


def flame_pickle(path: Path) -> None:
    """FLAME's own file: of 2023 where the name says so, else of 2020."""
    write_flame_pickle(path, make_flame_like(), chumpy="2023" not in path.name)


def flame_mask_file(path: Path) -> None:
    """FLAME_masks.pkl."""
    write_pickle(path, flame_masks())


def remembered_head(path: Path) -> None:
    """A head that goes by the name of the path, as `convert-head --remember` leaves it: the open one's data."""
    save_head(dataclasses.replace(load_head(), name=path.name), path.with_suffix(".npz"))
    remember_head(path.name, path.with_suffix(".npz"))


def smal_pickle(path: Path) -> None:
    """SMAL's file."""
    write_pickle(path, {name: value for name, value in make_smal_like().items() if name != "parents"})


def head_rows(path: Path) -> None:
    """The rows of the made-up SMAL's head and jaw."""
    path.write_text("\n".join(str(row) for row in (*range(24 * 15, 24 * 17), *range(24 * 32, 24 * 33))))


def animal(folder: Path) -> None:
    """The made-up animal's film, with all that belongs to it."""
    film_animal(folder, AnimalConfig(frames=14, size=96))


def path_json(path: Path) -> None:
    """A camera path of two pictures, as the viewer writes it."""
    c2w = np.eye(4)
    c2w[2, 3] = 0.6
    key = {"camera_to_world": c2w.reshape(-1).tolist(), "fov": 33.0, "aspect": 1.0}
    cameras = [{**key, "render_time": time} for time in (0.0, 0.5)]
    content = {"camera_type": "perspective", "render_height": 24, "render_width": 24, "fps": 2, "seconds": 1,
               "is_cycle": False, "smoothness_value": 0, "camera_path": cameras}  # fmt: skip
    path.write_text(json.dumps(content))


def packed(path: Path) -> None:
    """The trained avatar that lies beside, packed into a file."""
    from flame_nerf.avatar.pack import pack

    if not path.exists():
        (config,) = path.parent.glob("outputs/subject/*/*/config.yml")
        pack(config, path)


def unpacked(folder: Path) -> None:
    """The trained avatar that lies beside, packed and unpacked."""
    from flame_nerf.avatar.unpack import unpack

    if not folder.exists():
        packed(folder.with_name("packed.zip"))
        unpack(folder.with_name("packed.zip"), folder)


def nerface_data(folder: Path) -> None:
    """NeRFace's dataset of the real clip: a track of ours in its layout."""
    clip = folder / "clip.mp4"
    video(clip)
    track(clip, folder / "tracked", TrackConfig(picture_format="png"), silent=True)
    tracked = load_subject(folder / "tracked")
    frames = []
    for row, frame in enumerate(tracked.frames):
        picture = folder / "images" / f"f_{row:04d}.png"
        picture.parent.mkdir(exist_ok=True)
        frame.file_path.rename(picture)
        c2w = frame.c2w.copy()
        c2w[:, 0] *= -1
        frames.append({"file_path": f"./images/{picture.stem}", "transform_matrix": c2w.tolist(),
                       "expression": [0.1 * row] * 76})  # fmt: skip
    top = {
        "camera_angle_x": 2 * math.atan(tracked.width / tracked.fl_x / 2),
        "intrinsics": [-tracked.fl_x, tracked.fl_y, tracked.cx / tracked.width, tracked.cy / tracked.height],
    }
    for name, part in (("train", frames[:-3]), ("val", frames[-3:-1]), ("test", frames[-1:])):
        (folder / f"transforms_{name}.json").write_text(json.dumps(top | {"frames": part}))


@cache
def _truth(kind: str) -> Truth:
    if kind == "nha":
        return nha_truth()
    return deca_truth() if kind == "deca" else make_truth(kind, count=5)


def _dataset(write: Callable[[Path, Truth], object], kind: str, folder: Path) -> None:
    write(folder, _truth(kind))


metrical: Input = partial(_dataset, write_metrical, "still")
insta: Input = partial(_dataset, write_insta, "still")
vhap: Input = partial(_dataset, write_vhap, "moving")
imavatar: Input = partial(_dataset, write_imavatar, "moving")
nha: Input = partial(_dataset, write_nha, "nha")
deca: Input = partial(_dataset, write_deca, "deca")
