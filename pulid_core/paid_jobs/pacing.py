"""How often and how many at once: what a new account may do, shared by the whole process."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

from .clock import SLICE_S, Cancelled, Clock

IMAGES_PER_MIN = 2  # what the lowest account level allows

WINDOW_S = 60.0
HALVED_S = 300.0


class Pacer:
    """A sliding window over submissions, and a count of running jobs.

    Args:
        images_per_min: Submissions in any 60 seconds, at least 1.
    """

    def __init__(self, images_per_min: int = IMAGES_PER_MIN, clock: Clock | None = None):
        self._clock = clock or Clock()
        self._guard = threading.Lock()
        self._turns: dict[int, float] = {}
        self._last_turn = 0
        self._running = 0
        self._halved_until = float("-inf")
        self.images_per_min = images_per_min

    def wait_turn(self, cancelled: Cancelled) -> int:
        """Return when one more submission keeps the rate, and count it; tell `answered` its number.

        Raises:
            RemoteCancelled: `cancelled` said so while waiting.
        """
        while True:
            turn, left_s = self._take()
            if turn:
                return turn
            self._clock.wait(left_s, cancelled)

    def answered(self, turn: int) -> None:
        """Count a submission from its answer on: it may have taken that long to arrive."""
        with self._guard:
            self._turns[turn] = self._clock.monotonic()

    def _take(self) -> tuple[int, float]:
        """The number of a turn, from 1; or 0 and the seconds until the next."""
        with self._guard:
            now = self._clock.monotonic()
            halved = now < self._halved_until
            places = max(1, self.images_per_min // 2 if halved else self.images_per_min)
            self._turns = {k: then for k, then in self._turns.items() if then > now - WINDOW_S}
            if len(self._turns) < places:
                self._last_turn += 1
                self._turns[self._last_turn] = now
                return self._last_turn, 0.0
            return 0, sorted(self._turns.values())[-places] + WINDOW_S - now

    def slow_down(self) -> None:
        """Halve the rate for five minutes, after the service said 429."""
        with self._guard:
            self._halved_until = self._clock.monotonic() + HALVED_S

    @contextlib.contextmanager
    def running(self, at_once: int, cancelled: Cancelled) -> Iterator[None]:
        """Count a job while it runs; wait until fewer than `at_once` do.

        Raises:
            RemoteCancelled: `cancelled` said so while waiting.
        """
        while not self._start(at_once):
            self._clock.wait(SLICE_S, cancelled)
        try:
            yield
        finally:
            with self._guard:
                self._running -= 1

    def _start(self, at_once: int) -> bool:
        with self._guard:
            if self._running >= at_once:
                return False
            self._running += 1
            return True
