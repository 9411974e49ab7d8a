"""A take as Live Link Face writes it, by an independent hand: its columns, timecodes, drop-outs and doubled frames."""

from __future__ import annotations

from pathlib import Path

import numpy as np

COLUMNS = (
    "EyeBlinkLeft,EyeLookDownLeft,EyeLookInLeft,EyeLookOutLeft,EyeLookUpLeft,EyeSquintLeft,EyeWideLeft,EyeBlinkRight,"
    "EyeLookDownRight,EyeLookInRight,EyeLookOutRight,EyeLookUpRight,EyeSquintRight,EyeWideRight,JawForward,JawRight,"
    "JawLeft,JawOpen,MouthClose,MouthFunnel,MouthPucker,MouthRight,MouthLeft,MouthSmileLeft,MouthSmileRight,"
    "MouthFrownLeft,MouthFrownRight,MouthDimpleLeft,MouthDimpleRight,MouthStretchLeft,MouthStretchRight,"
    "MouthRollLower,MouthRollUpper,MouthShrugLower,MouthShrugUpper,MouthPressLeft,MouthPressRight,"
    "MouthLowerDownLeft,MouthLowerDownRight,MouthUpperUpLeft,MouthUpperUpRight,BrowDownLeft,BrowDownRight,"
    "BrowInnerUp,BrowOuterUpLeft,BrowOuterUpRight,CheekPuff,CheekSquintLeft,CheekSquintRight,NoseSneerLeft,"
    "NoseSneerRight,TongueOut,HeadYaw,HeadPitch,HeadRoll,LeftEyeYaw,LeftEyePitch,LeftEyeRoll,RightEyeYaw,"
    "RightEyePitch,RightEyeRoll"
).split(",")
FIRST_FRAME = ((9 * 60 + 58) * 60 + 57) * 60 + 31


def performance(count: int = 1000, fps: int = 60) -> dict[str, np.ndarray]:
    """Talking, blinking and turning, with a phone's noise, and a mouth that never quite shuts."""
    rng, time = np.random.default_rng(4), np.arange(count) / fps
    values = {name: np.abs(rng.normal(0, 0.01, count)) + 0.02 for name in COLUMNS}
    syllables = np.clip(np.sin(2 * np.pi * 3.1 * time) * np.sin(2 * np.pi * 0.4 * time), 0, 1)
    values["JawOpen"] = 0.06 + 0.7 * syllables + rng.normal(0, 0.005, count)
    blink = np.exp(-(((time[:, None] - np.arange(0.7, 0.7 + count / fps, 2.3)) / 0.06) ** 2)).sum(axis=1)
    values["EyeBlinkLeft"] = values["EyeBlinkRight"] = 0.08 + 0.85 * blink
    values["HeadYaw"] = 0.45 * np.sin(2 * np.pi * 0.21 * time)
    values["HeadPitch"] = 0.12 * np.sin(2 * np.pi * 0.13 * time + 1)
    values["HeadRoll"] = 0.07 * np.cos(2 * np.pi * 0.17 * time)
    return values


def write_take(
    path: Path, values: dict[str, np.ndarray], *, columns=None, dropped=(), doubled=(), case=str, scale: float = 1.0
) -> Path:
    """`dropped` rows are missing, `doubled` ones stand there twice; angles are multiplied by `scale`."""
    columns = list(columns or COLUMNS)
    lines = [",".join(["Timecode", "BlendShapeCount", *map(case, columns)])]
    for row in range(len(values["JawOpen"])):
        number = FIRST_FRAME + row
        clock = (
            f"{number // 216000:02d}:{number // 3600 % 60:02d}:{number // 60 % 60:02d}:{number % 60:02d}.{row % 7:03d}"
        )
        angled = {name: scale if name in COLUMNS[52:] else 1.0 for name in columns}
        line = ",".join([clock, "61", *(f"{values[name][row] * angled[name]:.7f}" for name in columns)])
        lines += [] if row in dropped else [line] * (2 if row in doubled else 1)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path
