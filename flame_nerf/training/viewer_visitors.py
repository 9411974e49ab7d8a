"""Whose requests the viewer answers: its own page's.

viser asks nobody where they come from. Any page that is open in a browser on this machine could connect to the viewer
behind its user's back, see the head and write films; and a path with `..` in it had the server hand out any file that
its user can read.
"""

from __future__ import annotations

import http
import re
from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

HERE = ("127.0.0.1", "localhost", "::1")
"""Addresses by which a viewer is for this machine alone."""
_THIS_MACHINE = re.compile(r"localhost|.+\.localhost|127(\.\d{1,3}){3}|::1")
_AS_NAMED = "Open the viewer at the address that the terminal names (http://127.0.0.1:PORT or http://localhost:PORT)."


def guard_viewer(shared: bool) -> None:
    """Have viser's servers of this process look at every request before they answer it.

    Args:
        shared: a public address is asked for (`--viewer.make-share-url`), by which visitors come to a server that
            listens on this machine alone.
    """
    from viser.infra import _infra

    serve = getattr(_infra.websockets.server.serve, "unguarded", _infra.websockets.server.serve)

    def guarded(handler: Any, host: str, port: int, process_request: Any = None, **options: Any) -> Any:
        local = host in HERE and not shared
        return serve(handler, host, port, process_request=partial(_answer, process_request, local), **options)

    guarded.unguarded = serve  # type: ignore[attr-defined]
    whole = _infra.websockets
    # For viser alone: other servers of the process are not ours to guard.
    _infra.websockets = _With(whole, server=SimpleNamespace(serve=guarded))


class _With:
    """A module with some of its names replaced."""

    def __init__(self, module: Any, **names: Any) -> None:
        self._module = module
        vars(self).update(names)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._module, name)


async def _answer(usual: Callable[[str, Any], Any] | None, local: bool, path: str, headers: Any) -> Any:
    """The server's own answer to a request, or a refusal: status, headers and words."""
    why = refusal(path, headers.get_all("Host"), headers.get_all("Origin"), local)
    if why is not None:
        return http.HTTPStatus.FORBIDDEN, {"Content-Type": "text/plain; charset=utf-8"}, f"{why}\n".encode()
    return None if usual is None else await usual(path, headers)


def refusal(path: str, hosts: list[str], origins: list[str], local: bool) -> str | None:
    """Why a request is not answered; None: it is.

    Args:
        path: what is asked for.
        hosts: the request's Host headers: the name by which the server was addressed.
        origins: its Origin headers: the page that asks. Programs that are no browser give none.
        local: the server is for this machine alone. A name that somebody else lets point here is refused then.
    """
    if ".." in re.split(r"[/\\]", path.partition("?")[0]):
        return "The viewer gives its own page, and no other file."
    if len(hosts) != 1 or len(origins) > 1:
        return "A request names one host, and one page that it comes from."
    if local and not _THIS_MACHINE.fullmatch(_name(hosts[0])):
        return f"The viewer is for this machine alone. {_AS_NAMED}"
    if origins and urlsplit(origins[0]).netloc.lower() != hosts[0].lower():
        return f"The viewer answers to its own page alone. {_AS_NAMED}"
    return None


def _name(host: str) -> str:
    """A host without its port."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""
