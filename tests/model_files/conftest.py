"""An empty ComfyUI folder, a stand-in of Hugging Face, and the command that runs between them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pulid_pack.devtools.comfyui import ROOT
from pulid_pack.pulid_core.model_files.catalogue import ALL_FILES, PULID, ModelFile
from pulid_pack.tests.model_files.hub import Hub

TOKEN = "hf_canary5f1bcanary5f1b"  # noqa: S105 - no real one
SIZE = 300_000
LARGE = 24_000_000
"""Of PuLID's file: huggingface_hub writes, and keeps on an interruption, 10 MiB at a time."""


def hub_name(file: ModelFile) -> str:
    """How the stand-in names a file."""
    return f"{file.repo}/resolve/main/{file.repo_path}"


@pytest.fixture
def hub() -> Iterator[Hub]:
    files = {
        hub_name(file): (file.name.encode() * (LARGE // 10))[: LARGE if file is PULID else SIZE]
        for file in ALL_FILES
    }
    with Hub(files) as standin:
        yield standin


@pytest.fixture
def comfyui(tmp_path) -> Path:
    folder = tmp_path / "ComfyUI"
    (folder / "models").mkdir(parents=True)
    return folder


def environment(hub: Hub, home: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    return {
        **kept,
        "HF_ENDPOINT": hub.url,
        "HF_HOME": str(home),
        "HF_TOKEN": TOKEN,
        "NO_PROXY": "*",
    }


RUN_SCRIPT = """
import runpy, sys
del sys.argv[0]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
Run = Callable[..., subprocess.CompletedProcess]


@pytest.fixture
def run(hub, comfyui, tmp_path) -> Run:
    """Run `pulid.py models` for that ComfyUI, without a terminal; the token must never be told."""

    def command(*arguments: str, broken: str = "", **variables: str) -> subprocess.CompletedProcess:
        """With `broken`, Python that makes something fail before the command begins."""
        line = [
            sys.executable,
            "-c",
            broken + RUN_SCRIPT,
            str(ROOT / "pulid.py"),
            "models",
            *arguments,
        ]
        result = subprocess.run(
            [*line, "--comfyui", str(comfyui)],
            env=environment(hub, tmp_path / "home") | variables,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=120,
            check=False,
        )
        assert TOKEN not in result.stdout
        assert "Traceback" not in result.stdout
        return result

    return command
