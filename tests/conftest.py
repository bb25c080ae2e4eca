"""Provides the real ComfyUI, and the package `pulid_pack`."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import pytest

from registration import ROOT  # isort: skip - makes the package pulid_pack known
from pulid_pack.devtools import comfyui_source, tiny_stage
from pulid_pack.devtools.comfyui import ComfyServer
from pulid_pack.devtools.wavespeed_standin import COMFY_PACK, Standin

pytest_plugins = ["pulid_pack.tests.loaded_models"]

CACHE = ROOT / ".dev"
REAL_COMFYUI = {"comfyui_dir", "matrix_comfyui_dir", "server", "matrix_server"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test that uses a real ComfyUI, so that `-m "not comfy"` never starts one."""
    for item in items:
        if REAL_COMFYUI & set(getattr(item, "fixturenames", ())):
            item.add_marker("comfy")


@pytest.fixture(scope="session")
def stage() -> Path:
    """The tiny stage: a models folder with every file of the example graph."""
    return tiny_stage.make_stage(CACHE / "stage" / "models")


@pytest.fixture(scope="session")
def demo_photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A photo with one face, which the stage's detector finds; 512 x 512."""
    return tiny_stage.demo_photo(tmp_path_factory.mktemp("photo") / "portrait.png")


@cache  # COMFYUI_PATH is copied anew each time, and a server may run in the copy
def comfyui_folder(version: str) -> Path:
    return comfyui_source.provide(version, CACHE / "comfyui", tiny_t5=True)


@pytest.fixture(scope="session")
def comfyui_dir() -> Path:
    """The newest ComfyUI of the matrix, fit for the tiny stage."""
    return comfyui_folder(comfyui_source.NEWEST)


@pytest.fixture(params=comfyui_source.VERSIONS)
def matrix_comfyui_dir(request) -> Path:
    """Each ComfyUI of the matrix in turn, as a folder."""
    return comfyui_folder(request.param)


@pytest.fixture(scope="session")
def wavespeed() -> Iterator[Standin]:
    """The stand-in of WaveSpeed that the servers below speak to."""
    with Standin(key="standin-key-of-the-tests") as standin:
        yield standin


@contextmanager
def started(
    version: str,
    base_dir: Path,
    stage: Path,
    photo: Path,
    wavespeed: Standin,
    options: Sequence[str] = (),
) -> Iterator[ComfyServer]:
    with ComfyServer(
        comfyui_folder(version),
        base_dir,
        stage,
        packs=(ROOT, COMFY_PACK),
        cpu=True,
        options=options,
        environment=wavespeed.environment(),
    ) as server:
        server.upload_image(photo)
        yield server


@pytest.fixture(scope="session")
def server(tmp_path_factory, stage, demo_photo, wavespeed) -> Iterator[ComfyServer]:
    """The newest ComfyUI with this pack; its input folder holds the demo photo, portrait.png."""
    base_dir = tmp_path_factory.mktemp("newest")
    with started(comfyui_source.NEWEST, base_dir, stage, demo_photo, wavespeed) as newest:
        yield newest


@pytest.fixture(scope="session", params=comfyui_source.VERSIONS)
def matrix_server(request, tmp_path_factory, stage, demo_photo, wavespeed) -> Iterator[ComfyServer]:
    """Each ComfyUI of the matrix in turn, like `server`."""
    if request.param == comfyui_source.NEWEST:
        yield request.getfixturevalue("server")
        return
    base_dir = tmp_path_factory.mktemp("matrix")
    with started(request.param, base_dir, stage, demo_photo, wavespeed) as older:
        yield older
