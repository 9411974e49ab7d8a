"""What the synthetic person does: expressions, gaze and head turns over time, all from a seed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float

from data_tools.synth.config import SynthConfig
from data_tools.synth.noise import ramp
from data_tools.tracking.camera import FLIP
from data_tools.tracking.fit.neck import neck_pose, torso_in_head
from flame_nerf.geometry import axis_angle_to_matrix
from flame_nerf.heads import HeadModel
from flame_nerf.heads.eyes import personal_head

FPS = 25.0
"""Frames a second of every film."""
PITCH, ROLL = 0.48, 0.24
"""How far the head nods and leans in the training film, beside how far it turns."""
SWAY = (0.012, 0.006, 0.015)
"""How far the body moves sideways, up and towards the camera, metres."""

TALK = {
    "jawOpen": 0.55, "mouthFunnel": 0.45, "mouthStretchLeft": 0.4, "mouthStretchRight": 0.4, "mouthLowerDownLeft": 0.5,
    "mouthLowerDownRight": 0.5, "mouthUpperUpLeft": 0.45, "mouthUpperUpRight": 0.45, "mouthRollUpper": 0.3,
    "mouthShrugUpper": 0.3,
}  # fmt: skip
"""What moves at random, each to so much, while the person talks."""
POSES = (
    {"mouthSmileLeft": 0.8, "mouthSmileRight": 0.8, "cheekSquintLeft": 0.6, "cheekSquintRight": 0.6},
    {"browInnerUp": 0.9, "browOuterUpLeft": 0.8, "browOuterUpRight": 0.8, "eyeWideLeft": 0.7, "eyeWideRight": 0.7},
    {"jawOpen": 0.9, "mouthStretchLeft": 0.2, "mouthStretchRight": 0.2},
    {"browDownLeft": 0.9, "browDownRight": 0.9, "eyeSquintLeft": 0.7, "eyeSquintRight": 0.7, "mouthPressLeft": 0.5,
     "mouthPressRight": 0.5},
    {"mouthSmileLeft": 0.9, "mouthSmileRight": 0.9, "jawOpen": 0.5, "mouthUpperUpLeft": 0.4, "mouthUpperUpRight": 0.4},
    {"mouthFrownLeft": 0.8, "mouthFrownRight": 0.8, "mouthShrugLower": 0.6, "browInnerUp": 0.6},
    {"mouthFunnel": 0.8, "jawOpen": 0.35, "browOuterUpLeft": 0.6},
    {"mouthDimpleLeft": 0.7, "mouthDimpleRight": 0.7, "mouthSmileLeft": 0.3, "browOuterUpRight": 0.7},
)  # fmt: skip
"""Expressions that the training film goes through, one after the other."""
NOVEL = {
    "puff": {"cheekPuff": 0.8},
    "pucker": {"mouthPucker": 0.9},
    "sneer": {"noseSneerLeft": 0.9, "noseSneerRight": 0.9},
    "skew": {"mouthLeft": 0.8, "jawLeft": 0.5},
    "skew back": {"mouthRight": 0.8, "jawRight": 0.5},
    "jut": {"jawForward": 0.8, "mouthRollLower": 0.6},
}
"""Expressions of which the training film shows nothing, by name."""


@dataclass(frozen=True)
class Performance:
    """T moments of one person, 25 a second."""

    expression: Float[np.ndarray, "T E"]
    pose: Float[np.ndarray, "T J 3"]
    vertices: Float[np.ndarray, "T V 3"]
    """The posed head in the head frame, float32."""
    torso_to_head: Float[np.ndarray, "T 3 3"]
    """Rotation from the body's axes to the head's."""
    head_to_room: Float[np.ndarray, "T 4 4"]
    """Rigid motion of the head in the room, which the body stands in: OpenGL axes of a camera straight ahead of it."""

    def __len__(self) -> int:
        return len(self.vertices)


def generators(config: SynthConfig) -> list[np.random.Generator]:
    """What person, figure, training film, new expressions and room are drawn with: one each, so that a longer film does
    not change the face, and another take not the person."""
    drawn = np.random.default_rng(config.seed).spawn(5)
    if config.take:
        drawn[2:4] = np.random.default_rng([config.seed, config.take]).spawn(2)
    return drawn


def draw_identity(head: HeadModel, random: np.random.Generator) -> Float[torch.Tensor, " S"]:
    """Shape coefficients of a person one would believe: a little nearer the mean than people are."""
    return torch.from_numpy(random.normal(0, 0.6, head.shapedirs.shape[-1]).astype(np.float32))


def training_performance(
    head: HeadModel,
    identity: Float[torch.Tensor, " S"],
    frames: int,
    random: np.random.Generator,
    turn_deg: float = SynthConfig.turn_deg,
    shuffled: bool = False,
) -> Performance:
    """Talking, one expression after the other, blinks and glances, while the head turns to both sides and nods.

    Args:
        shuffled: the expressions come in another order, each to another height.
    """
    seconds = np.arange(frames) / FPS
    values = dict.fromkeys(head.expression_names, 0.0)
    # Everything comes once, however short the film is.
    slot = frames / len(POSES)
    order = random.permutation(len(POSES)) if shuffled else range(len(POSES))
    for number, row in enumerate(order):
        expression, height = POSES[row], random.uniform(0.6, 1.0) if shuffled else 1.0
        level = height * _bump(np.arange(frames), (number + 0.6) * slot, 0.3 * slot)
        for name, peak in expression.items():
            values[name] = np.maximum(values[name], peak * level)
    posing = np.max([_bump(np.arange(frames), (n + 0.6) * slot, 0.3 * slot) for n in range(len(POSES))], axis=0)
    for name, peak in TALK.items():
        syllables = np.clip(_wander(seconds, 0.35, random) * 0.9 + 0.25, 0, 1)
        values[name] = np.maximum(values[name], peak * syllables * (1 - 0.8 * posing))
    gaze = 0.16 * np.stack([0.6 * _wander(seconds, 1.1, random), _wander(seconds, 0.9, random)], axis=1)
    whole = frames / FPS
    angles = np.stack(
        [
            -PITCH * np.sin(2 * np.pi * (seconds / min(4.1, whole) + random.uniform())),
            np.sin(2 * np.pi * (seconds / min(5.9, whole) + random.uniform())),
            ROLL * _wander(seconds, 2.5, random),
        ],
        axis=1,
    )
    return _act(head, identity, values, gaze, np.radians(turn_deg * angles), seconds, random)


def novel_performance(
    head: HeadModel, identity: Float[torch.Tensor, " S"], frames: int, random: np.random.Generator
) -> tuple[Performance, list[str]]:
    """The `NOVEL` expressions one after the other, before a head that hardly turns.

    Returns:
        the performance, and the name of the expression that each frame shows.
    """
    seconds = np.arange(frames) / FPS
    values = dict.fromkeys(head.expression_names, 0.0)
    slot = frames / len(NOVEL)
    for number, expression in enumerate(NOVEL.values()):
        # Never quite back to neutral: every frame of this film is to show something new.
        level = np.where(
            (np.arange(frames) // slot).astype(int) == number,
            0.5 + 0.5 * _bump(np.arange(frames) + 0.5, (number + 0.5) * slot, 0.5 * slot),
            0.0,
        )
        for name, peak in expression.items():
            values[name] = np.maximum(values[name], peak * level)
    values["jawOpen"] = np.maximum(values["jawOpen"], 0.12 * np.clip(_wander(seconds, 0.6, random), 0, 1))
    gaze = 0.1 * np.stack([0.5 * _wander(seconds, 1.1, random), _wander(seconds, 0.9, random)], axis=1)
    angles = [[4, 10, 2]] * np.stack([_wander(seconds, 1.5, random) for _ in range(3)], axis=1)
    names = [list(NOVEL)[min(int(frame // slot), len(NOVEL) - 1)] for frame in range(frames)]
    return _act(head, identity, values, gaze, np.radians(angles), seconds, random, blinks=False), names


def _act(
    head: HeadModel,
    identity: Float[torch.Tensor, " S"],
    values: dict[str, np.ndarray | float],
    gaze: Float[np.ndarray, "T 2"],
    angles: Float[np.ndarray, "T 3"],
    seconds: Float[np.ndarray, " T"],
    random: np.random.Generator,
    blinks: bool = True,
) -> Performance:
    """Pose the head. `gaze` (down, to the subject's left) and `angles` (down, left, lean) in radians."""
    frames = len(seconds)
    if blinks:
        shut = np.zeros(frames)
        for start in np.arange(random.uniform(0.5, 1.2), seconds[-1] + 1, 2.3):
            shut = np.maximum(shut, _bump(seconds, start + random.uniform(-0.3, 0.3), 0.14))
        for side in ("Left", "Right"):
            values[f"eyeBlink{side}"] = np.maximum(values[f"eyeBlink{side}"], shut)
            values[f"eyeWide{side}"] = values[f"eyeWide{side}"] * (1 - shut)
    expression = np.stack([np.broadcast_to(values[name], (frames,)) for name in head.expression_names], axis=1)
    turn = axis_angle_to_matrix(torch.from_numpy(angles * [0, 1, 0])) @ axis_angle_to_matrix(
        torch.from_numpy(angles * [1, 0, 0])
    ) @ axis_angle_to_matrix(torch.from_numpy(angles * [0, 0, 1]))  # fmt: skip
    pose = neck_pose(head, torch.from_numpy(FLIP) @ turn, seconds)
    for name in ("left_eye", "right_eye"):
        pose[:, head.joint_names.index(name), :2] = torch.from_numpy(gaze)
    # float32 from here on: the stored coefficients are to give exactly the stored mesh.
    expression, pose = expression.astype(np.float32), pose.float()
    with torch.no_grad():
        rest, _ = head.rest(identity)
        vertices = personal_head(head, rest).vertices(identity, torch.from_numpy(expression), pose).numpy()
    torso = torso_in_head(head, pose.double()).numpy()
    # The body stands, and the head is carried by it: where the chest is in the head frame tells where the head is.
    chest = vertices[:, head.skinning_weights[:, 0].numpy() > 0.99].mean(axis=1).astype(np.float64)
    sway = np.stack([_wander(seconds, 2.2, random) for _ in range(3)], axis=1) * SWAY
    head_to_room = np.tile(np.eye(4), (frames, 1, 1))
    head_to_room[:, :3, :3] = turn.numpy()
    rest_chest = chest.mean(axis=0)
    head_to_room[:, :3, 3] = rest_chest + sway - (turn.numpy() @ chest[..., None])[..., 0]
    return Performance(expression, pose.numpy(), vertices, torso, head_to_room)


def _bump(at: np.ndarray, middle: float, half_width: float) -> np.ndarray:
    """Rises to 1 at `middle` and falls again, flat on top for half its width."""
    return ramp(np.abs(at - middle) / max(half_width, 1e-6), 1.0, 0.5)


def _wander(seconds: np.ndarray, period: float, random: np.random.Generator) -> np.ndarray:
    """A smooth random walk about 0, most of it within -1..1, that changes its mind about every `period` seconds."""
    total = np.zeros_like(seconds)
    for stretch in (0.7, 1.0, 1.6):
        total += np.sin(2 * np.pi * (seconds / (2 * period * stretch) + random.uniform()))
    return np.clip(total / 1.8, -1, 1)
