"""One HTML file of an avatar: what is in it, what it refuses, and that it shows the head in a real browser, offline."""

import base64
import dataclasses
import io
import json
import re
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from avatar_fixtures import config_path, packed, project  # noqa: F401
from browsers import PATIENCE, start_browser
from flame_like import head_from_arrays, make_flame_like
from PIL import Image
from scipy.ndimage import minimum_filter
from synthetic import make_subject
from synthetic_head import make_head

from flame_nerf import methods
from flame_nerf.avatar.export.web.arrays import columns, sparse_directions
from flame_nerf.avatar.export.web.config import WebConfig
from flame_nerf.avatar.export.web.page import export_web, first_camera, spoken
from flame_nerf.avatar.export.web.rig import rig
from flame_nerf.avatar.export.web.views import orbited
from flame_nerf.avatar.loading import load_pipeline
from flame_nerf.avatar.training import train, training_config
from flame_nerf.cli import main
from flame_nerf.heads import save_head
from flame_nerf.motion import SubjectMotion
from flame_nerf.runtime.errors import UserError
from flame_nerf.subject import write_subject

KEPT = Path(__file__).resolve().parents[2] / "kept_run"
SMALL = WebConfig(layers=3, texture_size=128, bases=2, views=24, view_size=64, steps=60)
SOFTWARE_GL = ("--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader")
SHARP_STEPS = 400


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """The synthetic head after a few training steps, with its head model; its pipeline."""
    folder = tmp_path_factory.mktemp("kept")
    shutil.copytree(KEPT / "subject", folder / "subject")
    save_head(dataclasses.replace(make_head(), licence="CC0 1.0"), folder / "subject/head_model.npz")
    about = json.loads((folder / "subject/transforms.json").read_text())
    about["flame_nerf"]["head_model"] = "head_model.npz"
    (folder / "subject/transforms.json").write_text(json.dumps(about))
    run = folder / "outputs/subject/flame-nerf-cpu/t"
    (run / "nerfstudio_models").mkdir(parents=True)
    shutil.copy(next(KEPT.glob("*.ckpt")), run / "nerfstudio_models")
    (run / "config.yml").write_text((KEPT / "config.yml").read_text().replace("FOLDER", str(folder)))
    return load_pipeline(run / "config.yml")


@pytest.fixture(scope="session")
def page(trained, tmp_path_factory) -> Path:
    return export_web(trained, tmp_path_factory.mktemp("web") / "head.html", SMALL).path


def document(path: Path) -> dict:
    text = path.read_text(encoding="utf-8")
    return json.loads(re.search(r'id="avatar">(.*?)</script>', text, re.DOTALL)[1])


def decoded(stored: dict) -> np.ndarray:
    kinds = {"Float32Array": "<f4", "Int16Array": "<i2", "Uint16Array": "<u2", "Uint8Array": "u1", "Uint32Array": "<u4"}
    return np.frombuffer(base64.b64decode(stored["base64"]), kinds[stored["type"]])


# ---- the page


def test_the_page_is_one_file_that_asks_for_nothing(page, trained):
    text = page.read_text(encoding="utf-8")
    outside = re.sub(r'id="avatar">.*?</script>', "", text, flags=re.DOTALL)
    assert not re.search(
        r"(src|href)\s*=|@import|fetch\(|XMLHttpRequest|https?://", outside.split("About this page")[0]
    )
    assert "default-src 'none'" in text and page.stat().st_size < 8e6
    stored, motion = document(page), trained.model.motion
    assert stored["performance"]["count"] == motion.num_timesteps
    shown = [slider["name"] for group in stored["groups"] for slider in group["sliders"] if not slider["angle"]]
    assert sorted(shown) == sorted(motion.pose_names)


def test_the_rig_in_the_page_poses_the_head_as_the_model_does(page, trained):
    """Skinned here once more, from what the page holds, for a moment of the track."""
    stored, live = document(page), trained.model.motion.live
    rig, take, row = stored["rig"], stored["performance"], 3
    count = len(rig["expressions"])
    expression = decoded(take["expression"]).reshape(-1, count)[row] * take["expressionScale"]
    joints = decoded(take["joints"]).reshape(-1, 3 * len(rig["joints"]))[row] * take["jointScale"]
    expected = live.vertices(torch.from_numpy(expression).float(), torch.from_numpy(joints).float().view(-1, 3)).numpy()
    shaped, directions = decoded(rig["template"]).reshape(-1, 3).astype(float), rig["directions"]
    at, value = decoded(directions["row"]), decoded(directions["value"]).reshape(-1, 3)
    for column, weight in enumerate(expression):
        part = slice(directions["start"][column], directions["start"][column + 1])
        shaped[at[part]] += weight * directions["scale"][column] * value[part]
    weights = decoded(rig["weights"]).reshape(len(shaped), -1).astype(float)
    exact = dataclasses.replace(
        live.head,
        template=torch.from_numpy(shaped).float(),
        skinning_weights=torch.from_numpy(weights / weights.sum(axis=1, keepdims=True)).float(),
    )
    posed = exact.vertices(torch.zeros(0), torch.zeros(count), torch.from_numpy(joints).float().view(-1, 3)).numpy()
    assert np.abs(posed - expected).max() < 2e-4


