"""Old graphs among other packs' nodes: broadcasts, step caches, and PuLID nodes of others."""

import re
from copy import deepcopy
from pathlib import Path

import pytest
from pulid_pack.pulid_core.old_workflows import convert
from pulid_pack.pulid_core.old_workflows.others import OUR_NODES
from pulid_pack.tests.old_workflows.old_graphs import BALAZIK, OldGraph, prompt

ROOT = Path(__file__).resolve().parents[2]


def nodes(workflow, kind):
    return [node for node in workflow["nodes"] if node["type"] == kind]


def sources(workflow, node):
    """What feeds each input of a node, by type."""
    kinds = {n["id"]: n["type"] for n in workflow["nodes"]}
    links = {link[0]: kinds[link[1]] for link in workflow["links"]}
    return {s["name"]: links[s["link"]] for s in node["inputs"] if s["link"] is not None}


def broadcasting(*, saved_links: bool, photo: bool = True):
    """Loaders and photo that reach two apply nodes through Use Everywhere, without a link."""
    graph = OldGraph()
    for name in ("model", "face", "eva"):
        graph.add("Anything Everywhere", [], [], anything=graph.loader(name))
    image = graph.add("LoadImage", ["IMAGE"], ["a.png"])
    if photo:
        three = graph.add("Anything Everywhere3", [], [], anything=image)
        graph.connect(graph.add("VAELoader", ["VAE"], ["ae"]), graph.nodes[three - 1], "anything2")
    open_inputs = dict.fromkeys(("pulid_flux", "eva_clip", "face_analysis", "image"))
    applies = [
        graph.add(
            "ApplyPulidFlux",
            ["MODEL"],
            BALAZIK,
            model=graph.add("UNETLoader", ["MODEL"], ["flux"]),
            **open_inputs,
        )
        for _ in range(2)
    ]
    workflow = graph.saved()
    if saved_links:
        upstream = {1: 1, 2: 5, 3: 3, 4: 7}  # apply's input -> node
        workflow["extra"]["ue_links"] = [
            {
                "downstream": apply,
                "downstream_slot": slot,
                "upstream": str(node),
                "upstream_slot": 0,
            }
            for apply in applies
            for slot, node in upstream.items()
        ]
        for caster in nodes(workflow, "Anything Everywhere"):
            caster["type"] = "Some New Everywhere"
    return workflow


@pytest.mark.parametrize("saved_links", [True, False])
def test_what_was_broadcast_is_linked(saved_links):
    workflow = broadcasting(saved_links=saved_links)
    if saved_links:
        for caster in nodes(workflow, "Some New Everywhere"):
            caster["type"] = "Anything Everywhere"
    new = convert(workflow).workflow
    applies = nodes(new, "PulidApplyFlux")
    assert len(applies) == 2
    for apply in applies:
        fed = {"model": "UNETLoader", "pulid": "PulidLoader", "reference": "LoadImage"}
        assert sources(new, apply) == fed
    kinds = [node["type"] for node in new["nodes"]]
    assert kinds.count("PulidLoader") == 1
    assert "Anything Everywhere" not in kinds
    assert not new["extra"].get("ue_links")
    assert not [kind for kind in kinds if kind.startswith("PulidFlux")]
    assert "Anything Everywhere3" in kinds, "it broadcasts a VAE as well"
    assert convert(workflow).remarks == []


def test_a_broadcast_that_another_node_waits_for_goes_on():
    graph = OldGraph()
    model = graph.loader("model")
    graph.add("Anything Everywhere", [], [], anything=model)
    graph.add("AQ_multiface_ApplyPulidFlux", ["MODEL"], [], pulid_flux=None)
    graph.apply(pulid_flux=model)
    conversion = convert(graph.saved())
    assert nodes(conversion.workflow, "Anything Everywhere")
    assert any("PulidFluxModelLoader (node 1) stays" in told for told in conversion.remarks)


