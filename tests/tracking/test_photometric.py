"""Photometric registration, against finite differences, dense solves and a textured head of which all is known."""

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from track_heads import egg_head

from data_tools.ray_casting import MeshRays
from data_tools.runs.progress import StageBars
from data_tools.runs.workspace import Workspace
from data_tools.tracking.advice import registration_warnings
from data_tools.tracking.camera import FLIP
from data_tools.tracking.config import TrackConfig
from data_tools.tracking.fit.energy import Seen
from data_tools.tracking.fit.face.face_points import KEYPOINTS, face_points
from data_tools.tracking.fit.outline import head_vertices
from data_tools.tracking.fit.pose_and_expression import motion_step
from data_tools.tracking.fit.residuals import FaceState, anchor_of
from data_tools.tracking.fit.shape import ShapeEquations, eliminated_step
from data_tools.tracking.fit.stages import Observations
from data_tools.tracking.observe.framing import whole_frames
from data_tools.tracking.photometric import look, stage
from data_tools.tracking.photometric import residuals as photometric
from data_tools.tracking.photometric.atlas import frame_light, harmonics, learn_atlas, shade
from data_tools.tracking.photometric.bundle import SHARE, add_photometric
from data_tools.tracking.photometric.kernels import linearise
from data_tools.tracking.photometric.residuals import WEIGHT, PhotometricFrames
from data_tools.tracking.photometric.surfels import Visibility, spread_surfels
from data_tools.tracking.run import Run
from flame_nerf.geometry import axis_angle_to_matrix, matrix_to_axis_angle, perspective

SIZE, FOCAL, FRAMES = 160, 220.0, 24
CENTRE = np.array([SIZE / 2, SIZE / 2])


def _texture(points: np.ndarray) -> np.ndarray:
    """Grey value of skin at places of the resting head, smooth, 0.2..0.8."""
    x, y, z = points.T
    waves = np.sin(150 * x + 40 * z) + np.sin(130 * y - 50 * x) + np.sin(110 * y + 90 * z)
    return 0.5 + 0.1 * waves


def _state(points, frames: int) -> FaceState:
    time = 0.4 * torch.arange(frames, dtype=torch.float64)
    turn = torch.stack([0.2 * torch.sin(time / 2), 0.35 * torch.sin(time / 3), 0.05 * torch.cos(time)], 1)
    place = torch.stack([0.01 * torch.sin(time / 4), 0.01 * torch.cos(time / 5), 0.45 + 0.01 * torch.sin(time)], 1)
    expression = 0.3 + 0.3 * torch.sin(time[:, None] / 2 + torch.arange(points.expression.shape[-1]))
    return FaceState(
        rotation=torch.from_numpy(FLIP) @ axis_angle_to_matrix(turn),
        shift=place,
        gaze=torch.zeros(frames, 2, 2, dtype=torch.float64),
        expression=expression,
        identity=torch.linspace(-1, 1, points.shape.shape[-1], dtype=torch.float64),
        focal=FOCAL,
    )


def _nodding_less(state: FaceState) -> FaceState:
    """What landmarks would make of it if they saw 0.8 of every nod."""
    away = matrix_to_axis_angle(torch.from_numpy(FLIP) @ state.rotation) * torch.tensor([0.8, 1.0, 1.0])
    return replace(state, rotation=torch.from_numpy(FLIP) @ axis_angle_to_matrix(away), shift=state.shift + 1e-3)


def _turn_error_deg(one: FaceState, other: FaceState) -> np.ndarray:
    return np.degrees(matrix_to_axis_angle(one.rotation @ other.rotation.transpose(1, 2)).norm(dim=1).numpy())


