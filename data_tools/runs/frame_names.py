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
CLOCK = re.compile(
    r"(?<![0-9])(?:19|20)[0-9]{2}([-_.]?)(?:0[1-9]|1[0-2])\1(?:0[1-9]|[12][0-9]|3[01])(?![0-9])"
    r"(?:[-_ T]?[0-2][0-9]([-_.:]?)[0-5][0-9]\2[0-5][0-9](?:[.,]?[0-9]{3})?(?![0-9]))?"
    r"|(?<![0-9])1[0-9]{9}(?:[0-9]{3}){0,3}(?![0-9])"
)
"""A day, perhaps with the time, or a computer's seconds since 1970."""
FRAME_WORDS = frozenset(("f", "fr", "frm", "frame", "frames", "frameid", "timestep"))
"""What a frame's number is called where it is called anything."""
ONE_FRAME = FRAME_WORDS - {"f", "fr", "frames"}
"""Of these, what names one frame beyond doubt."""
DIGITS = re.compile(r"[0-9]+")


@dataclass(frozen=True)
class _Number:
    """One run of digits in a name."""

    value: int
    place: tuple[object, ...]
    """Equal for numbers of two names that stand in the same place."""
    label: str
    """Letters right before it, or the word before it."""
    unit: bool
    """Whether it is a rate or a size."""


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

    Numbers that all names share (a rate, a camera), hashes, UUIDs, dates, times and version suffixes say nothing. Of
    several that vary, the one called a frame is taken.

    Args:
        names: file names, with or without folders and endings.
        what: the listing, for errors: a file or folder.
        error: kind of error to raise.

    Returns:
        as many numbers, all different; None if no name holds any.

    Raises:
        error: two names have one number, some names have none, or it cannot be told which number is the frame's; names
            two names that clash.
    """
    shown = [str(name) for name in names]
    stems = [stem_of(name) for name in shown]
    if not any(map(DIGITS.search, stems)):
        return None
    stems = _without(IDENTIFIERS, stems)
    if len(stems) == 1:
        return [_of_one(stems[0], shown[0], what, error)]
    tables, varying = _varying(_without(CLOCK, stems))
    if not varying:
        # A clock may be all there is to tell pictures apart by.
        tables, varying = _varying(stems)
    values = {place: [table[place].value for table in tables] for place in varying}
    called = [place for place in varying if all(table[place].label in FRAME_WORDS for table in tables)]
    places = called or varying
    constant = {place for place in tables[0] if tables[0][place].label in ONE_FRAME and not tables[0][place].unit}
    if not places or (not called and any(_same(tables, place) for place in constant)):
        raise error(_no_number(shown, tables, what))
    numbers = values[places[0]]
    for place in places[1:]:
        if values[place] != numbers:
            one, other = _clash(numbers, values[place])
            raise error(
                f"{what}: two numbers vary from name to name, as between {shown[one]} and {shown[other]}, and it "
                f"cannot be told which is the frame's ({numbers[one]} or {values[place][one]} in {shown[one]}). Name "
                "them by frame alone, as 00000.png, one camera a folder."
            )
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


def _without(pattern: re.Pattern[str], stems: list[str]) -> list[str]:
    """The stems without what fits the pattern, if every one of them still has a number then."""
    bare = [pattern.sub(" ", stem) for stem in stems]
    return bare if all(map(DIGITS.search, bare)) else stems


def _varying(stems: list[str]) -> tuple[list[dict[tuple[object, ...], _Number]], list[tuple[object, ...]]]:
    """All numbers of each name by their places, and the places where every name has one and not all the same."""
    words = [_words(stem) for stem in stems]
    aligned = len({len(row) for row in words}) == 1
    tables = [{number.place: number for number in _numbers(row, aligned)} for row in words]
    shared = [place for place in tables[0] if all(place in table for table in tables)]
    if not shared and all(len(table) == 1 for table in tables):
        # Spelt differently, but nothing to choose from.
        shared = [()]
        tables = [dict(zip(shared, table.values(), strict=True)) for table in tables]
    return tables, [place for place in shared if not _same(tables, place)]


def _same(tables: list[dict[tuple[object, ...], _Number]], place: tuple[object, ...]) -> bool:
    """Whether all names have one and the same number in a place."""
    return all(place in table and table[place].value == tables[0][place].value for table in tables)


def _words(stem: str) -> list[str]:
    """Letters and digits between a stem's separators, but for a version at its end. A slash is a word of its own, so
    that folders and names stay apart."""
    words = re.findall(r"[^\W_]+|/", stem)
    if words and VERSION.fullmatch(words[-1]) and any(map(DIGITS.search, words[:-1])):
        words.pop()
    return words


def _numbers(words: list[str], aligned: bool) -> list[_Number]:
    """All numbers of a name. Their places: by column where all names have as many words, else by the word's letters."""
    found: list[_Number] = []
    before: dict[str, int] = {}
    for column, word in enumerate(words):
        skeleton = DIGITS.sub("#", word).lower()
        nth = before[skeleton] = before.get(skeleton, -1) + 1
        letters = DIGITS.split(word.lower())
        for run, match in enumerate(DIGITS.finditer(word)):
            label = letters[run] or (words[column - 1].lower() if column and not run else "")
            place = (column if aligned else nth, skeleton, run)
            # What is longer is no number that anything counts to.
            found.append(_Number(int(match.group()[-18:]), place, label, UNIT.fullmatch(word) is not None))
    return found


def _of_one(stem: str, name: str, what: str, error: type[Exception]) -> int:
    """The frame number of a name that stands alone: nothing varies, so dates, rates and folders are set aside."""
    numbers = _numbers(_words(_without(CLOCK, [stem])[0]), True)
    within = _numbers(_words(_without(CLOCK, [stem.rpartition("/")[2]])[0]), True)
    for chosen in (within, numbers):
        chosen = [number for number in chosen if not number.unit] or chosen
        numbers = [number for number in chosen if number.label in FRAME_WORDS] or chosen
        if numbers:
            break
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
            if not table.keys() & tables[other].keys():
                return (
                    f"{what}: {shown[other]} and {shown[row]} do not have their frame's number in the same place. Name "
                    "all of them alike, as 00000.png."
                )
    return f"{what}: {shown[0]} and {shown[1]} have the same frame's number in their names. Number them, as 00000.png."


def _clash(first: list[int], second: list[int]) -> tuple[int, int]:
    """Two rows that differ in one of two numbers only, if there are any; else the first two."""
    for numbers in (first, second):
        seen: dict[int, int] = {}
        for row, number in enumerate(numbers):
            if number in seen:
                return seen[number], row
            seen[number] = row
    return 0, 1