def test_of_two_broadcasts_the_one_with_a_fitting_rule_is_taken():
    graph = OldGraph()
    first = graph.loader("model", ["one.safetensors"])
    second = graph.loader("model", ["two.safetensors"])
    graph.add("Anything Everywhere", [], [], anything=first)
    graph.add("Anything Everywhere?", [], ["Second.*", ".*"], anything=second)
    for title in ("First person", "Second person"):
        graph.add("ApplyPulidFlux", ["MODEL"], BALAZIK, pulid_flux=None)
        graph.nodes[-1]["title"] = title
    new = convert(graph.saved()).workflow
    files = {}
    for apply in nodes(new, "PulidApplyFlux"):
        link = next(k for k in new["links"] if k[0] == apply["inputs"][1]["link"])
        loader = next(node for node in new["nodes"] if node["id"] == link[1])
        files[apply["title"]] = loader["widgets_values"][0]
    assert files == {"First person": "one.safetensors", "Second person": "two.safetensors"}


@pytest.mark.parametrize(("inverted", "taken"), [(True, "two"), (False, "one")])
def test_a_rule_may_say_what_does_not_fit(inverted, taken):
    """As newer versions of Use Everywhere save it."""
    graph = OldGraph()
    for name, rules in (
        ("one", {}),
        ("two", {"title_regex": "Second", "title_regex_invert": inverted}),
    ):
        loader = graph.loader("model", [f"{name}.safetensors"])
        graph.add("Anything Everywhere", [], [], anything=loader)
        graph.nodes[-1]["properties"]["ue_properties"] = rules
    graph.add("ApplyPulidFlux", ["MODEL"], BALAZIK, pulid_flux=None)
    (loader,) = nodes(convert(graph.saved()).workflow, "PulidLoader")
    assert loader["widgets_values"][0] == f"{taken}.safetensors"


def test_a_loader_that_only_an_unknown_node_uses_is_told():
    graph = OldGraph()
    graph.add("SomePulidThing", ["MODEL"], [], pulid_flux=graph.loader("model"))
    conversion = convert(graph.saved())
    assert "PulidFluxModelLoader (node 1) stays, since SomePulidThing" in conversion.remarks[0]
    assert "unknown to this conversion" in conversion.remarks[1]


CACHES = {
    "FluxForwardOverrider": "works together with PulidApplyFlux",
    "ApplyTeaCachePatchAdvanced": "works together with PulidApplyFlux",
    "DitForwardOverrider": "works together with PulidApplyFlux",
    "ApplyFirstBlockCachePatch": "works together with PulidApplyFlux",
    "TeaCache": "bypass the node",
    "ApplyFBCacheOnModel": "bypass the node",
}


@pytest.mark.parametrize("kind", CACHES)
def test_step_caches_stay_and_are_told(kind):
    graph = OldGraph()
    cache = graph.add(kind, ["MODEL"], [0.25], model=graph.apply())
    graph.add("BasicGuider", ["GUIDER"], [], model=cache)
    as_prompt = prompt()
    as_prompt["8"] = {"class_type": kind, "inputs": {"model": ["6", 0]}}
    for conversion in (convert(graph.saved()), convert(as_prompt)):
        (told,) = conversion.remarks
        assert told.startswith(f"{kind} (node ")
        assert CACHES[kind] in told
    graph = OldGraph()
    graph.add(kind, ["MODEL"], [0.25])
    assert convert(graph.saved()).remarks == [], "without PuLID it is nothing of ours"


STAYING = {
    "NunchakuPuLIDLoaderV2": "4-bit",
    "NunchakuFluxPuLIDApplyV2": "4-bit",
    "NunchakuPulidApply": "4-bit",
    "ApplyPuLIDFlux2": "FLUX.2",
    "PuLIDModelLoader": "FLUX.2",
    "PuLIDKleinApply": "FLUX.2",
    "AQ_multiface_ApplyPulidFlux": "list of photos",
    "ApplyPulidAdvanced": "SDXL",
    "PulidModelLoader": "SDXL",
    "MyPulidThing": "unknown to this conversion",
}


