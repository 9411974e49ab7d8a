"""What names of strangers' files may do to a terminal: nothing."""

import io
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from data_tools.runs.errors import run_command
from flame_nerf.runtime.words import escape, printable

WILD = st.text(st.characters(exclude_categories=()), max_size=30)


@given(WILD)
def test_nothing_commands_the_terminal_and_one_line_stays_one(text):
    shown = printable(text)
    assert len(shown.encode().decode().splitlines()) <= 1
    assert not re.search("[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", shown)


@given(WILD)
def test_square_brackets_are_words_and_no_markup(text):
    out = io.StringIO()
    Console(file=out, soft_wrap=True, highlight=False, emoji=False).print(f"{escape(text)}.", end="")
    assert out.getvalue().removesuffix(".") == printable(text)


def test_plain_words_of_all_scripts_stay():
    for text in ("me.mp4", "café", "日本語", "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645", "[/bold]", "a b"):
        assert printable(text) == text
    assert printable("a\nb\x1b[31m\u202ec\udcff") == "a\\nb\\x1b[31m\\u202ec\\udcff"


@pytest.mark.parametrize("name", ["\x1b]0;title\x07", "[/red]", "two\nlines"])
def test_errors_of_commands_are_one_plain_line(capsys, name):
    def fail() -> None:
        raise ValueError(f"{name}: no such file")

    assert run_command(fail, ValueError) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line == f"Error: {printable(name)}: no such file"
