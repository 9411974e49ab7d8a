"""The viewer answers to its own page alone, and gives no other file."""

from __future__ import annotations

import asyncio
import http.client
import socket

import pytest
import viser
import websockets.legacy.client as client
from nerfstudio.configs.base_config import ViewerConfig

from flame_nerf.training.viewer_address import keep_local
from flame_nerf.training.viewer_visitors import refusal

OWN = "127.0.0.1:7007"


@pytest.mark.parametrize(
    "path, hosts, origins, local, answered",
    [
        ("/", [OWN], [], True, True),
        ("/", ["localhost:7007"], ["http://localhost:7007"], True, True),
        ("/", ["localhost:9999"], ["http://localhost:9999"], True, True),  # ssh -L 9999:localhost:7007
        ("/", ["[::1]:7007"], ["http://[::1]:7007"], True, True),
        ("/", ["192.168.1.4:7007"], ["http://192.168.1.4:7007"], False, True),
        ("/", ["x.share.viser.studio"], ["https://x.share.viser.studio"], False, True),
        ("/", [OWN], ["http://evil.example"], True, False),
        ("/", [OWN], ["http://localhost:7007"], True, False),
        ("/", [OWN], ["http://127.0.0.1:8000"], True, False),
        ("/", [OWN], ["null"], True, False),
        ("/", [OWN], ["file://"], False, False),
        ("/", ["evil.example:7007"], ["http://evil.example:7007"], True, False),
        ("/", ["127.0.0.1.evil.example"], [], True, False),
        ("/", ["localhost.evil.example:7007"], [], True, False),
        ("/", ["["], [], True, False),
        ("/", [""], [], True, False),
        ("/", [], [], True, False),
        ("/", [OWN, OWN], [], True, False),
        ("/../../etc/passwd", [OWN], [], True, False),
        ("/a/..", [OWN], [], False, False),
        ("/a..b?x=../", [OWN], [], True, True),
    ],
)
def test_who_is_answered(path, hosts, origins, local, answered):
    assert (refusal(path, hosts, origins, local) is None) == answered


def asked(port: int, path: str, host: str | None = None) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.putrequest("GET", path, skip_host=host is not None)
    if host is not None:
        connection.putheader("Host", host)
    connection.endheaders()
    answer = connection.getresponse()
    return answer.status, answer.read()


def test_a_viewer_of_this_process_is_guarded():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    # Twice, as each config of a process does.
    keep_local(ViewerConfig(websocket_host="127.0.0.1"))
    keep_local(ViewerConfig(websocket_host="127.0.0.1"))
    server = viser.ViserServer(host="127.0.0.1", port=port, verbose=False)
    try:
        port = server.get_port()
        assert asked(port, "/")[0] == 200
        status, said = asked(port, "/../../../../../../../../../../etc/passwd")
        assert status == 403 and b"root:" not in said
        assert asked(port, "/", "evil.example:7007")[0] == 403

        async def joins(origin: str | None) -> bool:
            try:
                async with client.connect(f"ws://127.0.0.1:{port}", origin=origin, open_timeout=10):
                    return True
            except client.InvalidStatusCode as refused:
                assert refused.status_code == 403
                return False

        assert asyncio.run(joins(f"http://127.0.0.1:{port}")) and asyncio.run(joins(None))
        assert not asyncio.run(joins("http://evil.example"))
    finally:
        server.stop()
