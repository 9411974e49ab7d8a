"""COCO keypoints: annotations with images and categories, or a list of results."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from data_tools.tracking.config import TrackingError
from data_tools.tracking.observe.keypoint_readers.record import (
    PIXEL_CENTRES,
    SUREST,
    KeypointFile,
    Seen,
    follow,
    frames_of,
    number_of,
    whole,
)

LABELLED_HIDDEN = 0.6
"""Likelihood of a point that was labelled though hidden."""
TRACKS = ("individual", "track_id", "tracking_id", "instance_id", "object_id", "idx")
"""Fields, of an annotation or its attributes, that say which animal it is."""
NUMBERS = ("frame_id", "frame_index", "frame_idx", "frame_number", "frame")
"""Fields of an image that say which frame it is."""


@dataclass(frozen=True)
class _Animal:
    """An annotation that holds keypoints."""

    where: str
    image: Any
    category: Any
    individual: str
    annotation: Mapping[str, Any]


def read_coco(path: Path, document: Any, asked: str | None) -> KeypointFile:
    """Understand annotations ({"images", "annotations", "categories"}) or results (a list).

    Args:
        asked: the category or track id to follow.

    Raises:
        TrackingError: ids that do not fit together, or several animals and no word on which; names two of them.
    """
    results = isinstance(document, list)
    listed = document if results else document["annotations"]
    images = {} if results else _by_id(path, document, "images")
    categories = {} if results else _by_id(path, document, "categories")
    animals = _animals(path, listed, images)
    animals, names, asked = _of_one_category(path, animals, categories, asked)
    ids = list(images) if images else list(dict.fromkeys(animal.image for animal in animals))
    row_of = {image: row for row, image in enumerate(ids)}
    seen = []
    for animal in animals:
        where = f"{path}: {animal.where}"
        flat = animal.annotation["keypoints"]
        names = names or tuple(str(number) for number in range(len(flat) // 3))
        if len(flat) != 3 * len(names):
            raise TrackingError(
                f"{where} has {len(flat)} keypoint numbers, expected {3 * len(names)}: x, y, v a point."
            )
        points = np.array([number_of(value, where) for value in flat]).reshape(-1, 3)
        if not results:
            points[:, 2] = np.select([points[:, 2] == 1, points[:, 2] >= 2], [LABELLED_HIDDEN, 1.0], points[:, 2])
        points[points[:, 2] <= 0] = np.nan
        score = number_of(animal.annotation.get("score"), f"{where}: score")
        seen.append(Seen(row_of[animal.image], animal.individual, whole(points), animal.where, score))
    points, notes = follow(path, len(ids), len(names), seen, asked)
    frames = frames_of(_labels(path, ids, images), path)
    return KeypointFile(path, names, frames, points, PIXEL_CENTRES, size=_size(path, images), notes=notes)


def _by_id(path: Path, document: Mapping[str, Any], field: str) -> dict[Any, Mapping[str, Any]]:
    """A list of objects by their ids."""
    listed = document.get(field) or []
    if not isinstance(listed, list) or not all(isinstance(one, dict) for one in listed):
        raise TrackingError(f'{path}: "{field}" is no list of objects.')
    found: dict[Any, Mapping[str, Any]] = {}
    for row, one in enumerate(listed):
        number = one.get("id")
        if not isinstance(number, int | str):
            raise TrackingError(f"{path}: {field}, row {row}: its id is {number!r}, expected a number.")
        if number in found:
            two = [str(each.get("file_name", each.get("name", each))) for each in (found[number], one)]
            raise TrackingError(f"{path}: {field}: {two[0]} and {two[1]} have the same id {number}. Export it again.")
        found[number] = one
    return found


def _animals(path: Path, listed: Any, images: Mapping[Any, Any]) -> list[_Animal]:
    """The annotations that have keypoints."""
    if not isinstance(listed, list):
        raise TrackingError(f'{path}: "annotations" is no list of objects.')
    animals = []
    for row, annotation in enumerate(listed):
        if not isinstance(annotation, dict) or "image_id" not in annotation:
            raise TrackingError(f"{path}: annotation {row} has no image_id. Is this a COCO keypoint file?")
        where = f"annotation {annotation['id']}" if "id" in annotation else f"annotation {row}"
        image = annotation["image_id"]
        if not isinstance(image, int | str):
            raise TrackingError(f"{path}: {where}: image_id is {image!r}, expected a number or a name.")
        if images and image not in images:
            raise TrackingError(
                f'{path}: {where} is of image {image}, but "images" has no such id (it has '
                f"{', '.join(map(str, list(images)[:3]))}, …). Export it again."
            )
        flat = annotation.get("keypoints")
        if not flat:
            continue
        if not isinstance(flat, list):
            raise TrackingError(f"{path}: {where}: keypoints is no list of numbers.")
        if flat and all(isinstance(value, list) for value in flat):
            flat = [value for point in flat for value in point]
        name = images[image].get("file_name") if images else None
        where += f" (image {name or image})"
        category = annotation.get("category_id")
        if not isinstance(category, int | str | None):
            raise TrackingError(f"{path}: {where}: category_id is {category!r}, expected a number.")
        animals.append(_Animal(where, image, category, _individual(annotation), annotation | {"keypoints": flat}))
    if len({animal.individual for animal in animals}) == len(animals):
        # Each its own: ids of annotations, not of animals.
        animals = [replace(animal, individual="") for animal in animals]
    return animals


def _individual(annotation: Mapping[str, Any]) -> str:
    """What an annotation says of which animal it is; empty if nothing."""
    attributes = annotation.get("attributes")
    for fields in (annotation, attributes if isinstance(attributes, dict) else {}):
        for field in TRACKS:
            if isinstance(fields.get(field), int | str) and not isinstance(fields[field], bool):
                return str(fields[field])
    return ""


def _of_one_category(
    path: Path, animals: list[_Animal], categories: Mapping[Any, Mapping[str, Any]], asked: str | None
) -> tuple[list[_Animal], tuple[str, ...], str | None]:
    """The animals of one category, its keypoints' names, and what is left to ask for among them."""
    if len(categories) == 1:
        # What says nothing of its category is of the only one.
        only = next(iter(categories))
        animals = [replace(animal, category=only) if animal.category is None else animal for animal in animals]
    used = list(dict.fromkeys(animal.category for animal in animals))
    unknown = [animal for animal in animals if categories and animal.category not in categories]
    if unknown:
        raise TrackingError(
            f'{path}: {unknown[0].where} is of category {unknown[0].category}, but "categories" has '
            f"{', '.join(map(str, list(categories)[:8]))}. Export it again."
        )
    called = {one: str(categories.get(one, {}).get("name", one)) for one in used}
    if asked not in (None, SUREST):
        of_track = [animal for animal in animals if animal.individual == asked]
        of_category = [animal for animal in animals if asked in (called[animal.category], str(animal.category))]
        if not of_track and not of_category:
            others = dict.fromkeys([*called.values(), *(one.individual for one in animals if one.individual)])
            raise TrackingError(
                f"{path}: shows no animal called {asked!r}, but {', '.join(list(others)[:8])}. Correct --individual."
            )
        animals, asked = (of_track, asked) if of_track else (of_category, None)
        used = list(dict.fromkeys(animal.category for animal in animals))
    if len(used) > 1:
        raise TrackingError(
            f"{path}: shows animals of {len(used)} categories, {called[used[0]]} and {called[used[1]]}"
            f"{', …' if len(used) > 2 else ''}. Say with --individual which one to follow."
        )
    listed = categories.get(used[0], {}).get("keypoints") if used else None
    if listed is not None and not isinstance(listed, list):
        raise TrackingError(f"{path}: category {called[used[0]]}: keypoints is no list of names.")
    return animals, tuple(map(str, listed or ())), asked


