"""Pictures and mattes that are not called what the data call them: which belongs to which frame, by number and overlay.

Trackers number from 0 what ffmpeg numbers from 1. Where some of the named files are missing and others, which nothing
names, lie beside them, the numbers may be shifted: names cannot tell, so the mesh is laid on the files both ways.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float

from data_tools.importers.capture import Capture, Shot
from data_tools.importers.config import ImportingError
from data_tools.importers.inputs.places import pictures_in
from data_tools.importers.overlay import Judged, OutlineTest
from data_tools.runs.frame_names import frame_numbers, match_by_name, natural, stem_of
from data_tools.runs.picture_files import read_picture
from flame_nerf.geometry import vertex_normals

LOOKED_AT = 24
"""Frames, of those with much movement, that are laid on the files."""
FEWEST = 2
"""Frames that must be there under two shifts for them to be compared."""
SURE = 3.0
"""A shift is believed if it disagrees less by so many standard errors,"""
SHARE, MOST = 0.6, 0.6
"""or leaves at most this share of another's disagreement, and less of it in most frames."""
VERTICES = 1500
"""Points of the mesh whose colours are compared."""
FACING = 0.35
"""Cosine between normal and view above which a point's colour is looked at."""

Kind = Literal["picture", "matte"]
Score = Callable[[list[int], list[Path]], Float[np.ndarray, " N"]]
"""How far the meshes of some shots are from as many files, 0 to 1; NaN where nothing can be compared."""


def settle(capture: Capture) -> Capture:
    """The capture with its pictures and mattes found, whatever they are called; mattes that are not there left away.

    Raises:
        ImportingError: it cannot be told which file belongs to which frame; names two that clash.
    """
    said: list[str] = []
    overlay = _Overlay(capture)
    capture = _settled(capture, "picture", overlay, said)
    capture = _settled(capture, "matte", overlay, said)
    shots = tuple(
        dataclasses.replace(shot, matte=None) if shot.matte is not None and not shot.matte.is_file() else shot
        for shot in capture.shots
    )
    facts = dict(capture.facts) | ({"numbering": "; ".join(said)} if said else {})
    return dataclasses.replace(capture, shots=shots, facts=facts)


def refuse_shifted(named: Sequence[str], listed: Sequence[str], what: str, files: str) -> None:
    """For files that no mesh can be laid on yet: stop if their numbers start elsewhere than the data's.

    Args:
        named: what the data name.
        listed: what is there.
        what: who names them, for errors.
        files: kind of file and folder, for errors.

    Raises:
        ImportingError: another shift would bring more of them together than equal numbers do.
    """
    try:
        matched = match_by_name(named, listed, what=(what, files), error=ImportingError)
        others = [match_by_name(named, listed, what=(what, files), shift=shift, error=ImportingError).rows
                  for shift in matched.shifts if shift]  # fmt: skip
    except ImportingError:
        # Names of several kinds: those that are equal are all that is taken.
        return
    equal = sum(row >= 0 for row in matched.rows)
    if not any(sum(row >= 0 for row in rows) > equal for rows in others):
        return
    lost = next(name for name, row in zip(named, matched.rows, strict=True) if row < 0)
    spare = next(name for row, name in enumerate(listed) if row not in set(matched.rows))
    raise ImportingError(
        f"{what}: {lost} has no {files} of its number, while {spare} is there and nothing names it. They are numbered "
        "from different starts, so which belongs to which cannot be told. Number both alike."
    )


def _settled(capture: Capture, kind: Kind, overlay: _Overlay, said: list[str]) -> Capture:
    """One kind of file of all shots, folder by folder."""
    shots = list(capture.shots)
    folders = dict.fromkeys(getattr(shot, kind).parent for shot in shots if getattr(shot, kind) is not None)
    for folder in folders:
        rows = [row for row, shot in enumerate(shots)
                if getattr(shot, kind) is not None and getattr(shot, kind).parent == folder]  # fmt: skip
        named = [getattr(shots[row], kind).name for row in rows]
        listed = pictures_in(folder)
        missing, unnamed = set(named) - set(listed), set(listed) - set(named)
        # One file alone has a name of its own kind, such as image_0000.png in a folder a frame.
        if len(rows) < FEWEST or not missing or not unnamed:
            continue
        found = _Listing(folder, kind, named, listed).matched(overlay.score(capture, kind, rows), said)
        for row, name in zip(rows, found, strict=True):
            if name is not None:
                shots[row] = dataclasses.replace(shots[row], **{kind: folder / name})
        capture = dataclasses.replace(capture, shots=tuple(shots))
    return capture


