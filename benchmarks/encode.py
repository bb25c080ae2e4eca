"""Encoding a photo: ours against the same steps assembled from PyPI packages, in one run.

    python benchmarks/encode.py MODELS_DIR [--json FILE]

Time and memory are given as ratios, ours over the peers': below 1 is better. All models are loaded before
anything is timed; all compute in float32 on the CPU, each side in a process of its own. Peak memory is what
that process holds at most while encoding, models and what we remember of photos included. The tokens of
nobody are computed by neither side: ours were before, the peers are not asked for them.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import threading
import time
import types
from collections.abc import Callable
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
REPETITIONS = 3

Row = dict[str, str | float]


def run(models: Path) -> list[Row]:
    """Measure everything.

    Returns:
        Rows with name, ours, peer, ratio and unit.
    """
    sides = {side: measure_in_own_process(side, models) for side in ("ours", "peer")}
    ours, peer = sides["ours"], sides["peer"]
    return [
        row("encode a photo", ours["seconds"], peer["seconds"], "s"),
        row("encode the same photo again", ours["again_seconds"], peer["again_seconds"], "s"),
        row("peak memory", ours["peak_mib"], peer["peak_mib"], "MiB"),
    ]


def row(name: str, ours: float, peer: float, unit: str) -> Row:
    """One line of the table."""
    return {"name": name, "ours": ours, "peer": peer, "ratio": ours / peer, "unit": unit}


def table(rows: list[Row]) -> str:
    """Rows as text."""
    lines = [f"{'':30}{'ours':>10}{'peers':>10}{'ratio':>9}"]
    lines += [
        f"{r['name']:30}{r['ours']:10.4g}{r['peer']:10.4g}{r['ratio']:9.3f}  {r['unit']}"
        for r in rows
    ]
    return "\n".join(lines)


def measure_in_own_process(side: str, models: Path) -> dict[str, float]:
    """Run `measure` for one side in a fresh interpreter."""
    command = [sys.executable, "-W", "ignore", __file__, str(models), "--side", side]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def measure(side: str, models: Path) -> dict[str, float]:
    """Time the first and the second encode of photos, and watch memory meanwhile."""
    encode = (our_encoder if side == "ours" else peer_encoder)(models)
    encode(photo(0))  # the first use of a network also sets up its kernels
    first, again = [], []
    with PeakMemory() as memory:
        for number in range(1, REPETITIONS + 1):
            first.append(seconds(lambda number=number: encode(photo(number))))
            again.append(seconds(lambda number=number: encode(photo(number))))
    return {
        "seconds": statistics.median(first),
        "again_seconds": statistics.median(again),
        "peak_mib": memory.peak_mib,
    }


def our_encoder(models: Path) -> Callable[[np.ndarray], object]:
    """This pack, as plain Python uses it."""
    pack = types.ModuleType("pulid_pack")
    pack.__path__ = [str(ROOT)]
    sys.modules["pulid_pack"] = pack
    from pulid_pack.pulid_core.encoding import encode_identity, load_stages

    stages = load_stages(
        models / "pulid/pulid_flux_v0.9.1.safetensors",
        models / "clip_vision/EVA02_CLIP_L_336_psz14_s6B.pt",
        models / "facexlib/parsing_bisenet.pth",
        models / "insightface/models/antelopev2",
    )
    return lambda picture: encode_identity([picture], stages)


def peer_encoder(models: Path) -> Callable[[np.ndarray], object]:
    """The peers."""
    from peer_encoder import PeerEncoder

    return PeerEncoder(models).encode


def photo(number: int) -> np.ndarray:
    """The demo photo, a little different for every number."""
    import skimage.data

    picture = skimage.data.astronaut().copy()
    picture[:8, :8] = number
    return picture


def seconds(work: Callable[[], object]) -> float:
    """Run once and return the wall-clock time."""
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def resident_mib() -> float:
    """Memory that this process holds now."""
    import psutil

    return psutil.Process().memory_info().rss / 2**20


class PeakMemory:
    """Looks at the memory of this process 100 times a second while the block runs."""

    def __init__(self) -> None:
        self.peak_mib = 0.0
        self._done = threading.Event()
        self._watcher = threading.Thread(target=self._watch)

    def __enter__(self) -> PeakMemory:
        self._watcher.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._watcher.join()

    def _watch(self) -> None:
        while not self._done.wait(0.01):
            self.peak_mib = max(self.peak_mib, resident_mib())


def main() -> None:
    """Print the table, or measure one side for `measure_in_own_process`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", type=Path, help="A ComfyUI models folder.")
    parser.add_argument("--json", type=Path, help="Also write the rows to this file.")
    parser.add_argument("--side", choices=("ours", "peer"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.side:
        sys.stdout.write(json.dumps(measure(arguments.side, arguments.models)) + "\n")
        return
    rows = run(arguments.models)
    sys.stdout.write(table(rows) + "\n")
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
