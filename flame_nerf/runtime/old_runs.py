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
    "flame_nerf.occupancy": ("flame_nerf.render.observed.occupancy",),
    "flame_nerf.pixel_sampler": ("flame_nerf.data.pixel_sampler",),
    "flame_nerf.render.occupancy": ("flame_nerf.render.observed.occupancy",),
    "flame_nerf.priors": ("flame_nerf.losses.encoders",),
    "flame_nerf.priors.image_encoder": ("flame_nerf.losses.encoders.image_encoder",),
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
    """Value that holds always now; runs that had it so are shown as they were."""
    instead: str
    """Explanation of what became of it, as the end of a sentence that begins with its name."""


def _constants(config: str, **values: Any) -> dict[str, Gone]:
    """Options that became constants of the module their config is in, with their values."""
    return {
        f"{config}.{name}": Gone(value, f"it is {_shown(value)} in every run now") for name, value in values.items()
    }


def _shown(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, tuple) else f"{value:g}"


CHANGED: dict[str, Renamed | Gone] = {
    "FlameNerfDataManagerConfig.picture_memory": Renamed("image_memory"),
    "SamplingConfig.seen_directions_only": Renamed("observed_directions_only"),
    "SamplingConfig.seen_expressions_only": Renamed("observed_expressions_only"),
    "UnseenViewsConfig.seen_tolerance": Renamed("observed_tolerance"),
    **_constants("DecaySchedulerConfig", warmup_steps=0),
    **_constants("DepthTermConfig", tau=0.003, equal_threshold=0.01),
    **_constants("ExpressionRefinementConfig", knot_spacing=8.0, start_step=800),
    **_constants("FieldConfig", base_resolution=16, geometry_dim=15, initial_density=10.0),
    **_constants("FlameNerfDataManagerConfig", head_margin=0.05),
    **_constants("FlameNerfDataParserConfig", scene_margin=0.05),
    **_constants("HeadPixelSamplerConfig", new_frames_per_batch=2, patch_head_share=0.9),
    **_constants("IdentityRefinementConfig", start_step=800),
    **_constants(
        "InstaModelConfig", told_expressions=16, told_regions=("lips",), mouth_weight=40.0, mouth_weight_start_step=500
    ),
    **_constants("MappingConfig", scale_limit=2.0, blend_tolerance=0.05, blend_reach=0.06),
    **_constants("NerfaceFieldConfig", position_frequencies=10, direction_frequencies=4, encoding_unit=1.0),
    **_constants("NerfaceFieldConfig", expression_scale=1 / 3, color_layers=4),
    **_constants("NerfaceSamplingConfig", near=0.02),
    **_constants("OccupancyConfig", empty_opacity=2e-3, memory=0.9),
    **_constants("PoseRefinementConfig", every=8, shift_penalty=0.01, turn_penalty=0.01),
    **_constants("SamplingConfig", near=0.02, far=20.0, max_samples_per_ray=256),
    **_constants("SemanticTermConfig", gamma=0.1),
    **_constants("ShellConfig", lips=0.008, mouth=0.008, teeth=0.006, tongue=0.006, eyes=0.006, eyelids=0.01),
    **_constants("ShellConfig", ears=0.015, muzzle=0.012),
    "UnseenViewsConfig.max_angle_deg": Gone(75.0, "views of unseen sides go all around the head in every run now"),
}
"""Options that runs may still hold, as "ConfigClass.option"; of a class, those that derive from it have them too."""


BEFORE: dict[str, Any] = {"SamplingConfig.grazing": 0.0}
"""Options that are new, as "ConfigClass.option", with what runs older than they were trained with, where that is not
the default."""


def value_before(config: type, name: str) -> Any:
    """What an older run was trained with of an option that it does not hold; `dataclasses.MISSING`: the default."""
    keys = (f"{base.__name__}.{name}" for base in config.__mro__)
    return next((BEFORE[key] for key in keys if key in BEFORE), dataclasses.MISSING)


def current_name(config: type, name: str, value: Any) -> str | None:
    """Present name of an option of an older version; None where it is gone, with a line if `value` was another than
    what holds now.

    Args:
        config: class of the config.
        name: of the option, which the class does not have.
        value: what was stored.

    Raises:
        KeyError: no version had this option, as far as is known here.
    """
    found = [CHANGED[key] for key in (f"{base.__name__}.{name}" for base in config.__mro__) if key in CHANGED]
    if not found:
        raise KeyError(name)
    change = found[0]
    if isinstance(change, Renamed):
        return change.name
    if (tuple(value) if isinstance(value, list) else value) != change.value:
        _say(f"{config.__name__}.{name}: {value!r:.60} is not used, {change.instead}")
    return None


class StoredConfig:
    """Base of every config of this package that a config.yml may hold.

    Loading an older version's takes renamed options over, leaves out those that are gone with a line that says what
    became of each that was set to something else, and gives options that are new since then their defaults, or what
    held before there was a choice.
    """

    def __setstate__(self, state: dict[str, Any]) -> None:
        fields = {field.name: field for field in dataclasses.fields(self)}  # type: ignore[arg-type]
        options = self.__dict__
        for name, value in state.items():
            present: str | None = name
            if name not in fields:
                try:
                    present = current_name(type(self), name, value)
                except KeyError:
                    _say(f"{type(self).__name__}.{name}: this version has no such option; {value!r:.60} is not used")
                    continue
            if present is not None:
                options[present] = value
        for name, field in fields.items():
            if name in options:
                continue
            before = value_before(type(self), name)
            if before is not dataclasses.MISSING:
                options[name] = before
            elif field.default is not dataclasses.MISSING:
                options[name] = field.default
            elif callable(field.default_factory):
                options[name] = field.default_factory()


def _say(line: str) -> None:
    from nerfstudio.utils.rich_utils import CONSOLE

    from flame_nerf.runtime.words import escape

    CONSOLE.print(f"[yellow]An older version's config: {escape(line)}.", soft_wrap=True)


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
        holds_others = any(name.startswith(f"{fullname}.") for name in MOVED)
        return ModuleSpec(fullname, self, is_package=holds_others) if fullname in MOVED else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return _MovedModule(spec.name, "Deprecated name of " + " and ".join(MOVED[spec.name]) + ".")

    def exec_module(self, module: ModuleType) -> None:
        """There is nothing to run."""


def install() -> None:
    """Let Python find the old names, from now on and once."""
    if not any(isinstance(finder, _MovedModules) for finder in sys.meta_path):
        sys.meta_path.append(_MovedModules())
