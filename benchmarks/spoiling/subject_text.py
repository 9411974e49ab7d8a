"""Bad subjects whose transforms.json is at fault: the file, its numbers, its frames and its cameras."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from spoiling.outcome import Kind, refused, taken

Change = Callable[[dict[str, Any]], object]
Make = Callable[[Any, Path], Path]
NESTED = 5000


def copied(change: Callable[[Path], object]) -> Make:
    """A copy of the good subject, with this done to its folder."""

    def make(good: Any, folder: Path) -> Path:
        root = good.copy(folder / "subject")
        change(root)
        return root

    return make


def meta(change: Change) -> Make:
    """Another transforms.json."""

    def edit(root: Path) -> None:
        path = root / "transforms.json"
        values = json.loads(path.read_text())
        change(values)
        path.write_text(json.dumps(values))

    return copied(edit)


def ours(change: Change) -> Make:
    """Another block of this project's own."""
    return meta(lambda values: change(values["flame_nerf"]))


def frame(change: Change, row: int = 3) -> Make:
    """Another frame."""
    return meta(lambda values: change(values["frames"][row]))


def frames(change: Change) -> Make:
    """Every frame another."""
    return meta(lambda values: [change(one) for one in values["frames"]])


def camera(change: Callable[[np.ndarray], np.ndarray], every: bool = True) -> Make:
    """Other cameras, from their camera-to-world matrices [4, 4]."""

    def edit(entry: dict[str, Any]) -> None:
        entry["transform_matrix"] = np.asarray(change(np.array(entry["transform_matrix"]))).tolist()

    return frames(edit) if every else frame(edit)


def text(content: str | bytes) -> Make:
    """Something else in place of transforms.json."""
    data = content.encode() if isinstance(content, str) else content
    return copied(lambda root: (root / "transforms.json").write_bytes(data))


def put(name: str, value: Any) -> Change:
    return lambda values: values.update({name: value})


def drop(name: str) -> Change:
    return lambda values: values.pop(name, None)


def _raw(name: str, value: str) -> Make:
    """A number that Python's own JSON would not write."""

    def edit(root: Path) -> None:
        path = root / "transforms.json"
        values = json.loads(path.read_text())
        (values if name in values else values["flame_nerf"])[name] = "HERE"
        path.write_text(json.dumps(values).replace('"HERE"', value))

    return copied(edit)


def _cut(root: Path) -> None:
    path = root / "transforms.json"
    path.write_bytes(path.read_bytes()[:-400])


def _pipe(root: Path) -> None:
    (root / "transforms.json").unlink()
    os.mkfifo(root / "transforms.json")


def _loop(root: Path) -> None:
    (root / "transforms.json").unlink()
    (root / "transforms.json").symlink_to("transforms.json")


def _in_the_way(root: Path) -> None:
    (root / "transforms.json").unlink()
    (root / "transforms.json").mkdir()


def _utf16(root: Path) -> None:
    path = root / "transforms.json"
    path.write_bytes(path.read_text().encode("utf-16"))


def _marked(root: Path) -> None:
    path = root / "transforms.json"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())


def scaled(factor: float) -> Callable[[np.ndarray], np.ndarray]:
    """Cameras farther away."""

    def change(c2w: np.ndarray) -> np.ndarray:
        c2w[:3, 3] *= factor
        return c2w

    return change


def times(*sides: float) -> Callable[[np.ndarray], np.ndarray]:
    """Camera axes scaled or turned over."""
    return lambda c2w: c2w @ np.diag([*sides, 1.0])


def _turned_back(c2w: np.ndarray) -> np.ndarray:
    c2w[:3, :3] = c2w[:3, :3].T
    return c2w


FILE: dict[str, Kind] = {
    "not there": refused("does not exist", lambda _, folder: folder / "subject"),
    "an empty folder": refused(
        "holds no transforms.json", lambda _, folder: (folder / "subject").mkdir() or folder / "subject"
    ),
    "a film": refused("no subject|transforms.json", lambda good, _: good.film),
    "transforms.json: empty": refused("transforms.json", text("")),
    "transforms.json: cut short": refused("transforms.json", copied(_cut)),
    "transforms.json: zeros": refused("transforms.json", text(bytes(3000))),
    "transforms.json: an error page": refused("transforms.json", text("<!DOCTYPE html><html>404</html>")),
    "transforms.json: a list": refused("expected a JSON object", text("[1, 2]")),
    "transforms.json: a number": refused("expected a JSON object", text("7")),
    "transforms.json: nothing": refused("expected a JSON object", text("null")),
    "transforms.json: nested deep": refused("nested", text('{"a":' + "[" * NESTED + "]" * NESTED + "}")),
    "transforms.json: UTF-16": taken("", copied(_utf16)),
    "transforms.json: Latin-1": refused("transforms.json", text('{"frames": "\xe9"}'.encode("latin-1"))),
    "transforms.json: a mark before it": taken("", copied(_marked)),
    "transforms.json: a pipe": refused("transforms.json", copied(_pipe)),
    "transforms.json: a link to itself": refused("transforms.json", copied(_loop)),
    "transforms.json: a folder": refused("transforms.json", copied(_in_the_way)),
    "no block of ours": refused('no "flame_nerf" block', meta(drop("flame_nerf"))),
    "a block of ours that is a text": refused('no "flame_nerf" block', meta(put("flame_nerf", "yes"))),
    "no version": refused("format version None", ours(drop("version"))),
    "a version to come": refused("format version 99", ours(put("version", 99))),
    "a version that is a text": refused("format version '1'", ours(put("version", "1"))),
    "unknown fields": taken("", ours(put("something", {"new": [1, 2]}))),
    "a source that is a list": taken("", ours(put("source", ["a", "b"]))),
}
"""The file itself."""

