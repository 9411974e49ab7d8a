"""The commands that the project's pages print, taken out of their Markdown."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PROGRAMS = re.compile(r"(flame-nerf(-data)?|ns-[a-z-]+|uvx?|pip3?|python3?)$")
"""First words by which a line of code is a command."""
SHELLS = ("", "bash", "sh", "shell", "console")
"""Languages of a fenced block whose lines are looked at."""


@dataclass(frozen=True)
class Line:
    """A command as a page prints it, without its comment, on one line."""

    page: str
    text: str


def pages() -> list[Path]:
    """The pages whose commands a user is told to give."""
    named = ("README.md", "CONTRIBUTING.md", "data_tools/animal/README.md")
    return [*(ROOT / name for name in named), *sorted((ROOT / "docs").rglob("*.md"))]


def printed_lines() -> list[Line]:
    """Every command of every page once, in the order of reading."""
    found = {}
    for page in pages():
        for text in commands_of(page.read_text(encoding="utf-8")):
            found.setdefault(text, Line(page.relative_to(ROOT).as_posix(), text))
    return list(found.values())


def commands_of(markdown: str) -> list[str]:
    """Commands in fenced blocks and in inline code, `a|b` written out as two."""
    fence = re.compile(r"^([ ]*)```([a-z0-9]*)[^\n]*\n(.*?)^[ ]*```[ ]*$", re.MULTILINE | re.DOTALL)
    found = []
    for language, block in [(match[2], match[3]) for match in fence.finditer(markdown)]:
        if language in SHELLS:
            found += [_without_comment(line) for line in block.replace("\\\n", " ").splitlines()]
    spans = re.findall(r"(?<!`)`([^`]+)`(?!`)", fence.sub("", markdown))
    found += [span.replace(r"\|", "|") for span in spans]
    lines = [" ".join(line.removeprefix("$ ").split()) for line in found]
    return [each for line in lines if _is_command(line) for each in _alternatives(line)]


def words_of(line: str) -> list[list[str]]:
    """The words of each command of a line that joins several by `&&` or `;`."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=";&")
    lexer.whitespace_split, lexer.commenters = True, ""
    commands: list[list[str]] = [[]]
    for word in lexer:
        if word in ("&&", ";"):
            commands.append([])
        else:
            commands[-1].append(word)
    return commands


def _without_comment(line: str) -> str:
    return re.sub(r"(^|\s)#.*$", "", line).strip()


def _is_command(line: str) -> bool:
    # A program's name alone is a mention of it.
    first, _, rest = line.partition(" ")
    return bool(PROGRAMS.match(first) and rest)


def _alternatives(line: str) -> list[str]:
    choice = re.search(r"(?<=\s)[\w-]+(\|[\w-]+)+(?=\s|$)", line)
    if choice is None:
        return [line]
    return [
        each
        for word in choice[0].split("|")
        for each in _alternatives(line[: choice.start()] + word + line[choice.end() :])
    ]
