"""The synthetic person: every number of the films checked against an independent way to it."""

import dataclasses
import subprocess
from pathlib import Path

import av
import commands
import cv2
import numpy as np
import pytest
import torch

from data_tools.runs.pictures import load_grey, load_picture
from data_tools.synth import DEPTH_UNIT, NOVEL, SynthConfig, SynthError, load_depth, synthesise
from data_tools.synth.films import RIG
from data_tools.synth.lighting import dome, gather, radiance
from data_tools.synth.noise import Noise, ramp
from data_tools.synth.performance import training_performance
from data_tools.synth.texels import Texels, grid
from flame_nerf.heads import load_head
from flame_nerf.heads.eyes import personal_head
from flame_nerf.subject import SubjectError, load_subject

TINY = SynthConfig(frames=8, size=64, view_moments=2, novel_frames=6, seed=3)


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("synth") / "subject"
    synthesise(folder, TINY, silent=True)
    return folder


@pytest.fixture(scope="module")
def films(root):
    return {name: load_subject(root / path) for name, path in FOLDERS.items()}


FOLDERS = {"train": "", "novel_view": "novel_view", "novel_expression": "novel_expression"}


def _about(subject) -> list[dict]:
    return subject.extra["synth"]["frames"]


def test_three_films_load_and_say_what_they_hold(films):
    assert [len(films[name].frames) for name in FOLDERS] == [8, 2 * len(RIG), 6]
    assert [frame.split for frame in films["train"].frames] == ["train"] * 7 + ["test"]
    for name, film in films.items():
        assert film.extra["synth"]["film"] == name and film.extra["synth"]["depth_unit"] == DEPTH_UNIT
        assert [frame.timestep for frame in film.frames] == list(range(len(film.frames)))
        assert all(frame.depth_path is None for frame in film.frames) and film.has_masks
        assert name == "train" or {frame.split for frame in film.frames} == {"test"}
        assert film.track.landmarks2d.shape == (len(film.frames), 478, 2)


def test_stored_coefficients_give_the_stored_mesh(films):
    head = load_head()
    for film in films.values():
        track = film.track
        posed = personal_head(head, torch.from_numpy(track.canonical_vertices)).vertices(
            *(torch.from_numpy(a) for a in (track.identity, track.expression, track.pose))
        )
        np.testing.assert_allclose(track.vertices, posed.numpy(), atol=1e-6)
        # Stabilised: the skull stands still.
        skull = np.unique(track.faces[track.region_faces("ears")])
        assert np.median(np.ptp(track.vertices[:, skull], axis=0)) < 2e-4


@pytest.mark.slow
def test_the_same_seed_gives_the_same_bytes_and_another_one_somebody_else(root, tmp_path):
    def contents(folder: Path) -> dict[str, bytes]:
        return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    synthesise(tmp_path / "again", TINY, silent=True)
    first, again = contents(root), contents(tmp_path / "again")
    assert first.keys() == again.keys() and [name for name in first if first[name] != again[name]] == []
    assert not list(root.parent.glob(".*"))

    head = load_head()
    one, two = (training_performance(head, torch.zeros(100), 8, np.random.default_rng(seed)) for seed in (1, 2))
    assert np.abs(one.expression - two.expression).max() > 0.1


def _brute_force_depth(vertices, faces, c2w, focal, size, pixels) -> np.ndarray:
    """Möller and Trumbore's ray-triangle test of every pixel's centre with every face: distance along the axis."""
    corner = (vertices.astype(np.float64) - c2w[:3, 3]) @ c2w[:3, :3]
    a, b, c = (corner[faces[:, k]] for k in range(3))
    e1, e2 = b - a, c - a
    out = []
    for x, y in pixels:
        ray = np.array([(x + 0.5 - size / 2) / focal, -(y + 0.5 - size / 2) / focal, -1.0])
        p = np.cross(ray, e2)
        det = (e1 * p).sum(1)
        det[np.abs(det) < 1e-15] = np.nan
        u = (-a * p).sum(1) / det
        q = np.cross(-a, e1)
        v, t = (q @ ray) / det, (e2 * q).sum(1) / det
        hit = (u >= 0) & (v >= 0) & (u + v <= 1) & (t > 0)
        out.append(t[hit].min() if hit.any() else np.nan)
    return np.array(out)


