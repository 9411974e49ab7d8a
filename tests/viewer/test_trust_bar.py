"""The bar of trust on the page: it follows the face and each browser's own camera."""

import time
from types import SimpleNamespace

import numpy as np
import pytest
from panel_stand_ins import install, move
from synthetic import look_at_origin
from synthetic_head import make_head, make_track

from flame_nerf.motion import SubjectMotion, face_moves
from flame_nerf.render.observed.trust_map import GOOD, MARK, TrustMap
from flame_nerf.viewer.trust_bar import COLOURS, EVERY

SCALE = 10.0
"""The page's units a metre."""


@pytest.fixture(scope="module")
def avatar():
    head = make_head(turning_jaw=True)
    return SubjectMotion(make_track(head, head), head)


class Camera(SimpleNamespace):
    """A browser's camera, which says when it was moved."""

    def on_update(self, callback):
        self.callbacks.append(callback)

    def stand(self, yaw):
        self.position = SCALE * look_at_origin(yaw, 0.0)[:3, 3]
        for callback in self.callbacks:
            callback(self)


def known(avatar):
    filmed = avatar.conditions.numpy()
    cameras = np.stack([look_at_origin(yaw, 0.0) for yaw in np.linspace(-0.2, 0.2, len(filmed))])
    cameras[:, :3, 3] += avatar.centre.numpy()
    return TrustMap(filmed, cameras, avatar.centre.numpy(), avatar.condition_names, moves=face_moves(avatar))


def opened(server, avatar, count=1):
    _, panel, _ = install(server, avatar, trust_map=lambda: known(avatar))
    cameras = [Camera(position=SCALE * look_at_origin(-0.2, 0.0)[:3, 3], callbacks=[]) for _ in range(count)]
    for number, camera in enumerate(cameras):
        panel.trust.greet(SimpleNamespace(client_id=number, gui=server.gui, camera=camera))
    return panel, cameras


def shown(bar) -> tuple[str, float]:
    (visible,) = [index for index, handle in enumerate(bar.bars) if handle.visible]
    return COLOURS[visible], bar.bars[visible].value


def until(condition):
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_the_bar_follows_the_camera_and_the_face(server, avatar):
    panel, (camera,) = opened(server, avatar)
    bar = panel.trust.bars[0]
    assert shown(bar) == ("green", 100) and bar.words.content.startswith("**Trust 1.00**")
    lines = bar.words.content.count("\n")
    camera.stand(1.2)
    until(lambda: shown(bar)[0] == "red")
    assert "to the person's left" in bar.words.content and shown(bar)[1] < 100 * MARK
    # It wraps: what stands below stays where it is.
    assert bar.words.content.count("\n") == lines - 1
    camera.stand(-0.2)
    until(lambda: shown(bar) == ("green", 100))
    move(panel.face.sliders["jawOpen"], 1.0)
    until(lambda: "Trust 1.00" not in bar.words.content)
    # A head that is turned on its neck is seen from its side.
    move(panel.face.sliders["head turn"], 40.0)
    until(lambda: "to the person's right" in bar.words.content)
    panel.trust.leave(0)
    camera.stand(0.0)
    assert panel.trust.bars == {}


def test_each_browser_has_the_bar_of_its_own_camera(server, avatar):
    panel, (_, other) = opened(server, avatar, 2)
    other.stand(1.5)
    until(lambda: shown(panel.trust.bars[1])[0] == "red")
    assert shown(panel.trust.bars[0])[0] == "green"


def test_a_camera_that_is_dragged_is_followed_now_and_then_and_to_the_end(server, avatar):
    panel, (camera,) = opened(server, avatar)
    bar, asked = panel.trust.bars[0], []
    show = bar.show
    bar.show = lambda trust: (asked.append(trust.value), show(trust))
    began = time.monotonic()
    for yaw in np.linspace(0.2, 0.9, 300):
        camera.stand(yaw)
    took = time.monotonic() - began
    last = known(avatar).at(avatar.at_timestep(0), look_at_origin(0.9, 0.0)[:3, 3]).value
    until(lambda: asked and asked[-1] == pytest.approx(last))
    assert len(asked) <= 2 + took / EVERY


def test_an_avatar_of_which_no_camera_is_known_says_so(server, avatar):
    before = set(server.gui._gui_input_handle_from_id)
    _, panel, _ = install(server, avatar)
    assert panel.trust.why_none == "no training camera is known" and panel.player is not None
    panel.trust.greet(SimpleNamespace(client_id=0, gui=server.gui, camera=None))
    assert panel.trust.bars == {} and set(server.gui._gui_input_handle_from_id) != before
    assert GOOD > MARK
