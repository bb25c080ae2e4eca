"""One side of the encoder's benchmark, in a process of its own: `encoder_process.py MODELS SIDE START`.

SIDE is ours or peer. START is warm, with the models loaded before anything is timed, or cold, where
importing the packages and reading the files is timed with the first photo. Prints one line of JSON; all
compute in float32 on the CPU.
"""

from __future__ import annotations

import json
import sys
import threading
import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
REPETITIONS = 3

Encode = Callable[[np.ndarray], object]
Load = Callable[[Path], Encode]


def cold_start(load: Load, models: Path) -> dict[str, Any]:
    """Time the way from nothing to the tokens of one photo, and watch memory meanwhile."""
    picture = photo(1)
    with PeakMemory() as memory:
        cold_s = seconds(lambda: load(models)(picture))
    return {"cold_s": cold_s, "peak_mib": memory.peak_mib}


def warm_start(load: Load, models: Path) -> dict[str, Any]:
    """Time the first and the second encode of photos, and watch memory meanwhile."""
    encode = load(models)
    encode(photo(0))  # the first use of a network also sets up its kernels
    first, again = [], []
    with PeakMemory() as memory:
        for number in range(1, REPETITIONS + 1):
            first.append(seconds(lambda number=number: encode(photo(number))))
            again.append(seconds(lambda number=number: encode(photo(number))))
    return {"first_s": first, "again_s": again, "peak_mib": memory.peak_mib}


def our_encoder(models: Path) -> Encode:
    """This pack, as plain Python uses it."""
    pack = types.ModuleType("pulid_pack")
    pack.__path__ = [str(ROOT)]
    sys.modules["pulid_pack"] = pack
    from pulid_pack.pulid_core.encoder.encode import encode_identity, load_stages
    from pulid_pack.pulid_core.images import Photo

    stages = load_stages(
        models / "pulid/pulid_flux_v0.9.1.safetensors",
        models / "clip_vision/EVA02_CLIP_L_336_psz14_s6B.pt",
        models / "facexlib/parsing_bisenet.pth",
        models / "insightface/models/antelopev2",
    )
    return lambda picture: encode_identity([Photo(picture)], stages)


def peer_encoder(models: Path) -> Encode:
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


if __name__ == "__main__":
    _, models, side, start = sys.argv
    measure = cold_start if start == "cold" else warm_start
    figures = measure(our_encoder if side == "ours" else peer_encoder, Path(models))
    sys.stdout.write(json.dumps(figures) + "\n")
