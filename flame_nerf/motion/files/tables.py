"""Motions as tables that other programs read and write: Live Link Face's CSV, and a CSV of named columns."""

from __future__ import annotations

import csv
import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

from flame_nerf.motion.arkit import ARKIT_NAMES, arkit_name, plain
from flame_nerf.motion.files.head_angles import UNITS, AngleUnits, guessed_units, turns, yaw_pitch_roll
from flame_nerf.motion.files.timecode import HOW_TO_SAY, USUAL_RATE, EvenRows, even_rows, seconds_of, timecode_of, usual
from flame_nerf.motion.performance import MAX_FRAMES, Motion, Provenance, interpolated
from flame_nerf.runtime.door import read_rows
from flame_nerf.runtime.errors import MotionError
from flame_nerf.runtime.files import complete_file

EYES = {"left_eye": "LeftEye", "right_eye": "RightEye"}
"""Joints whose angles Live Link Face has."""
FORMULA = ("=", "+", "-", "@")
"""Signs with which spreadsheets begin a formula, which may run programs."""
_TURNS = ("Yaw", "Pitch", "Roll")
_PLACE = tuple(f"head_to_world.{row}{column}" for row in range(3) for column in range(4))
_COUNTED = ("frame", "blendshapecount", "time", "timecode", "held")
_ANGLED = [plain(f"{what}{turn}") for what in ("Head", *EYES.values()) for turn in _TURNS]


def read_table(path: Path, fps: float | None = None, head_units: AngleUnits | None = None) -> Motion:
    """Reads a CSV, Live Link Face's or any with named columns, whose first line names them.

    Columns are found by name, whatever their case and order. `Timecode` (HH:MM:SS:FF.sub) or `time` (seconds) say when
    each row is; ARKit's names and any others are expressions; HeadYaw, HeadPitch, HeadRoll and the eyes' are angles;
    `jaw.x`, `jaw.y`, `jaw.z` turn a joint (axis-angle, radians); `head_to_world.00` to `.23` place the head.

    Args:
        path: the file.
        fps: moments a second; None: what the times say.
        head_units: of the head's and the eyes' angles; None: what their range says.

    Raises:
        MotionError: naming the file, the row or column, and the fix.
    """
    names, values, times_text = _read(path)
    what, assumed = path.name, []
    columns = {plain(name): values[:, index] for index, name in enumerate(names)}
    rows, more = _rows(what, columns, times_text, len(values), fps)
    assumed += more
    angles = [name for name in _ANGLED if name in columns]
    for name in angles:
        _finite(what, name, columns[name])
    all_angles = np.stack([columns[name] for name in angles]) if angles else np.zeros(0)
    units = head_units or guessed_units(all_angles)
    if angles and head_units is None:
        assumed.append(
            f"angles of head and eyes are {units}: the largest is {np.abs(all_angles).max():.2f} (--head-units says "
            "otherwise)"
        )
    kept = rows.kept
    head_to_world, turns_only = _head(columns, kept, units)
    joint_names, joints = _joints(names, columns, kept, units)
    taken = {*_ANGLED, *_COUNTED, *map(plain, _PLACE)} | {plain(f"{n}.{axis}") for n in joint_names for axis in "xyz"}
    expressions = [name for name in names if plain(name) not in taken]
    motion = Motion(
        expression=np.stack([columns[plain(name)][kept] for name in expressions], axis=1)
        if expressions
        else np.zeros((len(kept), 0)),
        expression_names=tuple(arkit_name(name) or name for name in expressions),
        fps=rows.fps,
        joints=joints,
        joint_names=joint_names,
        head_to_world=head_to_world,
        held=columns["held"][kept] > 0.5 if "held" in columns else np.zeros(len(kept), bool),
        provenance=Provenance(source=what, assumed=tuple(assumed), turns_only=turns_only),
    )
    if rows.count == len(kept):
        return motion
    positions, dropped = rows.positions()
    filled = interpolated(motion, positions)
    filled.held[dropped] = True
    return filled


