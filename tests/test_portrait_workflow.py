"""The shared workflow is tidy, and names the files that it needs."""

import itertools

import pytest
from pulid_pack.tests import portrait_workflow, tiny_stage


@pytest.fixture
def workflow() -> dict:
    return portrait_workflow.load()


def test_every_link_fits_both_of_its_ends(workflow):
    nodes = {node["id"]: node for node in workflow["nodes"]}
    assert len(nodes) == len(workflow["nodes"])
    for link, source, slot, target, socket, kind in workflow["links"]:
        assert link in nodes[source]["outputs"][slot]["links"]
        assert nodes[source]["outputs"][slot]["type"] == kind
        assert nodes[target]["inputs"][socket]["link"] == link
        assert kind in nodes[target]["inputs"][socket]["type"].split(",")


def overlap(one: dict, other: dict) -> bool:
    return all(
        one["pos"][axis] < other["pos"][axis] + other["size"][axis]
        and other["pos"][axis] < one["pos"][axis] + one["size"][axis]
        for axis in (0, 1)
    )


def test_no_node_covers_another(workflow):
    pairs = itertools.combinations(workflow["nodes"], 2)
    assert [(a["type"], b["type"]) for a, b in pairs if overlap(a, b)] == []


def test_every_model_file_has_a_link_and_a_place_on_the_stage(workflow):
    """The links name the very files that the stage makes, and the notes name their folders."""
    models = [model for node in workflow["nodes"] for model in node["properties"].get("models", ())]
    assert all(model["url"].endswith(f"/{model['name']}") for model in models)
    linked = {f"{model['directory']}/{model['name']}" for model in models}
    assert linked == {name for name in tiny_stage.FILES if "insightface" not in name}
    notes = " ".join(
        node["widgets_values"][0] for node in workflow["nodes"] if node["type"] == "MarkdownNote"
    )
    assert [model["name"] for model in models if model["name"] not in notes] == []
