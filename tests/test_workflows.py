"""Every shared workflow is tidy, names the files that it needs, and holds no secret."""

import itertools
import re
from collections import Counter
from pathlib import Path, PurePosixPath

import pytest
from pulid_pack.devtools import example_photos, portrait_workflow, tiny_stage

PATHS = sorted(portrait_workflow.FOLDER.glob("*.json"))
TITLE_PX = 30  # above a node's pos
# What diffusers calls every model; the workflows' notes say to rename it.
DIFFUSERS_NAME = "diffusion_pytorch_model.safetensors"

Box = tuple[float, float, float, float]


@pytest.fixture(params=PATHS, ids=lambda path: path.stem)
def path(request) -> Path:
    return request.param


@pytest.fixture
def workflow(path) -> dict:
    return portrait_workflow.read(path)


def widgets_of(node: dict) -> dict:
    """The node's widget values by name; a seed is followed by what happens to it."""
    names = [socket["name"] for socket in node["inputs"] if "widget" in socket]
    for seed in {*names} & (
        {"value"} if node["type"] == "PrimitiveInt" else {"seed", "noise_seed"}
    ):
        names.insert(names.index(seed) + 1, "control_after_generate")
    return dict(zip(names, node["widgets_values"], strict=True))


def models_of(workflow: dict) -> list[dict[str, str]]:
    return [model for node in workflow["nodes"] for model in node["properties"].get("models", ())]


def notes_of(workflow: dict) -> list[dict]:
    return [node for node in workflow["nodes"] if node["type"] == "MarkdownNote"]


def box(node: dict) -> Box:
    """Left, top, right, bottom, with the title."""
    (left, top), (width, height) = node["pos"], node["size"]
    return left, top - TITLE_PX, left + width, top + height


def border(group: dict) -> Box:
    left, top, width, height = group["bounding"]
    return left, top, left + width, top + height


def overlap(one: Box, other: Box) -> bool:
    return all(one[axis] < other[axis + 2] and other[axis] < one[axis + 2] for axis in (0, 1))


def contains(outer: Box, inner: Box) -> bool:
    return all(outer[axis] <= inner[axis] for axis in (0, 1)) and all(
        inner[axis] <= outer[axis] for axis in (2, 3)
    )


def test_every_link_fits_both_of_its_ends(workflow):
    """Both nodes know it, it fits the types, and no node believes in a link that is not there."""
    nodes = {node["id"]: node for node in workflow["nodes"]}
    links = {link[0]: link for link in workflow["links"]}
    for link, source, slot, target, socket, kind in workflow["links"]:
        assert nodes[source]["outputs"][slot]["type"] == kind
        assert {kind, "*"} & set(nodes[target]["inputs"][socket]["type"].split(","))
        assert nodes[target]["inputs"][socket]["link"] == link
    leaving = Counter(
        (link, node["id"], slot)
        for node in workflow["nodes"]
        for slot, output in enumerate(node["outputs"])
        for link in output["links"] or ()
    )
    assert leaving == Counter((link[0], link[1], link[2]) for link in links.values())
    entering = {s["link"] for node in workflow["nodes"] for s in node["inputs"]} - {None}
    assert entering == set(links)


def test_every_widget_has_its_value(workflow):
    for node in workflow["nodes"]:
        if node["type"] != "MarkdownNote":
            assert None not in widgets_of(node).values(), node["type"]


def test_numbers_are_unique_and_the_format_is_the_one_that_all_frontends_read(workflow):
    assert workflow["version"] == 0.4
    for things, last in ((workflow["nodes"], "last_node_id"), (workflow["links"], "last_link_id")):
        ids = [thing["id"] if isinstance(thing, dict) else thing[0] for thing in things]
        assert len(set(ids)) == len(ids)
        assert max(ids) == workflow[last]


def test_no_two_workflows_share_an_id_or_a_file_name():
    """Two of one id would overwrite each other's tab; two of one prefix mix their pictures."""
    workflows = [portrait_workflow.read(path) for path in PATHS]
    assert len({workflow["id"] for workflow in workflows}) == len(workflows)
    prefixes = [
        node["widgets_values"][0]
        for workflow in workflows
        for node in workflow["nodes"]
        if node["type"] == "SaveImage"
    ]
    assert len(set(prefixes)) == len(prefixes)


