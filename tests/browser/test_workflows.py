"""The shared workflows as a new user sees them: opened, read, run, cancelled; and what is missing at first."""

import itertools
import re
import time

import pytest
from pulid_pack.devtools import pictures as picture_files
from pulid_pack.devtools.comfyui import PACK_NAME, inputs_of
from pulid_pack.devtools.portrait_workflow import FOLDER, PATH, read
from pulid_pack.devtools.workflow_conversion import to_prompt
from pulid_pack.tests.browser.conftest import OLDER
from pulid_pack.tests.browser.frontend import FRONTENDS_OWN, NOTES

WORKFLOWS = sorted(FOLDER.glob("*.json"))
REMOTE, SAVE = (path.stem for path in WORKFLOWS[1:3])
FACELESS = {
    "13 Make until it looks like the person": ("PulidLikenessGate", "None of 4 picture(s) reached"),
    "14 Find the lowest strength": ("PulidAutoTuneResult", "Not reached: 0.6 was wanted"),
}
"""What stops, and says so, where no picture shows a face: the stage paints none."""
SMALL = {
    "EmptySD3LatentImage": {"width": 128, "height": 128},
    "KSampler": {"steps": 4},
    "PulidFaceCrop": {"size": 256},
    "WavespeedFluxPulidRemote": {"size": "256*256"},
}
LEAST_ZOOM = 0.6
"""Below 0.57 ComfyUI draws boxes without text."""


def test_template_browser_shows_every_workflow_in_a_picture(frontend):
    """With its thumbnail, whichever way one scrolls."""
    for path in WORKFLOWS:
        frontend.find_template(path.stem)
    frontend.find_template(WORKFLOWS[0].stem)
    if picture_files.WANTED:
        frontend.page.locator(
            "[data-testid^=template-workflow-]"
        ).first.scroll_into_view_if_needed()
        names = " ".join(path.name for path in WORKFLOWS).encode()
        path = picture_files.ROOT / picture_files.FOLDER / "templates.jpg"
        picture_files.save(frontend.page.screenshot(), path, names, 1400)


@pytest.mark.parametrize(
    ("width", "height", "is_nodes_2"),
    [(1600, 1000, False), (1920, 950, False), (1600, 1000, True)],
)
def test_every_workflow_opens_readable(width, height, is_nodes_2, saved_person, frontend):
    """Large enough, nothing over anything, all notes in full."""
    frontend.page.set_viewport_size({"width": width, "height": height})
    frontend.use_nodes_2(is_nodes_2)
    for path in WORKFLOWS:
        frontend.open_template(path.stem)
        assert_readable(frontend, path.stem)
    frontend.use_nodes_2(False)


@pytest.mark.parametrize("version", OLDER, indirect=True, scope="session")
def test_a_walk_through_an_older_frontend(frontend, comfyui):
    """All workflows open readable and convert; two run, and their nodes say what they did."""
    known = comfyui.object_info()
    frontend.open_template(SAVE)
    finish(frontend)
    assert frontend.shown_text("PulidSaveIdentity").endswith("person.png")
    assert "Image 1: face 0 of 1, 91 x 116 px" in frontend.shown_text("PulidEncodeIdentity")
    for path in WORKFLOWS:
        frontend.open_template(path.stem)
        assert_readable(frontend, path.stem)
        assert_converts(frontend, path, known)
    frontend.open_template(REMOTE)
    frontend.add_node("WavespeedAccount", 431, 500)
    finish(frontend)
    assert "Key found. Balance $" in frontend.shown_text("WavespeedAccount")
    assert "about $0.02" in frontend.shown_text("WavespeedFluxPulidRemote")


def assert_readable(frontend, name: str) -> None:
    """No node lies over another or under one of ComfyUI's own panels."""
    assert frontend.zoom() >= LEAST_ZOOM, name
    nodes = frontend.look()
    for one, other in itertools.combinations(nodes, 2):
        assert not overlap(one["box"], other["box"]), (name, one["name"], other["name"])
    assert {node["name"]: node["covered"] for node in nodes if node["covered"]} == {}, name
    count = sum(node["type"] == "MarkdownNote" for node in read_by_name(name)["nodes"])
    # Some frontends draw them a moment after the rest.
    frontend.page.wait_for_function(f"(count) => ({NOTES})().length === count", arg=count)
    notes = frontend.notes()
    for text, needed, room in notes:
        assert needed <= room + 2, (name, text)


def read_by_name(name: str) -> dict:
    return read(FOLDER / f"{name}.json")


def overlap(one: list[float], other: list[float]) -> bool:
    """Boxes of left, top, right, bottom; a pixel is rounding."""
    return all(one[i] + 1 < other[i + 2] and other[i] + 1 < one[i + 2] for i in (0, 1))


def assert_converts(frontend, path, known: dict) -> dict:
    """The frontend asks the server for what the file says; returns that."""
    assert frontend.unknown_nodes() == []
    workflow = read(path)
    assert_every_socket_is_known(workflow, known)
    prompt = frontend.prompt()
    assert inputs(prompt, known) == inputs(to_prompt(workflow, known), known)
    return prompt


def finish(frontend) -> dict:
    """Press Run and wait for a good end."""
    run = frontend.wait_for_end(frontend.press_run())
    assert run["status"]["status_str"] == "success", run["status"]["messages"][-1]
    frontend.page.wait_for_timeout(500)
    return run


@pytest.fixture(scope="module")
def saved_graphs() -> dict[str, dict]:
    """What was saved after each run, by the workflow's name."""
    return {}


