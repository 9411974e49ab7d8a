"""Live Link Face's UDP packets.

Big-endian throughout: version (1 byte, 6), device id and subject name (each an int32 length and its bytes), frame
number (int32), sub-frame (float32), frames a second (int32) and its denominator (int32), the count of values (1 byte:
61, or 0 while the phone sees no face), and so many float32.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from flame_nerf.motion.arkit import ARKIT_NAMES

VERSION = 6
COUNT = 61
LONGEST_NAME = 256
MOST_VALUE = 1e3
"""No coefficient and no angle, in degrees neither, is larger."""
_SWAPPED = {"jawRight": "jawLeft", "jawLeft": "jawRight", "mouthRight": "mouthLeft", "mouthLeft": "mouthRight"}
PACKET_NAMES = tuple(_SWAPPED.get(name, name) for name in ARKIT_NAMES)
"""Order of a packet's expressions: the app's files have left and right of jaw and mouth the other way round. The nine
angles follow: yaw, pitch and roll of the head, the left eye and the right one."""


@dataclass(frozen=True, eq=False)
class Packet:
    """One packet."""

    device: str
    subject: str
    values: Float[np.ndarray, " 61"] | None
    """None while the phone sees no face."""


def read_packet(data: bytes) -> Packet | None:
    """A packet's content; None where it is cut short, of another layout, or holds what is no number."""
    try:
        place, names = 1, []
        if data[0] != VERSION:
            return None
        for _ in range(2):
            (length,) = struct.unpack_from(">i", data, place)
            if not 0 <= length <= LONGEST_NAME or place + 4 + length > len(data):
                return None
            names.append(data[place + 4 : place + 4 + length].decode("utf-8"))
            place += 4 + length
        *_, count = struct.unpack_from(">ifiiB", data, place)
        place += struct.calcsize(">ifiiB")
        if count not in (0, COUNT) or len(data) != place + 4 * count:
            return None
        values = np.frombuffer(data, ">f4", count, place).astype(np.float64)
    except (struct.error, UnicodeDecodeError, IndexError):
        return None
    if count and not (np.isfinite(values).all() and np.abs(values).max() <= MOST_VALUE):
        return None
    return Packet(names[0], names[1], values if count else None)
