"""The shipped workflow: consistent, and free of keys and prediction ids."""

from __future__ import annotations

import json
from pathlib import Path

WORKFLOW = Path(__file__).resolve().parents[2] / "workflows" / "portrait-remote.json"


def test_links_fit_both_ends():
    """Every link is known to the node it leaves and to the one it enters."""
    graph = json.loads(WORKFLOW.read_text("utf-8"))
    nodes = {node["id"]: node for node in graph["nodes"]}
    assert graph["version"] == 0.4
    for link, source, output, target, slot, kind in graph["links"]:
        assert link in nodes[source]["outputs"][output]["links"]
        assert nodes[target]["inputs"][slot]["link"] == link
        assert (
            nodes[source]["outputs"][output]["type"]
            == nodes[target]["inputs"][slot]["type"]
            == kind
        )


def test_remote_node_holds_no_secret():
    """One value per widget, the seed with its control, and prediction_id empty."""
    graph = json.loads(WORKFLOW.read_text("utf-8"))
    (node,) = [node for node in graph["nodes"] if node["type"] == "WavespeedFluxPulidRemote"]
    names = [slot["name"] for slot in node["inputs"] if "widget" in slot]
    names.insert(names.index("seed") + 1, "control_after_generate")
    values = dict(zip(names, node["widgets_values"], strict=True))
    assert values["prediction_id"] == ""
    assert values["control_after_generate"] == "randomize"
    assert not any("key" in name for name in names)