_VALUES: dict[str, Callable[[str], Make]] = {
    "missing": lambda name: _anywhere(name, drop(name)),
    "a text": lambda name: _anywhere(name, put(name, "48")),
    "nothing": lambda name: _anywhere(name, put(name, None)),
    "yes": lambda name: _anywhere(name, put(name, True)),
    "a list": lambda name: _anywhere(name, put(name, [48])),
    "not a number": lambda name: _raw(name, "NaN"),
    "infinite": lambda name: _raw(name, "-Infinity"),
    "1e300": lambda name: _raw(name, "1e300"),
    "a number of 400 digits": lambda name: _raw(name, "9" * 400),
}


def _anywhere(name: str, change: Change) -> Make:
    return ours(change) if name == "fps" else meta(change)


NUMBERS: dict[str, Kind] = {
    f"{name}: {how}": refused(rf"transforms\.json.*{name}", make(name))
    for name in ("fl_x", "cy", "w", "fps")
    for how, make in _VALUES.items()
} | {
    "fl_x: zero": refused("fl_x is 0.0", meta(put("fl_x", 0))),
    "fl_y: negative": refused("fl_y is -80.0", meta(put("fl_y", -80))),
    "h: negative": refused("height is -48", meta(put("h", -48))),
    "w: another": refused("48x48, but the cameras say 50x48", meta(put("w", 50))),
    "w: a fraction": refused("w is 48.5, expected a whole number", meta(put("w", 48.5))),
    "w and h: swapped for another": refused("but the cameras say", meta(lambda v: v.update(w=96, h=24))),
    "fps: zero": refused("fps is 0.0", ours(put("fps", 0))),
    "cx: far away": refused("out of the picture", meta(put("cx", 4000))),
    "a telescope": refused("focal length", meta(lambda v: v.update(fl_x=1e9, fl_y=1e9))),
    "a pinhole without length": refused("focal length", meta(lambda v: v.update(fl_x=1e-6, fl_y=1e-6))),
    "head_model: a number": refused("head_model is '7'", ours(put("head_model", 7))),
    "head_model: not there": taken("New expressions will not be possible", ours(put("head_model", "gone.npz"))),
    "head_model: somebody else's": taken("New expressions will not be possible", ours(put("head_model", "anny"))),
    "background: a list": refused("background", ours(put("background", ["a.png"]))),
    "background: not there": taken("gone.png", ours(put("background", "gone.png"))),
    "registration: unknown": refused("registration: method is 'magic'", ours(put("registration", {"method": "magic"}))),
    "registration: not a number": refused(
        "registration: residual", ours(put("registration", {"method": "photometric", "residual": float("nan")}))
    ),
}
"""Fields for all frames."""

