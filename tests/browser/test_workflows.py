"""Every shared workflow, from ComfyUI's template browser to its picture, unchanged."""

import json
import re
import time

import pytest
from pulid_pack.tests import pictures as picture_files
from pulid_pack.tests.browser.frontend import Frontend
from pulid_pack.tests.comfyui_source import NEWEST
from pulid_pack.tests.portrait_workflow import FOLDER
from pulid_pack.tests.workflow_conversion import to_prompt

# A workflow that needs another one's file comes after it.
WORKFLOWS = sorted(
    FOLDER.glob("*.json"), key=lambda path: (path.stem == "identity-load", path.stem)
)
by_name = pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)


def test_template_browser_shows_every_workflow(frontend, version, pictures):
    """With its thumbnail, whichever way one scrolls."""
    for path in WORKFLOWS:
        frontend.find_template(path.stem)
    frontend.find_template("portrait")
    if version == NEWEST:
        names = " ".join(sorted(path.name for path in WORKFLOWS)).encode()
        path = pictures / picture_files.FOLDER / "templates.jpg"
        picture_files.save(frontend.page.screenshot(), path, names, 1400)


@by_name
def test_workflow_opens_and_runs_unchanged(path, frontend, comfyui, version, pictures):
    """Nothing is missing, the frontend and we convert it alike, it gives its pictures, and is saved."""
    frontend.open_template(path.stem)
    assert frontend.unknown_nodes() == []
    prompt, known = frontend.prompt(), comfyui.object_info()
    assert inputs(prompt, known) == inputs(to_prompt(frontend.graph(), known), known)

    run = frontend.wait_for_end(frontend.press_run())
    assert run["status"]["status_str"] == "success", run["status"]["messages"][-1]
    assert any(re.match(r"\[\d+%\]", title) for title in frontend.heard("titles"))
    assert_saved_graph_comes_back_equal(frontend, path.stem)
    frontend.show_graph(1800)
    savers = [number for number, node in prompt.items() if node["class_type"] == "SaveImage"]
    assert savers or path.stem == "identity-save"
    for number in savers:
        assert run["outputs"][number]["images"]
        frontend.wait_for_pictures(number)
    if version == NEWEST:
        take_pictures(frontend, path, pictures)


def assert_saved_graph_comes_back_equal(frontend, name: str) -> None:
    """Saved under a new name and opened in a fresh browser: the same JSON."""
    frontend.save_as(f"my {name}")
    saved = frontend.graph()
    context = frontend.page.context.browser.new_context(viewport=frontend.page.viewport_size)
    other = Frontend(context.new_page(), frontend.server)
    other.open()
    other.open_saved(f"my {name}")
    assert comparable(other.graph()) == comparable(saved)
    context.close()
    assert other.complaints == []


def comparable(graph: dict) -> dict:
    """A graph without what the frontend itself does not keep.

    A node that grew for its progress text is saved as it was before; 1.42 forgets PreviewAny's switch.
    """
    for node in graph["nodes"]:
        del node["size"]
        if node["type"] == "PreviewAny":
            del node["widgets_values"]
    return graph


def inputs(prompt: dict, object_info: dict) -> dict:
    """What a prompt asks the server for: without titles, and without a frontend's own widgets."""
    found = {}
    for number, node in prompt.items():
        kind, values = node["class_type"], node["inputs"]
        names = {name for group in object_info[kind]["input"].values() for name in group}
        found[number] = (kind, {name: values[name] for name in values.keys() & names})
    return found


def take_pictures(frontend, path, folder) -> None:
    """The whole graph, if the README shows it, and a square one for the template browser."""
    source = path.read_bytes()
    wide = f"{picture_files.FOLDER}/{path.stem}.jpg"
    if wide in picture_files.named_in_readme():
        picture_files.save(frontend.page.screenshot(), folder / wide, source, 1400)
    frontend.show_graph(1000, 1000, with_notes=False)
    square = frontend.page.screenshot()
    picture_files.save(square, folder / "workflows" / f"{path.stem}.jpg", source, 500)


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
        pressed = time.time()
        frontend.press_cancel()
        run = frontend.wait_for_end(prompt_id)
        assert run["status"]["messages"][-1][0] == "execution_interrupted"
        assert frontend.heard("interrupted") / 1000 - pressed < 1
    run = frontend.wait_for_end(frontend.press_run())
    assert run["status"]["status_str"] == "success", json.dumps(run["status"])
