"""Every command that the pages print, given as they print it from a folder with a space and an umlaut in its name."""

from __future__ import annotations

import functools
import importlib.util
import os
import pkgutil
import re
import shlex
import shutil
import socket
import sys
import time
import urllib.request
from importlib.metadata import entry_points
from pathlib import Path

import commands
import pytest
from readme_lines import ROOT, commands_of, printed_lines, words_of
from readme_table import COMMANDS, Installs, Parses, Runs, Serves
from trained_run import trained_folder  # noqa: F401

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

FOLDER = "Köpfe und mehr"
PATIENCE = 300.0
"""Seconds to wait for anything: a busy machine is not a failure."""
LINES = {line.text: line for line in printed_lines()}


def _marked(kind: type) -> list:
    """The printed commands that the table deals with in one way; those that take their time are marked slow."""
    chosen = [text for text in LINES if isinstance(COMMANDS.get(text), kind)]
    quick = {text for text in chosen if getattr(COMMANDS[text], "fast", kind is Installs)}
    return [pytest.param(text, marks=() if text in quick else pytest.mark.slow, id=text) for text in chosen]


def test_every_command_is_known_and_none_has_gone():
    unknown = [f"{line.page}: {text}" for text, line in LINES.items() if text not in COMMANDS]
    assert not unknown, (
        "tests/pages/readme_table.py says nothing of\n  "
        + "\n  ".join(unknown)
        + ("\nGive each an entry in COMMANDS, under just that text; the top of the file says how.")
    )
    gone = [text for text in COMMANDS if text not in LINES]
    assert not gone, "no page prints these; take them out of tests/pages/readme_table.py:\n  " + "\n  ".join(gone)


def test_commands_are_found_wherever_a_page_prints_them():
    page = (
        "Run `flame-nerf\ndemo` with `--video`, or `flame-nerf` alone; `export` is none, "
        "`flame-nerf-data export insta|vhap A B` is two.\n\n"
        "```bash\n# a comment\nns-eval --load-config a#b.yml   # here\nns-render dataset \\\n    --x 1\n\n```\n"
        "```json\npip install no\n```\n  ```console\n  $ uv run x && pip list\n  ```\n"
        "| `ns-train a` | `pip install b; pip check` |\n"
    )
    assert sorted(commands_of(page)) == sorted([
        "flame-nerf demo", "flame-nerf-data export insta A B", "flame-nerf-data export vhap A B",
        "ns-eval --load-config a#b.yml", "ns-render dataset --x 1", "uv run x && pip list", "ns-train a",
        "pip install b; pip check",
    ])  # fmt: skip
    assert words_of('pip install ".[a b]"; x && y') == [["pip", "install", ".[a b]"], ["x"], ["y"]]


