"""Portraits a minute on 1, 2 and 4 ComfyUI servers, with a node that only waits."""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

from PIL import Image

from ..devtools import waiting
from ..pulid_core.portraits.comfyui import ComfyUI
from ..pulid_core.portraits.engine import paint_all
from ..pulid_core.portraits.graph import Graph
from ..pulid_core.portraits.table import portraits_of
from .measure import Row

SERVERS = (1, 2, 4)
PORTRAITS = 12
WAIT_S = 4
RUNS = 3


def run(models: Path) -> Iterable[Row]:
    """Time the same table on one server and on several, in turns; each picture is a new one."""
    comfyui = Path(sys.path[0])  # where __main__ put it
    with (
        tempfile.TemporaryDirectory() as name,
        waiting.servers(max(SERVERS), comfyui, Path(name), models) as servers,
    ):
        urls = [server.url for server in servers]
        seconds: dict[int, list[float]] = {count: [] for count in SERVERS}
        for turn in range(RUNS):
            for count in SERVERS:
                seconds[count].append(_paint(Path(name), urls[:count], str(turn)))
    alone = statistics.median(seconds[1])
    for count in SERVERS[1:]:
        ours = statistics.median(seconds[count])
        spread = (max(seconds[count]) - min(seconds[count])) / ours / 2
        name = f"{PORTRAITS} portraits on {count} servers, beside one"
        yield Row(name, ours, alone, "s", f"±{spread:.0%}")


def _paint(folder: Path, urls: list[str], prompt: str) -> float:
    photo, graph_file = folder / "photo.png", folder / "graph.json"
    Image.new("RGB", (64, 64)).save(photo)
    graph_file.write_text(json.dumps(waiting.graph(WAIT_S)))
    graph = Graph.read(graph_file, {"prompt": "2.text", "seed": "2.seed"})
    seeds = range(len(urls) * 1000, len(urls) * 1000 + PORTRAITS)
    portraits = portraits_of([photo], [prompt], seeds, "")
    begin = time.perf_counter()
    outcomes = list(paint_all(portraits, [ComfyUI(url, graph) for url in urls]))
    if len(outcomes) != PORTRAITS or any(outcome.error for outcome in outcomes):
        sys.exit(f"Not all portraits were painted: {outcomes}")
    return time.perf_counter() - begin