def _paint(head, points, state: FaceState, folder: Path) -> list[Path]:
    """Pictures of the textured head, by casting a ray through every pixel's middle."""
    faces, rest = head.faces.numpy(), head.template.numpy()
    columns, rows = np.meshgrid(np.arange(SIZE) + 0.5, np.arange(SIZE) + 0.5)
    rays = np.stack([(columns - CENTRE[0]) / FOCAL, (rows - CENTRE[1]) / FOCAL, np.ones_like(rows)], -1)
    vertices = head_vertices(head, points, state).numpy()
    translation = state.translation(anchor_of(points)).numpy()
    paths = []
    for t in range(len(vertices)):
        rotation = state.rotation[t].numpy()
        hit = MeshRays(vertices[t], faces).cast(-rotation.T @ translation[t], rays @ rotation)
        found = hit.face >= 0
        at_rest = np.einsum("nc,nck->nk", hit.barycentric[found], rest[faces[hit.face[found]]])
        picture = np.full((SIZE, SIZE), 0.1)
        picture[found] = _texture(at_rest)
        paths.append(folder / f"{t:03d}.png")
        cv2.imwrite(str(paths[-1]), np.round(255 * picture).astype(np.uint8))
    return paths


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    head = egg_head()
    points = face_points(head)
    state = _state(points, FRAMES)
    return head, points, state, _paint(head, points, state, tmp_path_factory.mktemp("film"))


def _frames(head, points, state, pictures, count=1500):
    surfels = spread_surfels(head, points, state.identity, count)
    visibility = Visibility(head, points, surfels, CENTRE, (SIZE, SIZE))
    return surfels, PhotometricFrames(surfels, visibility, pictures, state, CENTRE, workers=2)


def test_derivatives_agree_with_differences():
    """Against positions projected in double precision into a picture that is a formula."""

    def shown(pixels):
        return 0.5 + 0.2 * np.sin(pixels[..., 0] / 9) * np.cos(pixels[..., 1] / 11 + 1)

    random = np.random.default_rng(0)
    columns, rows = np.meshgrid(np.arange(SIZE) + 0.5, np.arange(SIZE) + 0.5)
    image = shown(np.stack([columns, rows], -1)).astype(np.float32)
    place, basis = random.normal(0, 0.03, (50, 3)), random.normal(0, 0.01, (50, 3, 4))
    sigma, expected = random.uniform(0.02, 0.05, 50), random.uniform(0, 1, 50)
    rotation, shift = np.asarray(FLIP) @ axis_angle_to_matrix(torch.tensor([0.2, -0.3, 0.1])).numpy(), [0.01, 0, 0.5]

    def residual(step, moved=0.0, log_focal=0.0):
        turn = axis_angle_to_matrix(torch.from_numpy(step[:3])).numpy() @ rotation
        at = (place + basis @ step[10:] + moved) @ turn.T + np.array(shift) + step[3:6]
        return (shown(perspective(at, FOCAL * np.exp(log_focal), CENTRE)) - expected) / sigma

    frame, by_head = np.empty((50, 14), np.float32), np.empty((50, 3), np.float32)
    by_focal, r, w = (np.empty(50, np.float32) for _ in range(3))
    f = np.float32
    linearise(
        image, np.arange(50), place.astype(f), basis.astype(f), rotation.astype(f), np.array(shift, f), f(FOCAL),
        CENTRE.astype(f), expected.astype(f), sigma.astype(f), f(2), frame, by_head, by_focal, r, w,
    )  # fmt: skip
    np.testing.assert_allclose(r, residual(np.zeros(14)), atol=0.05)
    np.testing.assert_allclose(w, 1 / (1 + (r / 2) ** 2), rtol=1e-4)
    for column in [*range(6), *range(10, 14)]:
        step = np.zeros(14)
        step[column] = 1e-4
        difference = (residual(step) - residual(-step)) / 2e-4
        np.testing.assert_allclose(frame[:, column], difference, atol=0.02 * np.abs(difference).max())
    assert (frame[:, 6:10] == 0).all()
    for axis in range(3):
        moved = 1e-4 * np.eye(3)[axis]
        difference = (residual(np.zeros(14), moved) - residual(np.zeros(14), -moved)) / 2e-4
        np.testing.assert_allclose(by_head[:, axis], difference, atol=0.02 * np.abs(difference).max())
    difference = (residual(np.zeros(14), 0, 1e-4) - residual(np.zeros(14), 0, -1e-4)) / 2e-4
    np.testing.assert_allclose(by_focal, difference, atol=0.02 * np.abs(difference).max())


