"""Settings of a packed avatar: a name and plain settings, checked one by one before they are used."""

from __future__ import annotations

import copy
import dataclasses
import functools
import math
import types
import typing
from collections.abc import Mapping
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any, Literal, Union

from flame_nerf.runtime.errors import AvatarError
from flame_nerf.runtime.old_runs import current_name, value_before

if TYPE_CHECKING:
    from flame_nerf.training.trainer import FlameNerfTrainerConfig

TRAINING_ONLY = frozenset(
    {"_target", "loss_coefficients", "loss_starts", "depth", "semantic", "unseen", "lpips", "collider_params", "prompt"}
    | {"enable_collider", "data"}
)
"""Settings that pictures do not depend on, or that are this machine's business: they do not travel, and where a file
brings them all the same, they are refused."""

LARGEST = {
    "n_levels": 32, "features_per_level": 16, "log2_hashmap_size": 24, "max_resolution": 1 << 16, "hidden_dim": 1024,
    "latent_dim": 1024, "resolution": 512, "eval_num_rays_per_chunk": 1 << 20, "mesh_memory": 1 << 36,
    "num_rays_per_chunk": 1 << 20, "geometry_dim": 1024, "texture_dim": 1024, "texture_layers": 64,
}  # fmt: skip
"""Settings that cost memory, and how large they may be in a file from elsewhere."""
LARGEST_OF_OTHERS = 10_000
"""Largest value of any other whole number."""


def plain_settings(config: FlameNerfTrainerConfig) -> dict[str, Any]:
    """A run's method and the settings that its pictures depend on, JSON-compatible."""
    return {
        "method": config.method_name,
        "model": _plain(config.pipeline.model),
        "dataparser": _plain(config.pipeline.datamanager.dataparser),
    }


def config_of(settings: Mapping[str, Any], where: str) -> FlameNerfTrainerConfig:
    """The config that `plain_settings` described, made of the method's own.

    Args:
        settings: from a file that may come from anywhere.
        where: the file, to be named in errors.

    Raises:
        AvatarError: an unknown method, an unknown setting, or a value that the setting cannot have.
    """
    config = copy.deepcopy(_method(settings.get("method"), where))
    for name, target in (("model", config.pipeline.model), ("dataparser", config.pipeline.datamanager.dataparser)):
        _fill(target, settings.get(name, {}), where, name)
    return config


def own_config(name: Any) -> FlameNerfTrainerConfig | None:
    """The config of one of this package's methods by its name; None of an unknown one."""
    return _known_methods().get(name) if isinstance(name, str) else None


@functools.cache
def _known_methods() -> dict[str, FlameNerfTrainerConfig]:
    # As Nerfstudio finds them, and only this package's: others' code has no part in a file from elsewhere.
    entries = entry_points(group="nerfstudio.method_configs")
    specifications = [entry.load() for entry in entries if entry.module.split(".")[0] == "flame_nerf"]
    return {found.config.method_name: found.config for found in specifications}


def _method(name: Any, where: str) -> FlameNerfTrainerConfig:
    known = _known_methods()
    if not isinstance(name, str) or name not in known:
        raise AvatarError(f"{where}: method {name!r} is unknown here, known are {', '.join(known)}; update flame-nerf")
    return known[name]


def _plain(config: Any) -> dict[str, Any]:
    values = {}
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if field.name in TRAINING_ONLY or field.name.startswith("_"):
            continue
        values[field.name] = _plain(value) if dataclasses.is_dataclass(value) else _plain_value(value)
    return values


def _plain_value(value: Any) -> Any:
    if isinstance(value, (tuple, list)):
        return [_plain_value(item) for item in value]
    # JSON has no infinities.
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _fill(config: Any, values: Any, where: str, path: str) -> None:
    if not isinstance(values, Mapping):
        raise AvatarError(f"{where}: {path} must be a group of settings; pack the avatar again")
    known = {field.name for field in dataclasses.fields(config)} - TRAINING_ONLY
    hints = typing.get_type_hints(type(config))
    for absent in known - values.keys():
        before = value_before(type(config), absent)
        if before is not dataclasses.MISSING:
            setattr(config, absent, before)
    for name, value in values.items():
        full = f"{path}.{name}"
        if name not in known:
            try:
                name = current_name(type(config), name, value)
            except KeyError:
                name = ""
            if name is None:
                continue
            if name not in known:
                raise AvatarError(
                    f"{where}: setting {full} is unknown here, or not one that an avatar may carry; update flame-nerf"
                )
        present = getattr(config, name)
        if dataclasses.is_dataclass(present):
            _fill(present, value, where, full)
            continue
        try:
            setattr(config, name, _typed(value, hints[name], LARGEST.get(name, LARGEST_OF_OTHERS)))
        except ValueError as error:
            raise AvatarError(
                f"{where}: setting {full} is {value!r:.60}, {error}; update flame-nerf, or pack it again"
            ) from None


def _typed(value: Any, hint: Any, largest: int) -> Any:
    """`value` as the kind of thing that a field's annotation asks for; raises ValueError."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        if value not in arguments:
            raise ValueError(f"expected one of {', '.join(map(str, arguments))}")
        return value
    if origin in (Union, types.UnionType):
        for argument in arguments:
            try:
                return _typed(value, argument, largest)
            except ValueError:
                continue
    if hint in (None, type(None)) and value is None:
        return None
    if hint is bool and isinstance(value, bool):
        return value
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if hint is int and number and isinstance(value, int):
        if abs(value) > largest:
            raise ValueError(f"expected at most {largest}")
        return value
    if hint is float and (number or value in ("inf", "-inf")) and value == value:
        try:
            return float(value)
        except OverflowError:
            raise ValueError("larger than any number that is computed with") from None
    if hint is str and isinstance(value, str) and len(value) < 100:
        return value
    if origin in (tuple, list) and isinstance(value, list) and len(value) < 1000:
        kinds = [arguments[0]] * len(value) if origin is list or arguments[-1] is Ellipsis else list(arguments)
        if len(kinds) == len(value):
            return origin(_typed(item, kind, largest) for item, kind in zip(value, kinds, strict=True))
    raise ValueError("which is no such value")
