"""What the face does: pose, gaze and expressions of all frames, smooth without lag, with the shape known."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from data_tools.tracking.fit.energy import Seen, frame_equations, held, within_bounds
from data_tools.tracking.fit.face.face_points import FacePoints
from data_tools.tracking.fit.head_flow import SeenMotion
from data_tools.tracking.fit.newton import newton_step, second_difference
from data_tools.tracking.fit.residuals import EXPRESSION, GAZE, POSE, FaceState
from flame_nerf.geometry import matrix_to_axis_angle

WINDOW, LOOKAHEAD = 500, 25
"""Frames solved together, and those beyond them that only steady the window's end: bounds memory on long videos."""
POSE_BEND = np.array([4e-3, 4e-3, 4e-3, 8e-4, 8e-4, 1.2e-3])
"""Usual second difference per tick of 1/25 s of the head's turn (radians) and of its place across and along the view
(metres): what is larger is movement, what is smaller may be noise."""
FLOW_BEND = np.array([0.3, 0.3, 0.3, 0.03, 0.03, 0.1])
"""The same of what is left of it once the movement that optical flow saw is taken off: flow's own error for each metre
that a pixel is wide at the head,"""
FLOW_SHARE = 0.03
"""and what is added to it for each radian or metre of movement: where the mesh is not quite the head."""
GAZE_BEND = np.array([0.025, 0.05, 0.025, 0.05])
"""The same of gaze, each eye's down and to its left, radians: irises tell half as well how far down eyes look;"""
EXPRESSION_BEND = 0.06
"""of expression coefficients,"""
QUICK_BEND = 0.15
"""and of those of the lids: a blink is over after four frames."""
STEPS, PLACING_STEPS = 5, 3
"""Newton steps a window; after three the picture of the error no longer changes, but short blinks still do."""


def fit_motion(
    points: FacePoints,
    state: FaceState,
    seen: Seen,
    slots: Float[np.ndarray, " T"],
    on_frames: Callable[[int], None] = lambda count: None,
    motion: SeenMotion | None = None,
    steps: int = STEPS,
    workers: int = 1,
) -> FaceState:
    """Fit pose, gaze and expressions of all frames to the landmarks and to smooth movement; shape and focal stay.

    Movement is smooth in a robust sense: second differences far above the usual (a blink, a nod's turn) cost little.
    Where optical flow saw how the head moved, what is smooth is the difference to that.

    Args:
        state: first guess.
        slots: time of each frame in ticks of the sampling clock.
        motion: of the head, as flow saw it.
        steps: Newton steps a window.
        on_frames: called with the number of frames that are done since the last call.
    """
    for which, settled, stop in windows(len(slots)):
        window, in_window = state.frames(which), seen.frames(which)
        known = None if motion is None else motion.frames(which)
        fixed = np.arange(len(window.shift)) < settled
        for _ in range(steps):
            window = motion_step(points, window, in_window, slots[which], fixed, known, workers=workers)
            on_frames(0)
        state = put_frames(state, window, which)
        on_frames(stop - which.start - settled)
    return state


def windows(frames: int, length: int = WINDOW, lookahead: int = LOOKAHEAD) -> Iterator[tuple[slice, int, int]]:
    """Runs of frames that are solved together, one after the other.

    Yields:
        The window's frames, how many of its first are done already, and where the frames end that are done after it;
        the others only steady its end.
    """
    done = 0
    while done < frames:
        # A rest too short for a window of its own is done with this one.
        stop = frames if frames - done < length + 2 * lookahead else done + length
        start = max(0, done - 2)
        yield slice(start, min(frames, stop + lookahead)), done - start, stop
        done = stop


def motion_step(
    points: FacePoints,
    state: FaceState,
    seen: Seen,
    slots: Float[np.ndarray, " T"],
    settled: Bool[np.ndarray, " T"],
    motion: SeenMotion | None = None,
    more: tuple[Float[np.ndarray, "T P"], Float[np.ndarray, "T P P"]] | None = None,
    workers: int = 1,
) -> FaceState:
    """One Newton step of all frames but the settled ones.

    Args:
        more: further evidence as gradient and Hessian. Where they are of the first parameters alone, only these move.
    """
    whole = EXPRESSION.start + points.expression.shape[-1]
    size = whole if more is None else more[0].shape[1]
    hessian, gradient = (part.numpy() for part in frame_equations(points, state, seen, size, workers))
    if more is not None:
        hessian, gradient = hessian + more[1], gradient + more[0]
    rest = np.zeros((len(gradient), whole - size))
    fixed = held(points, state, torch.from_numpy(np.concatenate([gradient, rest], axis=1))).numpy()[:, :size]
    fixed[settled] = True
    difference = second_difference(slots)
    bend = _bend(state, slots, difference)[:, :size]
    usual = _usual_bend(points, whole)[:size]
    flow = None if motion is None else seen_bend(motion, slots, difference, _pixel_size(state))
    if flow is not None:
        bend[:, POSE] -= flow[0]
    stiffness = robust_stiffness(bend, usual)
    if flow is not None:
        # The fit comes from far outside of flow's error: what is an outlier is told by the usual movement.
        stiffness[:, POSE] *= (POSE_BEND / flow[1]) ** 2
    step = newton_step(hessian, gradient, difference, bend, stiffness, fixed)
    moved = state.moved(torch.from_numpy(np.concatenate([step, rest], axis=1)))
    return within_bounds(points, moved)


