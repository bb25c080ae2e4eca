"""The library needs neither ComfyUI nor torch, and importing it does nothing else."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

from pulid_pack.pulid_core import wavespeed

DEVTOOLS = Path(__file__).resolve().parents[2] / "devtools"


def run(script: str, folder: Path) -> str:
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        cwd=DEVTOOLS,
        env={"HOME": str(folder), "PATH": ""},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    ).stdout


def test_without_torch_and_comfyui(tmp_path: Path):
    """A fresh interpreter with both blocked imports it, opens no socket and writes no file."""
    script = """
        import sys
        blocked = ("torch", "comfy", "comfy_api", "folder_paths", "nodes", "server", "cv2", "insightface")
        for name in blocked:
            sys.modules[name] = None
        import filelock, registration  # under Python 3.10 filelock tries links in the temporary folder
        def audit(event, arguments):
            writes = event == "open" and isinstance(arguments[1], str) and "w" in arguments[1]
            if event in ("socket.connect", "socket.getaddrinfo", "sqlite3.connect", "os.mkdir") or writes:
                raise RuntimeError(event)
        sys.dont_write_bytecode = True
        sys.addaudithook(audit)
        from pulid_pack.pulid_core.wavespeed import WavespeedClient
        print(WavespeedClient.__name__)
    """
    assert run(script, tmp_path) == "WavespeedClient\n"
    assert not list(tmp_path.iterdir())


def test_public_names():
    """The public names are these, and they exist."""
    assert all(hasattr(wavespeed, name) for name in wavespeed.__all__)
    assert sorted(wavespeed.__all__) == wavespeed.__all__
