"""Help pages over real servers: in step with the nodes, and delivered."""

from pathlib import Path

import pytest
import requests
from pulid_pack.devtools import pictures
from pulid_pack.devtools.comfyui import PACK_NAME, ROOT
from pulid_pack.devtools.pages import PAGES, generate

pytestmark = pytest.mark.comfy


def test_the_pages_are_those_of_the_nodes(matrix_server):
    """Every node has one; a page that lacks a node is left over."""
    fresh = generate(matrix_server.object_info())
    stale = [
        str(path)
        for path, text in fresh.items()
        if not (ROOT / path).exists() or (ROOT / path).read_text(encoding="utf-8") != text
    ]
    assert stale == [], "run python dev.py pages"
    pages = {path.relative_to(ROOT) for path in (ROOT / PAGES).rglob("*.md")}
    assert pages <= fresh.keys()


def test_every_node_is_pictured_as_it_is(server):
    """Name, inputs, defaults and outputs, when the picture was taken, are those of now."""
    for page in (ROOT / PAGES).glob("*.md"):
        info = server.object_info(page.stem)[page.stem]
        assert pictures.is_fresh(page.with_suffix(".jpg"), pictures.looks(info)), pictures.ADVICE


def test_the_browser_gets_the_pages(matrix_server):
    """Where the frontend asks for them, and not as HTML, which it takes for a missing page."""
    assert (ROOT / PAGES / "PulidApplyFlux.md").exists()
    for page in filter(Path.is_file, (ROOT / PAGES).rglob("*")):
        place = page.relative_to(ROOT / PAGES).as_posix()
        answer = requests.get(
            f"{matrix_server.url}/extensions/{PACK_NAME}/docs/{place}", timeout=60
        )
        assert answer.content == page.read_bytes()
        assert "html" not in answer.headers["Content-Type"]


def test_two_scripts_of_ours_run_in_the_browser(matrix_server):
    """What a node reports, which ComfyUI shows for its own nodes only; and what failed on a worker."""
    scripts = requests.get(f"{matrix_server.url}/extensions", timeout=60).json()
    ours = [script for script in scripts if PACK_NAME in script]
    scripts = ("node_text.js", "workers.js")
    assert sorted(ours) == [f"/extensions/{PACK_NAME}/{name}" for name in scripts]
