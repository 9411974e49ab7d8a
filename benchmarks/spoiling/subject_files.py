"""Bad subjects whose head.npz, pictures, masks or depth maps are at fault."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from spoiling.outcome import Kind, refused, taken
from spoiling.subject_text import Make, copied

Arrays = dict[str, np.ndarray]


def arrays(change: Callable[[Arrays], object]) -> Make:
    """Another head.npz."""

    def edit(root: Path) -> None:
        with np.load(root / "head.npz") as archive:
            held = dict(archive)
        change(held)
        np.savez(root / "head.npz", **held)

    return copied(edit)


def array(name: str, change: Callable[[np.ndarray], object]) -> Make:
    """Another array in it."""
    return arrays(lambda held: held.update({name: np.asarray(change(held[name]))}))


def without(name: str) -> Make:
    return arrays(lambda held: held.pop(name))


def spoiled(name: str, index: tuple[int, ...], value: float) -> Make:
    """One number in an array."""

    def change(held: np.ndarray) -> np.ndarray:
        held[index] = value
        return held

    return array(name, change)


def mesh(factor: float | np.ndarray) -> Make:
    """Rest head and posed heads of another size."""

    def change(held: Arrays) -> None:
        for name in ("vertices", "canonical_vertices"):
            with np.errstate(over="ignore"):
                held[name] = held[name] * np.float32(factor)

    return arrays(change)


def file(name: str, content: bytes | Callable[[bytes], bytes]) -> Make:
    """Other bytes in one file."""

    def edit(root: Path) -> None:
        path = root / name
        path.write_bytes(content(path.read_bytes()) if callable(content) else content)

    return copied(edit)


def half(data: bytes) -> bytes:
    return data[: len(data) // 2]


def gone(name: str) -> Make:
    return copied(lambda root: (root / name).unlink())


def pipe(name: str) -> Make:
    def edit(root: Path) -> None:
        (root / name).unlink()
        os.mkfifo(root / name)

    return copied(edit)


def picture(name: str, change: Callable[[np.ndarray], np.ndarray]) -> Make:
    """One picture's values changed."""
    return pictures(change, name)


def pictures(change: Callable[[np.ndarray], np.ndarray], pattern: str) -> Make:
    """The values of all pictures of this pattern changed."""

    def edit(root: Path) -> None:
        for path in sorted(root.glob(pattern)):
            cv2.imwrite(str(path), change(cv2.imread(str(path), cv2.IMREAD_UNCHANGED)))

    return copied(edit)


def saved(name: str, mode: str, **options: object) -> Make:
    """One picture as Pillow saves it in this mode, under its name whatever the format."""

    def edit(root: Path) -> None:
        with Image.open(root / name) as given:
            # What Pillow converts to keeps the size.
            given.convert("L" if mode == "I;16" else mode).convert(mode).save(root / name, **options)

    return copied(edit)


def _moving(root: Path) -> None:
    with Image.open(root / "images/00003.png") as given:
        given.save(root / "images/00003.png", save_all=True, append_images=[given.rotate(90)])


def _bomb(root: Path) -> None:
    with zipfile.ZipFile(root / "head.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        header = (
            b"\x93NUMPY\x01\x00v\x00"
            + b"{'descr': '|u1', 'fortran_order': False, 'shape': (2000000000,), }".ljust(117)
            + b"\n"
        )
        with archive.open("vertices.npy", "w", force_zip64=True) as member:
            member.write(header)
            for _ in range(20):
                member.write(bytes(1 << 20))


def _escaping(root: Path) -> None:
    with zipfile.ZipFile(root / "head.npz", "a") as archive:
        archive.writestr("../../escaped.npy", b"x")


def _linked(root: Path) -> None:
    path = root / "images/00003.png"
    path.rename(root / "elsewhere.png")
    path.symlink_to("../elsewhere.png")


def _linked_to_itself(root: Path) -> None:
    path = root / "images/00003.png"
    path.unlink()
    path.symlink_to(path.name)


def no_height(held: Arrays) -> None:
    for name in ("vertices", "canonical_vertices"):
        held[name] = held[name] * np.float32([1, 0, 1])


def _one_triangle(held: Arrays) -> None:
    held["faces"], held["region"] = held["faces"][:1], held["region"][:1]


def _moved_away(held: Arrays) -> None:
    held["vertices"][4] *= 3


