"""ComfyUI's own frontend in a headless Chromium: the newest in full, a walk through the older ones.

CHROMIUM names the browser, which `dev.py test` finds or installs. Without it nothing here is collected.
ComfyUI's settings stay as a new user finds them.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from pulid_pack.devtools import comfyui_source, example_photos, pictures
from pulid_pack.devtools.comfyui import ROOT, ComfyServer

CHROMIUM = os.environ.get("CHROMIUM")

if not CHROMIUM:
    collect_ignore_glob = ["test_*.py"]
else:
    from playwright.sync_api import Browser, sync_playwright
    from pulid_pack.pulid_core.identity.file import save_identity
    from pulid_pack.tests.browser.frontend import Frontend
    from pulid_pack.tests.conftest import CACHE, comfyui_folder, started
    from pulid_pack.tests.people import make_identity

    # As root Chromium has no sandbox; the others keep it from looking for Google's hosts.
    ARGUMENTS = (
        *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
        *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    )
    OLDER = [*comfyui_source.VERSIONS]
    """Each ComfyUI with the frontend that it asks for."""

    def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
        for item in items:
            if item.path.parent == Path(__file__).parent:
                item.add_marker("comfy")

    def frontend_of(version: str) -> tuple[str, str, str]:
        """ComfyUI's version, and the options that give it its own frontend or the newest."""
        is_newest = version == "newest"
        release = comfyui_source.NEWEST_FRONTEND if is_newest else ""
        version = comfyui_source.NEWEST if is_newest else version
        folder = comfyui_source.provide_frontend(version, CACHE, release=release)
        return version, "--front-end-root", str(folder)

    @pytest.fixture(scope="session")
    def browser() -> Iterator[Browser]:
        """One Chromium for all tests."""
        with sync_playwright() as playwright:
            yield playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)

    @pytest.fixture(scope="session", params=["newest"])
    def version(request) -> str:
        """The newest frontend; a test that asks for others is parametrized with OLDER."""
        return request.param

    @pytest.fixture(scope="session")
    def comfyui(version, tmp_path_factory, stage, demo_photo, wavespeed) -> Iterator[ComfyServer]:
        """A server with every model, a key, and the pictures that the workflows name."""
        version, *options = frontend_of(version)
        base_dir = tmp_path_factory.mktemp("browser")
        with started(version, base_dir, stage, demo_photo, wavespeed, options) as server:
            for photo in example_photos.write_photos(base_dir / "photos"):
                server.upload_image(photo)
            yield server

    @pytest.fixture
    def saved_person(comfyui) -> Iterator[None]:
        """What one has who ran the template that saves a person; opening asks for the name alone."""
        path = comfyui.base_dir / "input" / "pulid_identities" / "person.png"
        is_new = not path.exists()
        if is_new:
            face = (
                Image.fromarray(example_photos.portrait())
                .crop((95, 0, 355, 260))
                .resize((336, 336))
            )
            crops = torch.from_numpy(np.hstack((face, face)))[None] / 255
            save_identity(make_identity(crops=crops), path)
        yield
        if is_new:
            path.unlink()

    @pytest.fixture(scope="session")
    def bare_comfyui(version, tmp_path_factory) -> Iterator[ComfyServer]:
        """A server as a new user has it: this pack, no model, no key, no photo."""
        version, *options = frontend_of(version)
        base_dir = tmp_path_factory.mktemp("bare")
        (base_dir / "nothing").mkdir()
        folder = comfyui_folder(version)
        environment = {"WAVESPEED_API_KEY": ""}
        with ComfyServer(
            folder,
            base_dir,
            base_dir / "nothing",
            packs=(ROOT,),
            cpu=True,
            options=options,
            environment=environment,
        ) as server:
            yield server

    def opened(browser: Browser, server: ComfyServer) -> Iterator[Frontend]:
        """A new user's window; afterwards, nothing of ours may have gone wrong in it."""
        # The frontend keeps on the server what it learnt of an earlier test, open panels among it.
        (server.base_dir / "user" / "default" / "comfy.settings.json").unlink(missing_ok=True)
        window = Frontend.in_new_window(browser, server)
        yield window
        window.close()
        # New workflows and nodes lack their pictures until they are taken.
        complaints = [
            text for text in window.complaints if not (pictures.WANTED and ".jpg" in text)
        ]
        assert complaints == []

    @pytest.fixture
    def frontend(browser, comfyui) -> Iterator[Frontend]:
        """A window on the ComfyUI that has everything."""
        yield from opened(browser, comfyui)

    @pytest.fixture(scope="module")
    def kept_frontend(browser, comfyui) -> Iterator[Frontend]:
        """The same for a module's tests that work on in one window: opening takes seconds."""
        yield from opened(browser, comfyui)

    @pytest.fixture
    def bare_frontend(browser, bare_comfyui) -> Iterator[Frontend]:
        """A window on the ComfyUI that has nothing."""
        yield from opened(browser, bare_comfyui)
