"""The layout of a packed avatar: a zip of few, known files, and how one is opened that may come from anywhere.

avatar.json               format, version, the method's name and settings, head model and its licence, step
LICENCE.txt               whose data are inside, and what was left out
checkpoint.ckpt           step and weights, no optimizer state
subject/transforms.json   cameras of all frames (`pictures_left_out`), frames a second
subject/head.npz          the track
subject/head_model.npz    the head model, where its licence lets it be passed on
subject/images, masks     one picture and its matte; subject/background.*: the plate, where it is shown
"""

from __future__ import annotations

import re
import zipfile
from pathlib import Path
from typing import Any

from flame_nerf.runtime.door import open_file, open_zip, parse_json
from flame_nerf.runtime.errors import AvatarError

FORMAT, VERSION = "flame-nerf avatar", 1
MANIFEST, LICENCE, CHECKPOINT = "avatar.json", "LICENCE.txt", "checkpoint.ckpt"
TRANSFORMS, TRACK, HEAD_MODEL = "subject/transforms.json", "subject/head.npz", "subject/head_model.npz"
REQUIRED = (MANIFEST, CHECKPOINT, TRANSFORMS, TRACK)
PICTURE = re.compile(r"(images|masks)/[0-9]{1,9}\.(png|jpg|jpeg)|background\.(png|jpg|jpeg)")
"""Names of pictures, relative to the subject."""

LARGEST_TOTAL = 16 << 30
"""Bytes that a packed avatar may have unpacked."""
LARGEST_JSON = 256 << 20
LARGEST_PICTURE = 256 << 20
LARGEST_RATIO = 400
"""How many times its packed size a file may have unpacked: real ones stay below 20, a bomb's is a thousand."""


def check_members(archive: zipfile.ZipFile, where: Path) -> list[zipfile.ZipInfo]:
    """The files of a packed avatar, all of them with a name and size that one may have.

    Raises:
        AvatarError: it holds a file that is not an avatar's, one twice, too large a one, or lacks one.
    """
    members = archive.infolist()
    names = [member.filename for member in members]
    for member in members:
        name = member.filename
        if name not in (*REQUIRED, LICENCE, HEAD_MODEL) and not PICTURE.fullmatch(name.removeprefix("subject/")):
            raise AvatarError(f"{where}: holds {name!r:.100}, which no avatar does; get it from whoever packed it")
        if names.count(name) > 1:
            raise AvatarError(f"{where}: holds {name} twice; get it from whoever packed it")
        if member.flag_bits & 1:
            raise AvatarError(f"{where}: {name} is encrypted; get it from whoever packed it")
        limit = LARGEST_TOTAL
        if name.endswith((".json", ".txt")):
            limit = LARGEST_JSON
        elif PICTURE.fullmatch(name.removeprefix("subject/")):
            limit = LARGEST_PICTURE
        if member.file_size > min(limit, 1 << 20) and member.file_size > LARGEST_RATIO * max(1, member.compress_size):
            limit = 0
        if member.file_size > limit:
            raise AvatarError(f"{where}: {name} unpacks to {member.file_size / 1e6:.0f} MB, more than an avatar's may")
    missing = [name for name in REQUIRED if name not in names]
    if missing:
        raise AvatarError(f"{where}: no packed avatar, it lacks {missing[0]}; make one with `flame-nerf pack`")
    if sum(member.file_size for member in members) > LARGEST_TOTAL:
        raise AvatarError(f"{where}: unpacks to more than {LARGEST_TOTAL >> 30} GiB, more than an avatar may")
    return members


def extract(path: Path, folder: Path) -> dict[str, Any]:
    """Writes a packed avatar's files under `folder`, each checked by name and size, and returns its manifest.

    Raises:
        AvatarError: it is no packed avatar, damaged, of a newer format, or has something that none has.
    """
    with open_file(path, AvatarError, "a packed avatar") as stream, open_zip(stream, path, AvatarError) as archive:
        for member in check_members(archive, path):
            target = folder / member.filename
            try:
                target.parent.mkdir(parents=True, exist_ok=True)
                file = target.open("wb")
            except OSError as error:
                raise _no_room(path, folder, error) from None
            with archive.open(member) as source, file:
                while block := source.read(1 << 20):
                    try:
                        file.write(block)
                    except OSError as error:
                        raise _no_room(path, folder, error) from None
    return manifest_of((folder / MANIFEST).read_bytes(), path)


def _no_room(path: Path, folder: Path, error: OSError) -> AvatarError:
    return AvatarError(f"{path}: cannot be unpacked under {folder} ({error.strerror or error}); make room there")


def read_manifest(path: Path) -> dict[str, Any]:
    """A packed avatar's manifest; errors as for `extract`."""
    with open_file(path, AvatarError, "a packed avatar") as stream, open_zip(stream, path, AvatarError) as archive:
        check_members(archive, path)
        return manifest_of(archive.read(MANIFEST), path)


def manifest_of(text: bytes, path: Path) -> dict[str, Any]:
    """Parses avatar.json and checks that this release reads it."""
    manifest = read_object(text, f"{path}: {MANIFEST}")
    if manifest.get("format") != FORMAT or not isinstance(manifest.get("head"), dict):
        raise AvatarError(f"{path}: no packed avatar; make one with `flame-nerf pack CONFIG AVATAR.zip`")
    if manifest.get("version") != VERSION:
        raise AvatarError(
            f"{path}: format version {manifest.get('version')!r:.20}, this release reads {VERSION}; update flame-nerf"
        )
    return manifest


def read_object(text: bytes, where: str) -> dict[str, Any]:
    """A JSON object; AvatarError otherwise."""
    found = parse_json(text, where, AvatarError, remedy="Copy the file again.")
    if not isinstance(found, dict):
        raise AvatarError(f"{where} is no JSON object; copy the file again")
    return found
