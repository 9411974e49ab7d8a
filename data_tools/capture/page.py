"""The capture report: one HTML page that can be sent to whoever films, and the same as JSON beside it."""

from __future__ import annotations

import base64
import datetime as dt
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from data_tools.capture.held_still import subject_held_still
from data_tools.capture.measured import PITCH_EDGES, YAW_EDGES, Measured
from data_tools.capture.picture_shortfalls import FLICKER, SOFT
from data_tools.capture.shortfall import GRAVE, WEAK, Shortfall
from data_tools.capture.shortfalls import GOOD_PX, MORE_OF_IT, shortfalls_of, shots_of, verdict
from data_tools.capture.thumbnails import LARGE, best_row, cell_rows, thumbnail
from data_tools.runs.charts import curves
from data_tools.runs.page import data_uri, render_page
from flame_nerf.runtime.files import whole
from flame_nerf.subject import Subject

JSON_VERSION = 1
NAMED_SPANS = 6
"""Spans of frames that are named before the rest are counted."""
VERDICTS = {
    "good": "Good to train on.",
    "usable": "It can be trained on. What falls short below will show in the avatar.",
    "film again": "Film again before you train: what falls short below will spoil the avatar.",
}
COLUMNS = ("far right", "40° right", "20° right", "ahead", "20° left", "40° left", "far left")
ROWS = ("far down", "down", "level", "up", "far up")
WANTED = {(column, 2) for column in range(1, 6)} | {(column, row) for column in (2, 3, 4) for row in (1, 3)}
"""Cells of the map, column and row, that footage for an avatar should fill."""

Tile = tuple[str, str, str, bool]
"""Name, value, note, and whether it is what good footage reaches."""


def write_capture_page(
    path: Path,
    measured: Measured,
    title: str = "",
    tiles: Sequence[Tile] = (),
    warnings: Sequence[str] = (),
    notes: Sequence[str] = (),
    held_still: Sequence[tuple[str, str]] | None = None,
    **more: Any,
) -> None:
    """Write the page, and the JSON of the same name beside it.

    Args:
        path: the page's file, *.html.
        title: the footage's name; not given: the subject's source.
        tiles: numbers beside those that are measured here.
        warnings, notes: sentences about how the subject was made.
        held_still: pictures, as addresses, of the face held still with their captions; not given: made here.
        more: further values of the template `capture.html`: figures, sections, expressions.
    """
    subject, found = measured.subject, shortfalls_of(measured)
    title = title or subject.source or subject.root.resolve().name
    portrait = thumbnail(subject, best_row(measured), LARGE)
    page = render_page(
        "capture.html",
        title=f"Capture report: {title}",
        portrait=None if portrait is None else data_uri(portrait),
        facts=_facts(measured),
        verdict=(verdict(found), VERDICTS[verdict(found)]),
        tiles=[*_tiles(measured, found), *tiles],
        shortfalls=[
            (_weight(s), s.found, s.cost, frames_in_words(measured, s.frames)) for s in found if not _a_little(s)
        ],
        a_little=_seen_a_little(measured) if any(map(_a_little, found)) else [],
        shots=shots_of(found),
        map=_map(measured),
        faces=_faces(measured),
        warnings=warnings,
        notes=notes,
        held_still=_still(measured) if held_still is None else held_still,
        charts=_charts(measured),
        **{"figures": (), "sections": [], "expressions": (), **more},
    )
    with whole(path, alone=True) as spare:
        # Names that are no UTF-8 stand there as escapes.
        spare.write_bytes(page.encode(errors="backslashreplace"))
    record = json.dumps(capture_record(measured, found, warnings), indent=1, ensure_ascii=False, allow_nan=False)
    with whole(path.with_suffix(".json"), alone=True) as spare:
        spare.write_bytes(f"{record}\n".encode(errors="backslashreplace"))


