"""``flame-nerf export``: an avatar as files for other programs."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from flame_nerf.avatar.export.web.config import WebConfig
from flame_nerf.commands.drive import AvatarPath
from flame_nerf.commands.export_gltf import ExportGltf, ExportObj


@dataclass
class ExportWeb:
    """Write an avatar as one web page that everybody can open by double click, without a network.

    The page shows the head from all sides in real time, with sliders for its expressions and the recorded performance.
    The head model's shapes are in it: one whose licence does not let everybody pass it on (FLAME) needs
    --with-head-model. Ask whoever is shown before you give the page away.

    Examples:
      flame-nerf export web outputs/me/flame-nerf/2026-01-31_120000/config.yml me.html
      flame-nerf export web avatar.zip me.html --layers 8 --views 200
    """

    config: AvatarPath
    """The config.yml of a training run, or a file that `flame-nerf pack` wrote."""
    page: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="PAGE.html")]
    """The file to write; it is titled after its name."""
    data: Path | None = None
    """The subject's folder, where it was moved and is not found beside or above the run."""
    with_head_model: bool = False
    """Also where the head model's licence does not let everybody pass it on: for your own use."""
    web: tyro.conf.OmitArgPrefixes[WebConfig] = field(default_factory=WebConfig)

    def run(self) -> None:
        from flame_nerf.avatar.export.web.page import export_web
        from flame_nerf.avatar.loading import open_avatar

        start = time.monotonic()
        with open_avatar(self.config, self.data) as avatar:
            page = export_web(avatar.load(), self.page, self.web, with_head_model=self.with_head_model)
        print(f"page: {page.path} ({page.size / 1e6:.1f} MB, made in {time.monotonic() - start:.0f} s)")
        print("open it by double click; it needs no network")


@dataclass
class Export:
    """Write an avatar as files for other programs: a web page, a textured head that moves, meshes."""

    kind: Annotated[
        Annotated[ExportWeb, tyro.conf.subcommand("web")]
        | Annotated[ExportGltf, tyro.conf.subcommand("gltf")]
        | Annotated[ExportObj, tyro.conf.subcommand("obj")],
        tyro.conf.arg(name=""),
    ]

    def run(self) -> None:
        self.kind.run()
