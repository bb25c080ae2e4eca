"""Graphs of the older packs become ours: nothing is lost silently, nothing else is touched."""

import itertools
from copy import deepcopy

import pytest
from pulid_pack.pulid_core.old_workflows import OLD_NODES, OldWorkflowError, convert
from pulid_pack.tests.old_workflows.old_graphs import BALAZIK, SIPIE, SOCKETS, OldGraph, prompt


def ours(workflow, kind):
    return [node for node in workflow["nodes"] if node["type"] == kind]


def the(workflow, kind):
    (node,) = ours(workflow, kind)
    return node


def notes(workflow):
    return " ".join(note["widgets_values"][0] for note in ours(workflow, "Note"))


def balazik():
    """All on one way, and a node behind."""
    graph = OldGraph()
    graph.add("BasicGuider", ["GUIDER"], [], model=graph.apply())
    return graph


def sipie():
    """Every widget and input that has no counterpart."""
    graph = OldGraph()
    prior = graph.add("LoadImage", ["IMAGE"], ["b.png"])
    mask = graph.add("LoadImageMask", ["MASK"], ["c.png", "red"])
    graph.apply(SIPIE, prior_image=prior, attn_mask=mask)
    return graph


def lldacing():
    """Options, and the detector with its previews."""
    graph = OldGraph()
    options = graph.add("PulidFluxOptions", ["OPTIONS"], ["left-right", 2, 1])
    face, photo = graph.loader("face", ["CUDA"]), graph.add("LoadImage", ["IMAGE"], ["a.png"])
    graph.apply(face_analysis=face, image=photo, options=options)
    outputs = ["IMAGE", "IMAGE", "IMAGE"]
    sockets = {"face_analysis": face, "image": photo, "options": options}
    detector = graph.add("PulidFluxFaceDetector", outputs, [], **sockets)
    graph.add("PreviewImage", [], [], images=detector)
    return graph


def shared_loaders():
    """Three people in a row, one set of loaders; a second detector on the GPU for the third."""
    graph = OldGraph()
    model, eva, face = graph.loader("model"), graph.loader("eva"), graph.loader("face")
    first = graph.apply(pulid_flux=model, eva_clip=eva, face_analysis=face)
    second = graph.apply(pulid_flux=model, eva_clip=eva, face_analysis=face, model=first)
    gpu = graph.loader("face", ["ROCM"])
    graph.apply(pulid_flux=model, eva_clip=eva, face_analysis=gpu, model=second)
    return graph


def routed():
    """Reroutes, and KJNodes' pair that hands on by name."""
    graph = OldGraph()
    model = graph.add("Reroute", ["PULIDFLUX"], **{"": graph.loader("model")})
    graph.add("SetNode", ["*"], ["eva"], EVA_CLIP=graph.loader("eva"))
    graph.apply(pulid_flux=model, eva_clip=graph.add("GetNode", ["EVA_CLIP"], ["eva"]))
    return graph


def strangers():
    """Another pack uses the loader, and feeds the apply node."""
    graph = OldGraph()
    face = graph.loader("face")
    graph.add("ApplyInstantID", ["MODEL"], [], face_analysis=face)
    eva = graph.add("PulidEvaClipLoader", ["EVA_CLIP"], [])
    graph.apply(face_analysis=face, eva_clip=eva)
    return graph


def lonely():
    """Loaders that lead nowhere, and an apply node without any."""
    graph = OldGraph()
    for name in ("model", "face", "eva"):
        graph.loader(name)
    graph.add("ApplyPulidFlux", ["MODEL"], BALAZIK, model=None, pulid_flux=None, image=None)
    return graph


