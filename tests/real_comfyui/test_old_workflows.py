"""Graphs of the older packs run in real ComfyUI with our nodes in their place."""

from copy import deepcopy

import pytest
import requests
from pulid_pack.devtools import portrait_workflow
from pulid_pack.devtools.workflow_conversion import to_prompt
from pulid_pack.pulid_core.old_workflows import convert
from pulid_pack.tests.real_comfyui.portrait_graph import portrait
from pulid_pack.tests.real_comfyui.test_workflows import shrunk

pytestmark = pytest.mark.comfy

OLD_LOADERS = {
    "pulid_flux": ("PulidFluxModelLoader", "PULIDFLUX", ["pulid_flux_v0.9.1.safetensors"]),
    "eva_clip": ("PulidFluxEvaClipLoader", "EVA_CLIP", []),
    "face_analysis": ("PulidFluxInsightFaceLoader", "FACEANALYSIS", ["CPU"]),
}


def old_portrait() -> dict:
    """The shared workflow as one of the older packs' users would have saved it."""
    workflow = portrait_workflow.load(photo="portrait.png")
    apply = portrait_workflow.only_node(workflow, "PulidApplyFlux")
    ours = portrait_workflow.only_node(workflow, "PulidLoader")
    sockets = {socket["name"]: socket["link"] for socket in apply["inputs"]}
    workflow["nodes"].remove(ours)
    workflow["links"] = [link for link in workflow["links"] if link[1] != ours["id"]]
    old_sockets = {"model": ("MODEL", sockets["model"])}
    for number, (socket, (kind, type_, values)) in enumerate(OLD_LOADERS.items(), 101):
        output = {"name": type_, "type": type_, "links": [number]}
        old = {"id": number, "type": kind, "outputs": [output], "widgets_values": values}
        workflow["nodes"].append(ours | old | {"inputs": [], "pos": [0, 2000 + 200 * number]})
        workflow["links"].append([number, number, 0, apply["id"], number - 100, type_])
        old_sockets[socket] = (type_, number)
    old_sockets["image"] = ("IMAGE", sockets["reference"])
    apply["type"] = "ApplyPulidFlux"
    apply["inputs"] = [
        {"name": name, "type": type_, "link": link} for name, (type_, link) in old_sockets.items()
    ]
    return workflow


def old_prompt() -> dict:
    """The small portrait as scripts send it: without `_meta`, and without the optional mask."""
    prompt = portrait()
    del prompt["loader"]
    sources = {}
    for number, (socket, (kind, _, _)) in enumerate(OLD_LOADERS.items(), 101):
        prompt[str(number)] = {"class_type": kind, "inputs": {}}
        sources[socket] = [str(number), 0]
    prompt["101"]["inputs"]["pulid_file"] = "pulid_flux_v0.9.1.safetensors"
    prompt["103"]["inputs"]["provider"] = "CPU"
    apply = prompt["apply"]["inputs"]
    del apply["pulid"]
    prompt["apply"] = {
        "class_type": "ApplyPulidFlux",
        "inputs": apply | sources | {"image": apply.pop("reference")},
    }
    return prompt


def test_a_converted_workflow_runs(server):
    conversion = convert(old_portrait())
    assert conversion.remarks == []
    prompt = shrunk(to_prompt(conversion.workflow, server.object_info()))
    run = server.run(prompt)
    assert run.error is None
    (crop,) = (node for node, values in prompt.items() if values["class_type"] == "PulidApplyFlux")
    assert len(run.images[crop]) == 1


def test_an_old_prompt_runs_as_it_is(matrix_server):
    """No node of the older packs is registered, and ComfyUI's own replacing would fail here."""
    run = matrix_server.run(old_prompt())
    assert run.error is None, run.error
    assert run.node_errors == {}
    assert "apply" in (*run.executed_nodes, *run.cached_nodes)
    assert matrix_server.object_info("ApplyPulidFlux") == {}


def test_what_an_old_prompt_lacks_is_named(server):
    prompt = old_prompt()
    del prompt["apply"]["inputs"]["weight"]
    run = server.run(prompt)
    (problem,) = run.node_errors["apply"]["errors"]
    assert (problem["type"], problem["details"]) == ("required_input_missing", "weight")


def test_losses_of_an_old_prompt_are_in_the_log(server):
    prompt = old_prompt()
    prompt["apply"]["inputs"] |= {"fusion": "max", "use_gray": False}
    assert server.run(deepcopy(prompt)).error is None
    log = server.log_text()
    assert "the fusion mode max is gone" in log
    assert "use_gray false is gone" in log


def test_the_browser_is_offered_replacements_that_exist(matrix_server):
    """What the Replace button reads: ids and inputs of ours, and no old id that is ours."""
    answer = requests.get(f"{matrix_server.url}/node_replacements", timeout=60)
    offered = {old: new for old, (new, *_) in answer.json().items() if "ulid" in old}
    assert len(offered) == 8
    for replacement in offered.values():
        node = replacement["new_node_id"]
        inputs = matrix_server.object_info(node)[node]["input"]
        known = {**inputs["required"], **inputs.get("optional", {})}
        mapped = {entry["new_id"] for entry in replacement["input_mapping"]}
        assert mapped <= set(known)


@pytest.mark.parametrize("form", ["bare", "commented", "cuda", "copies", "older file"])
def test_an_old_prompt_of_any_form_runs(form, server):
    """As scripts and services keep them; ComfyUI itself answers some of these with HTTP 500."""
    prompt = old_prompt()
    if form == "commented":
        prompt = {"_comment": "my portrait", **prompt}
    elif form == "cuda":
        prompt["103"]["inputs"]["provider"] = "CUDA"
    elif form == "copies":
        for node in prompt.values():
            if "PulidFlux" in node["class_type"]:
                node["class_type"] = f"GR{node['class_type']}"
    elif form == "older file":
        prompt["101"]["inputs"]["pulid_file"] = "pulid_flux_v0.9.0.safetensors"
    run = server.run(prompt)
    assert run.error is None, run.error


def test_a_prompt_with_a_node_that_nobody_knows_is_refused_and_not_more(matrix_server):
    """With old loaders, without `_meta`: a missing node, not HTTP 500."""
    loader = {"class_type": "PulidFluxModelLoader", "inputs": {}}
    unknown = {"class_type": "AQ_multiface_ApplyPulidFlux", "inputs": {"pulid_flux": ["1", 0]}}
    url = f"{matrix_server.url}/prompt"
    answer = requests.post(url, json={"prompt": {"1": loader, "2": unknown}}, timeout=30)
    assert answer.status_code == 400
    assert answer.json()["error"]["type"] == "missing_node_type"