@pytest.fixture(autouse=True)
def settings(tmp_path, monkeypatch):
    """Nothing outside of the test's folder is read or written."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "settings"))
    for name, value in commands.QUIET.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """A fresh working directory."""
    (tmp_path / FOLDER).mkdir()
    monkeypatch.chdir(tmp_path / FOLDER)
    return tmp_path / FOLDER


@pytest.fixture(scope="module")
def avatar(trained_folder, tmp_path_factory) -> Path:  # noqa: F811
    """A working directory with `subject/` and an avatar of it in `outputs/`, trained for some steps from there."""
    return Path(shutil.copytree(trained_folder, tmp_path_factory.mktemp("avatar") / FOLDER))


@pytest.mark.parametrize("text", _marked(Runs))
def test_runs(text, folder, request, monkeypatch, capfd):
    recipe = COMMANDS[text]
    if recipe.needs:
        pytest.importorskip(recipe.needs, reason=f"{recipe.needs} is not installed")
    place = request.getfixturevalue("avatar") if recipe.avatar else folder
    monkeypatch.chdir(place)
    for name, make in recipe.inputs.items():
        make(place / name)
    for command in _ours(text):
        words = [_found(recipe.instead.get(word, word), place) for word in command] + shlex.split(recipe.extra)
        said = _process(words, place) if recipe.process else _here(words, monkeypatch, capfd)
        _can_be_pasted(said, place)
    for pattern in recipe.makes:
        files = [path for path in place.glob(pattern) if path.is_file()]
        assert files, f"{pattern} is not there; there are {sorted(map(str, place.rglob('*')))[:40]}"
        assert all(path.stat().st_size for path in files)


@pytest.mark.parametrize("text", _marked(Parses))
def test_parses(text, folder, monkeypatch, capfd):
    target, called = COMMANDS[text].stops_at, []
    real = pkgutil.resolve_name(target)

    @functools.wraps(real)
    def noted(*given, **named):
        called.append((given, named))

    monkeypatch.setattr(target, noted)
    for command in _ours(text):
        _here(command, monkeypatch, capfd)
    assert len(called) == 1, f"{text} does not come to {target}"


@pytest.mark.parametrize("text", _marked(Installs))
def test_what_is_installed_exists(text):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    extras, groups = set(project["project"]["optional-dependencies"]), set(project["dependency-groups"])
    named = [name for match in re.findall(r"\.\[([^]]+)\]", text) for name in match.split(",")]
    named += re.findall(r"--extra (\S+)", text)
    assert set(named) <= extras, f"{text}: pyproject.toml has no such extra"
    assert set(re.findall(r"--group (\S+)", text)) <= groups, f"{text}: pyproject.toml has no such group"
    for module in re.findall(r"python -m (\S+)", text):
        assert importlib.util.find_spec(module), f"{text}: there is no such module"


@pytest.mark.parametrize("text", _marked(Serves))
def test_serves(text, avatar):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    for name, make in COMMANDS[text].inputs.items():
        make(avatar / name)
    (command,) = _ours(text)
    words = [_found(word, avatar) for word in command]
    log = avatar / "viewer.log"
    with log.open("w") as stream:
        options = ["--viewer.websocket-port", port]
        viewer = commands.start([*words, *options], stream.fileno(), stream.fileno(), cwd=avatar)
    try:
        deadline = time.monotonic() + PATIENCE
        while True:
            assert viewer.poll() is None and time.monotonic() < deadline, log.read_text()[-3000:]
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}", timeout=5) as answer:
                    assert answer.status == 200 and b"<html" in answer.read()
                    break
            except OSError:
                time.sleep(0.3)
    finally:
        viewer.kill()
        viewer.wait()


def test_the_options_that_the_page_praises_are_there(folder, monkeypatch, capfd):
    """The table of `ns-train` options: all given at once, a name without a value looked up."""
    page = (ROOT / "docs/training.md").read_text(encoding="utf-8")
    rows = re.search(r"^\| option of `ns-train`.*?\n\n", page, re.MULTILINE | re.DOTALL)[0].split("\n")[2:-2]
    assert len(rows) > 5
    options = [span for row in rows for span in re.findall(r"`([^`]+)`", row.split("|")[1])]
    given, named = [], []
    for option in options:
        start = option if option.startswith("--") else named[-1].rsplit(".", 1)[0] + option
        (given if " " in option else named).append(start)
    monkeypatch.setattr("nerfstudio.scripts.train.main", lambda config: found.append(config))
    found: list = []
    Path("outputs/x/nerfstudio_models").mkdir(parents=True)
    words = " ".join(given).replace("…", "x").replace(" N", " 9").split()
    _here(["ns-train", "flame-nerf-cpu", *words], monkeypatch, capfd)
    for name in named:
        inside = found[0]
        for part in name.removeprefix("--").replace("-", "_").split("."):
            assert hasattr(inside, part), f"{name}: ns-train has no such option"
            inside = getattr(inside, part)


def _ours(text: str) -> list[list[str]]:
    """The commands of a line that are this environment's: `uv run` is left away, as is what installs."""
    commands = [words[2:] if words[:2] == ["uv", "run"] else words for words in words_of(text)]
    return [words for words in commands if words[0] != "pip"]


def _found(word: str, place: Path) -> str:
    """A word of a command, with the folder that `…` or `<time>` stands for."""
    if "…" not in word and "<time>" not in word:
        return word
    (path,) = place.glob(word.replace("…", "**").replace("<time>", "*"))
    return str(path.relative_to(place))


def _can_be_pasted(said: str, place: Path) -> None:
    """What a command says is next can be given as it is printed: its folders are there, spaces and all."""
    for line in re.findall(r"^Next +(.*)", said, re.MULTILINE):
        paths = [place / word for word in shlex.split(line) if os.sep in word]
        assert all(path.parent.is_dir() for path in paths), line
        data = re.search(r"--data (.*)$", line)
        assert data is None or (place / shlex.split(data[1])[0]).is_dir(), line


def _process(words: list[str], place: Path) -> str:
    done = commands.run(*words, cwd=place, timeout=PATIENCE)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "Traceback" not in done.stderr, done.stderr[-3000:]
    return done.stdout


def _here(words: list[str], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> str:
    """Call a command's entry point in this process, which saves the seconds that the imports take.

    Returns:
        What it said.
    """
    capfd.readouterr()
    (script,) = entry_points(group="console_scripts", name=words[0])
    main = script.load()
    with monkeypatch.context() as patch:
        patch.setattr(sys, "argv", words)
        if "nerfstudio.utils.writer" in sys.modules:
            # It keeps an earlier training's log writers for as long as the process lives.
            patch.setattr("nerfstudio.utils.writer.EVENT_WRITERS", [])
        try:
            status = main()
        except SystemExit as end:
            status = end.code
    said = capfd.readouterr()
    told = said.out[-3000:] + said.err[-3000:]
    assert status in (None, 0), f"{shlex.join(words)} ended with {status}:\n{told}"
    return said.out
