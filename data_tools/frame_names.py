"""Which frame a picture's name stands for: told from a whole listing at once, by the number that varies in it.

One name alone cannot tell: x-0012_jpg.rf.3510abcdef.jpg, frame_00012_v2.jpg and 00012_00.png have their frame's number
in three different places. Names of one listing are alike but for it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

PICTURES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp")
"""Endings of pictures' names."""
ENDINGS = frozenset(
    (*PICTURES, ".exr", ".npy", ".npz", ".json", ".txt", ".obj", ".ply", ".mat", ".pt", ".frame", ".flame")
)
"""Endings that are no part of a frame's name."""
IDENTIFIERS = re.compile(
    r"\.rf\.[0-9a-z]{6,}|(?<![0-9a-z])[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}(?![0-9a-z])", re.IGNORECASE
)
"""What annotation services add to tell files apart: Roboflow's hash, a UUID."""
VERSION = re.compile(r"(v|ver|version|rev)[0-9]+", re.IGNORECASE)
"""A last word that counts versions of a picture."""
UNIT = re.compile(r"[0-9]+(fps|hz|p|k|px|x[0-9]+)", re.IGNORECASE)
"""A word that states a rate or size."""
DATE = re.compile(r"(19|20)[0-9]{2}(0[1-9]|1[0-2])(0[1-9]|[12][0-9]|3[01])|(19|20)[0-9]{2}-[01][0-9]-[0-3][0-9]")
"""A day, in one run of digits or in three."""
FRAME_WORDS = frozenset(("f", "fr", "frm", "frame", "frames", "frameid", "timestep"))
"""What a frame's number is called where it is called anything."""
DIGITS = re.compile(r"[0-9]+")


@dataclass(frozen=True)
class _Number:
    """One run of digits in a name."""

    value: int
    place: tuple[object, ...]
    """Equal for numbers of two names that stand in the same place."""
    label: str
    """Letters right before it, or of the word before it."""


def stem_of(name: str | Path) -> str:
    """A picture's or frame file's name without its endings, folders kept, slashes forward: cam0/f.0003.exr.png gives
    cam0/f.0003."""
    stem = str(name).replace("\\", "/").strip()
    while Path(stem).suffix.lower() in ENDINGS:
        stem = stem[: -len(Path(stem).suffix)]
    return stem


def natural(name: str | Path) -> list[tuple[int, int | str]]:
    """Sorting key by which 10 comes after 9, for names of any kind."""
    parts = re.split(r"([0-9]+)", str(name))
    return [(0, int(part)) if row % 2 else (1, part) for row, part in enumerate(parts)]


def frame_numbers(names: Sequence[str | Path], *, what: str, error: type[Exception] = ValueError) -> list[int] | None:
    """The frame number of each name of a listing: the one number that varies from name to name.

    Numbers that all names share (a date, a rate, a camera), hashes, UUIDs and version suffixes say nothing. Of several
    that vary, the one called a frame is taken; else the finest, if the others go along with it (a clock beside a
    counter).

    Args:
        names: file names, with or without folders and endings.
        what: the listing, for errors: a file or folder.
        error: kind of error to raise.

    Returns:
        as many numbers, all different; None if no name holds any.

    Raises:
        error: a name is there twice, two names have one number, some names have none, or it cannot be told which
            number is the frame's; names two names that clash.
    """
    shown = [str(name) for name in names]
    words = [_words(name) for name in shown]
    aligned = len({len(row) for row in words}) == 1
    tables = [{number.place: number for number in _numbers(row, aligned)} for row in words]
    if not any(tables):
        return None
    shared = [place for place in tables[0] if all(place in table for table in tables)]
    if len(shown) == 1:
        return [_of_one(tables[0], shown[0], what, error)]
    if not shared and all(len(table) == 1 for table in tables):
        # Spelt differently, but nothing to choose from.
        shared = [()]
        tables = [dict(zip(shared, table.values(), strict=True)) for table in tables]
    values = {place: [table[place].value for table in tables] for place in shared}
    varying = [place for place in shared if len(set(values[place])) > 1]
    if not varying:
        raise error(_no_number(shown, tables, what))
    called = [place for place in varying if all(table[place].label in FRAME_WORDS for table in tables)]
    place = _finest(called or varying, values, shown, what, error)
    numbers = values[place]
    seen: dict[int, str] = {}
    for name, number in zip(shown, numbers, strict=True):
        if number in seen:
            raise error(f"{what}: {seen[number]} and {name} are both of frame {number}. Leave one a frame.")
        seen[number] = name
    return numbers


@dataclass(frozen=True)
class Matched:
    """Two listings of the same frames, side by side."""

    rows: tuple[int, ...]
    """For each name of the first listing the row of the second; -1 where it has none."""
    shift: int
    """What was added to the first listing's numbers to get the second's."""
    shifts: tuple[int, ...]
    """Shifts that would bring the listings together as well: 0, and those that align their first or last numbers.
    Names cannot tell between them; what the files hold can."""