def capture_record(measured: Measured, found: Sequence[Shortfall], warnings: Sequence[str] = ()) -> dict[str, Any]:
    """What the page says, as plain values."""
    subject = measured.subject
    yaw, pitch = measured.yaw[measured.clear], measured.pitch[measured.clear]
    counts = np.zeros((len(ROWS), len(COLUMNS)), dtype=int)
    for (column, row), (_, count) in cell_rows(measured).items():
        counts[row, column] = count
    return {
        "version": JSON_VERSION,
        "source": subject.source,
        "date": _today(),
        "verdict": verdict(tuple(found)),
        "frames": len(subject.frames),
        "seconds": round(measured.seconds, 2),
        "picture": [subject.width, subject.height],
        "face_px": _plain(measured.face_px),
        "yaw_deg": [_plain(yaw.min()), _plain(yaw.max())],
        "pitch_deg": [_plain(pitch.min()), _plain(pitch.max())],
        "coverage": {"yaw_edges": YAW_EDGES, "pitch_edges": PITCH_EDGES, "frames": counts.tolist()},
        "blur": _plain(np.median([look.blur for look in measured.looks])) if measured.looks else None,
        "brightness": _plain(np.median([look.brightness for look in measured.looks])) if measured.looks else None,
        "flicker": _plain(measured.flicker),
        "expressions": {
            done.group.key: {"seen": done.state, "most": _plain(done.most), "times": done.times, "words": done.words()}
            for done in measured.done
        },
        "shortfalls": [
            {
                "topic": s.topic,
                "gravity": round(s.gravity, 2),
                "found": s.found,
                "cost": s.cost,
                "shot": s.shot,
                "frames": [subject.frames[row].file_path.name for row in s.frames],
            }
            for s in found
        ],
        "shots": list(shots_of(tuple(found))),
        "warnings": list(warnings),
    }


def frames_in_words(measured: Measured, rows: Sequence[int]) -> str:
    """Frames as spans of time with their pictures' names: `0.4-1.2 s (00010 to 00030)`; nothing for no rows."""
    spans: list[list[int]] = []
    for row in rows:
        # Pictures looked at may lie some frames apart: neighbours among them are one span.
        if spans and measured.time_of(row) - measured.time_of(spans[-1][-1]) < 1.0:
            spans[-1].append(row)
        else:
            spans.append([row])
    words = []
    for span in spans[:NAMED_SPANS]:
        first, last = (measured.subject.frames[row].file_path.stem for row in (span[0], span[-1]))
        start, end = measured.time_of(span[0]), measured.time_of(span[-1])
        words.append(f"{start:.1f} s ({first})" if first == last else f"{start:.1f} to {end:.1f} s ({first} to {last})")
    rest = len(spans) - NAMED_SPANS
    return ", ".join(words) + (f" and {rest} more" if rest > 0 else "")


def _today() -> str:
    return dt.datetime.now().astimezone().date().isoformat()


def _plain(value: float) -> float | None:
    return round(float(value), 3) if np.isfinite(value) else None


def _a_little(shortfall: Shortfall) -> bool:
    """Whether it is one of many trifles of one cost, which go into one entry."""
    return shortfall.cost == MORE_OF_IT and _weight(shortfall) == "slight"


def _seen_a_little(measured: Measured) -> list[tuple[str, str]]:
    """What the face did only a little, and the moment that shows most of it."""
    return [
        (done.group.title.lower(), f"{measured.time_of(measured.row_of(done.row)):.1f} s")
        for done in measured.done
        if done.state == "a little" and done.group.gravity
    ]


def _weight(shortfall: Shortfall) -> str:
    return "grave" if shortfall.gravity >= GRAVE else "weak" if shortfall.gravity >= WEAK else "slight"


def _facts(measured: Measured) -> list[tuple[str, str]]:
    subject = measured.subject
    size = f"{subject.width} x {subject.height} pixels, {subject.fps:g} frames a second"
    trained = sum(frame.split == "train" for frame in subject.frames)
    facts = [
        ("footage", subject.source or "unknown"),
        ("report made", _today()),
        ("pictures", size),
        ("frames", f"{len(subject.frames)}, {trained} of them for training, {measured.seconds:.1f} s"),
        ("head model", Path(subject.head_model).name),
        ("focal length", f"{subject.fl_x:.0f} pixels"),
        ("settings", _settings(subject)),
        ("imported from", _imported(subject)),
        ("terms of use", subject.licence or "not said"),
    ]
    return [(name, value) for name, value in facts if value]


def _settings(subject: Subject) -> str:
    """What tracking was asked for beyond its defaults; nothing for other subjects."""
    tracking = subject.extra.get("tracking")
    options = tracking.get("options") if isinstance(tracking, dict) else None
    if not isinstance(options, dict):
        return ""
    return ", ".join(f"{name} {value}" for name, value in options.items()) or "as usual"


