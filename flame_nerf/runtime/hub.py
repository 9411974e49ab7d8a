"""Can a file be had from the model hub? Asked before anything is tried, so that nobody waits for timeouts."""

from __future__ import annotations

import os
import threading
import urllib.error
import urllib.request
from collections.abc import Iterable

DEFAULT_HUB = "https://huggingface.co"
OFFLINE_VARIABLES = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
PATIENCE_S = 4.0
"""Seconds the hub has to answer."""


def why_unavailable(repository: str, filenames: Iterable[str]) -> str | None:
    """Why none of a repository's files can be had, or None if one is cached or the hub answers.

    Args:
        repository: owner/name on the hub.
        filenames: alternatives, any of which will do.
    """
    if _cached(repository, filenames):
        return None
    offline = [name for name in OFFLINE_VARIABLES if os.environ.get(name, "").upper() in ("1", "ON", "YES", "TRUE")]
    if offline:
        return f"{repository} is not in the local cache, and {offline[0]} is set"
    hub = os.environ.get("HF_ENDPOINT", DEFAULT_HUB)
    if not answers(hub):
        return f"{repository} is not in the local cache, and {hub} cannot be reached"
    return None


def _cached(repository: str, filenames: Iterable[str]) -> bool:
    from huggingface_hub import try_to_load_from_cache

    return any(isinstance(try_to_load_from_cache(repository, name), str) for name in filenames)


def answers(url: str) -> bool:
    """Whether anything at an address answers within `PATIENCE_S`, be it with an error."""
    found: list[bool] = []

    def ask() -> None:
        try:
            urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=PATIENCE_S).close()
            found.append(True)
        except urllib.error.HTTPError:
            found.append(True)
        except (OSError, ValueError):
            found.append(False)

    # In a thread of its own: looking up a host's name has no timeout that could be set.
    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(PATIENCE_S)
    return bool(found) and found[0]
