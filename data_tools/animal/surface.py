"""The made-up animal's skin as a function of its proportions and of what its face does. Metres, head frame."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float, Int
from scipy.interpolate import PchipInterpolator

from data_tools.synth.noise import ramp
from flame_nerf.geometry import axis_angle_to_matrix

SIDES = {"left": 1.0, "right": -1.0}
"""The subject's own sides; x points to its left."""
BODY_RINGS, BODY_AROUND = 56, 32
JAW_RINGS, JAW_AROUND = 18, 20
EAR_RINGS, EAR_AROUND = 12, 14
EYE_RINGS, EYE_AROUND = 8, 12
LID_ROWS, LID_COLUMNS = 5, 9

# Along the spine, from the neck's end over the skull to the nose: y and z of the middle, half width, height above and
# depth below the middle.
_SPINE = np.array(
    [
        [-0.240, -0.130, 0.062, 0.060, 0.060],
        [-0.160, -0.105, 0.056, 0.056, 0.054],
        [-0.075, -0.075, 0.062, 0.058, 0.060],
        [0.000, -0.035, 0.073, 0.058, 0.068],
        [0.000, 0.030, 0.060, 0.046, 0.054],
        [-0.018, 0.065, 0.041, 0.031, 0.028],
        [-0.030, 0.110, 0.034, 0.025, 0.018],
        [-0.034, 0.150, 0.027, 0.021, 0.014],
        [-0.036, 0.168, 0.014, 0.011, 0.008],
    ]
)
_JAW = np.array(
    [
        [-0.032, -0.015, 0.034, 0.010, 0.022],
        [-0.047, 0.055, 0.034, 0.008, 0.020],
        [-0.050, 0.100, 0.028, 0.006, 0.014],
        [-0.049, 0.135, 0.021, 0.005, 0.011],
        [-0.047, 0.150, 0.010, 0.003, 0.006],
    ]
)
_MUZZLE_START, _HINGE = 0.055, np.array([0.0, -0.034, 0.004])
_EYE, _EYE_RADIUS, _LID = np.array([0.0340, 0.014, 0.049]), 0.0165, 1.12
_GAZE = np.array([0.40, 0.12, 0.91])
_EAR_BASE, _EAR_TIP = np.array([0.040, 0.028, -0.030]), np.array([0.066, 0.150, -0.040])
_OPEN_DEG, _SHUT_DEG = (34.0, -42.0), (-8.0, -16.0)
"""Elevation of the upper and the lower lid's edge on the eyeball."""
JAW_OPEN_DEG, EAR_BACK_DEG, EAR_DROP_DEG = 28.0, 50.0, 38.0


@dataclass(frozen=True)
class Shape:
    """Proportions (0 is the mean, 1 a standard deviation) and expressions (0 neutral, 1 full) of the animal."""

    proportions: dict[str, float] = field(default_factory=dict)
    expressions: dict[str, float] = field(default_factory=dict)

    def __getitem__(self, name: str) -> float:
        return self.proportions.get(name, self.expressions.get(name, 0.0))


PROPORTIONS = (
    "muzzleLength", "muzzleWidth", "earSize", "earSpread", "skullWidth", "eyeSpacing", "foreheadHeight", "neckWidth",
)  # fmt: skip
EXPRESSIONS = (
    "jawOpen", "eyeBlinkLeft", "eyeBlinkRight", "earBackLeft", "earBackRight", "earDropLeft", "earDropRight", "snarl",
)  # fmt: skip


@dataclass(frozen=True)
class Skin:
    """Vertices in a fixed order, with the triangles, the part each vertex belongs to, and places with a name."""

    vertices: Float[np.ndarray, "V 3"]
    faces: Int[np.ndarray, "F 3"]
    part: list[str]
    """Part of each vertex: body, jaw, left_ear, left_eye, left_lid, ..."""
    along: Float[np.ndarray, " V"]
    """Place of a vertex between a part's beginning (0) and end (1)."""
    above: Float[np.ndarray, " V"]
    """Cosine of its place around the part: 1 on top, -1 underneath."""
    keypoints: dict[str, int]
    """Vertex of each named point."""
    joints: dict[str, Float[np.ndarray, "3"]]


def skin(shape: Shape) -> Skin:
    """The animal's surface. Every shape gives the same triangles, so differences of two skins are blendshapes."""
    parts: list[tuple[str, _Grid]] = [("body", _body(shape)), ("jaw", _jaw(shape))]
    for side in SIDES:
        parts += [(f"{side}_ear", _ear(side, shape)), (f"{side}_eye", _eyeball(side, shape))]
        parts += [(f"{side}_{lid}_lid", _eyelid(side, lid, shape)) for lid in ("upper", "lower")]
    start, vertices, faces, names, keypoints = 0, [], [], [], {}
    for name, grid in parts:
        vertices.append(grid.points)
        faces.append(grid.faces + start)
        names += [name] * len(grid.points)
        keypoints |= {key: start + row for key, row in grid.keypoints.items()}
        start += len(grid.points)
    return Skin(
        np.concatenate(vertices),
        np.concatenate(faces),
        names,
        np.concatenate([grid.along for _, grid in parts]),
        np.concatenate([grid.above for _, grid in parts]),
        keypoints,
        _joints(shape),
    )


