"""DECA's codes: code.json with shape, exp, pose and weak-perspective cam of each picture, turned into perspective."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.optimize import minimize_scalar

from data_tools.importers.capture import Capture, Scratch, Shot, capture_of
from data_tools.importers.config import ImportConfig, ImportingError
from data_tools.importers.flame import FlameMeshes, FlameParameters, open_flame
from data_tools.importers.inputs.cameras import AXES_WORDS, camera_of
from data_tools.importers.inputs.files import array, flat, read_json, version_hint
from data_tools.importers.inputs.places import Places, pictures_in, why_missing
from data_tools.runs.frame_names import natural, stem_of
from flame_nerf.geometry import perspective
from flame_nerf.heads import HeadModel
from flame_nerf.heads.masks_landmarks import SIXTY_EIGHT as MEDIAPIPE_OF_68
from flame_nerf.runtime.door import picture_size

INDEX, KEYPOINTS = "code.json", "keypoint.json"
PICTURE_FOLDERS = ("image", "images", "input", "")
FOCAL_PRIOR = 1.35
"""Focal length over the longer side, where nothing tells."""
FOCAL_RANGE = (0.5, 8.0)
"""Same unit: where a focal length is looked for."""
TELLING = 0.05
"""Landmarks tell the focal length if the best one leaves at least this share less error than the prior's."""
FACE_TO_CAMERA = np.diag([1.0, -1.0, -1.0])
"""DECA's camera looks along -z of FLAME's space: only y and z turn over."""
FEWEST = 8
"""Landmarks that must be known for distances to be found from them."""
CROP_SIDE = 224.0
"""Pixels of the crop that a `tform` leads to."""


def recognise(source: Path) -> str | None:
    """Why these are DECA's codes; None if they are not."""
    if not (source / INDEX).is_file():
        return None
    entries = read_json(source / INDEX)
    first = next(iter(entries.values()), None)
    return f"{INDEX} holds a cam for each picture" if isinstance(first, dict) and "cam" in first else None


def read(source: Path, config: ImportConfig, scratch: Scratch) -> Capture:
    """Read DECA's codes of a recording.

    Raises:
        ImportingError: naming file and picture.
    """
    path = source / INDEX
    flame = open_flame(config, "DECA")
    content = read_json(path)
    places, folder = Places(source), _folder(source, list(content))
    names = sorted(content, key=natural)
    pictures = {name: places.picture_in(folder, Path(name.replace("\\", "/")).name) for name in names}
    first = next((picture for picture in pictures.values() if picture.is_file()), None)
    listed = pictures_in(folder)
    if not (names and listed):
        raise ImportingError(
            f"{source}: none of the {len(content)} codes has its picture in image/ or beside it"
            + (f": {why_missing(pictures[names[0]])}." if names else ".")
        )
    usual = first or folder / listed[0]
    codes = [_Code.of(content[name], name, pictures[name], usual, f"{path}: {name}") for name in names]
    pose = np.zeros((len(codes), 5, 3))
    pose[:, [0, 2]] = np.stack([code.pose for code in codes]).reshape(-1, 2, 3)
    # DECA guesses the shape anew for every picture.
    shapes = _stacked([code.shape for code in codes], codes, "shape")
    expression = _stacked([code.expression for code in codes], codes, "exp")
    parameters = FlameParameters(shapes.mean(axis=0), expression, pose, np.zeros((len(codes), 3)))
    meshes = FlameMeshes(flame, parameters, str(path))
    size = codes[0].size
    world_from_head = meshes.world_from_head()
    centre = np.array(size) / 2
    prior = config.focal_px or FOCAL_PRIOR * max(size)
    shift, focal, said = _weak_to_perspective(codes, prior, centre), prior, "given" if config.focal_px else "assumed"
    seen, untold = _seen(source, codes, meshes.head)
    warnings = []
    if seen is not None:
        points = _model_points(meshes, world_from_head, seen.rows)
        shift, focal, said = _refine(points, seen.pixels, centre, prior, config.focal_px is None, max(size))
    elif config.focal_px is None:
        warnings.append(
            f"Nothing told the focal length: {prior:.0f} px was assumed, as {untold}. Give --focal-px if you know it."
        )
    head_from_world = np.linalg.inv(world_from_head)
    shots = []
    for row, code in enumerate(codes):
        w2c = np.eye(4)
        w2c[:3, :3], w2c[:3, 3] = FACE_TO_CAMERA, shift[row]
        camera, _ = camera_of((focal, focal, *centre), size, w2c, "opencv", f"{path}: {code.name}")
        matte = places.picture_in(source / "mask", stem_of(code.picture.name))
        shots.append(Shot(code.name, code.picture, camera.in_world(head_from_world[row]), row, matte=matte))
    return capture_of(
        meshes,
        flame,
        format="DECA",
        shots=tuple(shots),
        facts={
            "axes": f"weak perspective, turned into perspective; {AXES_WORDS['opencv']}",
            "signs": "y and z of FLAME turned over",
            "scale": "metres; distance from the weak perspective's scale",
            "focal length": f"{focal:.1f} px, {said}",
        },
        warnings=tuple(warnings),
    )