def test_tables_and_directions_survive_sixteen_bits():
    random = np.random.default_rng(0)
    table = random.normal(size=(30, 4)) * (1.0, 1e-3, 50.0, 0.0)
    stored = columns(table)
    assert np.abs(decoded(stored).reshape(30, 4) * stored["scale"] - table).max() < 50 * 4 / 32767
    moved = np.zeros((9, 3, 2))
    moved[4, :, 1] = (0.01, 0.0, -0.02)
    stored = sparse_directions(moved)
    assert stored["start"] == [0, 0, 1] and decoded(stored["row"]).tolist() == [4]
    assert decoded(stored["value"]) * stored["scale"][1] == pytest.approx(moved[4, :, 1], abs=1e-6)


def test_labels_are_words():
    assert spoken("mouthSmileLeft", "Mouth") == "Smile left"
    assert spoken("tongueOut", "Cheeks, nose, tongue") == "Tongue out"
    assert spoken("expression_12", "Expressions") == "12" and spoken("gaze left", "") == "Gaze left"


# ---- refusals


@pytest.mark.parametrize(
    ("avatar", "words"),
    [("no.zip", "no such file"), ("cut.zip", "cut short"), ("config.yml", "config.yml"), ("folder", "folder")],
)
def test_wrong_avatars_are_refused_in_one_line(tmp_path, monkeypatch, avatar, words):
    (tmp_path / "cut.zip").write_bytes(b"PK")
    (tmp_path / "folder").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["flame-nerf", "export", "web", avatar, "page.html"])
    with pytest.raises(SystemExit, match=words) as refused:
        main()
    assert "\n" not in str(refused.value.code) and not Path("page.html").exists()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"path": "head.txt"}, "ends in .html"),
        ({"layers": 0}, "--layers is 0"),
        ({"texture_size": 9999}, "--texture-size is 9999"),
    ],
)
def test_wrong_options_are_refused_before_the_work(trained, tmp_path, change, words):
    path = tmp_path / change.pop("path", "head.html")
    with pytest.raises(UserError, match=words):
        export_web(trained, path, WebConfig(**change))
    assert not list(tmp_path.iterdir())


def test_a_head_model_that_may_not_be_passed_on_needs_a_word(trained, tmp_path, monkeypatch):
    model = trained.model
    monkeypatch.setattr(
        model, "head", dataclasses.replace(model.head, name="flame2020", licence="FLAME, non-commercial")
    )
    with pytest.raises(UserError, match="flame2020.*--with-head-model") as refused:
        export_web(trained, tmp_path / "head.html", WebConfig(views=0))
    assert "\n" not in str(refused.value) and not list(tmp_path.iterdir())
    draft = WebConfig(layers=1, texture_size=64, views=0)
    assert export_web(trained, tmp_path / "head.html", draft, with_head_model=True).path.exists()


def test_an_avatar_without_a_head_model_is_refused(trained, tmp_path, monkeypatch):
    monkeypatch.setattr(trained.model, "motion", SubjectMotion(trained.model.subject.track))
    with pytest.raises(UserError, match="was not found"):
        export_web(trained, tmp_path / "head.html")


# ---- in a browser


@pytest.fixture(scope="module")
def sharp(tmp_path_factory):
    """The synthetic head, trained until it has a surface; its pipeline."""
    folder = tmp_path_factory.mktemp("sharp")
    subject = make_subject(folder / "subject", size=64, count=16)
    save_head(dataclasses.replace(make_head(), licence="CC0 1.0"), folder / "subject/head_model.npz")
    write_subject(dataclasses.replace(subject, head_model="head_model.npz"))
    config = training_config(methods.flame_nerf_cpu.config, folder / "subject", folder / "outputs", SHARP_STEPS)
    config.pipeline.datamanager.train_num_rays_per_batch = 1024
    return train(config)


@pytest.fixture
def browser(tmp_path):
    driver = start_browser(tmp_path / "profile", *SOFTWARE_GL, "--window-size=900,600")
    try:
        yield driver
    finally:
        driver.quit()


def picture_of(url: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(url.split(",")[1]))).convert("RGB"), float) / 255


def own_picture(pipeline, face: dict, yaw: float, size: int) -> np.ndarray:
    """The avatar's own picture on white, as the page's camera sees it."""
    from flame_nerf.film.rendering import render_images

    model, camera = pipeline.model, first_camera(pipeline)
    c2w = orbited(camera.c2w, model.motion.centre.double().numpy(), yaw, 0.0, 0.0)
    from nerfstudio.cameras.cameras import Cameras

    focal = camera.focal * size
    cameras = Cameras(torch.from_numpy(c2w[None]).float(), focal, focal, size / 2, size / 2, width=size, height=size)
    return next(render_images(model, cameras, [model.motion.pose(face)])).astype(float) / 255


def psnr(a: np.ndarray, b: np.ndarray, mask: np.ndarray) -> float:
    return float(-10 * np.log10(((a - b) ** 2)[mask].mean()))