def test_the_names_read_as_titles_and_stand_in_order():
    """ComfyUI shows nothing else of a workflow; most file systems list by name."""
    names = [path.stem for path in PATHS]
    assert [name for name in names if not re.fullmatch(r"\d\d [A-Z][A-Za-z ]{10,50}", name)] == []
    assert [int(name[:2]) for name in names] == list(range(1, len(names) + 1))


def seen_at(workflow: dict, width: int, height: int) -> tuple[float, list[Box]]:
    """The zoom at which ComfyUI opens a workflow, and every node's box on the screen then.

    Its fit: the nodes' bounds, 10 units wider on each side, on three quarters of the window.
    """
    boxes = [box(node) for node in workflow["nodes"]]
    left, top = (min(one[i] for one in boxes) - 10 for i in (0, 1))
    right, bottom = (max(one[i] for one in boxes) + 10 for i in (2, 3))
    zoom = 0.75 * min(width / (right - left), height / (bottom - top))
    x, y = width / 2 - zoom * (left + right) / 2, height / 2 - zoom * (top + bottom) / 2
    return zoom, [(x + zoom * a, y + zoom * b, x + zoom * c, y + zoom * d) for a, b, c, d in boxes]


@pytest.mark.parametrize(("width", "height"), [(1600, 1000), (1920, 950)])
def test_it_opens_readable(workflow, width, height):
    """Above the zoom that hides all text, and with nothing under ComfyUI's own map in the corner."""
    zoom, boxes = seen_at(workflow, width, height)
    assert zoom >= 0.6
    minimap = (width - 261, height - 262, width - 8, height - 62)
    assert not any(overlap(one, minimap) for one in boxes)


def test_notes_stand_beside_a_group_with_room_to_grow(workflow):
    """Nodes 2.0 needs more than half as much again for the same text; and it colours code in blue."""
    others = [box(node) for node in workflow["nodes"]] + list(map(border, workflow["groups"]))
    for note in notes_of(workflow):
        left, top, right, bottom = mine = box(note)
        grown = (left, top, right, bottom + 0.5 * (bottom - top))
        assert not any(overlap(grown, other) for other in others if other != mine), note["title"]
        reach = (left - 60, top - 60, right + 60, bottom + 60)
        assert any(overlap(reach, border(group)) for group in workflow["groups"]), note["title"]
        assert "`" not in note["widgets_values"][0]


def test_the_loader_names_its_files(workflow):
    """Named files ComfyUI offers to download; of `auto` it knows nothing."""
    for node in workflow["nodes"]:
        if node["type"] == "PulidLoader":
            values = set(node["widgets_values"])
            models = {model["name"] for model in node["properties"].get("models", ())}
            assert values - {"none", "auto", "antelopev2"} == models & values
            assert widgets_of(node)["pulid_file"] in models


def test_a_second_person_cannot_hide_behind_the_first(workflow):
    """Saved under a name that is taken they would be numbered, and the first go on being loaded."""
    for node in workflow["nodes"]:
        if node["type"] == "PulidSaveIdentity":
            assert widgets_of(node)["if_exists"] == "error"


def test_apps_show_a_photo_a_prompt_and_the_picture():
    """The portraits, in ComfyUI's app mode; it reads nodes and widgets by their numbers and names."""
    apps = {
        path: workflow["extra"]["linearData"]
        for path in PATHS
        if "linearData" in (workflow := portrait_workflow.read(path))["extra"]
    }
    assert set(apps) == {portrait_workflow.PATH, portrait_workflow.REMOTE_PATH}
    for path, app in apps.items():
        nodes = {node["id"]: node for node in portrait_workflow.read(path)["nodes"]}
        photo, prompt = (widgets_of(nodes[number])[name] for number, name in app["inputs"])
        assert photo == "portrait.png"
        assert len(prompt.split()) > 5
        assert [nodes[number]["type"] for number in app["outputs"]] == ["SaveImage"]


def test_no_node_covers_another(workflow):
    pairs = itertools.combinations(workflow["nodes"], 2)
    assert [(a["type"], b["type"]) for a, b in pairs if overlap(box(a), box(b))] == []


