"""config.yml, as Nerfstudio writes it: read without running what it names, written whole."""

from __future__ import annotations

import dataclasses
import enum
import functools
import pathlib
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from flame_nerf.runtime.door import check_nesting, read_text, said
from flame_nerf.runtime.errors import AvatarError
from flame_nerf.runtime.files import whole

if TYPE_CHECKING:
    from nerfstudio.engine.trainer import TrainerConfig

CONFIG_FILE = "config.yml"
LARGEST_CONFIG = 4 << 20


def read_config(path: Path) -> TrainerConfig:
    """The config of a training run.

    The file's tags may name Nerfstudio's, this package's and installed methods' config classes, enumerations and paths.
    Only these are made, and nothing is called, whatever else the file asks for.

    Raises:
        AvatarError: there is no such file, it is no config of a training run, or it asks for more than that.
    """
    if path.is_dir():
        raise AvatarError(f"{path}: a folder; give the config.yml inside it")
    missing = f"{path}: no such file; give the config.yml that ns-train wrote under outputs/"
    text = read_text(path, AvatarError, largest=LARGEST_CONFIG, missing=missing)
    what = "no config.yml of a training run: its brackets are"
    check_nesting(text.encode(), path, AvatarError, what, "Copy it again.")
    from flame_nerf.training.trainer import FlameNerfTrainerConfig

    try:
        config = parse_config(text)
    except Exception as error:
        # Besides its own errors, YAML's constructors raise whatever a wrong value leads them to.
        raise AvatarError(f"{path}: no config.yml of a training run ({said(error)})") from error
    if not isinstance(config, FlameNerfTrainerConfig):
        raise AvatarError(f"{path}: not a run of flame-nerf but {_kind(config)}; give the config.yml of one")
    try:
        (
            config.get_base_dir(),
            config.pipeline.model,
            config.pipeline.datamanager.dataparser,
            config.relative_model_dir.name,
        )
    except (AttributeError, AssertionError, TypeError, ValueError):
        raise AvatarError(f"{path}: cut short, or not written by ns-train; copy it again") from None
    return config


def _kind(config: Any) -> str:
    from nerfstudio.engine.trainer import TrainerConfig

    return "one of another method" if isinstance(config, TrainerConfig) else "some other text"


def parse_config(text: str) -> Any:
    """What a config.yml's text describes, made of plain settings alone; yaml.YAMLError and others where it is none."""
    return yaml.load(text, Loader=_ConfigLoader)  # noqa: S506 -- a safe loader that knows plain settings alone


def write_config(config: TrainerConfig, path: Path) -> None:
    """Write a config.yml that every ``ns-*`` command reads; it appears under its name only when it is whole.

    Raises:
        AvatarError: the disk refuses.
    """
    try:
        with whole(path) as spare:
            spare.write_text(yaml.dump(config), encoding="utf-8")
    except OSError as error:
        raise AvatarError(f"{path}: cannot be written ({error.strerror or error})") from None


class _ConfigLoader(yaml.Loader):
    """Nerfstudio's own loader imports and calls whatever a file names; this one makes plain settings only."""

    def find_python_module(self, name: str, mark: Any) -> Any:
        raise yaml.constructor.ConstructorError(None, None, f"it names the module {name!r}", mark)

    def find_python_name(self, name: str, mark: Any) -> Any:
        package = name.split(".", maxsplit=1)[0]
        if package not in _known_packages() and not (package == "pathlib" and hasattr(pathlib, name[8:])):
            raise yaml.constructor.ConstructorError(
                None, None, f"it names {name!r}, which no installed method has", mark
            )
        return super().find_python_name(name, mark)

    def make_python_instance(
        self, suffix: str, node: Any, args: Any = None, kwds: Any = None, newobj: bool = False
    ) -> Any:
        kind = self.find_python_name(suffix, node.start_mark)
        makes_settings = isinstance(kind, type) and (
            dataclasses.is_dataclass(kind) or issubclass(kind, (enum.Enum, pathlib.PurePath))
        )
        if not makes_settings:
            raise yaml.constructor.ConstructorError(None, None, f"it calls {suffix!r}", node.start_mark)
        if issubclass(kind, pathlib.PurePath):
            # A run of another system: its kind of path cannot be made here.
            return Path(*args) if args else Path()
        return super().make_python_instance(suffix, node, args, kwds, newobj)

    def set_python_instance_state(self, instance: Any, state: Any) -> None:
        # Its own, unlike that of the loader it derives from, lets no special attribute be set.
        yaml.constructor.FullConstructor.set_python_instance_state(self, instance, state)


@functools.cache
def _known_packages() -> frozenset[str]:
    """Packages that a config may name: the host, torch for its optimizers, and every installed method's own."""
    methods = entry_points(group="nerfstudio.method_configs")
    return frozenset({"nerfstudio", "flame_nerf", "torch"} | {entry.value.split(".")[0] for entry in methods})