def _imported(subject: Subject) -> str:
    """The format that a subject was imported from; nothing for other subjects."""
    made = subject.extra.get("import")
    summary = made.get("summary") if isinstance(made, dict) else None
    return str(summary.get("format", "")) if isinstance(summary, dict) else ""


def _tiles(measured: Measured, shortfalls: Sequence[Shortfall]) -> list[Tile]:
    yaw, pitch, noun = measured.yaw[measured.clear], measured.pitch[measured.clear], measured.noun
    blur = float(np.median([look.blur for look in measured.looks])) if measured.looks else float("nan")
    level = float(np.median([look.brightness for look in measured.looks])) if measured.looks else float("nan")
    topics = {shortfall.topic for shortfall in shortfalls}
    found: list[Tile] = [
        ("length", f"{measured.seconds:.0f} s", f"{len(measured.subject.frames)} frames", "length" not in topics),
        (
            f"height of the {noun}",
            _number(measured.face_px, " px"),
            f"{GOOD_PX:.0f} wanted",
            measured.face_px >= GOOD_PX,
        ),
        ("head turns", f"{yaw.min():.0f}° … {yaw.max():+.0f}°", "right … left", "turns of the head" not in topics),
        ("head nods", f"{pitch.min():.0f}° … {pitch.max():+.0f}°", "down … up", "nods of the head" not in topics),
        ("blur", _number(100 * blur, " %"), f"below {100 * SOFT:.0f} % wanted", not blur >= SOFT),
        ("light", _number(level, ""), f"grey level of the {noun}, of 255", not {"exposure", "light"} & topics),
        ("flicker", f"{100 * measured.flicker:.1f} %", "from picture to picture", measured.flicker < FLICKER),
    ]
    return found


def _number(value: float, unit: str) -> str:
    return f"{value:.0f}{unit}" if np.isfinite(value) else "unknown"


def _map(measured: Measured) -> dict[str, Any]:
    """Small pictures by yaw and pitch, as in a mirror of the subject's own left and right: the picture's sides."""
    chosen = cell_rows(measured)
    shown = WANTED | set(chosen)
    columns, levels = (sorted({cell[axis] for cell in shown}) for axis in (0, 1))
    rows = []
    for level in reversed(levels):
        cells = []
        for column in columns:
            at, count = chosen.get((column, level), (None, 0))
            picture = None if at is None else thumbnail(measured.subject, at)
            wanted = (column, level) in WANTED
            cells.append({"picture": None if picture is None else data_uri(picture), "count": count, "wanted": wanted})
        rows.append((ROWS[level], cells))
    missing = sum(cell not in chosen for cell in WANTED)
    names = [COLUMNS[column] for column in columns]
    return {"columns": names, "rows": rows, "missing": missing, "wanted": len(WANTED)}


def _faces(measured: Measured) -> list[tuple[str, str, str, str | None]]:
    """Each group's title, state and words, and a picture of the frame that shows it most."""
    found = []
    for done in measured.done:
        picture = None if done.state == "never" else thumbnail(measured.subject, measured.row_of(done.row))
        found.append((done.group.title, done.state, done.words(), None if picture is None else data_uri(picture)))
    return found


def _still(measured: Measured) -> list[tuple[str, str]]:
    made = subject_held_still(measured.subject)
    if made is None:
        return []
    mean, count, film = made
    return [
        (data_uri(mean), f"Mean of {count} frames"),
        (f"data:image/webp;base64,{base64.b64encode(film).decode()}", "Frames in a row"),
    ]


def _charts(measured: Measured) -> list[tuple[str, list[Any]]]:
    angles = curves([("yaw", measured.yaw), ("pitch", measured.pitch)], unit="°")
    turns = ("Turns and nods of the head over the frames", [angles])
    if len(measured.looks) < 2:
        return [turns]
    rows = np.array([look.row for look in measured.looks])
    over = np.arange(len(measured.yaw))
    blur, level = (
        np.interp(over, rows, [getattr(look, name) for look in measured.looks]) for name in ("blur", "brightness")
    )
    return [
        turns,
        ("Blur of the face, 0 sharp to 100 without detail", [curves([("blur, %", 100 * blur)], mark=100 * SOFT)]),
        ("Brightness of the face, grey levels of 255", [curves([("brightness", level)])]),
    ]
