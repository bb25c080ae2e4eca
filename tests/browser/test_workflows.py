"""Every shared workflow, from ComfyUI's template browser to its picture, unchanged."""

import json
import re
import time

import pytest
from pulid_pack.devtools import pictures as picture_files
from pulid_pack.devtools.comfyui import PACK_NAME, inputs_of
from pulid_pack.devtools.portrait_workflow import FOLDER, read
from pulid_pack.devtools.workflow_conversion import to_prompt
from pulid_pack.tests.browser.frontend import Frontend

WORKFLOWS = sorted(FOLDER.glob("*.json"))
FRONTENDS_OWN = {"upload"}
"""Sockets that a frontend adds to ComfyUI's own nodes."""
by_name = pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)


def test_template_browser_shows_every_workflow(frontend):
    """With its thumbnail, whichever way one scrolls."""
    for path in WORKFLOWS:
        frontend.find_template(path.stem)
    frontend.find_template("portrait")
    if picture_files.WANTED:
        names = " ".join(path.name for path in WORKFLOWS).encode()
        path = picture_files.ROOT / picture_files.FOLDER / "templates.jpg"
        picture_files.save(frontend.page.screenshot(), path, names, 1400)


@by_name
def test_workflow_opens_and_runs_unchanged(path, frontend, comfyui):
    """Nothing is missing, the frontend converts what the file says, it gives its pictures, and is saved."""
    frontend.open_template(path.stem)
    assert frontend.unknown_nodes() == []
    workflow, known = read(path), comfyui.object_info()
    assert_every_socket_is_known(workflow, known)
    prompt = frontend.prompt()
    assert inputs(prompt, known) == inputs(to_prompt(workflow, known), known)

    run = frontend.wait_for_end(frontend.press_run())
    assert run["status"]["status_str"] == "success", run["status"]["messages"][-1]
    assert any(re.match(r"\[[1-9]\d*%\]", title) for title in frontend.heard("titles"))
    assert_saved_graph_comes_back_equal(frontend, path.stem)
    frontend.show_graph(1800)
    savers = [number for number, node in prompt.items() if node["class_type"] == "SaveImage"]
    assert savers or path.stem == "identity-save"
    for number in savers:
        assert run["outputs"][number]["images"]
        frontend.wait_for_pictures(number)
    if picture_files.WANTED:
        take_pictures(frontend, path)


def assert_saved_graph_comes_back_equal(frontend, name: str) -> None:
    """Saved under a new name and opened in a fresh browser: the same JSON."""
    frontend.save_as(f"my {name}")
    saved = frontend.graph()
    other = Frontend.in_new_window(frontend.page.context.browser, frontend.server)
    other.open_saved(f"my {name}")
    assert comparable(other.graph()) == comparable(saved)
    other.close()
    assert other.complaints == []


def comparable(graph: dict) -> dict:
    """A graph without what the frontend itself does not keep.

    A node that grew for its progress text is saved as it was before, and PreviewAny's switch is lost.
    """
    for node in graph["nodes"]:
        if node["type"].startswith(("Pulid", "Wavespeed")):
            del node["size"]
        if node["type"] == "PreviewAny":
            del node["widgets_values"][2:]
    return graph


def assert_every_socket_is_known(workflow: dict, object_info: dict) -> None:
    """The server has every input that the file's nodes have; our nodes' are all in the file."""
    for node in workflow["nodes"]:
        if node["type"] == "MarkdownNote":
            continue
        sockets = {socket["name"] for socket in node["inputs"]}
        names = inputs_of(object_info[node["type"]]).keys()
        assert sockets - FRONTENDS_OWN <= names, node["type"]
        if object_info[node["type"]]["python_module"].endswith(PACK_NAME):
            assert sockets == names, node["type"]


def inputs(prompt: dict, object_info: dict) -> dict:
    """What a prompt asks the server for: without titles, and without a frontend's own widgets."""
    found = {}
    for number, node in prompt.items():
        kind, values = node["class_type"], node["inputs"]
        names = values.keys() & inputs_of(object_info[kind]).keys()
        found[number] = (kind, {name: values[name] for name in names})
    return found


def take_pictures(frontend, path) -> None:
    """The whole graph, if the README shows it, and a square one for the template browser."""
    source = path.read_bytes()
    wide = f"{picture_files.FOLDER}/{path.stem}.jpg"
    if wide in picture_files.named_in_readme():
        picture_files.save(frontend.page.screenshot(), picture_files.ROOT / wide, source, 1400)
    frontend.show_graph(1000, 1000, with_notes=False)
    square = frontend.page.screenshot()
    picture_files.save(square, path.with_suffix(".jpg"), source, 500)


def test_cancel_stops_within_a_second(frontend, comfyui):
    """Pressed while our node encodes and while FLUX samples; the next run goes through."""
    frontend.open_template("portrait")
    comfyui.free()  # what another test computed
    for node in ("PulidApplyFlux", "KSampler"):
        prompt_id = frontend.press_run()
        frontend.page.wait_for_function(
            r"(node) => document.title.match(/\[[1-9]\d*%\] /) && document.title.includes(node)",
            arg=node,
            timeout=120_000,
        )
        pressed_ms = time.time() * 1000
        frontend.press_cancel()
        run = frontend.wait_for_end(prompt_id)
        assert run["status"]["messages"][-1][0] == "execution_interrupted"
        frontend.page.wait_for_function("(ms) => heard.interrupted > ms", arg=pressed_ms)
        assert frontend.heard("interrupted") - pressed_ms < 1000
    run = frontend.wait_for_end(frontend.press_run())
    assert run["status"]["status_str"] == "success", json.dumps(run["status"])