def _usual_bend(points: FacePoints, size: int) -> Float[np.ndarray, " P"]:
    usual = np.full(size, EXPRESSION_BEND)
    if points.quick is not None:
        usual[EXPRESSION][points.quick.numpy()] = QUICK_BEND
    usual[POSE], usual[GAZE] = POSE_BEND, GAZE_BEND
    return usual


def _bend(
    state: FaceState, slots: Float[np.ndarray, " T"], difference: Float[np.ndarray, "T_minus_2 3"]
) -> Float[np.ndarray, "T_minus_2 P"]:
    """Second differences of all parameters."""
    rest = torch.cat([state.gaze.flatten(1), state.expression], dim=1).numpy()
    return np.concatenate([pose_bend(state, slots, difference), _differ(rest, difference)], axis=1)


def pose_bend(
    state: FaceState, slots: Float[np.ndarray, " T"], difference: Float[np.ndarray, "T_minus_2 3"]
) -> Float[np.ndarray, "T_minus_2 6"]:
    """Second differences of turn and shift; of the turn, differences of the turns from frame to frame."""
    between = matrix_to_axis_angle(state.rotation[1:] @ state.rotation[:-1].transpose(1, 2)).numpy()
    speed = between / np.diff(slots)[:, None]
    tied = np.any(difference != 0, axis=1)
    turn = (speed[1:] - speed[:-1]) * tied[:, None]
    return np.concatenate([turn, _differ(state.shift.numpy(), difference)], axis=1)


def _pixel_size(state: FaceState) -> float:
    """Width of a pixel at the head, metres."""
    return float(state.shift[:, 2].median()) / state.focal


def seen_bend(
    motion: SeenMotion, slots: Float[np.ndarray, " T"], difference: Float[np.ndarray, "T_minus_2 3"], pixel: float
) -> tuple[Float[np.ndarray, "T_minus_2 6"], Float[np.ndarray, "T_minus_2 6"]]:
    """Second differences of turn and shift as flow saw them, and what they usually err by.

    Where flow did not see both movements they are 0 and err by what is usual without flow.
    """
    speed = motion.moved / np.diff(slots)[:, None]
    sure = motion.sure[1:] & motion.sure[:-1] & np.any(difference != 0, axis=1)
    size = np.linalg.norm(speed.reshape(-1, 2, 3), axis=2).repeat(3, axis=1)
    error = np.hypot(pixel * FLOW_BEND, FLOW_SHARE * np.maximum(size[1:], size[:-1]))
    error = np.where(sure[:, None], np.minimum(error, POSE_BEND), POSE_BEND)
    return (speed[1:] - speed[:-1]) * sure[:, None], error


def robust_stiffness(
    bend: Float[np.ndarray, "T_minus_2 P"], usual: Float[np.ndarray, " P"]
) -> Float[np.ndarray, "T_minus_2 P"]:
    """Weight of each second difference: full for noise, next to none for movement (Cauchy)."""
    return 1 / usual**2 / (1 + (bend / (3 * usual)) ** 2)


def _differ(
    values: Float[np.ndarray, "T D"], difference: Float[np.ndarray, "T_minus_2 3"]
) -> Float[np.ndarray, "T_minus_2 D"]:
    return sum(difference[:, i, None] * values[i : len(values) - 2 + i] for i in range(3))


def put_frames(state: FaceState, window: FaceState, which: slice) -> FaceState:
    """The state with a window's frames replaced."""
    changed = {}
    for name in ("rotation", "shift", "gaze", "expression"):
        values = getattr(state, name).clone()
        values[which] = getattr(window, name)
        changed[name] = values
    return replace(state, **changed)


def expressions_of(points: FacePoints, state: FaceState, count: int) -> Float[Tensor, "T E_all"]:
    """Coefficients in the head model's own order, those that are not fitted at zero.

    Args:
        count: number of expressions of the head model.
    """
    result = torch.zeros(len(state.expression), count, dtype=state.expression.dtype)
    fitted = state.expression[:, : len(points.expression_rows)]
    result[:, points.expression_rows] = points.unit * fitted
    return result
