"""What ComfyUI's start pays for the pack, beside one of ComfyUI's own node files."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from .measure import Row, Timing, timed_row

ROOT = Path(__file__).resolve().parent.parent
PEER = "comfy_extras.nodes_flux"
RUNS = 5
SCRIPT = """
import asyncio, importlib, importlib.util, sys, time
sys.path[:0] = [{comfyui!r}]
import utils.install_util  # before comfy, whose folder has another utils
from comfy.cli_args import args
args.cpu = True
import nodes, server
server.PromptServer(asyncio.new_event_loop())
def cpu_s(run):
    begin = time.process_time()
    run()
    return time.process_time() - begin
def ours():
    spec = importlib.util.spec_from_file_location("the_pack", {pack!r} + "/__init__.py")
    module = sys.modules["the_pack"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
print(cpu_s(lambda: importlib.import_module({peer!r})), cpu_s(ours))
"""


def run(_: Path) -> list[Row]:
    """Import both in fresh processes; the row holds CPU time, which other programs disturb least."""
    comfyui = sys.path[0]  # where __main__ put it
    script = SCRIPT.format(comfyui=comfyui, pack=str(ROOT), peer=PEER)
    command = [sys.executable, "-W", "ignore", "-c", script]
    pairs = []
    for _run in range(RUNS):
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, cwd=comfyui)
        pairs.append([float(figure) for figure in done.stdout.split()[-2:]])
    peer, ours = (Timing(list(times)) for times in zip(*pairs, strict=True))
    return [timed_row("import at ComfyUI's start, beside comfy_extras/nodes_flux.py", ours, peer)]