@dataclass(frozen=True)
class _Listing:
    """Names that data give, and those of the files that are there."""

    folder: Path
    kind: Kind
    named: list[str]
    listed: list[str]

    def matched(self, score: Score, said: list[str]) -> list[str | None]:
        """The file of each name; None where there is none.

        Raises:
            ImportingError: it cannot be told.
        """
        here = [name for name in self.named if name in set(self.listed)]
        try:
            shifts = match_by_name(self.named, self.listed, what=self._what, error=ImportingError).shifts
            numbered = frame_numbers(self.listed, what=str(self.folder), error=ImportingError) is not None
        except ImportingError:
            # Names that cannot be compared: those that are equal are enough, if they are most.
            if 2 * len(here) > len(self.named):
                return self._by_name()
            raise
        if not numbered or not any(char.isdigit() for char in self.named[0]):
            return self._by_name() if here else self._in_order(score, said)
        tried = sorted({one + step for one in shifts for step in (-1, 0, 1)}, key=lambda shift: (abs(shift), shift))
        rows = {shift: self._rows(shift) for shift in tried}
        counts = {shift: sum(row >= 0 for row in found) for shift, found in rows.items()}
        most = max(counts.values())
        rivals = [shift for shift in tried if 2 * counts[shift] >= most and counts[shift] >= min(FEWEST, most)]
        best, why = self._best({shift: rows[shift] for shift in rivals}, score)
        if best is None:
            # Unless the pictures say otherwise: numbers of which one side lacks nothing, or which differ by one shift.
            best = 0 if counts[0] == min(len(self.named), len(self.listed)) else next(
                (shift for shift in tried if counts[shift] == len(self.named) == len(self.listed)), None
            )  # fmt: skip
            why = "their first and last numbers (laying the mesh on them does not tell)"
        if best is None:
            raise ImportingError(self._clash(rows[0]))
        if best != 0:
            said.append(
                f"{self.kind}s of {self.folder.name}/ are numbered {best:+d} against the data "
                f"({self.listed[rows[best][self._first(rows[best])]]} is {self.named[self._first(rows[best])]}'s), "
                f"by {why}"
            )
        return [None if row < 0 else self.listed[row] for row in rows[best]]

    @property
    def _what(self) -> tuple[str, str]:
        return f"{self.kind}s that the data name", str(self.folder)

    def _by_name(self) -> list[str | None]:
        there = {stem_of(name): name for name in self.listed}
        return [there.get(stem_of(name)) for name in self.named]

    def _rows(self, shift: int) -> tuple[int, ...]:
        return match_by_name(self.named, self.listed, what=self._what, shift=shift, error=ImportingError).rows

    @staticmethod
    def _first(rows: Sequence[int]) -> int:
        return next(at for at, row in enumerate(rows) if row >= 0)

    def _in_order(self, score: Score, said: list[str]) -> list[str | None]:
        """Files without numbers, one after the other, if the overlay says so."""
        order = sorted(range(len(self.listed)), key=lambda row: natural(self.listed[row]))
        ranks = sorted(range(len(self.named)), key=lambda row: natural(self.named[row]))
        rank_of = {row: rank for rank, row in enumerate(ranks)}
        rows = {
            shift: tuple(
                order[rank_of[at] + shift] if 0 <= rank_of[at] + shift < len(order) else -1
                for at in range(len(self.named))
            )
            for shift in (0, 1, -1)
        }
        best, why = self._best(rows, score)
        if best is None:
            raise ImportingError(self._clash([-1] * len(self.named)))
        said.append(f"{self.kind}s of {self.folder.name}/ have other names than the data say: taken in order, by {why}")
        return [None if row < 0 else self.listed[row] for row in rows[best]]

    def _best(self, rows: dict[int, tuple[int, ...]], score: Score) -> tuple[int | None, str]:
        """The shift that agrees clearly better than all others, and by what in words; None if none does."""
        if len(rows) < 2:
            return next(iter(rows), None), "the only one that fits"
        count = len(self.named)
        chosen = np.unique(np.linspace(0, count - 1, LOOKED_AT).round().astype(int)).tolist()
        off = {}
        for shift, found in rows.items():
            there = [at for at in chosen if found[at] >= 0]
            off[shift] = np.full(count, np.nan)
            if there:
                off[shift][there] = score(there, [self.folder / self.listed[found[at]] for at in there])
        for best in rows:
            if all(shift == best or _clearly_less(off[best], other) for shift, other in off.items()):
                means = {shift: float(np.nanmean(each)) for shift, each in off.items() if np.isfinite(each).any()}
                second = min(mean for shift, mean in means.items() if shift != best)
                return best, f"laying the mesh on them (disagreement {means[best]:.3f}, next best {second:.3f})"
        return None, ""

    def _clash(self, rows: Sequence[int]) -> str:
        lost = self.named[next(at for at, row in enumerate(rows) if row < 0)]
        spare = next(name for row, name in enumerate(self.listed) if row not in set(rows))
        return (
            f"{self.folder}: the data name {lost}, which is not there, while {spare} is there and unnamed. They "
            f"may be numbered from different starts, and laying the mesh on the {self.kind}s does not tell: rename the "
            "files as the data name them, or take away those that belong to no frame."
        )


