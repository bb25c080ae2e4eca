"""Start `bench gpu` from the packed folder: `python run.py [--small] [--budget SECONDS] [--only PART ...]`.

Unpacks beside this file what lies there, and writes the table's figures to $OUT, or else also beside it.
"""

import os
import subprocess
import sys
import tarfile
from pathlib import Path

HERE = Path(__file__).resolve().parent


def main() -> int:
    """Unpack, then run."""
    site = HERE / "site"
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-index", "--no-deps"]
    command += ["--no-compile", "--no-cache-dir", "--upgrade", "--target", str(site)]
    subprocess.run([*command, *map(str, (HERE / "wheels").glob("*.whl"))], check=True)
    for name in ("comfyui", "repository"):
        with tarfile.open(HERE / f"{name}.tar.xz") as tar:
            tar.extractall(HERE / name, filter="data")
    out = Path(os.environ.get("OUT") or HERE) / "gpu.json"
    command = [sys.executable, "-W", "ignore", str(HERE / "repository" / "benchmarks"), "gpu"]
    command += ["--comfyui", str(HERE / "comfyui"), "--json", str(out), *sys.argv[1:]]
    environment = os.environ | {"PYTHONPATH": str(site), "PYTHONUNBUFFERED": "1"}
    return subprocess.run(command, env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
