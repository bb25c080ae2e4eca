"""Registers the repository as the package `pulid_pack`, without importing anything of it.

ComfyUI loads the folder under its path as the module name; the root __init__.py is not run here,
and our `nodes` never shadows ComfyUI's module of that name.
"""

import sys
import types
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

pack = types.ModuleType("pulid_pack")
pack.__path__ = [str(ROOT)]
sys.modules["pulid_pack"] = pack