def write_table(motion: Motion, path: Path) -> tuple[str, ...]:
    """Writes a motion as CSV: Live Link Face's columns where all its expressions are ARKit's, else named columns.

    Returns:
        what that table has no place for, one sentence each.

    Raises:
        MotionError: it cannot be written there.
    """
    live_link = bool(motion.expression_names) and set(motion.expression_names) <= set(ARKIT_NAMES)
    # Timecodes tell these rates apart from what is near them, and from what counts in other frames.
    live_link &= 10 <= motion.fps <= USUAL_RATE and usual(motion.fps) == motion.fps
    header, rows, lost = (_live_link_rows if live_link else _named_rows)(motion)
    formula = next((name for name in header if name.startswith(FORMULA)), None)
    if formula is not None:
        raise MotionError(
            f"{path}: spreadsheets would run the column name {formula!r} as a formula; rename the expression, or write "
            "an .npz"
        )
    with complete_file(path, "motion", MotionError) as spare, spare.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(rows)
    return lost


def _live_link_rows(motion: Motion) -> tuple[list[str], list[list[str]], tuple[str, ...]]:
    values = np.zeros((len(motion), len(ARKIT_NAMES) + 9))
    for index, name in enumerate(ARKIT_NAMES):
        if name in motion.expression_names:
            values[:, index] = motion.column(name)
    lost = []
    if motion.head_to_world is not None:
        values[:, -9:-6] = yaw_pitch_roll(Rotation.from_matrix(motion.head_to_world[:, :3, :3]))
        if np.ptp(motion.head_to_world[:, :3, 3], axis=0).max() > 1e-6:
            lost.append("the place of the head, of which Live Link Face has the turns alone")
    for index, joint in enumerate(EYES):
        if joint in motion.joint_names:
            turned = Rotation.from_rotvec(motion.joints[:, motion.joint_names.index(joint)])
            values[:, -6 + 3 * index : len(values[0]) - 3 + 3 * index] = yaw_pitch_roll(turned)
    left = [name for name in motion.joint_names if name not in EYES and _moves(motion, name)]
    if left:
        lost.append(f"turns of {', '.join(left)}, for which Live Link Face has no columns")
    if motion.held.any():
        lost.append("which moments nobody saw")
    capital = [name[0].upper() + name[1:] for name in ARKIT_NAMES]
    header = ["Timecode", "BlendShapeCount", *capital]
    header += [f"{what}{turn}" for what in ("Head", *EYES.values()) for turn in _TURNS]
    rows = [
        [timecode_of(index / motion.fps, USUAL_RATE), "61", *(f"{value:.8g}" for value in row)]
        for index, row in enumerate(values)
    ]
    return header, rows, tuple(lost)


def _named_rows(motion: Motion) -> tuple[list[str], list[list[str]], tuple[str, ...]]:
    header = ["time", *motion.expression_names]
    header += [f"{name}.{axis}" for name in motion.joint_names for axis in "xyz"]
    parts = [np.arange(len(motion))[:, None] / motion.fps, motion.expression, motion.joints.reshape(len(motion), -1)]
    if motion.head_to_world is not None:
        header += _PLACE
        parts.append(motion.head_to_world[:, :3].reshape(len(motion), 12))
    if motion.held.any():
        header.append("held")
        parts.append(motion.held[:, None].astype(float))
    # A time to the nanosecond, so that the rate comes back; float32's digits for the rest.
    rows = [[f"{row[0]:.9f}", *(f"{value:.9g}" for value in row[1:])] for row in np.concatenate(parts, axis=1)]
    return header, rows, () if motion.camera is None else ("the camera",)


def _moves(motion: Motion, joint: str) -> bool:
    return bool(np.abs(motion.joints[:, motion.joint_names.index(joint)]).max() > 1e-6)


def _read(path: Path) -> tuple[list[str], np.ndarray, list[str] | None]:
    """Column names, values [N, columns] (timecodes as zeros) and the timecodes' texts."""
    table = read_rows(path, MotionError)
    names = [name.strip() for name in table[0]] if table else []
    rows = [row for row in table[1:] if any(cell.strip() for cell in row)]
    if len(names) < 2 or all(_is_number(name) for name in names):
        raise MotionError(f"{path}: its first line must name the columns, as Timecode,BlendShapeCount,EyeBlinkLeft,…")
    plains = [plain(name) for name in names]
    count = Counter(plains)
    twice = sorted(name for name, known in zip(names, plains, strict=True) if count[known] > 1)
    if twice:
        raise MotionError(f"{path}: column {twice[0]!r} is there twice; leave one of the two out")
    if not rows:
        raise MotionError(f"{path}: no rows under its column names, so nothing moves")
    if len(rows) > MAX_FRAMES:
        raise MotionError(f"{path}: {len(rows)} rows; a motion has at most {MAX_FRAMES}")
    clock = plains.index("timecode") if "timecode" in plains else None
    values = np.zeros((len(rows), len(names)))
    for number, row in enumerate(rows):
        if len(row) < len(names):
            # A take that was cut off ends in half a line; half a line elsewhere is damage.
            if number == len(rows) - 1 and number > 0:
                values, rows = values[:-1], rows[:-1]
                break
            raise MotionError(f"{path}: row {number + 1} has {len(row)} columns, the first line names {len(names)}")
        for column, cell in enumerate(row[: len(names)]):
            if column != clock:
                values[number, column] = _number(path, number, names[column], cell)
    return names, values, None if clock is None else [row[clock] for row in rows]