@pytest.mark.parametrize("name, row", [("train", 5), ("novel_view", 4), ("novel_view", 11), ("novel_expression", 2)])
def test_depth_is_that_of_the_stored_mesh_under_the_stored_camera(films, name, row):
    film = films[name]
    frame, depth = film.frames[row], load_depth(film.root / _about(film)[row]["depth"])
    y, x = np.nonzero(np.isfinite(depth))
    chosen = np.random.default_rng(0).choice(len(x), 60, replace=False)
    pixels = np.stack([x[chosen], y[chosen]], axis=1)
    bald = _brute_force_depth(film.track.vertices[row], film.track.faces, frame.c2w, film.fl_x, film.width, pixels)
    stored = depth[pixels[:, 1], pixels[:, 0]]
    on_skin = np.isfinite(bald) & (np.abs(bald - stored) < 5e-5)
    # Elsewhere there is hair: before the bald head, or beyond its outline.
    assert on_skin.sum() >= 12
    assert np.isnan(bald[~on_skin]).any() or (~on_skin).sum() < 10
    hair = ~on_skin & np.isfinite(bald)
    assert (stored[hair] < bald[hair] - 1e-3).all() and (bald[hair] - stored[hair]).max(initial=0.0) < 0.08


def test_there_are_centimetres_of_hair_outside_the_mesh(films):
    film = films["train"]
    frame, mask = film.frames[0], load_grey(film.frames[0].mask_path)
    camera = (film.track.vertices[0] - frame.c2w[:3, 3]) @ frame.c2w[:3, :3]
    top = (film.cy - film.fl_y * camera[:, 1] / -camera[:, 2]).min()
    pixel = -camera[:, 2].mean() / film.fl_y
    assert 0.008 < (top - np.flatnonzero(mask.any(axis=1))[0]) * pixel < 0.05


def test_mask_and_depth_tell_the_same(films):
    for film in films.values():
        for frame, about in zip(film.frames, _about(film), strict=True):
            mask, seen = load_grey(frame.mask_path), np.isfinite(load_depth(film.root / about["depth"]))
            assert (mask[seen] > 0).all() and seen[mask == 255].all() and seen.sum() > 0.08 * seen.size
            # Soft: the outline has in-between values, and only the outline.
            between = (mask > 0) & (mask < 255)
            inner = cv2.erode((mask > 0).astype(np.uint8), np.ones((3, 3)), iterations=2, borderValue=1)
            assert between.sum() > 20 and between[inner > 0].mean() < 0.02


def test_an_image_behind_its_mask_before_the_clean_plate_is_the_film(root, films):
    film, plate = films["train"], load_picture(root / "background.png").astype(float)
    with av.open(str(root / "film.mp4")) as video:
        shown = [frame.to_ndarray(format="rgb24").astype(float) for frame in video.decode(video=0)]
    assert len(shown) == len(film.frames)
    for frame, picture in zip(film.frames, shown, strict=True):
        alpha = load_grey(frame.mask_path)[..., None] / 255.0
        composed = load_picture(frame.file_path) * alpha + plate * (1 - alpha)
        # Below there are shoulders, which are neither head nor plate. The video halves the colours' resolution, but not
        # the brightness's.
        above, grey = slice(0, int(0.55 * film.height)), np.array([0.299, 0.587, 0.114])
        exact, contaminated = (
            np.abs((one - picture) @ grey)[above] for one in (composed, load_picture(frame.file_path))
        )
        edge = ((alpha > 0.2) & (alpha < 0.8))[above, :, 0]
        assert exact.mean() < 3 and exact[edge].mean() < 6 < 15 < contaminated[edge].mean()


def test_other_cameras_stand_where_they_say_at_moments_of_the_training_film(films):
    view, train = films["novel_view"], films["train"]
    expected = [(yaw, 0) for s in (15, 30, 45, 60, 75) for yaw in (s, -s)] + [(0, 20), (0, -20)]
    for row, (frame, about) in enumerate(zip(view.frames, _about(view), strict=True)):
        back = frame.c2w[:3, 2]
        yaw, pitch = np.degrees([np.arctan2(back[0], back[2]), np.arcsin(back[1])])
        assert (yaw, pitch) == pytest.approx(expected[row % 12], abs=1e-6)
        assert (about["yaw_deg"], about["pitch_deg"]) == pytest.approx((yaw, pitch), abs=1e-3)
        # It looks at the target, upright.
        to_target = frame.c2w[:3, :3].T @ (np.array(view.extra["synth"]["target"]) - frame.c2w[:3, 3])
        assert np.abs(to_target[:2]).max() < 1e-9 and to_target[2] < 0 and abs(frame.c2w[1, 0]) < 1e-9
        np.testing.assert_array_equal(view.track.vertices[row], train.track.vertices[about["moment"]])
    assert {a["moment"] for a in _about(view)} == {0, 7}
    assert _about(view)[2]["camera"] == "yaw+30" and _about(view)[11]["camera"] == "pitch-20"