@dataclass(frozen=True)
class _Code:
    """What DECA says of one picture."""

    name: str
    picture: Path
    size: tuple[int, int]
    shape: Float[np.ndarray, " S"]
    expression: Float[np.ndarray, " E"]
    pose: Float[np.ndarray, "6"]
    cam: Float[np.ndarray, "3"]
    """s, tx, ty: x' = s (X + tx), y' = -s (Y + ty), both -1..1 over the crop."""
    crop: tuple[float, float, float]
    """Centre and side of the square crop, pixels of the picture."""

    @classmethod
    def of(cls, entry: Any, name: str, picture: Path, usual: Path, where: str) -> _Code:
        """
        Args:
            usual: a picture whose size counts where the code's own is not there.
        """
        if not isinstance(entry, dict):
            raise ImportingError(f"{where} is a {type(entry).__name__}; {version_hint(entry)}")
        values = {key: flat(entry, key, where, width) for key, width in
                  (("shape", None), ("exp", None), ("pose", 6), ("cam", 3))}  # fmt: skip
        if values["cam"][0] <= 0:
            raise ImportingError(f"{where}: cam's scale is {values['cam'][0]:g}; expected a positive number.")
        size = picture_size(picture if picture.is_file() else usual, ImportingError)
        return cls(name, picture, size, values["shape"], values["exp"], values["pose"], values["cam"],
                   _crop(entry, size, where))  # fmt: skip


def _crop(entry: dict[str, Any], size: tuple[int, int], where: str) -> tuple[float, float, float]:
    """The square that DECA looked at: as `crop` [left, top, side], by the `tform` to it, or a square picture whole."""
    if "crop" in entry:
        left, top, side = array(entry["crop"], (3,), f"{where}: crop")
        return left + side / 2, top + side / 2, side
    if "tform" in entry:
        tform = array(flat(entry, "tform", where)[:6], (6,), f"{where}: tform").reshape(2, 3)
        if abs(tform[0, 1]) > 1e-6 * abs(tform[0, 0]) or abs(tform[0, 0] - tform[1, 1]) > 1e-6 * abs(tform[0, 0]):
            raise ImportingError(f"{where}: tform turns or stretches the picture; expected an upright square crop.")
        middle = (CROP_SIDE / 2 - tform[:, 2]) / tform[0, 0]
        return float(middle[0]), float(middle[1]), CROP_SIDE / float(tform[0, 0])
    if size[0] != size[1]:
        raise ImportingError(
            f"{where}: the picture is {size[0]}x{size[1]}, not square, and nothing says which square DECA looked at. "
            "Add crop: [left, top, side] (pixels) or DECA's tform to each code, or import the cropped pictures."
        )
    return size[0] / 2, size[1] / 2, float(size[0])


def _folder(source: Path, names: list[str]) -> Path:
    """The folder that holds the codes' pictures: most of them by name, else the first one with pictures in it."""
    wanted = {stem_of(Path(name.replace("\\", "/")).name) for name in names}
    found = {name: {stem_of(picture) for picture in pictures_in(source / name)} for name in PICTURE_FOLDERS}
    best = max(found, key=lambda name: len(found[name] & wanted))
    if not found[best] & wanted:
        best = next((name for name, stems in found.items() if stems), PICTURE_FOLDERS[0])
    return source / best


def _stacked(rows: list[np.ndarray], codes: list[_Code], name: str) -> np.ndarray:
    for row, code in zip(rows, codes, strict=True):
        if len(row) != len(rows[0]):
            raise ImportingError(f"{INDEX}: {code.name}: {name} has {len(row)} values, {codes[0].name} {len(rows[0])}.")
        if code.size != codes[0].size:
            raise ImportingError(f"{code.picture} is {code.size}, {codes[0].picture.name} {codes[0].size}: one size "
                                 "is expected.")  # fmt: skip
    return np.stack(rows)


def _weak_to_perspective(codes: list[_Code], focal: float, centre: Float[np.ndarray, "2"]) -> Float[np.ndarray, "T 3"]:
    """Where FLAME's origin is before a camera that shows it at the same place in the same size.

    A length X there covers s X B / 2 pixels of a crop of B pixels, and focal X / Z in perspective: Z = 2 focal / (s B).
    """
    shifts = []
    for code in codes:
        scale, tx, ty = code.cam
        u, v, side = code.crop
        depth = 2 * focal / (scale * side)
        at = np.array([u + scale * tx * side / 2, v - scale * ty * side / 2])
        shifts.append([*((at - centre) * depth / focal), depth])
    return np.array(shifts)


