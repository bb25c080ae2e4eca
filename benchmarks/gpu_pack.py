"""The one folder with which `bench gpu` runs on a machine without network."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterable
from pathlib import Path

WHEELS = ("comfy-aimdo", "comfy-kitchen", "torchsde", "trampoline")
"""What ComfyUI's core imports and a machine with PyTorch, einops, transformers, safetensors, timm, scipy,
psutil and tqdm lacks."""
PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_24_x86_64", "manylinux2014_x86_64")
NOT_PACKED = ("tokenizer", "tests", "tests-unit", "comfy_api_nodes")
"""Endings of folders' names."""
OUR_PARTS = ("nodes", "pulid_core", "benchmarks")
LIMIT_MIB = 64


def pack(root: Path, comfyui: Path, folder: Path, python: str) -> None:
    """Write the folder anew.

    Args:
        root: The repository.
        comfyui: ComfyUI's tree.
        folder: To be made; `python run.py` in it starts the benchmark.
        python: Version of that machine's Python, like 3.12.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    download_wheels(comfyui, folder / "wheels", python)
    archive(comfyui, [path.name for path in comfyui.iterdir()], folder / "comfyui.tar.xz")
    archive(root, OUR_PARTS, folder / "repository.tar.xz")
    shutil.copy(Path(__file__).with_name("gpu_run.py"), folder / "run.py")
    mib = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / 2**20
    sys.stdout.write(f"{folder}: {mib:.1f} MiB\n")
    if mib > LIMIT_MIB:
        sys.exit(f"The folder should take at most {LIMIT_MIB} MiB.")


def download_wheels(comfyui: Path, folder: Path, python: str) -> None:
    """Get wheels for a Linux machine, in the versions that ComfyUI asks for."""
    asked = [line.split("#")[0].strip() for line in (comfyui / "requirements.txt").open()]
    names = [next((a for a in asked if a.startswith(name)), name) for name in WHEELS]
    command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--dest", str(folder)]
    command += ["--only-binary=:all:", f"--python-version={python}"]
    command += [f"--platform={platform}" for platform in PLATFORMS]
    subprocess.run([*command, *names], check=True)


def archive(root: Path, parts: Iterable[str], file: Path) -> None:
    """Pack what Python imports."""
    with tarfile.open(file, "w:xz") as tar:
        for part in parts:
            tar.add(root / part, part, filter=_only_sources)


def _only_sources(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
    is_wanted = entry.isdir() or entry.name.endswith((".py", ".json", ".yaml"))
    is_left_out = any(part.endswith(NOT_PACKED) for part in Path(entry.name).parts)
    return entry if is_wanted and not is_left_out else None