def test_new_expressions_are_absent_from_training():
    head = load_head()
    names = list(head.expression_names)
    unseen = [names.index(name) for group in NOVEL.values() for name in group]
    for seed in (0, 1):
        trained = training_performance(head, torch.zeros(100), 300, np.random.default_rng(seed))
        assert trained.expression[:, unseen].max() == 0.0
        # What is trained is varied: a dozen and more coefficients reach a half, and both head turns their full range.
        assert ((trained.expression.max(axis=0) > 0.5) & (trained.expression.min(axis=0) < 0.1)).sum() >= 12
        yaw = np.degrees(np.arctan2(trained.head_to_room[:, 0, 2], trained.head_to_room[:, 2, 2]))
        assert yaw.max() == pytest.approx(25, abs=2) and yaw.min() == pytest.approx(-25, abs=2)


def test_a_head_that_turns_less_acts_the_same():
    head = load_head()
    wide, narrow = (
        training_performance(head, torch.zeros(100), 150, np.random.default_rng(0), turn_deg) for turn_deg in (25, 5)
    )
    np.testing.assert_array_equal(wide.expression, narrow.expression)
    ahead = narrow.head_to_room[:, :3, 2]
    yaw, pitch = (np.degrees(np.arctan2(ahead[:, axis], ahead[:, 2])) for axis in (0, 1))
    assert yaw.max() == pytest.approx(5, abs=0.5) and np.abs(pitch).max() == pytest.approx(2.4, abs=0.5)


def test_every_frame_of_the_new_expressions_shows_its_own(films):
    film = films["novel_expression"]
    names, shown = list(film.track.expression_names), [about["expression"] for about in _about(film)]
    assert set(shown) == set(NOVEL)
    for row, name in enumerate(shown):
        assert all(film.track.expression[row, names.index(key)] > 0.2 for key in NOVEL[name])


def test_light_that_comes_from_everywhere_alike_is_the_same_on_every_slope():
    random = np.random.default_rng(0)
    normals = random.normal(size=(200, 3))
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    white = gather(np.ones((200, len(dome())), dtype=bool), normals, np.ones((len(dome()), 3)))
    # The integral of the cosine over a hemisphere is pi.
    np.testing.assert_allclose(white, 1.0, atol=0.03)
    ahead = gather(np.ones((2, len(dome())), dtype=bool), np.array([[0, 0, 1.0], [0, 0, -1.0]]), radiance(dome()))
    assert (ahead[0] > 1.5 * ahead[1]).all()


def test_texels_are_found_where_they_were_put():
    random = np.random.default_rng(0)
    layers, steps = [], (10, 3)
    corners = [random.normal(size=(count, 3, 2)) for count in (5, 4)]
    for n, corner in zip(steps, corners, strict=True):
        layers.append((n, np.einsum("kc,fcx->fkx", grid(n), corner)))
    texels = Texels.of(layers)
    face = random.integers(0, 9, 500)
    weights = random.dirichlet([1, 1, 1], 500)
    every = np.concatenate(corners)[face]
    exact = np.einsum("rc,rcx->rx", weights, every)
    spread = np.ptp(every, axis=1).sum(axis=1)
    reach = spread / np.where(face < 5, 10, 3)
    assert (np.abs(texels.at(face, weights) - exact).max(axis=1) <= reach).all()
    # At a texel it is exact.
    np.testing.assert_allclose(texels.at(np.full(66, 2), grid(10)), layers[0][1][2], atol=1e-6)


def test_noise_is_smooth_bounded_and_its_seeds_own():
    noise = Noise(np.random.default_rng(0))
    points = np.random.default_rng(1).uniform(-1, 1, (4000, 3))
    values = noise(points, 0.1, octaves=3)
    assert np.abs(values).max() <= 1 and values.std() > 0.1 and abs(values.mean()) < 0.05
    assert np.abs(noise(points + 1e-5, 0.1) - noise(points, 0.1)).max() < 1e-3
    assert not np.allclose(Noise(np.random.default_rng(2))(points, 0.1), noise(points, 0.1))
    np.testing.assert_allclose(ramp(np.array([-1, 0, 0.5, 1, 2.0]), 0, 1), [0, 0, 0.5, 1, 1])
    np.testing.assert_allclose(ramp(np.array([0, 1.0]), 1, 0), [1, 0])


