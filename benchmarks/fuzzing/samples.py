"""Readers of this project, each with real-shaped files to damage and the only kinds of errors that it may raise."""

from __future__ import annotations

import functools
import os
import pickle
import random
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

sys.path.append(str(Path(__file__).resolve().parents[2] / "tests" / "support"))


@dataclass(frozen=True)
class Target:
    """One reader, one sample."""

    files: Sequence[Path]
    """Of them one is damaged at a time."""
    read: Callable[[Path], Any]
    """Given the one that was damaged, for readers of which each has a file of its own."""
    allowed: tuple[type[Exception], ...]

    def pick(self, choices: random.Random) -> Path:
        """One of them: kinds of files first, so that many pictures do not stand before one table."""
        kinds: dict[str, list[Path]] = {}
        for path in self.files:
            kinds.setdefault(path.suffix, []).append(path)
        return choices.choice(choices.choice(list(kinds.values())))

    @functools.cached_property
    def whole(self) -> dict[Path, bytes]:
        """The files as they were."""
        return {path: path.read_bytes() for path in self.files}


def subject(folder: Path) -> Target:
    from synthetic import make_subject

    from flame_nerf.dataparser import FlameNerfDataParserConfig
    from flame_nerf.subject import SubjectError

    root = folder / "subject"
    made = make_subject(root, size=24, count=6)

    def read(_: Path) -> None:
        parser = FlameNerfDataParserConfig(data=root).setup()
        parser.get_dataparser_outputs("train")

    files = [root / "transforms.json", root / "head.npz", made.frames[0].file_path, made.frames[1].mask_path]
    return Target(files, read, (SubjectError,))


def head_npz(folder: Path) -> Target:
    from synthetic_head import make_head

    from flame_nerf.heads import HeadModelError, load_head, save_head

    path = folder / "head.npz"
    save_head(make_head(), path)
    return Target([path], load_head, (HeadModelError,))


def _small_smpl() -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    weights = random.random((40, 5))
    return {
        "f": random.integers(0, 40, (60, 3)).astype(np.uint32),
        "J_regressor": np.full((5, 40), 1 / 40),
        "kintree_table": np.array([[2**32 - 1, 0, 1, 1, 1], [0, 1, 2, 3, 4]], dtype=np.uint32),
        "weights": weights / weights.sum(1, keepdims=True),
        "posedirs": random.normal(size=(40, 3, 36)),
        "v_template": random.normal(size=(40, 3)),
        "shapedirs": random.normal(size=(40, 3, 8)),
    }


def flame_pickle(folder: Path, chumpy: bool = True) -> Target:
    from python2_pickles import write_flame_pickle

    from flame_nerf.heads import HeadModelError
    from flame_nerf.heads.flame_smpl import read_statistical_head

    path = write_flame_pickle(folder / "generic_model.pkl", _small_smpl(), chumpy=chumpy)
    return Target([path], lambda path: read_statistical_head(path, "smpl", {1: "neck", 2: "head"}), (HeadModelError,))


def flame_npz(folder: Path) -> Target:
    from flame_nerf.heads import HeadModelError
    from flame_nerf.heads.flame_smpl import read_statistical_head

    path = folder / "flame.npz"
    np.savez(path, **_small_smpl())
    return Target([path], lambda path: read_statistical_head(path, "smpl", {1: "neck", 2: "head"}), (HeadModelError,))


def companions(folder: Path) -> Target:
    import json

    from flame_nerf.heads import HeadModelError
    from flame_nerf.heads.masks_landmarks import read_landmarks, read_vertex_groups

    rows = {"face": np.arange(20), "scalp": np.arange(20, 40)}
    (folder / "masks.pkl").write_bytes(pickle.dumps(rows))
    (folder / "masks.json").write_text(json.dumps({name: values.tolist() for name, values in rows.items()}))
    (folder / "masks.txt").write_text(", ".join(map(str, range(20))))
    np.save(folder / "masks.npy", np.arange(20))
    points = {"lmk_face_idx": np.arange(51), "lmk_b_coords": np.full((51, 3), 1 / 3)}
    np.savez(folder / "landmarks.npz", **points, landmark_indices=np.arange(51))
    (folder / "landmarks.pkl").write_bytes(pickle.dumps(points, protocol=2))
    np.save(folder / "landmarks.npy", points, allow_pickle=True)  # type: ignore[arg-type]
    masks = [folder / f"masks.{kind}" for kind in ("pkl", "json", "txt", "npy")]
    landmarks = [folder / f"landmarks.{kind}" for kind in ("npz", "pkl", "npy")]

    def read(path: Path) -> None:
        read_vertex_groups(path, 40) if path in masks else read_landmarks(path, 60)

    return Target(masks + landmarks, read, (HeadModelError,))


def motions(folder: Path) -> Target:
    from live_link_take import performance, write_take

    from flame_nerf.motion.files.sources import load_motion, save_motion
    from flame_nerf.motion.performance import Motion
    from flame_nerf.runtime.errors import MotionError

    motion = Motion(
        np.full((5, 2), 0.5), ("jawOpen", "eyeBlinkLeft"), 30.0, head_to_world=np.tile(np.eye(4), (5, 1, 1))
    )
    paths = [folder / name for name in ("a.npz", "b.json", "c.csv")]
    for path in paths:
        save_motion(motion, path)
    write_take(folder / "take.csv", performance(8))
    paths.append(folder / "take.csv")

    return Target(paths, load_motion, (MotionError,))