@dataclass(frozen=True)
class _Grid:
    """Rings (or rows) of points, joined to their neighbours."""

    points: Float[np.ndarray, "N 3"]
    faces: Int[np.ndarray, "M 3"]
    along: Float[np.ndarray, " N"]
    above: Float[np.ndarray, " N"]
    keypoints: dict[str, int] = field(default_factory=dict)


def _grid(
    rows: Float[np.ndarray, "R C 3"],
    tip: Float[np.ndarray, "3"] | None,
    closed: bool,
    keypoints: dict[str, tuple[int, int] | None],
    mirrored: bool = False,
) -> _Grid:
    """Triangles between successive rows; a tip closes the end.

    Args:
        closed: the rows are rings.
        keypoints: row and column of each named point, None for the tip.
        mirrored: the columns run the other way round.
    """
    count, around = rows.shape[:2]
    columns = np.arange(around if closed else around - 1)
    a = (np.arange(count - 1)[:, None] * around + columns).ravel()
    b = (np.arange(count - 1)[:, None] * around + (columns + 1) % around).ravel()
    faces = np.concatenate([np.stack([a, a + around, b], 1), np.stack([b, a + around, b + around], 1)])
    points, along = rows.reshape(-1, 3), np.repeat(np.linspace(0, 1, count), around)
    above = np.tile(np.cos(2 * np.pi * np.arange(around) / around), count)
    if tip is not None:
        last = (count - 1) * around
        cap = np.stack([last + columns, np.full_like(columns, count * around), last + (columns + 1) % around], 1)
        faces = np.concatenate([faces, cap])
        points, along, above = np.concatenate([points, tip[None]]), np.append(along, 1.0), np.append(above, 0.0)
    at = {name: count * around if place is None else place[0] * around + place[1] for name, place in keypoints.items()}
    return _Grid(points, faces[:, ::-1] if mirrored else faces, along, above, at)


def _loft(stations: Float[np.ndarray, "K 5"], rings: int, around: int) -> Float[np.ndarray, "R C 3"]:
    """Rings at right angles to a line in the plane of symmetry; the first point of each is on top."""
    at = np.linspace(0, 1, len(stations))
    curve = PchipInterpolator(at, stations)
    t = np.linspace(0, 1, rings)
    y, z, half, top, bottom = curve(t).T
    dy, dz = curve.derivative()(t)[:, :2].T
    length = np.hypot(dy, dz)
    # Across the line in its plane, upwards where the line runs forwards.
    up = np.stack([np.zeros_like(t), dz / length, -dy / length], axis=1)
    angle = 2 * np.pi * np.arange(around) / around
    height = np.where(np.cos(angle) >= 0, top[:, None], bottom[:, None]) * np.cos(angle)
    middle = np.stack([np.zeros_like(t), y, z], axis=1)
    side = np.array([1.0, 0.0, 0.0])
    return middle[:, None] + (half[:, None] * np.sin(angle))[..., None] * side + height[..., None] * up[:, None]


def _stretched(points: Float[np.ndarray, "*N 3"], shape: Shape) -> Float[np.ndarray, "*N 3"]:
    """Muzzle and skull after the animal's proportions."""
    x, y, z = np.moveaxis(points, -1, 0)
    ahead = np.clip((z - _MUZZLE_START) / 0.11, 0, None)
    muzzle = ramp(z, 0.05, 0.09)
    skull = np.exp(-(((y - 0.005) / 0.06) ** 2) - (((z + 0.02) / 0.06) ** 2))
    brow = np.exp(-((x / 0.06) ** 2) - (((z - 0.02) / 0.05) ** 2)) * ramp(y, 0.0, 0.04)
    neck = 1 - ramp(y, -0.16, -0.06)
    width = 1 + 0.13 * shape["muzzleWidth"] * muzzle + 0.07 * shape["skullWidth"] * skull
    width = width + 0.12 * shape["neckWidth"] * neck
    return np.stack(
        [
            x * width,
            y + 0.006 * shape["foreheadHeight"] * brow,
            z + 0.014 * shape["muzzleLength"] * ahead + 0.007 * shape["neckWidth"] * neck * np.sign(z + 0.11 + y / 3),
        ],
        axis=-1,
    )