def in_subgraph():
    """The apply node in a subgraph, its loaders and the photo outside."""
    inner = OldGraph()
    inner.add("ApplyPulidFlux", ["MODEL"], SIPIE)
    node = inner.nodes[0]
    names = ["model", "pulid_flux", "eva_clip", "face_analysis", "image"]
    borders, links = [], []
    for slot, name in enumerate(names):
        node["inputs"].append({"name": name, "type": SOCKETS[name], "link": slot + 1})
        borders.append({"name": name, "type": SOCKETS[name], "linkIds": [slot + 1]})
        ends = {"origin_id": -10, "origin_slot": slot, "target_id": 1, "target_slot": slot}
        links.append({"id": slot + 1, **ends, "type": SOCKETS[name]})
    node["outputs"][0]["links"] = [9]
    ends = {"origin_id": 1, "origin_slot": 0, "target_id": -20, "target_slot": 0}
    links.append({"id": 9, **ends, "type": "MODEL"})
    definition = {
        "id": "0a1b",
        "name": "Face",
        "nodes": inner.nodes,
        "links": links,
        "inputs": borders,
        "outputs": [{"name": "MODEL", "type": "MODEL", "linkIds": [9]}],
        "inputNode": {"id": -10},
        "outputNode": {"id": -20},
        "state": {"lastNodeId": 1, "lastLinkId": 9},
    }
    outer = OldGraph()
    sources = {
        name: outer.loader(loader)
        for name, loader in zip(names[1:4], ("model", "eva", "face"), strict=True)
    }
    sources["model"] = outer.add("UNETLoader", ["MODEL"], ["flux"])
    sources["image"] = outer.add("LoadImage", ["IMAGE"], ["a.png"])
    outer.add("0a1b", ["MODEL"], [], **{name: sources[name] for name in names})
    outer.nodes[-1]["properties"]["proxyWidgets"] = [["1", "weight"], ["1", "fusion"]]
    graph = OldGraph()
    graph.saved = lambda: OldGraph.saved(outer) | {"definitions": {"subgraphs": [definition]}}
    return graph


FORMS = [balazik, sipie, lldacing, shared_loaders, routed, strangers, lonely, in_subgraph]
forms = pytest.mark.parametrize("form", FORMS, ids=lambda form: form.__name__)


@forms
def test_every_link_fits_both_of_its_ends(form):
    workflow = convert(form().saved()).workflow
    for graph in (workflow, *workflow.get("definitions", {}).get("subgraphs", ())):
        nodes = {node["id"]: node for node in graph["nodes"]}
        assert len(nodes) == len(graph["nodes"])
        links = [list(ln.values()) if isinstance(ln, dict) else ln for ln in graph["links"]]
        for number, source, slot, target, socket, kind in links:
            if source != -10:
                output = nodes[source]["outputs"][slot]
                assert number in output["links"]
                assert output["type"] in (kind, "*")
            if target != -20:
                taking = nodes[target]["inputs"][socket]
                assert taking["link"] == number
                assert kind in taking["type"].split(",") or "*" in (kind, taking["type"])
        known = {link[0] for link in links}
        for node in nodes.values():
            ends = [s["link"] for s in node["inputs"] if s["link"] is not None]
            ends += [number for output in node["outputs"] for number in output["links"]]
            assert set(ends) <= known


@forms
def test_converting_twice_is_converting_once(form):
    once = convert(form().saved())
    twice = convert(once.workflow)
    assert twice.workflow == once.workflow
    assert twice.replaced == 0
    assert set(twice.remarks) <= set(once.remarks)


@forms
def test_other_nodes_and_the_input_stay_untouched(form):
    old = form().saved()
    copy = deepcopy(old)
    new = convert(old).workflow
    assert old == copy
    assert new["groups"] == old["groups"]
    later = {node["id"]: node for node in new["nodes"]}
    for node in old["nodes"]:
        if node["type"] not in (*OLD_NODES, "Reroute", "SetNode", "GetNode", "0a1b"):
            kept = later[node["id"]]
            assert without_links(kept) == without_links(node)


def without_links(node):
    return {key: value for key, value in node.items() if key not in ("inputs", "outputs")}


@forms
def test_no_new_node_covers_another(form):
    old, new = form().saved(), convert(form().saved()).workflow
    places = {node["id"]: node["pos"] for node in old["nodes"]}
    moved = [node for node in new["nodes"] if places.get(node["id"]) != node["pos"]]
    for node, other in itertools.product(moved, new["nodes"]):
        sizes = [n["size"] if isinstance(n["size"], list) else [315, 58] for n in (node, other)]
        apart = [
            node["pos"][axis] >= other["pos"][axis] + sizes[1][axis]
            or other["pos"][axis] >= node["pos"][axis] + sizes[0][axis]
            for axis in (0, 1)
        ]
        assert any(apart) or node is other


@forms
def test_a_note_repeats_the_remarks(form):
    conversion = convert(form().saved())
    graphs = conversion.workflow, *conversion.workflow.get("definitions", {}).get("subgraphs", ())
    written = " ".join(notes(graph) for graph in graphs)
    assert all(remark in written for remark in conversion.remarks)
    assert all(len(ours(graph, "Note")) <= 1 for graph in graphs)
    assert bool(written) == bool(conversion.remarks)