def test_atlas_tells_skin_from_light():
    """Grey values under lights that change, with points that other things hide."""
    random = np.random.default_rng(1)
    skin, normal = random.uniform(0.2, 0.8, 300), random.normal(size=(300, 3))
    normal /= np.linalg.norm(normal, axis=1, keepdims=True)
    x, y, z = normal.T
    polynomials = (np.ones(300), x, y, z, x * y, x * z, y * z, x * x - y * y, 3 * z * z - 1)
    basis = harmonics(np.arange(300), normal, np.eye(3))
    np.testing.assert_allclose(basis, np.stack(polynomials, axis=1), atol=1e-5)
    values, which, bases, true = [], [], [], []
    for _ in range(30):
        light = np.concatenate([[random.uniform(0.7, 1.3)], random.normal(0, 0.08, 3), np.zeros(5)])
        rows = np.sort(random.choice(300, 250, replace=False))
        value = skin[rows] * (basis[rows] @ light) + random.normal(0, 0.004, len(rows))
        value[random.random(len(rows)) < 0.1] = 0.0
        values.append(value.astype(np.float32)), which.append(rows), bases.append(basis[rows])
        true.append(skin[rows] * (basis[rows] @ light))
    learned = learn_atlas(1.0, values, which, bases, 300)
    atlas = learned.atlas
    assert atlas.known.all()
    for t in range(30):
        expected = shade(bases[t], learned.lights[t]) * atlas.mu[which[t]]
        assert np.median(np.abs(expected - true[t])) < 0.01
    light = frame_light(values[0], bases[0], atlas.mu[which[0]], atlas.sigma[which[0]], atlas.light)
    assert np.median(np.abs(shade(bases[0], light) * atlas.mu[which[0]] - true[0])) < 0.01


def test_visible_points_are_those_that_a_camera_sees(film):
    head, points, state, pictures = film
    surfels, frames = _frames(head, points, state, pictures)
    seen = frames.seen(0)
    assert 0.2 * len(surfels) < len(seen) < 0.6 * len(surfels)
    place = surfels.places(state.expression[:1])[0] @ state.rotation[0].float().numpy().T + state.shift[0].numpy()
    hidden = np.setdiff1d(np.arange(len(surfels)), seen)
    assert place[seen, 2].mean() < place[hidden, 2].mean() - 0.03


def test_frames_come_back_from_a_wrong_pose(film):
    """Nods seen at 0.8 of what they are, as a detector does: the pictures alone put them right."""
    head, points, state, pictures = film
    _, frames = _frames(head, points, state, pictures)
    atlases = {blur: frames.learn(state, blur).atlas for blur in (2.0, 1.0)}
    start = _nodding_less(state)
    found, blind = (
        start,
        Seen(
            torch.zeros(FRAMES, len(points.index), 2).double(),
            torch.from_numpy(CENTRE),
            1e-9 + torch.zeros(FRAMES, len(points.index)).double(),
        ),
    )
    for blur in (2.0, 2.0, 2.0, 1.0, 1.0):
        hessian, gradient = frames.equations(found, atlases[blur], 6)
        found = motion_step(
            points, found, blind, 100.0 * np.arange(FRAMES), np.zeros(FRAMES, bool), more=(gradient, hessian)
        )

    off = _turn_error_deg(found, state)
    assert _turn_error_deg(start, state).max() > 2 and off.mean() < 0.15 and off.max() < 0.4
    assert (found.shift - state.shift).abs().max() < 1e-3