FRAMES: dict[str, Kind] = {
    "frames: missing": refused("frames is missing or no list", meta(drop("frames"))),
    "frames: a text": refused("frames is missing or no list", meta(put("frames", "all"))),
    "frames: by name": refused(
        "frames is missing or no list", meta(lambda v: put("frames", dict(enumerate(v["frames"])))(v))
    ),
    "frames: none": refused("no frames", meta(put("frames", []))),
    "frames: one": refused("a single frame", meta(lambda v: put("frames", v["frames"][:1])(v))),
    "frames: three": taken(
        "Only 2 frames for training|Only 3 frames", meta(lambda v: put("frames", v["frames"][:3])(v))
    ),
    "a frame that is a text": refused("frame 3 has no file_path", meta(lambda v: v["frames"].__setitem__(3, "a.png"))),
    "a frame that is nothing": refused("frame 3 has no file_path", meta(lambda v: v["frames"].__setitem__(3, None))),
    "a frame twice": taken("", meta(lambda v: v["frames"].append(v["frames"][3]))),
    "frames in another order": taken("", meta(lambda v: v["frames"].reverse())),
    "file_path: missing": refused("frame 3 has no file_path", frame(drop("file_path"))),
    "file_path: a number": refused("frame 3 has no file_path", frame(put("file_path", 7))),
    "file_path: empty": refused("frame 3: file_path", frame(put("file_path", ""))),
    "file_path: a zero in it": refused("frame 3: file_path", frame(put("file_path", "images/\0.png"))),
    "file_path: too long": refused("longer than any file's name", frame(put("file_path", "a" * 5000))),
    "file_path: half a letter": refused("letters that no file's name has", frame(put("file_path", "\ud83d.png"))),
    "file_path: another machine's": refused("does not exist", frame(put("file_path", "C:\\me\\0.png"))),
    "file_path: of other case": refused("does not exist", frame(put("file_path", "Images/00003.PNG"))),
    "file_path: a folder": refused("images", frame(put("file_path", "images"))),
    "file_path: a device": refused("/dev/zero", frame(put("file_path", "/dev/zero"))),
    "file_path: above the subject": taken("", frame(lambda f: put("file_path", f"../subject/{f['file_path']}")(f))),
    "mask_path: missing in one": refused("has no mask_path while others have", frame(drop("mask_path"))),
    "mask_path: missing in all": taken("masks: There are none", frames(drop("mask_path"))),
    "mask_path: a list": refused("mask_path", frame(put("mask_path", ["a"]))),
    "mask_path: the picture itself": taken("", frame(lambda f: put("mask_path", f["file_path"])(f))),
    "timestep: missing": refused("timestep is None", frame(drop("timestep"))),
    "timestep: beyond the track": refused("timestep is 99", frame(put("timestep", 99))),
    "timestep: negative": refused("timestep is -1", frame(put("timestep", -1))),
    "timestep: a fraction": refused("timestep is 2.5", frame(put("timestep", 2.5))),
    "timestep: a text": refused("timestep is '3'", frame(put("timestep", "3"))),
    "timestep: yes": refused("timestep is True", frame(put("timestep", True))),
    "timestep: of 400 digits": refused("timestep is", frame(put("timestep", 10**400))),
    "timestep: one for all": taken("", frames(put("timestep", 0))),
    "split: unknown": refused("split is 'training'", frame(put("split", "training"))),
    "split: a number": refused("split is '1'", frame(put("split", 1))),
    "split: all held out": refused("every split is val or test", frames(put("split", "val"))),
    "split: none held out": taken("", frames(put("split", "train"))),
    "fl_x of its own: a text": refused("fl_x is 'a'", frame(lambda f: f.update(fl_x="a", fl_y=1, cx=1, cy=1))),
    "fl_x of its own alone": refused("fl_y is None", frame(put("fl_x", 80))),
}
"""Fields of frames."""

CAMERAS: dict[str, Kind] = {
    "transform_matrix: missing": refused("no transform_matrix", frame(drop("transform_matrix"))),
    "transform_matrix: a text": refused("not a 4x4 matrix of numbers", frame(put("transform_matrix", "identity"))),
    "transform_matrix: ragged": refused("not a 4x4 matrix of numbers", frame(put("transform_matrix", [[1, 2], [3]]))),
    "transform_matrix: 3x4": refused("must be 4x4", camera(lambda c2w: c2w[:3], every=False)),
    "transform_matrix: flat": refused("must be 4x4", camera(np.ravel, every=False)),
    "transform_matrix: not a number": refused("must be 4x4 and finite", camera(lambda c2w: c2w * np.nan, every=False)),
    "transform_matrix: infinite": refused("must be 4x4 and finite", camera(scaled(np.inf), every=False)),
    "transform_matrix: zeros": refused("not a rotation", camera(lambda c2w: 0 * c2w, every=False)),
    "transform_matrix: scaled": refused("not a rotation", camera(lambda c2w: 2 * c2w, every=False)),
    "transform_matrix: mirrored": refused("not a rotation", camera(times(-1, 1, 1), every=False)),
    "transform_matrix: transposed": refused("last row", camera(np.transpose)),
    "cameras: turned by the inverse": refused("", camera(_turned_back)),
    "transform_matrix: another last row": refused(
        "last row", camera(lambda c2w: c2w + np.eye(4)[3][:, None] * [0.5, 0, 0, 0], every=False)
    ),
    "transform_matrix: nested texts": refused(
        "not a 4x4 matrix", frame(put("transform_matrix", [["1"] * 3 + ["a"]] * 4))
    ),
    "cameras: OpenCV's axes": refused("behind the camera", camera(times(1, -1, -1))),
    "cameras: the other way round": refused("", camera(np.linalg.inv)),
    "cameras: all at the origin": refused("inside the head", camera(lambda _: np.eye(4))),
    "cameras: in millimetres": refused("pixels large", camera(scaled(1000))),
    "cameras: in kilometres": refused("inside the head", camera(scaled(1e-3))),
    "cameras: a million metres away": refused("pixels large", camera(scaled(1e6))),
    "cameras: 1e200 metres away": refused("", camera(scaled(1e200))),
    "cameras: one that jumps": taken("jumps against the camera", camera(scaled(8), every=False)),
    "cameras: all the same": taken(
        "", camera(lambda _: np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0.6], [0, 0, 0, 1.0]]))
    ),
}
"""Where pictures were taken from."""
