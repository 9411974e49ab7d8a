"""Runs that older versions trained: a config.yml names modules and options of its time.

Nothing heavy is imported here: `flame_nerf` itself does.
"""

from __future__ import annotations

import dataclasses
import importlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

# Deprecated names: they serve config.yml files alone. New code imports from the new homes.
MOVED: dict[str, tuple[str, ...]] = {
    "flame_nerf.head_renderer": ("flame_nerf.render.head_renderer",),
    "flame_nerf.objective": ("flame_nerf.losses.weights",),
    "flame_nerf.occupancy": ("flame_nerf.render.occupancy",),
    "flame_nerf.pixel_sampler": ("flame_nerf.data.pixel_sampler",),
    "flame_nerf.prior_terms": ("flame_nerf.losses.depth", "flame_nerf.losses.semantic"),
    "flame_nerf.shell_config": ("flame_nerf.render.shell_config",),
    "flame_nerf.trainer": ("flame_nerf.training.trainer",),
    "flame_nerf.unseen_sides": ("flame_nerf.losses.unseen_views",),
}
"""Modules whose classes a config.yml may name, and where those classes are now."""


@dataclass(frozen=True)
class Renamed:
    """An option that has another name now."""

    name: str
    """The name, in the same config."""


@dataclass(frozen=True)
class Gone:
    """An option that nobody can set any more."""

    value: Any
    """What it is always now; runs that had it so are shown as they were."""
    instead: str
    """What became of it and what to do, as the end of a sentence that begins with its name."""


CHANGED: dict[str, Renamed | Gone] = {}
"""Options that runs may still hold, as "ConfigClass.option"."""


class StoredConfig:
    """Base of every config of this package that a config.yml may hold.

    Loading an older version's takes renamed options over, leaves out those that are gone with a line that says what
    became of each that was set to something else, and gives options that are new since then their defaults.
    """

    def __setstate__(self, state: dict[str, Any]) -> None:
        fields = {field.name: field for field in dataclasses.fields(self)}  # type: ignore[arg-type]
        options = self.__dict__
        for name, value in state.items():
            change = CHANGED.get(f"{type(self).__name__}.{name}")
            if name in fields:
                options[name] = value
            elif isinstance(change, Renamed):
                options[change.name] = value
            elif change is None:
                _say(f"{type(self).__name__}.{name}: this version has no such option; {value!r} is not used")
            elif value != change.value:
                _say(f"{type(self).__name__}.{name}: {value!r} is not used, {change.instead}")
        for name, field in fields.items():
            if name in options:
                continue
            if field.default is not dataclasses.MISSING:
                options[name] = field.default
            elif field.default_factory is not dataclasses.MISSING:
                options[name] = field.default_factory()


def _say(line: str) -> None:
    from nerfstudio.utils.rich_utils import CONSOLE

    CONSOLE.print(f"[yellow]An older version's config: {line}.", soft_wrap=True)


class _MovedModule(ModuleType):
    """Stands under a module's old name; what is asked of it comes from where it is now."""

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("__"):
            for home in MOVED[self.__name__]:
                module = importlib.import_module(home)
                if hasattr(module, name):
                    return getattr(module, name)
        raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")


class _MovedModules(MetaPathFinder, Loader):
    """Finds the old names, when nothing else does."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        return ModuleSpec(fullname, self) if fullname in MOVED else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return _MovedModule(spec.name, "Deprecated name of " + " and ".join(MOVED[spec.name]) + ".")

    def exec_module(self, module: ModuleType) -> None:
        """There is nothing to run."""


def install() -> None:
    """Let Python find the old names, from now on and once."""
    if not any(isinstance(finder, _MovedModules) for finder in sys.meta_path):
        sys.meta_path.append(_MovedModules())
