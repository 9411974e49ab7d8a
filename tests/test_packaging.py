"""What the package index shows of the project."""

from __future__ import annotations

import re
import sys

import pytest
from readme_lines import ROOT

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

LINK = re.compile(r"\]\(([^)\s]+)|<(?:img|a|source)\b[^>]*\b(?:src|href)=\"([^\"]+)")


@pytest.fixture(scope="module")
def core():
    """The metadata that a build writes."""
    metadata = pytest.importorskip("hatchling.metadata.core", reason="hatchling is not installed")
    pytest.importorskip("hatch_fancy_pypi_readme", reason="hatch-fancy-pypi-readme is not installed")
    from hatchling.plugin.manager import PluginManager

    return metadata.ProjectMetadata(str(ROOT), PluginManager()).core


def _links(text: str) -> list[str]:
    return [first or second for first, second in LINK.findall(text)]


def test_the_index_page_is_the_readme_with_links_that_work_there(core):
    own, shown = (ROOT / "README.md").read_text(encoding="utf-8"), core.readme
    assert core.readme_content_type == "text/markdown"
    assert len(_links(shown)) == len(_links(own)) > 3
    for before, after in zip(_links(own), _links(shown), strict=True):
        assert re.match("https://|#", after), f"{after} leads nowhere from the package index's page"
        if not re.match("[a-z]+:|#", before):
            assert (ROOT / before.partition("#")[0]).exists(), f"README.md: {before} does not exist"
            assert after.endswith(f"/main/{before}")
    assert LINK.sub("", shown) == LINK.sub("", own), "nothing but links changes"


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("[a](docs/a.md)", "[a](https://github.com/flame-nerf/flame-nerf/blob/main/docs/a.md)"),
        ("[a](docs/a.md#b)", "[a](https://github.com/flame-nerf/flame-nerf/blob/main/docs/a.md#b)"),
        ("![a](docs/a.png)", "![a](https://raw.githubusercontent.com/flame-nerf/flame-nerf/main/docs/a.png)"),
        ('<img width="9" src="a.png">', '<img width="9" src="https://raw.githubusercontent.com/flame-nerf/flame-nerf/main/a.png">'),
        ("[a](#b), [c](https://d.e), [f](mailto:g@h.i)", "[a](#b), [c](https://d.e), [f](mailto:g@h.i)"),
    ],
)  # fmt: skip
def test_links_of_every_kind_are_written_out(written, shown):
    hook = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["metadata"]["hooks"]
    for rule in hook["fancy-pypi-readme"]["substitutions"]:
        written = re.sub(rule["pattern"], rule["replacement"], written)
    assert written == shown


def test_who_made_it_where_it_lives_and_what_it_is(core):
    trove = pytest.importorskip("trove_classifiers", reason="trove-classifiers is not installed")
    assert core.authors == [{"name": "flame-nerf developers"}]
    assert {"Homepage", "Repository", "Issues", "Changelog"} == set(core.urls)
    assert all(url.startswith("https://") for url in core.urls.values())
    assert set(core.classifiers) <= trove.classifiers and len(core.classifiers) > 5
    supported = {name.rsplit(" ", 1)[1] for name in core.classifiers if re.search(r"Python :: 3\.\d+$", name)}
    assert {f"3.{minor}" for minor in range(20) if core.python_constraint.contains(f"3.{minor}.5")} == supported


def test_the_demo_s_clip_can_be_had_by_pip(core):
    """What the demo needs beyond the package is named where pip is."""
    page = (ROOT / "README.md").read_text(encoding="utf-8")
    (line,) = re.findall(r"^pip install \"\.\[([^]]*\bdemo\b[^]]*)\]\"", page, re.MULTILINE)
    assert {"demo", "track"} <= set(line.split(",")) <= set(core.optional_dependencies)
