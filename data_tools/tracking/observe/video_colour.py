"""From a video's own colours to 8-bit sRGB-like pictures: wide primaries, and high dynamic range.

High dynamic range is shown as BT.2390 has it: light up to a knee stays as it is, what is brighter is rolled off.
Everything is display light in cd/m2: transfer functions by ITU-R BT.2100 (PQ is also SMPTE ST 2084, HLG ARIB STD-B67),
primaries by ITU-R BT.2087 and SMPTE RP 431 / EG 432, the grey curve of the pictures by ITU-R BT.1886.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import cv2
import numpy as np
from jaxtyping import Float, UInt8, UInt16

PQ, HLG, LINEAR = 16, 18, 8
"""FFmpeg's numbers of transfer functions (ITU-T H.273) that no screen of standard range shows as they are."""
STRANGE_TRANSFERS = {9: "logarithmic", 10: "logarithmic", 17: "SMPTE 428 (cinema)"}
STRANGE_MATRICES = {8: "YCgCo", 11: "SMPTE 2085", 12: "derived", 13: "derived", 14: "ICtCp", 15: "IPT-C2"}
STRANGE_PRIMARIES = {10: "XYZ"}
BT2020, DCI_P3, DISPLAY_P3 = 9, 11, 12
TO_BT709 = {
    BT2020: ((1.660491, -0.587641, -0.072850), (-0.124550, 1.132900, -0.008349), (-0.018151, -0.100579, 1.118730)),
    DISPLAY_P3: ((1.224940, -0.224940, 0.0), (-0.042057, 1.042057, 0.0), (-0.019638, -0.078636, 1.098274)),
}
"""Linear light of wider primaries to that of BT.709, the white point being the same."""
# Its white differs a little; graded films are watched with the screen's.
TO_BT709[DCI_P3] = TO_BT709[DISPLAY_P3]
LUMINANCE = np.float32((0.2627, 0.6780, 0.0593))
"""Share of BT.2020's red, green and blue in luminance."""
HLG_PEAK, HLG_GAMMA = 1000.0, 1.2
"""BT.2100's reference screen for HLG, cd/m2, and the gamma of its system."""
PQ_PEAK = 10000.0
GRADED_WHITE, CONVERTED_WHITE = 203.0, 100.0
"""White of a picture in cd/m2: filmed or graded for high dynamic range (ITU-R BT.2408), and of converted standard."""
GLARE, GLARING_SHARE = 1000.0, 0.03
"""Light that filmed pictures reach in reflections and lamps, cd/m2, and the share of a film from which that is strange:
numbers of standard range that are read as PQ are as bright."""
TOLERANCE = 1.1
"""How far above its white compression may throw a converted picture."""
SCREEN_GAMMA = 2.4
_STEPS = 4096


def pq_light(code: Float[np.ndarray, "*N"]) -> Float[np.ndarray, "*N"]:
    """Light in cd/m2 of PQ signals of 0 to 1 (BT.2100, table 4)."""
    m1, m2, c1, c2, c3 = 2610 / 16384, 2523 / 32, 3424 / 4096, 2413 / 128, 2392 / 128
    power = np.asarray(code, dtype=np.float64) ** (1 / m2)
    return PQ_PEAK * (np.maximum(power - c1, 0) / (c2 - c3 * power)) ** (1 / m1)


def pq_signal(light: Float[np.ndarray, "*N"]) -> Float[np.ndarray, "*N"]:
    """PQ signal of light in cd/m2; undoes `pq_light`."""
    m1, m2, c1, c2, c3 = 2610 / 16384, 2523 / 32, 3424 / 4096, 2413 / 128, 2392 / 128
    power = (np.asarray(light, dtype=np.float64) / PQ_PEAK) ** m1
    return ((c1 + c2 * power) / (1 + c3 * power)) ** m2


def hlg_scene(code: Float[np.ndarray, "*N"]) -> Float[np.ndarray, "*N"]:
    """Light of the scene, 0 to 1, of HLG signals of 0 to 1 (BT.2100, table 5)."""
    a = 0.17883277
    b, c = 1 - 4 * a, 0.5 - a * np.log(4 * a)
    code = np.asarray(code, dtype=np.float64)
    return np.where(code <= 0.5, code**2 / 3, (np.exp((code - c) / a) + b) / 12)


def rolled_off(light: Float[np.ndarray, "*N"], white: float, peak: float) -> Float[np.ndarray, "*N"]:
    """Light of 0 to `peak` brought to 0 to `white`, cd/m2, as BT.2390 (section 5.4.1) brings it to a darker screen."""
    if peak <= white * (1 + 1e-6):  # where the two are one, the knee is the end
        return np.minimum(light, white)
    top = pq_signal(peak)
    signal, brightest = np.minimum(pq_signal(light) / top, 1), pq_signal(white) / top
    knee = 1.5 * brightest - 0.5
    t = np.maximum(signal - knee, 0) / (1 - knee)
    curve = (2 * t**3 - 3 * t**2 + 1) * knee + (t**3 - 2 * t**2 + t) * (1 - knee) + (3 * t**2 - 2 * t**3) * brightest
    return pq_light(np.where(signal < knee, signal, curve) * top)


