"""Nerfstudio's own render state machine, fitted: what is rendered when, and what a picture shows."""

import threading
import time
from types import SimpleNamespace

import pytest
import torch
from nerfstudio.viewer.render_state_machine import RenderAction, RenderStateMachine
from nerfstudio.viewer_legacy.server.viewer_utils import SetTrace
from panel_stand_ins import install
from synthetic_head import make_head, make_track

from flame_nerf.motion import SubjectMotion
from flame_nerf.render.antialias import outline_pixels
from flame_nerf.viewer.prompt import prompt_pictures


class Browser:
    """A state machine that draws nothing, in calls of the package's rendering; sharp pictures as long as told."""

    def __init__(self):
        client = SimpleNamespace(flush=lambda: self.sent.append("now"))
        viewer = SimpleNamespace(ready=True, get_camera_state=lambda client: None)
        self.machine = RenderStateMachine(viewer, 10.0, client)
        self.begun, self.done, self.sent = [], [], []
        self.sharp_seconds, self.faces = 0.0, iter(range(1000))
        self.machine._render_img = self.render
        self.machine._send_output_to_viewer = lambda outputs, static_render: self.sent.append(outputs)
        prompt_pictures(self.machine, lambda: self.begun.append([next(self.faces)]))

    def render(self, camera_state):
        state = self.machine.state
        self.begun[-1].append(state)
        end = time.monotonic() + (self.sharp_seconds if state == "high" else 0.0)
        with SetTrace(self.machine.check_interrupt):
            outline_pixels(torch.zeros(3, 3))
            while time.monotonic() < end:
                outline_pixels(torch.zeros(3, 3))
        self.done.append(state)
        return {"of": state}

    def move(self):
        self.machine.action(RenderAction("move", None))

    def until(self, condition, seconds=10.0):
        end = time.monotonic() + seconds
        while not condition() and time.monotonic() < end:
            time.sleep(0.005)
        assert condition(), (self.begun, self.done)


@pytest.fixture
def browser():
    browser = Browser()
    browser.machine.start()
    yield browser
    browser.machine.running = False
    browser.machine.join(10)


def test_a_change_is_drawn_at_once_and_then_sharp(browser):
    browser.move()
    browser.until(lambda: len(browser.done) == 2)
    assert browser.done == ["low_move", "high"], "no second small picture before the sharp one"
    # It rests: Nerfstudio takes the next change for an order to break off a picture that is long there.
    browser.move()
    browser.until(lambda: len(browser.done) == 4)
    assert browser.done == 2 * ["low_move", "high"] and len(browser.begun) == 4, "nothing was begun in vain"
    assert browser.sent == [{"of": "low_move"}, "now", {"of": "high"}, "now"] * 2
    assert [face for face, _ in browser.begun] == [0, 1, 2, 3], "each picture asks for the newest face"


def test_a_sharp_picture_gives_way_to_a_change(browser):
    browser.sharp_seconds = 60.0
    browser.move()
    browser.until(lambda: [state for _, state in browser.begun] == ["low_move", "high"])
    browser.sharp_seconds = 0.0
    began = time.monotonic()
    browser.move()
    browser.until(lambda: len(browser.done) == 3)
    assert browser.done == ["low_move", "low_move", "high"] and time.monotonic() - began < 10


def test_it_is_broken_off_in_rendering_alone(browser):
    browser.machine.interrupt_render_flag = True
    for module, name in (("threading", "wait"), ("flame_nerf.kernels.cpu.threads", "_run"), ("flame_nerf.field", "f")):
        frame = SimpleNamespace(f_code=SimpleNamespace(co_name=name), f_globals={"__name__": module})
        assert browser.machine.check_interrupt(frame, "call", None) is None
    imported = SimpleNamespace(
        f_code=SimpleNamespace(co_name="<module>"), f_globals={"__name__": "flame_nerf.render.x"}
    )
    assert browser.machine.check_interrupt(imported, "call", None) is None and browser.machine.interrupt_render_flag


def test_of_faces_between_two_pictures_the_newest_alone_is_posed(server):
    head = make_head(turning_jaw=True)
    motion = SubjectMotion(make_track(head, head), head)
    model, panel, viewer = install(server, motion)
    before, asked = model.override, viewer.renders
    viewer.render_statemachines[0] = object()
    for frame in (1, 2, 3):
        panel.stage.go("video", frame)
    assert model.override is before and viewer.renders == asked + 3
    pictures = [threading.Thread(target=panel.bring) for _ in range(2)]
    for picture in pictures:
        picture.start()
    for picture in pictures:
        picture.join()
    assert torch.equal(model.override.vertices, motion.at_timestep(3).vertices)
    shown = model.override
    panel.bring()
    assert model.override is shown, "it is posed once"