def test_room_light_stays_while_the_head_turns():
    from data_tools.open_head.render import camera_around
    from data_tools.synth.figure import Figure
    from data_tools.synth.render import Moment

    head = load_head()
    figure = Figure(head, torch.zeros(100), np.random.default_rng(0))
    rest = head.template.numpy()
    quarter = camera_around(60, 0, 1.0)[:3, :3]
    skin = np.unique(head.faces[head.region_mask("skin")])
    sides = {"left": skin[rest[skin, 0] > 0.04], "right": skin[rest[skin, 0] < -0.04]}
    for turn, brighter in ((np.eye(3), "left"), (quarter, "right")):
        bright = {side: Moment(figure, rest, np.eye(3), turn).irradiance[rows].mean() for side, rows in sides.items()}
        assert max(bright, key=bright.get) == brighter


@pytest.mark.slow
def test_the_command_its_errors_and_its_caution(tmp_path, root):
    def run(*arguments) -> subprocess.CompletedProcess:
        return commands.run("flame-nerf-data", "synth", *arguments)

    target = tmp_path / "made"
    done = run(target, "--frames", "8", "--size", "32", "--view-moments", "1", "--novel-frames", "6")
    assert done.returncode == 0, done.stderr
    assert f"ns-train flame-nerf-cpu --data {target}" in done.stdout and "Training film" in done.stderr
    assert len(load_subject(target).frames) == 8
    again = run(target)
    assert again.returncode == 1 and "--overwrite" in again.stderr and "Traceback" not in again.stderr
    assert len(load_subject(target).frames) == 8


@pytest.mark.parametrize(
    "options, named",
    [
        ({"frames": 3}, "--frames is 3"),
        ({"size": 8}, "--size is 8"),
        ({"novel_frames": 2}, "--novel-frames is 2"),
        ({"view_moments": 0}, "--view-moments is 0"),
        ({"seed": -1}, "--seed is -1"),
        ({"take": -1}, "--take is -1"),
        ({"turn_deg": 90.0}, "--turn-deg is 90"),
        ({"turn_deg": float("nan")}, "--turn-deg is nan"),
    ],
)
def test_options_out_of_range_are_named(tmp_path, options, named):
    with pytest.raises(SynthError, match=named):
        synthesise(tmp_path / "s", SynthConfig(**options), silent=True)
    assert not (tmp_path / "s").exists()


def test_given_again_it_answers_with_what_is_there(root):
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    made = synthesise(root, TINY, silent=True)
    assert made.seconds == 0 and made.train_frames == TINY.frames and made.yaw_range_deg[0] < made.yaw_range_deg[1]
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*")} == before
    with pytest.raises(SynthError, match="of other options"):
        synthesise(root, dataclasses.replace(TINY, seed=4), silent=True)


def test_nothing_but_a_synthetic_subject_is_ever_replaced(tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "mine.png").write_bytes(b"mine")
    (tmp_path / "file").write_text("x")
    for name, words in (("photos", "no synthetic subject"), ("file", "is a file")):
        with pytest.raises(SynthError, match=words):
            synthesise(tmp_path / name, SynthConfig(overwrite=True), silent=True)
    assert (tmp_path / "photos" / "mine.png").read_bytes() == b"mine"


def test_an_interrupted_run_leaves_nothing_and_an_overwritten_subject_whole(tmp_path, root, monkeypatch):
    import shutil

    from data_tools.synth import films

    shutil.copytree(root, tmp_path / "s")
    before = (tmp_path / "s" / "transforms.json").read_bytes()

    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(films, "novel_performance", stop)
    for name, config in (("new", TINY), ("s", SynthConfig(frames=8, size=32, overwrite=True))):
        with pytest.raises(KeyboardInterrupt):
            synthesise(tmp_path / name, config, silent=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["s"]
    assert (tmp_path / "s" / "transforms.json").read_bytes() == before
    with pytest.raises(SubjectError):
        load_subject(tmp_path / "new")


def test_depth_that_is_not_there_or_no_depth(tmp_path, films):
    wrong = ((tmp_path / "none.png", "does not exist"), (films["train"].frames[0].mask_path, "no 16-bit depth"))
    for path, words in wrong:
        with pytest.raises(OSError, match=words):
            load_depth(path)
