"""Live Link Face's packets over loopback, and what they make an avatar's page show. The layout is written by hand."""

import re
import socket
import struct
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import viser
from live_link_take import COLUMNS
from panel_stand_ins import install
from synthetic_head import make_head, make_track

from flame_nerf.motion import SubjectMotion
from flame_nerf.runtime.errors import UserError
from flame_nerf.viewer.live.driving import LIVE, LiveDriver
from flame_nerf.viewer.live.udp import LiveLinkReceiver

# The network's order: left before right in jaw and mouth, unlike the app's files.
ORDER = list(COLUMNS)
for one, other in (("JawRight", "JawLeft"), ("MouthRight", "MouthLeft")):
    here, there = ORDER.index(one), ORDER.index(other)
    ORDER[here], ORDER[there] = other, one


def packet(device="7A1B", subject="phone", frame=1, version=6, count=61, **values):
    row = [values.get(name, 0.0) for name in ORDER][:count]
    text = b"".join(struct.pack(">i", len(word)) + word.encode() for word in (device, subject))
    time_of = struct.pack(">ifii", frame, 0.25, 60, 1)
    return struct.pack("B", version) + text + time_of + struct.pack("B", count) + struct.pack(f">{count}f", *row)


@pytest.fixture
def receiver():
    receiver = LiveLinkReceiver(0)
    yield receiver
    receiver.close()


@pytest.fixture
def send(receiver):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as phone:
        yield lambda data: phone.sendto(data, ("127.0.0.1", receiver.port))


def until(condition, seconds=5.0):
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.005)
    assert condition()


def test_a_packet_is_read_by_the_network_s_order(receiver, send):
    assert "Waiting" in receiver.status()
    send(packet(JawOpen=0.5, JawLeft=0.25, MouthRight=0.75, TongueOut=1.0, HeadYaw=0.5, LeftEyePitch=0.25))
    moment = receiver.newest(5)
    named = {name: value for name, value in moment.expression.items() if value}
    assert named == {"jawOpen": 0.5, "jawLeft": 0.25, "mouthRight": 0.75, "tongueOut": 1.0}
    # Yaw turns the face to the person's right, which is -x; pitch lowers it.
    np.testing.assert_allclose(moment.head_turn @ [0, 0, 1], [-np.sin(0.5), 0, np.cos(0.5)], atol=1e-6)
    np.testing.assert_allclose(moment.eyes["left_eye"], [0.25, 0, 0], atol=1e-6)
    assert receiver.newest(0) is None and "phone" in receiver.status()


def test_a_sender_s_name_is_no_page_s_text(receiver, send):
    send(packet(subject="![p](http://h/p.png)<img src=x>{a}&lt;\n# b\x1b"))
    assert receiver.newest(5) is not None
    shown = receiver.status()
    # Nothing of it is left that Markdown, HTML or a terminal would take for more than letters.
    assert not re.search(r"(?<!\\)[\[\]<>{}#&`]|[\n\x1b]", shown) and "http://h/p.png" in shown


def test_what_is_no_packet_is_dropped_and_counted(receiver, send):
    good = packet(JawOpen=0.5)
    wrong = [b"", b"\x06", good[:-1], good[:30], good + b"\0", packet(version=5), packet(count=52), b"\xff" * 300,
             packet(JawOpen=float("nan")), packet(HeadYaw=1e9), b"\x06" + struct.pack(">i", -4) + good[5:]]  # fmt: skip
    for data in wrong:
        send(data)
    until(lambda: receiver.dropped == len(wrong))
    assert receiver.newest(0) is None and f"{len(wrong)} packets" in receiver.status()
    send(good)
    assert receiver.newest(5).expression["jawOpen"] == 0.5


def test_the_newest_wins_the_first_sender_is_followed_and_a_face_away_is_said(receiver, send):
    for number in range(120):
        send(packet(frame=number, JawOpen=number / 128))
    send(packet(device="other", JawOpen=1.0))
    send(packet(count=0))
    until(lambda: receiver.others == 1 and "Face away" in receiver.status())
    assert receiver.newest(1).expression["jawOpen"] == 119 / 128
    assert "another sender" in receiver.status()