def match_by_name(
    first: Sequence[str | Path],
    second: Sequence[str | Path],
    *,
    what: tuple[str, str],
    shift: int = 0,
    error: type[Exception] = ValueError,
) -> Matched:
    """Pair two listings by their frames' numbers, or by equal stems where names have no numbers.

    Args:
        first, second: names as for `frame_numbers`.
        what: the two listings, for errors.
        shift: number in the second listing less number in the first, of one frame.
        error: kind of error to raise.

    Raises:
        error: as `frame_numbers`.
    """
    numbers = [frame_numbers(names, what=one, error=error) for names, one in zip((first, second), what, strict=True)]
    if numbers[0] is None or numbers[1] is None:
        keys = [[stem_of(Path(name).name) for name in names] for names in (first, second)]
        row_of = {stem: row for row, stem in enumerate(keys[1])}
        return Matched(tuple(row_of.get(stem, -1) for stem in keys[0]), 0, (0,))
    of = {number: row for row, number in enumerate(numbers[1])}
    ends = {end(numbers[1]) - end(numbers[0]) for end in (min, max)}
    rows = tuple(of.get(number + shift, -1) for number in numbers[0])
    return Matched(rows, shift, tuple(sorted({0, *ends}, key=lambda one: (abs(one), one))))


def _words(name: str) -> list[str]:
    """Letters and digits between a stem's separators, without what tells files apart only."""
    stem = stem_of(name)
    without = IDENTIFIERS.sub("", stem)
    stem = without if DIGITS.search(without) else stem
    # A slash is a word of its own, so that folders and names stay apart.
    words = re.findall(r"[^\W_]+|/", stem)
    if words and VERSION.fullmatch(words[-1]) and any(DIGITS.search(word) for word in words[:-1]):
        words.pop()
    return words


def _numbers(words: list[str], aligned: bool) -> list[_Number]:
    """All numbers of a name. Their places: by column where all names have as many words, else by the word's letters."""
    found, before = [], {}
    for column, word in enumerate(words):
        skeleton = DIGITS.sub("#", word).lower()
        nth = before[skeleton] = before.get(skeleton, -1) + 1
        for run, match in enumerate(DIGITS.finditer(word)):
            letters = re.split(r"[0-9]+", word.lower())[run]
            label = letters or (words[column - 1].lower() if column and not run else "")
            place = (column if aligned else nth, skeleton, run)
            found.append(_Number(int(match.group()), place, label))
    return found


def _of_one(table: dict[tuple[object, ...], _Number], name: str, what: str, error: type[Exception]) -> int:
    """The frame number of a name that stands alone: nothing varies, so dates, rates and folders are set aside."""
    stem = stem_of(Path(stem_of(name)).name)
    plain = [word for word in _words(DATE.sub(" ", stem)) if not UNIT.fullmatch(word)]
    numbers = _numbers(plain, True) or list(table.values())
    called = [number for number in numbers if number.label in FRAME_WORDS]
    numbers = called or numbers
    if len({number.value for number in numbers}) > 1:
        raise error(
            f"{what}: {name} holds {len(numbers)} numbers ({', '.join(str(number.value) for number in numbers)}), and "
            "no other name to tell by which of them is the frame's. Name it by its frame, as 00012.png."
        )
    return numbers[0].value


def _no_number(shown: list[str], tables: list[dict[tuple[object, ...], _Number]], what: str) -> str:
    """Why a listing with numbers in it has none that varies."""
    for row, table in enumerate(tables):
        for other in range(row):
            if not table or not tables[other] or not table.keys() & tables[other].keys():
                return (
                    f"{what}: {shown[other]} and {shown[row]} do not have their frame's number in the same place. Name "
                    "all of them alike, as 00000.png."
                )
    return f"{what}: {shown[0]} and {shown[1]} have the same numbers in their names. Number them, as 00000.png."


def _finest(
    places: list[tuple[object, ...]],
    values: dict[tuple[object, ...], list[int]],
    shown: list[str],
    what: str,
    error: type[Exception],
) -> tuple[object, ...]:
    """Of numbers that vary, the one that counts frames: different in each name, and the others never go back."""
    counting = [place for place in places if len(set(values[place])) == len(shown)]
    # A counter covers the smallest range; what it is compared with (a clock) covers a larger one.
    span = {place: max(values[place]) - min(values[place]) for place in places}
    place = min(counting or places, key=span.__getitem__)
    order = sorted(range(len(shown)), key=values[place].__getitem__)
    for other in places:
        if values[other] == values[place]:
            continue
        doubtful = not counting or (other in counting and span[other] == span[place])
        for before, after in zip(order, order[1:], strict=False):
            if doubtful or values[other][after] < values[other][before]:
                raise error(
                    f"{what}: two numbers vary from name to name, as between {shown[before]} and {shown[after]}, and "
                    f"it cannot be told which is the frame's ({values[place][before]} or {values[other][before]} in "
                    f"{shown[before]}). Name them by frame alone, as 00000.png, one camera a folder."
                )
    return place