def test_balaziks_graph_needs_no_remark():
    old = balazik().saved()
    conversion = convert(old)
    assert conversion.remarks == []
    assert conversion.replaced == 2
    new = conversion.workflow
    loader, apply = the(new, "PulidLoader"), the(new, "PulidApplyFlux")
    file = "pulid_flux_v0.9.1.safetensors"
    values = [file, "auto", "auto", "antelopev2", "auto"]
    assert loader["widgets_values"] == values
    assert loader["id"] == the(old, "PulidFluxModelLoader")["id"]
    assert apply["widgets_values"] == BALAZIK
    assert apply["pos"] == the(old, "ApplyPulidFlux")["pos"]
    assert "cnr_id" not in apply["properties"]
    sources = {link[0]: link[1] for link in new["links"]}
    taken = {socket["name"]: sources.get(socket["link"]) for socket in apply["inputs"]}
    assert taken["model"] == the(new, "UNETLoader")["id"]
    assert taken["pulid"] == loader["id"]
    assert taken["reference"] == the(new, "LoadImage")["id"]
    assert sources[the(new, "BasicGuider")["inputs"][0]["link"]] == apply["id"]


def test_sipies_extras_are_told():
    told = " ".join(convert(sipie().saved()).remarks)
    for word in ("auto_weight", "fusion_weight_max 1.5", "use_gray", "prior_image", "attn_mask"):
        assert word in told


def test_lldacings_options_are_told_and_its_detector_is_bypassed():
    conversion = convert(lldacing().saved())
    told = " ".join(conversion.remarks)
    for word in ("face 2 in the order left-right", "align_mode 1", "ran on CUDA", "bypassed"):
        assert word in told
    for kind in ("PulidFluxFaceDetector", "PulidFluxInsightFaceLoader", "PulidFluxOptions"):
        assert the(conversion.workflow, kind)["mode"] == 4


def test_apply_nodes_share_a_loader_where_they_shared_theirs():
    workflow = convert(shared_loaders().saved()).workflow
    loaders = {node["id"]: node for node in ours(workflow, "PulidLoader")}
    sources = {link[0]: link[1] for link in workflow["links"]}
    feeding = [sources[node["inputs"][1]["link"]] for node in ours(workflow, "PulidApplyFlux")]
    assert len(set(feeding)) == len(loaders) == 1
    assert loaders[feeding[0]]["widgets_values"][-1] == "auto"
    assert workflow["last_node_id"] == max(node["id"] for node in workflow["nodes"])


def test_what_only_handed_on_goes_away():
    kinds = {node["type"] for node in convert(routed().saved()).workflow["nodes"]}
    assert kinds == {"PulidLoader", "PulidApplyFlux", "UNETLoader", "LoadImage"}


def test_loaders_that_others_use_stay():
    conversion = convert(strangers().saved())
    told = " ".join(conversion.remarks)
    assert "stays, since ApplyInstantID" in told
    assert "eva_clip came from PulidEvaClipLoader" in told
    assert the(conversion.workflow, "PulidFluxInsightFaceLoader")["mode"] == 0


def test_unconnected_nodes_are_told():
    conversion = convert(lonely().saved())
    assert sum("connected to nothing" in remark for remark in conversion.remarks) == 3
    assert "had no loader" in " ".join(conversion.remarks)


def test_loaders_outside_a_subgraph_move_into_it():
    conversion = convert(in_subgraph().saved())
    (inner,) = conversion.workflow["definitions"]["subgraphs"]
    loader = the(inner, "PulidLoader")
    assert loader["widgets_values"][0] == "pulid_flux_v0.9.1.safetensors"
    kinds = [node["type"] for node in conversion.workflow["nodes"]]
    assert kinds == ["UNETLoader", "LoadImage", "0a1b", "Note"]
    instance = conversion.workflow["nodes"][2]
    assert instance["properties"]["proxyWidgets"] == [["1", "weight"]]
    assert "another graph" in notes(inner)


def test_linked_widgets_keep_their_link():
    graph = OldGraph()
    strength = graph.add("PrimitiveNode", ["FLOAT"], [0.5, "fixed"])
    graph.apply(weight=strength)
    graph.nodes[-1]["inputs"][-1]["widget"] = {"name": "weight"}
    workflow = convert(graph.saved()).workflow
    apply = the(workflow, "PulidApplyFlux")
    (weight,) = (socket for socket in apply["inputs"] if socket["name"] == "weight")
    ends = {link[0]: link[3:5] for link in workflow["links"]}
    assert ends[weight["link"]] == [apply["id"], apply["inputs"].index(weight)]


