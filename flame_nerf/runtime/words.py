"""Words of files and folders as a terminal may be given them."""

from __future__ import annotations

import unicodedata

_UNSHOWN = {"Cc", "Cf", "Cs", "Zl", "Zp"}
"""Unicode's kinds of characters that command a terminal, turn its line around, break it, or are no text."""


def printable(text: object) -> str:
    """Text on one line of which nothing commands the terminal: names of files may hold anything.

    Control characters, those that turn the writing around and what is no text are shown as escapes. Joiners stay.
    """
    return "".join(
        one if unicodedata.category(one) not in _UNSHOWN or one in "\u200c\u200d" else _escaped(one)
        for one in str(text)
    )


def escape(text: object) -> str:
    """The same for rich, which takes words in square brackets for its markup."""
    from rich.markup import escape as plain

    return plain(printable(text))


def _escaped(one: str) -> str:
    return one.encode("unicode_escape", errors="surrogatepass").decode("ascii")