def _rows(
    what: str, columns: dict[str, np.ndarray], timecodes: list[str] | None, count: int, fps: float | None
) -> tuple[EvenRows, list[str]]:
    """Even moments of a table's rows, and what was taken for granted about them."""
    assumed = []
    if fps is not None and not 0 < fps <= 1000:
        raise MotionError(f"{what}: {fps:g} moments a second; give a rate above 0 and up to 1000")
    if timecodes is not None:
        times, rate = seconds_of(timecodes, what)
        assumed.append(f"timecodes count {rate:g} frames a second")
    elif "time" in columns:
        times = columns["time"]
        _finite(what, "time", times)
    elif fps is not None:
        times = np.arange(count) / fps
    else:
        raise MotionError(f"{what}: neither a Timecode nor a time column, so the rate is not known; {HOW_TO_SAY}")
    if count == 1:
        return EvenRows(fps or 30.0, np.array([0]), np.array([0]), 0), assumed
    rows = even_rows(times, what, fps)
    if rows.repeated:
        assumed.append(f"{rows.repeated} rows repeat the moment of the one before and were left out")
    missing = rows.count - len(rows.kept)
    if missing:
        assumed.append(f"{missing} moments are missing (drop-outs) and lie between their neighbours")
    return rows, assumed


def _head(columns: dict[str, np.ndarray], kept: np.ndarray, units: AngleUnits) -> tuple[np.ndarray | None, bool]:
    """head_to_world of the kept rows, and whether it has turns alone."""
    place = [plain(name) for name in _PLACE]
    if all(name in columns for name in place):
        out = np.tile(np.eye(4), (len(kept), 1, 1))
        out[:, :3] = np.stack([columns[name][kept] for name in place], axis=1).reshape(-1, 3, 4)
        return out, False
    rotations = _angles(columns, "Head", kept, units)
    if rotations is None:
        return None, False
    out = np.tile(np.eye(4), (len(kept), 1, 1))
    out[:, :3, :3] = rotations.as_matrix()
    return out, True


def _joints(
    names: Sequence[str], columns: dict[str, np.ndarray], kept: np.ndarray, units: AngleUnits
) -> tuple[tuple[str, ...], np.ndarray]:
    found: dict[str, np.ndarray] = {}
    for joint, column in EYES.items():
        rotations = _angles(columns, column, kept, units)
        if rotations is not None:
            found[joint] = rotations.as_rotvec()
    for joint in dict.fromkeys(name[:-2] for name in names if name[-2:] == ".x"):
        axes = [plain(f"{joint}.{axis}") for axis in "xyz"]
        if all(axis in columns for axis in axes):
            found[joint] = np.stack([columns[axis][kept] for axis in axes], axis=1)
    if not found:
        return (), np.zeros((len(kept), 0, 3))
    return tuple(found), np.stack(list(found.values()), axis=1)


def _angles(columns: dict[str, np.ndarray], what: str, kept: np.ndarray, units: AngleUnits) -> Rotation | None:
    """Rotations of the head or an eye; None where the table has not all three angles."""
    names = [plain(f"{what}{turn}") for turn in _TURNS]
    if not all(name in columns for name in names):
        return None
    return turns(np.stack([columns[name][kept] for name in names], axis=1), units)


def _finite(what: str, name: str, values: np.ndarray) -> None:
    if not np.isfinite(values).all():
        row = int(np.argmax(~np.isfinite(values))) + 1
        raise MotionError(f"{what}: {name} of row {row} is not a finite number; mend it or leave the row out")


def _number(path: Path, row: int, name: str, cell: str) -> float:
    try:
        return float(cell)
    except ValueError:
        raise MotionError(f"{path}: column {name!r} of row {row + 1} is {cell[:30]!r}, expected a number") from None


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


__all__ = ["UNITS", "AngleUnits", "read_table", "write_table"]