TRACK: dict[str, Kind] = {
    **{
        f"head.npz: no {name}": refused(f"array {name} is missing", without(name))
        for name in (
            "faces",
            "canonical_vertices",
            "vertices",
            "expression",
            "expression_names",
            "pose",
            "joint_names",
            "identity",
            "region",
            "region_names",
        )
    },
    "head.npz: not there": refused("head.npz does not exist", gone("head.npz")),
    "head.npz: empty": refused("head.npz", file("head.npz", b"")),
    "head.npz: cut in half": refused("cannot be read as an npz", file("head.npz", half)),
    "head.npz: a text": refused("head.npz", file("head.npz", b"no arrays at all")),
    "head.npz: a pipe": refused("head.npz", pipe("head.npz")),
    "head.npz: zeros by the gigabyte": refused("head.npz", copied(_bomb)),
    "head.npz: a name that climbs out": refused("escaped", copied(_escaping)),
    "head.npz: bits turned over": refused(
        "head.npz", file("head.npz", lambda data: data[:9000] + bytes(64) + data[9064:])
    ),
    "vertices: not a number": refused("vertices of timestep 3 holds NaN", spoiled("vertices", (3, 5), np.nan)),
    "vertices: infinite": refused("vertices of timestep 3 holds NaN", spoiled("vertices", (3, 5), np.inf)),
    "vertices: objects": refused("vertices", array("vertices", lambda held: held.astype(object))),
    "vertices: texts": refused("vertices has type", array("vertices", lambda held: held.astype("U8"))),
    "vertices: complex": refused("vertices has type", array("vertices", lambda held: held.astype(complex))),
    "vertices: whole numbers": refused("", array("vertices", lambda held: held.astype(int))),
    "vertices: flat": refused("vertices has shape", array("vertices", np.ravel)),
    "vertices: of one timestep less": refused(
        "expression has shape|timestep is 11", array("vertices", lambda held: held[:-1])
    ),
    "vertices: none": refused("vertices has shape", array("vertices", lambda held: held[:0])),
    "vertices: of another mesh": refused("canonical_vertices has shape", array("vertices", lambda held: held[:, :-9])),
    "vertices: in double precision": taken("", array("vertices", lambda held: held.astype(np.float64))),
    "canonical_vertices: not a number": refused(
        "canonical_vertices holds NaN", spoiled("canonical_vertices", (0, 0), np.nan)
    ),
    "expression: not a number": refused("expression of timestep 2 holds NaN", spoiled("expression", (2, 0), np.nan)),
    "expression: of another count": refused("expression has shape", array("expression", lambda held: held[:, :1])),
    "expression: never changes": taken("expression never changes", array("expression", np.zeros_like)),
    "pose: in degrees": taken("are these degrees", array("pose", lambda held: np.degrees(held) + 90)),
    "identity: a million": refused("identity reaches", array("identity", lambda held: held + 1e6)),
    "expression: a million": refused("expression reaches", array("expression", lambda held: 1e6 * held)),
    "expression_names: numbers": refused("expression_names has type", array("expression_names", lambda _: [1, 2])),
    "expression_names: twice the same": refused("expression_names", array("expression_names", lambda _: ["a", "a"])),
    "pose: not a number": refused("pose of timestep 2 holds NaN", spoiled("pose", (2, 0, 0), np.nan)),
    "pose: as matrices": refused("pose has shape", array("pose", lambda held: np.zeros((*held.shape[:2], 3, 3)))),
    "identity: not a number": refused("identity holds NaN", spoiled("identity", (0,), np.nan)),
    "identity: a matrix": refused("identity has shape", array("identity", lambda held: held[None])),
    "faces: none": refused(
        "faces is empty", arrays(lambda held: held.update(faces=held["faces"][:0], region=held["region"][:0]))
    ),
    "faces: beyond the vertices": refused("faces names vertex", array("faces", lambda held: held + 10_000)),
    "faces: negative": refused("faces names vertex", array("faces", lambda held: held - 5)),
    "faces: of four corners": refused(
        "faces has shape", array("faces", lambda held: np.concatenate([held, held[:, :1]], axis=1))
    ),
    "faces: fractions": refused("faces has type", array("faces", lambda held: held + 0.5)),
    "faces: inside out": refused("inside out", array("faces", lambda held: held[:, ::-1])),
    "faces: a single corner": refused("have no area", array("faces", np.zeros_like)),
    "faces: one": refused("off the masks", arrays(_one_triangle)),
    "region: of another length": refused("region has shape", array("region", lambda held: held[:-1])),
    "region: beyond its names": refused("region holds 100", array("region", lambda held: 0 * held + 100)),
    "region_names: none": refused("region holds", array("region_names", lambda held: held[:0])),
    "landmarks2d: of another length": refused(
        "landmarks2d has shape", arrays(lambda held: held.update(landmarks2d=np.zeros((3, 5, 2))))
    ),
    "landmarks2d: infinite": taken("", arrays(lambda held: held.update(landmarks2d=np.full((12, 5, 2), np.inf)))),
    "reprojection_error: negative": taken("", arrays(lambda held: held.update(reprojection_error=np.full(12, -1.0)))),
    "mesh: millimetres": refused("its unit is no metre", mesh(1000)),
    "mesh: micrometres": refused("its unit is no metre", mesh(1e6)),
    "mesh: kilometres": refused("its unit is no metre", mesh(1e-3)),
    "mesh: beyond all numbers": refused("its unit is no metre|holds NaN", mesh(1e37)),
    "mesh: a point": refused("its unit is no metre", mesh(0)),
    "mesh: without height": refused("its unit is no metre", arrays(no_height)),
    "mesh: a line": refused("have no area", mesh(np.float32([0, 1, 0]))),
    "mesh: upside down": refused("below its lips|inside out", mesh(np.float32([1, -1, -1]))),
    "mesh: three times as large in one frame": taken("times the size of the rest head", arrays(_moved_away)),
}
"""head.npz."""

