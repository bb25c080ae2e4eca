"""Old nodes inside subgraphs: nothing dead is left of them."""

from pulid_pack.pulid_core.old_workflows import convert
from pulid_pack.tests.old_workflows.old_graphs import OldGraph
from pulid_pack.tests.old_workflows.test_old_workflows import in_subgraph

TYPES = {"model": "PULIDFLUX", "eva": "EVA_CLIP", "face": "FACEANALYSIS"}


def loaders_in_subgraph(*more):
    """The three loaders in a subgraph, and maybe something else, whose output comes last."""
    inner = OldGraph()
    outputs, links = [], []
    for slot, kind in enumerate(TYPES):
        inner.loader(kind)
        outputs.append({"name": TYPES[kind], "type": TYPES[kind], "linkIds": [slot + 1]})
    for kind, type_ in more:
        inner.add(kind, [type_])
        outputs.append({"name": type_, "type": type_, "linkIds": [len(outputs) + 1]})
    for slot, output in enumerate(outputs):
        ends = {"origin_id": slot + 1, "origin_slot": 0, "target_id": -20, "target_slot": slot}
        links.append({"id": slot + 1, **ends, "type": output["type"]})
        inner.nodes[slot]["outputs"][0]["links"] = [slot + 1]
    definition = {
        "id": "0a1b",
        "nodes": inner.nodes,
        "links": links,
        "inputs": [],
        "outputs": outputs,
        "inputNode": {"id": -10},
        "outputNode": {"id": -20},
    }
    outer = OldGraph()
    instance = outer.add("0a1b", [output["type"] for output in outputs])
    outer.apply()
    apply = outer.nodes[-1]
    for slot, name in enumerate(("pulid_flux", "eva_clip", "face_analysis")):
        (socket,) = (s for s in apply["inputs"] if s["name"] == name)
        (link,) = (k for k in outer.links if k[0] == socket["link"])
        outer.nodes[link[1] - 1]["outputs"][0]["links"] = []
        link[1:3] = instance, slot
        outer.nodes[instance - 1]["outputs"][slot]["links"].append(link[0])
    outer.nodes = [n for n in outer.nodes if not n["type"].startswith("PulidFlux")]
    return outer, definition


def test_an_emptied_subgraph_goes():
    outer, definition = loaders_in_subgraph()
    workflow = outer.saved() | {"definitions": {"subgraphs": [definition]}}
    new = convert(workflow).workflow
    assert new["definitions"]["subgraphs"] == []
    assert "0a1b" not in [node["type"] for node in new["nodes"]]
    assert [n["type"] for n in new["nodes"]].count("PulidLoader") == 1


def test_dead_outputs_go_and_the_others_move_up():
    outer, definition = loaders_in_subgraph(("VAELoader", "VAE"))
    outer.add("VAEDecode", ["IMAGE"], [], vae=None)
    decode = outer.nodes[-1]
    (instance,) = (n for n in outer.nodes if n["type"] == "0a1b")
    link = [500, instance["id"], 3, decode["id"], 0, "VAE"]
    outer.links.append(link)
    decode["inputs"][0]["link"] = 500
    instance["outputs"][3]["links"].append(500)
    new = convert(outer.saved() | {"definitions": {"subgraphs": [definition]}}).workflow
    (inner,) = new["definitions"]["subgraphs"]
    assert [output["name"] for output in inner["outputs"]] == ["VAE"]
    assert [(k["origin_id"], k["target_slot"]) for k in inner["links"]] == [(4, 0)]
    (instance,) = (n for n in new["nodes"] if n["type"] == "0a1b")
    assert [output["name"] for output in instance["outputs"]] == ["VAE"]
    (moved,) = (k for k in new["links"] if k[0] == 500)
    assert moved[1:5] == [instance["id"], 0, decode["id"], 0]


def test_dead_inputs_go_and_the_others_move_up():
    new = convert(in_subgraph().saved()).workflow
    (inner,) = new["definitions"]["subgraphs"]
    assert [border["name"] for border in inner["inputs"]] == ["model", "image"]
    slots = {k["id"]: k["origin_slot"] for k in inner["links"] if k["origin_id"] == -10}
    for slot, border in enumerate(inner["inputs"]):
        assert [slots[number] for number in border["linkIds"]] == [slot]
    (instance,) = (node for node in new["nodes"] if node["type"] == "0a1b")
    assert [socket["name"] for socket in instance["inputs"]] == ["model", "image"]
    ends = {link[0]: link[4] for link in new["links"]}
    assert [ends[socket["link"]] for socket in instance["inputs"]] == [0, 1]
