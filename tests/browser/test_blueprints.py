"""Subgraph blueprints and app mode in the newest frontend; older ones take neither for an error."""

import json

from pulid_pack.devtools.comfyui import ROOT
from pulid_pack.devtools.portrait_workflow import PATH, REMOTE_PATH

BLUEPRINTS = {path.stem: path for path in sorted((ROOT / "subgraphs").glob("*.json"))}
HOLDS = {
    "PuLID identity": {"PulidLoader": 1, "PulidApplyFlux": 1},
    "PuLID likeness sheet": {"PulidLoader": 1, "PulidFaceSimilarity": 1, "PulidContactSheet": 1},
    "PuLID two people": {"PulidLoader": 1, "PulidRegions": 1, "PulidApplyFlux": 2},
}
SOURCES = {
    "MODEL": ("UNETLoader", 0),
    "IMAGE": ("LoadImage", 0),
    "IMAGE,PULID_IDENTITY": ("LoadImage", 0),
}
SINKS = {"MODEL": "KSampler", "IMAGE": "SaveImage"}


def test_blueprints_are_found_and_hold_what_they_say(frontend):
    """By the search of an empty canvas; dropped, they are one node whose graph the server knows."""
    assert BLUEPRINTS.keys() == HOLDS.keys()
    frontend.new_workflow()
    offered = frontend.search("PuLID")
    assert BLUEPRINTS.keys() <= set(offered), offered
    for name, path in BLUEPRINTS.items():
        blueprint = json.loads(path.read_text(encoding="utf-8"))
        frontend.page.evaluate("(graph) => app.loadGraphData(graph)", blueprint)
        assert frontend.unknown_nodes() == []
        connect_all(frontend, blueprint["nodes"][0])
        kinds = [node["class_type"] for node in frontend.prompt().values()]
        assert {kind: kinds.count(kind) for kind in HOLDS[name]} == HOLDS[name]
        weights = [
            node["inputs"]["weight"]
            for node in frontend.prompt().values()
            if node["class_type"] == "PulidApplyFlux"
        ]
        assert set(weights) <= {1.0}


def connect_all(frontend, node: dict) -> None:
    """What a user puts before and behind a blueprint."""
    number = str(node["id"])
    for socket in node["inputs"]:
        if socket["type"] in SOURCES:
            kind, slot = SOURCES[socket["type"]]
            frontend.connect(frontend.add_node(kind, -400, 0), slot, number, socket["name"])
    kind = SINKS[node["outputs"][0]["type"]]
    sink = frontend.add_node(kind, 500, 0)
    frontend.connect(number, 0, sink, "model" if kind == "KSampler" else "images")


def test_the_portraits_open_as_apps(frontend):
    """A photo, a prompt and Run, without the graph."""
    for path in (PATH, REMOTE_PATH):
        frontend.open_template(path.stem)
        shown = frontend.app_mode()
        for label in ("image", "text" if path == PATH else "prompt"):
            assert label in shown, (path.stem, shown)
        frontend.leave_app_mode()
