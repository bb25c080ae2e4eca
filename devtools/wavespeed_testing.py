"""Helpers of the remote tests: clocks that no busy machine disturbs, clients that trust the stand-in."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from pulid_pack.pulid_core.paid_jobs.exchange import MIB, Limits
from pulid_pack.pulid_core.wavespeed import (
    AddressPolicy,
    Clock,
    Pacer,
    Request,
    Transport,
    WavespeedClient,
)
from pulid_pack.pulid_core.wavespeed.api import ApiLimits

KEY = "wsk-canary-0123456789abcdef"
SPEED = 300
"""Seconds of the tests' clock per real second."""


def fast_clock(speed: float = SPEED) -> Clock:
    """Real time, but faster: for what several threads measure together."""
    return Clock(
        monotonic=lambda: time.monotonic() * speed,
        sleep=lambda seconds: time.sleep(seconds / speed),
        random=random.Random(7).random,  # noqa: S311
    )


class _Waited(threading.local):
    seconds = 0.0


def waiting_clock(wall: Callable[[], float] = time.time) -> Clock:
    """For each thread only its own waits take time, so that a slow machine makes nothing late."""
    waited = _Waited()

    def sleep(seconds: float) -> None:
        time.sleep(seconds / SPEED)
        waited.seconds += seconds

    return Clock(
        wall=wall,
        monotonic=lambda: waited.seconds,
        sleep=sleep,
        random=random.Random(7).random,  # noqa: S311
    )


class WireClock:
    """The clock of a transport: it passes only while a server says that it keeps one waiting.

    The limits are the real ones, and every honest answer comes in time, however long it takes.

    Attributes:
        now: Seconds since it began.
        since: When whoever sends a request last began to measure.
    """

    def __init__(self) -> None:
        self.now = self.since = 0.0
        self._looks = 0

    def __call__(self) -> float:
        if threading.current_thread().name == "wavespeed-watch":
            self._looks += 1
        else:
            self.since = self.now
        return self.now

    def hurry(self) -> None:
        """Let ten seconds pass."""
        self.now += 10

    def passed(self, seconds: float) -> Callable[[], bool]:
        """Let time pass at the first question; true once an exchange's watch acted upon it."""
        seen: list[int] = []

        def is_over() -> bool:
            if not seen:
                self.now += seconds
                seen.append(self._looks)
            return self._looks >= seen[0] + 2  # the first may have begun before

        return is_over


WIRE = WireClock()


def trusting(url: str, monotonic: Callable[[], float] = WIRE) -> Transport:
    return Transport(AddressPolicy(trusted_origins=frozenset({url})), monotonic=monotonic)


def short_limits() -> ApiLimits:
    """The real byte limits, with time limits that a test can wait for by the real clock."""
    short = Limits(connect_s=2, read_s=0.4, total_s=1)
    files = Limits(connect_s=2, read_s=0.4, total_s=1, body_bytes=32 * MIB)
    return ApiLimits(short, files, short, Limits(2, 3, 3, 32 * MIB), Limits(2, 5, 5), files)


def client_for(url: str, folder: Path, clock: Clock | None = None, **options) -> WavespeedClient:
    clock = clock or waiting_clock()
    settings = {
        "api_key": KEY,
        "pacer": Pacer(1000, clock),
        "transport": trusting(url),
        **options,
    }
    return WavespeedClient(folder, base_url=url, clock=clock, **settings)


def photo(seed: int = 0, height: int = 96, width: int = 80, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).random((height, width, channels), dtype=np.float32)


def request(**changes) -> Request:
    defaults = {
        "photos": [photo()],
        "prompts": ["prompt-canary in the rain"],
        "width": 256,
        "height": 320,
        "seed": 7,
    }
    return Request(**{**defaults, **changes})


def until(condition: Callable[[], object]) -> None:
    """Return when it holds; what never does is ended by the time that a test may take."""
    while not condition():
        time.sleep(0.005)


def let_threads_end() -> None:
    """Return when no thread of the remote half runs."""
    for thread in threading.enumerate():
        if thread.name.startswith("wavespeed"):
            thread.join()
