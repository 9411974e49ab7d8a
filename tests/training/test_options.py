"""The options of `ns-train`: few, explained, and the ones that the pages name."""

import ast
import dataclasses
import inspect
import itertools
import re
import textwrap
import typing
from collections.abc import Iterator
from pathlib import Path

import pytest
from nerfstudio.plugins.types import MethodSpecification
from tyro.conf import Fixed

from flame_nerf import methods

ROOT = Path(__file__).resolve().parents[2]
MOST = 70
"""Options of this package that a reader of the help texts may be asked to read."""
METHODS = {
    spec.config.method_name: spec.config for spec in vars(methods).values() if isinstance(spec, MethodSpecification)
}
FIXED = typing.get_args(Fixed[int])[1]
"""Mark of what the command line leaves out."""


def options(config: object, path: str = "") -> Iterator[tuple[str, type, str]]:
    """Path on the command line, class and name of every option of a config and what it holds."""
    hints = typing.get_type_hints(type(config), include_extras=True)
    for field in dataclasses.fields(config):
        value, name = getattr(config, field.name), f"{path}{field.name}"
        if field.name.startswith("_") or FIXED in typing.get_args(hints[field.name]):
            continue
        if dataclasses.is_dataclass(value):
            yield from options(value, f"{name}.")
        elif isinstance(value, dict):
            for group, parts in value.items():
                for part, inner in parts.items() if isinstance(parts, dict) else ():
                    if dataclasses.is_dataclass(inner):
                        yield from options(inner, f"{name}.{group}.{part}.")
        else:
            yield name, type(config), field.name


def owner(config: type, name: str) -> type:
    """The class that an option was first declared in."""
    return [base for base in config.__mro__ if name in vars(base).get("__annotations__", {})][-1]


OWN = {
    (owner(config, name), name)
    for method in METHODS.values()
    for _, config, name in options(method)
    if owner(config, name).__module__.startswith("flame_nerf.")
}


def help_text(config: type, name: str) -> str:
    """The string below a field, which the command line shows."""
    body = ast.parse(textwrap.dedent(inspect.getsource(config))).body[0].body
    for field, after in itertools.pairwise(body):
        if isinstance(field, ast.AnnAssign) and field.target.id == name and isinstance(after, ast.Expr):
            return after.value.value
    return ""


def test_there_are_few_options():
    assert 40 < len(OWN) <= MOST, sorted(f"{config.__name__}.{name}" for config, name in OWN)


def test_every_option_is_explained():
    for config, name in OWN:
        text = help_text(config, name)
        assert len(text.split()) >= 5 and text.endswith("."), f"{config.__name__}.{name}: {text!r}"
        assert text.split()[0] not in ("What", "Whether", "Where", "Which", "How"), f"{config.__name__}.{name}"


@pytest.mark.parametrize("page", ["README.md", *sorted(str(p.relative_to(ROOT)) for p in ROOT.glob("docs/**/*.md"))])
def test_options_that_a_page_names_exist(page):
    known = {path.replace("_", "-") for method in METHODS.values() for path, _, _ in options(method)}
    named = re.findall(r"--((?:pipeline|optimizers)\.[\w.-]+)", (ROOT / page).read_text())
    assert {name.replace("_", "-") for name in named} <= known


def test_a_fixed_setting_is_no_option():
    from flame_nerf.render.observed.occupancy import OccupancyConfig

    assert [name for _, _, name in options(OccupancyConfig())] == ["resolution"]
