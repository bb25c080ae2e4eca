"""Time as an argument, and every waiting period of the remote half by name."""

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


@dataclass(frozen=True)
class Timing:
    """Waiting periods, all in seconds."""

    poll_s: tuple[float, ...] = (2, 2, 2, 3, 3, 4, 5)
    """Before each look at a running prediction; the last one repeats."""
    queued_poll_s: float = 8
    """Between looks at a prediction that has been waiting in the queue for `queued_after_s`."""
    queued_after_s: float = 60
    last_look_s: float = 10
    """How long a look that began within the longest wait may be repeated beyond it."""
    empty_outputs_s: tuple[float, ...] = (2, 2)
    """Extra looks at a completed prediction without outputs."""
    read_retry_s: tuple[float, ...] = (1, 2, 4, 8, 16)
    """Between attempts of a request that changes nothing."""
    connect_retry_s: tuple[float, ...] = (1, 2, 4)
    """Between attempts of a submission that never left this machine."""
    download_retry_s: tuple[float, ...] = (1, 2, 4, 8)
    rate_limit_s: float = 61
    """After a 429 without Retry-After."""
    rate_limit_resends: int = 2
    retry_after_max_s: float = 120
    not_found_grace_s: float = 15
    """How long after its submission a prediction may still be unknown to the service."""
    reconcile_s: tuple[float, ...] = (5, 15, 30)
    """When to look for a lost submission, counted from its POST."""
    reconcile_before_s: float = 30
    reconcile_after_s: float = 150
    """The window around a POST in which the service may have dated it."""
