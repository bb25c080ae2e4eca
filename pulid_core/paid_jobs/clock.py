"""Time as an argument."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass

from .errors import RemoteCancelled

Cancelled = Callable[[], bool]

SLICE_S = 0.25  # how long a wait may go without asking whether to stop


def never() -> bool:
    """Say that nobody asked to stop."""
    return False


@dataclass(frozen=True)
class Clock:
    """The clocks and the dice of this machine.

    `wall` dates records and survives restarts; `monotonic` measures waits and ignores
    changes of the system time. Both in seconds.
    """

    wall: Callable[[], float] = time.time
    monotonic: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    random: Callable[[], float] = random.random

    def wait(self, seconds: float, cancelled: Cancelled = never) -> None:
        """Sleep, in slices short enough for a prompt stop.

        Raises:
            RemoteCancelled: `cancelled` said so.
        """
        end = self.monotonic() + seconds
        while True:
            if cancelled():
                raise RemoteCancelled
            left = end - self.monotonic()
            if left <= 0:
                return
            self.sleep(min(left, SLICE_S))

    def jitter(self, seconds: float) -> float:
        """The given time, ten per cent more or less."""
        return seconds * (0.9 + 0.2 * self.random())