def test_elimination_agrees_with_a_dense_solve():
    random = torch.Generator().manual_seed(0)
    frames, own, common = 5, 4, 3
    jacobian = torch.randn(frames, 12, own + common, generator=random, dtype=torch.float64)
    r = torch.randn(frames, 12, generator=random, dtype=torch.float64)
    fixed = torch.zeros(frames, own, dtype=torch.bool)
    fixed[1, 2] = True
    a, b = jacobian[..., :own], jacobian[..., own:]
    at = lambda one, other: one.transpose(1, 2) @ other  # noqa: E731
    of_frames, shared = eliminated_step(
        at(a, a), at(a, r[..., None])[..., 0], at(a, b), at(b, b).sum(0), at(b, r[..., None])[..., 0].sum(0), fixed
    )
    whole = torch.zeros(frames * 12, frames * own + common, dtype=torch.float64)
    for t in range(frames):
        whole[12 * t : 12 * t + 12, own * t : own * t + own] = a[t]
        whole[12 * t : 12 * t + 12, frames * own :] = b[t]
    free = torch.cat([~fixed.flatten(), torch.ones(common, dtype=torch.bool)])
    dense = torch.zeros(frames * own + common, dtype=torch.float64)
    dense[free] = torch.linalg.lstsq(whole[:, free], -r.flatten()[:, None]).solution[:, 0]
    torch.testing.assert_close(of_frames.flatten(), dense[: frames * own], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(shared, dense[frames * own :], rtol=1e-4, atol=1e-5)


def test_bundle_equations_are_the_derivatives_of_its_energy(film, monkeypatch):
    """Weights and light held, the gradient by identity is that of half the weighted squares, by differences."""
    head, points, state, pictures = film
    surfels, frames = _frames(head, points, state, pictures)
    atlas = frames.learn(state, 3.0).atlas
    turn = axis_angle_to_matrix(torch.tensor([0.02, 0.02, 0.0], dtype=torch.float64))
    state = replace(state, rotation=turn @ state.rotation, identity=state.identity + 0.3)
    frames.of(surfels.of_identity(state.identity))
    monkeypatch.setattr(photometric, "frame_light", lambda *_: atlas.light)
    size, shared = 10 + points.expression.shape[-1], len(state.identity) + 1
    sizes = ((FRAMES, size, size), (FRAMES, size), (FRAMES, size, shared), (shared, shared), (shared,))
    equations = ShapeEquations(*(torch.zeros(*one, dtype=torch.float64) for one in sizes))
    add_photometric(equations, state, frames, surfels, atlas)
    kept = {}
    frames.rows(state, atlas, 6, kept.__setitem__, SHARE)

    def energy(at: FaceState) -> float:
        parts = []
        frames.of(surfels.of_identity(at.identity))
        frames.rows(at, atlas, 6, lambda t, rows: parts.append((kept[t].weight * rows.residual**2).sum()), SHARE)
        return 0.5 * SHARE * WEIGHT / len(surfels) * float(sum(parts))

    scale = float(equations.shared_gradient[:-1].abs().max())
    for component in range(shared - 1):
        step = 0.05 * torch.eye(shared - 1, dtype=torch.float64)[component]
        ahead, behind = (replace(state, identity=state.identity + sign * step) for sign in (1, -1))
        difference = (energy(ahead) - energy(behind)) / 0.1
        assert float(equations.shared_gradient[component]) == pytest.approx(difference, abs=0.05 * scale)
    focal = replace(state, focal=FOCAL * 1.001)
    difference = (energy(focal) - energy(replace(state, focal=FOCAL / 1.001))) / 0.002
    assert float(equations.shared_gradient[-1]) == pytest.approx(difference, rel=0.1)
    nod = torch.zeros(FRAMES, size, dtype=torch.float64)
    nod[:, 0] = 1e-3
    difference = (energy(state.moved(nod)) - energy(state.moved(-nod))) / 2e-3
    assert float(equations.gradient[:, 0].sum()) == pytest.approx(difference, rel=0.1)


def _observed(points, wrong: FaceState, pictures: list[Path], folder: Path) -> Observations:
    """Landmarks where the wrong poses have them, and mattes of the head."""
    at_head = points.points(wrong.identity, wrong.expression, wrong.gaze)
    camera = (at_head - anchor_of(points)) @ wrong.rotation.transpose(1, 2) + wrong.shift[:, None]
    pixels = perspective(camera, wrong.focal, torch.from_numpy(CENTRE)).numpy()
    landmarks = np.concatenate([pixels, np.ones_like(pixels[..., :1])], axis=-1)
    mattes = []
    for picture in pictures:
        mattes.append(folder / f"matte_{picture.name}")
        cv2.imwrite(str(mattes[-1]), np.where(cv2.imread(str(picture), 0) > 30, 255, 0).astype(np.uint8))
    slots = np.arange(float(len(pictures)))
    return Observations(slots.astype(int), slots, slots / 25, landmarks, mattes, whole_frames((SIZE, SIZE), None))


def _run(folder: Path) -> Run:
    return Run(folder / "film.mp4", folder, TrackConfig(), Workspace(folder), StageBars(silent=True))


def _spoilt(pictures: list[Path], folder: Path) -> list[Path]:
    """The film with one frame black, one overexposed, and one in which something covers the face."""
    result = []
    for t, path in enumerate(pictures):
        picture = cv2.imread(str(path), 0).astype(float)
        if t == 5:
            picture[:] = 2
        if t == 11:
            picture = 4 * picture + 60
        if t == 17:
            picture[:, :] = 255 * np.random.default_rng(0).random((SIZE // 8, SIZE // 8)).repeat(8, 0).repeat(8, 1)
        result.append(folder / path.name)
        cv2.imwrite(str(result[-1]), np.clip(picture, 0, 255).astype(np.uint8))
    return result


def test_the_stage_is_right_where_landmarks_err_and_never_worse(film, tmp_path, monkeypatch):
    head, points, state, pictures = film
    # A detector that errs this much, as all its errors do, in the same way in all frames.
    points = replace(points, detector=replace(KEYPOINTS, noise=0.02, outlier=0.15))
    old = _nodding_less(state)
    monkeypatch.setattr(look, "spread_surfels", lambda *a: spread_surfels(*a, count=1500))
    monkeypatch.setattr(stage, "spread_surfels", lambda *a: spread_surfels(*a, count=1500))
    seen = _observed(points, old, pictures, tmp_path)
    spoilt = _spoilt(pictures, tmp_path)
    key, found, result = stage.register(_run(tmp_path), "", head, points, seen, spoilt, old)
    assert result.kept and np.flatnonzero(result.alone).tolist() == [5, 11, 17]
    assert not result.covered.any()
    good = ~result.alone
    before, after = _turn_error_deg(old, state), _turn_error_deg(found, state)
    assert before[good].mean() > 1 and after[good].mean() < 0.7 * before[good].mean()
    assert result.after < 0.7 * result.before
    # Left to their landmarks, frames are no worse than these had them; their neighbours pull them the right way.
    assert (after[result.alone] < before[result.alone] + 0.1).all()
    said = result.summary(seen.kept)
    assert said["registered"] == FRAMES - 3 and said["by_landmarks"] == (5, 11, 17)

    # Finished parts are not done again.
    monkeypatch.setattr(stage, "learn_look", None)
    monkeypatch.setattr(stage, "register_window", None)
    again = stage.register(_run(tmp_path), "", head, points, seen, spoilt, old)
    assert again[0] == key and torch.equal(again[1].rotation, found.rotation)
    assert (again[2].alone == result.alone).all()


def test_pictures_that_have_nothing_to_do_with_the_head_change_nothing(film, tmp_path, monkeypatch):
    head, points, state, pictures = film
    monkeypatch.setattr(look, "spread_surfels", lambda *a: spread_surfels(*a, count=400))
    monkeypatch.setattr(stage, "spread_surfels", lambda *a: spread_surfels(*a, count=400))
    random = np.random.default_rng(2)
    noise = []
    for t in range(FRAMES):
        noise.append(tmp_path / f"{t:03d}.png")
        coarse = random.integers(0, 255, (SIZE // 8, SIZE // 8), dtype=np.uint8)
        cv2.imwrite(str(noise[-1]), coarse.repeat(8, 0).repeat(8, 1))
    seen = _observed(points, state, pictures, tmp_path)
    _, found, result = stage.register(_run(tmp_path), "", head, points, seen, noise, state)
    assert not result.kept and found is state and result.summary(seen.kept) == {}
    assert "landmarks alone" in registration_warnings(result, seen.kept)[0]