def _clearly_less(one: Float[np.ndarray, " N"], other: Float[np.ndarray, " N"]) -> bool:
    """Whether a shift's disagreement, frame by frame, is less than another's by more than chance."""
    both = np.isfinite(one) & np.isfinite(other)
    if both.sum() < FEWEST:
        return False
    ahead = (other - one)[both]
    sure = ahead.mean() > SURE * ahead.std(ddof=1) / np.sqrt(len(ahead))
    by_share = one[both].mean() < SHARE * other[both].mean() and (ahead > 0).mean() >= MOST
    return bool(ahead.mean() > 0 and (sure or by_share))


class _Overlay:
    """Lays the meshes of a capture on files that may be theirs."""

    def __init__(self, capture: Capture) -> None:
        self._meshes = capture.meshes
        self._test: OutlineTest | None = None
        self._canonical = capture.canonical

    def score(self, capture: Capture, kind: Kind, rows: list[int]) -> Score:
        """The measure to use for some of the capture's shots."""
        shots = [capture.shots[row] for row in rows]
        if kind == "matte":
            return lambda chosen, files: self._outline([shots[at] for at in chosen], files)
        mattes = _mattes_like(shots)

        def of_pictures(chosen: list[int], files: list[Path]) -> Float[np.ndarray, " N"]:
            if read_picture(files[0], ImportingError).alpha is not None:
                return self._outline([shots[at] for at in chosen], files)
            with_matte = None if mattes is None else [mattes.get(stem_of(file.name)) for file in files]
            if with_matte is not None and all(with_matte):
                return self._outline([shots[at] for at in chosen], with_matte)
            return self._colours([shots[at] for at in chosen], files)

        return of_pictures

    def _outline(self, shots: list[Shot], files: list[Path]) -> Float[np.ndarray, " N"]:
        """One less the agreement of outline and matte."""
        if self._test is None:
            self._test = OutlineTest(np.asarray(self._meshes.faces), self._canonical)
        scores = []
        for shot, file in zip(shots, files, strict=True):
            decoded = read_picture(file, ImportingError)
            matte = decoded.alpha if decoded.alpha is not None else decoded.rgb[..., 0]
            camera = shot.camera.resized(matte.shape[1::-1])
            vertices = self._meshes.vertices([shot.timestep])[0]
            scores.append(1 - self._test.iou(Judged(vertices, camera, matte)) if matte.any() else np.nan)
        return np.array(scores)

    def _colours(self, shots: list[Shot], files: list[Path]) -> Float[np.ndarray, " N"]:
        """How far each picture's colours are from what the same points of the head have in the others."""
        faces = np.asarray(self._meshes.faces)
        points = np.unique(np.linspace(0, len(self._canonical) - 1, VERTICES).round().astype(int))
        colours = np.full((len(shots), len(points), 3), np.nan)
        for at, (shot, file) in enumerate(zip(shots, files, strict=True)):
            rgb = read_picture(file, ImportingError).rgb
            camera = shot.camera.resized(rgb.shape[1::-1])
            vertices = self._meshes.vertices([shot.timestep])[0].astype(np.float64)
            pixels = np.floor(camera.project(vertices[points]))
            towards = camera.c2w[:3, 3] - vertices[points]
            towards /= np.linalg.norm(towards, axis=1, keepdims=True)
            seen = (vertex_normals(vertices, faces)[points] * towards).sum(axis=1) > FACING
            seen &= np.isfinite(pixels).all(axis=1)
            seen &= ((pixels >= 0) & (pixels < rgb.shape[1::-1])).all(axis=1)
            column, row = pixels[seen].astype(int).T
            colours[at, seen] = rgb[row, column] / 255.0
        often = np.isfinite(colours[..., 0]).sum(axis=0) >= FEWEST
        usual = np.nanmedian(colours[:, often], axis=0)
        off = np.abs(colours[:, often] - usual).mean(axis=-1)
        return np.array([np.nanmean(row) if np.isfinite(row).any() else np.nan for row in off])


def _mattes_like(shots: list[Shot]) -> dict[str, Path] | None:
    """Mattes by their stems, if they are called like the pictures that are there: made of these very files."""
    if any(shot.matte is None for shot in shots):
        return None
    folders = {shot.matte.parent for shot in shots}, {shot.picture.parent for shot in shots}
    if any(len(some) != 1 for some in folders):
        return None
    mattes, pictures = ({stem_of(name): some[0] / name for name in pictures_in(some[0])} for some in map(list, folders))
    return mattes if mattes.keys() == pictures.keys() else None
