"""The core knows nothing of ComfyUI, and importing it costs nothing."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

SCRIPT = """
import importlib, pkgutil, sys, types

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {blocked!r}:
            raise ImportError(f"{{name}} is blocked")

sys.meta_path.insert(0, Blocked())
pack = types.ModuleType("pulid_pack")
pack.__path__ = [{root!r}]
sys.modules["pulid_pack"] = pack
core = importlib.import_module("pulid_pack.pulid_core")
names = [m.name for m in pkgutil.walk_packages(core.__path__, "pulid_pack.pulid_core.")]
for name in names:
    importlib.import_module(name)
print(len(names))
"""

COMFYUI = {"comfy", "comfy_api", "comfy_execution", "folder_paths", "server", "nodes"}
HEAVY = {"insightface", "onnxruntime", "timm", "cv2", "torchvision"}


def test_core_imports_without_comfyui_and_without_heavy_packages():
    script = SCRIPT.format(blocked=COMFYUI | HEAVY, root=str(ROOT))
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= 10
