"""How long a finished picture of WaveSpeed's waits for us, beside the service's own SDK."""

from __future__ import annotations

import io
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from .measure import Row, Timing, timed_row

ROOT = Path(__file__).resolve().parent.parent
GENERATION_S = (2.1, 2.9, 3.7, 2.5, 3.3, 2.3, 3.9, 3.1)
"""Neither side can know when the next picture is ready."""
PROMPT = "a portrait"


def run(_: Path) -> list[Row]:
    """Order in turns from a stand-in; both sides look as often as they do by default."""
    sys.path.append(str(ROOT / "devtools"))
    from wavespeed_standin import Standin

    with Standin(key="bench") as service, tempfile.TemporaryDirectory() as folder:
        sides = [_ours(service.url, Path(folder)), _peer(service.url)]
        waited: list[list[float]] = [[] for _ in sides]
        looks = [0, 0]
        for seed, service.generation_s in enumerate(GENERATION_S):
            for side, order in enumerate(sides):
                before = service.requests["result"]
                order(seed)
                created_s = list(service.jobs.values())[-1].created_s
                waited[side].append(time.time() - created_s - service.generation_s)
                looks[side] += service.requests["result"] - before
    ours, peer = map(Timing, waited)
    count = len(GENERATION_S)
    return [
        timed_row("from a picture being ready to its pixels being here", ours, peer, "s"),
        Row("questions until then", looks[0] / count, looks[1] / count, "", ""),
    ]


def _ours(url: str, folder: Path) -> Callable[[int], object]:
    from ..pulid_core.wavespeed import AddressPolicy, Pacer, Transport, WavespeedClient

    transport = Transport(AddressPolicy(trusted_origins=frozenset({url})))
    client = WavespeedClient(
        folder, api_key="bench", base_url=url, transport=transport, pacer=Pacer(1000)
    )
    photo = np.full((96, 96, 3), 128, np.uint8)
    return lambda seed: client.generate(photo, PROMPT, size="256*256", seed=seed)


def _peer(url: str) -> Callable[[int], object]:
    from wavespeed.api.client import Client, requests
    from wavespeed_standin import MODEL

    client = Client(api_key="bench", base_url=url)
    file = io.BytesIO()
    Image.new("RGB", (96, 96), "gray").save(file, "PNG")
    file.seek(0)
    inputs = {"prompt": PROMPT, "size": "256*256", "image": client.upload(file)}

    def order(seed: int) -> None:
        (address,) = client.run(MODEL, {**inputs, "seed": seed})["outputs"]
        with requests.get(address, timeout=30) as reply:
            Image.open(io.BytesIO(reply.content)).load()

    return order