SEEN: dict[str, Kind] = {
    "picture: not there": refused("images/00003.png does not exist", gone("images/00003.png")),
    "picture: empty": refused("00003.png", file("images/00003.png", b"")),
    "picture: cut in half": refused("00003.png", file("images/00003.png", half)),
    "picture: a text": refused("00003.png", file("images/00003.png", b"no picture" * 9)),
    "picture: an error page": refused("00003.png", file("images/00003.png", b"<!DOCTYPE html><html>404</html>")),
    "picture: a pointer to it": refused(
        "00003.png", file("images/00003.png", b"version https://git-lfs.github.com/spec/v1\n")
    ),
    "picture: a pipe": refused("00003.png", pipe("images/00003.png")),
    "picture: a link": taken("", copied(_linked)),
    "picture: a link to itself": refused("00003.png", copied(_linked_to_itself)),
    "picture: of another size": refused("00003.png is 40x48", picture("images/00003.png", lambda p: p[:, :40])),
    "picture: of one pixel": refused("00003.png is 1x1", picture("images/00003.png", lambda p: p[:1, :1])),
    "picture: claims 65535 x 65535": refused(
        "00003.png", file("images/00003.png", lambda data: data[:16] + b"\0\0\xff\xff" * 2 + data[24:])
    ),
    "picture: of 16 bits": taken("", picture("images/00003.png", lambda p: p.astype(np.uint16) * 257)),
    "picture: grey": taken("", saved("images/00003.png", "L")),
    "picture: with a palette": taken("", saved("images/00003.png", "P")),
    "picture: see-through": taken("", saved("images/00003.png", "RGBA")),
    "picture: black and white": taken("stored as 1", saved("images/00003.png", "1")),
    "picture: CMYK": taken("stored as CMYK", saved("images/00003.png", "CMYK", format="TIFF")),
    "picture: a JPEG by its name a PNG": taken("", saved("images/00003.png", "RGB", format="JPEG")),
    "picture: a GIF by its name a PNG": refused("00003.png", saved("images/00003.png", "P", format="GIF")),
    "picture: moving": taken("", copied(_moving)),
    "pictures: black": refused("of one colour", pictures(lambda p: 0 * p, "images/*.png")),
    "pictures: grey": refused("of one colour", pictures(lambda p: 0 * p + 128, "images/*.png")),
    "picture: one that is black": taken("", picture("images/00003.png", lambda p: 0 * p)),
    "mask: not there": refused("masks/00003.png does not exist", gone("masks/00003.png")),
    "mask: cut in half": refused("00003.png", file("masks/00003.png", half)),
    "mask: of another size": refused("00003.png is 24x24", picture("masks/00003.png", lambda p: p[:24, :24])),
    "mask: in colour": taken("", picture("masks/00003.png", lambda p: np.repeat(p[..., None], 3, axis=2))),
    "mask: of 16 bits": taken("", picture("masks/00003.png", lambda p: p.astype(np.uint16) * 257)),
    "masks: of 0 and 1": taken("Masks hold 0 and 1", pictures(lambda p: p // 128, "masks/*.png")),
    "masks: empty": refused("12 of 12 are empty", pictures(lambda p: 0 * p, "masks/*.png")),
    "masks: full": refused("12 of 12 are full", pictures(lambda p: 0 * p + 255, "masks/*.png")),
    "masks: one that is empty": taken("1 of 12 are empty", picture("masks/00003.png", lambda p: 0 * p)),
    "masks: inverted": refused("off the masks", pictures(lambda p: 255 - p, "masks/*.png")),
    "masks: mirrored top to bottom": taken("", pictures(lambda p: p[::-1], "masks/*.png")),
}
"""Pictures and masks."""

DEPTH: dict[str, Kind] = {
    "depth: not there": taken("1 of 12 depth maps cannot be used", gone("depths/00003.png")),
    "depth: cut in half": taken("1 of 12 depth maps cannot be used", file("depths/00003.png", half)),
    "depth: a text": taken("1 of 12 depth maps cannot be used", file("depths/00003.png", b"far away")),
    "depth: a pipe": taken("1 of 12 depth maps cannot be used", pipe("depths/00003.png")),
    "depth: of another size": taken("00003.png is 24x48", picture("depths/00003.png", lambda p: p[:, :24])),
    "depth: in colour": taken(
        "has 3 channels", picture("depths/00003.png", lambda p: np.repeat(p[..., None], 3, axis=2))
    ),
    "depth: of 8 bits": taken("", pictures(lambda p: (p // 257).astype(np.uint8), "depths/*.png")),
    "depth: the same everywhere": taken(
        "12 of 12 depth maps cannot be used", pictures(lambda p: 0 * p + 9, "depths/*.png")
    ),
    "depth: the other way round": taken(
        "other way round", pictures(lambda p: np.where(p > 0, 65535 - p + 1, 0).astype(np.uint16), "depths/*.png")
    ),
}
"""Depth maps, without which training goes on."""