@dataclass(frozen=True)
class Colours:
    """How a stream's numbers become colours, and how its pictures are brought to standard range.

    Example:
        >>> grey = np.full((1, 1, 3), 0.5081 * 65535, dtype=np.uint16)
        >>> Colours(PQ, BT2020, 5, peak=100.0).standard(grey).tolist()
        [[[255, 255, 255]]]
    """

    transfer: int = 1
    primaries: int = 1
    matrix: int = 1
    """FFmpeg's numbers of them, which are those of ITU-T H.273."""
    peak: float = 0.0
    """Brightest light that the film shows, cd/m2; only high dynamic range needs it."""
    glare: float = 0.0
    """Share of the film that is brighter than `GLARE`."""

    @property
    def high(self) -> bool:
        """Whether it is of high dynamic range."""
        return self.transfer in (PQ, HLG)

    @property
    def deep(self) -> bool:
        """Whether pictures must be taken at 16 bits and go through `standard`."""
        return self.high or self.transfer == LINEAR or self.primaries in TO_BT709

    @property
    def white(self) -> float:
        """Light that becomes a picture's white, cd/m2. The same for a whole film, so that it does not flicker."""
        return GRADED_WHITE if self.peak > TOLERANCE * CONVERTED_WHITE else CONVERTED_WHITE

    @property
    def note(self) -> str:
        """What was done; empty if nothing was."""
        if self.high:
            name = "PQ" if self.transfer == PQ else "HLG"
            return f"High dynamic range ({name}) was brought to standard range, white at {self.white:.0f} cd/m2."
        return "Wide or linear colours were brought to BT.709." if self.deep else ""

    @property
    def warning(self) -> str:
        """What cannot be shown; empty if everything can."""
        strange = [
            table[number]
            for table, number in (
                (STRANGE_TRANSFERS, self.transfer),
                (STRANGE_PRIMARIES, self.primaries),
                (STRANGE_MATRICES, self.matrix),
            )
            if number in table
        ]
        if not strange and self.transfer == PQ and self.glare > GLARING_SHARE:
            return (
                f"The file says that it is of high dynamic range (PQ), and {100 * self.glare:.0f} % of it would be "
                f"brighter than {GLARE:.0f} cd/m2: it seems to be of standard range, marked wrongly. If the pictures "
                "come out white, mark it rightly and track that: ffmpeg -i VIDEO -vf "
                "setparams=color_primaries=bt709:color_trc=bt709:colorspace=bt709 -crf 12 MARKED.mp4"
            )
        if not strange:
            return ""
        return (
            f"Its colours ({', '.join(strange)}) cannot be converted, so the pictures are too dark, too pale or of a "
            "wrong hue. Export the video as BT.709 first."
        )

    def light(self, picture: UInt16[np.ndarray, "*N 3"]) -> Float[np.ndarray, "*N 3"]:
        """Light of the screen that each channel asks for, cd/m2 (1 is white in standard range)."""
        light = self._light_of_code[picture]
        if self.transfer == HLG:
            scene = light @ LUMINANCE
            light = light * (HLG_PEAK * scene ** np.float32(HLG_GAMMA - 1))[..., None]
        return light

    def standard(self, picture: UInt16[np.ndarray, "H W 3"]) -> UInt8[np.ndarray, "H W 3"]:
        """The picture as a screen of standard range shows it."""
        light = self.light(picture)
        if self.high:
            brightest = light.max(axis=-1)
            # One factor for the three channels keeps the hue.
            place = np.sqrt(np.sqrt(brightest * np.float32(1 / PQ_PEAK))) * np.float32(_STEPS - 1)
            light *= self._gain[np.minimum(place, _STEPS - 1).astype(np.int32)][..., None]
        if self.primaries in TO_BT709:
            light = cv2.transform(light, np.float32(TO_BT709[self.primaries]))
        return _SCREEN[(np.sqrt(np.clip(light, 0, 1)) * np.float32(_STEPS - 1) + np.float32(0.5)).astype(np.int32)]

    @cached_property
    def _light_of_code(self) -> Float[np.ndarray, "65536"]:
        code = np.arange(65536) / 65535.0
        if self.transfer == PQ:
            light = pq_light(code)
        elif self.transfer == HLG:
            light = hlg_scene(code)
        else:
            light = code if self.transfer == LINEAR else code**SCREEN_GAMMA
        return light.astype(np.float32)

    @cached_property
    def _gain(self) -> Float[np.ndarray, " S"]:
        """What light is multiplied by to be 0 to 1, for the fourth root of the brightest channel's."""
        light = PQ_PEAK * ((np.arange(_STEPS) + 0.5) / (_STEPS - 1)) ** 4
        return (rolled_off(light, self.white, max(self.peak, self.white)) / (light * self.white)).astype(np.float32)


_SCREEN = np.round(255 * (np.arange(_STEPS) / (_STEPS - 1)) ** (2 / SCREEN_GAMMA)).astype(np.uint8)
"""Level of a screen for the square root of light."""


def colours_of(frame: Any, context: Any) -> Colours:
    """What a decoded PyAV frame says of its colours; the stream's codec context where the frame does not."""

    def told(name: str, unknown: int = 2) -> int:
        value = getattr(frame, name, None)
        if value is None or int(value) == unknown:
            value = getattr(context, name, unknown)
        return int(unknown if value is None else value)

    return Colours(told("color_trc"), told("color_primaries"), told("colorspace"))


def lights_of(colours: Colours, picture: UInt16[np.ndarray, "H W 3"]) -> tuple[float, float]:
    """Light that all but a thousandth of a picture stays below, cd/m2, since compression throws single pixels higher;
    and the share of it that is brighter than `GLARE`."""
    light = colours.light(picture).max(axis=-1)
    return float(np.percentile(light, 99.9)), float((light > GLARE).mean())
