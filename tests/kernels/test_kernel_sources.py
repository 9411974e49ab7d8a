"""Compiled kernels on disk are old when anything that was compiled into them has changed."""

import ast
import hashlib
import importlib.util
from pathlib import Path

import pytest

import flame_nerf

ROOT = Path(flame_nerf.__file__).parent


def kernel_files() -> list[Path]:
    """Files that compile functions with numba."""
    return [path for path in sorted(ROOT.rglob("*.py")) if "njit(" in path.read_text()]


def taken_from(path: Path) -> list[Path]:
    """Files of this package that a file imports from, and that those do."""
    found: list[Path] = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("flame_nerf"):
            other = Path(importlib.util.find_spec(node.module).origin)
            found += [other, *taken_from(other)]
    return sorted(set(found))


def test_there_are_kernels():
    assert {"march.py", "field.py", "hash_grid.py"} <= {path.name for path in kernel_files()}


@pytest.mark.parametrize("path", filter(taken_from, kernel_files()), ids=lambda path: path.stem)
def test_kernels_name_the_files_that_they_are_compiled_with(path):
    others = taken_from(path)
    checksum = hashlib.sha256(b"".join(other.read_text().encode() for other in others)).hexdigest()[:12]
    line = f'COMPILED_WITH = "{checksum}"'
    names = ", ".join(other.name for other in others)
    assert line in path.read_text().splitlines(), f"{path}: {names} changed. Write: {line}"