# In their order: the third saves the person that the fourth loads.
@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_workflow_runs_and_gives_a_picture(path, kept_frontend, comfyui, saved_graphs):
    """The frontend converts what the file says, it gives its pictures, and is saved."""
    frontend = kept_frontend
    frontend.open_template(path.stem)
    heard_before = len(frontend.heard("titles"))
    prompt = assert_converts(frontend, path, comfyui.object_info())
    if not picture_files.WANTED:
        make_small(frontend, prompt)
    run = finish(frontend)
    frontend.save_as(f"my {path.stem}")
    saved_graphs[path.stem] = frontend.graph()
    if path.stem == SAVE:
        frontend.page.evaluate("app.refreshComboInNodes()")  # as R does: the next lists the card
    savers = [number for number, node in prompt.items() if node["class_type"] == "SaveImage"]
    if path.stem in FACELESS:
        node, told = FACELESS[path.stem]
        assert frontend.shown_text(node).startswith(told)
        savers = []
    assert savers or path.stem in (SAVE, *FACELESS)
    if savers:  # encoding is not repeated for a photo that an earlier workflow encoded
        titles = frontend.heard("titles")[heard_before:]
        assert any(re.match(r"\[[1-9]\d*%\]", title) for title in titles)
    for number in savers:
        assert run["outputs"][number]["images"]
        frontend.wait_for_pictures(number)
    take_picture(frontend, path)


def make_small(frontend, prompt: dict) -> None:
    """Set a small picture and few steps, as a user does who is in a hurry."""
    for number, node in prompt.items():
        for name, value in SMALL.get(node["class_type"], {}).items():
            frontend.choose(number, name, value)


def test_what_was_saved_comes_back_equal(saved_graphs, frontend):
    """Each graph that the runs above saved under a new name, in a fresh browser: the same JSON."""
    assert saved_graphs, "runs after the tests that save"
    for name, saved in saved_graphs.items():
        frontend.open_saved(f"my {name}")
        assert comparable(frontend.graph()) == comparable(saved), name


def comparable(graph: dict) -> dict:
    """A graph without what the frontend itself does not keep.

    A node that grew for its report is saved as it was before, PreviewAny's switch is lost, and
    widgets that only show what came out leave an empty list.
    """
    for node in graph["nodes"]:
        node.pop("widgets_values_named", None)
        if not node.get("widgets_values"):
            node.pop("widgets_values", None)
        if node["type"].startswith(("Pulid", "Wavespeed")):
            del node["size"]
        if node["type"] == "PreviewAny" and "widgets_values" in node:
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


def take_picture(frontend, path) -> None:
    """The graph as it stands on the screen after its run, if the README shows it."""
    for name, source in picture_files.OF_WORKFLOWS.items():
        if picture_files.WANTED and source == path:
            if frontend.button("Hide Minimap").count():  # one window takes them all
                frontend.button("Hide Minimap").click()
            frontend.page.mouse.move(5, 500)  # no tooltip on the picture
            frontend.page.wait_for_timeout(700)
            boxes = [node["box"] for node in frontend.look()]
            picture = picture_files.ROOT / picture_files.FOLDER / name
            picture_files.save(frontend.picture_of(boxes, 24), picture, path.read_bytes(), 1400)


def test_cancel_stops_within_a_second(frontend, comfyui):
    """Pressed while our node encodes and while FLUX samples; the next run goes through."""
    frontend.open_template(PATH.stem)
    prompt = frontend.prompt()
    (size,) = (key for key, node in prompt.items() if node["class_type"] == "EmptySD3LatentImage")
    for side in ("width", "height"):  # a step is not broken off; at 1024 px one takes a second here
        frontend.choose(size, side, 512)
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
    make_small(frontend, prompt)
    finish(frontend)


def test_what_is_missing_at_first_is_said_once(bare_frontend):
    """Opening lists every file to download; running adds one error of ours, and one only."""
    bare_frontend.open_template(PATH.stem)
    panel = bare_frontend.issues()
    models = [model["name"] for node in read(PATH)["nodes"] for model in models_of(node)]
    assert len(models) == 7
    assert [name for name in models if panel.count(name) != 1] == []
    assert panel.count("Photo of the person") == 1
    assert "PulidLoader" not in panel

    answer = bare_frontend.refused_run()
    errors = {entry["class_type"]: entry["errors"] for entry in answer["node_errors"].values()}
    (error,) = errors["PulidLoader"]
    first, command, *_ = error["details"].splitlines()
    assert "antelopev2" not in first or len(first) < 300
    assert "pulid.py models missing" in command
    assert error["extra_info"]["exception_type"] == "pulid.MissingFilesError"
    panel = bare_frontend.issues()
    assert panel.count("Load PuLID (FLUX) - ") == 1
    assert panel.count("Photo of the person") == 1
    assert "1 Error" in panel


def models_of(node: dict) -> list[dict]:
    return node["properties"].get("models", [])


def test_an_error_of_a_run_is_readable(frontend, comfyui):
    """Under a short name, and the whole sentence is on the screen."""
    frontend.open_template(PATH.stem)
    frontend.choose(frontend.node_of("LoadImage"), "image", "pose.png")
    run = frontend.wait_for_end(frontend.press_run())
    assert run["status"]["status_str"] == "error"
    panel = frontend.issues()
    assert "pulid.NoFaceError" in panel
    assert "No face found in image 1 of 1" in panel
    assert "pulid_core.errors" not in panel