def _body(shape: Shape) -> _Grid:
    rings = _stretched(_loft(_SPINE, BODY_RINGS, BODY_AROUND), shape)
    tip = _stretched(np.array([0.0, -0.037, 0.174]), shape)
    top, under, quarter = 0, BODY_AROUND // 2, BODY_AROUND // 4
    last = BODY_RINGS - 1
    places = {"nose_tip": None, "nose_bridge": (35, top), "forehead": (28, top), "crown": (21, top)}
    places |= {"upper_lip": (last - 3, under)}
    for side, sign in SIDES.items():
        column = int(sign * quarter) % BODY_AROUND
        places |= {f"{side}_cheek": (26, column), f"{side}_whiskers": (44, int(sign * (quarter + 2)) % BODY_AROUND)}
    grid = _grid(rings, tip, True, places)
    return _Grid(_snarling(grid.points, shape), grid.faces, grid.along, grid.above, grid.keypoints)


def _snarling(points: Float[np.ndarray, "N 3"], shape: Shape) -> Float[np.ndarray, "N 3"]:
    """Lips drawn up at the muzzle's sides, the nose wrinkled."""
    x, y, z = points.T
    sides = np.exp(-(((np.abs(x) - 0.028) / 0.014) ** 2) - (((z - 0.115) / 0.035) ** 2)) * ramp(-y, 0.0, 0.04)
    ridge = np.exp(-((x / 0.02) ** 2) - (((z - 0.12) / 0.03) ** 2)) * ramp(y, -0.03, -0.01)
    lift = np.stack([0.003 * np.sign(x) * sides, 0.010 * sides + 0.006 * ridge, -0.004 * ridge], axis=1)
    return points + shape["snarl"] * lift


def _jaw(shape: Shape) -> _Grid:
    rings = _loft(_JAW, JAW_RINGS, JAW_AROUND)
    last, under, quarter = JAW_RINGS - 1, JAW_AROUND // 2, JAW_AROUND // 4
    places = {"lower_lip": None, "chin": (last - 2, under)}
    for side, sign in SIDES.items():
        places[f"{side}_lower_lip"] = (10, int(sign * quarter) % JAW_AROUND)
        places[f"{side}_jaw"] = (4, int(sign * (quarter + 2)) % JAW_AROUND)
    grid = _grid(_stretched(rings, shape), _stretched(np.array([0.0, -0.0465, 0.154]), shape), True, places)
    turned = _turned(grid.points, _HINGE, np.array([1.0, 0.0, 0.0]), JAW_OPEN_DEG)
    share = jaw_share(grid.points)[:, None] * shape["jawOpen"]
    return _Grid(grid.points + share * (turned - grid.points), grid.faces, grid.along, grid.above, grid.keypoints)


def jaw_share(points: Float[np.ndarray, "N 3"]) -> Float[np.ndarray, " N"]:
    """How far points of the jaw follow it; its hidden end stays in the skull."""
    return ramp(points[:, 2], 0.012, 0.045)


def _ear(side: str, shape: Shape) -> _Grid:
    sign = SIDES[side]
    base = _stretched(_EAR_BASE * [sign, 1, 1], shape)
    tip = base + (_EAR_TIP - _EAR_BASE) * [sign, 1, 1] * (1 + 0.22 * shape["earSize"])
    up = (tip - base) / np.linalg.norm(tip - base)
    # The ear's opening looks forwards and a little outwards.
    ahead = np.array([0.35 * sign, 0.0, 0.94])
    ahead -= (ahead @ up) * up
    ahead /= np.linalg.norm(ahead)
    across = np.cross(up, ahead)
    t = np.linspace(0, 0.94, EAR_RINGS)
    size = 1 + 0.18 * shape["earSize"]
    half = size * 0.036 * (1 - t) ** 0.7 * (0.6 + 1.15 * t)
    thick = size * (0.008 * (1 - t) + 0.0012)
    angle = 2 * np.pi * np.arange(EAR_AROUND) / EAR_AROUND
    depth = thick[:, None] * np.cos(angle) + 0.35 * half[:, None] * np.sin(angle) ** 2
    rings = (
        (base + t[:, None] * (tip - base))[:, None]
        + (half[:, None] * np.sin(angle))[..., None] * across
        + depth[..., None] * ahead
    )
    # Columns run from the front over the side that `across` points to: outwards on the left, inwards on the right.
    quarter = EAR_AROUND // 4
    outer, inner = (quarter, EAR_AROUND - quarter) if sign > 0 else (EAR_AROUND - quarter, quarter)
    places = {
        f"{side}_ear_tip": None,
        f"{side}_ear_outer": (4, outer),
        f"{side}_ear_inner": (4, inner),
        f"{side}_ear_middle": (8, 0),
    }
    grid = _grid(rings, tip, True, places, mirrored=True)
    outwards, backwards = np.array([0.0, 0.0, 1.0]), np.array([1.0, 0.0, 0.0])
    name = side.capitalize()
    back = _turned(grid.points, base, backwards, -EAR_BACK_DEG) - grid.points
    drop = _turned(grid.points, base, outwards, -sign * EAR_DROP_DEG) - grid.points
    spread = _turned(grid.points, base, outwards, -sign * 8.0) - grid.points
    moved = shape[f"earBack{name}"] * back + shape[f"earDrop{name}"] * drop + shape["earSpread"] * spread
    return _Grid(grid.points + moved, grid.faces, grid.along, grid.above, grid.keypoints)