def _labels(path: Path, ids: list[Any], images: Mapping[Any, Mapping[str, Any]]) -> list[Any]:
    """What says which frame each image is: a field for it, else its file's name, else its id."""
    for field in (*NUMBERS, "file_name"):
        known = [field in images.get(image, {}) for image in ids]
        if any(known):
            if not all(known):
                has, lacks = ids[known.index(True)], ids[known.index(False)]
                raise TrackingError(f"{path}: image {has} has {field}, image {lacks} has none. Export it again.")
            return [images[image][field] for image in ids]
    return ids


def _size(path: Path, images: Mapping[Any, Mapping[str, Any]]) -> tuple[float, float] | None:
    """Width and height of the images, where the file says them."""
    first: dict[tuple[float, float], Any] = {}
    for number, image in images.items():
        if {"width", "height"} <= image.keys():
            where = f"{path}: image {number}"
            side = tuple(number_of(image[field], f"{where}: {field}") for field in ("width", "height"))
            if not all(math.isfinite(value) and value > 0 for value in side):
                raise TrackingError(f"{where} is {side[0]:g} x {side[1]:g} pixels, expected its width and height.")
            first.setdefault(side, image.get("file_name", number))
    if len(first) > 1:
        one, other = list(first)[:2]
        raise TrackingError(
            f"{path}: {first[one]} is {one[0]:g} x {one[1]:g}, {first[other]} {other[0]:g} x {other[1]:g} pixels. Give "
            "keypoints of one video."
        )
    return next(iter(first), None)
