"""The shared workflow, with what a test or the demo may change in it."""

import json
from pathlib import Path

PATH = Path(__file__).resolve().parent.parent / "workflows" / "portrait.json"


def load(photo: str | None = None, prompt: str | None = None) -> dict:
    """Read the workflow, with another photo from the input folder or another prompt."""
    workflow = json.loads(PATH.read_text(encoding="utf-8"))
    for kind, value in (("LoadImage", photo), ("CLIPTextEncode", prompt)):
        if value is not None:
            only_node(workflow, kind)["widgets_values"][0] = value
    return workflow


def only_node(workflow: dict, kind: str) -> dict:
    """The one node of a type."""
    (node,) = (node for node in workflow["nodes"] if node["type"] == kind)
    return node