def _eye_frame(side: str, shape: Shape) -> tuple[Float[np.ndarray, "3"], Float[np.ndarray, "3 3"]]:
    """Centre of an eyeball, and its axes as rows: outwards to the subject's left, up, along the gaze."""
    sign = SIDES[side]
    place = _EYE * [sign, 1, 1] + [sign * 0.003 * shape["eyeSpacing"], 0, 0]
    gaze = _GAZE * [sign, 1, 1] / np.linalg.norm(_GAZE)
    right = np.cross([0.0, 1.0, 0.0], gaze)
    right /= np.linalg.norm(right)
    return _stretched(place, shape), np.stack([right, np.cross(gaze, right), gaze])


def _on_ball(
    side: str, shape: Shape, azimuth: Float[np.ndarray, "R C"], elevation: Float[np.ndarray, "R C"], radius: float
) -> Float[np.ndarray, "R C 3"]:
    """Points on a sphere about an eye; azimuth from the gaze to the subject's left, radians."""
    centre, axes = _eye_frame(side, shape)
    local = [np.sin(azimuth) * np.cos(elevation), np.sin(elevation), np.cos(azimuth) * np.cos(elevation)]
    return centre + radius * np.stack(local, axis=-1) @ axes


def _eyeball(side: str, shape: Shape) -> _Grid:
    centre, axes = _eye_frame(side, shape)
    polar = np.radians(np.linspace(120, 12, EYE_RINGS))
    angle = 2 * np.pi * np.arange(EYE_AROUND) / EYE_AROUND
    local = np.stack(
        [
            np.sin(polar)[:, None] * np.sin(angle),
            np.sin(polar)[:, None] * np.cos(angle),
            np.broadcast_to(np.cos(polar)[:, None], (EYE_RINGS, EYE_AROUND)),
        ],
        axis=-1,
    )
    return _grid(centre + _EYE_RADIUS * local @ axes, centre + _EYE_RADIUS * axes[2], True, {f"{side}_pupil": None})


def _eyelid(side: str, lid: str, shape: Shape) -> _Grid:
    row = ("upper", "lower").index(lid)
    back = (100.0, -100.0)[row]
    blink = shape[f"eyeBlink{side.capitalize()}"]
    azimuth = np.radians(np.linspace(-78, 78, LID_COLUMNS))
    inner_column, outer_column = (0, LID_COLUMNS - 1) if side == "left" else (LID_COLUMNS - 1, 0)
    places = {f"{side}_eye_{lid}": (LID_ROWS - 1, LID_COLUMNS // 2)}
    if lid == "upper":
        places |= {f"{side}_eye_inner": (LID_ROWS - 1, inner_column), f"{side}_eye_outer": (LID_ROWS - 1, outer_column)}

    def patch(edge_deg: float) -> Float[np.ndarray, "R C 3"]:
        # The edge runs to the corners, level with the eye.
        edge = np.radians(edge_deg) * np.cos(azimuth) ** 0.7
        share = np.linspace(0, 1, LID_ROWS)[:, None]
        elevation = np.radians(back) * (1 - share) + edge * share
        return _on_ball(side, shape, np.broadcast_to(azimuth, elevation.shape), elevation, _LID * _EYE_RADIUS)

    opened, shut = patch(_OPEN_DEG[row]), patch(_SHUT_DEG[row])
    return _grid(opened + blink * (shut - opened), None, False, places, mirrored=lid == "lower")


def _joints(shape: Shape) -> dict[str, Float[np.ndarray, "3"]]:
    places = {"root": (0.0, -0.24, -0.13), "neck": (0.0, -0.150, -0.100), "head": (0.0, -0.055, -0.060)}
    return {
        **{name: np.array(place) for name, place in places.items()},
        "jaw": _HINGE.copy(),
        **{f"{side}_eye": _eye_frame(side, shape)[0] for side in SIDES},
    }


def _turned(
    points: Float[np.ndarray, "N 3"], about: Float[np.ndarray, "3"], axis: Float[np.ndarray, "3"], angle_deg: float
) -> Float[np.ndarray, "N 3"]:
    """Points turned about an axis through a point."""
    return about + (points - about) @ axis_angle_to_matrix(axis * np.radians(angle_deg)).T
