"""The method page's table of claims: all of them, and nothing named that is not there."""

import re
import typing
from pathlib import Path

from flame_nerf.methods import flame_nerf

ROOT = Path(__file__).resolve().parents[2]
ROWS = [
    line.strip("|").split("|")
    for line in (ROOT / "docs/method.md").read_text().split("| claim |")[1].splitlines()[2:]
    if line.startswith("|")
]


def test_claims_1_to_16_each_once_with_a_place():
    claims = [int(number) for claim, *_ in ROWS for number in re.findall(r"\d+", claim.split(":")[0])]
    assert sorted(claims) == list(range(1, 17))
    assert all(place.strip() for _, place, _ in ROWS)


def test_files_functions_and_options_are_there():
    source, found = "", 0
    for _, place, options in ROWS:
        for name in re.findall(r"`([^`]+)`", place):
            if "/" in name:
                source = (ROOT / name).read_text()
            else:
                assert name == flame_nerf.config.method_name or f"def {name}(" in source, name
            found += 1
        for option in re.findall(r"`([^`]+)`", options):
            path, _, value = option.partition(" ")
            owner, known = None, flame_nerf.config.pipeline.model
            for step in path.replace("-", "_").split("."):
                owner, known = known, getattr(known, step)
            if value:
                kinds = typing.get_type_hints(type(owner))[path.split(".")[-1].replace("-", "_")]
                assert value in typing.get_args(kinds), option
            found += 1
    assert found > 20
