"""A phone's Live Link Face packets over UDP: the newest wins, the first sender is followed."""

from __future__ import annotations

import socket
import threading
import time
from collections import deque

import numpy as np

from flame_nerf.motion.files.head_angles import AngleUnits, guessed_units, turns
from flame_nerf.runtime.door import said
from flame_nerf.runtime.errors import UserError
from flame_nerf.viewer.handles import plain_text
from flame_nerf.viewer.live.moment import LiveMoment
from flame_nerf.viewer.live.packets import PACKET_NAMES, Packet, read_packet

GONE = 3.0
"""Seconds of silence after which another sender may take over, and after which none is said to come."""
_LARGEST = 65535


class LiveLinkReceiver:
    """Listens in a thread of its own.

    Attributes:
        address, port: what is listened at.
        dropped: packets cut short or of another layout.
        others: packets of senders that are not followed.
    """

    def __init__(self, port: int, listen: str = "127.0.0.1", units: AngleUnits | None = None) -> None:
        """
        Args:
            port: UDP port; 0: a free one.
            listen: address of this machine to listen at.
            units: of the angles; None: degrees once one is too large for radians.

        Raises:
            UserError: it cannot be listened there.
        """
        self._socket = socket.socket(socket.AF_INET6 if ":" in listen else socket.AF_INET, socket.SOCK_DGRAM)
        try:
            self._socket.bind((listen, port))
        except (OSError, OverflowError) as error:
            self._socket.close()
            raise UserError(f"--udp-port {port} at {listen}: cannot listen there ({error}); give another one") from None
        self._socket.settimeout(0.2)
        self.address, self.port = self._socket.getsockname()[:2]
        self._units = units
        self.dropped = self.others = 0
        self._followed: tuple[str, str, str] | None = None
        self._arrivals: deque[float] = deque(maxlen=60)
        self._face = True
        self._trouble = ""
        self._moment: LiveMoment | None = None
        self._news, self._closed = threading.Condition(), False
        self._largest_angle = 0.0
        threading.Thread(target=self._receive, name="live-link", daemon=True).start()

    def newest(self, timeout: float) -> LiveMoment | None:
        """See `Receiver`."""
        with self._news:
            self._news.wait_for(lambda: self._moment is not None, timeout)
            moment, self._moment = self._moment, None
            return moment

    def status(self) -> str:
        """See `Receiver`."""
        with self._news:
            now = time.monotonic()
            recent = [when for when in self._arrivals if now - when < GONE]
            where = f"{self.address} port {self.port}"
            if self._followed is None:
                text = f"Waiting for Live Link Face at {where}"
            elif not recent:
                text = f"No packet for {now - self._arrivals[-1]:.0f} s at {where}: the last face is held"
            else:
                rate = (len(recent) - 1) / max(recent[-1] - recent[0], 1e-3) if len(recent) > 1 else 0.0
                text = f"{plain_text(self._followed[1]) or 'Live Link Face'}: {rate:.0f} packets a second"
                text += "" if self._face else ". **Face away**: the last one is held"
            text += f". {self.others} packets of another sender not followed" if self.others else ""
            text += f". **Nothing can be heard**: {plain_text(self._trouble)}" if self._trouble else ""
            return text + (f". {self.dropped} packets cut short or unknown" if self.dropped else "")

    def close(self) -> None:
        """See `Receiver`."""
        self._closed = True

    def _receive(self) -> None:
        with self._socket:
            while not self._closed:
                try:
                    data, sender = self._socket.recvfrom(_LARGEST)
                except TimeoutError:
                    continue
                except ConnectionError:
                    # A sender's closed port, which some systems report here.
                    continue
                except OSError as error:
                    with self._news:
                        self._trouble = said(error)
                    # The network may come back; asking at once would keep a core busy.
                    time.sleep(0.2)
                    continue
                with self._news:
                    self._trouble = ""
                    self._take(read_packet(data), sender[0], time.monotonic())
                    self._news.notify_all()

    def _take(self, packet: Packet | None, address: str, now: float) -> None:
        if packet is None:
            self.dropped += 1
            return
        # Names are what a packet says; its address is harder to make up.
        sender = (packet.device, packet.subject, address)
        if self._followed not in (None, sender) and now - self._arrivals[-1] < GONE:
            self.others += 1
            return
        self._followed = sender
        self._arrivals.append(now)
        self._face = packet.values is not None
        if packet.values is None:
            return
        angles = packet.values[-9:].reshape(3, 3)
        self._largest_angle = max(self._largest_angle, float(np.abs(angles).max()))
        head, left, right = turns(angles, self._units or guessed_units(np.array([self._largest_angle])))
        expression = dict(zip(PACKET_NAMES, np.clip(packet.values[:-9], 0, 1).tolist(), strict=True))
        eyes = {"left_eye": left.as_rotvec(), "right_eye": right.as_rotvec()}
        self._moment = LiveMoment(expression, head.as_matrix(), now, eyes)
