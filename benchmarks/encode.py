"""Encoding a photo: ours against the same steps assembled from PyPI packages."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from .measure import Row, Timing, timed_row

PROCESS = Path(__file__).with_name("encoder_process.py")
SIDES = ("ours", "peer")
COLD_STARTS = 3


def run(models: Path) -> list[Row]:
    """Measure both sides, in processes that take turns.

    Args:
        models: A ComfyUI models folder with the encoder's files.
    """
    return [*cold_start(models, COLD_STARTS), *warm_start(models)]


def cold_start(models: Path, repeats: int) -> list[Row]:
    """Rows on the way from starting Python to the tokens of the first photo."""
    runs = [[_measure(side, models, "cold") for side in SIDES] for _ in range(repeats)]
    ours, peer = (list(figures) for figures in zip(*runs, strict=True))
    return [
        timed_row(
            "encode a photo from a cold start",
            Timing([figures["cold_s"] for figures in ours]),
            Timing([figures["cold_s"] for figures in peer]),
            unit="s",
        ),
        _memory_row("peak memory from a cold start", ours[-1], peer[-1]),
    ]


def warm_start(models: Path) -> list[Row]:
    """Rows on photos after the first one."""
    ours, peer = (_measure(side, models, "warm") for side in SIDES)
    times = {"encode a photo": "first_s", "encode the same photo again": "again_s"}
    rows = [
        timed_row(name, Timing(ours[key]), Timing(peer[key]), unit="s")
        for name, key in times.items()
    ]
    return [*rows, _memory_row("peak memory while encoding", ours, peer)]


def _memory_row(name: str, ours: dict[str, Any], peer: dict[str, Any]) -> Row:
    return Row(name, ours["peak_mib"], peer["peak_mib"], "MiB", "")


def _measure(side: str, models: Path, start: str) -> dict[str, Any]:
    command = [sys.executable, "-W", "ignore", str(PROCESS), str(models), side, start]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])