@dataclass(frozen=True)
class _Seen:
    """Landmarks of all pictures."""

    rows: Int[np.ndarray, " L"]
    """Rows of the head model's embedding."""
    pixels: Float[np.ndarray, "T L 2"]


def _seen(source: Path, codes: list[_Code], head: HeadModel) -> tuple[_Seen | None, str]:
    """Landmarks beside the codes, if every picture has them and the head model knows where they are; else why not."""
    path = source / KEYPOINTS
    if not path.is_file():
        return None, f"there is no {KEYPOINTS} with landmarks"
    if head.landmarks is None or head.landmarks.names:
        return None, f"{KEYPOINTS} is there, but your FLAME file has no embedding of its landmarks"
    content = {stem_of(name): values for name, values in read_json(path).items()}
    found = []
    for code in codes:
        values = content.get(stem_of(code.picture.name), content.get(stem_of(code.name)))
        if values is None:
            return None, f"{KEYPOINTS} has no landmarks of {code.picture.name}"
        found.append(array(values, (None, 2), f"{path}: {code.name}"))
    counts = {len(points) for points in found}
    if len(counts) != 1:
        raise ImportingError(f"{path}: unequal numbers of landmarks: {sorted(counts)}.")
    count = counts.pop()
    if count in (68, 70):
        numbers, columns = np.array(MEDIAPIPE_OF_68), np.arange(17, 68)
    elif count in (468, 478):
        numbers = columns = np.arange(count)
    else:
        raise ImportingError(f"{path}: {count} landmarks; expected 68 (or 70 with irises), 468 or 478.")
    column_of = dict(zip(numbers.tolist(), columns.tolist(), strict=True))
    known = head.landmarks.index.tolist()
    rows = np.array([row for row, number in enumerate(known) if number in column_of])
    if len(rows) < FEWEST:
        return None, f"only {len(rows)} of the landmarks in {KEYPOINTS} are in your FLAME file's embedding"
    chosen = [column_of[known[row]] for row in rows]
    return _Seen(rows, np.stack(found)[:, chosen]), ""


def _model_points(
    meshes: FlameMeshes, world_from_head: Float[np.ndarray, "T 4 4"], rows: Int[np.ndarray, " L"]
) -> Float[np.ndarray, "T L 3"]:
    """The landmarks on the meshes, in FLAME's model space."""
    points = []
    for t in range(len(meshes)):
        on_head = meshes.head.landmark_points(torch.from_numpy(meshes.vertices([t])))[0].numpy()[rows]
        points.append(on_head @ world_from_head[t, :3, :3].T + world_from_head[t, :3, 3])
    return np.stack(points)


def _refine(
    points: Float[np.ndarray, "T L 3"],
    pixels: Float[np.ndarray, "T L 2"],
    centre: Float[np.ndarray, "2"],
    prior: float,
    free_focal: bool,
    side: float,
) -> tuple[Float[np.ndarray, "T 3"], float, str]:
    """Each picture's translation and the one focal length that put the landmarks where they were seen.

    Given a focal length f, u z = f x + ... is linear in the translation, so the search is over f alone.

    Returns:
        Translations, focal length, and in words how it was found.
    """
    turned = points @ FACE_TO_CAMERA.T

    def solve(focal: float) -> tuple[np.ndarray, float]:
        shifts, errors = [], []
        for at, seen, pixel in zip(turned, (pixels - centre) / focal, pixels, strict=True):
            matrix = np.zeros((2 * len(at), 3))
            matrix[::2, 0] = matrix[1::2, 1] = 1
            matrix[:, 2] = -seen.reshape(-1)
            right = (seen * at[:, 2:] - at[:, :2]).reshape(-1)
            shift = np.linalg.lstsq(matrix, right, rcond=None)[0]
            camera = at + shift
            errors.append(perspective(camera, focal, centre) - pixel)
            shifts.append(shift)
        return np.array(shifts), float(np.square(errors).mean())

    if not free_focal:
        return solve(prior)[0], prior, "given; distances refined on landmarks"
    low, high = (np.log(share * side) for share in FOCAL_RANGE)
    best = minimize_scalar(lambda f: solve(np.exp(f))[1], bounds=(low, high), method="bounded",
                           options={"xatol": 1e-9})  # fmt: skip
    focal = float(np.exp(best.x))
    at_edge = min(best.x - low, high - best.x) < 0.02
    if at_edge or best.fun > (1 - TELLING) * solve(prior)[1]:
        return solve(prior)[0], prior, "assumed: the landmarks do not tell; distances refined on them"
    return solve(focal)[0], focal, f"found from landmarks ({np.sqrt(best.fun):.2f} px off)"