def test_every_node_is_inside_one_group_and_notes_may_stand_outside(workflow):
    borders = [border(group) for group in workflow["groups"]]
    assert not any(overlap(*pair) for pair in itertools.combinations(borders, 2))
    for node in workflow["nodes"]:
        inside = [contains(group, box(node)) for group in borders]
        touched = [overlap(group, box(node)) for group in borders]
        assert inside == touched, f"{node['type']} stands across a border"
        assert any(inside) or node["type"] == "MarkdownNote", f"{node['type']} has no group"


def test_no_link_runs_backwards_between_groups(workflow):
    """Read from left to right: the source begins left of its target, or right above it."""
    nodes = {node["id"]: node for node in workflow["nodes"]}
    for _, source, _, target, _, _ in workflow["links"]:
        start, end = nodes[source]["pos"], nodes[target]["pos"]
        assert start[0] < end[0] or (start[0] == end[0] and start[1] < end[1])


def test_a_note_says_what_to_change_or_what_it_costs(workflow):
    titles = {note["title"] for note in notes_of(workflow)}
    assert titles & {"What to change first", "Key, cost, privacy"}
    remote = any(node["type"].startswith("Wavespeed") for node in workflow["nodes"])
    assert ("Key, cost, privacy" in titles) == remote


def test_only_the_example_photos_are_loaded(workflow):
    loaded = {
        node["widgets_values"][0] for node in workflow["nodes"] if node["type"] == "LoadImage"
    }
    assert loaded <= set(example_photos.PICTURES)


def test_every_model_file_has_a_link_and_a_note_names_it(workflow):
    models = models_of(workflow)
    for model in models:
        assert PurePosixPath(model["url"]).name in (model["name"], DIFFUSERS_NAME)
    notes = " ".join(note["widgets_values"][0] for note in notes_of(workflow))
    assert [model["name"] for model in models if model["name"] not in notes] == []
    renamed = [model for model in models if not model["url"].endswith(f"/{model['name']}")]
    assert bool(renamed) == (DIFFUSERS_NAME in notes)
    named = {
        value
        for node in workflow["nodes"]
        for value in node.get("widgets_values") or ()
        if isinstance(value, str) and value in {Path(name).name for name in tiny_stage.FILES}
    }
    assert named <= {model["name"] for model in models}


def test_every_model_file_has_a_link_and_a_place_on_the_stage():
    """All workflows together link the very files that the stage makes."""
    models = [model for path in PATHS for model in models_of(portrait_workflow.read(path))]
    linked = {f"{model['directory']}/{model['name']}" for model in models}
    assert linked == {name for name in tiny_stage.FILES if "insightface" not in name}
    assert len({(model["name"], model["url"]) for model in models}) == len(linked)


def test_no_key_and_no_prediction_is_shared(path, workflow):
    """One value per widget, prediction_id empty, and nothing that looks like a key."""
    for node in workflow["nodes"]:
        if node["type"] == "WavespeedFluxPulidRemote":
            widgets = widgets_of(node)
            assert widgets["prediction_id"] == ""
            assert 3 <= widgets["guidance_scale"] <= 4
            assert not any("key" in name for name in widgets)
    assert not re.search(r"[A-Za-z0-9]{40}|Bearer |wsk-", path.read_text(encoding="utf-8"))


def test_true_cfg_leaves_out_the_first_step_as_the_original():
    """Where two samplers share the steps; tests/inside_comfyui holds this against the original's loop."""
    pairs = [
        [
            node
            for node in portrait_workflow.read(path)["nodes"]
            if node["type"] == "KSamplerAdvanced"
        ]
        for path in PATHS
    ]
    ((first, others),) = [map(widgets_of, pair) for pair in pairs if pair]
    assert (first["cfg"], first["start_at_step"], first["end_at_step"]) == (1.0, 0, 1)
    assert (first["add_noise"], first["return_with_leftover_noise"]) == ("enable", "enable")
    assert others["cfg"] > 1
    assert (others["start_at_step"], others["end_at_step"]) == (1, 10000)
    assert (others["add_noise"], others["return_with_leftover_noise"]) == ("disable", "disable")
    same = ("steps", "sampler_name", "scheduler")
    assert [first[name] for name in same] == [others[name] for name in same]
