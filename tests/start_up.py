"""The pack loaded as ComfyUI loads it, in a process of its own that ends at once where it should not go."""

import subprocess
import sys
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

WATCH = """
import os
FORBIDDEN = {
    "socket.connect", "socket.getaddrinfo", "socket.sendto", "urllib.Request", "sqlite3.connect",
    "subprocess.Popen", "os.system", "os.posix_spawn", "os.fork", "os.exec",
    "os.mkdir", "os.rename", "os.remove", "os.link", "os.symlink", "shutil.copyfile",
}
def watch(event, arguments):
    if event in FORBIDDEN or event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR):
        os.write(2, f"{event} {arguments}".encode())
        os._exit(1)  # unlike an error, nothing catches it
sys.addaudithook(watch)
"""
IMPORTS = """
import sys
sys.path[:0] = [{comfyui!r}]
import utils.install_util  # before comfy, whose folder has another utils
from comfy.cli_args import args
args.cpu = True
import comfy.ldm.flux.model, comfy.model_patcher, comfy.ops, comfy.utils, folder_paths
from comfy_api.latest import ComfyExtension, io, ui
import asyncio, server
server.PromptServer(asyncio.new_event_loop())
{watch}
before = set(sys.modules)
import importlib.util
spec = importlib.util.spec_from_file_location("a/path/as/name", {pack!r} + "/__init__.py")
module = importlib.util.module_from_spec(spec)
sys.modules["a/path/as/name"] = module
spec.loader.exec_module(module)
extension = asyncio.run(module.comfy_entrypoint())
asyncio.run(extension.on_load())
for node in asyncio.run(extension.get_node_list()):
    node.GET_SCHEMA()
print(*sorted(set(sys.modules) - before))
"""


@cache  # starting takes seconds, and two tests look at it
def loaded_and_watched(comfyui: Path) -> subprocess.CompletedProcess:
    """From ComfyUI's import to every node's schema; prints what was imported for the pack."""
    script = IMPORTS.format(comfyui=str(comfyui), pack=str(ROOT), watch=WATCH)
    return subprocess.run(
        [sys.executable, "-B", "-c", script], capture_output=True, text=True, check=False
    )