def test_another_machine_under_the_same_names_is_not_followed(receiver, send):
    send(packet(JawOpen=0.5))
    assert receiver.newest(5) is not None
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.9", 0))
        other.sendto(packet(JawOpen=1.0), ("127.0.0.1", receiver.port))
        until(lambda: receiver.others == 1)
    assert receiver.newest(0) is None


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="asks Linux how much memory it has")
def test_floods_of_the_largest_packets_leave_no_memory_behind(receiver, send):
    def held() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

    send(bytes(65507))
    until(lambda: receiver.dropped == 1)
    before = held()
    for _ in range(2000):
        send(bytes(65507))
    # What came faster than it is read is lost.
    time.sleep(0.5)
    send(packet(JawOpen=0.25))
    assert receiver.newest(5).expression["jawOpen"] == 0.25
    assert held() - before < 20e6


@pytest.mark.parametrize("per_second", [5, 120])
def test_slow_and_fast_senders_are_followed_at_their_rate(receiver, send, monkeypatch, per_second):
    clock = SimpleNamespace(now=50.0)
    monkeypatch.setattr(
        "flame_nerf.viewer.live.udp.time", SimpleNamespace(monotonic=lambda: clock.now, sleep=time.sleep)
    )
    for number in range(1, 13):
        clock.now += 1 / per_second
        send(packet(frame=number, JawOpen=number / 16))
        assert receiver.newest(5).expression["jawOpen"] == number / 16
    assert f"{per_second} packets a second" in receiver.status() and receiver.newest(0) is None
    clock.now += 4.0
    assert "the last face is held" in receiver.status()


def test_it_listens_on_this_machine_alone_and_says_when_it_cannot(receiver):
    assert receiver.address == "127.0.0.1"
    with pytest.raises(UserError, match=f"--udp-port {receiver.port} .*give another"):
        LiveLinkReceiver(receiver.port)


def test_packets_move_the_avatar_on_the_page(receiver, send):
    head = make_head(turning_jaw=True)
    motion = SubjectMotion(make_track(head, head), head)
    server = viser.ViserServer(host="127.0.0.1", port=0, verbose=False)
    try:
        model, panel, _ = install(server, motion)
        driver = LiveDriver(panel, receiver)

        def shown(**values):
            send(packet(**values))
            driver.show(receiver.newest(5))
            return model.override

        rest = shown()
        assert panel.stage.source == LIVE == panel.player.source.value
        open_mouth, turned = shown(JawOpen=0.4), shown(HeadYaw=0.4)
        names = list(motion.condition_names)
        row = next(index for index, name in enumerate(names) if "jawOpen" in name)
        assert float(open_mouth.condition[row] - rest.condition[row]) == pytest.approx(0.4, abs=1e-5)
        # The whole head turns by the yaw: what an edge of the mesh does.
        edge = rest.vertices[10] - rest.vertices[0]
        expected = torch.tensor([[np.cos(0.4), 0, -np.sin(0.4)], [0, 1, 0], [np.sin(0.4), 0, np.cos(0.4)]]).float()
        torch.testing.assert_close(turned.vertices[10] - turned.vertices[0], expected @ edge, atol=1e-5, rtol=0)
        # While a picture is drawn, a take hears of every face, and the picture gets the last one.
        viewer = panel.viewer
        viewer.render_statemachines[0] = object()
        shown(JawOpen=0.1)
        assert model.override is turned
        shown(JawOpen=0.2)
        panel.bring()
        assert float(model.override.condition[row] - rest.condition[row]) == pytest.approx(0.2, abs=1e-5)
        panel.motions.start()
        for value in (0.1, 0.3, 0.2):
            shown(JawOpen=value)
            time.sleep(0.04)
        panel.motions.finish()
        jaw = panel.stage.motions[panel.stage.source].column("jawOpen")
        assert np.ptp(jaw) == pytest.approx(0.2, abs=1e-5)
        viewer.render_statemachines.clear()
        panel.stage.go("video", 3)
        assert torch.equal(shown(JawOpen=1.0).vertices, motion.at_timestep(3).vertices), "who looks elsewhere stays"
        assert driver.shown == 9 and 0 < driver.latency < 1
    finally:
        server.stop()


def test_an_error_while_driving_is_said_on_the_page():
    class Broken:
        closed = False

        def newest(self, timeout):
            raise RuntimeError("the phone melted")

        def status(self):
            return "fine"

        def close(self):
            self.closed = True

    line, phone = SimpleNamespace(content=""), Broken()
    server = SimpleNamespace(gui=SimpleNamespace(add_markdown=lambda text, order: line))
    panel = SimpleNamespace(
        stage=SimpleNamespace(avatar=None), player=SimpleNamespace(), viser_server=server, motions=None
    )
    with pytest.raises(RuntimeError):
        LiveDriver(panel, phone).run()
    assert "ended" in line.content and "the phone melted" in line.content and phone.closed