def test_format_1_stays_format_1():
    """Links are objects there, and the counters have other names."""
    old = sipie().saved()
    fields = ("id", "origin_id", "origin_slot", "target_id", "target_slot", "type")
    as_format_1 = {
        **{key: value for key, value in old.items() if not key.startswith("last_")},
        "version": 1,
        "state": {"lastNodeId": old["last_node_id"], "lastLinkId": old["last_link_id"]},
        "links": [dict(zip(fields, link, strict=True)) for link in old["links"]],
        "reroutes": [{"id": 1, "linkIds": [link[0] for link in old["links"]]}],
    }
    reference, new = convert(old).workflow, convert(as_format_1).workflow
    assert new["nodes"] == reference["nodes"]
    assert [list(link.values()) for link in new["links"]] == reference["links"]
    assert new["state"]["lastNodeId"] == reference["last_node_id"]
    assert set(new["reroutes"][0]["linkIds"]) == {link["id"] for link in new["links"]}


def test_lldacings_patch_fix_is_bypassed():
    graph = OldGraph()
    fix = graph.add("FixPulidFluxPatch", ["MODEL"], [], model=graph.apply())
    graph.add("BasicGuider", ["GUIDER"], [], model=fix)
    conversion = convert(graph.saved())
    assert the(conversion.workflow, "FixPulidFluxPatch")["mode"] == 4
    assert "nothing to fix" in notes(conversion.workflow)


def test_group_nodes_are_told():
    workflow = OldGraph().saved()
    workflow["extra"]["groupNodes"] = {"Face": {"nodes": [{"type": "ApplyPulidFlux"}]}}
    conversion = convert(workflow)
    assert conversion.workflow == workflow
    assert "group node Face" in conversion.remarks[0]


def test_an_impossible_range_is_told_not_mended():
    graph = OldGraph()
    graph.apply([1.0, 0.9, 0.1])
    conversion = convert(graph.saved())
    assert the(conversion.workflow, "PulidApplyFlux")["widgets_values"] == [1.0, 0.9, 0.1]
    assert "start_at 0.9 is above end_at 0.1" in " ".join(conversion.remarks)


@pytest.mark.parametrize("provider", ["CUDA", "ROCM"])
def test_the_face_detector_moves_to_the_cpu(provider):
    """What README installs has no other provider, and the run would end in an error."""
    graph = OldGraph()
    graph.apply(face_analysis=graph.loader("face", [provider]))
    graph.apply(face_analysis=graph.loader("face", [provider]))
    for conversion in (convert(graph.saved()), convert(prompt(provider=provider))):
        (told,) = conversion.remarks
        assert f"ran on {provider}; the provider auto takes the CPU" in told
    assert {
        n["widgets_values"][-1] for n in ours(convert(graph.saved()).workflow, "PulidLoader")
    } == {"auto"}


@pytest.mark.parametrize(
    ("named", "chosen", "is_told"),
    [
        ("pulid_flux_v0.9.0.safetensors", "auto", True),
        ("flux\\pulid_flux_v0.9.0.safetensors", "auto", True),
        ("some/where/pulid_flux_v0.9.1.safetensors", "auto", False),
        ("pulid_flux_v0.9.1.safetensors", "pulid_flux_v0.9.1.safetensors", False),
        ("my-own.safetensors", "my-own.safetensors", False),
    ],
)
def test_the_file_falls_back_to_what_is_there(named, chosen, is_told):
    graph = OldGraph()
    graph.apply(pulid_flux=graph.loader("model", [named]))
    as_prompt = prompt()
    as_prompt["2"]["inputs"]["pulid_file"] = named
    saved, sent = convert(graph.saved()), convert(as_prompt)
    assert the(saved.workflow, "PulidLoader")["widgets_values"][0] == chosen
    assert sent.workflow["2"]["inputs"]["pulid_file"] == chosen
    for conversion in (saved, sent):
        assert any("v0.9.1 where it is there" in told for told in conversion.remarks) == is_told


@pytest.mark.parametrize("content", [[], {}, {"a": 1}, "text", {"prompt": {}}])
def test_what_is_no_workflow_is_refused(content):
    with pytest.raises(OldWorkflowError, match="workflow was expected"):
        convert(content)
