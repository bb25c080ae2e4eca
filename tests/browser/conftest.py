"""ComfyUI's own frontend in a headless Chromium, once for every supported ComfyUI.

CHROMIUM names the browser, which `dev.py test` finds or installs. Without it nothing here is collected.
"""

import json
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import requests
from pulid_pack.devtools import comfyui_source, example_photos, pictures, portrait_workflow
from pulid_pack.devtools.comfyui import ComfyServer
from pulid_pack.devtools.workflow_conversion import to_prompt

CHROMIUM = os.environ.get("CHROMIUM")

if not CHROMIUM:
    collect_ignore_glob = ["test_*.py"]
else:
    from playwright.sync_api import Browser, sync_playwright
    from pulid_pack.tests.browser.frontend import Frontend
    from pulid_pack.tests.conftest import CACHE, started

    # As root Chromium has no sandbox; the others keep it from looking for Google's hosts.
    ARGUMENTS = (
        *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
        *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    )
    SETTINGS = {
        "Comfy.TutorialCompleted": True,  # the template browser opens when it is asked for
        "Comfy.Minimap.Visible": False,
        "Comfy.Graph.CanvasInfo": False,
        "Comfy.Graph.CanvasMenu": False,
        "LiteGraph.Canvas.MinFontSizeForLOD": 0,  # pictures show all texts, however small
        "LiteGraph.Node.TooltipDelay": 0,
    }

    def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
        for item in items:
            if item.path.parent == Path(__file__).parent:
                item.add_marker("comfy")

    @pytest.fixture(scope="session")
    def browser() -> Iterator[Browser]:
        """One Chromium for all tests."""
        with sync_playwright() as playwright:
            yield playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)

    @pytest.fixture(scope="session", params=comfyui_source.VERSIONS)
    def version(request) -> str:
        """Each ComfyUI of the matrix in turn."""
        return request.param

    @pytest.fixture(scope="session")
    def comfyui(version, tmp_path_factory, stage, demo_photo, wavespeed) -> Iterator[ComfyServer]:
        """A server with that version's own frontend, and the pictures that the workflows name."""
        frontend = comfyui_source.provide_frontend(version, CACHE)
        base_dir = tmp_path_factory.mktemp("browser")
        options = ("--front-end-root", str(frontend))
        with started(version, base_dir, stage, demo_photo, wavespeed, options) as server:
            for photo in example_photos.write_photos(base_dir / "photos"):
                server.upload_image(photo)
            for name, value in SETTINGS.items():
                requests.post(f"{server.url}/api/settings/{name}", json=value, timeout=60)
            save_identity(server)
            yield server

    def save_identity(server: ComfyServer) -> None:
        """Make the file that identity-load.json and its node ask for."""
        workflow = (portrait_workflow.FOLDER / "identity-save.json").read_text(encoding="utf-8")
        prompt = to_prompt(json.loads(workflow), server.object_info())
        with ThreadPoolExecutor() as outside_of_playwrights_loop:
            run = outside_of_playwrights_loop.submit(server.run, prompt).result()
        assert run.error is None, run.error
        server.free()  # so that identity-save.json has something to do

    @pytest.fixture
    def frontend(browser, comfyui) -> Iterator[Frontend]:
        """A user's fresh browser window; afterwards, nothing of ours may have gone wrong in it."""
        window = Frontend.in_new_window(browser, comfyui)
        yield window
        window.close()
        # New workflows and nodes lack their pictures until they are taken.
        assert [
            text for text in window.complaints if not (pictures.WANTED and ".jpg" in text)
        ] == []
