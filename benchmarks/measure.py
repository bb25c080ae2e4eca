"""Timing two things side by side, and the rows that come of it."""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import torch


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    name: str
    ours: float
    peer: float | None
    unit: str
    spread: str
    """How far repeated measurements lie apart, as a part of their median; empty if exact."""

    @property
    def ratio(self) -> float | None:
        """Peer divided by ours: above 1 we need less."""
        return self.peer / self.ours if self.peer is not None and self.ours else None


@dataclass(frozen=True)
class Timing:
    """Repeated measurements of one thing."""

    seconds: list[float]

    @property
    def median(self) -> float:
        """The figure that is reported."""
        return statistics.median(self.seconds)

    @property
    def spread(self) -> float:
        """Distance from the fastest to the slowest, as a part of the median."""
        return (max(self.seconds) - min(self.seconds)) / self.median


def side_by_side(*runs: Callable[[], object], repeats: int) -> list[Timing]:
    """Time several things in turns, so that what disturbs the machine disturbs all of them.

    Each runs once before, to warm up.
    """
    for run in runs:
        run()
    seconds: list[list[float]] = [[] for _ in runs]
    for _ in range(repeats):
        for times, run in zip(seconds, runs, strict=True):
            start = time.perf_counter()
            run()
            times.append(time.perf_counter() - start)
    return [Timing(times) for times in seconds]


def timed_row(name: str, ours: Timing, peer: Timing | None = None, unit: str = "ms") -> Row:
    """Make a row of medians with both spreads."""
    factor = {"ms": 1e3, "s": 1.0}[unit]
    spread = f"±{ours.spread / 2:.0%}" + ("" if peer is None else f" / ±{peer.spread / 2:.0%}")
    return Row(name, ours.median * factor, peer and peer.median * factor, unit, spread)


def describe_machine() -> dict[str, str]:
    """What has to be known to compare figures."""
    return {
        "processor": _processor_name(),
        "threads": str(torch.get_num_threads()),
        "system": platform.platform(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "diffusers": metadata.version("diffusers"),
    }


def _processor_name() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
