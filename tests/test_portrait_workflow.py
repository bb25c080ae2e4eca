"""The shared workflow is tidy, and runs unchanged from photo to picture on every version."""

import itertools

import pytest
from PIL import Image
from pulid_pack.tests import portrait_workflow, tiny_stage
from pulid_pack.tests.workflow_conversion import to_prompt


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


def test_the_workflow_runs_unchanged(matrix_server, workflow):
    """From photo to picture, with the face crop in the history; then all of it from the cache."""
    prompt = to_prompt(workflow, matrix_server.object_info())
    run = matrix_server.run(prompt)
    assert run.error is None
    assert set(run.executed_nodes) == set(prompt)
    pictures = {prompt[node]["class_type"]: paths for node, paths in run.images.items()}
    (picture,) = pictures["SaveImage"]
    (face,) = pictures["PulidApplyFlux"]
    assert face.is_file()
    with Image.open(picture) as image:
        assert (
            list(image.size)
            == portrait_workflow.only_node(workflow, "EmptySD3LatentImage")["widgets_values"][:2]
        )

    again = matrix_server.run(prompt)
    assert again.executed_nodes == []
    assert again.images == run.images
