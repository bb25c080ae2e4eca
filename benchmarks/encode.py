"""Encoding a photo: ours against the same steps assembled from PyPI packages."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from .measure import Row, Timing, timed_row

PROCESS = Path(__file__).with_name("encoder_process.py")


def run(models: Path) -> list[Row]:
    """Measure both sides, one after the other.

    Args:
        models: A ComfyUI models folder with the encoder's files.
    """
    ours, peer = (_measure(side, models) for side in ("ours", "peer"))
    times = {"encode a photo": "first_s", "encode the same photo again": "again_s"}
    rows = [
        timed_row(name, Timing(ours[key]), Timing(peer[key]), unit="s")
        for name, key in times.items()
    ]
    return [*rows, Row("peak memory while encoding", ours["peak_mib"], peer["peak_mib"], "MiB", "")]


def _measure(side: str, models: Path) -> dict[str, Any]:
    command = [sys.executable, "-W", "ignore", str(PROCESS), str(models), side]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])