def importer(name: str) -> Callable[[Path], Target]:
    """A reader of another tracker's data."""

    def make(folder: Path) -> Target:
        import import_writers as write
        from flame_like import head_from_arrays
        from import_truth import deca_truth, make_truth, nha_truth
        from small_flame import make_small_flame

        from data_tools.importers import ImportConfig, ImportingError, readers  # noqa: F401
        from data_tools.importers.capture import Scratch
        from data_tools.importers.formats import recognise
        from data_tools.runs.picture_files import read_picture
        from flame_nerf.heads import save_head

        model = make_small_flame()
        kinds = {"vhap": "moving", "imavatar": "turning"}
        # INSTA's test frames are its last two.
        count = 3 if name == "insta" else 2
        if name in ("nha", "deca"):
            truth = (nha_truth if name == "nha" else deca_truth)(count=count, model=model)
        else:
            truth = make_truth(kinds.get(name, "still"), count, model=model)
        root = folder / name
        maker = getattr(write, f"write_{name.partition('-')[0]}")
        maker(root, truth, split=False) if name == "vhap" else maker(root, truth)
        flame = folder / "flame.npz"
        save_head(head_from_arrays(model), flame, half_bases=False)
        _keep_flame()
        config = ImportConfig(flame=flame, focal_px=160.0 if name == "deca" else None)

        def read(damaged: Path) -> None:
            reader, _ = recognise("auto", root)
            # Not through `read_capture`, which tells in words of its own what a reader forgot.
            capture = reader.read(root, config, Scratch(folder / "scratch", True))
            capture.meshes.vertices([0])
            if damaged.suffix == ".png":
                read_picture(damaged, ImportingError)

        files = sorted(path for path in root.rglob("*") if path.is_file())
        return Target(files, read, (ImportingError,))

    return make


def _keep_flame() -> None:
    """FLAME itself is not damaged here: it is read once."""
    from data_tools.importers.readers import deca, imavatar, insta, metrical, nha, vhap

    kept = functools.cache(deca.open_flame)
    for module in (deca, imavatar, insta, metrical, nha, vhap):
        module.open_flame = lambda config, format_name: kept(replace(config), "fuzz")


def keypoints(folder: Path) -> Target:
    from keypoint_writers import KINDS, points

    from data_tools.tracking import TrackingError
    from data_tools.tracking.observe.keypoint_files import read_keypoint_file

    belongs_to: dict[Path, Path] = {}
    for number, kind in enumerate(KINDS):
        place = folder / str(number)
        place.mkdir()
        path = KINDS[kind](place, points(4))
        belongs_to |= dict.fromkeys([path] if path.is_file() else sorted(path.iterdir())[:2], path)
    return Target(list(belongs_to), lambda path: read_keypoint_file(belongs_to[path]), (TrackingError,))


def pictures(folder: Path) -> Target:
    import cv2

    from data_tools.runs.picture_files import read_picture
    from data_tools.tracking import TrackingError
    from data_tools.tracking.observe.given_mattes import opacity

    picture = np.random.default_rng(0).integers(0, 256, (20, 24, 4), dtype=np.uint8)
    colour, grey = picture[..., :3], picture[..., 0]
    stored = {"a.png": picture, "b.jpg": colour, "c.tif": colour, "d.bmp": colour, "e.webp": picture}
    stored |= {"f.png": grey.astype(np.uint16) * 257, "g.tif": grey.astype(np.float32)}
    for name, content in stored.items():
        cv2.imwrite(str(folder / name), content)

    def read(path: Path) -> None:
        read_picture(path, TrackingError)
        opacity(path)

    return Target([folder / name for name in stored], read, (TrackingError,))


def config(folder: Path) -> Target:
    from avatar_runs import small_config

    from flame_nerf.avatar.config_file import read_config, write_config
    from flame_nerf.runtime.errors import AvatarError

    path = folder / "config.yml"
    write_config(small_config(folder / "subject", folder), path)
    path.write_text(_thinned(path.read_text()))
    return Target([path], read_config, (AvatarError,))


NEEDED = (
    *("pipeline", "model", "datamanager", "dataparser", "data", "relative_model_dir"),
    *("output_dir", "experiment_name", "method_name", "timestamp"),
)


def _thinned(text: str) -> str:
    """A config with every third of its settings, and those that are asked for: one like another, and slow to parse."""
    import yaml

    root = yaml.compose(text, yaml.Loader)
    todo = [root]
    while todo:
        node = todo.pop()
        if isinstance(node, yaml.MappingNode):
            node.value = [
                (key, value) for row, (key, value) in enumerate(node.value) if not row % 3 or key.value in NEEDED
            ]
            todo += [value for _, value in node.value]
        elif isinstance(node, yaml.SequenceNode):
            todo += node.value
    return yaml.serialize(root)


def packed(folder: Path) -> Target:
    from avatar_runs import subject_with_head, untrained_run

    from flame_nerf.avatar.pack import pack
    from flame_nerf.avatar.unpack import unpacked
    from flame_nerf.runtime.errors import AvatarError
    from flame_nerf.subject import SubjectError

    subject_with_head(folder / "me")
    path = pack(untrained_run(folder / "me", folder / "outputs"), folder / "me.zip").path
    os.environ["TMPDIR"] = str(folder)

    def read(path: Path) -> None:
        with unpacked(path):
            pass

    return Target([path], read, (AvatarError, SubjectError))


READERS: dict[str, Callable[[Path], Target]] = {
    "subject": subject,
    "head model (npz)": head_npz,
    "FLAME (pickle)": flame_pickle,
    "FLAME (npz)": flame_npz,
    "masks and landmarks": companions,
    "motions": motions,
    **{f"import {name}": importer(name) for name in ("metrical-tracker", "insta", "vhap", "nha", "imavatar", "deca")},
    "keypoints": keypoints,
    "pictures and mattes": pictures,
    "config.yml": config,
    "packed avatar": packed,
}
"""By the name in the report; each is given an empty folder."""
