"""Helpers of the remote tests: a fast clock, and clients that trust the stand-in."""

from __future__ import annotations

import random
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


def fast_clock(speed: float = SPEED, wall: Callable[[], float] = time.time) -> Clock:
    return Clock(
        wall=wall,
        monotonic=lambda: time.monotonic() * speed,
        sleep=lambda seconds: time.sleep(seconds / speed),
        random=random.Random(7).random,  # noqa: S311
    )


def trusting(url: str) -> Transport:
    return Transport(AddressPolicy(trusted_origins=frozenset({url})))


def short_limits() -> ApiLimits:
    """The real byte limits, with time limits that a test can wait for."""
    short = Limits(connect_s=2, read_s=0.4, total_s=1)
    files = Limits(connect_s=2, read_s=0.4, total_s=1, body_bytes=32 * MIB)
    return ApiLimits(short, files, short, Limits(2, 3, 3, 32 * MIB), Limits(2, 5, 5), files)


def client_for(url: str, folder: Path, clock: Clock | None = None, **options) -> WavespeedClient:
    clock = clock or fast_clock()
    settings = {
        "api_key": KEY,
        "pacer": Pacer(1000, clock),
        "transport": trusting(url),
        "limits": short_limits(),
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


class Stopwatch:
    """Says "stop" once a condition holds, and measures how long that took to be obeyed."""

    def __init__(self, condition: Callable[[], bool]):
        self._condition = condition
        self._since: float | None = None

    def __call__(self) -> bool:
        if self._since is None and self._condition():
            self._since = time.monotonic()
        return self._since is not None

    @property
    def obeyed_after_s(self) -> float:
        return time.monotonic() - (self._since or 0)