@pytest.mark.parametrize("kind", STAYING)
def test_other_pulid_nodes_stay_and_say_why(kind):
    """In a graph, in a subgraph and in a prompt; nothing is changed there."""
    graph = OldGraph()
    graph.add(kind, ["MODEL"], [])
    flat = graph.saved()
    inside = {"id": "a", "nodes": deepcopy(graph.nodes), "links": [], "inputs": [], "outputs": []}
    nested = OldGraph().saved() | {"definitions": {"subgraphs": [inside]}}
    sent = {"1": {"class_type": kind, "inputs": {}}}
    for workflow in (flat, nested, sent):
        conversion = convert(workflow)
        assert conversion.workflow == workflow
        (told,) = conversion.remarks
        assert told.startswith(f"{kind} (node 1) stays: ")
        assert STAYING[kind] in told


def test_one_reason_is_told_once():
    graph = OldGraph()
    for kind in ("PuLIDModelLoader", "PuLIDEVACLIPLoader", "ApplyPuLIDFlux2"):
        graph.add(kind, [], [])
    (told,) = convert(graph.saved()).remarks
    assert told.startswith(
        "PuLIDModelLoader (node 1), PuLIDEVACLIPLoader (node 2), ApplyPuLIDFlux2 (node 3) stay: "
    )


def test_our_own_nodes_are_not_strangers():
    ids = set()
    for path in (ROOT / "nodes").glob("*.py"):
        ids |= set(re.findall(r'node_id="(\w+)"', path.read_text(encoding="utf-8")))
    assert {name for name in ids if "pulid" in name.lower()} <= set(OUR_NODES)


def test_copies_of_the_old_nodes_are_converted():
    """GraftingRayman's: the same nodes with a choice of the face in the middle of the values."""
    graph = OldGraph()
    loaders = {
        name: graph.add(f"GR{kind}", [type_], values)
        for name, (kind, type_, values) in {
            "pulid_flux": ("PulidFluxModelLoader", "PULIDFLUX", ["mine.safetensors"]),
            "eva_clip": ("PulidFluxEvaClipLoader", "EVA_CLIP", []),
            "face_analysis": ("PulidFluxInsightFaceLoader", "FACEANALYSIS", ["CPU"]),
        }.items()
    }
    graph.apply([0.7, 0.2, 0.8, False, 0, 0.01, "center_face", "mean", 1, 0, 1000, True], **loaders)
    graph.nodes[-1]["type"] = "GRApplyPulidFlux"
    conversion = convert(graph.saved())
    (apply,) = nodes(conversion.workflow, "PulidApplyFlux")
    assert apply["widgets_values"] == [0.7, 0.2, 0.8]
    (loader,) = nodes(conversion.workflow, "PulidLoader")
    assert loader["widgets_values"][0] == "mine.safetensors"
    assert not [node for node in conversion.workflow["nodes"] if node["type"].startswith("GR")]
    told = " ".join(conversion.remarks)
    assert "center_face" in told
    assert "fusion mode mean" in told


def test_a_copied_loader_that_stays_keeps_its_name():
    graph = OldGraph()
    face = graph.add("GRPulidFluxInsightFaceLoader", ["FACEANALYSIS"], ["CPU"])
    graph.add("ApplyInstantID", ["MODEL"], [], face_analysis=face)
    graph.apply(face_analysis=face)
    assert nodes(convert(graph.saved()).workflow, "GRPulidFluxInsightFaceLoader")
    sent = prompt()
    sent["3"]["class_type"] = "GRPulidFluxInsightFaceLoader"
    sent["8"] = {"class_type": "ApplyInstantID", "inputs": {"face_analysis": ["3", 0]}}
    new = convert(sent).workflow
    assert new["3"]["class_type"] == "GRPulidFluxInsightFaceLoader"
    assert new["6"]["class_type"] == "PulidApplyFlux"