@pytest.mark.slow
def test_the_page_opens_from_disk_offline_turns_plays_and_shows_what_the_avatar_does(sharp, tmp_path, browser):
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.support.ui import WebDriverWait

    page = export_web(sharp, tmp_path / "head.html", SMALL).path
    browser.set_network_conditions(offline=True, latency=0, throughput=0)
    browser.get(page.as_uri())
    WebDriverWait(browser, PATIENCE).until(lambda driver: driver.execute_script("return !!window.flameNerf"))
    wait = WebDriverWait(browser, PATIENCE)
    asked = browser.execute_script("return performance.getEntriesByType('resource').map((entry) => entry.name)")
    assert [name for name in asked if not name.startswith("blob:")] == []

    size = 96
    # Around the rim a pixel is here or there; inside it the page shows what the avatar shows.
    for face, yaw, least, inside_least in (({}, 0.0, 21, 30), ({}, 0.35, 21, 30), ({"jawOpen": 0.9}, 0.0, 20, 28)):
        own = own_picture(sharp, face, yaw, size)
        browser.execute_script("flameNerf.neutral(); flameNerf.straight(); flameNerf.orbit(arguments[0], 0)", yaw)
        asked = {"expression": face, "width": size, "height": size}
        shown = picture_of(browser.execute_script("return flameNerf.shot(arguments[0])", asked))
        head = (own < 0.9).any(axis=2)
        inside = minimum_filter(head, 7)
        assert inside.mean() > 0.05, "the avatar is in its own picture"
        assert psnr(shown, own, head) > least and psnr(shown, own, inside) > inside_least, (face, yaw)
        assert psnr(np.ones_like(own), own, head) < least - 8, "an empty page would not pass"

    # The slider moves the face.
    browser.execute_script("flameNerf.neutral(); flameNerf.straight()")
    shot = "flameNerf.picture(flameNerf.camera(), 96, 96); return document.getElementById('view').toDataURL()"
    still = picture_of(browser.execute_script(shot))
    slider = browser.find_element("css selector", "input[data-name='jawOpen']")
    browser.execute_script("arguments[0].value = 1; arguments[0].dispatchEvent(new Event('input'))", slider)
    assert np.abs(picture_of(browser.execute_script(shot)) - still).mean() > 2e-3

    # Play plays, and the mouse turns the head.
    browser.find_element("id", "play").click()
    wait.until(lambda driver: int(driver.find_element("id", "frame").get_attribute("value")) > 2)
    browser.find_element("id", "play").click()
    view = browser.find_element("id", "view")
    ActionChains(browser).move_to_element(view).click_and_hold().move_by_offset(60, 0).release().perform()
    assert browser.execute_script("return Math.abs(flameNerf.yaw)") > 0.2
    complaints = [entry["message"] for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]
    assert not complaints


@pytest.mark.slow
def test_the_page_poses_the_mesh_that_the_model_poses(trained, page, browser):
    from selenium.webdriver.support.ui import WebDriverWait

    browser.get(page.as_uri())
    WebDriverWait(browser, PATIENCE).until(lambda driver: driver.execute_script("return !!window.flameNerf"))
    motion = trained.model.motion
    face = {"jawOpen": 0.6, motion.pose_names[0]: 0.5}
    for name, value in face.items():
        browser.execute_script("flameNerf.set(arguments[0], arguments[1])", name, value)
    script = "flameNerf.picture(flameNerf.camera(), 16, 16); return [...flameNerf.head.vertices]"
    got = np.array(browser.execute_script(script)).reshape(-1, 3)
    assert np.abs(got - motion.pose(face).vertices.numpy()).max() < 2e-4


@pytest.mark.slow
def test_the_page_knows_correctives_and_joints_that_follow_the_expression(page, browser):
    """What FLAME has and the open head has not."""
    from selenium.webdriver.support.ui import WebDriverWait

    browser.get(page.as_uri())
    WebDriverWait(browser, PATIENCE).until(lambda driver: driver.execute_script("return !!window.flameNerf"))
    random, size = np.random.default_rng(0), 300
    head = head_from_arrays(make_flame_like()).subset(torch.arange(0, 4500, 4500 // size))
    assert head.posedirs is not None and head.joint_exprdirs is not None
    live = SimpleNamespace(
        head=head, expression_names=head.expression_names, joint_names=head.joint_names, derived={}, turns={}
    )
    expression = random.normal(size=len(head.expression_names)).astype(np.float32)
    joints = random.normal(size=(len(head.joint_names), 3)).astype(np.float32) * 0.2
    script = (
        "const head = new Head(arguments[0]); "
        "head.pose(Float32Array.from(arguments[1]), Float32Array.from(arguments[2])); return [...head.vertices]"
    )
    got = browser.execute_script(script, rig(live), expression.tolist(), joints.reshape(-1).tolist())
    none = torch.zeros(head.shapedirs.shape[-1])
    expected = head.vertices(none, torch.from_numpy(expression), torch.from_numpy(joints)).numpy()
    assert np.abs(np.reshape(got, (-1, 3)) - expected).max() < 3e-4
