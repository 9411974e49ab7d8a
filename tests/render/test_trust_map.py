"""How well training saw a face from a side: as filmed reads 1, and the farther from it the less."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation
from synthetic import look_at_origin
from synthetic_head import make_head, make_track

from flame_nerf.motion import PosedFrame, SubjectMotion, face_moves
from flame_nerf.render.observed.trust_map import GOOD, HALF_ANGLE_DEG, HALF_MOVE, TrustMap

NAMES = ("jawOpen", "mouthSmileLeft", "cheekPuff", "jaw.x")
MOVES = np.zeros((4, 4, 3))
for _entry, _share in enumerate((0.15, 0.08, 0.06, 0.4)):
    MOVES[_entry, _entry, 1] = _share


def face(*values: float, movement: np.ndarray | None = None) -> PosedFrame:
    condition = torch.zeros(len(NAMES))
    condition[: len(values)] = torch.tensor(values)
    return PosedFrame(torch.zeros(1, 3), condition, None if movement is None else torch.from_numpy(movement))


def camera(yaw_deg: float, pitch_deg: float = 0.0) -> np.ndarray:
    return look_at_origin(np.radians(yaw_deg), np.radians(pitch_deg))


def place(yaw_deg: float, pitch_deg: float = 0.0) -> np.ndarray:
    return camera(yaw_deg, pitch_deg)[:3, 3]


def clip(count: int = 200) -> tuple[np.ndarray, np.ndarray]:
    """A head that turns 12 degrees to either side while it talks and smiles; it never puffs its cheeks."""
    phase = np.linspace(0, 2 * np.pi, count)
    conditions = np.zeros((count, 4))
    conditions[:, 0], conditions[:, 1] = 0.25 - 0.25 * np.cos(9 * phase), 0.4 * np.abs(np.sin(2 * phase))
    return conditions, np.stack([camera(12 * np.sin(value), 4 * np.cos(value)) for value in phase])


def seen(count: int = 200, **more) -> TrustMap:
    # What was never filmed has learned to do nothing.
    effect = np.random.default_rng(0).normal(size=(6, 4)) * [1, 1, 0, 0]
    return TrustMap(*clip(count), np.zeros(3), NAMES, **{"effect": effect, "moves": MOVES} | more)


def test_what_was_filmed_reads_one_and_what_lies_between_nearly():
    known, (conditions, cameras) = seen(), clip()
    for condition, c2w in zip(conditions[::7], cameras[::7], strict=True):
        trust = known.at(face(*condition), c2w[:3, 3])
        assert trust.value > 0.999 and not trust.missing and not trust.marked
    held_out = TrustMap(conditions[::2], cameras[::2], np.zeros(3), NAMES, moves=MOVES)
    for condition, c2w in zip(conditions[1::2], cameras[1::2], strict=True):
        assert held_out.at(face(*condition), c2w[:3, 3]).value > 0.9
    # Of a long video some frames alone are kept.
    known, (conditions, cameras) = seen(3000), clip(3000)
    assert all(known.at(face(*conditions[row]), cameras[row, :3, 3]).value > 0.98 for row in range(0, 3000, 97))


@pytest.mark.parametrize("side", [1, -1])
def test_it_falls_as_the_head_turns_away_and_says_how_far(side):
    known = seen()
    found = [known.at(face(), place(side * yaw)) for yaw in range(12, 180, 6)]
    values = [trust.value for trust in found]
    assert all(left >= right for left, right in itertools.pairwise(values)) and values[0] > 0.9
    assert values[-1] < 1e-6
    trust = known.at(face(), place(side * 38))
    name = "left" if side > 0 else "right"
    assert trust.marked and trust.missing == f"seen from 38° to the person's {name} (filmed up to 12°)"
    assert trust.yaw_deg == pytest.approx(side * 38) and trust.expression > 0.9
    assert "seen from 40° above (filmed up to 4°)" in known.at(face(), place(0, 40)).missing


def test_half_trust_is_where_it_is_said_to_be():
    one = TrustMap(np.zeros((1, 4)), camera(0)[None], np.zeros(3), NAMES, moves=MOVES)
    assert one.at(face(), place(HALF_ANGLE_DEG)).value == pytest.approx(0.5, abs=1e-3)
    assert one.at(face(HALF_MOVE / 0.15), place(0)).value == pytest.approx(0.5, abs=1e-3)
    both = one.at(face(HALF_MOVE / 0.15), place(HALF_ANGLE_DEG))
    assert both.value == pytest.approx(0.25, abs=1e-3) and both.view == pytest.approx(both.expression, abs=1e-3)


def test_an_expression_that_was_never_filmed_is_marked_and_named():
    known = seen()
    trust = known.at(face(0, 0, 1.0), place(0))
    assert trust.value < 0.6 and trust.missing == "cheek puff 1.00 (never filmed)"
    trust = known.at(face(1.0), place(5))
    assert trust.marked and trust.missing == "mouth wider open than filmed (1.00, at most 0.50)"
    assert known.at(face(0, 0, 0, 0.4), place(0)).missing == "mouth wider open than filmed (23°, at most 0°)"
    others = TrustMap(*clip(), np.zeros(3), ("blink.L", "smile", "expr_012", "left_eye.y"), moves=MOVES)
    assert others.at(face(2.0), place(0)).missing == "blink l 2.00 (filmed up to 0.50)"
    assert others.at(face(0, 0, -3), place(0)).missing == "expr 012 -3.00 (never filmed)"
    assert others.at(face(0, 0, 0, -0.4), place(0)).missing == "left eye 23° to the right (never filmed)"
    worst = known.at(face(1.0, 0.9, 1.0), place(60))
    assert worst.missing.startswith("seen from 60°") and worst.value < known.at(face(), place(60)).value + 1e-9


def test_a_face_that_was_filmed_from_elsewhere_alone_is_named_so():
    conditions, cameras = np.zeros((2, 4)), np.stack([camera(-15), camera(15)])
    conditions[1, 0] = 1.0
    known = TrustMap(conditions, cameras, np.zeros(3), NAMES, moves=MOVES)
    trust = known.at(face(1.0), place(-15))
    assert min(trust.view, trust.expression) > 0.999 and trust.marked
    assert trust.missing == "this face was not filmed from this side"


def test_a_head_that_moved_is_seen_from_where_the_camera_then_stands():
    known, movement = seen(), np.eye(4)
    movement[:3, :3], movement[:3, 3] = Rotation.from_euler("y", 30, degrees=True).as_matrix(), (0.1, 0.0, -0.2)
    moved = known.at(face(movement=movement), movement[:3, :3] @ place(7) + movement[:3, 3])
    still = known.at(face(), place(7))
    assert moved.value == pytest.approx(still.value) and moved.yaw_deg == pytest.approx(7)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(-1e3, 1e3), min_size=4, max_size=4), st.floats(-1, 1), st.floats(-1, 1), st.floats(-1, 1))
def test_any_face_from_anywhere_has_a_number_and_words(values, x, y, z):
    trust = seen(20).at(face(*values), np.array([x, y, z]))
    assert 0 <= trust.value <= min(trust.view, trust.expression) + 1e-6 <= 1 + 2e-6
    assert bool(trust.missing) == (trust.value < GOOD) and "\n" not in trust.missing


def test_subjects_of_which_little_is_known():
    still = TrustMap(np.zeros((3, 4)), np.stack([camera(0)] * 3), np.zeros(3), NAMES)
    assert still.at(face(), place(0)).value == 1.0
    # Before training, conditions do nothing, and without a head model meshes are not known.
    assert seen(effect=np.zeros((6, 4)), moves=None).at(face(1.0), place(0)).expression == 1.0
    assert seen(effect=None, moves=None).at(face(5.0), place(0)).marked
    around = TrustMap(np.zeros((12, 4)), np.stack([camera(30 * n) for n in range(12)]), np.zeros(3), NAMES)
    assert "not filmed, 13° from the nearest" in around.at(face(), place(133)).missing
    with pytest.raises(ValueError, match="no training camera"):
        TrustMap(np.zeros((0, 4)), np.zeros((0, 4, 4)), np.zeros(3), NAMES)


def test_moves_are_those_of_the_head_model():
    head = make_head(turning_jaw=True)
    avatar = SubjectMotion(make_track(head, head), head)
    moves = face_moves(avatar)
    assert moves.shape[0] == len(avatar.condition_names) and moves.shape[2] == 3
    height = float(np.ptp(avatar.neutral().vertices[avatar.of_head, 1]))
    for entry in range(len(head.expression_names)):
        truth = float(head.exprdirs[..., entry].norm(dim=-1)[avatar.of_head].max()) / height
        assert np.linalg.norm(moves[entry], axis=-1).max() == pytest.approx(truth, rel=1e-3)
    turned = np.linalg.norm(moves[avatar.condition_names.index("jaw.x")], axis=-1).max()
    assert 0.1 < turned < 1, "a radian of the jaw moves the chin by a part of the head's height"
    assert face_moves(SubjectMotion(make_track(head, head))) is None
